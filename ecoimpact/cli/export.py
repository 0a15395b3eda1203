"""``ecoimpact export``: the log as rows for other tools."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from ecoimpact.cli.files import STDOUT, checked_out, new_file
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
)
from ecoimpact.cli.output import wrong
from ecoimpact.cli.printable import counted
from ecoimpact.cli.progress import progress
from ecoimpact.records.export import FORMATS, export
from ecoimpact.records.reader import read_records


def command(
    *,
    log: Log = DEFAULT,
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")],  # noqa: A002 - the option's name
    out: Annotated[Path, typer.Option(help="The file to write; - is standard output.")],
    since: Since = None,
    until: Until = None,
    label: OneLabel = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if there is one.")] = False,
) -> None:
    """Write the records of the log as JSON Lines, CSV or Parquet, a row for each request."""
    _check_format(format, out)
    first, end = checked_period(since, until)
    wanted = checked_label(label)
    checked_log(log)
    checked_out(out, force=force)
    with failures_said(), progress("exporting") as update:
        reader = read_records(log, since=first, until=end, progress=update)
        with new_file(out, force=force) as file:
            exported = export(_with_label(reader, wanted), file, format)
    notes = [counted(exported.records, "record")]
    if reader.skipped:
        notes.append(f"{counted(reader.skipped, 'line')} skipped: no legible record")
    if exported.odd_values:
        notes.append(f"{counted(exported.odd_values, 'value')} left out: not of the field's type")
    print(", ".join(notes), file=sys.stderr)


def _check_format(name: str, out: Path) -> None:
    if checked_choice(name, FORMATS, "--format") == "parquet":
        if find_spec("pyarrow") is None:
            raise wrong('parquet needs pyarrow: pip install "ecoimpact[lake]"', "--format")
        if out == STDOUT and sys.stdout.isatty():
            raise wrong("parquet is not for a terminal; name a file", "--out")


def _with_label(records: Iterable[dict[str, Any]], label: tuple[str, str] | None) -> Iterator[dict[str, Any]]:
    for record in records:
        labels = record.get("labels")
        if label is None or (isinstance(labels, dict) and labels.get(label[0]) == label[1]):
            yield record
