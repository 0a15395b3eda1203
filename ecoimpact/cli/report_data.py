"""What a report is made of, and its two forms for programs: JSON and CSV.

Names carry units as in the records: ``energy_kwh_min``, ``gwp_kgco2eq_max``. What nobody knows is null, or an empty cell.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ecoimpact.records import queries
from ecoimpact.records.buckets import in_text
from ecoimpact.records.export import harmless
from ecoimpact.records.index import Index
from ecoimpact.records.queries import Forecast, Group, Report, Where


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything that is reported of a log at one moment."""

    log: str
    made_at: datetime
    where: Where
    report: Report
    forecast: Forecast | None


def gather(index: Index, log: str, by: str, where: Where, now: datetime) -> Summary:
    """Ask the index.

    Raises:
        ValueError: an unknown dimension or label, with near ones; or a filter that this dimension cannot have.
    """
    report = queries.report(index, by, where)
    # The forecast is for the month that runs, whatever period the report is for.
    scope = Where(model=where.model, provider=where.provider, endpoint=where.endpoint, label=where.label)
    return Summary(log, now, where, report, queries.forecast(index, scope, now=now))


def folded(groups: Sequence[Group], top: int) -> list[Group]:
    """The first ``top`` groups, and one for all others where there are more."""
    shown, others = list(groups[:top]), groups[top:]
    if others:
        rest = queries.EMPTY
        for group in others:
            rest = rest + group.totals
        shown.append(Group(f"({len(others):,} others)", rest))
    return shown


def as_json(summary: Summary) -> dict[str, Any]:
    """The whole report as plain data."""
    report, where, forecast = summary.report, summary.where, summary.forecast
    return {
        "log": summary.log,
        "made_at": in_text(summary.made_at),
        "by": report.by,
        "since": in_text(report.since),
        "until": in_text(report.until),
        "model": where.model,
        "provider": where.provider,
        "label": None if where.label is None else dict([where.label]),
        "first": in_text(report.first),
        "last": in_text(report.last),
        "editions": list(report.editions),
        "total": report.total.to_dict(),
        "groups": [{"key": group.key, **group.totals.to_dict()} for group in report.groups],
        "errors": report.error_codes,
        "warnings": report.warning_codes,
        "skipped_lines": report.skipped_lines,
        "forecast": None
        if forecast is None
        else {
            "month": forecast.month,
            "days_seen": forecast.days_seen,
            "days_left": forecast.days_left,
            "so_far": forecast.so_far.to_dict(),
            "expected": forecast.expected.to_dict(),
        },
    }


def as_csv(summary: Summary) -> str:
    """The groups, a row each, without a total: sums over a column are right."""
    report = summary.report
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow([harmless(report.by), *report.total.to_dict()])
    for group in report.groups:
        writer.writerow(
            [harmless(group.key), *("" if value is None else value for value in group.totals.to_dict().values())]
        )
    return buffer.getvalue()
