"""Where providers run their models: overhead, water on site, electricity zones. Each methodology names its table."""

from __future__ import annotations

from functools import cache

from ecoimpact.data.tables import FILES, rows, span
from ecoimpact.data.zones import joined, mix
from ecoimpact.types import ElectricityMix, Site

ANY_PROVIDER = "*"
_PREFIX = "sites-"


def site_tables() -> tuple[str, ...]:
    """The names of the provider tables."""
    return tuple(sorted(path.stem.removeprefix(_PREFIX) for path in FILES.glob(f"{_PREFIX}*.csv")))


@cache
def _index(table: str) -> dict[str, tuple[str, ...]]:
    return {row[0]: row for row in rows(f"{_PREFIX}{table}")}


def has_site(table: str, provider: str | None) -> bool:
    """Whether the table knows where the provider runs."""
    return provider != ANY_PROVIDER and provider in _index(table)


def site(table: str, provider: str | None, grid: ElectricityMix | None = None) -> Site:
    """The site of a provider, on the provider's own electricity or on ``grid``.

    A provider that the table does not name gets typical figures with wide ranges and the warning ``site-world``.

    >>> site("ecologits-2025-09", "mistralai").mix.zone, site("ecologits-2025-09", "nobody").warnings
    ('SWE+NOR', ('site-world',))
    """
    known = has_site(table, provider)
    _, _, zones, pue, wue, keys = _index(table)[str(provider) if known else ANY_PROVIDER]
    mixes = tuple(m for m in map(mix, zones.split()) if m is not None)
    warnings = () if known else ("site-world",)
    return Site(span(pue), span(wue), grid or joined(mixes), source=keys, warnings=warnings)
