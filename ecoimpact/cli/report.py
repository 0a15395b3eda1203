"""``ecoimpact report``: what the log adds up to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ecoimpact.cli import report_html, report_table, report_timeline
from ecoimpact.cli.files import STDOUT, new_file
from ecoimpact.cli.log_options import (
    DEFAULT,
    Log,
    OneLabel,
    Since,
    Until,
    checked_choice,
    checked_label,
    checked_log,
    checked_period,
    failures_said,
    now,
    open_index,
)
from ecoimpact.cli.output import wrong
from ecoimpact.cli.report_data import as_csv, as_json, gather
from ecoimpact.records.queries import Where
from ecoimpact.records.segments import finite

FORMATS = ("table", "json", "csv", "html")


def command(
    *,
    log: Log = DEFAULT,
    by: Annotated[
        str,
        typer.Option(help="model, provider, endpoint, zone, methodology, day, hour, month, or label:KEY."),
    ] = "model",
    since: Since = None,
    until: Until = None,
    model: Annotated[str | None, typer.Option(help="Only this model.", show_default=False)] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider.", show_default=False)] = None,
    label: OneLabel = None,
    top: Annotated[int, typer.Option(min=1, help="How many groups the table shows before it folds the others.")] = 20,
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")] = "table",  # noqa: A002 - the option's name
    out: Annotated[Path, typer.Option(help="The file to write; - is standard output.")] = STDOUT,
) -> None:
    """Add up the requests of the log: cost, energy, carbon and water, by model or anything else.

    Every figure has its low and its high end, and what has none is counted.
    """
    checked_choice(format, FORMATS, "--format")
    first, end = checked_period(since, until)
    where = Where(since=first, until=end, model=model, provider=provider, label=checked_label(label))
    checked_log(log)
    with open_index(log) as index:
        try:
            summary = gather(index, str(log), by, where, now())
            page = report_html.page(summary, report_timeline.series(index, summary)) if format == "html" else ""
        except ValueError as error:
            raise wrong(str(error), "--by" if label is None else "--by, --label") from None
    if format == "table" and out == STDOUT:
        report_table.show(summary, top)
        return
    text = {
        "table": lambda: report_table.text(summary, top),
        "json": lambda: json.dumps(finite(as_json(summary)), indent=2, allow_nan=False) + "\n",
        "csv": lambda: as_csv(summary),
        "html": lambda: page,
    }[format]()
    with failures_said(), new_file(out, force=True) as file:
        file.write(text.encode("utf-8", "replace"))
