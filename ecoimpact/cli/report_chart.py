"""Bars with error bars as inline SVG, for the report as a page. Colours are classes: the page's style has them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from ecoimpact.cli.quantities import Unit

WIDTH, HEIGHT = 1000, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 8, 30, 28
PLOT_WIDTH, PLOT_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
TICKS = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its parts from the bottom up, both ends of the whole, and what is said of it.

    ``parts`` are ``None`` where there were requests, and nothing is known of them.
    """

    name: str
    parts: tuple[float, ...] | None
    low: float
    high: float
    said: str


def chart(bars: Sequence[Bar], unit: Unit, title: str) -> str:
    """The SVG. Values are in the unit that the package computes in, the axis is in ``unit``."""
    top = nice(max((bar.high for bar in bars), default=0.0) * unit.factor)
    body = [*_axis(top, unit), *_names(bars)]
    slot = PLOT_WIDTH / max(1, len(bars))
    width = min(46.0, slot * 0.68)
    for number, bar in enumerate(bars):
        middle = LEFT + slot * (number + 0.5)
        body.append(f'<g class="bar"><title>{escape(bar.said)}</title>')
        # Something to point at that is as high as the plot.
        body.append(f'<rect class="slot" x="{middle - slot / 2:.1f}" y="{TOP}" width="{slot:.1f}" height="{PLOT_HEIGHT}"/>')
        body += _bar(bar, middle, width, unit.factor / top if top else 0.0)
        body.append("</g>")
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(body)}</svg>'


def _bar(bar: Bar, middle: float, width: float, scale: float) -> Iterator[str]:
    floor = TOP + PLOT_HEIGHT
    if bar.parts is None:
        yield f'<text class="unknown" x="{middle:.1f}" y="{floor - 6}">?</text>'
        return
    y = float(floor)
    for number, part in enumerate(bar.parts):
        height = part * scale * PLOT_HEIGHT
        if height > 0:
            y -= height
            yield (
                f'<rect class="s{number}" x="{middle - width / 2:.1f}" y="{y:.2f}" width="{width:.1f}" '
                f'height="{max(0.5, height):.2f}"/>'
            )
    if bar.high > bar.low:
        low, high = (floor - value * scale * PLOT_HEIGHT for value in (bar.low, bar.high))
        cap = min(5.0, width / 2)
        yield (
            f'<path class="whisker" d="M{middle:.1f} {low:.2f}V{high:.2f}'
            f'M{middle - cap:.1f} {low:.2f}h{2 * cap:.1f}M{middle - cap:.1f} {high:.2f}h{2 * cap:.1f}"/>'
        )


def _axis(top: float, unit: Unit) -> Iterator[str]:
    yield f'<text class="tick" x="{LEFT - 8}" y="{TOP - 14}">{escape(unit.symbol)}</text>'
    for number in range(TICKS + 1):
        y = TOP + PLOT_HEIGHT * (1 - number / TICKS)
        yield f'<line class="{"grid" if number else "floor"}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        if number == 0 or top:
            yield f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}">{top * number / TICKS:,.5g}</text>'


def _names(bars: Sequence[Bar]) -> Iterator[str]:
    """As many of the names below the axis as there is room for."""
    slot = PLOT_WIDTH / max(1, len(bars))
    step = math.ceil(80 / slot) if bars else 1
    for number in range(0, len(bars), step):
        x = LEFT + slot * (number + 0.5)
        yield f'<text class="name" x="{x:.1f}" y="{TOP + PLOT_HEIGHT + 20}">{escape(bars[number].name)}</text>'


def nice(value: float) -> float:
    """The round number at or above ``value`` that four ticks divide well.

    >>> [nice(v) for v in (0, 0.7, 3.2, 41, 100)]
    [0.0, 0.8, 4.0, 60.0, 100.0]
    """
    if value <= 0 or not math.isfinite(value):
        return 0.0
    size = 10.0 ** math.floor(math.log10(value))
    return next(
        step * size for step in (1.0, 1.2, 1.6, 2.0, 2.4, 3.0, 4.0, 6.0, 8.0, 10.0) if value <= step * size * 1.000001
    )
