"""A bar on standard error for work that takes longer than a moment; nothing where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from ecoimpact.records.index import Progress

MOMENT_S = 0.7


@contextmanager
def progress(what: str) -> Iterator[Callable[[Progress], object] | None]:
    """A callback for work that tells how far it is; ``None`` where standard error is no terminal.

    ``what`` names the work, such as ``"indexing the log"``.
    """
    if not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[records]:,} records"),
        TimeRemainingColumn(),
    )
    bar = Bar(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(what, records=0)
    begun, shown = time.monotonic(), False

    def update(progress: Progress) -> None:
        nonlocal shown
        bar.update(task, completed=progress.bytes_done, total=progress.bytes_total or None, records=progress.records)
        if not shown and time.monotonic() - begun > MOMENT_S:
            bar.start()
            shown = True

    try:
        yield update
    finally:
        if shown:
            bar.stop()
