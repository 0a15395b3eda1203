"""A report as a table for terminals: it fits into 80 columns, and uses more where there are more."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Final

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ecoimpact.cli.money import cost_unit
from ecoimpact.cli.output import console, table
from ecoimpact.cli.printable import counted, printable, shortened
from ecoimpact.cli.quantities import Unit, unit_for
from ecoimpact.cli.report_data import Summary, folded
from ecoimpact.records.queries import Report, Totals
from ecoimpact.types import Range

CRITERIA: Final = {"energy": "energy", "gwp": "carbon", "wcf": "water"}
WIDTH: Final = 80
"""Of a table that goes into a file."""
KEY_WIDTH: Final = 40
"""Longer keys are shortened."""


def show(summary: Summary, top: int) -> None:
    """Print the report on standard output."""
    _print(console(), summary, top)


def text(summary: Summary, top: int) -> str:
    """The report as plain text of ``WIDTH`` columns."""
    buffer = io.StringIO()
    _print(Console(file=buffer, width=WIDTH, highlight=False, color_system=None), summary, top)
    return buffer.getvalue()


def _print(out: Console, summary: Summary, top: int) -> None:
    out.print(Text(heading(summary), style="bold"))
    if not summary.report.total.requests:
        out.print("No requests.")
    else:
        out.print()
        out.print(groups(summary, top, out.width))
        out.print()
    for line in (*coverage(summary), *forecast(summary)):
        out.print(Text(line))


def heading(summary: Summary) -> str:
    """What is reported: of which log, which part, which period."""
    report, where = summary.report, summary.where
    parts = [printable(summary.log)]
    for name, value in (("model", where.model), ("provider", where.provider)):
        if value is not None:
            parts.append(f"{name} {printable(value)}")
    if where.label is not None:
        parts.append(printable("=".join(where.label)))
    if report.first is not None and report.last is not None:
        first, last = f"{report.first:%Y-%m-%d}", f"{report.last:%Y-%m-%d}"
        parts.append(first if first == last else f"{first} to {last}")
    return ", ".join(parts)


# --- the table ----------------------------------------------------------------------------------------------------------


def groups(summary: Summary, top: int, width: int) -> Table:
    """The groups and their total: in one line each where there is room, else with the ranges in a second line."""
    units = {key: unit_for(key, largest(summary.report, key)) for key in CRITERIA}
    cost = cost_unit(max((group.totals.cost_usd or 0.0 for group in summary.report.groups), default=0.0))
    shapes = [
        _Layout(summary, top, units, cost, one_line=one_line, tokens_in=tokens_in)
        for one_line, tokens_in in ((True, True), (False, True), (False, False))
    ]
    fitting = (shape for shape in shapes if shape.room(width) >= shape.wanted)
    return next(fitting, shapes[-1]).table(width)


def largest(report: Report, key: str) -> float:
    """The largest central value of a criterion in the groups, which a column's unit is made for."""
    ranges: list[Range | None] = [getattr(group.totals, key) for group in report.groups]
    return max((value.central for value in ranges if value is not None), default=0.0)


class _Layout:
    """The cells of the table in one of its two shapes."""

    def __init__(
        self, summary: Summary, top: int, units: dict[str, Unit], cost: Unit, *, one_line: bool, tokens_in: bool
    ) -> None:
        self._units, self._cost, self._one_line, self._tokens_in = units, cost, one_line, tokens_in
        self._by = shortened(printable(summary.report.by), 30)
        self._whole = summary.report.total
        self._rows = [(group.key, group.totals) for group in folded(summary.report.groups, top)]
        self._rows.append(("total", self._whole))
        self._columns = [
            "requests",
            *["tokens\nin"] * tokens_in,
            "tokens\nout",
            f"cost\n{cost.symbol}",
            *(f"{name}\n{units[key].symbol}" for key, name in CRITERIA.items()),
            "share",
        ]
        self._body = [self._cells(totals) for _, totals in self._rows]
        self.wanted = min(KEY_WIDTH, max(len(self._by), *(cell_len(printable(key)) for key, _ in self._rows)))

    def room(self, width: int) -> int:
        """How wide the keys may be, so that the table is not wider than ``width``."""
        for number, head in enumerate(self._columns):
            cells = [head, *(row[number].plain for row in self._body)]
            width -= 1 + max(len(line) for cell in cells for line in cell.split("\n"))
        return max(8, width)

    def table(self, width: int) -> Table:
        result = table(escape(self._by), *self._columns, numbers=self._columns)
        room = self.room(width)
        airy = room - self.wanted > len(self._columns)
        result.padding = (0, 1 if airy else 0, 0, 0)
        for column in result.columns:
            column.no_wrap = True
        for (key, _), cells in zip(self._rows[:-1], self._body, strict=False):
            result.add_row(Text(self._key(key, room)), *cells)  # plain text: no markup in it is obeyed
        result.add_section()
        result.add_row(self._rows[-1][0], *self._body[-1], style="bold")
        return result

    def _cells(self, totals: Totals) -> list[Text]:
        known = totals.tokens_unknown < totals.requests
        cells = [f"{totals.requests:,}" if totals.requests < 1e6 else compact(totals.requests)]
        if self._tokens_in:
            cells.append(compact(totals.input_tokens) if known or totals.input_tokens else "-")
        cells.append(compact(totals.output_tokens) if known or totals.output_tokens else "-")
        cells.append("-" if totals.cost_usd is None else compact(totals.cost_usd * self._cost.factor))
        spans = [self._span(getattr(totals, key), self._units[key]) for key in CRITERIA]
        return [*map(Text, cells), *spans, Text(self._share(totals))]

    def _span(self, value: Range | None, unit: Unit) -> Text:
        if value is None:
            return Text("-")
        low, central, high = (compact(number * unit.factor) for number in (value.min, value.central, value.max))
        if value.min == value.max:
            return Text(central)
        between = f"\n{low}–{high}" if not self._one_line else f" ({low} to {high})"
        return Text(central).append(between, style="dim not bold")

    def _share(self, totals: Totals) -> str:
        whole = self._whole.energy
        if totals.energy is None or whole is None or not whole.central:
            return "-"
        share = totals.energy.central / whole.central
        return f"{share:.0%}" if share >= 0.005 or not share else "<1%"

    def _key(self, key: str, room: int) -> str:
        """In two lines of ``room`` columns where each row has two anyway."""
        key = printable(key)
        if self._one_line or cell_len(key) <= room:
            return shortened(key, room)
        lines = chop_cells(shortened(key, 2 * room - 1), room)  # wide characters may leave a column empty
        return "\n".join(lines[:2])


def compact(number: float) -> str:
    """Three digits in at most five columns.

    >>> [compact(n) for n in (0, 0.0001, 0.126, 9.9961, 12.34, 1234, 12345, 1.2e6, 3.4e9)]
    ['0', '<0.01', '0.13', '10.0', '12.3', '1,234', '12.3k', '1.20M', '3.40G']
    """
    if not number:
        return "0"
    if number < 0.00995:
        return "<0.01"
    if isinstance(number, int) and number < 10_000:
        return f"{number:,}"
    for suffix, size in (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9)):
        scaled = number / size
        if scaled < (9_999.5 if not suffix else 999.5) or suffix == "G":
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:,.{digits}f}{suffix}"
    raise AssertionError


# --- below it -----------------------------------------------------------------------------------------------------------


def coverage(summary: Summary) -> Iterator[str]:
    """What the figures leave out or rest on, and how much of it; nothing is said of what there is none of."""
    report, total = summary.report, summary.report.total
    if total.unestimated:
        codes = ", ".join(f"{printable(code)} {number:,}" for code, number in report.error_codes.items())
        yield f"Without an estimate: {counted(total.unestimated, 'request')}{f' ({codes})' if codes else ''}."
    for name, known, estimated in partly_known(total):
        yield f"{name.capitalize()} is known of {known:,} of {counted(estimated, 'request')} with an estimate."
    if total.unpriced:
        yield f"Without a price: {counted(total.unpriced, 'request')}."
    if total.tokens_unknown:
        yield f"Tokens unknown: {counted(total.tokens_unknown, 'request')}."
    if total.tokens_estimated:
        yield f"Tokens estimated from the answer's length: {counted(total.tokens_estimated, 'request')}."
    if total.not_ok:
        yield f"Failed, cancelled or abandoned: {counted(total.not_ok, 'request')}."
    if report.skipped_lines:
        yield f"Not legible in the log: {counted(report.skipped_lines, 'line')}."
    if report.editions:
        yield f"Figures by {'; '.join(map(printable, report.editions))}."


def partly_known(total: Totals) -> Iterator[tuple[str, int, int]]:
    """What is summed over fewer requests than have an estimate, as not every methodology counts everything: its name, of
    how many it is known, and how many have an estimate."""
    estimated = total.requests - total.unestimated
    for key, name in CRITERIA.items():
        known = getattr(total, f"{key}_known")
        if known < estimated:
            yield name, known, estimated


def forecast(summary: Summary) -> Iterator[str]:
    """What the running month comes to, if it goes on as in the days before."""
    forecast = summary.forecast
    if forecast is None:
        return
    lines = amounts(forecast.expected)
    if lines:
        days = "whole day" if forecast.days_seen == 1 else f"{forecast.days_seen} whole days"
        yield ""
        yield f"By the end of {forecast.month}, if it goes on as in the last {days}:"
        yield from lines


def amounts(totals: Totals) -> list[str]:
    """Cost, energy, carbon and water, a line each; nothing of what is unknown."""
    return [f"  {name:<7} {amount}" for name, amount in _amounts(totals)]


def _amounts(totals: Totals) -> Iterator[tuple[str, str]]:
    if totals.cost_usd is not None:
        yield "cost", cost_unit(totals.cost_usd).text(totals.cost_usd)
    for key, name in CRITERIA.items():
        value: Range | None = getattr(totals, key)
        if value is not None:
            unit = unit_for(key, value.central)
            yield name, f"{unit.span(value)} {unit.symbol}"
