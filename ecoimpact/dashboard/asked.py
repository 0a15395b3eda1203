"""What a request asks for: the state in the page's address, checked.

Rule of this file: a value is one of an enumeration, or it is bound in the statement; all else is refused with a sentence
that says what would be right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from ecoimpact.records.queries import Report, Totals, Where, parse_moment
from ecoimpact.types import Range

GROUPS: Final = ("model", "provider", "endpoint", "zone", "methodology", "day", "hour", "month")
TIMES: Final = ("hour", "day", "month")
METRICS: Final = {
    # name: field of the totals
    "energy": "energy",
    "gwp": "gwp",
    "water": "wcf",
    "cost": "cost_usd",
    "requests": "requests",
    "output_tokens": "output_tokens",
    "primary_energy": "pe",
    "minerals": "adpe",
}
_ALSO: Final = {"wcf": "water", "pe": "primary_energy", "adpe": "minerals", "cost_usd": "cost"}
"""What records and results call them."""

MAX_ROWS: Final = 200
MAX_TEXT: Final = 512


class Refused(ValueError):  # noqa: N818 - it is the answer to a request
    """What was asked for cannot be had; the message says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One view: which requests, by what, measured and ordered by which metrics, and how many rows."""

    where: Where
    by: str = "model"
    metric: str = "energy"
    sort: str = "energy"
    rows: int = 20


def asked(parameters: Mapping[str, str], *, now: datetime) -> Asked:
    """The view of an address.

    Raises:
        Refused: a value that is none of those there are.
    """
    for name, value in parameters.items():
        if len(value) > MAX_TEXT:
            raise Refused(f"{name} has more than {MAX_TEXT} characters")
    metric = _one_of(parameters, "metric", tuple(METRICS), "energy")
    by = parameters.get("group_by") or "model"
    if by not in GROUPS and not (by.startswith("label:") and by != "label:"):
        raise Refused(f"group_by is one of {', '.join(GROUPS)}, label:NAME")
    return Asked(
        where=Where(
            *_period(parameters, now),
            model=parameters.get("model") or None,
            provider=parameters.get("provider") or None,
            endpoint=parameters.get("endpoint") or None,
            label=_label(parameters.get("label")),
        ),
        by=by,
        metric=metric,
        sort=_one_of(parameters, "sort", tuple(METRICS), metric),
        rows=number_of(parameters, "rows", 20, MAX_ROWS),
    )


def _period(parameters: Mapping[str, str], now: datetime) -> tuple[datetime | None, datetime | None]:
    moments: list[datetime | None] = []
    for name in ("since", "until"):
        text = parameters.get(name)
        try:
            moments.append(parse_moment(text, now=now, end=name == "until") if text else None)
        except ValueError as error:
            raise Refused(str(error)) from None
    since, until = moments
    if since is not None and until is not None and since >= until:
        raise Refused("until does not come after since")
    return since, until


def _one_of(parameters: Mapping[str, str], name: str, choices: tuple[str, ...], default: str) -> str:
    value = parameters.get(name) or default
    value = _ALSO.get(value, value)
    if value not in choices:
        raise Refused(f"{name} is one of {', '.join(choices)}")
    return value


def number_of(parameters: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = parameters.get(name) or str(default)
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most):
        raise Refused(f"{name} is a number from 1 to {most}")
    return int(text)


def _label(text: str | None) -> tuple[str, str] | None:
    if not text:
        return None
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise Refused("label is like feature=search")
    return key, value


# --- measuring ----------------------------------------------------------------------------------------------------------


def measured(totals: Totals, metric: str) -> Range | None:
    """A metric of some totals, ``None`` where nobody knows it."""
    if metric == "output_tokens" and not totals.output_tokens and totals.tokens_unknown == totals.requests:
        return None
    value = getattr(totals, METRICS[metric])
    return value if value is None or isinstance(value, Range) else Range(value, value)


def central(totals: Totals, metric: str) -> float:
    value = measured(totals, metric)
    return -math.inf if value is None else value.central


# --- periods ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """Two periods of the same length, one after the other; both ends of each are whole hours, with labels whole days."""

    previous_since: datetime
    since: datetime
    until: datetime

    @property
    def length(self) -> timedelta:
        return self.until - self.since


def change(asked: Asked, report: Report, now: datetime) -> Change | None:
    """The period that is asked for beside the one before it.

    One without a beginning has nothing before it: then the last 30, 7 or 1 days are compared with as many before, as far as
    the log goes back. ``None`` where it does not.
    """
    end = report.until if report.until is not None else _ceiling(now, _grain(asked))
    if report.since is not None:
        length = end - report.since
        return Change(report.since - length, report.since, end) if length > timedelta(0) else None
    if report.first is None:
        return None
    for days in (30, 7, 1):
        length = timedelta(days=days)
        if report.first <= end - 2 * length:
            return Change(end - 2 * length, end - length, end)
    return None


def whole(asked: Asked) -> Where:
    """The view's filter with the period that its figures cover: whole hours, with labels whole days, rounded outwards."""
    where, grain = asked.where, _grain(asked)
    return replace(
        where,
        since=None if where.since is None else _floor(where.since, grain),
        until=None if where.until is None else _ceiling(where.until, grain),
    )


def _grain(asked: Asked) -> timedelta:
    return timedelta(days=1) if asked.where.label or asked.by.startswith("label:") else timedelta(hours=1)


def _floor(moment: datetime, grain: timedelta) -> datetime:
    start = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return start.replace(hour=0) if grain > timedelta(hours=1) else start


def _ceiling(moment: datetime, grain: timedelta) -> datetime:
    start = _floor(moment, grain)
    return start if start == moment else start + grain
