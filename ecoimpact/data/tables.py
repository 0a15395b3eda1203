"""The files behind the tables: reading them, and an index of what there is."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ecoimpact.types import Range

DATA_VERSION = "2026-11-22"
"""Stands on every result. It changes whenever a figure of a table does."""

FILES = Path(__file__).with_name("files")


@dataclass(frozen=True, slots=True)
class Source:
    """Where figures come from: ``date`` is the day of publication, or else the day the source was read."""

    key: str
    title: str
    url: str
    licence: str
    date: str

    def __str__(self) -> str:
        return f"{self.title}, {self.date}, {self.url}"


@dataclass(frozen=True, slots=True)
class Table:
    """What a table holds: the number of its rows, the newest date of its sources, and the sources themselves."""

    name: str
    rows: int
    date: str
    sources: tuple[Source, ...]


@cache
def rows(table: str) -> tuple[tuple[str, ...], ...]:
    """The rows of a table as text, without the header."""
    with (FILES / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return tuple(map(tuple, csv.reader(file)))[1:]


def header(table: str) -> tuple[str, ...]:
    """The names of a table's columns."""
    with (FILES / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return tuple(next(csv.reader(file)))


@cache
def sources() -> dict[str, Source]:
    """All sources by key."""
    import tomllib

    text = (FILES / "sources.toml").read_text(encoding="utf-8")
    return {key: Source(key, s["title"], s["url"], s["licence"], str(s["date"])) for key, s in tomllib.loads(text).items()}


def cite(keys: str) -> str:
    """Sources as one line of text, from the keys and addresses of a row. Any other text is a source in its own words."""
    words = keys.split()
    if not all(word in sources() or word.startswith("https://") for word in words):
        return keys
    return "; ".join(str(sources().get(word, word)) for word in words)


def tables() -> tuple[Table, ...]:
    """An index of all tables, for people who want to know what their figures rest on."""
    index = []
    for path in sorted(FILES.glob("*.csv")):
        names = header(path.stem)
        column = next(i for i, name in enumerate(names) if name in ("source", "sources"))
        keys = dict.fromkeys(key for row in rows(path.stem) for key in row[column].split())
        used = tuple(sources()[key] for key in keys)
        index.append(Table(path.stem, len(rows(path.stem)), max(s.date for s in used), used))
    return tuple(index)


def span(text: str) -> Range:
    """A number, or two with ``..`` between them.

    >>> span("1.2"), span("1.09..1.14")
    (Range(min=1.2, max=1.2), Range(min=1.09, max=1.14))
    """
    low, _, high = text.partition("..")
    return Range(float(low), float(high or low))


def number(text: str) -> float | None:
    """A number, or ``None`` for an empty cell."""
    return float(text) if text else None
