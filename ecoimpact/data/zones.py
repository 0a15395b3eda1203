"""Electricity: impact factors of a kWh by zone.

A code is ISO 3166-1 alpha-3 for a country, ISO 3166-2 for a part of one (``US-CA``, ``CA-QC``, ``CN-SC``), the country's
two letters with the bidding zone for a part of the Nordic market (``SE-SE3``), and ``WOR`` for the world.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from ecoimpact.data.tables import number, rows
from ecoimpact.types import ElectricityMix, Range

WORLD = "WOR"
_FACTORS = ("gwp", "adpe", "pe", "wue")
_FACTORS_OF_SOURCE = {
    "owid-electricity": ("gwp",),
    "egrid-2023": ("gwp",),
    "codecarbon-canada": ("gwp",),
    "codecarbon-china": ("gwp",),
    "codecarbon-nordic": ("gwp",),
    "ademe-base-empreinte": ("adpe", "pe"),
    "wri-water": ("wue",),
}


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone with its name and the factors of its electricity."""

    code: str
    name: str
    mix: ElectricityMix


@cache
def _index() -> dict[str, tuple[str, ...]]:
    return {row[0]: row for row in rows("zones")}


def zone_codes() -> dict[str, str]:
    """All zones: code to name."""
    return {code: row[1] for code, row in _index().items()}


def zones() -> tuple[Zone, ...]:
    """All zones with their factors."""
    found = ((code, row[1], mix(code)) for code, row in _index().items())
    return tuple(Zone(code, name, m) for code, name, m in found if m is not None)


def mix(zone: str) -> ElectricityMix | None:
    """The factors of a zone, or ``None`` where the zone is not known.

    An empty cell of the table is filled from the zone's parent (its country, or the world), with a warning.

    >>> mix("FRA").gwp.mean
    0.04144
    """
    return _mix(zone) if zone in _index() else None


@cache
def _mix(zone: str) -> ElectricityMix:
    _, _, parent, *factors, year, keys = _index()[zone]
    values = [number(factor) for factor in factors]
    warnings: tuple[str, ...] = ()
    if parent and all(value is None for value in values):
        warnings = ("zone-world",)
    elif parent:
        stand_in = "world" if parent == WORLD else "country"
        missing = (factor for factor, value in zip(_FACTORS, values, strict=True) if value is None)
        warnings = (*(f"electricity-mix-{factor}-{stand_in}" for factor in missing), *(_mix(parent).warnings))
    gwp, adpe, pe, wue = (_filled(value, factor, parent) for factor, value in zip(_FACTORS, values, strict=True))
    return ElectricityMix(gwp, adpe, pe, wue, zone=zone, year=year, source=keys, warnings=warnings)


def _filled(value: float | None, factor: str, parent: str) -> Range:
    if value is not None:
        return Range(value, value)
    stand_in: Range = getattr(_mix(parent), factor)
    return stand_in


def joined(mixes: tuple[ElectricityMix, ...]) -> ElectricityMix:
    """Several zones as one: each factor by itself from its lowest to its highest."""
    if len(mixes) == 1:
        return mixes[0]
    spans = {
        factor: Range(min(getattr(m, factor).min for m in mixes), max(getattr(m, factor).max for m in mixes))
        for factor in _FACTORS
    }
    return ElectricityMix(
        **spans,
        zone="+".join(m.zone for m in mixes),
        year=" ".join(dict.fromkeys(m.year for m in mixes if m.year)),
        source=" ".join(dict.fromkeys(key for m in mixes for key in m.source.split())),
        warnings=tuple(dict.fromkeys(code for m in mixes for code in m.warnings)),
    )


def factor_sources(zone: str) -> dict[str, str]:
    """The keys of the sources of each factor of a zone, or of several with ``+`` between them.

    >>> factor_sources("US-CA")["gwp"], factor_sources("US-CA")["wue"]
    ('egrid-2023', 'wri-water')
    """
    found: dict[str, dict[str, None]] = {factor: {} for factor in _FACTORS}
    for code in zone.split("+"):
        for factor in _FACTORS:
            found[factor][_factor_source(code, factor)] = None
    return {factor: " ".join(keys) for factor, keys in found.items()}


def _factor_source(code: str, factor: str) -> str:
    _, _, parent, *_, keys = _index()[code]
    own = (key for key in keys.split() if factor in _FACTORS_OF_SOURCE.get(key, ()))
    return next(own, "") or _factor_source(parent, factor)
