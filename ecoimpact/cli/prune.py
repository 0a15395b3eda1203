"""``ecoimpact prune``: retention, and deletion by label."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Protocol

import typer

from ecoimpact import config
from ecoimpact.cli.log_options import DEFAULT, Log, checked_label, checked_log, failures_said, now
from ecoimpact.cli.output import wrong
from ecoimpact.cli.printable import counted, printable
from ecoimpact.cli.progress import progress
from ecoimpact.records import prune
from ecoimpact.records.prune import Pruned


class Removal(Protocol):
    """What goes: it is counted with ``dry_run``, else removed."""

    def __call__(self, *, dry_run: bool) -> Pruned: ...


def command(
    *,
    log: Log = DEFAULT,
    older_than: Annotated[
        int | None, typer.Option(min=0, metavar="DAYS", help="Whole days that ended more than so many days ago (UTC).")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Requests with this label; may be given several times.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove records from the log for good: those of long ago, or those with a label."""
    if (older_than is None) == (not label):
        raise wrong("say what goes: either --older-than DAYS or --label KEY=VALUE", "prune")
    checked_log(log)
    removals = _removals(log, older_than, label or [])
    if not (dry_run or yes or sys.stdin.isatty()):
        raise wrong("there is no terminal to ask at: --yes removes, --dry-run only counts", "prune")
    with failures_said(), _pyarrow_wanted():
        if dry_run or not yes:
            would = _sum([removal(dry_run=True) for removal in removals])
            most = "at most " if len(removals) > 1 else ""  # a record with both labels was counted twice
            print(most + _said(would, "would go" if dry_run else "will go"))
            if dry_run or not would.records + would.segments + would.files:
                return
            typer.confirm("Remove them for good?", abort=True, err=True)
        print(_said(_sum([removal(dry_run=False) for removal in removals]), "removed"))


@contextmanager
def _pyarrow_wanted() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise wrong(str(error), "prune") from None


def _removals(log: Path, older_than: int | None, labels: list[str]) -> list[Removal]:
    if older_than is not None:
        return [partial(_older, log, older_than)]
    wanted: dict[str, set[str]] = {}
    for label in labels:
        key, value = checked_label(label) or ("", "")
        wanted.setdefault(key, set()).update(_spellings(key, value))
    return [partial(_labelled, log, key, frozenset(values)) for key, values in wanted.items()]


def _older(log: Path, days: int, *, dry_run: bool) -> Pruned:
    with progress("pruning") as update:
        return prune.older_than(log, days, now=now(), dry_run=dry_run, progress=update)


def _labelled(log: Path, key: str, values: frozenset[str], *, dry_run: bool) -> Pruned:
    with progress(f"looking for {printable(key)}") as update:
        return prune.with_label(log, key, values, dry_run=dry_run, progress=update)


def _spellings(key: str, value: str) -> set[str]:
    """A value as it may stand in the log: where the settings have this label hashed, also its hash."""
    from ecoimpact.labels import hashed

    try:
        settings = config.from_surroundings()
    except ValueError as error:
        raise wrong(str(error), "prune") from None
    if key not in settings.get("hash_labels", ()):
        return {value}
    if "hash_key" not in settings:
        raise wrong(f"the label {key!r} is hashed in this log; set the variable ECOIMPACT_HASH_KEY to find it", "--label")
    return {value, hashed(value, settings["hash_key"])}


def _sum(parts: list[Pruned]) -> Pruned:
    return Pruned(
        *(sum(values) for values in zip(*((p.records, p.segments, p.bytes, p.files) for p in parts), strict=True))
    )


def _said(pruned: Pruned, what: str) -> str:
    places = [f"in {counted(pruned.segments, 'whole segment')}"] if pruned.segments else []
    places += [f"from {counted(pruned.files, 'Parquet file')}"] if pruned.files else []
    return f"{' '.join([counted(pruned.records, 'record'), *places])}, {size(pruned.bytes)}, {what}"


def size(number: int) -> str:
    """A number of bytes.

    >>> size(999), size(12_345_678)
    ('999 bytes', '12.3 MB')
    """
    scaled = float(number)
    for unit in ("bytes", "kB", "MB"):
        if scaled < 1000:
            return f"{scaled:.0f} {unit}" if unit == "bytes" else f"{scaled:.1f} {unit}"
        scaled /= 1000
    return f"{scaled:.1f} GB"
