"""A comparison as a picture: the energy of every methodology on a logarithmic scale, and as a part of a notebook's page.

Colours are middle tones and ``currentColor``: they can be read on light and on dark ground. No script, no style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from ecoimpact.types import Range

if TYPE_CHECKING:
    from ecoimpact.comparison import Comparison

WIDTH, LEFT, RIGHT, TOP, ROW = 760, 190, 24, 46, 30
PLOT = WIDTH - LEFT - RIGHT
_BAR, _BAND, _DOT = "#3b82c4", "#8a8a8a", "#d9822b"
_STYLE = "svg{color:#1f2328;background:#fff}@media(prefers-color-scheme:dark){svg{color:#e6e6e6;background:#16191d}}"


class Scale:
    """Whole decades of a quantity, wide enough for what it is to show; positions run from 0 to 1."""

    def __init__(self, spans: list[Range]) -> None:
        ends = [end for span in spans for end in (span.min, span.max) if 0 < end < math.inf]
        self.low = math.floor(math.log10(min(ends)))
        self.high = max(math.ceil(math.log10(max(ends))), self.low + 1)

    def place(self, value: float) -> float:
        """Where a value stands; what is below the scale, zero included, stands at its beginning."""
        if value <= 0:
            return 0.0
        return min(max((math.log10(value) - self.low) / (self.high - self.low), 0.0), 1.0)

    def decades(self) -> range:
        return range(self.low, self.high + 1)


def picture(comparison: Comparison, *, standalone: bool) -> str:
    """The SVG: a bar from low to high for every methodology, a dot at its central value, the published band behind."""
    from ecoimpact.comparison import BAND_WH

    energies = comparison.energies_wh()
    scale = Scale([BAND_WH, *(energy for energy in energies.values() if energy is not None)])
    height = TOP + ROW * len(energies) + 34
    heading = escape(_shortened(comparison.heading, 100))
    said = "; ".join(f"{name}: {'no estimate' if e is None else f'{e:.3g} Wh'}" for name, e in energies.items())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(f"Energy of one request. {said}")}" font-family="system-ui, sans-serif" font-size="13" '
        f'style="max-width:{WIDTH}px">',
        f"<style>{_STYLE}</style>" if standalone else "",
        f'<text x="8" y="18" fill="currentColor" font-weight="bold">{heading}</text>',
        *_axis(scale, height),
        *_band(scale, BAND_WH, height),
    ]
    for number, (name, energy) in enumerate(energies.items()):
        parts += _bar(scale, TOP + ROW * number + ROW / 2, name, energy)
    return "".join([*parts, "</svg>"])


def _axis(scale: Scale, height: int) -> Iterator[str]:
    for decade in scale.decades():
        x = _x(scale, 10.0**decade)
        yield (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - 34}" stroke="currentColor" stroke-opacity="0.2"/>'
            f'<text x="{x:.1f}" y="{height - 18}" fill="currentColor" text-anchor="middle">{10.0**decade:g}</text>'
        )
    yield f'<text x="{WIDTH - RIGHT}" y="{height - 4}" fill="currentColor" text-anchor="end">Wh, logarithmic</text>'


def _band(scale: Scale, band: Range, height: int) -> Iterator[str]:
    low, high = _x(scale, band.min), _x(scale, band.max)
    yield (
        f'<rect x="{low:.1f}" y="{TOP}" width="{high - low:.1f}" height="{height - 34 - TOP}" fill="{_BAND}" '
        f'fill-opacity="0.25"/><text x="{(low + high) / 2:.1f}" y="{TOP - 8}" fill="currentColor" text-anchor="middle" '
        f'font-size="11">published, ordinary answer</text>'
    )


def _bar(scale: Scale, y: float, name: str, energy: Range | None) -> Iterator[str]:
    short = escape(_shortened(name, 24))
    yield f'<text x="{LEFT - 10}" y="{y + 4:.1f}" fill="currentColor" text-anchor="end">{short}</text>'
    if energy is None:
        yield f'<text x="{LEFT + 6}" y="{y + 4:.1f}" fill="currentColor" font-style="italic">no estimate</text>'
        return
    low, dot, high = (_x(scale, value) for value in (energy.min, energy.central, energy.max))
    yield (
        f"<g><title>{escape(f'{name}: {energy:.3g} Wh')}</title>"
        f'<rect x="{low:.1f}" y="{y - 5:.1f}" width="{max(high - low, 2):.1f}" height="10" rx="3" fill="{_BAR}"/>'
        f'<circle cx="{dot:.1f}" cy="{y:.1f}" r="4.5" fill="{_DOT}"/></g>'
    )


def _x(scale: Scale, value: float) -> float:
    return LEFT + PLOT * scale.place(value)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


# --- notebooks ----------------------------------------------------------------------------------------------------------


def page(comparison: Comparison) -> str:
    """Picture, table, and what each methodology holds, as HTML."""
    from ecoimpact.comparison import PUBLISHED

    head = ("methodology", "Wh", "from", "to", "gCO2eq", "mL water")
    parts = [
        picture(comparison, standalone=False),
        f"<table><thead>{_row(head, 'th')}</thead><tbody>{''.join(map(_row, comparison.rows()))}</tbody></table>",
        _listed("Published for an ordinary answer", [*map(str, PUBLISHED)]),
    ]
    for about, names in comparison.kinds().items():
        held = [f"includes {word}" for word in about.includes] + [f"leaves out {word}" for word in about.leaves_out]
        parts.append(_listed(", ".join(names), held))
    parts.append(_listed("Notices", comparison.notices()))
    return "".join(parts)


def _row(cells: tuple[str, ...], tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _listed(title: str, words: Sequence[str]) -> str:
    if not words:
        return ""
    return f"<p>{escape(title)}</p><ul>{''.join(f'<li>{escape(word)}</li>' for word in words)}</ul>"
