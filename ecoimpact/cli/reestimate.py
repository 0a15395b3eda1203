"""``ecoimpact reestimate``: a lake of requests under another methodology or zone, as Parquet."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from ecoimpact.cli.log_options import failures_said
from ecoimpact.cli.output import console, show, table, wrong
from ecoimpact.cli.printable import counted, printable
from ecoimpact.cli.progress import progress
from ecoimpact.types import CRITERIA

if TYPE_CHECKING:
    from ecoimpact.lake import Estimator
    from ecoimpact.lake.reestimate import Reestimated

MAX_TOLD = 10


def command(
    src: Annotated[str, typer.Argument(help="A file, folder, pattern or URL of Parquet, CSV or JSON Lines, or a log.")],
    *,
    out: Annotated[str, typer.Option(help="The folder for the Parquet files, or its URL.")],
    methodology: Annotated[str, typer.Option(help="A name, such as ecologits, scope3 or measured-2026.")],
    zone: Annotated[
        str | None, typer.Option(help="Electricity zone of every row, whatever the rows say.", show_default=False)
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="OURS=THEIRS: a column of another name; may be repeated.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also replace files that were not made here.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Files at once; default: one for each processor.", show_default=False)
    ] = None,
) -> None:
    """Work out the figures of every row anew and write all rows to Parquet; what was done before is not done again."""
    if find_spec("pyarrow") is None or find_spec("numpy") is None:
        raise wrong('this needs pyarrow and numpy: pip install "ecoimpact[lake]"', "reestimate")
    estimator = _estimator(methodology, zone, _columns(column or ()))
    with failures_said(), progress("estimating") as update:
        from ecoimpact.lake.reestimate import reestimate

        with _usage("SRC"):
            found = reestimate(src, out, estimator, overwrite=overwrite, workers=workers, progress=update)
    _show(found, out, methodology)
    if found.failed:
        raise typer.Exit(1)


def _columns(given: Iterable[str]) -> dict[str, str]:
    pairs = [each.partition("=") for each in given]
    for ours, sign, theirs in pairs:
        if not (ours and sign and theirs):
            raise wrong(f"OURS=THEIRS, such as output_tokens=completion_tokens; got {ours + sign + theirs!r}", "--column")
    return {ours: theirs for ours, _, theirs in pairs}


def _estimator(methodology: str, zone: str | None, columns: dict[str, str]) -> Estimator:
    from ecoimpact.lake import Estimator

    for option, given in (
        ("--methodology", {"methodology": methodology}),
        ("--zone", {"zone": zone}),
        ("--column", {"columns": columns}),
    ):
        with _usage(option):
            Estimator(**given)
    return Estimator(methodology, zone=zone, columns=columns)


@contextmanager
def _usage(option: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        raise wrong(str(error), option) from None


def _show(found: Reestimated, out: str, methodology: str) -> None:
    sums = found.sums
    print(
        f"{counted(sums.rows, 'row')} under {methodology} in {printable(out)}: "
        f"{counted(found.made, 'file')} made, {found.kept:,} as before"
    )
    if sums.rows:
        rows = table("", "before", "after", "unit", numbers=("before", "after"))
        for c in CRITERIA:
            name = f"{c.suffix}_central"
            rows.add_row(c.key, *(f"{s[name]:.6g}" if name in s else "–" for s in (sums.before, sums.after)), c.unit)
        show(console(), rows)
    for line in _remarks(found):
        print(line, file=sys.stderr)


def _remarks(found: Reestimated) -> Iterator[str]:
    sums = found.sums
    if sums.unestimated:
        commonest = sorted(sums.errors.items(), key=lambda item: -item[1])[:MAX_TOLD]
        reasons = ", ".join(f"{code} {number:,}" for code, number in commonest)
        yield f"{counted(sums.unestimated, 'row')} without figures{': ' + printable(reasons) if reasons else ''}"
    if sums.illegible:
        yield f"{counted(sums.illegible, 'line')} left out: no legible row"
    if found.stale:
        yield f"{counted(len(found.stale), 'file')} of inputs that are not there now: {printable(found.stale[0])}, ..."
    for name, reason in list(found.failed.items())[:MAX_TOLD]:
        yield f"failed: {printable(name)}: {printable(reason)}"
    if len(found.failed) > MAX_TOLD:
        yield f"failed: {len(found.failed) - MAX_TOLD:,} more"
