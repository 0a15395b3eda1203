"""Regions of clouds as zones: ``aws:eu-west-3`` is a grid zone and, where the cloud publishes them, overhead and water.

Rules of this file: a region is written ``<cloud>:<region>`` in small letters, as the cloud itself writes the region; it
never hides the grid zone, which is what results and records name; a host tells a region only where the cloud's own
addresses hold it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from ecoimpact.data.tables import rows, span
from ecoimpact.data.zones import mix
from ecoimpact.types import ElectricityMix, Range

CLOUDS = {"aws": "AWS", "azure": "Microsoft", "gcp": "Google", "ovh": "OVHcloud", "scaleway": "Scaleway"}
"""The clouds, and the names of their operators in the provider tables."""

_HOSTS = (
    ("aws", re.compile(r"bedrock[a-z-]*\.([a-z]{2}(?:-[a-z]+)+-\d)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)")),
    ("gcp", re.compile(r"([a-z]+-[a-z]+\d{1,2})-aiplatform\.googleapis\.com")),
    ("gcp", re.compile(r"aiplatform\.([a-z]+-[a-z]+\d{1,2})\.rep\.googleapis\.com")),
    ("azure", re.compile(r"[a-z0-9-]+\.([a-z]+\d?)\.(?:models|inference)\.(?:ai|ml)\.azure\.com")),
    ("azure", re.compile(r"([a-z]+\d?)\.api\.cognitive\.microsoft\.com")),
)

_IN_ANSWERS = {"us": "USA"}
"""What providers write in their answers, where it is no code of ours. Anthropic, data residency: ``inference_geo``."""
_ANYWHERE = frozenset({"", "global", "not_available"})
"""What they write where it is no place."""


@dataclass(frozen=True, slots=True)
class Region:
    """A region of a cloud: where it lies, and its overhead and on-site water where they are published."""

    code: str
    place: str
    zone: str
    pue: Range | None
    wue_l_per_kwh: Range | None
    year: str
    source: str

    @property
    def operator(self) -> str:
        """Who runs the cloud, as the provider tables name it."""
        return CLOUDS[self.code.partition(":")[0]]


@cache
def _index() -> dict[str, tuple[str, ...]]:
    return {row[0]: row for row in rows("cloud_regions")}


def region_codes() -> dict[str, str]:
    """All regions: code to place."""
    return {code: row[1] for code, row in _index().items()}


def region(code: str) -> Region | None:
    """A region by its code, whatever the case, or ``None`` where it is not known.

    >>> paris = region("aws:eu-west-3")
    >>> paris.zone, paris.pue.mean, paris.wue_l_per_kwh
    ('FRA', 1.35, None)
    """
    row = _index().get(code.strip().lower())
    if row is None:
        return None
    own, place, zone, pue, wue, year, keys = row
    return Region(own, place, zone, span(pue) if pue else None, span(wue) if wue else None, year, keys)


def regions() -> tuple[Region, ...]:
    """All regions."""
    return tuple(found for code in _index() if (found := region(code)) is not None)


def electricity(zone: str) -> tuple[ElectricityMix | None, Region | None]:
    """The grid behind a zone's code or a region's, and the region; ``(None, None)`` for what is neither.

    >>> grid, place = electricity("gcp:europe-west9")
    >>> grid.zone, place.pue
    ('FRA', None)
    >>> electricity("fra")[0].zone, electricity("aws:atlantis")
    ('FRA', (None, None))
    """
    if ":" not in zone:
        return mix(zone.strip().upper()), None
    found = region(zone)
    return (None, None) if found is None else (mix(found.zone), found)


def region_of_host(host: str) -> Region | None:
    """The region that the host of an endpoint names, or ``None``: addresses that serve the whole world name none.

    >>> region_of_host("bedrock-runtime.eu-central-1.amazonaws.com").code
    'aws:eu-central-1'
    >>> region_of_host("aiplatform.googleapis.com"), region_of_host("api.openai.com")
    (None, None)
    """
    name = host.partition(":")[0]
    for cloud, pattern in _HOSTS:
        if found := pattern.fullmatch(name):
            return region(f"{cloud}:{found[1]}")
    return None


def is_place(word: object) -> bool:
    """Whether what an answer says of where it was served can be a place: ``global`` is none.

    >>> is_place("us"), is_place("global"), is_place("not_available")
    (True, False, False)
    """
    return not isinstance(word, str) or word.strip().lower() not in _ANYWHERE


def place(word: object) -> tuple[ElectricityMix | None, Region | None]:
    """The grid behind the place that an answer names, and the region, as :func:`electricity` gives them.

    >>> place("us")[0].zone, place("eu")
    ('USA', (None, None))
    """
    return electricity(_IN_ANSWERS.get(word.strip().lower(), word)) if isinstance(word, str) else (None, None)
