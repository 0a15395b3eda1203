"""Taking records out of the log: all that should go, none that should stay, whoever writes meanwhile."""

from __future__ import annotations

import json
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_logs import assert_same_index, assert_sums, counted, line, made, of, quiet, run, write

from ecoimpact.records.index import FILE_NAME, LOCK_NAME, Index, Progress
from ecoimpact.records.lock import FileLock
from ecoimpact.records.prune import Pruned, older_than, with_label
from ecoimpact.records.queries import label_keys, recent, report, total
from ecoimpact.records.reader import read_records

NOW = datetime(2026, 2, 10, 15, 0, tzinfo=UTC)


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


def ids(log_dir: Path) -> list[str]:
    return [record["id"] for record in read_records(log_dir)]


def assert_index(log_dir: Path, beside: Path) -> None:
    with Index(log_dir) as index:
        index.refresh()
        assert_sums(total(index), counted(log_dir))
        assert_same_index(index, log_dir, beside)


# --- by age -------------------------------------------------------------------------------------------------------------


def test_whole_days_before_the_given_age_go(log_dir: Path, tmp_path: Path) -> None:
    sizes = [
        write(log_dir, name, [made(24 * day, id=f"{day}{name}")], folder=f"2026-02-{day:02}").stat().st_size
        for day in range(1, 11)
        for name in "ab"
    ]
    with Index(log_dir) as index:
        index.refresh()
    expected = Pruned(14, 14, sum(sizes[:14]))
    assert older_than(log_dir, 2, now=NOW, dry_run=True) == expected
    assert len(ids(log_dir)) == 20
    assert older_than(log_dir, 2, now=NOW) == expected
    assert ids(log_dir) == ["8a", "8b", "9a", "9b", "10a", "10b"]
    assert sorted(path.name for path in log_dir.iterdir() if path.is_dir()) == ["2026-02-08", "2026-02-09", "2026-02-10"]
    assert older_than(log_dir, 2, now=NOW) == Pruned(0, 0, 0)
    assert_index(log_dir, tmp_path / "beside")
    with Index(log_dir) as index:
        assert [record["id"] for record in recent(index)] == ["10b", "10a", "9b", "9a", "8b", "8a"]


def test_other_files_and_folders_stay(log_dir: Path) -> None:
    write(log_dir, "a", [made(0)], folder="2026-01-01")
    write(log_dir, "a", [made(0)], folder="imported")
    note = log_dir / "2026-01-01" / "note.txt"
    note.write_text("mine")
    assert older_than(log_dir, 0, now=NOW).records == 1
    assert note.read_text() == "mine"
    assert len(ids(log_dir)) == 1


@pytest.mark.parametrize(("days", "now"), [(-1, NOW), (1, NOW.replace(tzinfo=None))])
def test_an_impossible_age_is_an_error(log_dir: Path, days: int, now: datetime) -> None:
    with pytest.raises(ValueError, match="days >= 0"):
        older_than(log_dir, days, now=now)


def test_an_age_beyond_all_time_removes_nothing(log_dir: Path) -> None:
    write(log_dir, "a", [made(0)])
    assert older_than(log_dir, 10**6, now=NOW) == Pruned(0, 0, 0)


# --- by label -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
def test_all_records_with_the_label_go_and_no_other(log_dir: Path, tmp_path: Path, closed: bool) -> None:
    records = [of(f"u{n % 5}" if n % 7 else None, n) for n in range(300)]
    for place in range(3):
        path = write(log_dir, f"s{place}", records[place::3], folder=f"2026-02-0{place % 2 + 1}")
        path.chmod(0o600)
    if closed:
        quiet(log_dir)
    with Index(log_dir) as index:
        index.refresh()
    gone = [record for record in records if record["labels"].get("user") in ("u1", "u2")]
    expected = Pruned(len(gone), 0, sum(len(line(record)) for record in gone))
    size = sum(path.stat().st_size for path in log_dir.glob("*/*.jsonl"))
    seen: list[Progress] = []
    assert with_label(log_dir, "user", ["u1", "u2"], dry_run=True, progress=seen.append) == expected
    assert seen[-1] == Progress(size, size, len(gone))
    assert len(ids(log_dir)) == 300
    assert with_label(log_dir, "user", ["u1", "u2"]) == expected
    assert sorted(ids(log_dir)) == sorted(record["id"] for record in records if record not in gone)
    files = list(log_dir.glob("*/*"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert len(files) == 3
    assert sum(path.stat().st_size for path in files) == (size - expected.bytes if closed else size)
    assert not any(b'"u1"' in path.read_bytes() for path in files)
    assert_index(log_dir, tmp_path / "beside")
    with Index(log_dir) as index:
        assert {group.key for group in report(index, "label:user").groups} == {"u0", "u3", "u4", "(none)"}
        assert not {record["labels"].get("user") for record in recent(index, 1000)} & {"u1", "u2"}
        assert report(index).skipped_lines == 0
    assert with_label(log_dir, "user", {"u1"}) == Pruned(0, 0, 0)


def test_a_segment_of_which_nothing_stays_goes(log_dir: Path) -> None:
    write(log_dir, "a", [of("u1"), of("u1")])
    write(log_dir, "b", [of("u2")])
    quiet(log_dir)
    found = with_label(log_dir, "user", ["u1"])
    assert (found.records, found.segments) == (2, 1)
    assert [path.name for path in log_dir.glob("*/*")] == ["b.jsonl"]


def test_the_names_leave_the_index_too(log_dir: Path) -> None:
    write(log_dir, "a", [of("somebody"), of("other")])
    with Index(log_dir) as index:
        index.refresh()
    assert b"somebody" in (log_dir / FILE_NAME).read_bytes()
    with_label(log_dir, "user", ["somebody"])
    assert b"somebody" not in (log_dir / FILE_NAME).read_bytes()
    with Index(log_dir) as index:
        assert label_keys(index) == {"feature": 1, "user": 1}


def test_a_single_text_is_one_value(log_dir: Path) -> None:
    write(log_dir, "a", [of("ab"), of("a"), of("b")])
    assert with_label(log_dir, "user", "ab").records == 1


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
def test_torn_and_foreign_lines_stay_unless_the_value_is_in_them(log_dir: Path, closed: bool) -> None:
    torn = line(of("u1", id="torn"))[:-10]
    assert b'"u1"' in torn
    lines = [b"foreign\n", torn + b"\n", b'{"user":"u1"}\n', b"\n", b"\xff\n", line(of("u2")), line(of("u1"))]
    write(log_dir, "a", [*lines, b'{"torn'])
    if closed:
        quiet(log_dir)
    assert with_label(log_dir, "user", ["u1"]).records == 1
    left = (log_dir / "2026-02-01" / "a.jsonl").read_bytes().split(b"\n")
    kept = [b"foreign", b'{"user":"u1"}', b"\xff", line(of("u2"))[:-1], b'{"torn']
    assert [part for part in left if part.strip()] == kept


_VALUES = st.sampled_from(["u1", "u", "ü", "\U0001f600", 'qu"ote', "back\\slash", "\ud800", "", " ", "a/b"])


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    there=st.lists(st.tuples(_VALUES, st.sampled_from(["ascii", "utf-8", "escaped"])), max_size=12),
    sought=st.sets(_VALUES, max_size=3),
    closed=st.booleans(),
)
def test_values_are_found_however_they_are_written(
    there: list[tuple[str, str]], sought: set[str], closed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    log_dir = tmp_path_factory.mktemp("values")

    def written(number: int, value: str, how: str) -> bytes:
        record = of(value, number)
        if how == "utf-8":
            return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        if how == "escaped" and value.isascii() and value:
            escaped = "".join(f"\\u{ord(character):04x}" for character in value)
            return line(of("HERE", number)).replace(b"HERE", escaped.encode())
        return line(record)

    write(log_dir, "a", [written(number, *each) for number, each in enumerate(there)])
    if closed:
        quiet(log_dir)
    with_label(log_dir, "user", sought)
    expected = [f"id-{number}" for number, (value, _) in enumerate(there) if value not in sought]
    assert ids(log_dir) == expected
    shutil.rmtree(log_dir)


def test_links_are_not_followed(log_dir: Path, tmp_path: Path) -> None:
    elsewhere = write(tmp_path, "a", [of("u1")], folder="elsewhere")
    write(log_dir, "b", [of("u1")])
    (log_dir / "2026-02-01" / "link.jsonl").symlink_to(elsewhere)
    (log_dir / "2026-01-01").symlink_to(elsewhere.parent)
    before = elsewhere.read_bytes()
    assert with_label(log_dir, "user", ["u1"]).records == 1
    assert older_than(log_dir, 1, now=NOW).records == 0
    assert elsewhere.read_bytes() == before


def test_nobody_else_may_change_the_index_meanwhile(log_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(log_dir, "a", [of("u1")])
    other = FileLock(log_dir / LOCK_NAME)
    assert other.acquire(0)
    acquire = FileLock.acquire
    monkeypatch.setattr(FileLock, "acquire", lambda lock, _: acquire(lock, 0))
    with pytest.raises(TimeoutError, match="another process"):
        with_label(log_dir, "user", ["u1"])
    with pytest.raises(TimeoutError, match="another process"):
        older_than(log_dir, 1, now=NOW)
    assert len(ids(log_dir)) == 1
    other.release()


# --- while others write, and killed ---------------------------------------------------------------------------------------

_WRITER = """
    import itertools, os, sys
    from pathlib import Path
    from ecoimpact.records.segments import LogWriter
    from ecoimpact.types import Assessment, Inference, Record, Usage
    inference = Inference("openai", "responses", "m", None, Usage(), None, None, float(sys.argv[2]), False, "ok")
    writer = LogWriter(sys.argv[1], max_segment_bytes=200_000, now=lambda: float(sys.argv[2]))
    for number in itertools.count():
        labels = {"user": "leaving" if number < 2000 and number % 3 == 0 else "staying"}
        assert writer.write_batch([Record(str(number), inference, Assessment(None, None, "m", "d"), labels)]) == 0
        if number == 2000:
            print("started", flush=True)
        if number > 2000 and number % 100 == 0 and Path(sys.argv[3]).exists():
            break
    print(number, flush=True)
"""


@pytest.mark.parametrize("age_days", [0, 30], ids=["today", "clock-behind"])
def test_no_record_of_a_live_writer_is_lost(log_dir: Path, tmp_path: Path, age_days: int) -> None:
    stop = tmp_path / "stop"
    moment = (datetime.now(UTC) - timedelta(days=age_days)).timestamp()
    command = [sys.executable, "-c", textwrap.dedent(_WRITER), str(log_dir), str(moment), str(stop)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "started\n"
        removed = [with_label(log_dir, "user", ["leaving"]).records for _ in range(3)]
        removed += [with_label(log_dir, "user", ["never there"]).records for _ in range(3)]
        stop.touch()
        last = int(writer.communicate(timeout=60)[0])
    assert removed == [667, 0, 0, 0, 0, 0]
    leaving = {str(number) for number in range(0, 2000, 3)}
    assert sorted(ids(log_dir), key=int) == [str(n) for n in range(last + 1) if str(n) not in leaving]
    assert_index(log_dir, tmp_path / "beside")


def test_who_has_a_segment_open_goes_on_writing_to_it(log_dir: Path) -> None:
    path = write(log_dir, "a", [of("leaving"), of("staying")])
    with path.open("ab") as segment:  # as a writer that has looked, just before, whether its segment is in place
        assert with_label(log_dir, "user", ["leaving"]).records == 1
        segment.write(line(of("staying", id="late")))
    assert ids(log_dir) == ["id-0", "late"]


_KILLED = """
    kill_at, calls = int(sys.argv[2]), [0]
    def counted(name):
        real = getattr(os, name)
        def call(*arguments, **named):
            calls[0] += 1
            if calls[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)
        setattr(os, name, call)
    for name in ("open", "fsync", "utime", "replace", "unlink", "rmdir", "fstat", "stat", "scandir"):
        counted(name)
    {call}
    print(calls[0])
"""
_CALLS = {
    "with_label": 'prune.with_label(log_dir, "user", ["u1"])',
    "older_than": "from datetime import UTC, datetime\nprune.older_than(log_dir, 2, now=datetime(2026, 2, 5, tzinfo=UTC))",
}


@pytest.mark.parametrize("name", _CALLS)
def test_killed_anywhere_the_next_run_and_the_next_refresh_make_it_whole(log_dir: Path, tmp_path: Path, name: str) -> None:
    def fill() -> None:
        shutil.rmtree(log_dir)
        for day in (1, 2, 3):
            write(
                log_dir, "a", [of(f"u{n % 3}", 24 * day + n, id=f"{day}-{n}") for n in range(20)], folder=f"2026-02-0{day}"
            )
        quiet(log_dir)
        write(log_dir, "b", [of(f"u{n % 3}", n, id=f"b-{n}") for n in range(21)], folder="2026-02-03")
        with Index(log_dir) as index:
            index.refresh()

    program = textwrap.dedent(_KILLED).replace("{call}", _CALLS[name])
    fill()
    calls = int(run(program, log_dir, -1))
    expected = sorted(ids(log_dir))
    assert 20 < len(expected) < 60
    assert calls > 20
    for kill_at in range(2, calls, max(calls // 12, 1)):
        fill()
        run(program, log_dir, kill_at, expect=-signal.SIGKILL)
        assert set(ids(log_dir)) >= set(expected), "none was lost that should stay"
        write(log_dir, "b", [of("u2", id="later")], folder="2026-02-03")
        assert_index(log_dir, tmp_path / "beside")
        run(program, log_dir, -1)
        assert sorted(ids(log_dir)) == sorted([*expected, "later"])
        assert not list(log_dir.glob("*/.*"))
        assert_index(log_dir, tmp_path / "beside")
