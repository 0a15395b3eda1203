"""The constants of an edition, replaced by name: checks, and the name that says so."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ecoimpact.unknown_names import unknown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    P = TypeVar("P", bound=DataclassInstance)


def replaced(defaults: P, changes: Mapping[str, Any], may_be_zero: Collection[str] = ()) -> P:
    """The constants with some of them replaced. ``None`` stands for the default of those that are worked out.

    Raises:
        ValueError: a name that the edition has not, or a value that is not a finite number above 0 (or 0 where that is
            possible).
    """
    known = [f.name for f in fields(defaults)]
    for name, value in changes.items():
        if name not in known:
            raise ValueError(unknown("parameter", name, known))
        if value is None and getattr(defaults, name) is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
        if value < 0 or (value == 0 and name not in may_be_zero):
            raise ValueError(f"{name} must be {'0 or more' if name in may_be_zero else 'above 0'}, got {value!r}")
    return replace(defaults, **changes)


def edition_name(name: str, defaults: object, parameters: object) -> str:
    """The name of an edition with these constants: with other ones than the published it is no longer that edition.

    >>> from ecoimpact.types import Deployment
    >>> edition_name("x", Deployment(), Deployment(tokens_per_s=50.0))
    'x[tokens_per_s=50.0]'
    """
    changed = [
        f"{f.name}={value!r}"
        for f in sorted(fields(defaults), key=lambda f: f.name)  # type: ignore[arg-type]
        if (value := getattr(parameters, f.name)) != getattr(defaults, f.name)
    ]
    return f"{name}[{', '.join(changed)}]" if changed else name
