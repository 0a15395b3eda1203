"""Memory over many calls: it must not grow. ``python -m benchmarks.memory``."""

from __future__ import annotations

import gc
import resource
import tempfile
from collections.abc import Callable

import ecoimpact
from benchmarks.transport import works


def table(*, calls: int) -> str:
    """Peak resident memory after a tenth of the calls and after all of them, as a Markdown table."""
    work = works()
    with tempfile.TemporaryDirectory(prefix="ecoimpact-bench-") as folder:
        ecoimpact.instrument(log_dir=folder)
        try:
            return _measured(work["chat"], work["chat stream"], calls)
        finally:
            ecoimpact.uninstrument()


def _measured(plain: Callable[[], object], stream: Callable[[], object], calls: int) -> str:
    lines = ["| calls | peak resident memory, MiB |", "|---|---|"]
    for number in range(1, calls + 1):
        plain()
        if number % 100 == 0:
            stream()
        if number in (calls // 10, calls // 2, calls):
            ecoimpact.flush(30)
            gc.collect()
            lines.append(f"| {number:,} | {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.1f} |")
    return "\n".join(lines) + f"\n\nRecords lost: {sum(ecoimpact.drops().values())}."


if __name__ == "__main__":
    print(table(calls=100_000))
