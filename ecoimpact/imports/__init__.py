"""Usage that others logged becomes records: exports of gateways, of tracing tools and of the providers themselves.

One file a source in ``sources``, found by its name; packages outside add theirs, a
:class:`~ecoimpact.imports.facts.Source`, by the entry-point group ``ecoimpact.imports``. A source tells the facts of a
row and nothing else: reading files, figures, ids, what is already there and what is turned away are the same for all.

Rules of this package: a row is a request, or was turned away and counted, or is none; none of them is lost and none
counts twice. What was said (prompts, answers, tool arguments) is not looked at, and a source names its columns so that
nobody makes a label of them. What a row does not say is unknown.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules

from ecoimpact.imports import sources
from ecoimpact.imports.facts import Source

ENTRY_POINTS = "ecoimpact.imports"

__all__ = ["ENTRY_POINTS", "all_sources"]


@functools.cache
def all_sources() -> Mapping[str, Source]:
    """Every source by its name; what a mapping file describes is made by :func:`ecoimpact.imports.mapping.source_of`.

    >>> sorted(all_sources())[:3]
    ['anthropic', 'helicone', 'langfuse']
    """
    found: dict[str, Source] = {}
    for module in iter_modules(sources.__path__):
        source: Source = import_module(f"{sources.__name__}.{module.name}").SOURCE
        found[source.name] = source
    for entry_point in entry_points(group=ENTRY_POINTS):
        source = entry_point.load()
        found[source.name] = source
    return found
