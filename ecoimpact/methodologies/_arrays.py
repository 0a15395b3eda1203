"""The few operations that floats and numpy arrays spell differently. numpy is imported only when an array comes in."""

from __future__ import annotations

import math
from typing import Any

from ecoimpact.types import Number

_SCALARS = (int, float)


def is_scalar(*values: Number) -> bool:
    """Whether all values are plain numbers (``numpy.float64`` is one of them)."""
    return all(isinstance(value, int | float) for value in values)


def minimum(a: Number, b: Number) -> Number:
    """The smaller of both, element by element.

    >>> minimum(2, 3.0)
    2
    """
    if isinstance(a, float) and isinstance(b, float):  # every request comes here
        return a if a <= b else b
    if is_scalar(a, b):
        return min(a, b)
    return _numpy().minimum(a, b)


def ceil(x: Number) -> Number:
    """The next whole number, element by element.

    >>> ceil(1.2)
    2
    """
    return math.ceil(x) if is_scalar(x) else _numpy().ceil(x)


def next_power_of_two(x: Number) -> Number:
    """The smallest power of two that is not below ``x`` (at least 1), element by element.

    >>> [next_power_of_two(n) for n in (1, 2, 3, 8, 9)]
    [1, 2, 4, 8, 16]
    """
    if is_scalar(x):
        return 1 << math.ceil(math.log2(x))
    np = _numpy()
    return np.exp2(np.ceil(np.log2(x)))


def known_or(x: Number | None, otherwise: Number) -> Number:
    """``x``, or ``otherwise`` where ``x`` is unknown: ``None``, or NaN inside an array.

    >>> known_or(None, 1.0), known_or(2.0, 1.0)
    (1.0, 2.0)
    """
    if x is None:
        return otherwise
    if isinstance(x, _SCALARS):  # every request comes here
        return x
    np = _numpy()
    return np.where(np.isnan(x), otherwise, x)


def select(condition: Any, a: Number, b: Number) -> Number:
    """``a`` where the condition holds, else ``b``, element by element.

    >>> select(1.0 <= 2.0, 1, 2)
    1
    """
    if isinstance(condition, bool):
        return a if condition else b
    return _numpy().where(condition, a, b)


def is_finite(x: Number) -> Any:
    """Whether it is a number and not infinite, element by element."""
    return math.isfinite(x) if isinstance(x, _SCALARS) else _numpy().isfinite(x)


def _numpy() -> Any:
    import numpy as np

    return np
