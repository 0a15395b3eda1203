"""What every deployment checks of what it is given: a wrong value is a ``ValueError`` that says what is right."""

from __future__ import annotations

import math
from numbers import Real

LARGEST, SMALLEST = 1e30, 1e-30
"""Bounds for what deployments multiply and divide: a few such numbers together stay within float64."""


def number(
    name: str, value: object, *, above: float = -math.inf, at_least: float = -math.inf, at_most: float = math.inf
) -> float:
    """``value`` as a float.

    Raises:
        ValueError: it is no finite number (a truth value is none), or lies outside the bounds.

    >>> number("pue", 2, at_least=1)
    2.0
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{name} must be a number, got {value!r}")  # noqa: TRY004 - a wrong setting is a ValueError
    try:
        converted = float(value)
    except OverflowError:
        converted = math.inf
    if not math.isfinite(converted):
        raise ValueError(f"{name} must be finite, got {converted!r}")
    if converted <= above:
        raise ValueError(f"{name} must be above {above:g}, got {value!r}")
    if converted < at_least:
        raise ValueError(f"{name} must be at least {at_least:g}, got {value!r}")
    if converted > at_most:
        raise ValueError(f"{name} must be at most {at_most:g}, got {value!r}")
    return converted
