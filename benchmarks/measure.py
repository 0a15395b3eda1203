"""Timing what competes: in turns, in one process, so that whatever else the machine does hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Action = Callable[[], object]


class Variant(NamedTuple):
    """How to switch something on, before what is timed, and off again after it."""

    on: Action
    off: Action


class Ratio(NamedTuple):
    """Time over the baseline's: the median over the rounds, the 10th and the 90th percentile, and what it is in seconds."""

    median: float
    p10: float
    p90: float
    baseline_s: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.p10:.3f} to {self.p90:.3f})"


def nothing() -> None:
    return


BARE = Variant(nothing, nothing)


def ratios(work: Action, variants: Mapping[str, Variant], *, rounds: int, repeat: int) -> dict[str, Ratio]:
    """Time ``work``, ``repeat`` times a round, bare and in each variant, in an order that turns with every round."""
    samples: dict[str, list[float]] = {name: [] for name in ("bare", *variants)}
    order = [("bare", BARE), *variants.items()]
    for number in range(rounds):
        for name, variant in order[number % len(order) :] + order[: number % len(order)]:
            variant.on()
            for _ in range(repeat):  # after a switch the interpreter specialises its code anew
                work()
            samples[name].append(_median_s(work, repeat))
            variant.off()
    return {name: _ratio(samples[name], samples["bare"]) for name in variants}


def _median_s(work: Action, repeat: int) -> float:
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _ratio(samples: Sequence[float], baseline: Sequence[float]) -> Ratio:
    each = sorted(sample / bare for sample, bare in zip(samples, baseline, strict=True))
    tenth = len(each) // 10
    return Ratio(
        median=statistics.median(each),
        p10=each[tenth],
        p90=each[-1 - tenth],
        baseline_s=statistics.median(baseline),
    )
