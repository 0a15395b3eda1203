"""What a finished request costs its caller until it is on its way into the log. ``python -m benchmarks.log_put``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable

import ecoimpact
from ecoimpact.records.pipeline import Pipeline
from ecoimpact.records.segments import LogWriter
from ecoimpact.types import Inference, Record, Usage

PAUSE_EVERY = 100
"""Puts without a pause would fill the queue, which no program does."""


def table(*, puts: int = 20_000) -> str:
    """The median and the 99th percentile in microseconds, as a Markdown table."""
    record = _record()
    rows = {
        "put, background": _put(puts, lambda: record, synchronous=False, fsync=False),
        'put, `log_mode="sync"`': _put(puts // 4, lambda: record, synchronous=True, fsync=False),
        'put, `log_mode="sync"`, `log_fsync="batch"`': _put(puts // 20, lambda: record, synchronous=True, fsync=True),
        "`with label(user=...)`": _timed(puts, _labelled),
    }
    lines = ["| | median, µs | 99th percentile, µs |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {median:.1f} | {p99:.1f} |" for name, (median, p99) in rows.items())])


def _put(puts: int, build: Callable[[], Record], *, synchronous: bool, fsync: bool) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="ecoimpact-bench-") as folder:
        pipeline = Pipeline([LogWriter(folder, fsync=fsync)], capacity=10**6, synchronous=synchronous)
        figures = _timed(puts, lambda: pipeline.put(build))
        assert pipeline.close(60)
        assert not pipeline.drops()
    return figures


def _timed(times: int, work: Callable[[], object]) -> tuple[float, float]:
    taken = []
    for number in range(times):
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1e6)
        if number % PAUSE_EVERY == 0:
            time.sleep(0.001)
    taken.sort()
    return taken[len(taken) // 2], taken[len(taken) * 99 // 100]


def _labelled() -> None:
    with ecoimpact.label(user="u1"):
        pass


def _record() -> Record:
    usage = Usage(input_tokens=12, output_tokens=34)
    inference = Inference("openai", "responses", "gpt-4o-mini", None, usage, 1.5, None, 1.7e9, False, "ok")
    impacts = ecoimpact.estimate("gpt-4o-mini", output_tokens=34, provider="openai")
    return Record("an id", inference, impacts.assessment, {"app": "chatbot"})


if __name__ == "__main__":
    print(table())
