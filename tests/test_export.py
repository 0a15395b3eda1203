"""Rows out of a log: each format read back by other means, and compared with what was written."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ecoimpact.cli.app import app
from ecoimpact.cli.log_tail import BLOCK_BYTES, LogTail, lines_from_the_end
from ecoimpact.records import export as exporting
from ecoimpact.records.export import FORMATS, Exported, export
from ecoimpact.records.index import Progress
from ecoimpact.records.reader import MAX_LINE_BYTES, PROGRESS_LINES, read_records
from ecoimpact.records.schema import FIELDS
from ecoimpact.records.segments import LogWriter
from ecoimpact.types import Assessment, Figures, Inference, Notice, Record, Usage

MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)
HOSTILE = ("=cmd()", "+1", "-1", "@x", "\tx", "\rx", '"a","b"', "two\nlines", "\x1b[31m", "\u202eabc", "x" * 300, "é", "")
FIGURES = Figures(1e-4, 2e-5, 3e-12, 4e-3, 5e-4, 6e-6, 7e-12, 8e-5)


def record(number: int = 0, *, hours: float = 0.0, known: bool = True, **labels: str) -> Record:
    """A request that began some hours after ``MIDNIGHT``."""
    inference = Inference(
        provider="openai",
        endpoint="responses",
        request_model="gpt-4o-mini",
        response_model=None,
        usage=Usage(input_tokens=12, output_tokens=34 if known else None),
        latency_s=1.5,
        time_to_first_token_s=None,
        started_at=(MIDNIGHT + timedelta(hours=hours)).timestamp(),
        stream=False,
        status="ok" if known else "error",
    )
    warnings, errors = ((Notice("w1", "x"), Notice("w2", "x")), ()) if known else ((), (Notice("e1", "x"),))
    low, high = (FIGURES, Figures(*(value and 2 * value for value in FIGURES))) if known else (None, None)
    assessment = Assessment(low, high, "ecologits-2025-09", "2026-01", zone="USA", warnings=warnings, errors=errors)
    return Record(
        id=f"r{number}", inference=inference, assessment=assessment, labels=labels, cost_usd=0.25 if known else None
    )


def write(log_dir: Path, *records: Record, now: datetime = MIDNIGHT) -> None:
    writer = LogWriter(log_dir, now=now.timestamp)
    assert writer.write_batch(records) == 0
    writer.close()


def append(log_dir: Path, *lines: str | bytes) -> None:
    """Lines that are not ours."""
    folder = log_dir / "2026-01-01"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "zz-foreign.jsonl").open("ab") as file:
        file.writelines(line.encode() if isinstance(line, str) else line for line in lines)


def exported(records: Any, format_: str) -> tuple[bytes, Exported]:
    out = io.BytesIO()
    done = export(records, out, format_)
    return out.getvalue(), done


def rows_of_csv(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8"), newline="")))


def table_of_parquet(data: bytes) -> Any:
    return import_module("pyarrow.parquet").read_table(io.BytesIO(data))


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture(name="invoke")
def _invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("ECOIMPACT_")]:
        monkeypatch.delenv(name)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(argument) for argument in arguments])


# --- formats ------------------------------------------------------------------------------------------------------------


def test_json_lines_are_the_lines_of_the_log(log_dir: Path) -> None:
    write(log_dir, *(record(number, user=text) for number, text in enumerate(HOSTILE)))
    data, done = exported(read_records(log_dir), "jsonl")
    (segment,) = log_dir.glob("*/*.jsonl")
    assert data == segment.read_bytes()
    assert done.records == len(HOSTILE)


def test_csv_has_every_field_and_numbers_in_full(log_dir: Path) -> None:
    write(log_dir, record(0, user="u1", feature="search"), record(1, known=False))
    data, done = exported(read_records(log_dir), "csv")
    known, failed = rows_of_csv(data)
    assert list(known) == [field.name for field in FIELDS]
    assert done == Exported(records=2, odd_values=0)
    for row, original in zip((known, failed), read_records(log_dir), strict=True):
        for field in FIELDS:
            value = original[field.name]
            if value is None:
                assert row[field.name] == ""
            elif field.type in ("number", "integer"):
                assert float(row[field.name]) == value
            elif field.type == "array of strings":
                assert row[field.name].split() == value
            elif field.type in ("object", "boolean"):
                assert json.loads(row[field.name]) == value
            else:
                assert row[field.name] == value


def test_csv_has_no_cell_that_a_spreadsheet_runs(log_dir: Path) -> None:
    strange = record().to_dict() | {"request_model": "=cmd()", "status": "@x", "errors": ["+e"], "output_tokens": "=1+1"}
    append(log_dir, *(json.dumps(strange | {"model": text}) + "\n" for text in HOSTILE))
    data, done = exported(read_records(log_dir), "csv")
    rows = rows_of_csv(data)
    assert len(rows) == len(HOSTILE)
    cells = [cell for row in rows for cell in row.values()]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert [row["model"].removeprefix("'") for row in rows] == list(HOSTILE)
    assert {row["output_tokens"] for row in rows} == {""}
    assert done.odd_values == len(HOSTILE)


def test_negative_numbers_stay_numbers(log_dir: Path) -> None:
    append(log_dir, json.dumps(record().to_dict() | {"latency_s": -1.5, "output_tokens": -3}) + "\n")
    (row,) = rows_of_csv(exported(read_records(log_dir), "csv")[0])
    assert (row["latency_s"], row["output_tokens"]) == ("-1.5", "-3")


def test_parquet_is_typed_by_the_schema(log_dir: Path) -> None:
    pytest.importorskip("pyarrow")
    write(
        log_dir, *(record(number, hours=number, user=text) for number, text in enumerate(HOSTILE)), record(99, known=False)
    )
    data, done = exported(read_records(log_dir), "parquet")
    table = table_of_parquet(data)
    assert done.records == table.num_rows == len(HOSTILE) + 1
    types = {field.name: str(table.schema.field(field.name).type) for field in FIELDS}
    assert types["time"] == "timestamp[us, tz=UTC]"
    assert types["labels"].startswith("map<string, string")
    assert types["warnings"].startswith("list<")
    assert (types["output_tokens"], types["energy_kwh_min"], types["stream"]) == ("int64", "double", "bool")
    for row, original in zip(table.to_pylist(), read_records(log_dir), strict=True):
        assert row.pop("time") == datetime.fromisoformat(original.pop("time"))
        assert row | {"labels": dict(row["labels"])} == original
    assert table.schema.field("energy_kwh_min").metadata[b"unit"] == b"kWh"


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(),
    st.text(st.characters()),  # lone surrogates as well
    st.lists(st.one_of(st.text(max_size=3), st.integers()), max_size=2),
    st.dictionaries(st.text(max_size=3), st.one_of(st.text(max_size=3), st.none()), max_size=2),
)


@given(st.lists(st.dictionaries(st.sampled_from([field.name for field in FIELDS]), ODD), max_size=5))
def test_odd_values_become_null_and_are_counted(records: list[dict[str, Any]]) -> None:
    counts = set()
    for format_ in FORMATS[1:]:
        data, done = exported(iter(records), format_)
        assert done.records == len(records)
        counts.add(done.odd_values)
        if format_ == "csv":
            rows = rows_of_csv(data)
            assert len(rows) == len(records)
            for row, original in zip(rows, records, strict=True):
                for name in ("energy_kwh_min", "cost_usd"):
                    value = original.get(name)
                    fits = type(value) is float and math.isfinite(value)
                    assert (float(row[name]) == value) if fits else row[name] == "" or type(value) is int
        else:
            table = table_of_parquet(data)
            assert table.num_rows == len(records)
            assert table.schema.names == [field.name for field in FIELDS]
    assert len(counts) == 1


def test_memory_holds_one_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "BATCH", 10)
    monkeypatch.setattr(exporting, "ROW_GROUP", 10)
    most_held, taken, written = 0, 0, 0
    flat = record().to_dict()

    class Out(io.BytesIO):
        def write(self, data: Any) -> int:
            nonlocal written
            written = taken
            return super().write(data)

    def source() -> Iterator[dict[str, Any]]:
        nonlocal taken, most_held
        for _ in range(1_000):
            taken += 1
            most_held = max(most_held, taken - written)
            yield flat

    for format_ in FORMATS:
        taken = written = most_held = 0
        out = Out()
        assert export(source(), out, format_).records == 1_000
        assert most_held <= 200, format_
        if format_ == "parquet":
            metadata = import_module("pyarrow.parquet").ParquetFile(io.BytesIO(out.getvalue())).metadata
            assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [100] * 10


def test_pyarrow_is_imported_for_parquet_only(log_dir: Path) -> None:
    write(log_dir, record())
    program = "import sys, ecoimpact.cli.app; assert 'pyarrow' not in sys.modules; ecoimpact.cli.app.app()"
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        program,
        "export",
        "--log",
        str(log_dir),
        "--format",
        "csv",
        "--out",
        "-",
    ]
    assert len(rows_of_csv(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout)) == 1


# --- reading a period ---------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 60), max_size=8), st.integers(-5, 65), st.integers(-5, 65))
def test_a_period_has_its_first_moment_and_not_its_last(minutes: list[int], since: int, until: int) -> None:
    from tempfile import TemporaryDirectory

    start, end = (MIDNIGHT + timedelta(minutes=number) for number in (since, until))
    with TemporaryDirectory() as folder:
        log_dir = Path(folder)
        write(log_dir, *(record(number, hours=minute / 60) for number, minute in enumerate(minutes)))
        # The same again in a spelling that is not the writer's.
        respelt = (record(number, hours=minute / 60).to_dict() for number, minute in enumerate(minutes))
        append(log_dir, *(json.dumps({"time": item.pop("time").replace("Z", "+00:00"), **item}) + "\n" for item in respelt))
        for first, last in ((start, end), (start, None), (None, end)):
            found = sorted(item["id"] for item in read_records(log_dir, since=first, until=last))
            wanted = [
                f"r{number}"
                for number, minute in enumerate(minutes)
                if (first is None or minute >= since) and (last is None or minute < until)
            ]
            assert found == sorted(wanted * 2)


def test_records_without_a_legible_time_are_skipped_where_it_matters(log_dir: Path) -> None:
    append(
        log_dir, '{"schema":1,"time":"soon"}\n', '{"schema":1}\n', '{"schema":1,"time":7}\n', '{"schema":1,"id":"x","tim\n'
    )
    append(log_dir, b"  \n", b" \n")  # where records were deleted
    reader = read_records(log_dir)
    assert (len(list(reader)), reader.skipped) == (3, 1)
    reader = read_records(log_dir, since=MIDNIGHT)
    assert (len(list(reader)), reader.skipped) == (0, 4)


def test_a_period_needs_a_time_zone(log_dir: Path) -> None:
    log_dir.mkdir()
    with pytest.raises(ValueError, match="time zone"):
        read_records(log_dir, since=MIDNIGHT.replace(tzinfo=None))


def test_progress_is_told_and_ends_at_the_end(log_dir: Path) -> None:
    number = PROGRESS_LINES + 10
    write(log_dir, *(record(n) for n in range(number)))
    told: list[Progress] = []
    assert len(list(read_records(log_dir, progress=told.append))) == number
    size = sum(path.stat().st_size for path in log_dir.glob("*/*.jsonl"))
    assert [progress.records for progress in told] == [PROGRESS_LINES - 1, number]
    assert (told[-1].bytes_done, told[-1].bytes_total) == (size, size)


def test_links_are_not_followed(log_dir: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", record())
    (folder,) = (tmp_path / "other").iterdir()
    log_dir.mkdir()
    (log_dir / "2026-01-01").symlink_to(folder)
    (log_dir / "2026-01-02").mkdir()
    (log_dir / "2026-01-02" / "a.jsonl").symlink_to(next(folder.iterdir()))
    assert list(read_records(log_dir)) == []


# --- reading from the end -----------------------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1).filter(lambda line: b"\n" not in line)), st.integers(1, 40))
def test_lines_from_the_end_are_the_lines_in_reverse(lines: list[bytes], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ecoimpact.cli.log_tail.BLOCK_BYTES", block)
        data = b"".join(line + b"\n" for line in lines)
        assert list(lines_from_the_end(io.BytesIO(data), len(data))) == lines[::-1]


def test_a_line_without_end_is_held_in_part_only() -> None:
    data = b"x" * (MAX_LINE_BYTES + 10 * BLOCK_BYTES) + b"\nlast\n"
    last, long = lines_from_the_end(io.BytesIO(data), len(data))
    assert last == b"last"
    assert len(long) <= MAX_LINE_BYTES + BLOCK_BYTES


def test_the_newest_come_from_all_processes_and_several_days(log_dir: Path) -> None:
    day = timedelta(days=1)
    for number in range(6):  # a segment each
        write(log_dir, record(number, hours=number), record(number + 10, hours=number + 0.5))
    write(log_dir, record(50, hours=24), now=MIDNIGHT + day)
    for wanted in (0, 1, 3, 9, 13, 20):
        tail = LogTail(log_dir)
        expected = sorted(read_records(log_dir), key=lambda item: item["time"])[-wanted:] if wanted else []
        assert [line.record for line in tail.newest(wanted)] == expected
        assert tail.appended() == []


def test_a_label_is_found_however_it_is_spelt(log_dir: Path) -> None:
    for value in ("u1", "é\n", 'a"b'):
        write(log_dir, record(0, user="other"), record(1, user=value), record(2, feature=value))
        (line,) = LogTail(log_dir, ("user", value)).newest(10)
        assert line.record["id"] == "r1"


def test_what_is_appended_is_seen_once_over_turns_and_torn_ends(log_dir: Path) -> None:
    write(log_dir, record(0))
    tail = LogTail(log_dir)
    assert [line.record["id"] for line in tail.newest(5)] == ["r0"]
    write(log_dir, record(2, hours=2), record(1, hours=1))  # another process
    line = json.dumps(record(3).to_dict()) + "\n"
    append(log_dir, line[:40])
    assert [found.record["id"] for found in tail.appended()] == ["r1", "r2"]
    append(log_dir, line[40:], "no record\n", b"\n", line.replace('"r3"', '"r4"'))
    assert [found.record["id"] for found in tail.appended()] == ["r3", "r4"]
    assert tail.appended() == []
    write(log_dir, record(5), now=MIDNIGHT + timedelta(days=1))
    assert [found.record["id"] for found in tail.appended()] == ["r5"]


def test_a_rewritten_segment_is_followed_from_its_end(log_dir: Path) -> None:
    write(log_dir, *(record(number) for number in range(5)))
    tail = LogTail(log_dir)
    assert len(tail.newest(9)) == 5
    (segment,) = log_dir.glob("*/*.jsonl")
    lines = segment.read_bytes().splitlines(keepends=True)
    beside = segment.with_suffix(".new")
    beside.write_bytes(b"".join(lines[:-1]))
    beside.replace(segment)
    assert tail.appended() == []
    with segment.open("ab") as file:
        file.write(lines[-1])
    assert [line.record["id"] for line in tail.appended()] == ["r4"]
    segment.unlink()
    assert tail.appended() == []


# --- the command --------------------------------------------------------------------------------------------------------


def test_the_file_is_whole_and_private_and_not_overwritten(invoke: Callable[..., Any], log_dir: Path) -> None:
    write(log_dir, record(0, user="u1"), record(1, user="u2"), record(2, user="u1", hours=48))
    append(log_dir, "torn")
    for format_ in FORMATS:
        out = log_dir.parent / f"rows.{format_}"
        result = invoke("export", "--log", log_dir, "--format", format_, "--out", out)
        assert result.exit_code == 0, result.output
        assert result.stdout == ""
        assert result.stderr == "3 records, 1 line skipped: no legible record\n"
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        before = out.read_bytes()
        refused = invoke("export", "--log", log_dir, "--format", format_, "--out", out)
        assert refused.exit_code == 2
        assert "--force" in refused.stderr
        assert out.read_bytes() == before
        arguments = ("--label", "user=u1", "--since", "2026-01-01", "--until", "2026-01-01", "--force")
        again = invoke("export", "--log", log_dir, "--format", format_, "--out", out, *arguments)
        assert again.exit_code == 0, again.output
        assert again.stderr.startswith("1 record,")
    assert [json.loads(line)["id"] for line in (log_dir.parent / "rows.jsonl").read_text().splitlines()] == ["r0"]
    assert not list(log_dir.parent.glob(".*"))


def test_standard_output_takes_every_format(log_dir: Path) -> None:
    write(log_dir, record(0), record(1))
    for format_ in FORMATS:
        command = [
            sys.executable,
            "-W",
            "error",
            "-m",
            "ecoimpact.cli",
            "export",
            "--log",
            str(log_dir),
            "--format",
            format_,
        ]
        done = subprocess.run([*command, "--out", "-"], capture_output=True, check=True, timeout=120)
        assert done.stderr == b"2 records\n"
        assert done.stdout == exported(read_records(log_dir), format_)[0]


def test_a_failed_export_leaves_nothing(invoke: Callable[..., Any], log_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(log_dir, record(0))
    out = log_dir.parent / "rows.csv"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ecoimpact.cli.export.export", full)
    result = invoke("export", "--log", log_dir, "--format", "csv", "--out", out)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "ecoimpact: No space left on device\n"
    assert [path.name for path in log_dir.parent.iterdir()] == ["log"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--format", "cvs", "--out", "x"], "Near: csv"),
        (["--format", "xlsx", "--out", "x"], "jsonl, csv, parquet"),
        (["--format", "csv", "--out", "."], "name a file"),
        (["--format", "csv", "--out", "nowhere/x"], "no directory nowhere"),
        (["--format", "csv", "--out", "x", "--label", "user"], "feature=search"),
        (["--format", "csv", "--out", "x", "--since", "soon"], "7d"),
        (["--format", "csv", "--out", "x", "--log", "nowhere"], "no log in nowhere"),
        (["--out", "x"], "--format"),
        (["--format", "csv"], "--out"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_right(
    invoke: Callable[..., Any], log_dir: Path, arguments: list[str], says: str
) -> None:
    log_dir.mkdir()
    result = invoke("export", *([] if "--log" in arguments else ["--log", log_dir]), *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not Path("x").exists()


def test_an_empty_log_gives_empty_files(invoke: Callable[..., Any], log_dir: Path) -> None:
    log_dir.mkdir()
    for format_ in FORMATS:
        result = invoke("export", "--log", log_dir, "--format", format_, "--out", f"x.{format_}")
        assert (result.exit_code, result.stderr) == (0, "0 records\n")
    assert Path("x.jsonl").read_bytes() == b""
    assert rows_of_csv(Path("x.csv").read_bytes()) == []
    assert table_of_parquet(Path("x.parquet").read_bytes()).num_rows == 0
