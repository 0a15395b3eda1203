"""A series as one line of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

BLOCKS: Final = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> tuple[str, int]:
    """Blocks from zero to the largest value, at most ``width`` of them, and how many values one of them is the mean of.

    What is not zero is never shown as zero, which is a space.

    >>> sparkline([0, 1, 4, 8], 10)
    (' ▁▄█', 1)
    >>> sparkline([8, 8, 0, 0, 0.02], 3)
    ('█ ▁', 2)
    """
    each = max(-(-len(values) // width), 1)
    means = [sum(values[at : at + each]) / len(values[at : at + each]) for at in range(0, len(values), each)]
    top = max(means, default=0.0)
    return "".join(_block(mean / top) if mean > 0 else " " for mean in means), each


def _block(part: float) -> str:
    return BLOCKS[max(round(part * len(BLOCKS)), 1) - 1]
