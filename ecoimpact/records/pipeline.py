"""The way of a finished request off the caller's path: a queue, a thread that builds the record, the sinks.

Each exporter has a queue and a thread of its own behind the first one, so that one that is slow or hangs delays neither
the log nor the others. Whatever gets lost is counted by reason; nothing is lost silently and nothing raises.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import logging
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, Protocol, TypeAlias, runtime_checkable
from weakref import WeakSet

from ecoimpact.records.forks import renew_in_child
from ecoimpact.records.worker import Inline, Worker
from ecoimpact.types import Exporter, Record

logger = logging.getLogger("ecoimpact")

EXIT_TIMEOUT_S = 2.0
FLUSH_INTERVAL_S = 0.1

Build: TypeAlias = Callable[[], Record | None]
"""Makes the record, on the background thread; ``None`` when there is nothing to record."""


@runtime_checkable
class BatchSink(Protocol):
    """A sink that takes many records at once, such as the log writer."""

    def write_batch(self, records: Sequence[Record]) -> int:
        """Write the records; how many of them were lost. It warns about that itself."""
        ...

    def close(self) -> None: ...


class Pipeline:
    """Hands finished requests to ``sinks``: exporters get each record, batch sinks whole batches.

    ``capacity`` bounds the requests that wait (for the record to be built, and again for each exporter); when it is
    reached the newest is dropped. Batches are gathered for ``flush_interval_s``, which is what a killed process loses at
    the most. At the end of the process ``before_exit`` may put its last, and what is queued is written within
    ``EXIT_TIMEOUT_S``.

    ``synchronous``: records are built and batch sinks written before ``put`` returns; exporters keep their threads.
    ``after_write`` is called on a thread of its own, at most once in ``after_write_interval_s``, after a write.

    ``drops()`` reasons: ``queue-full``, ``record-error`` (the record could not be built), ``log-write-error``,
    ``exporter-error``, ``exporter-queue-full``, ``close-timeout`` (still queued when ``close`` gave up), ``closed``.
    """

    def __init__(
        self,
        sinks: Iterable[BatchSink | Exporter],
        *,
        capacity: int = 10_000,
        flush_interval_s: float = FLUSH_INTERVAL_S,
        before_exit: Callable[[], object] = lambda: None,
        synchronous: bool = False,
        after_write: Callable[[], object] | None = None,
        after_write_interval_s: float = 10.0,
    ) -> None:
        if capacity < 1 or flush_interval_s < 0:
            raise ValueError(f"a queue needs capacity >= 1 and flush_interval_s >= 0, got {capacity}, {flush_interval_s}")
        self._drops = _Drops()
        self._warned: set[tuple[str, int]] = set()
        self._closed = False
        self._before_exit = before_exit
        self._batch_sinks: list[BatchSink] = []
        self._lanes: list[Worker[Record]] = []
        for sink in sinks:
            if isinstance(sink, BatchSink):
                self._batch_sinks.append(sink)
            else:
                self._lanes.append(
                    Worker(
                        partial(self._export, sink),
                        capacity=capacity,
                        linger_s=0.0,
                        on_full=partial(self._drops.add, "exporter-queue-full"),
                    )
                )
        self._after_write: Worker[None] | None = None
        if after_write is not None:
            self._after_write = Worker(
                partial(self._notify, after_write), capacity=2, linger_s=after_write_interval_s, on_full=_nothing
            )
        followers: list[Worker[Any]] = [*self._lanes, *([self._after_write] if self._after_write is not None else [])]
        on_full = partial(self._drops.add, "queue-full")
        self._builder: Worker[Build] | Inline[Build] = (
            Inline(self._build, capacity=capacity, on_full=on_full)
            if synchronous
            else Worker(self._build, capacity=capacity, linger_s=flush_interval_s, on_full=on_full, followers=followers)
        )
        self._workers: list[Worker[Any] | Inline[Any]] = [self._builder, *followers]  # in the order of a record's way
        _pipelines.add(self)
        _arrange_children()

    def put(self, build: Build) -> None:
        """Queue one finished request. Never blocks, never raises; callable from anywhere, ``__del__`` included."""
        if self._closed:
            self._drops.add("closed")
        else:
            self._builder.put(build)

    def flush(self, timeout_s: float = EXIT_TIMEOUT_S) -> bool:
        """Wait until all that was put before has gone through every sink; whether it did within ``timeout_s``.

        What could not be written is in ``drops()``, and does not make this false.
        """
        deadline = time.monotonic() + timeout_s
        delivered = [worker.flush(deadline - time.monotonic()) for worker in self._workers]
        return all(delivered)

    def close(self, timeout_s: float = EXIT_TIMEOUT_S) -> bool:
        """Flush, then end: later puts are dropped. Whether everything was written. Calling it again does nothing more."""
        self._closed = True
        done = self.flush(timeout_s)
        for worker in self._workers:
            self._drops.add("close-timeout", len(worker.stop()))
        for sink in self._batch_sinks if done else ():  # else a sink is still at work in there
            with self._guard("log-write-error", 0, sink):
                sink.close()
        return done

    def drops(self) -> dict[str, int]:
        """How many records were lost, by reason, in this process."""
        return self._drops.counts()

    def flush_at_exit(self, timeout_s: float) -> None:
        """Take in the last, flush, and let what still comes wait for no batch."""
        self._before_exit()
        self._builder.deliver_at_once()
        self.flush(timeout_s)

    # On the background threads

    def _build(self, builds: list[Build]) -> None:
        records: list[Record] = []
        for build in builds:
            with self._guard("record-error", 1):
                record = build()
                if record is not None:
                    records.append(record)
        for sink in self._batch_sinks if records else ():
            with self._guard("log-write-error", len(records), sink):
                self._drops.add("log-write-error", sink.write_batch(records))
        for lane in self._lanes:
            for record in records:
                lane.put(record)
        if records and self._after_write is not None:
            self._after_write.put(None)

    def _notify(self, after_write: Callable[[], object], _: list[None]) -> None:
        with self._guard("after-write-error", 0, after_write):
            after_write()

    def _export(self, exporter: Exporter, records: list[Record]) -> None:
        for record in records:
            with self._guard("exporter-error", 1, exporter):
                exporter(record)

    @contextmanager
    def _guard(self, reason: str, at_stake: int, sink: object = None) -> Iterator[None]:
        """Keep in what is raised inside: count what was at stake, and warn once for each sink."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - a sink that raises SystemExit must not end the thread either
            self._drops.add(reason, at_stake)
            if (reason, id(sink)) not in self._warned:
                self._warned.add((reason, id(sink)))
                with contextlib.suppress(Exception):  # a logging handler of the host may raise as well
                    logger.warning(
                        "ecoimpact lost a record (%s): %s raised %s; more losses are only counted, see ecoimpact.drops()"
                        if at_stake
                        else "ecoimpact (%s): %s raised %s",
                        reason,
                        "building it" if sink is None else getattr(sink, "__qualname__", type(sink).__qualname__),
                        type(error).__name__,  # never its message, which may hold content
                    )


def _nothing() -> None:
    """What was to be noticed is noticed already."""


class _Drops:
    """Counts by reason. The lock is re-entrant because a put may interrupt another one in the same thread."""

    def __init__(self) -> None:
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        self._lock = threading.RLock()
        self._counts: defaultdict[str, int] = defaultdict(int)

    def add(self, reason: str, number: int = 1) -> None:
        if number:
            with self._lock:
                self._counts[reason] += number  # no call in between where a signal handler or finaliser could step in

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


# The end of the process. Children that leave by os._exit skip atexit. Those of multiprocessing run its finalisers before,
# which they clear right after the fork, ahead of the functions registered with register_after_fork; billiard's processes
# share both registries with it. The pool of celery runs neither, and has a signal for it.

_pipelines: WeakSet[Pipeline] = WeakSet()
_arranged: list[ModuleType] = []


def _flush_all(**_: object) -> None:
    deadline = time.monotonic() + EXIT_TIMEOUT_S
    for pipeline in list(_pipelines):
        pipeline.flush_at_exit(deadline - time.monotonic())


def _arrange_children() -> None:
    util = sys.modules.get("multiprocessing.util")
    if util is None and "billiard" in sys.modules:  # which loads it in the child, when it is too late
        util = importlib.import_module("multiprocessing.util")
    if util is not None and util not in _arranged:
        _arranged.append(util)
        util.register_after_fork(_pipelines, _finalise_child)
        _finalise_child(_pipelines)
    signals = sys.modules.get("celery.signals")
    if signals is not None and signals not in _arranged and hasattr(signals, "worker_process_shutdown"):
        _arranged.append(signals)
        signals.worker_process_shutdown.connect(_flush_all, weak=False)


def _finalise_child(_: object) -> None:
    sys.modules["multiprocessing.util"].Finalize(None, _flush_all, exitpriority=100)


atexit.register(_flush_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_arrange_children)  # both may be imported after the pipeline was made
