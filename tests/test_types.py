"""The vocabulary: ranges, figures and the tree of impacts."""

from __future__ import annotations

import copy
import functools
import json
import math
import operator
import pickle
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoimpact.engine import estimate
from ecoimpact.types import (
    CRITERIA,
    PHASE_FIELDS,
    Assessment,
    Figure,
    Figures,
    Impacts,
    Notice,
    Range,
    Usage,
    flat_figures,
    rfc3339,
)

numbers = st.floats(-1e12, 1e12)
ranges = st.tuples(numbers, numbers).map(lambda ends: Range(min(ends), max(ends)))
LOW = Figures(1, 2, 3, 4, 5, 6, 7, 8)
HIGH = Figures(10, 20, 30, 40, 50, 60, 70, 80)


# --- ranges -------------------------------------------------------------------------------------------------------------


@given(st.lists(ranges, max_size=5))
def test_a_sum_of_ranges_is_the_range_of_the_sums(parts: list[Range]) -> None:
    total = sum(parts)
    if parts:
        assert isinstance(total, Range)
        # Not sum(): from Python 3.12 on it adds floats more exactly than one by one.
        lows, highs = [r.min for r in parts], [r.max for r in parts]
        assert (total.min, total.max) == (functools.reduce(operator.add, lows), functools.reduce(operator.add, highs))
        assert total.mean == pytest.approx((total.min + total.max) / 2)
    else:
        assert total == 0


@given(ranges, st.floats(0, 1e6))
def test_scaling_from_both_sides(r: Range, factor: float) -> None:
    assert r * factor == factor * r
    assert (r * factor).min == r.min * factor
    if factor > 1e-6:
        assert ((r * factor) / factor).max == pytest.approx(r.max, rel=1e-9)


@given(ranges, ranges)
def test_equal_ranges_have_equal_hashes(a: Range, b: Range) -> None:
    assert (a == b) == ((a.min, a.max) == (b.min, b.max))
    if a == b:
        assert hash(a) == hash(b)
    point = Range(a.min, a.min)
    assert point == a.min
    assert hash(point) == hash(a.min)
    assert (a == a.min) == (a.min == a.max)


@given(ranges, ranges)
def test_the_order_of_whole_intervals(a: Range, b: Range) -> None:
    assert (a < b) == (a.max < b.min)
    assert (a > b) == (b < a)
    assert not (a < b and a > b)
    if a < b:
        assert a <= b
        assert b >= a
    assert (a < b.min) == (a.max < b.min)
    assert (a >= b.max) == (a.min >= b.max)


@pytest.mark.parametrize(("low", "high"), [(2, 1), (math.nan, 1), (1, math.nan)])
def test_a_range_has_its_ends_in_order(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="min <= max"):
        Range(low, high)


@pytest.mark.parametrize("scalar", [-1, -0.5, math.nan])
def test_a_range_is_not_turned_round(scalar: float) -> None:
    with pytest.raises(ValueError, match=">= 0"):
        Range(1, 2) * scalar


def test_a_range_is_divided_by_what_is_above_zero() -> None:
    with pytest.raises(ValueError, match="> 0"):
        Range(1, 2) / 0


@pytest.mark.parametrize("operation", [operator.add, operator.mul, operator.truediv, operator.lt, operator.ge])
def test_a_range_is_not_mixed_with_text(operation: Any) -> None:
    with pytest.raises(TypeError):
        operation(Range(1, 2), "3")
    assert Range(1, 2) != "3"


def test_formats() -> None:
    assert f"{Range(1, 3):.2f}" == "2.00 [1.00 - 3.00]"
    assert f"{Range(2, 2):.2f}" == "2.00"
    assert str(Range(1, 2)) == "1.5 [1 - 2]"
    assert repr(Range(1.0, 2.0)) == "Range(min=1.0, max=2.0)"


def test_the_central_value_is_the_mean_unless_given() -> None:
    assert Range(1, 3).central == 2
    given_one = Range(1, 3, 1.5)
    assert (given_one.central, given_one.mean, (given_one * 2).central, (given_one + 1).central) == (1.5, 2, 3, 2.5)


# --- figures ------------------------------------------------------------------------------------------------------------


def test_figures_add_up_within_a_criterion() -> None:
    gwp = Figure("GWP", "Global Warming Potential", Range(1, 2), "kgCO2eq")
    assert sum([gwp, gwp]) == Figure("GWP", "Global Warming Potential", Range(2, 4), "kgCO2eq")
    assert (gwp.min, gwp.max, gwp.mean, gwp.central, float(gwp)) == (1, 2, 1.5, 1.5, 1.5)
    assert f"{gwp:.1f}" == "1.5 [1.0 - 2.0] kgCO2eq"
    with pytest.raises(TypeError, match="different criteria"):
        gwp + Figure("PE", "Primary Energy", Range(1, 2), "MJ")


def test_every_phase_field_belongs_to_one_total() -> None:
    fields = [name for names in PHASE_FIELDS.values() for name in names]
    assert sorted(fields) == sorted(Figures._fields)


# --- impacts ------------------------------------------------------------------------------------------------------------


def impacts(**kwargs: Any) -> Impacts:
    return Impacts(Assessment(**{"low": LOW, "high": HIGH, "methodology": "m", "data_version": "d", **kwargs}))


def test_the_tree() -> None:
    tree = impacts()
    assert tree.usage is not None
    assert tree.embodied is not None
    assert tree.training is None
    for criterion in CRITERIA:
        figure = getattr(tree, criterion.key)
        assert (figure.type, figure.name, figure.unit) == (criterion.type, criterion.name, criterion.unit)
        parts = [getattr(phase, criterion.key) for phase in (tree.usage, tree.embodied)]
        assert figure.value == sum(part.value for part in parts if part is not None)
    assert tree.embodied.energy is None
    assert tree.embodied.wcf is None
    assert not tree.has_warnings
    assert not tree.has_errors


def test_training_shares_count() -> None:
    tree = impacts(low=LOW._replace(training_gwp_kgco2eq=1), high=HIGH._replace(training_gwp_kgco2eq=1))
    assert tree.training is not None
    assert tree.training.gwp is not None
    assert tree.gwp is not None
    assert tree.gwp.value == Range(9, 81)


def test_without_an_estimate_there_are_no_figures() -> None:
    tree = impacts(low=None, high=None, errors=(Notice("model-not-registered", "Who?"),))
    assert tree.has_errors
    assert all(
        getattr(tree, key) is None for key in ("energy", "gwp", "adpe", "pe", "wcf", "usage", "embodied", "training")
    )
    assert repr(tree) == "<Impacts: no estimate: model-not-registered>"
    assert all(value is None for value in flat_figures(tree.assessment).values())
    assert len(tree.explain()) == 0
    assert tree.cost is None


def test_a_central_value_reaches_the_figures() -> None:
    tree = impacts(central=LOW)
    assert tree.energy is not None
    assert tree.energy.value.central == 1


def test_a_central_value_that_rounding_put_outside_stays_inside() -> None:
    tree = impacts(central=Figures(*(None if value is None else math.nextafter(value, 0) for value in LOW)))
    assert tree.energy is not None
    assert tree.energy.value.central == tree.energy.min == tree.to_dict()["energy_kwh_central"]
    assert tree.usage is not None
    assert tree.usage.gwp is not None
    assert tree.usage.gwp.value.central == tree.usage.gwp.min


def test_plain_data() -> None:
    flat = impacts(warnings=(Notice("w", "W."),)).to_dict()
    assert flat["energy_kwh_min"] == 1
    assert flat["gwp_kgco2eq_max"] == 80
    assert flat["embodied_pe_mj_min"] == 8
    assert flat["warnings"] == [{"code": "w", "message": "W."}]
    assert json.loads(json.dumps(flat)) == flat


def test_copies_and_pickles_carry_the_figures() -> None:
    original = estimate("gpt-4o-mini", output_tokens=10, provider="openai", latency_s=1.0)
    for twin in (pickle.loads(pickle.dumps(original)), copy.copy(original), copy.deepcopy(original)):
        assert twin == original
        assert hash(twin) == hash(original)
        assert twin.to_dict() == original.to_dict()
    assert original != estimate("gpt-4o-mini", output_tokens=11, provider="openai", latency_s=1.0)
    assert original != 3


def test_views() -> None:
    tree = estimate("gpt-4o-mini", output_tokens=10, provider="openai")
    text, html = str(tree), tree._repr_html_()
    for criterion in CRITERIA:
        assert criterion.unit in text
        assert criterion.name in html
    assert "model-arch-not-released" in text
    assert "kWh" in repr(tree)
    hostile = impacts(zone="<script>", warnings=(Notice("x", "<b>"),))._repr_html_()
    assert "<script>" not in hostile
    assert "<b>" not in hostile


def test_deferred_impacts_are_worked_out_once_they_are_read() -> None:
    calls = []

    def resolve() -> Assessment:
        calls.append(1)
        return Assessment(LOW, HIGH, "m", "d")

    tree = Impacts.deferred(resolve)
    assert not calls
    assert tree.energy is not None
    assert tree.gwp is not None
    assert len(calls) == 1


def test_threads_that_read_at_once_see_the_same() -> None:
    barrier = threading.Barrier(8)
    trees = [Impacts.deferred(lambda: Assessment(LOW, HIGH, "m", "d")) for _ in range(200)]
    seen: list[Any] = []

    def read() -> None:
        barrier.wait()
        seen.extend(tree.assessment for tree in trees)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8 * 200
    assert set(seen) == {Assessment(LOW, HIGH, "m", "d")}


def test_times() -> None:
    assert rfc3339(1767225600.25) == "2026-01-01T00:00:00.250000Z"


def test_usage_says_nothing_where_nothing_is_known() -> None:
    assert Usage() == Usage(None, None, None, None, estimated=False)
