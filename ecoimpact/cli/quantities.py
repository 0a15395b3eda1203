"""Quantities as people read them: three digits and the prefix that fits.

>>> unit_for("energy", 3.8e-05).text(3.8e-05), unit_for("wcf", 0.00042).text(0.00042)
('38.0 mWh', '420 µL')
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ecoimpact.types import Range

_UNITS: Final = {
    # criterion: the unit that takes prefixes, and how many of it one of the package's own unit is
    "energy": ("Wh", 1e3),  # kWh
    "gwp": ("gCO2eq", 1e3),  # kgCO2eq
    "adpe": ("gSbeq", 1e3),  # kgSbeq
    "pe": ("J", 1e6),  # MJ
    "wcf": ("L", 1.0),  # L
}
_PREFIXES: Final = (
    ("G", 1e9),
    ("M", 1e6),
    ("k", 1e3),
    ("", 1.0),
    ("m", 1e-3),
    ("µ", 1e-6),
    ("n", 1e-9),
    ("p", 1e-12),
    ("f", 1e-15),
)


class Unit(NamedTuple):
    """A unit with its prefix; ``factor`` of it make one of the unit that the package computes in."""

    symbol: str
    factor: float

    def number(self, value: float) -> str:
        """Three digits, whatever the size."""
        number = value * self.factor
        size = abs(number)
        if not size:
            return "0"
        if size < 0.995:
            return f"{number:#.2g}" if size >= 1e-3 else f"{number:.1e}"
        return f"{number:,.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"

    def span(self, value: Range) -> str:
        """The central value, with both ends where they differ.

        >>> unit_for("energy", 3.8e-05).span(Range(3.7e-05, 3.9e-05))
        '38.0 (37.0 to 39.0)'
        """
        low, central, high = map(self.number, (value.min, value.central, value.max))
        return central if value.min == value.max else f"{central} ({low} to {high})"

    def text(self, value: float) -> str:
        return f"{self.number(value)} {self.symbol}"


def unit_for(criterion: str, value: float) -> Unit:
    """The unit that fits a value of ``energy`` [kWh], ``gwp`` [kgCO2eq], ``adpe`` [kgSbeq], ``pe`` [MJ] or ``wcf`` [L].

    >>> unit_for("gwp", 1.5e-05).symbol, unit_for("pe", 0.000241).symbol, unit_for("adpe", 5e-13).symbol
    ('mgCO2eq', 'J', 'pgSbeq')
    """
    symbol, factor = _UNITS[criterion]
    amount = abs(value) * factor
    # 0.9995: what three digits round up to a thousand belongs to the next prefix.
    fitting = (entry for entry in _PREFIXES if amount >= 0.9995 * entry[1])
    prefix, size = next(fitting, _PREFIXES[-1]) if amount else ("", 1.0)
    return Unit(prefix + symbol, factor / size)
