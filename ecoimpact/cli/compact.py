"""``ecoimpact compact``: old segments of the log become Parquet."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ecoimpact.cli.log_options import DEFAULT, Log, checked_log, failures_said, now
from ecoimpact.cli.output import wrong
from ecoimpact.cli.printable import counted
from ecoimpact.cli.progress import progress
from ecoimpact.cli.prune import size
from ecoimpact.records.compact import OLDER_THAN_DAYS, Compacted, compact
from ecoimpact.records.compact_places import is_remote


def command(
    *,
    log: Log = DEFAULT,
    out: Annotated[
        str | None,
        typer.Option(help="Directory or s3:// URL for the Parquet files; default: parquet in the log.", show_default=False),
    ] = None,
    older_than: Annotated[
        int, typer.Option(min=0, metavar="DAYS", help="Only what was written on days more than so many ago (UTC).")
    ] = OLDER_THAN_DAYS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be compacted.")] = False,
) -> None:
    """Turn old segments of the log into Parquet files, by day. Reports and all else read both."""
    checked_log(log)
    if find_spec("pyarrow") is None:
        raise wrong('Parquet needs pyarrow: pip install "ecoimpact[lake]"', "compact")
    if out is not None:
        _check_out(out)
    with failures_said(), progress("compacting") as update:
        done = compact(log, out, older_than_days=older_than, now=now(), dry_run=dry_run, progress=update)
    print(_said(done, dry_run=dry_run))
    if done.left:
        print(f"{counted(done.left, 'segment')} with lines that are no records, which stay as they are")


def _check_out(out: str) -> None:
    if is_remote(out):
        from ecoimpact.storage import resolve

        try:
            resolve(out)
        except (ValueError, ModuleNotFoundError) as error:
            raise wrong(str(error), "--out") from None
    elif Path(out).exists() and not Path(out).is_dir():
        raise wrong(f"{out} is no directory", "--out")


def _said(done: Compacted, *, dry_run: bool) -> str:
    what = f"{counted(done.records, 'record')} of {counted(done.segments, 'segment')}, {size(done.bytes)}"
    if not done.segments:
        return "nothing to compact"
    if dry_run:
        return f"{what}, would be compacted"
    saved = 1 - done.file_bytes / done.bytes if done.bytes else 0.0
    less = f", {saved:.0%} less" if saved > 0 else ""
    return f"{what}, are now {counted(done.files, 'Parquet file')}, {size(done.file_bytes)}{less}"
