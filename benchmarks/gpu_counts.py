"""On how many GPUs models were measured, beside the rule of ``measured-2026``. ``python -m benchmarks.gpu_counts``.

ML.ENERGY leaderboard 3.0, all tasks: by GPU and size of the weights. The result does not depend on chance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.fit_measured import WEIGHT_BITS, gpu_name, measured
from ecoimpact.methodologies._measured_form import gpu_count
from ecoimpact.methodologies.measured_2026 import GPUS


class Measured(NamedTuple):
    """Models whose weights take the same room on one kind of GPU."""

    gpu: str
    weights_gb: float
    models: int
    gpu_counts: tuple[int, ...]

    @property
    def by_the_rule(self) -> int:
        memory_gb = GPUS[self.gpu].memory_gb
        return int(gpu_count(total_params_b=self.weights_gb, weight_bytes=1.0, gpu_memory_gb=memory_gb))


def deployments() -> Iterator[Measured]:
    """The measured deployments, by GPU and by the size of the weights."""
    counts: dict[tuple[str, float], set[int]] = defaultdict(set)
    models: dict[tuple[str, float], set[str]] = defaultdict(set)
    for row in measured():
        if row["dataset"] == "v3":
            weights_gb = float(row["total_params_b"]) * WEIGHT_BITS[row["weight_precision"]] / 8
            place = (gpu_name(row["gpu"]), round(weights_gb, 1))
            counts[place].add(int(float(row["num_gpus"])))
            models[place].add(row["model"])
    for place in sorted(counts, key=lambda place: (place[0] != "H100", place[1])):
        yield Measured(*place, len(models[place]), tuple(sorted(counts[place])))


def table() -> str:
    """The deployments in Markdown; those in a row that have the same counts share a line."""
    lines: list[list[Measured]] = []
    for found in deployments():
        last = lines[-1][-1] if lines else None
        if last and (last.gpu, last.by_the_rule) == (found.gpu, found.by_the_rule):
            lines[-1].append(found)
        else:
            lines.append([found])
    text = ["| GPU | weights, GB | models | measured on | by the rule |", "|---|---|---|---|---|"]
    for line in lines:
        room = f"{line[0].weights_gb:g}" + (f" to {line[-1].weights_gb:g}" if len(line) > 1 else "")
        counts = ", ".join(map(str, sorted({count for found in line for count in found.gpu_counts})))
        text.append(f"| {line[0].gpu} | {room} | {sum(f.models for f in line)} | {counts} | {line[0].by_the_rule} |")
    return "\n".join(text)


if __name__ == "__main__":
    print(table())
