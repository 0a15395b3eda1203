"""The tables that ship with the package, and their typed loaders.

Rules that hold here: the standard library only; a table is read when it is first needed, once; a typed object is built
only for the row that was asked for; every row names its sources, and :func:`sources` says what and of when they are. A
released table is never edited in place: new figures come with a new ``DATA_VERSION``.
"""

from __future__ import annotations

from ecoimpact.data.models import MAX_NAME_LENGTH, Found, added_cards, aliases, cards, find, plain_forms
from ecoimpact.data.notices import ERRORS, NOTICES, WARNINGS, notice
from ecoimpact.data.price_fits import PriceFit, price_fits
from ecoimpact.data.providers import OWNERS, PROVIDERS
from ecoimpact.data.regions import (
    CLOUDS,
    Region,
    electricity,
    is_place,
    place,
    region,
    region_codes,
    region_of_host,
    regions,
)
from ecoimpact.data.sites import has_site, site, site_tables
from ecoimpact.data.tables import DATA_VERSION, Source, Table, cite, sources, tables
from ecoimpact.data.zones import WORLD, Zone, factor_sources, mix, zone_codes, zones

__all__ = [
    "CLOUDS",
    "DATA_VERSION",
    "ERRORS",
    "MAX_NAME_LENGTH",
    "NOTICES",
    "OWNERS",
    "PROVIDERS",
    "WARNINGS",
    "WORLD",
    "Found",
    "PriceFit",
    "Region",
    "Source",
    "Table",
    "Zone",
    "added_cards",
    "aliases",
    "cards",
    "cite",
    "electricity",
    "factor_sources",
    "find",
    "has_site",
    "is_place",
    "mix",
    "notice",
    "place",
    "plain_forms",
    "price_fits",
    "region",
    "region_codes",
    "region_of_host",
    "regions",
    "site",
    "site_tables",
    "sources",
    "tables",
    "zone_codes",
    "zones",
]
