"""Budgets as the page shows them: what is used, and where the period ends if it goes on like this."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from ecoimpact.budgets import Budget, Spending, spending
from ecoimpact.records import queries
from ecoimpact.records.buckets import in_text
from ecoimpact.records.index import Index
from ecoimpact.records.queries import Where
from ecoimpact.types import Range

MAX_SCOPES: Final = 50


def budgets(index: Index, wanted: Iterable[Budget], *, now: datetime) -> list[dict[str, Any]]:
    """A row for each budget, and for each value of a label that a budget is for, the fullest of those first."""
    return [_row(index, each, now) for each in spending(index, wanted, now=now)[:MAX_SCOPES]]


def _row(index: Index, each: Spending, now: datetime) -> dict[str, Any]:
    budget, used = each.budget, each.used
    end = _end(each.began, budget.period)
    expected = None if end is None else _expected(index, each, now, end)
    return {
        "budget": budget.name,
        "scope": each.scope,
        "label": "=".join(budget.label) if isinstance(budget.label, tuple) else None,
        "per": budget.per,
        "period": budget.period,
        "bound": budget.bound,
        "began": in_text(each.began),
        "ends": in_text(end),
        "unit": budget.unit.symbol,
        "limit": budget.limit,
        "used_min": None if used is None else used.min,
        "used": None if used is None else used.central,
        "used_max": None if used is None else used.max,
        "share": None if used is None else each.share,
        "expected_min": None if expected is None else expected.min,
        "expected": None if expected is None else expected.central,
        "expected_max": None if expected is None else expected.max,
        "expected_share": None if expected is None else _bound(expected, budget.bound) / budget.limit,
        "requests": each.requests,
        "uncounted": each.uncounted,
    }


def _bound(value: Range, bound: str) -> float:
    return {"low": value.min, "central": value.central, "high": value.max}[bound]


def _expected(index: Index, each: Spending, now: datetime, end: datetime) -> Range | None:
    """What is used, and for the time that is left as much a day as the month's forecast takes."""
    budget = each.budget
    label = budget.label if isinstance(budget.label, tuple) else None
    if each.scope is not None and budget.per is not None:
        label = (budget.per, each.scope)
    if label is not None and label[0] not in queries.label_keys(index):
        return None
    month = queries.forecast(index, Where(label=label), now=now)
    if month is None or each.used is None or month.days_left <= 0:
        return None
    daily = [_amount(totals, budget) for totals in (month.so_far, month.expected)]
    if daily[1] is None:
        return None
    so_far = daily[0] if daily[0] is not None else Range(0.0, 0.0)
    days = (end - now) / timedelta(days=1) / month.days_left
    low, central, high = (
        getattr(each.used, side) + max(0.0, getattr(daily[1], side) - getattr(so_far, side)) * days
        for side in ("min", "central", "max")
    )
    high = max(low, high)
    return Range(low, high, min(max(low, central), high))


def _amount(totals: queries.Totals, budget: Budget) -> Range | None:
    value = getattr(totals, budget.unit.field)
    if value is None:
        return None
    return (value if isinstance(value, Range) else Range(value, value)) * budget.unit.factor


def _end(began: datetime | None, period: str) -> datetime | None:
    if began is None:
        return None
    if period == "month":
        return (began + timedelta(days=31)).replace(day=1)
    if period == "year":
        return began.replace(year=began.year + 1)
    return began + timedelta(days={"day": 1, "week": 7}[period])
