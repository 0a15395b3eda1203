"""Budgets: how much money, carbon, energy or water requests may take in a period, and how much they took.

Rules that hold in this file: what is taken comes from the index of the log, off every request's path. Requests whose price
or figures nobody knows are counted beside the sum, never in it as zero. Periods are those of the calendar, in UTC.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, get_args

from ecoimpact.types import Range

if TYPE_CHECKING:
    from ecoimpact.records.index import Index

Period: TypeAlias = Literal["day", "week", "month", "year", "total"]
Bound: TypeAlias = Literal["low", "central", "high"]


class Unit(NamedTuple):
    """What a limit is in: the field of the totals, and how many of the unit one of the field's own is."""

    symbol: str
    field: str
    factor: float


UNITS: Final[Mapping[str, Unit]] = {
    "usd": Unit("USD", "cost_usd", 1.0),
    "gco2eq": Unit("gCO2eq", "gwp", 1e3),  # kgCO2eq
    "wh": Unit("Wh", "energy", 1e3),  # kWh
    "l": Unit("L", "wcf", 1.0),
}
FILE_KEYS: Final = frozenset({*UNITS, "period", "label", "per", "alert_at", "webhook", "bound"})


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on what requests take, in one of USD, gCO2eq, Wh or L.

    Args:
        name: what people call it; alerts carry it.
        usd, gco2eq, wh, l: the limit, in exactly one of them.
        period: ``day``, ``week`` (from Monday), ``month``, ``year`` of the calendar in UTC, or ``total``.
        label: only requests with this label, such as ``("team", "search")`` or ``"team=search"``.
        per: each value of this label has the limit for itself.
        alert_at: at which per cent of the limit to alert.
        on_alert: called with each :class:`~ecoimpact.alerts.Alert`, on a background thread.
        webhook: address to which each alert is posted as JSON (extra ``webhook``); ``env:NAME`` reads it from a variable.
        bound: which end of the range counts against the limit; money has no range.

    Raises:
        ValueError: no limit or more than one, or a value that makes no sense.

    >>> Budget("chat", usd=200, label="team=search").limit
    200.0
    """

    name: str
    usd: float | None = None
    gco2eq: float | None = None
    wh: float | None = None
    l: float | None = None  # noqa: E741 - the litre's own symbol
    period: Period = "month"
    label: tuple[str, str] | str | None = None
    per: str | None = None
    alert_at: tuple[float, ...] = (50, 80, 100)
    on_alert: Callable[[Any], object] | None = field(default=None, repr=False)
    webhook: str | None = field(default=None, repr=False)  # an address that often is a secret
    bound: Bound = "central"

    def __post_init__(self) -> None:
        origin = f"budget {self.name!r}"
        if not _is_text(self.name):
            raise ValueError(f"a budget needs a name, not {self.name!r}")
        given = {name: getattr(self, name) for name in UNITS if getattr(self, name) is not None}
        if len(given) != 1:
            raise ValueError(f"{origin} needs a limit in exactly one of {', '.join(UNITS)}, not {len(given)}")
        ((unit, limit),) = given.items()
        if not _is_positive(limit):
            raise ValueError(f"{origin}: {unit} must be a number above 0, not {limit!r}")
        for name, choices in (("period", get_args(Period)), ("bound", get_args(Bound))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{origin}: {name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        object.__setattr__(self, "label", _label(self.label, origin))
        if self.per is not None and not _is_text(self.per):
            raise ValueError(f"{origin}: per must be the name of a label, not {self.per!r}")
        if self.per is not None and self.label is not None:
            raise ValueError(f"{origin}: label and per exclude each other")
        object.__setattr__(self, "alert_at", _thresholds(self.alert_at, origin))
        if self.on_alert is not None and not callable(self.on_alert):
            raise ValueError(f"{origin}: on_alert must be callable, not {self.on_alert!r}")
        _check_webhook(self.webhook, origin)

    @property
    def unit(self) -> Unit:
        return UNITS[self._unit_name]

    @property
    def limit(self) -> float:
        return float(getattr(self, self._unit_name))

    @property
    def _unit_name(self) -> str:
        return next(name for name in UNITS if getattr(self, name) is not None)

    def began(self, now: datetime) -> datetime | None:
        """When the period that ``now`` lies in began; ``None`` for ``total``.

        >>> Budget("b", usd=1, period="week").began(datetime(2026, 11, 22, 9, tzinfo=UTC)).isoformat()
        '2026-11-16T00:00:00+00:00'
        """
        today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if self.period == "week":
            return today - timedelta(days=today.weekday())
        if self.period == "month":
            return today.replace(day=1)
        if self.period == "year":
            return today.replace(month=1, day=1)
        return today if self.period == "day" else None


@dataclass(frozen=True, slots=True)
class Spending:
    """What a budget's requests took in the current period, in the budget's unit.

    ``scope`` is the value of the label ``per`` that it is for. ``used`` is ``None`` where no request could be counted;
    ``uncounted`` of the ``requests`` have no price, or no figures, and are not in it.
    """

    budget: Budget
    scope: str | None
    began: datetime | None
    used: Range | None
    requests: int
    uncounted: int

    @property
    def share(self) -> float:
        """Of the limit, by the budget's ``bound``: 1.0 is all of it."""
        if self.used is None:
            return 0.0
        taken = {"low": self.used.min, "central": self.used.central, "high": self.used.max}[self.budget.bound]
        return taken / self.budget.limit


def spending(index: Index, budgets: Iterable[Budget], *, now: datetime) -> list[Spending]:
    """How each budget stands, from the index as it is; for budgets with ``per`` each value of the label, highest first."""
    from ecoimpact.records import queries
    from ecoimpact.records.names import NONE, OTHER

    known = queries.label_keys(index)
    found = []
    for budget in budgets:
        began = budget.began(now)
        if budget.per is None:
            label = budget.label if isinstance(budget.label, tuple) else None
            where = queries.Where(since=began, label=label)
            total = queries.total(index, where) if label is None or label[0] in known else queries.EMPTY
            found.append(_spending(budget, None, began, total))
        elif budget.per in known:
            groups = queries.report(index, f"label:{budget.per}", queries.Where(since=began)).groups
            each = (_spending(budget, group.key, began, group.totals) for group in groups if group.key not in (NONE, OTHER))
            found += sorted(each, key=lambda state: -state.share)
    return found


def _spending(budget: Budget, scope: str | None, began: datetime | None, totals: Any) -> Spending:
    value = getattr(totals, budget.unit.field)
    if isinstance(value, float):
        value = Range(value, value)
    field = budget.unit.field
    uncounted = totals.unpriced if field == "cost_usd" else totals.requests - getattr(totals, f"{field}_known")
    used = None if value is None else value * budget.unit.factor
    return Spending(budget, scope, began, used, totals.requests, uncounted)


# --- from configuration -------------------------------------------------------------------------------------------------


def parse(value: Any, origin: str) -> tuple[Budget, ...]:
    """Budgets from ``[tool.ecoimpact.budgets]`` (a table for each, by name), or a list of :class:`Budget`.

    Raises:
        ValueError: an unknown key, two of one name, or what :class:`Budget` refuses.
    """
    if isinstance(value, Mapping):
        budgets = tuple(_from_table(name, table, origin) for name, table in value.items())
    elif isinstance(value, Budget):
        budgets = (value,)
    else:
        budgets = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    for budget in budgets:
        if not isinstance(budget, Budget):
            raise ValueError(  # noqa: TRY004 - one type for all that is configured wrongly
                f"{origin} must be budgets such as ecoimpact.Budget('chat', usd=200), not {budget!r}"
            )
    names = [budget.name for budget in budgets]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{origin}: two budgets are called {name!r}")
    return budgets


def _from_table(name: str, table: Any, origin: str) -> Budget:
    from difflib import get_close_matches

    if not isinstance(table, Mapping):
        raise ValueError(f"{origin}: {name} must be a table such as {{usd = 200, period = 'month'}}, not {table!r}")  # noqa: TRY004
    for key in table:
        if key not in FILE_KEYS:
            near = get_close_matches(key, FILE_KEYS, n=1) or [", ".join(sorted(FILE_KEYS))]
            raise ValueError(f"{origin}: {name} has an unknown key {key!r}; did you mean {near[0]}?")
    try:
        return Budget(name, **table)
    except ValueError as error:
        raise ValueError(f"{origin}: {error}") from None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _label(value: Any, origin: str) -> tuple[str, str] | None:
    if value is None:
        return None
    pair = tuple(value.split("=", 1)) if isinstance(value, str) else value
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(map(_is_text, pair)):
        raise ValueError(f"{origin}: label must be like 'team=search', not {value!r}")
    return pair[0], pair[1]


def _thresholds(value: Any, origin: str) -> tuple[float, ...]:
    numbers = tuple(value) if isinstance(value, tuple | list) else (value,)
    if not all(map(_is_positive, numbers)):
        raise ValueError(f"{origin}: alert_at must be per cent of the limit such as [50, 80, 100], not {value!r}")
    return tuple(sorted(set(numbers)))


def _check_webhook(value: Any, origin: str) -> None:
    if value is not None and not (isinstance(value, str) and value.startswith(("https://", "http://", "env:"))):
        raise ValueError(
            f"{origin}: webhook must be an address such as https://..., or env:NAME_OF_A_VARIABLE"
        )  # never shown
