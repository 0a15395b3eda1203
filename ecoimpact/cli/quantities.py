"""Quantities as people read them: three digits and the prefix that fits.

>>> human("energy", 3.8e-05), human("gwp", 1.52e-05), human("wcf", 0.00042), human("pe", 0.000241), human("adpe", 5e-13)
('38.0 mWh', '15.2 mgCO2eq', '420 µL', '241 J', '500 pgSbeq')
"""

from __future__ import annotations

from typing import Final

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


def human(criterion: str, value: float) -> str:
    """A value of ``energy`` [kWh], ``gwp`` [kgCO2eq], ``adpe`` [kgSbeq], ``pe`` [MJ] or ``wcf`` [L]."""
    unit, factor = _scale(criterion, value)
    return f"{_digits(value * factor)} {unit}"


def human_range(criterion: str, value: Range) -> str:
    """The central value with its range, in one unit.

    >>> human_range("energy", Range(3.7e-05, 3.9e-05))
    '38.0 (37.0 to 39.0) mWh'
    """
    unit, factor = _scale(criterion, value.central)
    low, central, high = (_digits(number * factor) for number in (value.min, value.central, value.max))
    return f"{central} {unit}" if value.min == value.max else f"{central} ({low} to {high}) {unit}"


def _scale(criterion: str, value: float) -> tuple[str, float]:
    unit, per_own = _UNITS[criterion]
    amount = abs(value) * per_own
    # 0.9995: what three digits round up to a thousand belongs to the next prefix.
    fitting = (entry for entry in _PREFIXES if amount >= 0.9995 * entry[1])
    prefix, size = next(fitting, _PREFIXES[-1]) if amount else ("", 1.0)
    return prefix + unit, per_own / size


def _digits(number: float) -> str:
    size = abs(number)
    if size and size < 0.995:
        return f"{number:.2g}" if size >= 1e-3 else f"{number:.1e}"
    return f"{number:,.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}" if number else "0"
