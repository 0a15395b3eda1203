"""Hours, days and months as whole numbers, all UTC: what the index counts by.

An hour and a day are counted from 1970-01-01, a month is ``12 * year + month - 1``. Whole periods are taken in the largest
buckets that fit, so that a sum over years reads a few months, a few days at both ends, and a few hours at theirs.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

HOUR: Final = 0
DAY: Final = 1
MONTH: Final = 2

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL: Final = EPOCH.toordinal()
_END_YEAR: Final = 9999

START_OF_TIME: Final = 0
END_OF_TIME: Final = (date(_END_YEAR, 1, 1).toordinal() - _EPOCH_ORDINAL) * 24
"""The hours between which records are counted; a moment outside is none that a record can have."""


class Stretch(NamedTuple):
    """Buckets of one size: from ``first`` up to, not including, ``end``."""

    level: int
    first: int
    end: int


def hour_of(moment: datetime) -> int:
    """The hour in which an aware ``moment`` lies."""
    since_epoch = moment - EPOCH
    return since_epoch.days * 24 + since_epoch.seconds // 3600


def in_utc(text: str) -> datetime:
    """The moment of an RFC 3339 text. ``ValueError`` and ``OverflowError`` where it is none."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def in_text(moment: datetime | None) -> str | None:
    """A moment as RFC 3339 has it, with ``Z`` for UTC; nothing for none.

    >>> in_text(EPOCH)
    '1970-01-01T00:00:00Z'
    """
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def hour_of_text(text: str) -> int | None:
    """The hour of an RFC 3339 text, ``None`` where it is none, or outside of what records can have.

    A time without a zone is UTC, as the reader takes it.

    >>> hour_of_text("1970-01-02T01:30:00Z"), hour_of_text("1970-01-02T01:30:00+01:00"), hour_of_text("soon")
    (25, 24, None)
    """
    try:
        hour = hour_of(in_utc(text))
    except (ValueError, OverflowError):
        return None
    return hour if START_OF_TIME <= hour < END_OF_TIME else None


def month_of_day(day: int) -> int:
    on = date.fromordinal(day + _EPOCH_ORDINAL)
    return 12 * on.year + on.month - 1


def first_day(month: int) -> int:
    return date(month // 12, month % 12 + 1, 1).toordinal() - _EPOCH_ORDINAL


def moment_of(hour: int) -> datetime:
    return EPOCH + timedelta(hours=hour)


def text_of(level: int, bucket: int) -> str:
    """As reports name it: ``2026-11-22T13``, ``2026-11-22``, ``2026-11``.

    >>> text_of(HOUR, 25), text_of(DAY, 1), text_of(MONTH, 12 * 1970)
    ('1970-01-02T01', '1970-01-02', '1970-01')
    """
    if level == MONTH:
        return f"{bucket // 12:04}-{bucket % 12 + 1:02}"
    return f"{moment_of(bucket if level == HOUR else bucket * 24):{'%Y-%m-%dT%H' if level == HOUR else '%Y-%m-%d'}}"


def stretches(since_hour: int, until_hour: int, *, largest: int = MONTH) -> list[Stretch]:
    """The buckets that make up the hours from ``since_hour`` up to ``until_hour``, none larger than ``largest``.

    >>> stretches(23, 24 * 40)  # an hour, then the days up to 9 February
    [Stretch(level=0, first=23, end=24), Stretch(level=1, first=1, end=40)]
    """
    since_hour, until_hour = max(since_hour, START_OF_TIME), min(until_hour, END_OF_TIME)
    if since_hour >= until_hour:
        return []
    if largest == HOUR:
        return [Stretch(HOUR, since_hour, until_hour)]
    if largest == DAY:
        first, end = -(-since_hour // 24), until_hour // 24
        first_hour, end_hour = first * 24, end * 24
    else:
        first = month_of_day(-(-since_hour // 24) - 1) + 1
        end = month_of_day(until_hour // 24)
        first_hour, end_hour = first_day(first) * 24, first_day(end) * 24
    if first >= end:
        return stretches(since_hour, until_hour, largest=largest - 1)
    return [
        *stretches(since_hour, first_hour, largest=largest - 1),
        Stretch(largest, first, end),
        *stretches(end_hour, until_hour, largest=largest - 1),
    ]
