"""What the exporters of metrics share: records go in, additions to a library's instruments come out.

Rule that holds in this file: libraries guard their instruments by locks. A child that is forked while a thread of ours
holds one would find it held for ever, in the program's own metrics too: a fork waits until the record in hand is done, but
not for long.
"""

from __future__ import annotations

import os
import threading
from typing import Final
from weakref import WeakSet

from ecoimpact.exporters.measures import Measures, printable
from ecoimpact.exporters.metrics import DROPPED, Metric
from ecoimpact.types import Record

DROP_REASONS: Final = (
    *("queue-full", "record-error", "log-write-error", "exporter-error", "exporter-queue-full", "close-timeout", "closed"),
)
"""Shown as zero from the start: of a counter that begins at one, nobody sees the increase."""


class MetricExporter:
    """An exporter that adds what a record measures to the instruments of a library."""

    def __init__(self, measures: Measures) -> None:
        from ecoimpact import drops

        self._measures = measures
        self._drops = drops
        self._seen_drops = drops()
        self._at_work = threading.Lock()
        _exporters.add(self)

    def _begin(self) -> None:
        """To be called when the instruments are there."""
        for reason in DROP_REASONS:
            self._add(DROPPED, 0, (reason,))

    def __call__(self, record: Record) -> None:
        with self._at_work:
            for metric, value, attributes in self._measures.of(record):
                self._add(metric, value, attributes)
            self._count_drops()

    def _add(self, metric: Metric, value: float, attributes: tuple[str, ...]) -> None:
        raise NotImplementedError

    def _count_drops(self) -> None:
        now = self._drops()
        if now != self._seen_drops:
            before, self._seen_drops = self._seen_drops, now
            for reason, number in now.items():
                if (more := number - before.get(reason, 0)) > 0:  # a forked child begins at nothing
                    self._add(DROPPED, more, (printable(reason),))


# --- forks --------------------------------------------------------------------------------------------------------------

PATIENCE_S: Final = 0.1

_exporters: WeakSet[MetricExporter] = WeakSet()
_paused: list[MetricExporter] = []


def _before_fork() -> None:
    _paused.extend(exporter for exporter in list(_exporters) if exporter._at_work.acquire(timeout=PATIENCE_S))


def _after_fork() -> None:
    while _paused:
        _paused.pop()._at_work.release()


def _after_fork_in_child() -> None:
    _paused.clear()
    for exporter in list(_exporters):
        exporter._at_work = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
