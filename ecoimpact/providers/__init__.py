"""One file a provider, found by its name. Packages outside add theirs by the entry-point group ``ecoimpact.providers``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules

from ecoimpact.instrumentation.provider import Provider

ENTRY_POINTS = "ecoimpact.providers"


@functools.cache
def all_providers() -> Mapping[str, Provider]:
    """Every SDK that can be watched, by provider id."""
    found: dict[str, Provider] = {}
    for module in iter_modules(__path__):
        if not module.name.startswith("_"):
            provider: Provider = import_module(f"{__name__}.{module.name}").PROVIDER
            found[provider.id] = provider
    for entry_point in entry_points(group=ENTRY_POINTS):
        provider = entry_point.load()
        found[provider.id] = provider
    return found
