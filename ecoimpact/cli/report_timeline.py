"""The part of the report's page that shows how it went day by day: a chart for each quantity, and a switch between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final

from ecoimpact.cli.money import cost_unit
from ecoimpact.cli.printable import counted, safe, shortened
from ecoimpact.cli.quantities import Unit, unit_for
from ecoimpact.cli.report_chart import Bar, chart
from ecoimpact.cli.report_data import Summary
from ecoimpact.records import queries
from ecoimpact.records.index import Index
from ecoimpact.records.queries import Totals, Where
from ecoimpact.types import Range

METRICS: Final = {"energy": "Energy", "gwp": "Carbon", "wcf": "Water", "cost_usd": "Cost", "requests": "Requests"}
SERIES: Final = 5
"""Groups with a colour of their own; the others share one."""
DAYS: Final = 190
"""A longer period has a bar for each month."""


@dataclass(frozen=True, slots=True)
class Series:
    """What each day (or month) adds up to: in all, and for the largest groups."""

    by: str
    total: Mapping[str, Totals]
    parts: Mapping[str, Mapping[str, Totals]]


def series(index: Index, summary: Summary) -> Series:
    """Ask the index for the chart."""
    report = summary.report
    long = report.first is not None and report.last is not None and report.last - report.first > timedelta(days=DAYS)
    by = "month" if long else "day"
    parts = {}
    for key in [group.key for group in report.groups if not group.key.startswith("(")][:SERIES]:
        where = _only(summary.where, report.by, key)
        if where is not None:
            parts[key] = _by_time(index, by, where)
    return Series(by, _by_time(index, by, summary.where), parts)


def _only(where: Where, by: str, key: str) -> Where | None:
    """The part of ``where`` that is one group of ``by``; ``None`` where it cannot be asked for."""
    if by in ("model", "provider", "endpoint"):
        only: dict[str, Any] = {by: key}
        return replace(where, **only)
    if by.startswith("label:"):
        label = (by.removeprefix("label:"), key)
        return replace(where, label=label) if where.label in (None, label) else None
    return None


def _by_time(index: Index, by: str, where: Where) -> dict[str, Totals]:
    return {group.key: group.totals for group in queries.report(index, by, where).groups}


def tabs(series: Series) -> str:
    """A chart for each quantity, and the switch between them, which needs no script."""
    times = list(_times(series))
    switches, figures = [], []
    for number, (metric, name) in enumerate(METRICS.items()):
        checked = " checked" if number == 0 else ""
        switches.append(f'<input type="radio" name="metric" id="m{number}"{checked}><label for="m{number}">{name}</label>')
        title = f"{name} by {series.by}"
        bars, unit = _bars(series, times, metric)
        figures.append(f'<figure class="f{number}">{chart(bars, unit, title)}{_legend(series, bars)}</figure>')
    return f'<div class="tabs">{"".join(switches)}{"".join(figures)}</div>'


def _times(series: Series) -> Iterator[str]:
    """The days from the first to the last, those without requests too; months as they are."""
    known = sorted(time for time in series.total if not time.startswith("("))  # those in brackets are no times
    if series.by == "month" or not known:
        yield from known
        return
    day, last = date.fromisoformat(known[0]), date.fromisoformat(known[-1])
    while day <= last:
        yield day.isoformat()
        day += timedelta(days=1)


def _bars(series: Series, times: Sequence[str], metric: str) -> tuple[list[Bar], Unit]:
    values = (_value(series.total.get(time), metric) for time in times)
    unit = _unit(metric, max((value.max for value in values if value is not None), default=0.0))
    bars = []
    for time in times:
        totals = series.total.get(time)
        value = _value(totals, metric)
        if totals is None or value is None:
            known = "no requests" if totals is None else f"nothing known of {counted(totals.requests, 'request')}"
            bars.append(Bar(time, () if totals is None else None, 0.0, 0.0, f"{time}: {known}"))
            continue
        parts = [_central(part.get(time), metric) for part in series.parts.values()]
        rest = max(0.0, value.central - sum(parts))
        if rest < 1e-9 * value.central:
            rest = 0.0
        # Groups beyond the coloured ones; all there is, where there are none.
        parts += [0.0] * (SERIES - len(parts)) + [rest] if parts else [rest]
        said = counted(totals.requests, "request")
        if metric != "requests":
            said = f"{unit.span(value)} {unit.symbol}, {said}"
        bars.append(Bar(time, tuple(parts), value.min, value.max, f"{time}: {said}"))
    return bars, unit


def _value(totals: Totals | None, metric: str) -> Range | None:
    value = None if totals is None else getattr(totals, metric)
    return value if value is None or isinstance(value, Range) else Range(value, value)


def _central(totals: Totals | None, metric: str) -> float:
    value = _value(totals, metric)
    return 0.0 if value is None else value.central


def _unit(metric: str, value: float) -> Unit:
    if metric == "requests":
        return Unit("", 1.0)
    return cost_unit(value) if metric == "cost_usd" else unit_for(metric, value)


def _legend(series: Series, bars: Sequence[Bar]) -> str:
    parts = [bar.parts for bar in bars if bar.parts]
    square = '<svg viewBox="0 0 14 14" aria-hidden="true"><rect class="{}" width="14" height="14" rx="3"/></svg>'
    names = [*(safe(shortened(key, 40)) for key in series.parts), *["others"] * bool(series.parts)]
    classes = [*range(len(series.parts)), SERIES]
    entries = [
        f"<li>{square.format(f's{number}')}<bdi>{name}</bdi></li>"
        for number, name in zip(classes, names, strict=False)
        if any(len(part) > number and part[number] > 0 for part in parts)
    ]
    if any(bar.high > bar.low for bar in bars):
        mark = '<svg viewBox="0 0 14 14" aria-hidden="true"><path class="whisker" d="M7 1V13M3 1h8M3 13h8"/></svg>'
        entries.append(f"<li>{mark}low to high</li>")
    if any(bar.parts is None for bar in bars):
        mark = '<svg viewBox="0 0 14 14" aria-hidden="true"><text class="unknown" x="7" y="12">?</text></svg>'
        entries.append(f"<li>{mark}unknown</li>")
    return f'<ul class="legend">{"".join(entries)}</ul>'
