"""Published ways to compute impacts: one module per edition, found by its name.

A module here that defines ``NAME`` and ``methodology(**parameters) -> Methodology`` is an edition; ``INCLUDES`` and
``LEAVES_OUT`` say in a few words each what its figures hold. The module of an edition is its name with ``_`` for every
other sign: ``ecologits-0.11`` is ``ecologits_0_11.py``. Packages outside offer their ``methodology`` function through the
entry-point group ``ecoimpact.methodologies``.

Rule of this package: editions are pure. They read no data and no clock.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from ecoimpact.types import Methodology
from ecoimpact.unknown_names import unknown

__all__ = ["ALIASES", "About", "about", "get", "names"]

ALIASES = {"ecologits": "ecologits-2025-09"}
"""Names that stand for an edition."""

_GROUP = "ecoimpact.methodologies"


def get(name: str, **parameters: float | str | None) -> Methodology:
    """The edition called ``name``, with constants replaced by ``parameters``.

    Raises:
        ValueError: unknown name or parameter; the message lists near ones.

    >>> get("ecologits").name
    'ecologits-2025-09'
    >>> get("ecologits-0.11", batch_size=32).name
    'ecologits-0.11[batch_size=32]'
    """
    return _build(name)(**parameters) if parameters else _published(name)


def names() -> tuple[str, ...]:
    """All editions by name, aliases first."""
    return (*ALIASES, *sorted({*_modules(), *_entry_points()}))


class About(NamedTuple):
    """What the figures of an edition hold, in a few words each."""

    includes: tuple[str, ...] = ()
    leaves_out: tuple[str, ...] = ()


def about(name: str) -> About:
    """What an edition counts and what it leaves out, as its module states it.

    Raises:
        ValueError: unknown name.

    >>> "reading the input tokens" in about("ecologits").leaves_out
    True
    """
    module = sys.modules.get(_build(name).__module__)
    return About(tuple(getattr(module, "INCLUDES", ())), tuple(getattr(module, "LEAVES_OUT", ())))


@cache
def _modules() -> dict[str, str]:
    stems = (path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
    return {import_module(f"{__name__}.{stem}").NAME: stem for stem in stems}


@cache
def _entry_points() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=_GROUP)}


def _build(name: Any) -> Callable[..., Methodology]:
    edition = ALIASES.get(name, name) if isinstance(name, str) else ""
    stem = re.sub(r"[^a-z0-9]", "_", edition)
    # A released edition is one file: found without importing the others.
    if re.fullmatch(r"[a-z][a-z0-9_]*", stem) and Path(__file__).with_name(f"{stem}.py").is_file():
        module = import_module(f"{__name__}.{stem}")
        if edition == module.NAME:
            return module.methodology  # type: ignore[no-any-return]
    if point := _entry_points().get(edition):
        return point.load()  # type: ignore[no-any-return]
    raise ValueError(unknown("methodology", name, names()))


_instances: dict[str, Methodology] = {}


def _published(name: Any) -> Methodology:
    edition = _instances.get(name) if isinstance(name, str) else None
    if edition is None:
        edition = _instances[name] = _build(name)()
    return edition
