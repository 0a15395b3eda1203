"""The index of the log: each line counted once, whatever happens to the process, to the segments and to the index."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_logs import (
    assert_same_index,
    assert_same_report,
    assert_sums,
    counted,
    from_scratch,
    line,
    made,
    run,
    write,
)

from ecoimpact.records.index import FILE_NAME, LOCK_NAME, Index, Progress, Refreshed
from ecoimpact.records.lock import FileLock
from ecoimpact.records.names import Names
from ecoimpact.records.queries import label_keys, recent, report, total
from ecoimpact.records.reader import MAX_LINE_BYTES, read_records


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


def rows(index: Index) -> list[str]:
    return list(index.connection.iterdump())


# --- counting -----------------------------------------------------------------------------------------------------------


def test_every_record_is_counted_once(log_dir: Path) -> None:
    write(log_dir, "a", [made(n) for n in range(100)])
    with Index(log_dir) as index:
        first = index.refresh()
        assert first == Refreshed(100, first.bytes, up_to_date=True, persistent=True)
        before = rows(index)
        assert index.refresh() == Refreshed(0, 0, up_to_date=True, persistent=True)
        assert rows(index) == before
        assert_sums(total(index), counted(log_dir))
        write(log_dir, "a", [made(100)])
        write(log_dir, "b", [made(101)])
        assert index.refresh().records == 2
        assert_sums(total(index), counted(log_dir))
    with Index(log_dir) as index:
        assert total(index).requests == 102, "what was counted before is there without a refresh"
        assert index.refresh().records == 0


def test_a_line_counts_when_it_is_whole(log_dir: Path) -> None:
    whole = line(made(1))
    write(log_dir, "a", [made(0), whole[:50]])
    with Index(log_dir) as index:
        assert index.refresh().records == 1
        assert report(index).skipped_lines == 1
        write(log_dir, "a", [whole[50:-1]])
        assert index.refresh().records == 0
        write(log_dir, "a", [b"\n"])
        assert index.refresh().records == 1
        assert report(index).skipped_lines == 0
        assert_sums(total(index), counted(log_dir))


@pytest.mark.parametrize("size", [MAX_LINE_BYTES - 1, MAX_LINE_BYTES, MAX_LINE_BYTES + 1, 5 * MAX_LINE_BYTES])
def test_overlong_lines_are_skipped_where_the_reader_skips_them(log_dir: Path, size: int) -> None:
    padding = "x" * (size - len(line(made(1, padding=""))))
    long = line(made(1, padding=padding))
    assert len(long) == size
    write(log_dir, "a", [made(0), long, made(2), long, long, made(3)])
    reader = read_records(log_dir)
    with Index(log_dir) as index:
        assert index.refresh().records == len(list(reader))
        assert report(index).skipped_lines == reader.skipped


def test_lines_that_are_json_only_together_are_skipped(log_dir: Path) -> None:
    two = line(made(1))[:-1]
    write(log_dir, "a", [made(0), b'{"schema":[' + two + b"\n", two + b"]}\n", b",".join([two] * 3) + b"\n", made(2)])
    reader = read_records(log_dir)
    with Index(log_dir) as index:
        assert index.refresh().records == len(list(reader)) == 2
        assert report(index).skipped_lines == reader.skipped == 3


def test_blank_lines_are_nothing(log_dir: Path) -> None:
    write(log_dir, "a", [made(0), b"   \n", b"\n", made(1)])
    with Index(log_dir) as index:
        assert index.refresh().records == 2
        assert report(index).skipped_lines == 0


def test_links_are_not_followed(log_dir: Path, tmp_path: Path) -> None:
    real = write(tmp_path, "a", [made(0)], folder="elsewhere")
    write(log_dir, "b", [made(1)])
    (log_dir / "2026-02-01" / "link.jsonl").symlink_to(real)
    (log_dir / "2026-02-02").symlink_to(real.parent)
    with Index(log_dir) as index:
        assert index.refresh().records == 1


def test_progress_is_told_and_pauses_are_made(log_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecoimpact.records.index.CHUNK_RECORDS", 100)
    size = write(log_dir, "a", [made(n % 50) for n in range(1000)]).stat().st_size
    seen: list[Progress] = []
    pauses: list[None] = []
    with Index(log_dir) as index:
        index.refresh(progress=seen.append, pause=lambda: pauses.append(None))
    assert len(seen) > 1
    assert [progress.records for progress in seen] == sorted(progress.records for progress in seen)
    assert seen[-1] == Progress(size, size, 1000)
    assert len(pauses) > 1


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such directory"):
        Index(tmp_path / "nowhere")


# --- whatever is in the segments -----------------------------------------------------------------------------------------

_TIMES = st.one_of(
    st.integers(0, 24 * 70).map(lambda hours: made(hours)["time"]),
    st.sampled_from(
        [
            "2026-02-28T23:59:59.999999Z",
            "2026-03-01T00:00:00.000000Z",
            "2026-02-01T00:30:00+02:00",
            "2026-02-28T24:00",
            "2026-03-01",
        ]
    ),
)
_ODD: list[object] = [
    None,
    True,
    False,
    0,
    -1,
    7,
    10**400,
    2**63,
    1e300,
    -0.5,
    float("nan"),
    float("inf"),
    "",
    "text",
    "\ud800",
    "\x00",
    "x" * 300,
    [],
    ["a", 1, []],
    {},
    {"a": {}},
]
_RECORDS = st.builds(
    lambda time, model, labels, amount, number, warnings, odd: (
        made(
            number,
            time=time,
            model=model,
            labels=labels,
            energy_kwh_min=amount,
            energy_kwh_central=amount * 1.02,
            energy_kwh_max=amount * 1.1,
            warnings=warnings,
        )
        | odd
    ),
    time=_TIMES,
    model=st.sampled_from(["gpt-4o-mini", "claude", None]),
    labels=st.dictionaries(
        st.sampled_from(["feature", "user", "app"]), st.sampled_from(["x", "y", "(none)", "ü", "\ud800"])
    ),
    amount=st.floats(0, 1e6, allow_nan=False),
    number=st.integers(0, 1000),
    warnings=st.lists(st.sampled_from(["w1", "w2"]), max_size=3),
    odd=st.dictionaries(st.sampled_from([*made()]), st.sampled_from(_ODD), max_size=2),
)
_LINES = st.one_of(
    _RECORDS.map(line),
    _RECORDS.map(lambda record: json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"),
    st.sampled_from(
        [b"\n", b"null\n", b"[]\n", b"{}\n", b'{"schema":1}\n', b"\xff\xfe\n", b'{"schema":1\n', b"\r\n", b'"\n']
    ),
)


class _Log:
    """A log that things happen to."""

    def __init__(self, log_dir: Path) -> None:
        self.log_dir = log_dir
        self.index = Index(log_dir)

    def path(self, number: int) -> Path:
        return self.log_dir / f"2026-02-{number % 2 + 1:02}" / f"s{number}.jsonl"

    def append(self, number: int, lines: list[bytes]) -> None:
        self.path(number).parent.mkdir(exist_ok=True)
        with self.path(number).open("ab") as segment:
            segment.write(b"".join(lines))

    def tear(self, number: int, _: list[bytes]) -> None:
        self.append(number, [line(made(number))[: 30 + number]])

    def replace(self, number: int, lines: list[bytes]) -> None:
        self.append(number, [])
        beside = self.path(number).with_suffix(".new")
        beside.write_bytes(b"".join(lines))
        beside.replace(self.path(number))

    def shrink(self, number: int, _: list[bytes]) -> None:
        self.append(number, [])
        os.truncate(self.path(number), self.path(number).stat().st_size // 2)

    def delete(self, number: int, _: list[bytes]) -> None:
        self.path(number).unlink(missing_ok=True)

    def link(self, number: int, _: list[bytes]) -> None:
        self.append(number, [])
        link = self.path(number).with_name(f"link{number}.jsonl")
        if not link.is_symlink():
            link.symlink_to(self.path(number))

    def refresh(self, _: int, __: list[bytes]) -> None:
        self.index.refresh()

    def reopen(self, _: int, __: list[bytes]) -> None:
        self.index.close()
        self.index = Index(self.log_dir)


_HAPPENINGS = ["append"] * 4 + ["tear", "replace", "shrink", "delete", "link"] + ["refresh"] * 3 + ["reopen"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    happenings=st.lists(
        st.tuples(st.sampled_from(_HAPPENINGS), st.integers(0, 3), st.lists(_LINES, max_size=8)), min_size=1, max_size=14
    ),
    chunk_records=st.sampled_from([1, 3, 40_000]),
)
def test_whatever_happened_the_index_is_that_of_the_segments(
    happenings: list[tuple[str, int, list[bytes]]], chunk_records: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("happenings")
    log_dir, beside = folder / "log", folder / "beside"
    log_dir.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ecoimpact.records.index.CHUNK_RECORDS", chunk_records)
        log = _Log(log_dir)
        for name, number, lines in happenings:
            getattr(log, name)(number, lines)
        log.index.refresh()
        found = report(log.index)
        torn = [path for path in log_dir.glob("s*/*.jsonl") if not path.read_bytes().endswith(b"\n")]
        records = counted(log_dir)
        assert not torn
        assert_sums(found.total, records)
        assert_same_index(log.index, log_dir, beside)
        newest = sorted(records, key=lambda record: str(record["time"]))
        assert len(recent(log.index, 10_000)) == len(newest)
        log.index.close()
    shutil.rmtree(folder)


@given(lines=st.lists(_LINES, max_size=20))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_odd_lines_and_values_are_skipped_or_unknown(lines: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    log_dir = tmp_path_factory.mktemp("odd")
    write(log_dir, "a", lines)
    records = counted(log_dir)
    reader = read_records(log_dir)
    without_time = len(list(reader)) - len(records)
    with Index(log_dir) as index:
        assert index.refresh().records == len(records)
        found = report(index)
        assert_sums(found.total, records)
        assert found.skipped_lines == reader.skipped + without_time
    shutil.rmtree(log_dir)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 1e300, 10**400, -1.0, True, "1", [1]])
def test_an_odd_figure_is_unknown_between_good_ones(log_dir: Path, odd: object) -> None:
    # All in one hour and of the usual types, so that they come where nothing is looked at one by one.
    broken = [made(0, **{name: odd}) for name in ("energy_kwh_min", "energy_kwh_max", "latency_s", "cost_usd")]
    upside_down = made(0, gwp_kgco2eq_min=2.0, gwp_kgco2eq_max=1.0)
    write(log_dir, "a", [made(0), *broken, made(0), upside_down, made(0)])
    with Index(log_dir) as index:
        index.refresh()
        assert_sums(total(index), counted(log_dir))


def test_names_are_bounded_and_nothing_is_lost_from_totals(log_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Names, "MAX_VALUES", 3)
    monkeypatch.setattr(Names, "MAX_KEYS", 2)
    write(log_dir, "a", [made(n, model=f"m{n}", labels={"user": f"u{n}"}) for n in range(10)])
    write(log_dir, "b", [made(n, model=f"m{n}", labels={"a": "1", "b": "2", "c": "3"}) for n in range(10)])
    with Index(log_dir) as index:
        index.refresh()
        models, users = report(index), report(index, "label:user")
        assert {group.key for group in models.groups} == {"m0", "m1", "m2", "(other)"}
        assert {group.key for group in users.groups} == {"u0", "u1", "u2", "(other)", "(none)"}
        for found in (models, users):
            assert sum(group.totals.requests for group in found.groups) == found.total.requests == 20
        assert label_keys(index) == {"(other)": 1, "a": 1, "user": 4}
        assert {group.key: group.totals.requests for group in report(index, "label:(other)").groups} == {
            "(other)": 10,
            "(none)": 10,
        }


def test_recent_records_are_bounded(log_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecoimpact.records.folding.RECENT", 5)
    monkeypatch.setattr("ecoimpact.records.store.RECENT", 5)
    for number in (3, 1, 2):
        write(log_dir, f"s{number}", [made(10 * number + n, id=f"{number}{n}") for n in range(10)])
    with Index(log_dir) as index:
        index.refresh()
        assert [record["id"] for record in recent(index)] == ["39", "38", "37", "36", "35"]
        write(log_dir, "s1", [made(1000, id="newest"), made(0, id="oldest")])
        index.refresh()
        assert [record["id"] for record in recent(index, 3)] == ["newest", "39", "38"]
        (log_dir / "2026-02-01" / "s3.jsonl").unlink()
        assert [record["id"] for record in recent(index)] == ["newest"], "a segment that is gone is passed over"


# --- whatever happens to the process --------------------------------------------------------------------------------------

_KILLED = """
    kill_at, left = int(sys.argv[2]), [0]
    index.CHUNK_RECORDS = 40
    prepare = store.Store._prepare
    def traced(self, create):
        prepare(self, create)
        self.connection.set_trace_callback(statement)
    def statement(text):
        left[0] += 1
        if left[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    store.Store._prepare = traced
    with Index(log_dir) as i:
        i.refresh()
    print(left[0])
"""


def test_killed_at_any_statement_the_next_refresh_makes_it_whole(log_dir: Path, tmp_path: Path) -> None:
    def fill() -> None:
        for number in range(3):
            labels = [{"user": f"u{n % 7}", "feature": "f"} if n % 3 else {} for n in range(60)]
            records = [made(n, labels=of, warnings=["w"]) for n, of in enumerate(labels)]
            write(log_dir, f"s{number}", records, folder=f"2026-02-0{number % 2 + 1}")

    fill()
    statements = int(run(_KILLED, log_dir, -1))
    assert statements > 500
    for place in range(8):
        shutil.rmtree(log_dir)
        fill()
        run(_KILLED, log_dir, 2 + place * (statements - 2) // 8, expect=-9)
        with Index(log_dir) as index:
            index.refresh()
            assert_sums(total(index), counted(log_dir))
            assert_same_index(index, log_dir, tmp_path / "beside")
    # The same while a folder is forgotten.
    (log_dir / "2026-02-01" / "s0.jsonl").write_bytes(line(made(3)))
    for kill_at in (5, 9, 12, 15, 20, 30):
        run(_KILLED, log_dir, kill_at, expect=-9)
        with from_scratch(log_dir, tmp_path / "copy") as scratch:
            run(_KILLED, log_dir, -1)
            with Index(log_dir) as index:
                assert_same_report(report(index), report(scratch))
        write(log_dir, "s2", [made(kill_at)], folder="2026-02-01")
        (log_dir / "2026-02-01" / "s0.jsonl").write_bytes(line(made(kill_at)))


def test_two_processes_count_each_line_once(log_dir: Path, tmp_path: Path) -> None:
    for number in range(20):
        write(log_dir, f"s{number}", [made(n, labels={"user": f"u{n}"}) for n in range(100)])
    program = (
        "import sys\nfrom ecoimpact.records import index\nindex.CHUNK_RECORDS = 50\nsys.stdin.readline()\n"
        "print(index.Index(sys.argv[1]).refresh(wait_s=60).records)"
    )
    command = [sys.executable, "-c", program, str(log_dir)]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = [int(process.communicate(timeout=120)[0]) for process in both]
    assert sum(counts) == 2000
    with Index(log_dir) as index:
        assert index.refresh().records == 0
        assert_sums(total(index), counted(log_dir))
        assert_same_index(index, log_dir, tmp_path / "beside")


def test_who_finds_another_at_work_reads_what_there_is(log_dir: Path) -> None:
    write(log_dir, "a", [made(0)])
    with Index(log_dir) as index:
        index.refresh()
        write(log_dir, "a", [made(1)])
        other = FileLock(log_dir / LOCK_NAME)
        assert other.acquire(0)
        assert index.refresh(wait_s=0) == Refreshed(0, 0, up_to_date=False, persistent=True)
        with index.exclusive(0) as granted:
            assert not granted
        assert total(index).requests == 1
        other.release()
        assert index.refresh(wait_s=0).records == 1


def test_threads_share_an_index(log_dir: Path) -> None:
    write(log_dir, "a", [made(n) for n in range(100)])
    program = """
        found = Index(log_dir)
        errors = []
        def work():
            try:
                for _ in range(20):
                    found.refresh()
                    assert queries.report(found, "day").total.requests == 100
                    queries.recent(found)
            except BaseException as error:
                errors.append(error)
        threads = [threading.Thread(target=work) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert not errors, errors
    """
    run(program, log_dir)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_fork_in_the_middle_of_a_refresh_changes_nothing(log_dir: Path, tmp_path: Path) -> None:
    for number in range(10):
        write(log_dir, f"s{number}", [made(n, labels={"user": f"u{n}"}) for n in range(200)])
    program = """
        index.CHUNK_RECORDS = 20
        found = Index(log_dir)
        refreshing = threading.Thread(target=found.refresh)
        refreshing.start()
        children = []
        while refreshing.is_alive():
            child = os.fork()
            if not child:
                queries.total(found)
                sys.exit(0)
            children.append(child)
            if len(children) >= 100:
                break
        refreshing.join()
        assert all(os.waitpid(child, 0)[1] == 0 for child in children)
        assert found.refresh().records == 0
    """
    run(program, log_dir)
    with Index(log_dir) as index:
        assert index.refresh().records == 0
        assert_sums(total(index), counted(log_dir))
        assert_same_index(index, log_dir, tmp_path / "beside")


# --- whatever happens to the index ----------------------------------------------------------------------------------------


@pytest.fixture(name="folded")
def _folded(log_dir: Path) -> Path:
    """A log with an index of it."""
    write(log_dir, "a", [made(n, labels={"user": f"u{n}"}) for n in range(300)])
    with Index(log_dir) as index:
        index.refresh()
    return log_dir / FILE_NAME


def assert_whole(log_dir: Path, *, persistent: bool = True) -> None:
    with Index(log_dir) as index:
        assert index.refresh().persistent == persistent
        assert_sums(total(index), counted(log_dir))


def test_the_index_is_for_its_owner_only(folded: Path) -> None:
    assert stat.S_IMODE(folded.stat().st_mode) == 0o600
    assert stat.S_IMODE(folded.with_name(LOCK_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"no index at all", b"", b"SQLite format 3\0" + b"\xff" * 5000])
def test_what_is_no_index_is_made_anew(log_dir: Path, folded: Path, content: bytes) -> None:
    folded.write_bytes(content)
    with Index(log_dir) as index:
        assert total(index).requests == 0, "nothing is repaired without the lock"
    assert_whole(log_dir)


def test_a_damaged_index_is_made_anew_on_refresh_and_on_reading(log_dir: Path, folded: Path, tmp_path: Path) -> None:
    pages = folded.stat().st_size // 4096
    assert pages > 20
    whole = folded.read_bytes()
    for first in range(1, pages, 3):
        folded.write_bytes(whole[: first * 4096] + b"\xff" * (4096 * (pages - first)))
        with Index(log_dir) as index:
            assert_same_index(index, log_dir, tmp_path / "beside")
        folded.write_bytes(whole[: first * 4096] + b"\xff" * 4096 + whole[(first + 1) * 4096 :])
        with Index(log_dir) as index:
            index.refresh()
            assert_same_index(index, log_dir, tmp_path / "beside")


def test_an_index_of_another_version_is_made_anew(log_dir: Path, folded: Path) -> None:
    for version in (0, 99):
        connection = sqlite3.connect(folded)
        connection.execute(f"PRAGMA user_version={version}")
        connection.execute("DELETE FROM rollup")
        connection.commit()
        connection.close()
        assert_whole(log_dir)


@pytest.mark.parametrize("name", [FILE_NAME, LOCK_NAME])
def test_a_link_in_its_place_is_not_followed(log_dir: Path, folded: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "precious"
    target.write_bytes(b"precious")
    folded.with_name(name).unlink()
    folded.with_name(name).symlink_to(target)
    assert_whole(log_dir, persistent=False)
    assert target.read_bytes() == b"precious"


def test_something_else_in_its_place_is_left_alone(log_dir: Path, folded: Path) -> None:
    folded.unlink()
    folded.mkdir()
    assert_whole(log_dir, persistent=False)
    assert folded.is_dir()


def test_where_nothing_can_be_written_the_index_lives_in_memory(log_dir: Path, folded: Path) -> None:
    write(log_dir, "b", [made(301)])
    program = """
        if os.geteuid() == 0:
            os.setuid(65534)  # to root everything can be written
        with Index(log_dir) as i:
            done = i.refresh()
            assert (done.records, done.up_to_date, done.persistent) == (1, True, False), done
            assert queries.total(i).requests == 301
            assert i.refresh().records == 0
    """
    before = folded.read_bytes()
    with tempfile.TemporaryDirectory() as folder:  # the one of the test is closed to others
        readable = Path(folder) / "log"
        shutil.copytree(log_dir, readable)
        for path in (Path(folder), *readable.rglob("*"), readable):
            path.chmod(0o555)
        run(program, readable)
        assert (readable / FILE_NAME).read_bytes() == before
        for path in readable.rglob(""):
            path.chmod(0o755)


def test_a_full_disk_turns_the_index_into_one_in_memory(log_dir: Path, folded: Path) -> None:
    size_pages = folded.stat().st_size // 4096
    write(log_dir, "b", [made(n, labels={"user": f"v{n}"}) for n in range(500)])
    program = f"""
        prepare = store.Store._prepare
        def small(self, create):
            prepare(self, create)
            if self.connection.execute("PRAGMA database_list").fetchone()[2]:
                self.connection.execute("PRAGMA max_page_count={size_pages}")
        store.Store._prepare = small
        with Index(log_dir) as i:
            done = i.refresh()
            assert (done.records, done.up_to_date, done.persistent) == (500, True, False), done
            assert queries.total(i).requests == 800
    """
    run(program, log_dir)
    assert_whole(log_dir)


def test_rebuilding_gives_the_same(log_dir: Path, folded: Path, tmp_path: Path) -> None:
    with Index(log_dir) as index, Index(log_dir) as other:
        assert index.rebuild() == Refreshed(300, (log_dir / "2026-02-01" / "a.jsonl").stat().st_size, True, True)
        assert_same_index(index, log_dir, tmp_path / "beside")
        write(log_dir, "b", [made(0)])
        assert other.refresh().records == 1
        assert index.refresh().records == 0
        assert total(index) == total(other)


# --- whatever happens to the segments -------------------------------------------------------------------------------------


def test_a_log_that_was_moved_is_not_counted_anew(log_dir: Path, folded: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(log_dir, moved)  # with its times
    write(moved, "a", [made(300)])
    with Index(moved) as index:
        assert index.refresh().records == 1
        assert_sums(total(index), counted(moved))


def test_only_the_folder_of_a_changed_segment_is_counted_anew(log_dir: Path) -> None:
    for day in (1, 2, 3):
        write(log_dir, "a", [made(24 * day + n, warnings=["w"]) for n in (0, 1)], folder=f"2026-02-0{day}")
    with Index(log_dir) as index:
        index.refresh()
        assert report(index).warning_codes == {"w": 6}
        (log_dir / "2026-02-02" / "a.jsonl").write_bytes(line(made(48, model="another", warnings=["w"])))
        assert index.refresh().records == 1
        assert report(index).warning_codes == {"w": 5}
        assert_sums(total(index), counted(log_dir))
        shutil.rmtree(log_dir / "2026-02-01")
        assert index.refresh().records == 0
        assert_sums(total(index), counted(log_dir))
        assert {group.key for group in report(index).groups} == {"another", "gpt-4o-mini"}


def test_a_change_within_a_segment_is_noticed(log_dir: Path) -> None:
    path = write(log_dir, "a", [made(n) for n in range(50)])
    with Index(log_dir) as index:
        index.refresh()
        before, status = path.read_bytes(), path.stat()
        path.write_bytes(before.replace(line(made(25)), line(made(25, model="gpt-4o-MINI"))))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        assert path.stat().st_size == len(before)
        index.refresh()
        assert {group.key: group.totals.requests for group in report(index).groups} == {"gpt-4o-mini": 49, "gpt-4o-MINI": 1}


def test_names_that_are_no_longer_in_the_log_leave_the_index(log_dir: Path) -> None:
    write(log_dir, "a", [made(0, labels={"secret-key": "secret-value"}, model="secret-model")], folder="2026-01-01")
    write(log_dir, "a", [made(0, labels={"user": "u"})], folder="2026-01-02")
    with Index(log_dir) as index:
        index.refresh()
        assert b"secret" in (log_dir / FILE_NAME).read_bytes()
        shutil.rmtree(log_dir / "2026-01-01")
        index.refresh()
        assert b"secret" not in (log_dir / FILE_NAME).read_bytes()
        assert label_keys(index) == {"user": 1}


def test_the_connection_cannot_write(folded: Path, log_dir: Path) -> None:
    with Index(log_dir) as index:
        index.refresh()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            index.connection.execute("DELETE FROM rollup")
