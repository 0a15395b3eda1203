"""What a run over a lake counts and adds up."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ecoimpact.types import CRITERIA

if TYPE_CHECKING:
    import pyarrow as pa

_ENDS = ("min", "central", "max")
SUMMED = tuple(f"{c.suffix}_{end}" for c in CRITERIA for end in _ENDS)
"""The columns of which sums are told."""


@dataclass(slots=True)
class Sums:
    """What is counted over rows. ``unestimated`` rows have no figures; ``illegible`` lines hold no row.

    ``before`` and ``after`` are sums of the totals by name, such as ``gwp_kgco2eq_central``, of those that any row has.
    """

    rows: int = 0
    unestimated: int = 0
    illegible: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)

    def add(self, other: Sums) -> None:
        self.rows += other.rows
        self.unestimated += other.unestimated
        self.illegible += other.illegible
        for code, number in other.errors.items():
            self.errors[code] = self.errors.get(code, 0) + number
        for mine, others in ((self.before, other.before), (self.after, other.after)):
            for name, value in others.items():
                mine[name] = mine.get(name, 0.0) + value

    def count(self, given: pa.RecordBatch, made: pa.RecordBatch) -> None:
        """Add the rows of a batch, as they came in and as they go out."""
        import pyarrow.compute as pc

        unknown = made.column("energy_kwh_central").null_count
        told = Sums(rows=made.num_rows, unestimated=unknown)
        if unknown:
            counts = pc.value_counts(pc.list_flatten(made.column("errors"))).to_pylist()
            told.errors |= {each["values"]: each["counts"] for each in counts}
        for c in CRITERIA:
            low, central, high = names = [f"{c.suffix}_{end}" for end in _ENDS]
            told.after |= _summed(made, names)
            told.before |= _summed(given, names)
            if central not in told.before and low in told.before and high in told.before:  # the log's first versions
                told.before[central] = (told.before[low] + told.before[high]) / 2
        self.add(told)


def _summed(batch: pa.RecordBatch, names: list[str]) -> dict[str, float]:
    """The sums of columns; nothing of those that hold no number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = {}
    for name in names:
        if name in batch.schema.names:
            with contextlib.suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
                found[name] = pc.sum(batch.column(name).cast(pa.float64())).as_py()
    return {name: value for name, value in found.items() if value is not None}
