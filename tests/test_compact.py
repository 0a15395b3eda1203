"""Old segments become Parquet: every record is there once, whoever reads, writes, prunes or is killed meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import object_store
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_logs import assert_same_index, assert_same_report, assert_sums, counted, line, made, of, quiet, run, write
from pyarrow.fs import FileSelector, FileType
from typer.testing import CliRunner

from ecoimpact.cli.app import app
from ecoimpact.cli.log_tail import LogTail
from ecoimpact.dashboard.requests import found, listed
from ecoimpact.records import compact as compacting
from ecoimpact.records import compact_manifest, compact_parts
from ecoimpact.records.compact import Compacted, compact
from ecoimpact.records.index import FILE_NAME, LOCK_NAME, Index, Progress
from ecoimpact.records.lock import FileLock
from ecoimpact.records.prune import Pruned, older_than, with_label
from ecoimpact.records.queries import Report, Where, label_keys, recent, report, total
from ecoimpact.records.reader import read_records
from ecoimpact.records.schema import FIELDS
from ecoimpact.storage import resolve

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
NUMBERS = frozenset(field.name for field in FIELDS if field.type == "number")
BYS = ("model", "provider", "hour", "day", "month", "label:user", "label:feature")


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


def filled(log_dir: Path, *, days: int = 3, records: int = 20) -> Path:
    """Closed segments of a few days, two a day."""
    for day in range(1, days + 1):
        for name in "ab":
            every = [of(f"u{n % 3}" if n % 5 else None, 24 * day + n, id=f"{day}{name}{n}") for n in range(records)]
            write(log_dir, name, every, folder=f"2026-02-{day:02}")
    quiet(log_dir)
    return log_dir


def canonical(records: Iterable[dict[str, Any]]) -> list[str]:
    """Texts that are equal where records are, a whole number being what it is as a float."""
    return sorted(json.dumps({name: _as_float(name, record[name]) for name in sorted(record)}) for record in records)


def _as_float(name: str, value: Any) -> Any:
    return float(value) if name in NUMBERS and type(value) is int and abs(value) <= 2**53 else value


def read(log_dir: Path) -> list[str]:
    return canonical(read_records(log_dir))


def reports(log_dir: Path) -> dict[str, Report]:
    with Index(log_dir) as index:
        index.refresh()
        labels = {f"label:{key}" for key in label_keys(index)}
        return {by: report(index, by) for by in BYS if not by.startswith("label:") or by in labels}


def files_in(log_dir: Path) -> list[Path]:
    return sorted(log_dir.glob("parquet/date=*/*.parquet"))


def digests(log_dir: Path) -> dict[Path, str]:
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in log_dir.rglob("*")
        if path.is_file() and not path.name.startswith((FILE_NAME, LOCK_NAME))
    }


def seen_outside(log_dir: Path) -> list[str]:
    """The ids that any tool finds that reads ``*.parquet``, and the segments that are left."""
    ids: list[str] = []
    if files_in(log_dir):
        ids += ds.dataset(log_dir / "parquet", partitioning="hive").to_table(columns=["id"])["id"].to_pylist()
    for path in log_dir.glob("*/*.jsonl"):
        ids += [json.loads(text)["id"] for text in path.read_text().splitlines()]
    return sorted(ids)


# --- the same records, the same figures --------------------------------------------------------------------------------


def test_records_and_reports_are_what_they_were(log_dir: Path) -> None:
    filled(log_dir)
    size = sum(path.stat().st_size for path in log_dir.glob("*/*.jsonl"))
    records, figures = read(log_dir), reports(log_dir)
    done = compact(log_dir, now=NOW)
    assert done == Compacted(
        records=120, segments=6, bytes=size, files=len(files_in(log_dir)), file_bytes=done.file_bytes, left=0
    )
    assert done.file_bytes == sum(path.stat().st_size for path in files_in(log_dir))
    assert not list(log_dir.glob("2026-*")), "neither segments nor their folders are left"
    assert read(log_dir) == records
    with Index(log_dir) as index:
        assert index.refresh().records == 0, "what was counted need not be counted again"
    assert reports(log_dir) == figures, "to the last bit"


def test_an_index_from_scratch_says_the_same(log_dir: Path, tmp_path: Path) -> None:
    filled(log_dir)
    with Index(log_dir) as index:
        index.refresh()
        newest = recent(index, 1000)
    figures = reports(log_dir)
    compact(log_dir, now=NOW)
    with Index(log_dir) as index:
        assert canonical(recent(index, 1000)) == canonical(newest)
        assert [record["time"] for record in recent(index, 7)] == [record["time"] for record in newest[:7]]
        assert index.rebuild().records == 120
        assert canonical(recent(index, 1000)) == canonical(newest)
        assert_sums(total(index), counted(log_dir))
        assert_same_index(index, log_dir, tmp_path / "beside")
    for by, told in reports(log_dir).items():
        assert_same_report(told, figures[by])


def test_a_partition_has_the_day_on_which_its_requests_began(log_dir: Path) -> None:
    filled(log_dir)
    compact(log_dir, now=NOW)
    table = ds.dataset(log_dir / "parquet", partitioning="hive").to_table()
    assert table.num_rows == 120
    days = [moment.strftime("%Y-%m-%d") for moment in table["time"].to_pylist()]
    assert days == [str(date) for date in table["date"].to_pylist()]
    assert set(table["segment"].to_pylist()) == {"a.jsonl", "b.jsonl"}
    assert table["extra"].null_count == table["absent"].null_count == 120
    assert table.schema.field("energy_kwh_min").type == pa.float64()
    assert table.schema.field("time").type == pa.timestamp("us", "UTC")


def test_a_second_run_changes_no_byte(log_dir: Path) -> None:
    filled(log_dir)
    write(log_dir, "c", [of("u1"), b"torn\n"], folder="2026-02-02")
    quiet(log_dir)
    compact(log_dir, now=NOW)
    before = digests(log_dir)
    assert len(before) > 4
    again = compact(log_dir, now=NOW)
    assert (again.records, again.segments, again.files) == (0, 0, 0)
    assert digests(log_dir) == before


def test_what_is_written_later_comes_beside_it(log_dir: Path, tmp_path: Path) -> None:
    filled(log_dir)
    compact(log_dir, now=NOW)
    before = files_in(log_dir)
    write(log_dir, "late", [of("u9", 24, id="late")], folder="2026-02-01")
    assert len(read(log_dir)) == 121
    quiet(log_dir)
    records, figures = read(log_dir), reports(log_dir)
    assert compact(log_dir, now=NOW).records == 1
    assert set(before) < set(files_in(log_dir))
    assert read(log_dir) == records
    assert reports(log_dir) == figures
    with Index(log_dir) as index:
        assert_same_index(index, log_dir, tmp_path / "beside")


def test_a_dry_run_counts_and_changes_nothing(log_dir: Path) -> None:
    filled(log_dir)
    before = digests(log_dir)
    would = compact(log_dir, now=NOW, dry_run=True)
    assert digests(log_dir) == before
    done = compact(log_dir, now=NOW)
    assert (would.records, would.segments, would.bytes) == (done.records, done.segments, done.bytes)


def test_progress_goes_to_the_end(log_dir: Path) -> None:
    size = write(log_dir, "a", [made(n % 20) for n in range(6000)]).stat().st_size
    quiet(log_dir)
    seen: list[Progress] = []
    compact(log_dir, now=NOW, progress=seen.append)
    assert [(part.bytes_total, part.records) for part in seen] == [(size, 5000)]


def test_memory_does_not_hold_more_than_so_many_rows_and_days(log_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact_parts, "ROW_GROUP", 50)
    monkeypatch.setattr(compact_parts, "BATCH", 7)
    monkeypatch.setattr(compact_parts, "MAX_OPEN", 3)
    write(log_dir, "a", [made((n * 29) % 400, id=str(n)) for n in range(20)])
    write(log_dir, "b", [made(n % 7, id=f"b{n}") for n in range(300)])
    quiet(log_dir)
    with Index(log_dir) as index:
        index.refresh()
        newest = recent(index, 5000)
    records, figures = read(log_dir), reports(log_dir)
    compact(log_dir, now=NOW)
    assert len(files_in(log_dir)) > 17, "some days have more than one file"
    assert read(log_dir) == records
    assert reports(log_dir) == figures
    with Index(log_dir) as index:
        assert canonical(recent(index, 5000)) == canonical(newest)


def test_a_segment_beyond_the_size_of_a_batch_comes_alone(log_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacting, "BATCH_BYTES", 30_000)
    filled(log_dir)
    records, figures = read(log_dir), reports(log_dir)
    assert compact(log_dir, now=NOW).segments == 6
    assert len({path.name.rpartition("-")[0] for path in files_in(log_dir)}) == 6
    assert read(log_dir) == records
    assert reports(log_dir) == figures


# --- which segments ----------------------------------------------------------------------------------------------------


def test_only_closed_segments_of_days_that_are_long_over(log_dir: Path) -> None:
    now = datetime.now(UTC)
    days = [f"{now - timedelta(days=ago):%Y-%m-%d}" for ago in range(6)]
    for day in days:
        write(log_dir, "a", [of(None, id=day)], folder=day)
    quiet(log_dir)
    open_one = write(log_dir, "b", [of(None, id="open")], folder=days[5])
    assert compact(log_dir, now=now).records == 3
    assert sorted(path.parent.name for path in log_dir.glob("*/a.jsonl")) == sorted(days[:3])
    assert open_one.exists(), "it was written to a moment ago, whatever its folder says"
    assert compact(log_dir, now=now, older_than_days=0).records == 2


def test_other_folders_go_by_the_age_of_their_segments(log_dir: Path) -> None:
    write(log_dir, "a", [of(None)], folder="imported")
    assert compact(log_dir, now=datetime.now(UTC)).segments == 0
    quiet(log_dir)
    assert compact(log_dir, now=datetime.now(UTC)).segments == 1


@pytest.mark.parametrize(("days", "now"), [(-1, NOW), (1, NOW.replace(tzinfo=None))])
def test_an_impossible_age_is_an_error(log_dir: Path, days: int, now: datetime) -> None:
    with pytest.raises(ValueError, match="days >= 0"):
        compact(log_dir, now=now, older_than_days=days)


# --- whatever is in them -----------------------------------------------------------------------------------------------


def test_lines_that_are_no_records_stay_as_they_are(log_dir: Path, tmp_path: Path) -> None:
    future = made(3, schema=99, id="future")
    odd = [b"foreign\n", b'{"schema":1}\n', line(future), line(made(0, time="soon")), b"   \n", b"\xff\n", b'{"torn']
    lines = [of("u1", 1), odd[0], of("u2", 2), *odd[1:6], of("u1", 3), odd[6]]
    write(log_dir, "a", lines)
    write(log_dir, "b", [b"nothing else\n"])
    quiet(log_dir)
    reader = read_records(log_dir)
    records, skipped, figures = canonical(reader), reader.skipped, reports(log_dir)
    done = compact(log_dir, now=NOW)
    assert (done.records, done.segments, done.left) == (3, 1, 1)
    left = [path.read_bytes() for path in sorted(log_dir.glob("*/*.jsonl"))]
    assert left == [b"".join([*odd[:4], *odd[5:]]), b"nothing else\n"]
    again = read_records(log_dir)
    assert canonical(again) == records
    assert again.skipped == skipped
    for by, told in reports(log_dir).items():
        assert_same_report(told, figures[by])
    with Index(log_dir) as index:
        assert_same_index(index, log_dir, tmp_path / "beside")


_TEXTS = st.sampled_from(["", "u1", "(none)", "ü", "\U0001f600", "\ud800", "\x00", "a,b", "x" * 300, 'qu"ote'])
_ODD = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        7,
        10**400,
        2**63,
        2**53 + 1,
        1e300,
        -0.5,
        float("nan"),
        float("inf"),
        "text",
        "\ud800",
        [],
        ["a", 1],
    ]
)
_TIMES = st.one_of(
    st.integers(0, 24 * 40).map(lambda hours: made(hours)["time"]),
    st.sampled_from(
        ["2026-02-01T00:30:00+02:00", "2026-02-28T23:59:59.999999Z", "2026-03-01", "soon", "1969-12-31T23:00Z"]
    ),
    st.sampled_from(["2026-02-01T10:99:00.000000Z", "2026-02-30T10:00:00.000000Z", "2026-02-01T10:00:00.0000001Z", 7]),
)
_LABELS: st.SearchStrategy[Any] = st.one_of(
    st.dictionaries(st.one_of(st.sampled_from(["user", "feature"]), _TEXTS), _TEXTS, max_size=3),
    st.sampled_from([None, {"user": 1}, {"user": {"a": "b"}}, []]),
)
_RECORDS = st.builds(
    lambda number, time, labels, odd, more, absent: {
        name: value
        for name, value in (made(number, time=time, labels=labels) | odd | more).items()
        if name not in absent or name == "schema"
    },
    number=st.integers(0, 500),
    time=_TIMES,
    labels=_LABELS,
    odd=st.dictionaries(st.sampled_from([*made()]), _ODD, max_size=2),
    more=st.dictionaries(st.sampled_from(["extra", "segment", "absent", "later_field", "ü"]), _ODD, max_size=1),
    absent=st.sets(st.sampled_from([*made()]), max_size=2),
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(segments=st.lists(st.lists(_RECORDS, max_size=8), min_size=1, max_size=3))
def test_every_record_comes_back_as_it_was(
    segments: list[list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    log_dir = tmp_path_factory.mktemp("any")
    for number, segment in enumerate(segments):
        write(log_dir, f"s{number}", segment)
    quiet(log_dir)
    records, figures = read(log_dir), reports(log_dir)
    compact(log_dir, now=NOW)
    assert read(log_dir) == records
    carried = reports(log_dir)
    (log_dir / FILE_NAME).unlink()
    for told in (carried, reports(log_dir)):
        for by in figures:
            assert_same_report(told[by], figures[by])
    shutil.rmtree(log_dir)


# --- killed, and in company --------------------------------------------------------------------------------------------

_KILLED = """
    import shutil
    from datetime import UTC, datetime
    import pyarrow.compute, pyarrow.parquet
    from ecoimpact.records import compact
    base, calls = log_dir.parent, [0]
    def attempt(log_dir, kill_at):
        def counted(name):
            real = getattr(os, name)
            def call(*arguments, **named):
                calls[0] += 1
                if calls[0] == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **named)
            setattr(os, name, call)
        child = os.fork()
        if not child:
            for name in "open fsync utime replace rename unlink rmdir mkdir fstat lstat scandir".split():
                counted(name)
            {call}
            (base / "calls").write_text(str(calls[0]))
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert attempt(shutil.copytree(log_dir, base / "whole"), -1) == 0
    number = int((base / "calls").read_text())
    assert number > 40
    for kill_at in range(2, number, max(number // {kills}, 1)):
        assert attempt(shutil.copytree(log_dir, base / f"killed-{kill_at}"), kill_at) == -signal.SIGKILL
"""
_AGAIN = """
    from datetime import UTC, datetime
    from ecoimpact.records import compact
    for log_dir in log_dir.parent.glob("killed-*"):
        {call}
"""
_COMPACT = "compact.compact(log_dir, now=datetime(2026, 3, 10, tzinfo=UTC))"
_FORGET = 'prune.with_label(log_dir, "user", ["u1"])'
_AGE = "prune.older_than(log_dir, 2, now=datetime(2026, 2, 4, tzinfo=UTC))"


def _filled_for_kills(log_dir: Path) -> Path:
    filled(log_dir, days=2, records=8)
    write(log_dir, "a", [of("u1", schema=99, id="future")], folder="2026-02-01")
    write(log_dir, "c", [of("u1", 5, id="c")], folder="2026-02-02")
    quiet(log_dir)
    return log_dir


def _killed(log_dir: Path, call: str, kills: int) -> list[Path]:
    """Copies of the log in which a call was killed, each at another use of the file system."""
    with Index(log_dir) as index:
        index.refresh()
    run(textwrap.dedent(_KILLED).replace("{call}", call).replace("{kills}", str(kills)), log_dir)
    copies = sorted(log_dir.parent.glob("killed-*"))
    assert len(copies) >= kills
    return copies


def _run_again(log_dir: Path, call: str) -> None:
    run(textwrap.dedent(_AGAIN).replace("{call}", call), log_dir)


def left_over(log_dir: Path) -> list[Path]:
    return [path for path in log_dir.rglob(".*") if path.name != LOCK_NAME]


def test_killed_anywhere_no_reader_sees_a_difference(log_dir: Path, tmp_path: Path) -> None:
    _filled_for_kills(log_dir)
    records, figures, ids = read(log_dir), reports(log_dir), seen_outside(log_dir)
    killed = _killed(log_dir, _COMPACT, 30)
    assert len({len(list(log.glob("*/*.jsonl"))) for log in killed}) > 2, "it was killed in the middle of things"
    for log in killed:
        assert read(log) == records
        in_parquet = [name for path in files_in(log) for name in pq.read_table(path, columns=["id"])["id"].to_pylist()]
        assert max(Counter(in_parquet).values(), default=1) == 1, "Parquet by itself has nothing twice"
        for by, told in reports(log).items():
            assert_same_report(told, figures[by])
    _run_again(log_dir, _COMPACT)
    for log in [*killed, tmp_path / "whole"]:
        assert seen_outside(log) == ids
        assert read(log) == records
        assert not left_over(log)
        assert [path.name for path in log.glob("*/*.jsonl")] == [path.name for path in log.glob("*/*.rest.jsonl")]
        for by, told in reports(log).items():
            assert_same_report(told, figures[by])


@pytest.mark.parametrize("call", [_FORGET, _AGE], ids=["label", "age"])
def test_prune_killed_anywhere_is_made_whole_by_the_next_run(log_dir: Path, tmp_path: Path, call: str) -> None:
    compact(_filled_for_kills(log_dir), now=NOW)
    before = set(read(log_dir))
    killed = _killed(log_dir, call, 12)
    expected = read(tmp_path / "whole")
    assert 5 < len(expected) < len(before) - 3
    for log in killed:
        left = read(log)
        assert len(left) == len(set(left))
        assert set(expected) <= set(left) <= before
        with Index(log) as index:
            index.refresh()
            assert total(index).requests == len(left)
    _run_again(log_dir, call)
    for log in killed:
        assert read(log) == expected
        assert not left_over(log)
        with Index(log) as index:
            index.refresh()
            assert_same_index(index, log, tmp_path / "beside")


_WRITER = """
    import itertools, sys
    from pathlib import Path
    from ecoimpact.records.segments import LogWriter
    from ecoimpact.types import Assessment, Inference, Record, Usage
    inference = Inference("openai", "responses", "m", None, Usage(), None, None, float(sys.argv[2]), False, "ok")
    writer = LogWriter(sys.argv[1], max_segment_bytes=100_000, now=lambda: float(sys.argv[2]))
    for number in itertools.count():
        assert writer.write_batch([Record(str(number), inference, Assessment(None, None, "m", "d"), {})]) == 0
        if number == 500:
            print("started", flush=True)
        if number > 500 and Path(sys.argv[3]).exists():
            break
    print(number, flush=True)
"""


def test_no_record_of_a_live_writer_is_lost(log_dir: Path, tmp_path: Path) -> None:
    filled(log_dir)
    stop = tmp_path / "stop"
    moment = datetime(2026, 2, 2, 5, 0, tzinfo=UTC).timestamp()  # its clock is wrong, and its folder is an old one
    command = [sys.executable, "-c", textwrap.dedent(_WRITER), str(log_dir), str(moment), str(stop)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "started\n"
        assert compact(log_dir, now=NOW).records == 120
        assert compact(log_dir, now=NOW).records == 0
        stop.touch()
        last = int(writer.communicate(timeout=60)[0])
    ids = [record["id"] for record in read_records(log_dir)]
    assert len(ids) == len(set(ids)) == 120 + last + 1
    with Index(log_dir) as index:
        index.refresh()
        assert_same_index(index, log_dir, tmp_path / "beside")


@pytest.mark.parametrize("after", [0, 1, 25, 60])
def test_who_reads_meanwhile_gets_every_record_once(log_dir: Path, after: int) -> None:
    filled(log_dir)
    write(log_dir, "b", [made(3, schema=99)], folder="2026-02-03")
    quiet(log_dir)
    records = read(log_dir)
    reader = read_records(log_dir)
    begun = [next(reader) for _ in range(after)]
    compact(log_dir, now=NOW)
    assert canonical([*begun, *reader]) == records
    assert reader.skipped == 0
    reader = read_records(log_dir)
    begun = [next(reader) for _ in range(after)]
    staying = [record for record in records if json.loads(record)["labels"].get("user") != "u1"]
    with_label(log_dir, "user", ["u1"])
    got = canonical([*begun, *reader])
    assert set(staying) <= set(got)
    assert len(got) == len(set(got))
    assert reader.skipped == 0


def test_one_run_at_a_time(log_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(log_dir)
    other = FileLock(log_dir / LOCK_NAME)
    assert other.acquire(0)
    acquire = FileLock.acquire
    monkeypatch.setattr(FileLock, "acquire", lambda lock, _: acquire(lock, 0))
    with pytest.raises(TimeoutError, match="another process"):
        compact(log_dir, now=NOW)
    assert not (log_dir / compact_manifest.FILE_NAME).exists()
    other.release()


def test_a_disk_that_fails_leaves_everything_as_it_was(log_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(log_dir)
    records = read(log_dir)
    fsync, calls = os.fsync, [0]

    def failing(fd: int) -> None:
        calls[0] += 1
        if calls[0] == 4:
            raise OSError(28, "No space left on device")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="No space left"):
        compact(log_dir, now=NOW)
    monkeypatch.undo()
    assert read(log_dir) == records
    assert not files_in(log_dir)
    assert compact_manifest.read(log_dir).is_settled
    assert compact(log_dir, now=NOW).records == 120


# --- privacy -----------------------------------------------------------------------------------------------------------


def test_files_are_for_their_owner_only(log_dir: Path) -> None:
    filled(log_dir)
    write(log_dir, "a", [b"torn\n"], folder="2026-02-02")
    quiet(log_dir)
    old = os.umask(0)
    try:
        compact(log_dir, now=NOW)
    finally:
        os.umask(old)
    made_here = [
        *log_dir.glob("parquet/**/*"),
        *log_dir.glob("*/*.rest.jsonl"),
        log_dir / "parquet",
        log_dir / "compacted.json",
    ]
    modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in made_here}
    assert modes == {(True, 0o700), (False, 0o600)}


def test_links_are_refused(log_dir: Path, tmp_path: Path) -> None:
    filled(log_dir)
    records = read(log_dir)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (log_dir / "parquet").symlink_to(elsewhere)
    with pytest.raises(OSError, match="is a link"):
        compact(log_dir, now=NOW)
    (log_dir / "parquet").unlink()
    (log_dir / "parquet").mkdir()
    (log_dir / "parquet" / "date=2026-02-02").symlink_to(elsewhere)
    with pytest.raises(OSError, match="is a link"):
        compact(log_dir, now=NOW)
    assert not list(elsewhere.iterdir())
    assert read(log_dir) == records


def test_only_files_of_our_own_are_ever_deleted(log_dir: Path, tmp_path: Path) -> None:
    filled(log_dir)
    compact(log_dir, now=NOW)
    foreign = [tmp_path / "mine.parquet", log_dir / "parquet" / "date=2026-02-02" / "mine.parquet"]
    for path in foreign:
        path.write_text("mine")
    manifest = compact_manifest.read(log_dir)
    dropped = ("../mine.parquet", "parquet/date=2026-02-02/mine.parquet", f"{LOCK_NAME}")
    compact_manifest.write(log_dir, compact_manifest.Manifest(manifest.files, dropped=dropped))
    compact_manifest.recover(log_dir)
    assert [path.read_text() for path in foreign] == ["mine", "mine"]
    assert (log_dir / LOCK_NAME).exists()
    assert len(read(log_dir)) == 120


def test_prune_by_label_takes_records_out_of_parquet(log_dir: Path, tmp_path: Path) -> None:
    filled(log_dir)
    write(log_dir, "odd", [of("u1", 30, surplus="field"), of("u1\ud800", 31), of("u2", 31, surplus=1)], folder="2026-02-02")
    write(log_dir, "alone", [of("u1", 24 * 30, id="alone")], folder="2026-02-03")
    quiet(log_dir)
    with Index(log_dir) as index:
        index.refresh()
    compact(log_dir, now=NOW)
    every = [json.loads(record) for record in read(log_dir)]
    leaving = [record for record in every if record["labels"].get("user") in ("u1", "u1\ud800")]
    before = sum(path.stat().st_size for path in files_in(log_dir))
    would = with_label(log_dir, "user", ["u1", "u1\ud800"], dry_run=True)
    assert len(read(log_dir)) == len(every)
    done = with_label(log_dir, "user", ["u1", "u1\ud800"])
    assert (would.records, would.files) == (done.records, done.files) == (len(leaving), done.files)
    assert done.files > 3
    assert before - done.bytes == sum(path.stat().st_size for path in files_in(log_dir))
    assert read(log_dir) == canonical(record for record in every if record not in leaving)
    assert not list(log_dir.glob("parquet/date=2026-03-02")), "with its last record a file goes, and its partition"
    everything = b"".join(path.read_bytes() for path in log_dir.rglob("*") if path.is_file())
    assert b"alone" not in everything
    with Index(log_dir) as index:
        assert_same_index(index, log_dir, tmp_path / "beside")
        assert {group.key for group in report(index, "label:user").groups} == {"u0", "u2", "(none)"}
        assert not [record for record in recent(index, 1000) if record["labels"].get("user") == "u1"]
    assert with_label(log_dir, "user", ["u1"]) == Pruned(0, 0, 0)
    assert with_label(log_dir, "user", ["u0"]).records > 0, "a file that was replaced once can be replaced again"
    assert not [record for record in read_records(log_dir) if record["labels"].get("user") == "u0"]


def test_prune_by_age_drops_the_files_of_old_folders(log_dir: Path, tmp_path: Path) -> None:
    filled(log_dir)
    expected = older_than(_copy(log_dir, tmp_path / "plain"), 1, now=datetime(2026, 2, 4, tzinfo=UTC))
    compact(log_dir, now=NOW)
    assert older_than(log_dir, 1, now=datetime(2026, 2, 4, tzinfo=UTC), dry_run=True).records == expected.records
    done = older_than(log_dir, 1, now=datetime(2026, 2, 4, tzinfo=UTC))
    assert done.records == expected.records == 80
    assert done.files > 0
    assert read(log_dir) == read(tmp_path / "plain")
    with Index(log_dir) as index:
        assert_same_index(index, log_dir, tmp_path / "beside")


def _copy(log_dir: Path, beside: Path) -> Path:
    shutil.copytree(log_dir, beside)
    return beside


# --- files that are elsewhere, gone or damaged -------------------------------------------------------------------------


def test_a_log_can_be_moved_with_its_parquet(log_dir: Path, tmp_path: Path) -> None:
    filled(log_dir)
    records, figures = read(log_dir), reports(log_dir)
    compact(log_dir, now=NOW)
    moved = tmp_path / "moved"
    log_dir.rename(moved)
    assert read(moved) == records
    assert reports(moved) == figures


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with object_store.store() as address:
        yield f"{object_store.use(address, monkeypatch)}/impacts"


@pytest.mark.parametrize("kind", ["path", "url", "s3"])
def test_parquet_can_be_elsewhere(log_dir: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    filled(log_dir)
    records, figures = read(log_dir), reports(log_dir)
    folder = tmp_path / "lake" / "impacts"
    out = {"path": str(folder), "url": folder.as_uri(), "s3": ""}[kind] or str(request.getfixturevalue("s3"))
    filesystem, place = resolve(out)

    def rows() -> int:
        return int(ds.dataset(place, filesystem=filesystem, partitioning="hive").count_rows())

    def names() -> list[str]:
        there = filesystem.get_file_info(FileSelector(place, recursive=True, allow_not_found=True))
        return [each.base_name for each in there if each.type == FileType.File]

    compact(log_dir, out, now=NOW)
    assert not (log_dir / "parquet").exists()
    assert rows() == 120
    assert read(log_dir) == records
    assert reports(log_dir) == figures
    with_label(log_dir, "user", ["u1"])
    assert len(read(log_dir)) == rows() == 84
    with Index(log_dir) as index:
        assert index.rebuild().records == 84
        assert len(recent(index, 500)) == 84
    manifest = compact_manifest.read(log_dir)
    assert sorted(names()) == sorted(file.path.rpartition("/")[2] for file in manifest.files)
    # A run that was killed before it listed its files:
    batch = manifest.files[0].path.rpartition("-")[0].rpartition("-")[2]
    lost = [file for file in manifest.files if f"-{batch}-" in file.path]
    kept = tuple(file for file in manifest.files if file not in lost)
    compact_manifest.write(log_dir, compact_manifest.Manifest(kept, making=compact_manifest.Making(out, batch)))
    compact_manifest.recover(log_dir)
    assert sorted(names()) == sorted(file.path.rpartition("/")[2] for file in kept)
    assert older_than(log_dir, 0, now=NOW).files == len(kept)
    assert names() == []


@pytest.mark.parametrize("harm", ["gone", "cut", "foreign", "flipped"])
def test_a_file_that_cannot_be_read_is_said_and_skipped(log_dir: Path, caplog: pytest.LogCaptureFixture, harm: str) -> None:
    filled(log_dir)
    compact(log_dir, now=NOW)
    path = max(files_in(log_dir), key=lambda path: path.stat().st_size)
    lost = pq.read_metadata(path).num_rows
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(content[:-100])
    elif harm == "foreign":
        path.write_bytes(b"no Parquet")
    else:
        times = pq.read_metadata(path).row_group(0).column(2)
        at = (times.dictionary_page_offset or times.data_page_offset) + times.total_compressed_size - 4
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
    reader = read_records(log_dir)
    assert len(list(reader)) == 120 - lost
    assert reader.skipped == lost
    assert "cannot be read" in caplog.text
    with Index(log_dir) as index:
        refreshed = index.refresh()
        assert total(index).requests == 120 - (lost if refreshed.records else 0)
        assert index.rebuild().records == total(index).requests == len(list(read_records(log_dir)))
        assert report(index).skipped_lines == lost
        assert index.refresh().records == 0, "what is damaged is not counted anew at every look"
        assert recent(index, 500)
    assert LogTail(log_dir).newest(5)
    if harm == "gone":
        assert with_label(log_dir, "user", ["u1"]).records > 0
    else:
        with pytest.raises(OSError, match="records may be left"):
            with_label(log_dir, "user", ["u1"])
    assert not [record for record in read_records(log_dir) if record["labels"].get("user") == "u1"], "all that is legible"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"version": 2, "files": []}', b'{"version": 1}', b"\xff"])
def test_a_manifest_that_is_none_is_said(log_dir: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    filled(log_dir)
    (log_dir / compact_manifest.FILE_NAME).write_bytes(content)
    assert len(read(log_dir)) == 120
    assert "compacted.json cannot be read" in caplog.text
    with Index(log_dir) as index:
        assert index.refresh().records == 120
    for change in (lambda: compact(log_dir, now=NOW), lambda: older_than(log_dir, 1, now=NOW)):
        with pytest.raises(OSError, match=r"compacted\.json cannot be read"):
            change()
    assert len(list(log_dir.glob("*/*.jsonl"))) == 6


def test_a_manifest_that_is_gone_is_said(log_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(log_dir)
    compact(log_dir, now=NOW)
    content = (log_dir / compact_manifest.FILE_NAME).read_bytes()
    (log_dir / compact_manifest.FILE_NAME).unlink()
    assert read(log_dir) == []
    assert "compacted.json is gone" in caplog.text
    with pytest.raises(OSError, match=r"compacted\.json is gone"):
        compact(log_dir, now=NOW)
    (log_dir / compact_manifest.FILE_NAME).write_bytes(content)
    assert len(read(log_dir)) == 120


def test_a_file_of_a_version_that_knew_fewer_fields_is_read(log_dir: Path, tmp_path: Path) -> None:
    filled(log_dir)
    compact(log_dir, now=NOW)
    records = [json.loads(record) for record in read(log_dir)]
    for path in files_in(log_dir):
        table = pq.read_table(path, partitioning=None).drop_columns(["service_tier", "wcf_l_central"])
        pq.write_table(table, path)
    for record in records:
        del record["service_tier"], record["wcf_l_central"]
    assert read(log_dir) == canonical(records)
    with Index(log_dir) as index:
        assert index.refresh().records == 120
        assert_sums(total(index), counted(log_dir))


def test_the_dashboard_finds_single_requests(log_dir: Path) -> None:
    filled(log_dir)
    compact(log_dir, now=NOW)
    with Index(log_dir) as index:
        index.refresh()
        assert [row["labels"]["user"] for row in listed(index, Where(label=("user", "u1")), 5)] == ["u1"] * 5
        assert found(index, "2b7") == of("u1", 55, id="2b7")


_WITHOUT = """
    sys.modules["pyarrow"] = None
    import importlib.util
    find = importlib.util.find_spec
    from ecoimpact.records import compact_rows, prune
    compact_rows.find_spec = lambda name: None if name == "pyarrow" else find(name)
    from ecoimpact.records.reader import read_records
    reader = read_records(log_dir)
    print(len(list(reader)), reader.skipped)
    with Index(log_dir) as index:
        print(index.refresh().records, queries.total(index).requests, queries.report(index).skipped_lines)
        index.rebuild()
        print(queries.total(index).requests, queries.report(index).skipped_lines)
    try:
        prune.with_label(log_dir, "user", ["u1"])
    except ModuleNotFoundError as error:
        print(error)
"""


def test_without_pyarrow_it_is_said_what_to_install(log_dir: Path) -> None:
    filled(log_dir)
    write(log_dir, "new", [made(1)])
    with Index(log_dir) as index:
        index.refresh()
    compact(log_dir, now=NOW)
    told = run(_WITHOUT, log_dir).splitlines()
    assert told[:3] == ["1 120", "0 121 0", "1 120"], "what is counted stays counted; what is not cannot be"
    assert told[3] == 'some of this log is Parquet, which needs pyarrow: pip install "ecoimpact[lake]"'
    with Index(log_dir) as index:
        index.refresh()
        assert total(index).requests == 121, "with pyarrow there it is counted after all"
        assert report(index).skipped_lines == 0


# --- the commands ------------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_did(log_dir: Path) -> None:
    for name in "ab":
        write(log_dir, name, [of(f"u{n % 3}", n % 2, id=f"{name}{n}") for n in range(1200)])
    quiet(log_dir)
    cli = CliRunner()
    would = cli.invoke(app, ["compact", "--log", str(log_dir), "--dry-run"])
    assert would.exit_code == 0, would.output
    assert would.stdout.startswith("2,400 records of 2 segments, ")
    assert would.stdout.endswith(" MB, would be compacted\n")
    done = cli.invoke(app, ["compact", "--log", str(log_dir)])
    assert done.exit_code == 0, done.output
    assert "are now" in done.stdout
    assert "% less" in done.stdout
    again = cli.invoke(app, ["compact", "--log", str(log_dir)])
    assert again.stdout == "nothing to compact\n"
    tail = cli.invoke(app, ["tail", "--log", str(log_dir), "-n", "3", "--json"])
    newest = sorted(read_records(log_dir), key=lambda record: str(record["time"]))[-3:]
    assert [json.loads(text)["time"] for text in tail.stdout.splitlines()] == [record["time"] for record in newest]
    export = cli.invoke(app, ["export", "--log", str(log_dir), "--format", "jsonl", "--out", str(log_dir / "all.jsonl")])
    assert export.exit_code == 0, export.output
    assert canonical(map(json.loads, (log_dir / "all.jsonl").read_text().splitlines())) == read(log_dir)
    prune = cli.invoke(app, ["prune", "--log", str(log_dir), "--label", "user=u1", "--yes"])
    assert " records from " in prune.stdout
    assert " Parquet file" in prune.stdout


@pytest.mark.parametrize("out", ["file", "s3://", "nowhere://bucket/x"])
def test_an_impossible_place_is_wrong_usage(log_dir: Path, tmp_path: Path, out: str) -> None:
    filled(log_dir)
    (tmp_path / "file").touch()
    place = out if "://" in out else str(tmp_path / out)
    done = CliRunner().invoke(app, ["compact", "--log", str(log_dir), "--out", place])
    assert done.exit_code == 2, done.output
    assert "--out" in done.output
    assert len(list(log_dir.glob("*/*.jsonl"))) == 6
