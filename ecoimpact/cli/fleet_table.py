"""A fleet's footprint for terminals: it fits into 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import Final

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ecoimpact.cli.output import console, show, table
from ecoimpact.cli.printable import counted, printable, shortened
from ecoimpact.cli.quantities import Unit, unit_for
from ecoimpact.cli.report_table import compact
from ecoimpact.cli.sparkline import sparkline
from ecoimpact.fleet import AttributedFootprint, Attribution
from ecoimpact.fleet.attributed import Quantity, central
from ecoimpact.records.queries import Totals
from ecoimpact.types import Range

KEY_WIDTH: Final = 40
LEAST_KEY: Final = 14
LINE_WIDTH: Final = 96
"""Of what is drawn, where the terminal has more columns."""

RULES: Final = {
    "seed": "the weights of GPUs and memory in each hour",
    "current": "what sets the number of instances in each hour",
    "tokens": "output tokens",
    "time": "seconds of generation",
    "requests": "requests",
}

TITLES: Final = {"gpu-server": "GPU servers", "managed-inference": "nodes of Managed Inference"}


def show_footprint(found: AttributedFootprint, log: str, top: int) -> None:
    """Print it on standard output."""
    out = console()
    out.print(Text(heading(found, log), style="bold"))
    for lines in (totals(found), hours(found, min(out.width, LINE_WIDTH))):
        out.print()
        for line in lines:
            out.print(line, no_wrap=True, overflow="ellipsis")
    show(out, groups(found, top, out.width))
    for sentence in (*comparison(found), *found.notes):
        out.print(Text(sentence))
    _assumptions(out, found)


def heading(found: AttributedFootprint, log: str) -> str:
    """Which log on which fleet, and when."""
    demand = found.demand
    first, last = f"{demand.start:%Y-%m-%d %H:%M}", f"{demand.end:%Y-%m-%d %H:%M}"
    return f"{printable(log)} on {TITLES[found.kind]}, {first} to {last} UTC ({counted(demand.hours, 'hour')})"


def totals(found: AttributedFootprint) -> Iterator[Text]:
    """The whole fleet, a line for each figure."""
    total = found.total
    for name, key, amount in (
        ("energy", "energy", total.energy_kwh),
        ("use", "gwp", total.use_kgco2eq),
        ("fabrication", "gwp", total.fabrication_kgco2eq),
        ("carbon", "gwp", total.gwp_kgco2eq),
        ("water", "wcf", total.wcf_l),
    ):
        yield Text(f"{name:<12} {_spelt(key, amount)}")
    instances = found.hours.instances
    span = f"{instances.mean():,.3g}"
    if instances.min() != instances.max():
        span += f" on average, {instances.min():,.3g} to {instances.max():,.3g}"
    loaded = "" if found.load is None else f"; the requests fill {_percent(found.load)} of them"
    yield Text(f"{'instances':<12} {span}{loaded}")


def hours(found: AttributedFootprint, width: int) -> Iterator[Text]:
    """How it went over time, a line of blocks for each series that moves."""
    drawn = {"requests": found.demand.requests, "instances": found.hours.instances, "energy": found.hours.energy_kwh}
    each = 1
    for name, values in drawn.items():
        if name == "requests" or values.max() - values.min() > 0.1 * values.max():
            line, each = sparkline([float(value) for value in values], width - 13)
            yield Text(f"{name:<12} ").append(line, style="cyan")
    yield Text(f"{'':<12} a column is {counted(each, 'hour')}", style="dim")


# --- the groups ---------------------------------------------------------------------------------------------------------


def folded(found: AttributedFootprint, top: int) -> list[Attribution]:
    """The first ``top`` groups, and one for all others where there are more."""
    shown, others = list(found.rows[:top]), found.rows[top:]
    if others:
        amounts = others[0].amounts
        for row in others[1:]:
            amounts = amounts.plus(row.amounts)
        totals = sum((row.totals for row in others[1:]), start=others[0].totals)
        share = math.fsum(row.share for row in others)
        shown.append(Attribution(f"({len(others):,} others)", totals, share, *amounts))
    return shown


def groups(found: AttributedFootprint, top: int, width: int) -> Table:
    """Whose the footprint is: its carbon, that of a request, and beside it what the log estimates for the same requests."""
    rows = folded(found, top)
    whole = Attribution("total", found.estimated, 1.0, *found.total)
    energy = unit_for("energy", max(central(row.energy_kwh) for row in rows))
    gwp = unit_for("gwp", max(central(row.gwp_kgco2eq) for row in rows))
    each = unit_for("gwp", max((central(row.per_request.gwp_kgco2eq) for row in rows if row.per_request), default=0.0))
    by_log = unit_for("gwp", max((row.totals.gwp.central for row in rows if row.totals.gwp), default=0.0))
    heads = [
        "requests",
        "tokens\nout",
        f"energy\n{energy.symbol}",
        f"carbon\n{gwp.symbol}",
        f"a request\n{each.symbol}",
        f"by the log\n{by_log.symbol}",
        "share",
    ]
    body = [
        [
            Text(compact(row.requests)),
            Text(_tokens(row.totals)),
            _span(row.energy_kwh, energy),
            _span(row.gwp_kgco2eq, gwp),
            _span(row.per_request and row.per_request.gwp_kgco2eq, each),
            _span(row.totals.gwp, by_log),
            Text(_percent(row.share)),
        ]
        for row in (*rows, whole)
    ]
    room = _room(heads, body, width)
    if room < LEAST_KEY:  # tokens are in the report as well
        heads, body = [heads[0], *heads[2:]], [[cells[0], *cells[2:]] for cells in body]
        room = _room(heads, body, width)
    by = shortened(printable(found.demand.by), min(room, KEY_WIDTH))
    result = table(escape(by), *heads, numbers=heads)
    widest = max(cell_len(printable(row.group)) for row in rows)
    result.padding = (0, 1 if room - min(widest, KEY_WIDTH) > len(heads) else 0, 0, 0)
    for column in result.columns:
        column.no_wrap = True
    for row, cells in zip(rows, body, strict=False):
        result.add_row(Text(_key(row.group, min(room, KEY_WIDTH), cells)), *cells)
    result.add_section()
    result.add_row("total", *body[-1], style="bold")
    return result


def _key(key: str, room: int, cells: Sequence[Text]) -> str:
    """In two lines of ``room`` columns where the row has two anyway."""
    key = printable(key)
    if cell_len(key) <= room or not any("\n" in cell.plain for cell in cells):
        return shortened(key, room)
    lines = chop_cells(shortened(key, 2 * room - 1), room)  # wide characters may leave a column empty
    return "\n".join(lines[:2])


def _room(heads: Sequence[str], body: Sequence[Sequence[Text]], width: int) -> int:
    """How wide the names may be, so that the table is not wider than ``width``."""
    for number, head in enumerate(heads):
        cells = [head, *(cells[number].plain for cells in body)]
        width -= 1 + max(len(line) for cell in cells for line in cell.split("\n"))
    return max(8, width)


def _tokens(totals: Totals) -> str:
    return compact(totals.output_tokens) if totals.tokens_unknown < totals.requests else "-"


def _span(amount: Quantity | None, unit: Unit) -> Text:
    if amount is None:
        return Text("-")
    text = Text(compact(float(central(amount) * unit.factor)))
    if isinstance(amount, Range) and amount.min != amount.max:
        low, high = (compact(float(end * unit.factor)) for end in (amount.min, amount.max))
        text.append(f"\n{low}–{high}", style="dim not bold")
    return text


# --- below them ---------------------------------------------------------------------------------------------------------


def comparison(found: AttributedFootprint) -> Iterator[str]:
    """The fleet beside the estimates of the log for the same requests."""
    total, estimated = found.total, found.estimated
    if estimated.gwp is None:
        if estimated.requests:
            yield "The log has no estimate of these requests to compare with."
        return
    unit = unit_for("gwp", estimated.gwp.central)
    text = f"Request by request, the log estimates {unit.span(estimated.gwp)} {unit.symbol}"
    if estimated.gwp.central > 0:
        text += f": the fleet is {_times(central(total.gwp_kgco2eq) / estimated.gwp.central)} that"
    yield f"{text}."
    if estimated.unestimated:
        yield f"Without an estimate: {counted(estimated.unestimated, 'request')}."


def _assumptions(out: Console, found: AttributedFootprint) -> None:
    out.print(Text(f"Shared by {RULES[found.rule]} (--attribution {found.rule})."))
    by_reason: dict[str, list[str]] = {}
    for name, value, unit, why, _ in found.assumptions:
        number = f"{value.min:,.5g} to {value.max:,.5g}" if isinstance(value, Range) else f"{value:,.5g}"
        by_reason.setdefault(why, []).append(f"{name} = {number} {unit}".rstrip())
    if by_reason:
        out.print()
        out.print("Assumed, as nobody gave it:", style="bold")
    for why, names in by_reason.items():
        text = f"{', '.join(names)}: {why}"
        for line in wrap(text, out.width, initial_indent="  ", subsequent_indent="    "):
            out.print(Text(line, style="dim"))


def _spelt(key: str, amount: Quantity | None) -> str:
    if amount is None:
        return "unknown"
    unit = unit_for(key, central(amount))
    return f"{unit.span(amount if isinstance(amount, Range) else Range(amount, amount))} {unit.symbol}"


def _times(ratio: float) -> str:
    """
    >>> _times(3.14159), _times(1234.5), _times(0.002)
    ('3.1 times', '1,234 times', '0.002 times')
    """
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.2g} times"


def _percent(share: float) -> str:
    """
    >>> [_percent(share) for share in (0.0, 0.001, 0.5, 0.999, 1.0)]
    ['0%', '<1%', '50%', '100%', '100%']
    """
    return f"{share:.0%}" if share >= 0.005 or not share else "<1%"
