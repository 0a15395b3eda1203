"""What the commands share in talking to people: consoles, JSON, wrong usage, near matches."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from ecoimpact import data
from ecoimpact.records.segments import finite

DEFAULT_LOG = "impact-log"
"""Where the log is when neither ``--log`` nor ``ECOIMPACT_LOG`` says."""

LIST_WIDTH = 200
"""Of lists that go into a file or a pipe, where no terminal folds the lines."""


def console(*, lists: bool = False) -> Console:
    """Where results go. Lists keep one line a row where they are not read on a terminal."""
    return Console(width=LIST_WIDTH if lists and not sys.stdout.isatty() else None, highlight=False)


def table(*columns: str, numbers: Iterable[str] = ()) -> Table:
    """An empty table in the style of all commands; the columns in ``numbers`` are aligned to the right."""
    result = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    numbers = set(numbers)
    for column in columns:
        result.add_column(column, justify="right" if column in numbers else "left")
    return result


def show(out: Console, rows: Table) -> None:
    """A table between two empty lines."""
    for part in ("", rows, ""):
        out.print(part)


def print_json(value: Any) -> None:
    print(json.dumps(finite(value), indent=2, allow_nan=False))


def wrong(message: str, option: str) -> typer.BadParameter:
    """Wrong usage: exits with 2 and says what is right."""
    return typer.BadParameter(message, param_hint=option)


def near(name: str, known: Iterable[str], *, limit: int = 5) -> str:
    """`` Near: ...``, or nothing: those written almost like it, then those that contain it."""
    wanted = name.lower()
    spellings = {item.lower(): item for item in known}
    close = get_close_matches(wanted, spellings, n=limit, cutoff=0.6)
    containing = [item for item in spellings if len(wanted) > 2 and wanted in item]
    found = list(dict.fromkeys([*close, *containing]))[:limit]
    return f" Near: {', '.join(spellings[item] for item in found)}." if found else ""


def checked_provider(provider: str | None) -> str | None:
    """The id as the tables have it.

    Raises:
        typer.BadParameter: no such provider.
    """
    if provider is None:
        return None
    name = provider.strip().lower()
    if name not in data.PROVIDERS:
        hint = near(name, data.PROVIDERS) or f" Known: {', '.join(sorted(data.PROVIDERS))}."
        raise wrong(f"no provider {provider!r}.{hint}", "--provider")
    return name
