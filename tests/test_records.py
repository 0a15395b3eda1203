"""The way of a record to disk: bounded, counted, and whole whatever happens to the process.

Nothing here sleeps or looks at a clock: tests wait for events, with limits that only a broken build reaches.
"""

from __future__ import annotations

import errno
import functools
import gc
import io
import json
import logging
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecoimpact.records import schema
from ecoimpact.records.pipeline import Pipeline
from ecoimpact.records.reader import MAX_LINE_BYTES, read_records
from ecoimpact.records.segments import LogWriter, to_json
from ecoimpact.records.worker import BATCH_SIZE, Worker
from ecoimpact.types import Assessment, Figures, Inference, Notice, Record, Usage

LIMIT_S = 30.0
MIDNIGHT = 1_767_225_600.0  # 2026-01-01T00:00:00Z

INFERENCE = Inference(
    provider="openai",
    endpoint="chat.completions",
    request_model="gpt-4o-mini",
    response_model="gpt-4o-mini-2024-07-18",
    usage=Usage(input_tokens=12, output_tokens=34),
    latency_s=1.5,
    time_to_first_token_s=None,
    started_at=MIDNIGHT + 0.25,
    stream=False,
    status="ok",
)
FIGURES = Figures(1e-4, 2e-5, 3e-12, 4e-3, 5e-4, 6e-6, 7e-12, 8e-5)
ASSESSMENT = Assessment(FIGURES, FIGURES, "ecologits-2025-09", "2026-01", zone="USA", warnings=(Notice("code", "words"),))


def record(number: int = 0, **labels: str) -> Record:
    return Record(id=f"r{number}", inference=INFERENCE, assessment=ASSESSMENT, labels=labels)


def ids(log_dir: Path) -> list[str]:
    return [item["id"] for item in read_records(log_dir)]


def segments(log_dir: Path) -> list[Path]:
    return sorted(log_dir.glob("*/*.jsonl"))


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture(name="pipeline")
def _pipeline(log_dir: Path) -> Iterator[Pipeline]:
    pipeline = Pipeline([LogWriter(log_dir)])
    yield pipeline
    assert pipeline.close(LIMIT_S)


class Hanging:
    """A sink that says when it is reached and then waits to be let go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.release = threading.Event()
        self.seen = 0

    def __call__(self, _: Record) -> None:
        self.reached.set()
        assert self.release.wait(LIMIT_S)
        self.seen += 1


def run(source: str, *arguments: object, expect: int = 0) -> str:
    """A program of its own: ``source`` after the imports that all of them need."""
    head = """
        import functools, os, signal, sys, threading
        from pathlib import Path
        from ecoimpact.records.pipeline import Pipeline
        from ecoimpact.records.segments import LogWriter
        from ecoimpact.types import Assessment, Inference, Record, Usage
        log_dir = Path(sys.argv[1])
        inference = Inference("openai", "responses", "m", None, Usage(), None, None, 0.0, False, "ok")
        def build(name):
            return lambda: Record(str(name), inference, Assessment(None, None, "m", "d"))
        pipeline = Pipeline([LogWriter(log_dir)], flush_interval_s=60)
    """
    program = textwrap.dedent(head) + textwrap.dedent(source)
    # Forking with our thread alive is what these programs are about; newer Pythons warn of it.
    command = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-c", program]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == expect, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


# --- the queue ----------------------------------------------------------------------------------------------------------


def test_records_reach_the_log_and_every_exporter_in_order(log_dir: Path) -> None:
    seen: list[str] = []
    pipeline = Pipeline([LogWriter(log_dir), lambda item: seen.append(item.id)])
    for number in range(3 * BATCH_SIZE):
        pipeline.put(lambda number=number: record(number))  # type: ignore[misc]
    assert pipeline.flush(LIMIT_S)
    expected = [f"r{number}" for number in range(3 * BATCH_SIZE)]
    assert seen == expected
    assert ids(log_dir) == expected
    assert pipeline.drops() == {}
    assert pipeline.close(LIMIT_S)


def test_nothing_runs_before_the_first_put(log_dir: Path) -> None:
    pipeline = Pipeline([LogWriter(log_dir)])
    assert pipeline.flush(0)
    assert isinstance(pipeline._builder, Worker)
    assert not pipeline._builder._running
    assert pipeline.close(0)
    assert not log_dir.exists()


def test_nothing_is_held_once_it_is_delivered(pipeline: Pipeline) -> None:
    class Answer:
        pass

    answers = [Answer() for _ in range(3)]
    held = [weakref.ref(answer) for answer in answers]
    while answers:
        pipeline.put(functools.partial(print, answers.pop(), end="", file=io.StringIO()))
    assert pipeline.flush(LIMIT_S)
    assert [ref() for ref in held] == [None] * 3


def test_records_are_written_without_a_flush_too() -> None:
    written = threading.Event()
    pipeline = Pipeline([lambda _: written.set()], flush_interval_s=0)
    pipeline.put(record)
    assert written.wait(LIMIT_S)
    written.clear()
    pipeline.put(record)  # the thread sleeps, or is about to
    assert written.wait(LIMIT_S)
    assert pipeline.close(LIMIT_S)


def test_a_half_full_queue_is_not_kept_waiting_for_the_interval() -> None:
    enough = threading.Event()
    worker: Worker[int] = Worker(lambda batch: enough.set(), capacity=8, linger_s=10 * LIMIT_S, on_full=pytest.fail)
    for number in range(5):
        worker.put(number)
    assert enough.wait(LIMIT_S)
    worker.stop()


def test_when_full_the_newest_is_dropped_and_counted() -> None:
    hanging = Hanging()
    pipeline = Pipeline([], capacity=3)

    def first() -> None:
        hanging(record())

    pipeline.put(first)
    pipeline._builder.deliver_at_once()
    assert hanging.reached.wait(LIMIT_S)
    built: list[int] = []
    for number in range(5):
        pipeline.put(lambda number=number: built.append(number))  # type: ignore[misc]
    assert pipeline.drops() == {"queue-full": 2}
    hanging.release.set()
    assert pipeline.close(LIMIT_S)
    assert built == [0, 1, 2]


def test_every_put_of_eight_threads_is_written_or_counted(log_dir: Path) -> None:
    threads, each = 8, 2_000
    pipeline = Pipeline([LogWriter(log_dir)], capacity=500, flush_interval_s=0)
    start = threading.Barrier(threads)

    def work(thread: int) -> None:
        start.wait(LIMIT_S)
        for number in range(each):
            pipeline.put(lambda: record(thread * each + number))  # noqa: B023 - the record's id does not matter

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(LIMIT_S)
    assert pipeline.close(LIMIT_S)
    written = len(ids(log_dir))
    assert written > 0
    assert written + sum(pipeline.drops().values()) == threads * each
    assert set(pipeline.drops()) <= {"queue-full"}


def test_put_works_in_finalisers_and_signal_handlers(pipeline: Pipeline, log_dir: Path) -> None:
    class Abandoned:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            pipeline.put(record)

    def busy(number: int) -> Record:
        Abandoned()
        return record(number)

    before, threshold = signal.getsignal(signal.SIGALRM), gc.get_threshold()
    signal.signal(signal.SIGALRM, lambda *_: pipeline.put(record))
    gc.set_threshold(1)  # collect at every opportunity: on this thread inside put, on the other while it writes
    try:
        for number in range(300):
            Abandoned()
            pipeline.put(lambda number=number: busy(number))  # type: ignore[misc]
            if number % 50 == 0:
                signal.raise_signal(signal.SIGALRM)
    finally:
        gc.set_threshold(*threshold)
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    assert pipeline.flush(LIMIT_S)
    gc.collect()
    assert pipeline.flush(LIMIT_S)
    assert len(ids(log_dir)) == 300 + 300 + 300 + 6
    assert pipeline.drops() == {}


def test_a_record_that_cannot_be_built_is_counted(
    pipeline: Pipeline, log_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Record:
        raise RuntimeError("CANARY")

    for build in (broken, broken, lambda: None, record):
        pipeline.put(build)
    assert pipeline.flush(LIMIT_S)
    assert ids(log_dir) == ["r0"]
    assert pipeline.drops() == {"record-error": 2}
    assert [entry.levelname for entry in caplog.records] == ["WARNING"]
    assert "CANARY" not in caplog.text


# --- without a thread in between ----------------------------------------------------------------------------------------


def test_in_synchronous_mode_a_put_returns_when_its_record_is_written(log_dir: Path) -> None:
    exported = threading.Event()
    pipeline = Pipeline([LogWriter(log_dir), lambda _: exported.set()], synchronous=True)
    pipeline.put(record)
    assert ids(log_dir) == ["r0"]
    assert exported.wait(LIMIT_S)  # exporters keep their threads
    pipeline.put(lambda: None)
    assert pipeline.close(LIMIT_S)
    pipeline.put(record)
    assert ids(log_dir) == ["r0"]
    assert pipeline.drops() == {"closed": 1}


def test_in_synchronous_mode_every_thread_finds_its_own_record_written(log_dir: Path) -> None:
    pipeline = Pipeline([LogWriter(log_dir)], synchronous=True)
    missing: list[str] = []

    def work(thread: int) -> None:
        for number in range(40):
            name = f"{thread}-{number}"
            pipeline.put(lambda name=name: replace(record(), id=name))  # type: ignore[misc]
            if f'"id":"{name}"'.encode() not in segments(log_dir)[0].read_bytes():
                missing.append(name)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert not missing
    assert len(ids(log_dir)) == 320
    assert pipeline.close(LIMIT_S)


def test_in_synchronous_mode_a_put_may_interrupt_another(log_dir: Path) -> None:
    """A finaliser or a signal handler may run in the middle of a delivery: it must neither wait for it nor get lost."""
    pipeline = Pipeline([LogWriter(log_dir)], synchronous=True)

    def build_and_put() -> Record:
        pipeline.put(lambda: record(2))
        assert not pipeline.flush(0)  # it would wait for itself
        return record(1)

    pipeline.put(build_and_put)
    assert ids(log_dir) == ["r1", "r2"]
    assert pipeline.close(LIMIT_S)


def test_in_synchronous_mode_a_failing_sink_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def write_batch(self, _: Any) -> int:
            raise SystemExit

        def close(self) -> None: ...

    pipeline = Pipeline([Broken()], synchronous=True)
    pipeline.put(record)
    pipeline.put(record)
    assert pipeline.drops() == {"log-write-error": 2}
    assert len(caplog.records) == 1
    assert pipeline.close(LIMIT_S)


def test_in_synchronous_mode_a_child_forked_in_the_middle_of_a_delivery_writes_its_own(log_dir: Path) -> None:
    out = run(
        """
        pipeline = Pipeline([LogWriter(log_dir)], synchronous=True)
        inside, go_on = threading.Event(), threading.Event()
        def slow():
            inside.set()
            go_on.wait(60)
            return build("parent")()
        thread = threading.Thread(target=pipeline.put, args=(slow,))
        thread.start()
        inside.wait(60)
        if (child := os.fork()) == 0:
            pipeline.put(build("child"))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        go_on.set()
        thread.join()
        """,
        log_dir,
    )
    assert out == "0\n"
    assert sorted(ids(log_dir)) == ["child", "parent"]


def test_what_follows_a_write_runs_on_a_thread_of_its_own_and_not_for_every_record() -> None:
    calls: list[int] = []
    called = threading.Event()

    def after_write() -> None:
        calls.append(threading.get_ident())
        called.set()

    pipeline = Pipeline([], synchronous=True, after_write=after_write, after_write_interval_s=3600)
    for _ in range(100):
        pipeline.put(record)
    assert not calls  # it gathers
    assert pipeline.flush(LIMIT_S)
    assert called.is_set()
    assert len(calls) == 1
    assert calls[0] != threading.get_ident()
    assert pipeline.close(LIMIT_S)
    assert len(calls) == 1


def test_what_fails_after_a_write_costs_no_record(log_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    def after_write() -> None:
        raise RuntimeError("secret")

    pipeline = Pipeline([LogWriter(log_dir)], after_write=after_write)
    pipeline.put(record)
    assert pipeline.close(LIMIT_S)
    assert ids(log_dir) == ["r0"]
    assert pipeline.drops() == {}
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


# --- sinks that misbehave -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration])
def test_a_raising_exporter_harms_nobody(
    error: type[BaseException], log_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    def raising(_: Record) -> None:
        raise error("CANARY")

    pipeline = Pipeline([raising, LogWriter(log_dir), lambda item: seen.append(item.id)])
    for number in range(3):
        pipeline.put(lambda number=number: record(number))  # type: ignore[misc]
    assert pipeline.close(LIMIT_S)
    assert ids(log_dir) == seen == ["r0", "r1", "r2"]
    assert pipeline.drops() == {"exporter-error": 3}
    assert len(caplog.records) == 1
    assert error.__name__ in caplog.text
    assert "CANARY" not in caplog.text


def test_each_failing_sink_warns_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    class Raising:
        def __call__(self, _: Record) -> None:
            raise ValueError

    pipeline = Pipeline([Raising(), Raising()])
    for _ in range(3):
        pipeline.put(record)
    assert pipeline.close(LIMIT_S)
    assert pipeline.drops() == {"exporter-error": 6}
    assert len(caplog.records) == 2


def test_a_raising_logging_handler_harms_nobody(log_dir: Path) -> None:
    class Broken(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            raise RuntimeError

    def raising(_: Record) -> None:
        raise ValueError

    handler = Broken()
    logger = logging.getLogger("ecoimpact")
    logger.addHandler(handler)
    try:
        log_dir.write_text("a file where the directory should be")
        pipeline = Pipeline([raising, LogWriter(log_dir)])
        for _ in range(2):
            pipeline.put(record)
            assert pipeline.flush(LIMIT_S)
        assert pipeline.drops() == {"exporter-error": 2, "log-write-error": 2}
        assert pipeline.close(LIMIT_S)
    finally:
        logger.removeHandler(handler)


def test_a_hanging_exporter_delays_neither_the_log_nor_the_others(log_dir: Path) -> None:
    hanging, seen, both = Hanging(), list[str](), threading.Event()

    def other(item: Record) -> None:
        seen.append(item.id)
        if len(seen) == 2:
            both.set()

    pipeline = Pipeline([hanging, other, LogWriter(log_dir)], capacity=4)
    pipeline.put(record)
    assert hanging.reached.wait(LIMIT_S)
    pipeline.put(lambda: record(1))
    assert not pipeline.flush(0)
    assert both.wait(LIMIT_S)
    assert pipeline._builder.flush(LIMIT_S)
    assert ids(log_dir) == ["r0", "r1"]
    for _ in range(2):  # bounded and idempotent, though one sink never comes back
        assert not pipeline.close(0)
    assert pipeline.drops() == {"close-timeout": 1}
    hanging.release.set()


def test_the_queue_of_a_hanging_exporter_is_bounded_too() -> None:
    hanging = Hanging()
    pipeline = Pipeline([hanging], capacity=2)
    pipeline.put(record)
    assert hanging.reached.wait(LIMIT_S)
    for _ in range(5):
        pipeline.put(record)
        assert pipeline._builder.flush(LIMIT_S)
    assert pipeline.drops() == {"exporter-queue-full": 3}
    hanging.release.set()
    assert pipeline.close(LIMIT_S)
    assert hanging.seen == 3


def test_an_exporter_that_flushes_does_not_wait_for_itself() -> None:
    answers: list[bool] = []

    def flushing(_: Record) -> None:
        answers.append(pipeline.flush(LIMIT_S))

    pipeline = Pipeline([flushing])
    pipeline.put(record)
    assert pipeline.close(LIMIT_S)
    assert answers == [False]


def test_a_flush_that_times_out_leaves_nothing_behind() -> None:
    hanging = Hanging()
    worker: Worker[None] = Worker(lambda _: hanging(record()), capacity=2, linger_s=0, on_full=pytest.fail)
    worker.put(None)
    assert hanging.reached.wait(LIMIT_S)
    for _ in range(10):
        assert not worker.flush(0)
    assert not worker._queue
    hanging.release.set()
    assert worker.flush(LIMIT_S)
    worker.stop()


def test_puts_after_close_are_counted(log_dir: Path) -> None:
    pipeline = Pipeline([LogWriter(log_dir)])
    pipeline.put(record)
    assert pipeline.close(LIMIT_S)
    pipeline.put(record)
    assert pipeline.close(LIMIT_S)
    assert pipeline.drops() == {"closed": 1}
    assert len(ids(log_dir)) == 1


def test_without_threads_whoever_flushes_does_the_work(log_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("ecoimpact.records.worker.start_new_thread", refuse)
    seen: list[str] = []
    pipeline = Pipeline([LogWriter(log_dir), lambda item: seen.append(item.id)], capacity=2)
    for number in range(3):
        pipeline.put(lambda number=number: record(number))  # type: ignore[misc]
    assert not log_dir.exists()
    assert pipeline.close(LIMIT_S)
    assert ids(log_dir) == seen == ["r0", "r1"]
    assert pipeline.drops() == {"queue-full": 1}


@pytest.mark.parametrize("bad", [{"capacity": 0}, {"flush_interval_s": -1}])
def test_impossible_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="capacity >= 1"):
        Pipeline([], **bad)


# --- the process --------------------------------------------------------------------------------------------------------


def test_the_end_of_a_program_writes_what_is_queued(log_dir: Path) -> None:
    run("pipeline.put(build('last'))", log_dir)
    assert ids(log_dir) == ["last"]


def test_the_end_of_a_program_is_bounded_when_a_sink_hangs(log_dir: Path) -> None:
    run(
        """
        hangs = Pipeline([lambda _: threading.Event().wait()], flush_interval_s=0)
        hangs.put(build("x"))
        pipeline.put(build("last"))
        """,
        log_dir,
    )
    assert ids(log_dir) == ["last"]


@pytest.mark.parametrize("ending", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_sudden_end_loses_nothing_that_was_flushed(log_dir: Path, ending: str) -> None:
    run(
        f"""
        for n in range(1500):
            pipeline.put(build(n))
        assert pipeline.flush(60)
        pipeline.put(build("lost"))
        {ending}
        """,
        log_dir,
        expect=0 if "_exit" in ending else -signal.SIGKILL,
    )
    assert ids(log_dir) == [str(number) for number in range(1500)]
    assert read_records(log_dir).skipped == 0


def test_a_kill_in_the_middle_of_writing_leaves_a_readable_log(log_dir: Path) -> None:
    run(
        """
        def killer():
            while not any(p.stat().st_size for p in log_dir.glob("*/*.jsonl")):
                pass
            os.kill(os.getpid(), signal.SIGKILL)
        threading.Thread(target=killer, daemon=True).start()
        pipeline._builder.deliver_at_once()
        while True:
            pipeline.put(build("x"))
        """,
        log_dir,
        expect=-signal.SIGKILL,
    )
    reader = read_records(log_dir)
    assert all(item["id"] == "x" for item in reader)
    assert reader.skipped <= 1


def test_a_forked_child_has_a_queue_and_a_segment_of_its_own(log_dir: Path) -> None:
    run(
        """
        pipeline.put(build("parent-0")); assert pipeline.flush(60)
        pipeline.put(build("parent-1"))                   # still queued in the parent at the fork
        child = os.fork()
        if child == 0:
            assert pipeline.drops() == {}
            pipeline.put(build("child"))
            grandchild = os.fork()
            if grandchild == 0:
                pipeline.put(build("grandchild"))
                assert pipeline.flush(60)
                os._exit(0)
            assert os.waitpid(grandchild, 0)[1] == 0
            assert pipeline.flush(60)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        pipeline.put(build("parent-2"))
        """,
        log_dir,
    )
    assert sorted(ids(log_dir)) == ["child", "grandchild", "parent-0", "parent-1", "parent-2"]
    assert len(segments(log_dir)) == 3


def test_forks_in_the_middle_of_traffic_do_not_deadlock(log_dir: Path) -> None:
    run(
        """
        stop = threading.Event()
        def traffic():
            while not stop.is_set():
                pipeline.put(build("parent"))
        pipeline._builder.deliver_at_once()
        threads = [threading.Thread(target=traffic) for _ in range(3)]
        for thread in threads: thread.start()
        for n in range(20):
            child = os.fork()
            if child == 0:
                pipeline.put(build(n))
                os._exit(0 if pipeline.flush(60) else 1)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        for thread in threads: thread.join()
        """,
        log_dir,
    )
    assert sorted(int(name) for name in ids(log_dir) if name != "parent") == list(range(20))
    assert read_records(log_dir).skipped == 0


MULTIPROCESSING = """
import multiprocessing, sys
from pathlib import Path
from ecoimpact.records.pipeline import Pipeline
{early}
from ecoimpact.records.segments import LogWriter
from ecoimpact.types import Assessment, Inference, Record, Usage

inference = Inference("openai", "responses", "m", None, Usage(), None, None, 0.0, False, "ok")
pipeline = Pipeline([LogWriter(Path(sys.argv[1]))], flush_interval_s=60)

def work(name):
    pipeline.put(lambda: Record(name, inference, Assessment(None, None, "m", "d")))

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    children = [context.Process(target=work, args=(f"child-{{n}}",)) for n in range(2)]
    for child in children: child.start()
    for child in children: child.join()
    assert all(child.exitcode == 0 for child in children)
    work("parent")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("early", ["", "import multiprocessing.util"])
def test_children_of_multiprocessing_write_at_their_end(tmp_path: Path, log_dir: Path, method: str, early: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(MULTIPROCESSING.format(method=method, early=early))
    subprocess.run([sys.executable, program, log_dir], check=True, timeout=120)
    assert sorted(ids(log_dir)) == ["child-0", "child-1", "parent"]


def test_pipelines_made_in_a_child_of_multiprocessing_write_at_its_end(log_dir: Path) -> None:
    run(
        """
        import multiprocessing
        def work():
            global pipeline
            pipeline = Pipeline([LogWriter(log_dir)], flush_interval_s=60)
            pipeline.put(build("child"))
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start(); child.join()
        """,
        log_dir,
    )
    assert ids(log_dir) == ["child"]


# --- the log ------------------------------------------------------------------------------------------------------------


def test_segments_are_named_and_guarded(log_dir: Path) -> None:
    writer = LogWriter(log_dir, now=lambda: MIDNIGHT + 3_723)
    mask = os.umask(0)
    try:
        assert writer.write_batch([record()]) == 0
    finally:
        os.umask(mask)
    (segment,) = segments(log_dir)
    assert re.fullmatch(rf"2026-01-01/010203-{os.getpid()}-[0-9a-f]{{8}}\.jsonl", str(segment.relative_to(log_dir)))
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (log_dir, segment.parent, segment)]
    assert modes == [0o700, 0o700, 0o600]
    assert segment.read_bytes() == json.dumps(record().to_dict(), separators=(",", ":")).encode() + b"\n"
    writer.close()
    writer.close()


def test_a_batch_is_one_write(log_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, writes, write = LogWriter(log_dir), list[int](), os.write

    def counted(fd: int, data: bytes) -> int:
        writes.append(len(data))
        return write(fd, data)

    monkeypatch.setattr(os, "write", counted)
    assert writer.write_batch([record(number) for number in range(100)]) == 0
    assert len(writes) == 1
    writer.close()


def test_short_writes_are_finished(log_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, write = LogWriter(log_dir), os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:100]))
    assert writer.write_batch([record(number) for number in range(5)]) == 0
    writer.close()
    assert ids(log_dir) == [f"r{number}" for number in range(5)]


def test_segments_turn_by_size_and_by_day(log_dir: Path) -> None:
    clock = [MIDNIGHT - 1]
    size = len(to_json(record().to_dict())) + 1
    writer = LogWriter(log_dir, max_segment_bytes=2 * size, now=lambda: clock[0])
    for number in range(3):
        writer.write_batch([record(number)])
    clock[0] = MIDNIGHT
    writer.write_batch([record(number) for number in range(3, 8)])  # larger than a segment, and still one write
    writer.close()
    assert [(path.parent.name, path.read_bytes().count(b"\n")) for path in segments(log_dir)][-1] == ("2026-01-01", 5)
    assert sorted(path.read_bytes().count(b"\n") for path in segments(log_dir)) == [1, 2, 5]
    assert sorted(ids(log_dir)) == [f"r{number}" for number in range(8)]


def test_a_changed_working_directory_moves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    writer = LogWriter("log")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert writer.write_batch([record()]) == 0
    writer.close()
    assert ids(tmp_path / "log") == ["r0"]


def _not_a_directory(log_dir: Path) -> Callable[[], None]:
    log_dir.write_text("in the way")
    return log_dir.unlink


def _dangling(log_dir: Path) -> Callable[[], None]:
    log_dir.symlink_to(log_dir.parent / "nowhere" / "log")
    return log_dir.unlink


@pytest.mark.parametrize("spoil", [_not_a_directory, _dangling])
def test_a_log_that_cannot_be_written_costs_one_warning_and_is_tried_again(
    log_dir: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], Callable[[], None]]
) -> None:
    repair = spoil(log_dir)
    pipeline = Pipeline([LogWriter(log_dir)])
    for _ in range(2):
        pipeline.put(record)
        assert pipeline.flush(LIMIT_S)
    assert pipeline.drops() == {"log-write-error": 2}
    assert len(caplog.records) == 1
    repair()
    pipeline.put(record)
    assert pipeline.close(LIMIT_S)
    assert ids(log_dir) == ["r0"]
    assert pipeline.drops() == {"log-write-error": 2}


def test_a_read_only_log_is_survived(tmp_path: Path) -> None:
    log_dir = tmp_path / "log"
    log_dir.mkdir(mode=0o500)
    out = run(
        """
        if os.geteuid() == 0:  # root writes everywhere
            os.setgid(65534); os.setuid(65534)
        pipeline.put(build("x"))
        assert pipeline.flush(60)
        print(pipeline.drops())
        """,
        log_dir,
    )
    assert out.strip() == "{'log-write-error': 1}"


def test_a_deleted_directory_is_made_again(log_dir: Path) -> None:
    writer = LogWriter(log_dir)
    assert writer.write_batch([record(1)]) == 0
    segments(log_dir)[0].unlink()
    segments_dir = next(log_dir.iterdir())
    segments_dir.rmdir()
    log_dir.rmdir()
    assert writer.write_batch([record(2)]) == 0
    writer.close()
    assert ids(log_dir) == ["r2"]


def test_a_descriptor_that_was_closed_behind_us_is_not_written_to(log_dir: Path, tmp_path: Path) -> None:
    writer = LogWriter(log_dir)
    assert writer.write_batch([record(1)]) == 0
    assert writer._segment is not None
    fd = writer._segment._fd
    stranger = os.open(tmp_path / "stranger", os.O_WRONLY | os.O_CREAT)
    os.dup2(stranger, fd)  # what a daemon that closes all files and opens others comes to
    assert writer.write_batch([record(2)]) == 0
    writer.close()
    os.close(stranger)
    os.close(fd)  # ours no more, so the writer must have left it open
    assert (tmp_path / "stranger").read_bytes() == b""
    assert sorted(ids(log_dir)) == ["r1", "r2"]


@pytest.mark.parametrize("whole_lines", [0, 2])
def test_a_full_disk_costs_whole_lines_only(
    log_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, whole_lines: int
) -> None:
    writer, write = LogWriter(log_dir), os.write
    room = [whole_lines * (len(to_json(record().to_dict())) + 1) + 10]

    def filling(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "CANARY")
        written = write(fd, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", filling)
    assert writer.write_batch([record(number) for number in range(5)]) == 5 - whole_lines
    assert writer.write_batch([record(5)]) == 1
    assert ids(log_dir) == ["r0", "r1"][:whole_lines]
    assert read_records(log_dir).skipped == 0
    assert len(segments(log_dir)) == min(whole_lines, 1)  # no trail of empty files
    assert len(caplog.records) == 1
    assert "CANARY" not in caplog.text
    room[0] = 2**20
    assert writer.write_batch([record(6)]) == 0
    writer.close()
    assert "r6" in ids(log_dir)


def test_a_limit_on_file_sizes_is_survived(log_dir: Path) -> None:
    out = run(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
        for n in range(100):
            pipeline.put(build(n))
        assert pipeline.flush(60)
        print(pipeline.drops()["log-write-error"])
        """,
        log_dir,
    )
    reader = read_records(log_dir)
    assert sum(1 for _ in reader) + int(out) == 100
    assert reader.skipped == 0


def test_numbers_that_json_has_not_are_null() -> None:
    odd = FIGURES._replace(usage_energy_kwh=float("inf"), usage_pe_mj=float("nan"))
    item = Record("x", INFERENCE, Assessment(odd, odd, "m", "d"), {"b": "\ud800\u2028é"})
    line = to_json(item.to_dict())
    assert line.isascii()
    parsed = json.loads(line)
    assert parsed["energy_kwh_min"] is None
    assert parsed["usage_pe_mj_max"] is None
    assert parsed["labels"] == {"b": "\ud800\u2028é"}


def test_a_record_without_a_json_form_costs_only_itself(pipeline: Pipeline, log_dir: Path) -> None:
    odd = replace(INFERENCE, usage=Usage(input_tokens=object()))
    pipeline.put(lambda: Record("odd", odd, ASSESSMENT))
    pipeline.put(record)
    assert pipeline.flush(LIMIT_S)
    assert ids(log_dir) == ["r0"]
    assert pipeline.drops() == {"log-write-error": 1}


def test_two_writers_in_one_directory_do_not_meet(log_dir: Path) -> None:
    writers = [LogWriter(log_dir) for _ in range(2)]
    for number in range(10):
        writers[number % 2].write_batch([record(number)])
    for writer in writers:
        writer.close()
    assert len(segments(log_dir)) == 2
    assert len(ids(log_dir)) == 10


def test_with_fsync_a_batch_is_on_the_disk_before_it_counts(log_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    writer = LogWriter(log_dir, fsync=True)
    for number in range(2):
        assert writer.write_batch([record(number)]) == 0
        assert synced[-1] == segments(log_dir)[0].stat().st_ino
    folders = {segments(log_dir)[0].parent.stat().st_ino, log_dir.stat().st_ino}
    assert folders <= set(synced)
    synced.clear()
    plain = LogWriter(log_dir)
    assert plain.write_batch([record()]) == 0
    assert not synced
    writer.close()
    plain.close()


def test_a_disk_that_cannot_sync_is_told(
    log_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    writer = LogWriter(log_dir, fsync=True)
    assert writer.write_batch([record(0), record(1)]) == 2
    assert writer.write_batch([record(2)]) == 1
    assert len(caplog.records) == 1
    writer.close()


def test_a_folder_that_is_a_link_is_refused(log_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    log_dir.mkdir()
    (log_dir / "2026-01-01").symlink_to(elsewhere)
    writer = LogWriter(log_dir, now=lambda: MIDNIGHT)
    assert writer.write_batch([record()]) == 1
    assert not list(elsewhere.iterdir())
    assert len(caplog.records) == 1


# --- reading ------------------------------------------------------------------------------------------------------------


def test_a_reader_skips_and_counts_what_is_no_record(log_dir: Path) -> None:
    day = log_dir / "2026-01-01"
    day.mkdir(parents=True)
    good = to_json(record().to_dict())
    junk = ["not json", "[1]", '{"a":1}', "[" * 100_000, "x" * (3 * MAX_LINE_BYTES + 5), '"\xff"']
    (day / "a.jsonl").write_text("\n".join([good, "", *junk, " " * 40, good, good[:40]]), encoding="latin-1")
    (day / "b.jsonl").write_text("")
    (day / "notes.txt").write_text("not a segment")
    (day / "c.jsonl").symlink_to(day / "a.jsonl")
    (day / "d.jsonl").mkdir()
    reader = read_records(log_dir)
    assert [item["id"] for item in reader] == ["r0", "r0"]
    assert reader.skipped == len(junk) + 1  # blank lines are where records were deleted


def test_reading_goes_by_day_and_time(log_dir: Path) -> None:
    clock = [MIDNIGHT]
    for number, moment in enumerate([MIDNIGHT + 90, MIDNIGHT, MIDNIGHT - 1]):
        clock[0] = moment
        writer = LogWriter(log_dir, now=lambda: clock[0])
        writer.write_batch([record(number)])
        writer.close()
    assert ids(log_dir) == ["r2", "r1", "r0"]


def test_a_missing_log_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no log in"):
        read_records(tmp_path / "nothing")
    assert list(read_records(tmp_path)) == []


# --- what is in it ------------------------------------------------------------------------------------------------------


def test_schema_record_and_documentation_agree() -> None:
    assert [field.name for field in schema.FIELDS] == list(record().to_dict())
    document = Path(__file__).parents[1] / "docs" / "records.md"
    assert schema.markdown_table() in document.read_text(encoding="utf-8")


_KINDS: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "boolean": (bool,),
    "array of strings": (list,),
    "object": (dict,),
}


@pytest.mark.parametrize(
    "item",
    [
        record(app="chat"),
        Record(
            "bare",
            Inference("p", "e", None, None, Usage(), None, None, 0.0, True, "error", "APIError"),
            Assessment(None, None, "m", "d", errors=(Notice("model-unknown", "no such model"),)),
        ),
    ],
    ids=["full", "bare"],
)
def test_every_value_is_of_the_type_that_the_schema_says(item: Record) -> None:
    flat = json.loads(to_json(item.to_dict()))
    for field in schema.FIELDS:
        value = flat[field.name]
        if value is None:
            assert field.nullable, field
        else:
            assert isinstance(value, _KINDS[field.type]), field
            assert isinstance(value, bool) == (field.type == "boolean"), field


def test_time_is_the_start_in_utc() -> None:
    assert record().to_dict()["time"] == "2026-01-01T00:00:00.250000Z"
    assert time.gmtime(MIDNIGHT)[:3] == (2026, 1, 1)
