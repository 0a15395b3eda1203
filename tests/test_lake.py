"""The one function over Arrow batches: rows out as they came in, with the figures that each has by itself."""

from __future__ import annotations

import decimal
import pickle
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ecoimpact
from ecoimpact import engine, methodologies
from ecoimpact.lake import Estimator
from ecoimpact.lake.estimating import RESULTS
from ecoimpact.records.export import arrow_schema
from ecoimpact.types import FLAT_FIELDS, Inference, Record, Usage

REQUEST_METHODOLOGIES = sorted(set(methodologies.names()) - set(methodologies.ALIASES))


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_current", engine.Catalog({}, {}))


def table(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=arrow_schema())


requests = st.fixed_dictionaries(
    {
        "provider": st.sampled_from(["openai", "anthropic", "mistralai", "groq", "vllm.internal"]),
        "endpoint": st.sampled_from(["chat.completions", "embeddings"]),
        "request_model": st.sampled_from(["gpt-4o-mini", "claude-sonnet-4-0", "mistral-large-latest", "no-such", None]),
        "response_model": st.sampled_from(["gpt-4o-mini-2024-07-18", "openai/gpt-oss-120b", "?", None]),
        "output_tokens": st.one_of(st.none(), st.integers(0, 10**5), st.just(10**10)),
        "input_tokens": st.one_of(st.none(), st.integers(0, 10**5)),
        "latency_s": st.one_of(st.none(), st.floats(0, 600)),
        "estimated": st.booleans(),
        "zone": st.sampled_from([None, "FRA", "US-CA"]),
    }
)


def logged(request: dict[str, Any], methodology: str) -> dict[str, Any]:
    """The record that the log would have of a request, as a row."""
    usage = Usage(
        request["input_tokens"],
        request["output_tokens"],
        estimated=request["estimated"],
        generates=request["endpoint"] != "embeddings",
    )
    names = (request["response_model"], request["request_model"])
    assessment = engine.assess(
        engine.catalog(),
        provider=request["provider"],
        models=names,
        usage=usage,
        latency_s=request["latency_s"],
        zone=request["zone"],
        methodology=methodology,
    )
    inference = Inference(
        provider=request["provider"],
        endpoint=request["endpoint"],
        request_model=request["request_model"],
        response_model=request["response_model"],
        usage=usage,
        latency_s=request["latency_s"],
        time_to_first_token_s=None,
        started_at=1.75e9,
        stream=False,
        status="ok",
    )
    row = Record("an-id", inference, assessment, {"user": "u1"}).to_dict()
    return row | {"time": datetime.fromtimestamp(1.75e9, UTC), "labels": list(row["labels"].items())}


@pytest.mark.parametrize("methodology", REQUEST_METHODOLOGIES)
@settings(max_examples=25)
@given(several=st.lists(requests, min_size=1, max_size=8))
def test_a_log_under_its_own_edition_has_its_own_figures(methodology: str, several: list[dict[str, Any]]) -> None:
    rows = [logged(request, methodology) for request in several]
    given = table(rows)
    made = Estimator(methodology)(given)
    assert made.schema.names == given.schema.names
    for row, again, before in zip(rows, made.to_pylist(), given.to_pylist(), strict=True):
        for name, value in row.items():
            if name in FLAT_FIELDS:
                assert again[name] == (None if value is None else pytest.approx(value, rel=1e-12, abs=0)), name
            else:
                assert again[name] == before[name], name


def test_the_zone_of_a_record_holds_and_a_given_one_wins() -> None:
    rows = [logged({**REQUEST, "zone": zone}, "ecologits") for zone in ("FRA", "POL")]
    kept = Estimator("scope3")(table(rows)).to_pylist()
    for row, zone in zip(kept, ("FRA", "POL"), strict=True):
        alone = ecoimpact.estimate(**ALONE, zone=zone, methodology="scope3").gwp
        assert alone is not None
        assert row["zone"] == zone
        assert row["gwp_kgco2eq_max"] == pytest.approx(alone.max, rel=1e-12)
    moved = Estimator("ecologits", zone="swe")(table(rows)).to_pylist()
    assert {row["zone"] for row in moved} == {"SWE"}
    assert len({row["gwp_kgco2eq_min"] for row in moved}) == 1


REQUEST = {
    "provider": "openai",
    "endpoint": "chat.completions",
    "request_model": "gpt-4o-mini",
    "response_model": None,
    "output_tokens": 400,
    "input_tokens": 100,
    "latency_s": None,
    "estimated": False,
    "zone": None,
}
ALONE: dict[str, Any] = {"model": "gpt-4o-mini", "provider": "openai", "output_tokens": 400, "input_tokens": 100}


# --- any table ----------------------------------------------------------------------------------------------------------

CORE = {"model": ["gpt-4o-mini", None, "x"], "output_tokens": [400, 1, None]}


def test_what_the_table_had_is_as_it_was() -> None:
    given = pa.RecordBatch.from_pydict(
        {
            "when": pa.array([1, None, 3], pa.timestamp("ns")),
            **CORE,
            "price": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("0.10")]),
            "energy_kwh_min": ["a", "b", "c"],
            "nested": [{"a": [1]}, None, {"a": []}],
        }
    )
    given = given.replace_schema_metadata({"made": "by hand"})
    made = Estimator()(given)
    added = [name for name in (*("zone",), *RESULTS) if name != "energy_kwh_min"]
    assert made.schema.names == [*given.schema.names, *added]
    assert made.schema.metadata == given.schema.metadata
    for name in ("when", "model", "output_tokens", "price", "nested"):
        assert made.column(name).equals(given.column(name))
    first = made.to_pylist()[0]
    impacts = ecoimpact.estimate("gpt-4o-mini", output_tokens=400)
    assert impacts.energy is not None
    assert first["energy_kwh_min"] == pytest.approx(impacts.energy.min, rel=1e-12)
    assert first["zone"] == "USA"
    assert first["methodology"] == "ecologits-2025-09"
    assert first["data_version"] == impacts.data_version
    assert [row["errors"] for row in made.to_pylist()] == [
        [],
        ["model-not-registered"],
        ["model-not-registered", "output-tokens-unknown"],
    ]
    assert made.column("gwp_kgco2eq_central").null_count == 2


TEXTS = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int8(), pa.string()), pa.null()]
NUMBERS = [
    *(pa.int8(), pa.int32(), pa.uint64(), pa.float32(), pa.float64(), pa.decimal128(21, 2), pa.null()),
    *(pa.dictionary(pa.int32(), pa.int64()), pa.string()),
]


@pytest.mark.parametrize("text", TEXTS, ids=str)
@pytest.mark.parametrize("number", NUMBERS, ids=str)
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_types_follow_from_the_schema_alone(text: pa.DataType, number: pa.DataType, rows: int) -> None:
    is_null = pa.types.is_null(text), pa.types.is_null(number)
    models = pa.array([None if is_null[0] else "gpt-4o-mini"] * rows, pa.string())
    tokens = pa.array([None if is_null[1] else 100] * rows, pa.int64())
    given = pa.RecordBatch.from_arrays(
        [_as(models, text), _as(tokens, number)], schema=pa.schema([("model", text), ("output_tokens", number)])
    )
    estimator = Estimator("measured-2026")
    made = estimator(given)
    made.validate(full=True)
    assert made.schema == estimator.schema(given.schema)
    assert made.num_rows == rows
    assert made.schema.field("pe_mj_max").type == pa.float64()
    assert made.schema.field("warnings").type == pa.list_(pa.string())
    for row in made.to_pylist():
        assert (row["energy_kwh_central"] is None) == any(is_null)
    if not any(is_null):
        told = ecoimpact.estimate("gpt-4o-mini", output_tokens=100, methodology="measured-2026").energy
        assert told is not None
        assert made.column("energy_kwh_central").to_pylist() == pytest.approx([told.value.central] * rows, rel=1e-12)


def _as(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_null(kind):
        return pa.nulls(len(array))
    if pa.types.is_dictionary(kind):
        return array.cast(kind.value_type).dictionary_encode().cast(kind)
    return array.cast(kind)


def test_text_that_holds_numbers_is_read_and_other_text_is_flagged() -> None:
    given = pa.RecordBatch.from_pydict({"model": ["gpt-4o"] * 4, "output_tokens": [" 12", "1e2", "many", None]})
    made = Estimator()(given).to_pylist()
    assert [row["errors"] for row in made] == [[], [], ["tokens-invalid"], ["output-tokens-unknown"]]
    assert made[1]["energy_kwh_max"] == pytest.approx(made[0]["energy_kwh_max"] * 100 / 12, rel=1e-9)
    assert [row["output_tokens"] for row in made] == [" 12", "1e2", "many", None]


def test_columns_of_other_names() -> None:
    given = pa.RecordBatch.from_pydict(
        {"deployment": ["gpt-4o-mini"], "completion_tokens": [400], "model": ["something else"], "zone": ["FRA"]}
    )
    estimator = Estimator(columns={"model": "deployment", "output_tokens": "completion_tokens"})
    made = estimator(given).to_pylist()[0]
    alone = ecoimpact.estimate("gpt-4o-mini", output_tokens=400, zone="FRA").pe
    assert alone is not None
    assert made["pe_mj_max"] == pytest.approx(alone.max, rel=1e-12)
    assert made["model"] == "something else"


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"modell": ["a"], "output_tokens": [1]}, {}, "no column 'model'; near: modell"),
        ({"model": ["a"], "completion_tokens": [1]}, {}, "no column 'output_tokens'; near: completion_tokens"),
        (CORE, {"columns": {"provider": "vendr"}}, "no column 'vendr', named for 'provider'"),
    ],
)
def test_a_missing_column_is_told_with_near_ones(columns: Any, options: Any, message: str) -> None:
    estimator = Estimator(**options)
    batch = pa.RecordBatch.from_pydict(columns)
    with pytest.raises(ValueError, match=message):
        estimator.schema(batch.schema)
    with pytest.raises(ValueError, match=message):
        estimator(batch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methodology": "scop3"}, "scope3"),
        ({"zone": "Frence"}, "FRA"),
        ({"columns": {"output_token": "x"}}, "near: output_tokens"),
    ],
)
def test_a_wrong_setting_is_told_at_once(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Estimator(**options)


# --- to other processes -------------------------------------------------------------------------------------------------

WORKER = """
import pickle, sys
import pyarrow as pa
estimator = pickle.load(sys.stdin.buffer)
columns = {"model": ["acme-7b", "gpt-4o"], "provider": ["acme", "groq"], "output_tokens": [10, 10]}
batch = pa.RecordBatch.from_pydict(columns)
sys.stdout.buffer.write(pickle.dumps(estimator(batch)))
"""


@pytest.mark.parametrize("methodology", ["ecologits", methodologies.get("scope3", pue=1.3)], ids=str)
def test_it_travels_with_what_was_registered(methodology: Any) -> None:
    ecoimpact.register_model("acme-7b", active_params_b=7, total_params_b=(7, 8), source="a card")
    ecoimpact.register_site("groq", zone="SWE", pue=(1.1, 1.2), wue_l_per_kwh=0.1)
    ecoimpact.register_site("acme", zone="POL", pue=1.5, wue_l_per_kwh=1)
    estimator = Estimator(methodology)
    command = [sys.executable, "-W", "error", "-c", WORKER]
    done = subprocess.run(command, input=pickle.dumps(estimator), capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    there = pickle.loads(done.stdout)
    batch = there.select(["model", "provider", "output_tokens"])
    assert estimator(batch).equals(there)
    assert there.column("zone").to_pylist() == ["POL", "SWE"]
    assert there.column("errors").to_pylist() == [[], []]
    impacts = ecoimpact.estimate("acme-7b", provider="acme", output_tokens=10, methodology=methodology)
    assert impacts.gwp is not None
    assert there.column("gwp_kgco2eq_max")[0].as_py() == pytest.approx(impacts.gwp.max, rel=1e-12)


def test_what_is_registered_later_does_not_count() -> None:
    estimator = Estimator()
    ecoimpact.register_model("acme-7b", active_params_b=7, total_params_b=7, source="a card")
    batch = pa.RecordBatch.from_pydict({"model": ["acme-7b"], "output_tokens": [1]})
    assert estimator(batch).column("errors").to_pylist() == [["model-not-registered"]]
    assert Estimator()(batch).column("errors").to_pylist() == [[]]


def test_other_tables_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pickle.dumps(Estimator())
    monkeypatch.setattr("ecoimpact.data.DATA_VERSION", "2031-01-01")
    with pytest.raises(ValueError, match="same version of ecoimpact"):
        pickle.loads(packed)
