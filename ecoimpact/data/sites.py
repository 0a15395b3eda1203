"""Where providers run their models: overhead, water on site, electricity zones. Each methodology names its table.

What the methodologies' tables do not name is looked for in a table of our own, and is typical elsewhere, with a warning.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from ecoimpact.data.regions import Region
from ecoimpact.data.tables import FILES, rows, span
from ecoimpact.data.zones import joined, mix
from ecoimpact.types import ElectricityMix, Site

ANY_PROVIDER = "*"
_PREFIX = "sites-"
_ADDED = "sites_added"
_UNKNOWN = "unknown"


def site_tables() -> tuple[str, ...]:
    """The names of the provider tables."""
    return tuple(sorted(path.stem.removeprefix(_PREFIX) for path in FILES.glob(f"{_PREFIX}*.csv")))


@cache
def _index(table: str) -> dict[str, tuple[str, ...]]:
    return {row[0]: row for row in (*rows(_ADDED), *rows(f"{_PREFIX}{table}"))}


def has_site(table: str, provider: str | None) -> bool:
    """Whether it is known where the provider runs."""
    return provider != ANY_PROVIDER and provider in _index(table)


def site(table: str, provider: str | None, grid: ElectricityMix | None = None, region: Region | None = None) -> Site:
    """The site of a provider, on the provider's own electricity or on ``grid``, in a ``region`` if one is given.

    A provider that no table names gets typical figures with wide ranges and the warning ``site-world``; one of which only
    the zones are known, typical overhead and water with the warning ``site-typical``. What a region publishes of itself
    comes before both, where its cloud is the provider's own or nobody knows whose the provider's is.

    >>> site("ecologits-2025-09", "mistralai").mix.zone, site("ecologits-2025-09", "nobody").warnings
    ('SWE+NOR', ('site-world',))
    >>> from ecoimpact.data.regions import region as _of
    >>> site("ecologits-2025-09", "bedrock", region=_of("aws:eu-central-1")).pue.mean
    1.24
    """
    known = has_site(table, provider)
    _, _, _, typical_pue, typical_wue, typical_keys = _index(table)[ANY_PROVIDER]
    _, operators, zones, pue, wue, keys = _index(table)[str(provider) if known else ANY_PROVIDER]
    mixes = tuple(m for m in map(mix, zones.split()) if m is not None)
    warnings: tuple[str, ...] = () if known else ("site-world",)
    if not pue or not wue:
        keys, warnings = f"{keys} {typical_keys}", ("site-typical",)
    found = Site(span(pue or typical_pue), span(wue or typical_wue), grid or joined(mixes), source=keys, warnings=warnings)
    is_own = region is not None and (operators == _UNKNOWN or region.operator in operators.split(" and "))
    return _in_region(found, region) if region is not None and is_own else found


def _in_region(site: Site, region: Region) -> Site:
    """The site with the figures that the region has; what was said about those they replace is said no more."""
    pue, wue = region.pue, region.wue_l_per_kwh
    if pue is None and wue is None:
        return site
    if pue is not None and wue is not None:
        return replace(site, pue=pue, wue_l_per_kwh=wue, source=region.source, warnings=())
    sources = " ".join(dict.fromkeys((*region.source.split(), *site.source.split())))
    return replace(
        site,
        pue=site.pue if pue is None else pue,
        wue_l_per_kwh=site.wue_l_per_kwh if wue is None else wue,
        source=sources,
    )
