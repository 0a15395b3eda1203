"""A fleet's footprint for programs: JSON and CSV. Names carry units; what nobody knows is null, or an empty cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from ecoimpact.fleet import AttributedFootprint, Attribution
from ecoimpact.fleet.attributed import FleetAmounts, Quantity
from ecoimpact.records.buckets import in_text
from ecoimpact.records.export import harmless
from ecoimpact.records.queries import Totals
from ecoimpact.types import Range

OF_THE_LOG = ("requests", "input_tokens", "output_tokens", "tokens_unknown", "mean_latency_s")
ESTIMATED = ("energy_kwh", "gwp_kgco2eq", "wcf_l")


def as_json(found: AttributedFootprint, log: str, made_at: datetime) -> dict[str, Any]:
    """All of it as plain data, hours included."""
    demand, hours = found.demand, found.hours
    return {
        "log": log,
        "made_at": in_text(made_at),
        "kind": found.kind,
        "attribution": found.rule,
        "by": demand.by,
        "since": in_text(demand.start),
        "until": in_text(demand.end),
        "parameters": {
            field.name: _plain(getattr(found.deployment, field.name)) for field in fields(found.deployment) if field.init
        },
        "load": found.load,
        "total": {**_of_the_log(found.estimated), **_amounts(found.total), **_estimated(found.estimated)},
        "groups": [{"key": row.group, **row_figures(row)} for row in found.rows],
        "hourly": {
            "requests": demand.requests.tolist(),
            "output_tokens": demand.output_tokens.tolist(),
            "instances": hours.instances.tolist(),
            "energy_kwh": hours.energy_kwh.tolist(),
            "use_kgco2eq": hours.use_kgco2eq.tolist(),
            "fabrication_kgco2eq": hours.fabrication_kgco2eq.tolist(),
        },
        "assumptions": [{**assumption._asdict(), "value": _plain(assumption.value)} for assumption in found.assumptions],
        "notes": list(found.notes),
        "unestimated": found.estimated.unestimated,
        "editions": list(demand.report.editions),
    }


def as_csv(found: AttributedFootprint) -> str:
    """The groups, a row each, without a total: sums over a column are right."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    rows = [(row.group, row_figures(row)) for row in found.rows]
    writer.writerow([harmless(found.demand.by), *rows[0][1]])
    for key, row in rows:
        writer.writerow([harmless(key), *("" if value is None else value for value in row.values())])
    return buffer.getvalue()


def row_figures(row: Attribution) -> dict[str, Any]:
    """What a group asked, its part of the fleet, and the estimates of the log for it."""
    per_request = None if row.per_request is None else row.per_request.gwp_kgco2eq
    return {
        **_of_the_log(row.totals),
        "share": row.share,
        **_amounts(row.amounts),
        **_ends("gwp_kgco2eq_per_request", per_request),
        **_estimated(row.totals),
    }


def _of_the_log(totals: Totals) -> dict[str, Any]:
    return {name: getattr(totals, name) for name in OF_THE_LOG}


def _estimated(totals: Totals) -> dict[str, Any]:
    known: Mapping[str, Any] = totals.to_dict()
    return {f"estimated_{name}_{end}": known[f"{name}_{end}"] for name in ESTIMATED for end in ("min", "central", "max")}


def _amounts(amounts: FleetAmounts) -> dict[str, float | None]:
    return {
        name: value
        for amount_name, amount in amounts._asdict().items()
        for name, value in _ends(amount_name, amount).items()
    }


def _ends(name: str, amount: Quantity | None) -> dict[str, float | None]:
    if amount is None:
        return dict.fromkeys((f"{name}_min", f"{name}_central", f"{name}_max"))
    span = amount if isinstance(amount, Range) else Range(amount, amount)
    return {f"{name}_min": span.min, f"{name}_central": span.central, f"{name}_max": span.max}


def _plain(value: Any) -> Any:
    return [value.min, value.max] if isinstance(value, Range) else value
