"""A whole lake again: every row once, whatever the files are like, whatever happened on the way."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import made_logs
import object_store
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import ecoimpact
from ecoimpact import engine, storage
from ecoimpact.cli.app import app
from ecoimpact.lake import Estimator, json_lines, sources
from ecoimpact.lake.reestimate import NOTE, Reestimated, reestimate
from ecoimpact.records.compact import compact
from ecoimpact.records.export import export
from ecoimpact.records.reader import read_records
from ecoimpact.records.schema import FIELDS
from ecoimpact.types import CRITERIA, FLAT_FIELDS

MODELS = ["gpt-4o-mini", "claude-sonnet-4-0", "no-such-model"]


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_current", engine.Catalog({}, {}))


def requests(first: int = 0, number: int = 30) -> pa.Table:
    """Rows that all differ; every third has no figures."""
    rows = range(first, first + number)
    return pa.table(
        {
            "id": [f"r{row}" for row in rows],
            "model": [MODELS[row % 3] for row in rows],
            "output_tokens": [10 + row for row in rows],
            "latency_s": [None if row % 7 == 0 else row / 10 for row in rows],
        }
    )


def write(path: Path, table: pa.Table, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def rows(out: Path | str) -> list[dict[str, Any]]:
    """Everything in a folder, as an analyst reads it."""
    found = pyarrow.dataset.dataset(str(out), format="parquet", partitioning="hive", exclude_invalid_files=False)
    result: list[dict[str, Any]] = found.to_table().to_pylist()
    return result


def check(found: list[dict[str, Any]], given: pa.Table, methodology: str = "ecologits", zone: str | None = None) -> None:
    """Each row that went in came out once, with the figures that it has by itself."""
    by_id = {row["id"]: row for row in found}
    assert len(by_id) == len(found) == given.num_rows
    for row in given.to_pylist():
        again = by_id[row["id"]]
        alone = ecoimpact.estimate(
            row["model"],
            output_tokens=row["output_tokens"],
            latency_s=row["latency_s"],
            methodology=methodology,
            zone=zone,
        )
        assert again["errors"] == [notice.code for notice in alone.errors]
        assert again["warnings"] == [notice.code for notice in alone.warnings]
        for name, value in alone.to_dict().items():
            if name in FLAT_FIELDS:
                assert again[name] == (None if value is None else pytest.approx(value, rel=1e-12, abs=0)), name


def state(out: Path) -> dict[str, tuple[int, int]]:
    """What is in a folder, to the last change."""
    return {
        str(path.relative_to(out)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in out.rglob("*")
        if path.is_file()
    }


# --- what comes in ------------------------------------------------------------------------------------------------------


def as_csv(table: pa.Table, sign: str = ",") -> bytes:
    cells = [["" if value is None else str(value) for value in row.values()] for row in table.to_pylist()]
    return "\n".join(map(sign.join, [table.column_names, *cells])).encode()


def as_jsonl(table: pa.Table) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in table.to_pylist())


FORMS: dict[str, Callable[[pa.Table], bytes | None]] = {
    "a.parquet": lambda table: None,
    "a.csv": as_csv,
    "semicolons.csv": lambda table: as_csv(table, ";"),
    "a.tsv": lambda table: as_csv(table, "\t"),
    "windows.csv": lambda table: b"\xef\xbb\xbf" + as_csv(table).replace(b"\n", b"\r\n"),
    "a.csv.gz": lambda table: gzip.compress(as_csv(table)),
    "a.jsonl": as_jsonl,
    "a.ndjson.gz": lambda table: gzip.compress(as_jsonl(table)),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("methodology", ["ecologits", "measured-2026"])
def test_every_format(name: str, methodology: str, tmp_path: Path) -> None:
    given = requests()
    content = FORMS[name](given)
    if content is None:
        write(tmp_path / name, given, row_group_size=7)
    else:
        (tmp_path / name).write_bytes(content)
    done = reestimate(tmp_path / name, tmp_path / "out", Estimator(methodology))
    assert (done.made, done.kept, done.failed) == (1, 0, {})
    assert (done.sums.rows, done.sums.unestimated, done.sums.illegible) == (30, 10, 0)
    assert done.sums.errors == {"model-not-registered": 10}
    found = rows(tmp_path / "out")
    check(found, given, methodology)
    for c in CRITERIA:
        column = f"{c.suffix}_central"
        assert done.sums.after[column] == pytest.approx(sum(row[column] or 0 for row in found), rel=1e-9)
    assert done.sums.before == {}


def test_a_folder_keeps_its_shape(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    write(lake / "day=2026-01-01" / "part-0.parquet", requests(0))
    write(lake / "day=2026-01-02" / "part-0.parquet", requests(30))
    (lake / "day=2026-01-02" / "late.csv").write_bytes(as_csv(requests(60)))
    (lake / "_SUCCESS").touch()
    (lake / "notes.txt").write_text("not a table")
    done = reestimate(lake, tmp_path / "out", Estimator())
    assert done.made == 3
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*") if path.is_file()} == {0o600}
    assert set(state(tmp_path / "out")) == {
        "day=2026-01-01/part-0.parquet",
        "day=2026-01-02/part-0.parquet",
        "day=2026-01-02/late.csv.parquet",
        NOTE,
    }
    found = rows(tmp_path / "out")
    check(found, requests(0, 90))
    assert {row["id"]: str(row["day"]) for row in found}["r45"] == "2026-01-02"


def test_what_only_folders_tell_is_read_and_not_written_twice(tmp_path: Path) -> None:
    given = requests(0, 6)
    for model in MODELS:
        of_model = given.filter(pa.compute.equal(given["model"], model)).drop_columns(["model"])
        write(tmp_path / "lake" / f"model={model}" / "zone=FRA" / "x.parquet", of_model)
    reestimate(tmp_path / "lake", tmp_path / "out", Estimator())
    check(rows(tmp_path / "out"), given, zone="FRA")
    names = pq.read_schema(tmp_path / "out" / "model=gpt-4o-mini" / "zone=FRA" / "x.parquet").names
    assert "model" not in names
    assert "zone" not in names


def test_folders_by_what_changes_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "lake" / "methodology=scope3" / "x.parquet", requests(0))
    with pytest.raises(ValueError, match="by methodology, which changes"):
        reestimate(tmp_path / "lake", tmp_path / "out", Estimator())


def test_a_pattern_takes_what_it_matches(tmp_path: Path) -> None:
    write(tmp_path / "lake" / "a-1.parquet", requests(0))
    write(tmp_path / "lake" / "b-1.parquet", requests(30))
    reestimate(tmp_path / "lake" / "a-*.parquet", tmp_path / "out", Estimator())
    check(rows(tmp_path / "out"), requests(0))


def test_files_of_different_shapes(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    write(lake / "1.parquet", requests(0))
    wide = requests(30).append_column("team", pa.array(["red"] * 30).dictionary_encode())
    write(lake / "2.parquet", wide.set_column(2, "output_tokens", wide["output_tokens"].cast(pa.float64())))
    write(lake / "3.parquet", requests(60).drop_columns(["latency_s"]).append_column("team", pa.array(["blue"] * 30)))
    old = requests(90).append_column("energy_kwh_min", pa.array(["?"] * 30))
    write(lake / "4.parquet", old.set_column(1, "model", old["model"].dictionary_encode()))
    done = reestimate(lake, tmp_path / "out", Estimator())
    assert done.failed == {}
    whole = pa.concat_tables([requests(0), requests(30)])
    bare = requests(60).set_column(3, "latency_s", pa.nulls(30, pa.float64()))
    check(rows(tmp_path / "out"), pa.concat_tables([whole, bare, requests(90)]))
    schemas = {str(pq.read_schema(path).remove_metadata()) for path in (tmp_path / "out").glob("*.parquet")}
    assert len(schemas) == 1
    assert {row["team"] for row in rows(tmp_path / "out")} == {None, "red", "blue"}


def test_columns_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    write(tmp_path / "lake" / "1.parquet", requests(0).append_column("team", pa.array([1] * 30)))
    write(tmp_path / "lake" / "2.parquet", requests(0).append_column("team", pa.array(["red"] * 30)))
    with pytest.raises(ValueError, match=r"2\.parquet does not go with 1\.parquet: .*team"):
        reestimate(tmp_path / "lake", tmp_path / "out", Estimator())
    assert not (tmp_path / "out").exists()


def test_bad_rows_stay_and_say_what_is_wrong(tmp_path: Path) -> None:
    lines = [
        b'{"id": "ok", "model": "gpt-4o", "output_tokens": 5, "note": {"a": 1}}',
        b'{"id": "text", "model": "gpt-4o", "output_tokens": "7"}',
        b'{"id": "word", "model": "gpt-4o", "output_tokens": "many", "note": {"b": "x"}}',
        b'{"id": "list", "model": ["gpt-4o"], "output_tokens": 5}',
        b'{"id": "huge", "model": "gpt-4o", "output_tokens": 1' + b"0" * 400 + b"}",
        b'{"id": "negative", "model": "gpt-4o", "output_tokens": -5}',
        b'{"id": "none"}',
        b'{"id": "torn", "mo',
        b"[1, 2]",
        b"\xff\xfe",
        b"",
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    done = reestimate(tmp_path / "a.jsonl", tmp_path / "out", Estimator())
    assert done.failed == {}
    assert (done.sums.rows, done.sums.unestimated, done.sums.illegible) == (7, 5, 3)
    by_id = {row["id"]: row for row in rows(tmp_path / "out")}
    assert {name: row["errors"] for name, row in by_id.items()} == {
        "ok": [],
        "text": [],
        "word": ["tokens-invalid"],
        "list": ["model-not-registered"],
        "huge": ["tokens-invalid"],
        "negative": ["tokens-invalid"],
        "none": ["model-not-registered", "output-tokens-unknown"],
    }
    assert by_id["text"]["energy_kwh_max"] > by_id["ok"]["energy_kwh_max"] > 0


def test_bad_rows_of_csv(tmp_path: Path) -> None:
    text = 'id,model,output_tokens,note\n1,gpt-4o,5,"two\nlines"\n2,gpt-4o,many,\n3,gpt-4o\n4,gpt-4o,5,a,b\n5,,5,007\n'
    (tmp_path / "a.csv").write_text(text)
    done = reestimate(tmp_path / "a.csv", tmp_path / "out", Estimator())
    assert (done.sums.rows, done.sums.unestimated, done.sums.illegible) == (3, 2, 2)
    by_id = {row["id"]: row for row in rows(tmp_path / "out")}
    assert {name: row["errors"] for name, row in by_id.items()} == {
        "1": [],
        "2": ["output-tokens-unknown"],
        "5": ["model-not-registered"],
    }
    assert [by_id[name]["note"] for name in "125"] == ["two\nlines", None, "007"]


def test_files_that_cannot_be_read_do_not_stop_the_others(tmp_path: Path) -> None:
    write(tmp_path / "lake" / "1.parquet", requests(0))
    (tmp_path / "lake" / "2.parquet").write_bytes(b"PAR1 and no more")
    done = reestimate(tmp_path / "lake", tmp_path / "out", Estimator())
    assert list(done.failed) == ["2.parquet"]
    assert not (tmp_path / "out" / NOTE).exists()
    check(rows(tmp_path / "out"), requests(0))
    write(tmp_path / "lake" / "2.parquet", requests(30))
    done = reestimate(tmp_path / "lake", tmp_path / "out", Estimator())
    assert (done.made, done.kept, done.failed) == (1, 1, {})
    check(rows(tmp_path / "out"), requests(0, 60))


def test_what_was_made_of_a_file_that_fails_now_stays(tmp_path: Path) -> None:
    write(tmp_path / "lake" / "1.parquet", requests(0))
    write(tmp_path / "lake" / "2.parquet", requests(30))
    reestimate(tmp_path / "lake", tmp_path / "out", Estimator())
    (tmp_path / "lake" / "2.parquet").write_bytes(b"damaged")
    done = reestimate(tmp_path / "lake", tmp_path / "out", Estimator())
    assert (list(done.failed), done.stale, done.kept) == (["2.parquet"], (), 1)
    check(rows(tmp_path / "out"), requests(0, 60))


def test_a_column_twice_is_told(tmp_path: Path) -> None:
    write(tmp_path / "lake" / "1.parquet", requests(0))
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["model", "model"])
    write(tmp_path / "lake" / "2.parquet", twice)
    (tmp_path / "lake" / "3.csv").write_text("model,model\na,b\n")
    done = reestimate(tmp_path / "lake", tmp_path / "out", Estimator())
    assert done.failed == dict.fromkeys(["2.parquet", "3.csv"], "ValueError: it has two columns of the name 'model'")


@pytest.mark.parametrize("content", [b"", b"id,model,output_tokens\n"])
def test_a_file_without_rows(content: bytes, tmp_path: Path) -> None:
    write(tmp_path / "lake" / "1.parquet", requests(0, 0))
    write(tmp_path / "lake" / "2.parquet", requests(0, 3))
    (tmp_path / "lake" / "3.csv").write_bytes(content)
    (tmp_path / "lake" / "4.jsonl").write_bytes(b"")
    done = reestimate(tmp_path / "lake", tmp_path / "out", Estimator())
    assert (done.made, done.failed) == (4, {})
    check(rows(tmp_path / "out"), requests(0, 3))


# --- the log ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log as the package writes it, with a line that a crash has torn."""
    folder = tmp_path / "log"
    records = []
    for number in range(40):
        tokens, latency_s = 10 + 7 * number, 0.5 + number / 3
        model, provider = (("gpt-4o-mini", "openai"), ("mistral-large-latest", "mistralai"))[number % 2]
        impacts = ecoimpact.estimate(
            model, provider=provider, output_tokens=tokens, latency_s=latency_s, zone=("FRA", None)[number // 2 % 2]
        )
        figures = {name: value for name, value in impacts.to_dict().items() if name in FLAT_FIELDS}
        records.append(
            made_logs.made(
                number,
                provider=provider,
                request_model=model,
                model=None if impacts.assessment.model is None else impacts.assessment.model.name,
                output_tokens=tokens,
                latency_s=latency_s,
                zone=impacts.assessment.zone,
                labels={"user": f"u{number % 3}"} if number % 4 else {},
                warnings=[notice.code for notice in impacts.warnings],
                **figures,
            )
        )
    made_logs.write(folder, "000000-1-0", [*records[:20], b'{"schema":1,"id":"torn'])
    made_logs.write(folder, "000000-2-0", records[20:], folder="2026-02-02")
    return folder


@pytest.mark.parametrize("form", ["log", "parquet", "csv"])
def test_a_log_under_its_own_edition_is_itself(form: str, log: Path, tmp_path: Path) -> None:
    source = log if form == "log" else tmp_path / f"exported.{form}"
    if form != "log":
        with source.open("wb") as file:
            export(read_records(log), file, form)
    done = reestimate(source, tmp_path / "out", Estimator("ecologits"))
    assert (done.sums.rows, done.sums.unestimated) == (40, 0)
    assert done.sums.illegible == (1 if form == "log" else 0)
    for name, value in done.sums.before.items():
        assert done.sums.after[name] == pytest.approx(value, rel=1e-12)
    assert len(done.sums.before) == 15
    by_id = {row["id"]: row for row in rows(tmp_path / "out")}
    for record in read_records(log):
        again = by_id[record["id"]]
        for name in FLAT_FIELDS:
            assert again[name] == pytest.approx(record[name], rel=1e-12), name
        for name in (
            "model",
            "zone",
            "provider",
            "output_tokens",
            "warnings",
            "errors",
            "methodology",
            "stream",
            "cost_usd",
        ):
            assert again[name] == record[name], name
        labels = again["labels"]
        assert dict(json.loads(labels) if isinstance(labels, str) else labels) == record["labels"]


odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.sampled_from(["", "x", "1", "2026-01-01", "2026-01-01T00:00:00Z", "\ud800", "é", "{}"]),
    st.just([]),
    st.just({"a": 1}),
)
labels = st.dictionaries(
    st.sampled_from(["user", "day", "é", ""]), st.sampled_from(["u1", "", "2026-01-01", "1", "null", "é"])
)


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(labels, st.dictionaries(st.sampled_from([f.name for f in FIELDS if f.name != "schema"]), odd, max_size=1))
    )
)
def test_a_block_of_the_log_is_its_lines(several: list[tuple[dict[str, str], dict[str, Any]]]) -> None:
    """What is read at once is what is read line by line, or is left to that."""
    records = [made_logs.made(number, labels=named) | changes for number, (named, changes) in enumerate(several)]
    block = b"".join(map(made_logs.line, records))
    at_once = json_lines._log(block)
    if at_once is not None:
        line_by_line = json_lines._records(records)
        assert at_once.drop_columns(["labels"]).equals(line_by_line.drop_columns(["labels"]))
        assert [*map(dict, at_once["labels"].to_pylist())] == [*map(dict, line_by_line["labels"].to_pylist())]
    assert at_once is not None or not several or any(changes for _, changes in several)


def test_figures_without_a_central_value_count_as_their_midpoint(tmp_path: Path) -> None:
    """As the log's first versions wrote them."""
    for number, columns in enumerate([{"energy_kwh_min": 1.0, "energy_kwh_max": 3.0}, {"energy_kwh_central": 5.0}]):
        given = requests(30 * number, 2)
        for name, value in columns.items():
            given = given.append_column(name, pa.array([value] * 2))
        write(tmp_path / "lake" / f"{number}.parquet", given)
    done = reestimate(tmp_path / "lake", tmp_path / "out", Estimator())
    assert done.sums.before == {"energy_kwh_min": 2.0, "energy_kwh_max": 6.0, "energy_kwh_central": 14.0}


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_log_that_is_compacted_meanwhile_has_every_record_once(elsewhere: bool, log: Path, tmp_path: Path) -> None:
    reestimate(log, tmp_path / "out", Estimator())
    for path in log.glob("*/*.jsonl"):
        os.utime(path, (0, 0))  # nobody writes to it any more
    compact(log, tmp_path / "compacted" if elsewhere else None, older_than_days=0, now=datetime(2026, 3, 1, tzinfo=UTC))
    assert len([*(tmp_path / "compacted" if elsewhere else log).rglob("*.parquet")]) > 0
    done = reestimate(log, tmp_path / "out", Estimator())
    assert (done.failed, done.stale) == ({}, ())
    wanted = {record["id"]: record for record in read_records(log)}
    found = {row["id"]: row for row in rows(tmp_path / "out")}
    assert len(rows(tmp_path / "out")) == len(found) == len(wanted) == 40
    for name, row in found.items():
        assert row["gwp_kgco2eq_central"] == pytest.approx(wanted[name]["gwp_kgco2eq_central"], rel=1e-12)


def test_what_if_everything_ran_elsewhere(log: Path, tmp_path: Path) -> None:
    reestimate(log, tmp_path / "out", Estimator("ecologits", zone="NOR"))
    records = {record["id"]: record for record in read_records(log)}
    for row in rows(tmp_path / "out"):
        record = records[row["id"]]
        alone = ecoimpact.estimate(
            record["request_model"],
            provider=record["provider"],
            output_tokens=record["output_tokens"],
            latency_s=record["latency_s"],
            zone="NOR",
        ).gwp
        assert alone is not None
        assert row["zone"] == "NOR"
        assert row["gwp_kgco2eq_central"] == pytest.approx(alone.central, rel=1e-12)
        assert row["gwp_kgco2eq_central"] != record["gwp_kgco2eq_central"]


# --- again --------------------------------------------------------------------------------------------------------------


def lake_of(tmp_path: Path, files: int = 3) -> Path:
    for number in range(files):
        write(tmp_path / "lake" / f"day={number}" / "x.parquet", requests(30 * number))
    return tmp_path / "lake"


def run(tmp_path: Path, **options: Any) -> Reestimated:
    return reestimate(tmp_path / "lake", tmp_path / "out", Estimator(**options))


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    lake_of(tmp_path)
    first = run(tmp_path)
    before = state(tmp_path / "out")
    second = run(tmp_path)
    assert state(tmp_path / "out") == before
    assert (second.made, second.kept) == (0, 3)
    assert second.sums == first.sums
    note = json.loads((tmp_path / "out" / NOTE).read_text())
    assert (note["rows"], note["unestimated"], note["methodology"]) == (90, 30, "ecologits-2025-09")


def test_only_what_changed_is_done_again(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    run(tmp_path)
    before = state(tmp_path / "out")
    write(lake / "day=1" / "x.parquet", requests(100))
    write(lake / "day=3" / "x.parquet", requests(200))
    done = run(tmp_path)
    assert (done.made, done.kept) == (2, 2)
    changed = {name for name, seen in state(tmp_path / "out").items() if before.get(name) != seen}
    assert changed == {"day=1/x.parquet", "day=3/x.parquet", NOTE}
    check(rows(tmp_path / "out"), pa.concat_tables([requests(n) for n in (0, 60, 100, 200)]))


@pytest.mark.parametrize("options", [{"methodology": "scope3"}, {"zone": "FRA"}, {"columns": {"provider": "id"}}])
def test_other_settings_do_everything_again(options: dict[str, Any], tmp_path: Path) -> None:
    lake_of(tmp_path)
    run(tmp_path)
    assert run(tmp_path, **options).made == 3
    assert run(tmp_path, **options).made == 0


def test_what_was_registered_meanwhile_counts(tmp_path: Path) -> None:
    lake_of(tmp_path)
    run(tmp_path)
    ecoimpact.register_model("no-such-model", active_params_b=7, total_params_b=7, source="a card")
    done = run(tmp_path)
    assert (done.made, done.sums.unestimated) == (3, 0)


def test_inputs_that_are_gone_are_told_and_their_rows_left(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    run(tmp_path)
    (lake / "day=1" / "x.parquet").unlink()
    done = run(tmp_path)
    assert [Path(path).relative_to(tmp_path / "out").as_posix() for path in done.stale] == ["day=1/x.parquet"]
    assert done.sums.rows == 60


def test_a_large_file_is_done_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PART_ROWS", 20)
    write(tmp_path / "lake" / "x.parquet", requests(0, 50), row_group_size=10)
    assert run(tmp_path).made == 3
    assert set(state(tmp_path / "out")) == {*(f"x.{part:05}.parquet" for part in range(3)), NOTE}
    check(rows(tmp_path / "out"), requests(0, 50))
    write(tmp_path / "lake" / "x.parquet", requests(0, 30), row_group_size=10)
    run(tmp_path)
    check(rows(tmp_path / "out"), requests(0, 30))
    assert run(tmp_path).made == 0


KILLED = """
import os, sys
from ecoimpact.lake import Estimator
from ecoimpact.lake.reestimate import reestimate
reestimate(sys.argv[1], sys.argv[2], Estimator(), workers=1, progress=lambda p: p.records > 40 and os.kill(os.getpid(), 9))
"""


def test_a_run_that_was_killed_goes_on(tmp_path: Path) -> None:
    lake, out = lake_of(tmp_path, files=4), tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", KILLED, lake, out], timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    names = set(state(out))
    assert "day=0/x.parquet" in names
    assert any(name.endswith(".part") for name in names)
    assert NOTE not in names
    check(
        [row for path in out.glob("*/*.parquet") for row in pq.read_table(path, partitioning=None).to_pylist()], requests(0)
    )
    before = state(out)["day=0/x.parquet"]
    done = run(tmp_path)
    assert (done.made, done.kept) == (3, 1)
    assert state(out)["day=0/x.parquet"] == before
    assert not any(name.endswith(".part") for name in state(out))
    check(rows(out), requests(0, 120))


def test_an_interrupted_run_leaves_nothing_unfinished(tmp_path: Path) -> None:
    lake_of(tmp_path)

    def interrupt(progress: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reestimate(tmp_path / "lake", tmp_path / "out", Estimator(), progress=interrupt)
    assert state(tmp_path / "out") == {}
    run(tmp_path)
    check(rows(tmp_path / "out"), requests(0, 90))


FULL = """
import resource, signal, sys
from ecoimpact.lake import Estimator
from ecoimpact.lake.reestimate import reestimate
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
done = reestimate(sys.argv[1], sys.argv[2], Estimator())
print(done.made, done.failed)
"""


def test_no_room_for_a_file_is_told_and_leaves_no_half(tmp_path: Path) -> None:
    lake_of(tmp_path, files=1)
    write(tmp_path / "lake" / "day=1" / "large.parquet", requests(0, 3_000))
    command = [sys.executable, "-c", FULL, str(tmp_path / "lake"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith("1 {'day=1/large.parquet': 'OSError: ")
    assert set(state(tmp_path / "out")) == {"day=0/x.parquet"}


def test_what_was_not_made_here_is_not_replaced(tmp_path: Path) -> None:
    lake_of(tmp_path, files=1)
    foreign = write(tmp_path / "out" / "day=0" / "x.parquet", pa.table({"a": [1]}))
    with pytest.raises(ValueError, match="was not made from this input"):
        run(tmp_path)
    assert pq.read_table(foreign, partitioning=None).column_names == ["a"]
    reestimate(tmp_path / "lake", tmp_path / "out", Estimator(), overwrite=True)
    check(rows(tmp_path / "out"), requests(0))


def test_two_inputs_share_an_output_unless_their_names_do(tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.parquet", requests(0))
    write(tmp_path / "b" / "2.parquet", requests(30))
    write(tmp_path / "c" / "1.parquet", requests(60))
    for name in "ab":
        assert reestimate(tmp_path / name, tmp_path / "out", Estimator()).stale == ()
    with pytest.raises(ValueError, match="was not made from this input"):
        reestimate(tmp_path / "c", tmp_path / "out", Estimator())
    check(rows(tmp_path / "out"), requests(0, 60))


@pytest.mark.parametrize(
    ("src", "out"),
    [("lake", "lake"), ("lake", "lake/out"), ("lake/day=0", "lake"), ("lake/*/*.parquet", "lake/out"), ("lake", "link")],
)
def test_what_comes_out_is_never_what_comes_in(src: str, out: str, tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    (tmp_path / "link").symlink_to(lake)
    before = state(lake)
    with pytest.raises(ValueError, match=r"output .* (is the folder|lies in)"):
        reestimate(tmp_path / src, tmp_path / out, Estimator())
    assert state(lake) == before


def test_two_files_for_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "a.csv").write_bytes(as_csv(requests()))
    write(tmp_path / "lake" / "a.csv.parquet", requests())
    with pytest.raises(ValueError, match=r"a\.csv and a\.csv\.parquet would both"):
        run(tmp_path)


MEMORY = """
import resource, sys
from ecoimpact.lake import Estimator, reestimate
reestimate.ROW_GROUP_ROWS = 10_000
reestimate.reestimate(sys.argv[1], sys.argv[2], Estimator(), workers=1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Five times the rows, whose figures alone take 100 MB more than those of the fifth."""
    peaks = []
    block = requests(0, 100_000)
    for number in (1, 5):
        path = tmp_path / f"{number}.parquet"
        with pq.ParquetWriter(path, block.schema) as writer:
            for _ in range(number):
                writer.write_table(block, row_group_size=10_000)
        command = [sys.executable, "-c", MEMORY, str(path), str(tmp_path / f"out-{number}")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] < peaks[0] + 50_000, peaks


# --- an object store ----------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with object_store.store() as address:
        yield object_store.use(address, monkeypatch)


def test_from_a_store_and_to_it(bucket: str, tmp_path: Path) -> None:
    filesystem, path = storage.resolve(f"{bucket}/in")
    for number in range(2):
        with filesystem.open_output_stream(f"{path}/day={number}/x.parquet") as file:
            pq.write_table(requests(30 * number), file)
    storage.put(filesystem, f"{path}/more.jsonl", as_jsonl(requests(60)))
    out = f"{bucket}/out"
    done = reestimate(f"{bucket}/in", out, Estimator())
    assert (done.made, done.failed) == (3, {})
    found = pyarrow.dataset.dataset("lake/out", filesystem=filesystem, format="parquet", partitioning="hive")
    check(found.to_table().to_pylist(), requests(0, 90))
    assert (reestimate(f"{bucket}/in", out, Estimator()).made, storage.read(filesystem, f"lake/out/{NOTE}")) != (0, None)
    reestimate(f"{bucket}/in/day=*/*.parquet", tmp_path / "out", Estimator())
    check(rows(tmp_path / "out"), requests(0, 60))
    with pytest.raises(ValueError, match="lies in"):
        reestimate(f"{bucket}/in", f"{bucket}/in/out", Estimator())


# --- the command --------------------------------------------------------------------------------------------------------


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["reestimate", *map(str, arguments)], env={"COLUMNS": "160"})


def test_the_command_sums_up(log: Path, tmp_path: Path) -> None:
    done = command(log, "--out", tmp_path / "out", "--methodology", "scope3", "--zone", "FRA", "--workers", 1)
    assert done.exit_code == 0, done.output
    assert "40 rows under scope3" in done.output
    assert "2 files made, 0 as before" in done.output
    assert "1 line left out: no legible row" in done.output
    note = json.loads((tmp_path / "out" / NOTE).read_text())
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith("gwp"))
    assert row == ["gwp", *(f"{note[when]['gwp_kgco2eq_central']:.6g}" for when in ("before", "after")), "kgCO2eq"]
    assert next(line.split() for line in done.stdout.splitlines() if line.startswith("pe"))[2] == "–"


def test_the_command_fails_with_a_file(tmp_path: Path) -> None:
    write(tmp_path / "lake" / "1.parquet", requests(0))
    (tmp_path / "lake" / "2.parquet").write_bytes(b"no table")
    done = command(tmp_path / "lake", "--out", tmp_path / "out", "--methodology", "ecologits")
    assert done.exit_code == 1
    assert "30 rows" in done.output
    assert "failed: 2.parquet" in done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methodology", "scop3"], "scope3"),
        (["--methodology", "scope3", "--zone", "Frence"], "FRA"),
        (["--methodology", "scope3", "--column", "model"], "OURS=THEIRS"),
        (["--methodology", "scope3", "--column", "modl=x"], "near: model"),
        (["--methodology", "scope3", "--column", "model=x"], "no column 'x'"),
    ],
)
def test_wrong_use_exits_with_2(options: list[str], message: str, tmp_path: Path) -> None:
    write(tmp_path / "lake" / "1.parquet", requests(0))
    done = command(tmp_path / "lake", "--out", tmp_path / "out", *options)
    assert done.exit_code == 2
    assert message in " ".join(done.output.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("src", ["none", "*.parquet", "nowhere://x", "empty"])
def test_nothing_to_read_exits_with_2(src: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    done = command(src, "--out", "out", "--methodology", "scope3")
    assert done.exit_code == 2, done.output
