"""``ecoimpact top``: today's totals of a log, and its newest requests, as they come in."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ecoimpact.cli import report_table, tail
from ecoimpact.cli.log_options import DEFAULT, Log, checked_log, failures_said, now, open_index
from ecoimpact.cli.output import console, wrong
from ecoimpact.cli.printable import counted, printable
from ecoimpact.cli.report_data import Summary
from ecoimpact.records import queries
from ecoimpact.records.index import Index
from ecoimpact.records.queries import Where
from ecoimpact.records.reader import moment_of

NEWEST = 10
"""Requests that are listed where no terminal's height says how many fit."""

SAMPLE = 2_000
"""Newest requests that the rate is taken from."""

MINUTE = timedelta(minutes=1)


def command(
    *,
    log: Log = DEFAULT,
    by: Annotated[str, typer.Option(help="model, provider, endpoint, zone, methodology, hour, or label:KEY.")] = "model",
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks at the log.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print it once and end, as in a pipe.")] = False,
) -> None:
    """Watch a log: today's totals (UTC), requests per minute, and the newest requests. Ctrl-C ends it."""
    out = console()
    with open_index(checked_log(log)) as index:
        try:
            shown = view(index, str(log), by, now(), out)
        except ValueError as error:
            raise wrong(str(error), "--by") from None
        if once or not sys.stdout.isatty():
            out.print(shown)
            return
        with contextlib.suppress(KeyboardInterrupt), failures_said(), Live(shown, console=out, screen=True) as live:
            while True:
                time.sleep(interval)
                index.refresh(wait_s=interval)
                with contextlib.suppress(ValueError):  # a label that was pruned meanwhile
                    live.update(view(index, str(log), by, now(), out), refresh=True)


def view(index: Index, log: str, by: str, now: datetime, out: Console) -> RenderableType:
    """One look at the log.

    Raises:
        ValueError: an unknown dimension or label, with near ones.
    """
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    where = Where(since=today)
    summary = Summary(log, now, where, queries.report(index, by, where), None)
    newest = queries.recent(index, SAMPLE)
    height = out.height if out.is_terminal else 0
    head = [
        Text(f"{printable(log)}: today, {now:%Y-%m-%d %H:%M:%S} UTC", style="bold"),
        Text(f"{rate(newest, now)} in the last minute"),
    ]
    totals = [Text(line) for line in report_table.amounts(summary.report.total)]
    if not summary.report.total.requests:
        totals = [Text("No requests today.")]
        table: list[RenderableType] = []
    else:
        table = [Text(), report_table.groups(summary, max(2, (height - 14) // 4) if height else NEWEST, out.width)]
    used = len(head) + len(totals) + sum(len(out.render_lines(part)) for part in table) + 3
    rows = max(3, height - used) if height else NEWEST
    return Group(*head, *totals, *table, *_newest(newest[:rows], out))


def _newest(records: Sequence[dict[str, Any]], out: Console) -> list[RenderableType]:
    if not records:
        return []
    lines = [tail.head(out.width), *(tail.line(record, out.width) for record in records)]
    return [Text(), *(Text(line, no_wrap=True) for line in lines)]


def rate(newest: Sequence[dict[str, Any]], now: datetime) -> str:
    """Requests that began in the last minute; counted in ``newest``, and more where that is all of them."""
    moments = [moment for record in newest if (moment := moment_of(record)) is not None]
    recent = sum(now - MINUTE < moment <= now for moment in moments)
    return f"{recent:,} or more requests" if recent == SAMPLE else counted(recent, "request")
