"""Totals and moments as plain data. Names carry their units, as in records; what nobody knows is null."""

from __future__ import annotations

from typing import Any

from ecoimpact.records.queries import Forecast, Totals
from ecoimpact.types import Range


def figures(totals: Totals) -> dict[str, float | int | None]:
    """Sums as a flat mapping, in full precision, and grams of CO2eq per 1 000 output tokens."""
    per_gram = None if totals.gwp is None or not totals.output_tokens else totals.gwp * (1e6 / totals.output_tokens)
    return {**totals.to_dict(), **ends("gwp_gco2eq_per_1000_output_tokens", per_gram)}


def ends(name: str, value: Range | None) -> dict[str, float | int | None]:
    return {f"{name}_{end}": None if value is None else getattr(value, end) for end in ("min", "central", "max")}


def forecast(found: Forecast | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "month": found.month,
        "days_seen": found.days_seen,
        "days_left": found.days_left,
        "so_far": figures(found.so_far),
        "expected": figures(found.expected),
    }
