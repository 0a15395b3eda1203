"""What the first view shows: headlines, how it went, the largest groups, coverage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from ecoimpact.dashboard import plain
from ecoimpact.dashboard.asked import TIMES, Asked, central, change, measured
from ecoimpact.dashboard.equivalences import equivalences
from ecoimpact.records import queries
from ecoimpact.records.buckets import DAY, HOUR, MONTH, hour_of, in_text, month_of_day, text_of
from ecoimpact.records.index import Index
from ecoimpact.records.queries import Group, Report, Totals, Where

PARTS: Final = 6
"""Groups with a colour of their own."""
HOURS: Final = timedelta(days=3)
DAYS: Final = timedelta(days=190)
"""Longest periods that are drawn by hour, and by day."""
MAX_TIMES: Final = 1_200


def overview(index: Index, asked: Asked, *, now: datetime) -> dict[str, Any]:
    """The whole view as plain data.

    Raises:
        ValueError: an unknown label, or a combination that the index does not keep.
    """
    report = queries.report(index, asked.by, asked.where)
    groups = _ordered(report, asked)
    shown, others = groups[: asked.rows], groups[asked.rows :]
    scope = replace(asked.where, since=None, until=None)
    known = queries.known(index)
    return {
        "now": in_text(now),
        "group_by": asked.by,
        "metric": asked.metric,
        "sort": asked.sort,
        "since": in_text(report.since),
        "until": in_text(report.until),
        "first": in_text(report.first),
        "last": in_text(report.last),
        "total": plain.figures(report.total),
        "change": _change(index, asked, report, now),
        "forecast": plain.forecast(queries.forecast(index, scope, now=now)),
        "groups": [_row(group.key, group.totals, report.total, asked.sort) for group in shown],
        "group_count": len(groups),
        "others": _row("", _sum(others), report.total, asked.sort) if others else None,
        "series": _series(index, asked, report),
        "coverage": {
            "errors": report.error_codes,
            "warnings": report.warning_codes,
            "editions": list(report.editions),
            "skipped_lines": report.skipped_lines,
        },
        "equivalences": equivalences(report.total),
        "known": {
            "models": known.models,
            "providers": known.providers,
            "endpoints": known.endpoints,
            "labels": known.labels,
        },
    }


def _ordered(report: Report, asked: Asked) -> list[Group]:
    if asked.by in TIMES:  # the newest first
        return list(reversed(report.groups))
    return sorted(report.groups, key=lambda group: (-central(group.totals, asked.sort), -group.totals.requests, group.key))


def _row(key: str, totals: Totals, whole: Totals, metric: str) -> dict[str, Any]:
    part, all_ = measured(totals, metric), measured(whole, metric)
    share = None if part is None or all_ is None or not all_.central else part.central / all_.central
    return {"key": key, **plain.figures(totals), "share": share}


def _sum(groups: Sequence[Group]) -> Totals:
    rest = queries.EMPTY
    for group in groups:
        rest = rest + group.totals
    return rest


def _change(index: Index, asked: Asked, report: Report, now: datetime) -> dict[str, Any] | None:
    periods = change(asked, report, now)
    if periods is None:
        return None
    previous = _within(index, asked.where, periods.previous_since, periods.since)
    if not previous.requests:
        return None
    current = report.total
    if (report.since, report.until) != (periods.since, periods.until):
        current = _within(index, asked.where, periods.since, periods.until)
    return {
        "hours": periods.length / timedelta(hours=1),
        "is_of_view": report.since is not None,
        "previous_since": in_text(periods.previous_since),
        "since": in_text(periods.since),
        "until": in_text(periods.until),
        "current": plain.figures(current),
        "previous": plain.figures(previous),
    }


def _within(index: Index, where: Where, since: datetime, until: datetime) -> Totals:
    return queries.total(index, replace(where, since=since, until=until))


# --- how it went --------------------------------------------------------------------------------------------------------


def _series(index: Index, asked: Asked, report: Report) -> dict[str, Any]:
    level = _level(asked, report)
    by_time = {group.key: group.totals for group in queries.report(index, level, asked.where).groups}
    largest = sorted(report.groups, key=lambda group: -central(group.totals, asked.metric))[:PARTS]
    keys = [] if asked.by in TIMES else [group.key for group in largest if measured(group.totals, asked.metric) is not None]
    parts = queries.timeline(index, asked.by, keys, asked.where, level=level) if keys else {}
    times = list(_times(report, level))
    total = [_span(by_time.get(time), asked.metric) for time in times]
    values = {key: [_middle(parts.get(key, {}).get(time), asked.metric) for time in times] for key in keys}
    return {
        "level": level,
        "times": times,
        "requests": [by_time[time].requests if time in by_time else 0 for time in times],
        "total": total,
        "parts": [{"key": key, "values": values[key]} for key in keys],
        "others": _others(total, [*values.values()]) if len(report.groups) > len(keys) or not keys else None,
    }


def _level(asked: Asked, report: Report) -> str:
    if asked.by in TIMES:
        return asked.by
    length = timedelta(0) if report.first is None or report.last is None else report.last - report.first
    if length <= HOURS and not asked.where.label and not asked.by.startswith("label:"):
        return "hour"
    return "day" if length <= DAYS else "month"


def _times(report: Report, level: str) -> Iterator[str]:
    """From the first request to the last, those without requests too; of hours and days the last 1 200."""
    if report.first is None or report.last is None:
        return
    ends = [hour_of(moment) for moment in (report.first, report.last)]
    if level == "month":
        first, last = (month_of_day(hour // 24) for hour in ends)
        yield from (text_of(MONTH, month) for month in range(first, last + 1))
        return
    size, bucket = (24, DAY) if level == "day" else (1, HOUR)
    first, last = (hour // size for hour in ends)
    yield from (text_of(bucket, number) for number in range(max(first, last - MAX_TIMES + 1), last + 1))


def _span(totals: Totals | None, metric: str) -> list[float] | None:
    """Low, central, high; ``None`` where there were requests and nothing is known of them."""
    if totals is None:
        return [0.0, 0.0, 0.0]
    value = measured(totals, metric)
    return None if value is None else [value.min, value.central, value.max]


def _middle(totals: Totals | None, metric: str) -> float:
    value = None if totals is None else measured(totals, metric)
    return 0.0 if value is None else value.central


def _others(total: Sequence[list[float] | None], parts: Sequence[Sequence[float]]) -> list[float]:
    """What is left of the whole; what is only rounding is nothing."""
    rest = []
    for place, value in enumerate(total):
        whole = 0.0 if value is None else value[1]
        left = whole - sum(values[place] for values in parts)
        rest.append(left if left > 1e-9 * whole else 0.0)
    return rest
