"""The table of the report's page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Final, NamedTuple

from ecoimpact.cli.money import cost_unit
from ecoimpact.cli.printable import safe, shortened
from ecoimpact.cli.quantities import Unit, unit_for
from ecoimpact.cli.report_data import folded
from ecoimpact.cli.report_table import CRITERIA, compact, largest
from ecoimpact.records.queries import Report, Totals
from ecoimpact.types import Range

ROWS: Final = 200
KEY_WIDTH: Final = 120


class _Scale(NamedTuple):
    """What all rows share: a unit for each column, the high end of the longest bar, what shares are of."""

    units: Mapping[str, Unit]
    cost: Unit
    highest: float
    whole: Totals


def rows(report: Report) -> str:
    """The groups and their total. The bars of energy have one scale."""
    shown = folded(report.groups, ROWS)
    scale = _Scale(
        {key: unit_for(key, largest(report, key)) for key in CRITERIA},
        cost_unit(max((group.totals.cost_usd or 0.0 for group in shown), default=0.0)),
        max((value.max for group in shown if (value := group.totals.energy) is not None), default=0.0),
        report.total,
    )
    heads = [
        safe(report.by),
        "requests",
        "tokens in",
        "tokens out",
        f"cost<br>{scale.cost.symbol}",
        *(f"{name}<br>{escape(scale.units[key].symbol)}" for key, name in CRITERIA.items()),
        "",
        "share of<br>energy",
    ]
    body = [f"<tr>{_cells(group.key, group.totals, scale)}</tr>" for group in shown]
    body.append(f'<tr class="total">{_cells("total", report.total, scale._replace(highest=0.0))}</tr>')
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _cells(key: str, totals: Totals, scale: _Scale) -> str:
    cells = [
        f"<bdi>{safe(shortened(key, KEY_WIDTH))}</bdi>",
        f"{totals.requests:,}",
        compact(totals.input_tokens),
        compact(totals.output_tokens) if totals.output_tokens or totals.tokens_unknown < totals.requests else "-",
        "-" if totals.cost_usd is None else scale.cost.number(totals.cost_usd),
        *(_span(getattr(totals, name), unit) for name, unit in scale.units.items()),
        _energy_bar(totals.energy, scale.highest),
        _share(totals.energy, scale.whole.energy),
    ]
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _span(value: Range | None, unit: Unit) -> str:
    if value is None:
        return "-"
    between = "" if value.min == value.max else f"<small>{unit.number(value.min)} to {unit.number(value.max)}</small>"
    return unit.number(value.central) + between


def _energy_bar(value: Range | None, highest: float) -> str:
    if value is None or not highest:
        return ""
    low, central, high = (110 * end / highest for end in (value.min, value.central, value.max))
    whisker = f'<path class="whisker" d="M{low:.1f} 8H{high:.1f}M{low:.1f} 5v6M{high:.1f} 5v6"/>' if high > low else ""
    bar = f'<rect class="s0" y="2" width="{central:.1f}" height="12" rx="2"/>'
    return f'<svg viewBox="-1 0 112 16" aria-hidden="true">{bar}{whisker}</svg>'


def _share(value: Range | None, whole: Range | None) -> str:
    if value is None or whole is None or not whole.central:
        return "-"
    return f"{value.central / whole.central:.1%}"
