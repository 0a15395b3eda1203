"""What the commands over a log have in common: which log, which part of it, and its index."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from ecoimpact.cli.output import DEFAULT_LOG, near, wrong
from ecoimpact.cli.progress import progress
from ecoimpact.records.index import Index
from ecoimpact.records.queries import parse_moment

DEFAULT: Path = Path(DEFAULT_LOG)

Log: TypeAlias = Annotated[Path, typer.Option(envvar="ECOIMPACT_LOG", help="Directory of the log.")]
Since: TypeAlias = Annotated[
    str | None, typer.Option(help="From this moment on: 2026-11-01, 2026-11-01T10:00, 7d, 24h, today, yesterday, month.")
]
Until: TypeAlias = Annotated[str | None, typer.Option(help="Up to this moment; a day is meant with all its hours (UTC).")]
OneLabel: TypeAlias = Annotated[
    str | None, typer.Option(metavar="KEY=VALUE", help="Only requests with this label.", show_default=False)
]


def now() -> datetime:
    return datetime.now(UTC)


def checked_log(log: Path) -> Path:
    """The directory of an existing log.

    Raises:
        typer.BadParameter: there is none; it says how to come by one.
    """
    if not log.is_dir():
        raise wrong(
            f"there is no log in {log}. A program that calls ecoimpact.instrument(log_dir={str(log)!r}) writes one, "
            "and so does: ecoimpact demo",
            "--log",
        )
    return log


def checked_period(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """Both ends of the period in UTC, ``None`` where it is open.

    Raises:
        typer.BadParameter: text that names no moment, or an end that does not come after the beginning.
    """
    moment = now()
    first = _moment(since, "--since", moment, end=False)
    end = _moment(until, "--until", moment, end=True)
    if first is not None and end is not None and first >= end:
        raise wrong(f"{until!r} does not come after --since {since!r}", "--until")
    return first, end


def _moment(text: str | None, option: str, now: datetime, *, end: bool) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_moment(text, now=now, end=end)
    except ValueError as error:
        raise wrong(str(error), option) from None


def checked_label(label: str | None) -> tuple[str, str] | None:
    """``KEY=VALUE`` as a pair.

    Raises:
        typer.BadParameter: it is no such text.
    """
    if label is None:
        return None
    key, equals, value = label.partition("=")
    if not key or not equals:
        raise wrong(f"{label!r} is not a label such as feature=search", "--label")
    return key, value


def checked_choice(name: str, choices: tuple[str, ...], option: str) -> str:
    """One of the choices.

    Raises:
        typer.BadParameter: it is none of them; near ones are listed.
    """
    if name not in choices:
        hint = near(name, choices) or f" Known: {', '.join(choices)}."
        raise wrong(f"no {option.strip('-')} {name!r}.{hint}", option)
    return name


@contextmanager
def failures_said() -> Iterator[None]:
    """A file system that fails ends the command with 1 and one line, not with a traceback. Broken pipes end it quietly."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"ecoimpact: {where}{error.strerror or error}", file=sys.stderr)
        raise typer.Exit(1) from None


@contextmanager
def open_index(log: Path) -> Iterator[Index]:
    """The index of the log, with everything in it that the log has now."""
    with failures_said(), Index(log) as index:
        with progress("indexing the log") as update:
            refreshed = index.refresh(progress=update)
        if not refreshed.up_to_date:
            print("Another process is indexing this log; these figures may lag behind it.", file=sys.stderr)
        yield index
