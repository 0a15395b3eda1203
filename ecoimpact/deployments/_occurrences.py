"""From starts an hour to runs at work in an hour.

Rule of this file: sums of counts are made by additions only. A difference of running totals, or a Fourier transform, leaves
a remainder of about 1e-16 where nothing runs, and a fleet that rounds up would keep a whole server on for it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]

_ROUNDING = 1e-12


def whole_within_rounding(x: Any) -> FloatArray:
    """``x``, or the whole number that it misses by no more than the rounding of its own computation.

    >>> whole_within_rounding([3.0000000000000004, 2.9, 0.0]).tolist()
    [3.0, 2.9, 0.0]
    """
    x = np.asarray(x, dtype=np.float64)
    nearest = np.rint(x)
    return np.asarray(np.where(np.abs(x - nearest) <= _ROUNDING * x, nearest, x))


def average_occurrences(hourly_starts: FloatArray, duration_h: float) -> FloatArray:
    """Runs at work in each hour, as a mean over that hour, where each run starts with its hour.

    n[h] = sum over k < floor(d) of s[h - k]  +  (d - floor(d)) s[h - floor(d)]   [runs; d in hours]

    The series is longer than that of the starts where a run outlasts the last hour.

    Reference: e-footprint, "Hourly average occurrences across usage patterns".

    >>> average_occurrences(np.array([3.0, 0.0, 1.0]), 0.5).tolist()
    [1.5, 0.0, 0.5]
    >>> average_occurrences(np.array([3.0, 0.0, 1.0]), 2.5).tolist()
    [3.0, 3.0, 2.5, 1.0, 0.5]
    """
    hours = len(hourly_starts)
    duration_h = float(whole_within_rounding(duration_h))
    whole_h = int(duration_h)
    rest_h = duration_h - whole_h
    if not hours or not whole_h:
        return hourly_starts * rest_h
    occurrences = sums_of_last(hourly_starts, whole_h)
    if rest_h:
        occurrences = np.append(occurrences, 0.0)
        occurrences[whole_h:] += rest_h * hourly_starts
    return occurrences


def sums_of_last(values: FloatArray, width: int) -> FloatArray:
    """Sums over each hour and the ``width - 1`` hours before it, up to the last that any value reaches; O(hours).

    A window is the end of one block of ``width`` hours and the beginning of the next, and both are sums within a block.

    >>> sums_of_last(np.array([1.0, 2.0, 3.0]), 2).tolist()
    [1.0, 3.0, 5.0, 3.0]
    """
    if width == 1:
        return values
    windows = len(values) + width - 1
    blocks = -(-(windows + width) // width)
    padded = np.zeros((blocks, width))
    padded.reshape(-1)[width - 1 : width - 1 + len(values)] = values
    to_its_end = np.cumsum(padded[:, ::-1], axis=1)[:, ::-1]
    before = np.zeros_like(padded)
    np.cumsum(padded[:, :-1], axis=1, out=before[:, 1:])
    return np.asarray(to_its_end.reshape(-1)[:windows] + before.reshape(-1)[width : width + windows])
