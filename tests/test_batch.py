"""Many requests at once: the same figures and the same words as for each by itself, from any kind of table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ecoimpact
from ecoimpact import batch, engine, methodologies
from ecoimpact.types import FLAT_FIELDS, Figures, Impacts, Usage, flat_figures

REQUEST_METHODOLOGIES = sorted(set(methodologies.names()) - set(methodologies.ALIASES))

MODELS = ["gpt-4o-mini", "gpt-4o", "openai/gpt-oss-120b", "claude-opus-5", "gpt-4.2-mini", "no-such-model", "", None]
PROVIDERS = ["openai", "anthropic", "groq", "together", "nobody", None]
ZONES = ["FRA", "us-ca", "XXX", None]

row = st.fixed_dictionaries(
    {
        "provider": st.sampled_from(PROVIDERS),
        "model": st.sampled_from(MODELS),
        "zone": st.sampled_from(ZONES),
        "output_tokens": st.one_of(st.none(), st.sampled_from([0, 1, 2.5, -1, 10**10]), st.integers(0, 100_000)),
        "input_tokens": st.one_of(st.none(), st.sampled_from([0, -3]), st.integers(0, 100_000)),
        "latency_s": st.one_of(st.none(), st.sampled_from([-1.0, 0.0]), st.floats(0.01, 600)),
        "tokens_estimated": st.booleans(),
        "endpoint": st.sampled_from(["chat.completions", "embeddings", None]),
    }
)


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_current", engine.Catalog({}, {}))


def alone(request: dict[str, Any], methodology: str) -> Impacts:
    """The same request by itself."""
    return Impacts(
        engine.assess(
            engine.catalog(),
            provider=request["provider"],
            models=(request["model"],),
            usage=Usage(
                request["input_tokens"],
                request["output_tokens"],
                estimated=request["tokens_estimated"],
                generates=request["endpoint"] != "embeddings",
            ),
            latency_s=request["latency_s"],
            zone=request["zone"],
            methodology=methodology,
        )
    )


def same(requests: list[dict[str, Any]], columns: dict[str, Any], methodology: str) -> None:
    for number, request in enumerate(requests):
        told = alone(request, methodology).assessment
        for name, expected in flat_figures(told).items():
            found = columns[name][number]
            if expected is None or math.isnan(expected):
                assert found is None or math.isnan(found), (name, request)
            else:
                assert found == pytest.approx(expected, rel=1e-12, abs=0), (name, request)
        assert list(columns["warnings"][number]) == [notice.code for notice in told.warnings], request
        assert list(columns["errors"][number]) == [notice.code for notice in told.errors], request


def in_columns(requests: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [request[name] for request in requests] for name in requests[0]}


SHAPES: dict[str, Any] = {
    "lists": lambda columns: columns,
    "pandas": lambda columns: pd.DataFrame(columns, index=range(7, 7 + len(columns["model"]))),
    "polars": lambda columns: pl.DataFrame(columns, strict=False, schema_overrides={"model": pl.String, "zone": pl.String}),
    "arrow": pa.table,
    "arrow batch": pa.RecordBatch.from_pydict,
    "arrow dictionaries": lambda columns: pa.table(
        {name: pa.array(c).dictionary_encode() if name in ("model", "zone") else pa.array(c) for name, c in columns.items()}
    ),
}


def read(columns: Any) -> dict[str, Any]:
    """A result of any shape, as lists."""
    if isinstance(columns, dict):
        return columns
    if isinstance(columns, pd.DataFrame):
        return {str(name): columns[name].tolist() for name in columns}
    if isinstance(columns, pl.DataFrame):
        return columns.to_dict(as_series=False)
    return dict(columns.to_pydict())


@pytest.mark.parametrize("methodology", REQUEST_METHODOLOGIES)
@settings(max_examples=40)
@given(requests=st.lists(row, min_size=1, max_size=30))
def test_every_row_is_as_it_is_by_itself(methodology: str, requests: list[dict[str, Any]]) -> None:
    same(requests, ecoimpact.estimate_batch(in_columns(requests), methodology=methodology), methodology)


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=15)
@given(requests=st.lists(row, min_size=1, max_size=12))
def test_the_table_comes_back_in_its_own_shape(shape: str, requests: list[dict[str, Any]]) -> None:
    columns = SHAPES[shape](in_columns(requests))
    figures = ecoimpact.estimate_batch(columns)
    assert type(figures) is type(columns)
    assert list(read(figures)) == [*FLAT_FIELDS, "warnings", "errors"]
    if isinstance(columns, pd.DataFrame):
        assert figures.index.equals(columns.index)
    same(requests, read(figures), "ecologits")


def test_unknown_figures_are_nulls_where_a_table_has_them() -> None:
    columns = {"model": ["gpt-4o", "no-such"], "output_tokens": [1, 1]}
    assert pa.table(ecoimpact.estimate_batch(pa.table(columns)))["energy_kwh_min"].null_count == 1
    assert ecoimpact.estimate_batch(pl.DataFrame(columns))["energy_kwh_min"].null_count() == 1


def test_single_values_hold_for_every_row() -> None:
    several = ecoimpact.estimate_batch(
        {"provider": "openai", "model": "gpt-4o", "output_tokens": np.arange(5), "zone": "FRA"}
    )
    one = ecoimpact.estimate("gpt-4o", provider="openai", output_tokens=4, zone="FRA")
    assert one.gwp is not None
    assert several["gwp_kgco2eq_max"][4] == pytest.approx(one.gwp.max, rel=1e-12)
    single = ecoimpact.estimate_batch({"model": "gpt-4o", "output_tokens": 4})
    assert [len(column) for column in single.values()] == [1] * len(single)


def test_a_zone_for_rows_that_name_none() -> None:
    figures = ecoimpact.estimate_batch({"model": "gpt-4o", "output_tokens": [9, 9], "zone": [None, "SWE"]}, zone="fra")
    for number, zone in enumerate(["FRA", "SWE"]):
        wanted = ecoimpact.estimate("gpt-4o", output_tokens=9, zone=zone).gwp
        assert wanted is not None
        assert figures["gwp_kgco2eq_min"][number] == pytest.approx(wanted.min, rel=1e-12)


@settings(max_examples=40)
@given(
    names=st.lists(
        st.fixed_dictionaries({name: st.sampled_from(MODELS) for name in ("response_model", "request_model", "model")}),
        min_size=1,
        max_size=20,
    ),
    used=st.sets(st.sampled_from(["response_model", "request_model", "model"]), min_size=1),
)
def test_several_names_for_a_model(names: list[dict[str, Any]], used: set[str]) -> None:
    """As in records: the first that is known counts."""
    order = [name for name in batch.MODEL_NAMES if name in used]
    figures = ecoimpact.estimate_batch({"output_tokens": 100, **{name: [row[name] for row in names] for name in used}})
    for number, row in enumerate(names):
        told = engine.assess(
            engine.catalog(), provider=None, models=tuple(row[name] for name in order), usage=Usage(None, 100)
        )
        assert list(figures["errors"][number]) == [notice.code for notice in told.errors]
        energy = Impacts(told).energy
        if energy is None:
            assert math.isnan(figures["energy_kwh_central"][number])
        else:
            assert figures["energy_kwh_central"][number] == pytest.approx(energy.central, rel=1e-12)


def test_the_zones_of_a_record_are_the_provider_s_own() -> None:
    """Records name several zones with a plus between them, where the provider has several."""
    alone = ecoimpact.estimate("mistral-large-latest", provider="mistralai", output_tokens=10)
    assert alone.assessment.zone == "SWE+NOR"
    assert alone.gwp is not None
    figures = ecoimpact.estimate_batch(
        {"model": "mistral-large-latest", "provider": "mistralai", "output_tokens": [10], "zone": ["SWE+NOR"]}
    )
    assert figures["gwp_kgco2eq_min"][0] == pytest.approx(alone.gwp.min, rel=1e-12)
    assert figures["gwp_kgco2eq_max"][0] == pytest.approx(alone.gwp.max, rel=1e-12)
    assert figures["errors"][0] == ()


def test_slices_meet_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(7)
    columns = {
        "model": generator.choice(["gpt-4o", "gpt-4o-mini", "x"], 100),
        "output_tokens": generator.integers(0, 99, 100),
    }
    whole = ecoimpact.estimate_batch(columns)
    monkeypatch.setattr(batch, "_SLICE", 7)
    for name, column in ecoimpact.estimate_batch(columns).items():
        np.testing.assert_array_equal(column, whole[name])


def test_many_names_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """More combinations than a look-up table holds."""
    columns = {
        "model": ["gpt-4o", "gpt-4o-mini", "gpt-4o"],
        "provider": ["openai", "x", "openai"],
        "output_tokens": [1, 2, 3],
    }
    whole = ecoimpact.estimate_batch(columns)
    monkeypatch.setattr(batch, "_MAX_KEYS", 1)
    again = ecoimpact.estimate_batch(columns)
    np.testing.assert_array_equal(again["gwp_kgco2eq_min"], whole["gwp_kgco2eq_min"])
    assert again["errors"].tolist() == whole["errors"].tolist()


def test_odd_values_are_flagged_and_nothing_raises() -> None:
    odd: list[Any] = [object(), [], "12", b"x", float("inf"), 10**400, "\ud800"]
    figures = ecoimpact.estimate_batch(
        {"model": [*odd], "output_tokens": 5, "provider": odd, "zone": odd, "latency_s": odd}
    )
    assert all(figures["errors"])
    counts = ecoimpact.estimate_batch({"model": "gpt-4o", "output_tokens": odd, "input_tokens": odd})
    assert set(counts["errors"]) == {("tokens-invalid",)}
    assert np.isnan(counts["energy_kwh_max"]).all()


def test_an_empty_table() -> None:
    assert all(len(column) == 0 for column in ecoimpact.estimate_batch({"model": [], "output_tokens": []}).values())
    empty = pa.table({"model": pa.array([], pa.string()), "output_tokens": pa.array([], pa.int64())})
    assert ecoimpact.estimate_batch(empty).num_rows == 0


def test_what_the_program_gave_is_left_as_it_was() -> None:
    tokens = np.array([1.0, -1.0, math.nan])
    frame = pd.DataFrame({"model": ["gpt-4o"] * 3, "output_tokens": tokens.copy()})
    kept = frame.copy(deep=True)
    ecoimpact.estimate_batch(frame)
    pd.testing.assert_frame_equal(frame, kept)
    ecoimpact.estimate_batch({"model": "gpt-4o", "output_tokens": tokens})
    np.testing.assert_array_equal(tokens, [1.0, -1.0, math.nan])


class Own:
    """A methodology of a program's own, whose part of the model is no tuple of numbers."""

    name = "own"
    site_table = "ecologits-2025-09"

    def serve(self, model: Any) -> dict[str, float]:
        return {"kwh": model.active_params_b}

    def assess(self, serving: Any, usage: Usage, latency_s: Any, site: Any) -> Figures:
        energy_kwh = usage.output_tokens * serving["kwh"]
        return Figures(energy_kwh, energy_kwh * site.gwp, None, None, None, None, None, None)

    def steps(self, *_: Any) -> tuple[()]:
        return ()


def test_a_methodology_of_ones_own() -> None:
    figures = ecoimpact.estimate_batch(
        {"model": ["gpt-4o", "no", "gpt-4o-mini"], "output_tokens": [1, 2, 3]}, methodology=Own()
    )
    for number, (model, tokens) in enumerate([("gpt-4o", 1), ("no", 2), ("gpt-4o-mini", 3)]):
        energy = ecoimpact.estimate(model, output_tokens=tokens, methodology=Own()).energy
        if energy is None:
            assert math.isnan(figures["energy_kwh_max"][number])
        else:
            assert figures["energy_kwh_max"][number] == energy.max
    assert np.isnan(figures["pe_mj_min"]).all()


@pytest.mark.parametrize(
    ("columns", "options", "error", "message"),
    [
        ([1, 2], {}, TypeError, "a dict of arrays"),
        ({"output_tokens": [1]}, {}, ValueError, "no 'model'"),
        ({"model": ["a"], "output_tokens": [1, 2]}, {}, ValueError, "different lengths"),
        ({"model": "a", "output_tokens": 1}, {"methodology": "ecologit"}, ValueError, "ecologits"),
        ({"model": "a", "output_tokens": 1}, {"zone": "Frence"}, ValueError, "FRA"),
    ],
)
def test_wrong_use_says_what_is_right(columns: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ecoimpact.estimate_batch(columns, **options)
