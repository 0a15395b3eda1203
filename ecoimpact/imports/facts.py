"""What a source tells of a row, and how it reads a row's values.

Rules that hold in this file: a value is read as what it is or the row is turned away by the name of the field, never by
its content; an empty cell is an unknown value; text that is long is no name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from ecoimpact.types import Status, Usage

Row: TypeAlias = Mapping[str, Any]

MAX_TEXT_CHARS: Final = 256
"""No model, host or id is longer."""
_MAX_NUMBER_CHARS: Final = 24
_END_OF_TIME_S: Final = 253_402_300_000.0  # of what a datetime can hold
_ERROR_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,80}")
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")


class Reject(Exception):  # noqa: N818 - the row is turned away; nothing failed
    """A row that cannot be taken: why, and for which field. It never holds a value of the row."""

    def __init__(self, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field


_NO_USAGE: Final = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One request as its source tells of it, or ``requests`` of them of which only the sum is known.

    ``key`` is what the row goes by in its source; ``None`` where it has no id of its own. ``provider`` and ``host`` as
    :mod:`ecoimpact.providers` tells them; ``None`` where the row does not say. ``until`` is the end of the time over which
    several requests are spread. ``codes`` are those of warnings. Times are Unix times.
    """

    key: str | None
    started_at: float
    endpoint: str
    provider: str | None = None
    host: str | None = None
    request_model: str | None = None
    response_model: str | None = None
    usage: Usage = _NO_USAGE
    latency_s: float | None = None
    time_to_first_token_s: float | None = None
    stream: bool = False
    status: Status = "ok"
    error_type: str | None = None
    stated_cost_usd: float | None = None
    requests: int = 1
    until: float | None = None
    codes: tuple[str, ...] = ()


def _itself(value: Any) -> Iterable[Any]:
    return (value,)


@dataclass(frozen=True, slots=True)
class Source:
    """How the exports of one tool are read.

    ``read`` gives the facts of a row, or ``None`` for a row that is no request to a model, and raises :class:`Reject`.
    ``envelopes`` are the keys under which pages hold their rows; ``expand`` makes rows of what holds several. ``columns``
    are all that a reader of Parquet has to fetch; ``content`` are columns that hold what was said.
    """

    name: str
    read: Callable[[Row], Facts | None]
    envelopes: tuple[str, ...] = ()
    expand: Callable[[Any], Iterable[Any]] = _itself
    columns: tuple[str, ...] = ()
    content: frozenset[str] = field(default_factory=frozenset)


# --- values -------------------------------------------------------------------------------------------------------------


def is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def first(row: Row, *names: str) -> Any:
    """The first of the fields that holds anything."""
    for name in names:
        value = row.get(name)
        if not is_empty(value):
            return value
    return None


def text(row: Row, *names: str) -> str | None:
    """A name: a model, a provider, an id.

    >>> text({"model": " gpt-4o "}, "model"), text({"model": ""}, "model")
    ('gpt-4o', None)
    """
    value = first(row, *names)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Reject("text-invalid", names[0])
    if len(value) > MAX_TEXT_CHARS:
        raise Reject("text-too-long", names[0])
    return value.strip()


def count(row: Row, *names: str) -> int | None:
    """A whole number of tokens or requests, from a number or the text of one.

    >>> count({"n": 3.0}, "n"), count({"n": "12"}, "n"), count({}, "n")
    (3, 12, None)
    """
    value = number(row, *names)
    if value is None:
        return None
    if value < 0 or not float(value).is_integer():
        raise Reject("count-invalid", names[0])
    return int(value)


def number(row: Row, *names: str) -> float | None:
    """A finite number, or the text of one; whole numbers keep their digits."""
    value = first(row, *names)
    if value is None:
        return None
    if isinstance(value, str):
        digits = value.strip()
        if len(digits) > _MAX_NUMBER_CHARS or not _NUMBER.fullmatch(digits):
            raise Reject("number-invalid", names[0])
        value = float(digits) if set(digits) & set(".eE") else int(digits)
    if type(value) not in (int, float) or not abs(value) < 10**_MAX_NUMBER_CHARS or not math.isfinite(value):
        raise Reject("number-invalid", names[0])
    return value  # type: ignore[no-any-return] # one of the two types


def cost(row: Row, *names: str) -> float | None:
    """What the source says that it cost. Nothing is no price: it stands where the source knows none."""
    value = number(row, *names)
    return value if value is not None and value > 0 else None


def moment(row: Row, *names: str) -> float | None:
    """Unix time of a date and time as text; without a zone it is UTC, which is what all sources here write.

    >>> moment({"at": "2026-01-01 00:00:00.250"}, "at"), moment({"at": "2026-01-01T01:00:00+01:00"}, "at")
    (1767225600.25, 1767225600.0)
    """
    value = first(row, *names)
    if value is None:
        return None
    if not isinstance(value, str | datetime) or (isinstance(value, str) and len(value) > 2 * _MAX_NUMBER_CHARS):
        raise Reject("time-invalid", names[0])
    try:
        found = datetime.fromisoformat(value.strip()) if isinstance(value, str) else value
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found
        return in_time(found.timestamp(), names[0])
    except (ValueError, OverflowError):
        raise Reject("time-invalid", names[0]) from None


def in_time(unix_s: float, name: str) -> float:
    if not 0 < unix_s < _END_OF_TIME_S:
        raise Reject("time-invalid", name)
    return unix_s


def needed(value: float | None, name: str) -> float:
    """A value without which there is no record."""
    if value is None:
        raise Reject("missing", name)
    return value


def duration(start_s: float, end_s: float | None) -> tuple[float | None, tuple[str, ...]]:
    """The time between two moments, and what there is to say of it. None at all is a time that nobody took.

    >>> duration(10.0, 12.5), duration(10.0, 10.0), duration(10.0, 9.0)
    ((2.5, ()), (None, ()), (None, ('latency-invalid',)))
    """
    if end_s is None or end_s == start_s:
        return None, ()
    return (end_s - start_s, ()) if end_s > start_s else (None, ("latency-invalid",))


def part(row: Row, name: str) -> Row:
    """A field that is an object, or the JSON text or the pairs of one; empty for anything else."""
    value = row.get(name)
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    if isinstance(value, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        value = {str(key): item for key, item in value}  # a map as Parquet's readers give it
    return value if isinstance(value, Mapping) else {}


def error_name(value: Any) -> str | None:
    """The class of an error, where it is the name of one; a message is none."""
    return value if isinstance(value, str) and _ERROR_NAME.fullmatch(value) else None


def whole(total: int | None, *parts: int | None) -> int | None:
    """A count that includes its parts. Parts that exceed it were counted apart, as some providers do.

    >>> whole(100, 60, None), whole(10, 60, 30), whole(None, 5)
    (100, 100, None)
    """
    inside = sum(known for known in parts if known is not None)
    return total if total is None or inside <= total else total + inside
