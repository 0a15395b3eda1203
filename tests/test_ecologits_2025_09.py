"""The edition ``ecologits-2025-09``: worked cases, properties of the arithmetic that both editions share, explanations."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoimpact import data, methodologies
from ecoimpact.types import Figures, Methodology, ModelCard, ModelParameters, Range, SiteFactors, Usage

GOLDEN = Path(__file__).with_name("golden")
CASES = json.loads((GOLDEN / "ecologits-2025-09.json").read_text())
FROZEN = json.loads((GOLDEN / "editions.json").read_text())
EDITIONS = ("ecologits-2025-09", "ecologits-0.11")
REL = 1e-9

edition_names = st.sampled_from(EDITIONS)
sizes = st.floats(0.01, 1e5)
positive = st.floats(0, 1e4)
models = st.builds(
    lambda active, extra, speed: ModelParameters(active, active + extra, None, *speed),
    sizes,
    st.floats(0, 1e5),
    st.one_of(st.just((None, None)), st.tuples(st.floats(0.5, 1e4), st.floats(0, 60))),
)
site_factors = st.builds(SiteFactors, st.floats(1, 3), positive, positive, positive, positive, positive)
token_counts = st.integers(0, 10**9)
latencies = st.one_of(st.just(math.inf), st.floats(0, 1e6))


def run(name: str, model: ModelParameters, tokens: Any, latency_s: Any, site: SiteFactors) -> Figures:
    edition = methodologies.get(name)
    return edition.assess(edition.serve(model), Usage(output_tokens=tokens), latency_s, site)


def computed(figures: Figures) -> list[Any]:
    """The eight figures that these editions know."""
    assert figures[8:] == (None, None, None)
    return list(figures[:8])


# --- worked cases -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_worked_case(case: dict[str, Any]) -> None:
    edition = methodologies.get("ecologits")
    latency_s = math.inf if case["latency_s"] is None else case["latency_s"]
    for end in (0, 1):
        model = ModelParameters(case["active_params_b"][end], case["total_params_b"][end])
        site = SiteFactors(*case["site"][end])
        usage = Usage(output_tokens=case["output_tokens"])
        steps = {symbol: value for symbol, _, value, _, _ in edition.steps(model, usage, latency_s, site)}
        for symbol, ends in (*case["steps"].items(), *case["figures"].items()):
            assert steps[symbol] == pytest.approx(ends[end], rel=REL), symbol
        figures = edition.assess(edition.serve(model), usage, latency_s, site)
        for name, ends in case["figures"].items():
            value = getattr(figures, name) if name in Figures._fields else figures.total(name.partition("_")[0])
            assert value == pytest.approx(ends[end], rel=REL), name


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_the_provider_table_gives_the_site_of_the_case(case: dict[str, Any]) -> None:
    zone = case["zone"]
    site = data.site("ecologits-2025-09", case["provider"], data.mix(zone) if zone else None)
    assert site.mix.zone == case["resolved_zone"]
    assert [list(site.low()), list(site.high())] == case["site"]
    assert not site.warnings


def test_measured_speed_is_not_part_of_this_edition() -> None:
    edition = methodologies.get("ecologits")
    assert edition.serve(ModelParameters(8, 8, None, 300.0, 2.0)) == edition.serve(ModelParameters(8, 8))


@pytest.mark.parametrize("name", EDITIONS)
def test_released_editions_are_frozen(name: str) -> None:
    assert FROZEN[name]
    for row in FROZEN[name]:
        model, site = ModelParameters(*row["model"]), SiteFactors(*row["site"])
        figures = run(name, model, row["output_tokens"], row["latency_s"] or math.inf, site)
        assert computed(figures) == pytest.approx(row["figures"], rel=1e-12)


# --- properties ---------------------------------------------------------------------------------------------------------


@given(edition_names, models, token_counts, latencies, site_factors)
def test_figures_are_finite_and_not_negative(
    name: str, model: ModelParameters, tokens: int, latency_s: float, site: SiteFactors
) -> None:
    for value in computed(run(name, model, tokens, latency_s, site)):
        assert math.isfinite(value)
        assert value >= 0


@given(edition_names, models, st.tuples(token_counts, latencies), site_factors, st.floats(1, 10))
def test_figures_grow_with_every_input(
    name: str, model: ModelParameters, request: tuple[int, float], site: SiteFactors, factor: float
) -> None:
    tokens, latency_s = request
    before = run(name, model, tokens, latency_s, site)
    more = [
        run(name, model._replace(total_params_b=model.total_params_b * factor), tokens, latency_s, site),
        run(name, model._replace(active_params_b=model.active_params_b * factor), tokens, latency_s, site),
        run(name, model, int(tokens * factor), latency_s, site),
        run(name, model, tokens, latency_s * factor, site),
        *(run(name, model, tokens, latency_s, site._replace(**{f: getattr(site, f) * factor})) for f in site._fields),
    ]
    if model.tokens_per_s is not None:
        more.append(run(name, model._replace(tokens_per_s=model.tokens_per_s / factor), tokens, latency_s, site))
        assert model.time_to_first_token_s is not None
        later = model._replace(time_to_first_token_s=model.time_to_first_token_s * factor)
        more.append(run(name, later, tokens, latency_s, site))
    for after in more:
        for low, high in zip(computed(before), computed(after), strict=True):
            assert high >= low * (1 - 1e-12)


@given(
    edition_names,
    st.lists(st.tuples(models, st.integers(0, 10**6), latencies, site_factors), min_size=1, max_size=6),
)
@settings(max_examples=60)
def test_arrays_give_what_floats_give(name: str, requests: list[tuple[ModelParameters, int, float, SiteFactors]]) -> None:
    def column(values: list[Any]) -> Any:
        return np.array([math.nan if value is None else value for value in values], dtype=float)

    model = ModelParameters(
        column([m.active_params_b for m, *_ in requests]),
        column([m.total_params_b for m, *_ in requests]),
        None,
        column([m.tokens_per_s for m, *_ in requests]),
        column([m.time_to_first_token_s for m, *_ in requests]),
    )
    site = SiteFactors(*(column([getattr(r[3], field) for r in requests]) for field in SiteFactors._fields))
    together = run(name, model, column([r[1] for r in requests]), column([r[2] for r in requests]), site)
    for i, (one_model, tokens, latency_s, one_site) in enumerate(requests):
        alone = run(name, one_model, tokens, latency_s, one_site)
        for array, value in zip(computed(together), computed(alone), strict=True):
            assert array.dtype == np.float64
            assert array[i] == pytest.approx(value, rel=1e-12)


def test_an_array_of_counts_over_one_model() -> None:
    site = SiteFactors(1.2, 0.569, 0.3844, 9.855e-08, 9.6884, 3.1321)
    counts = np.array([0.0, 400.0, np.nan])
    figures = run("ecologits", ModelParameters(8.0, 8.0), counts, math.inf, site)
    assert figures.usage_energy_kwh[0] == 0
    assert figures.usage_energy_kwh[1] == run("ecologits", ModelParameters(8.0, 8.0), 400, math.inf, site).usage_energy_kwh
    assert np.isnan(figures.usage_energy_kwh[2])  # unknown stays unknown
    assert np.isnan(computed(figures)[5][2])


# --- explanations -------------------------------------------------------------------------------------------------------

_MATHS = {"ceil": math.ceil, "log2": math.log2, "exp": math.exp, "min": min}


@pytest.mark.parametrize("name", EDITIONS)
@given(model=models, tokens=token_counts, latency_s=latencies, site=site_factors)
@settings(max_examples=50)
def test_the_steps_recompute_the_result(
    name: str, model: ModelParameters, tokens: int, latency_s: float, site: SiteFactors
) -> None:
    edition = methodologies.get(name)
    known: dict[str, float] = {}
    for symbol, formula, value, _unit, source in edition.steps(model, Usage(output_tokens=tokens), latency_s, site):
        assert symbol not in known
        assert source
        known[symbol] = eval(formula, {"__builtins__": {}}, {**_MATHS, **known}) if formula else value  # noqa: S307
        assert known[symbol] == pytest.approx(value, rel=1e-9, abs=1e-300), symbol
    figures = run(name, model, tokens, latency_s, site)
    for field in Figures._fields[:8]:
        assert known[field] == pytest.approx(getattr(figures, field), rel=1e-9, abs=1e-300)
    for total, criterion in (("energy_kwh", "energy"), ("gwp_kgco2eq", "gwp"), ("wcf_l", "wcf")):
        assert known[total] == pytest.approx(figures.total(criterion), rel=1e-9, abs=1e-300)


# --- the registry -------------------------------------------------------------------------------------------------------


def test_names_and_aliases() -> None:
    assert set(EDITIONS) <= set(methodologies.names())
    assert methodologies.get("ecologits") is methodologies.get("ecologits")
    assert methodologies.get("ecologits").name == "ecologits-2025-09"
    for name in methodologies.names():
        assert isinstance(methodologies.get(name), Methodology)


@pytest.mark.parametrize("name", ["ecologit", "Ecologits", "", "../types", "_ecologits", "ecologits_0_11", None, 3])
def test_an_unknown_name_lists_the_known_ones(name: Any) -> None:
    with pytest.raises(ValueError, match=r"unknown methodology .*Known: ecologits, ecologits-0\.11"):
        methodologies.get(name)


def test_a_near_name_is_offered() -> None:
    with pytest.raises(ValueError, match=r"did you mean .*'ecologits-0\.11'"):
        methodologies.get("ecologits-0.12")


def test_replaced_parameters_count_and_show_in_the_name() -> None:
    model = ModelParameters(8, 8)
    changed = methodologies.get("ecologits", batch_size=128)
    assert changed.name == "ecologits-2025-09[batch_size=128]"
    published = methodologies.get("ecologits").serve(model)
    assert changed.serve(model).embodied_gwp_kgco2eq_per_s == pytest.approx(published.embodied_gwp_kgco2eq_per_s / 2)
    assert methodologies.get("ecologits", weight_bits=16).serve(ModelParameters(70, 70)).gpu_count == 3


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"batchsize": 32}, r"unknown parameter 'batchsize': did you mean 'batch_size'"),
        ({"batch_size": 0}, "above 0"),
        ({"batch_size": math.nan}, "finite"),
        ({"batch_size": "64"}, "finite number"),
        ({"batch_size": True}, "finite number"),
        ({"uses_measured_speed": 1}, "True or False"),
    ],
)
def test_a_wrong_parameter_says_what_is_right(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        methodologies.get("ecologits", **parameters)


def test_an_edition_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = "elsewhere"

        def load(self) -> Any:
            return lambda **parameters: methodologies.get("ecologits", **parameters)

    monkeypatch.setattr(methodologies, "_entry_points", lambda: {"elsewhere": Point()})
    monkeypatch.setattr(methodologies, "_instances", {})
    assert "elsewhere" in methodologies.names()
    assert methodologies.get("elsewhere", batch_size=2).name == "ecologits-2025-09[batch_size=2]"


def test_cards_give_both_ends() -> None:
    card = ModelCard("acme", "m", Range(1, 2), Range(3, 4))
    assert (card.low()[:2], card.high()[:2]) == ((1, 3), (2, 4))
