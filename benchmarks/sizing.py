"""What a record takes: bytes and processor time on each step of its way. ``python -m benchmarks.sizing``.

The log is one day of one machine: eight models of two providers, a feature (8 values) and a user (1 000 values) on each
request, and every record has figures of its own. Times are those of the processor, so that what else the machine does
counts little. The second table multiplies them.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from benchmarks.log_index import FEATURES, FIRST_DAY, USERS, _line
from ecoimpact.records.index import FILE_NAME

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "lake" / "sizing.md"
RECORDS = 200_000
A_DAY = (1_000_000, 100_000_000, 1_000_000_000)
DAY_S = 86_400
HOUR_S = 3_600


class Sizes(NamedTuple):
    """Of a record: bytes, and seconds of a processor; and the rows of the roll-ups of the whole day."""

    jsonl_bytes: float
    parquet_bytes: float
    reestimated_bytes: float
    index_bytes: float
    rollup_rows: int
    index_s: float
    compact_s: float
    reestimate_jsonl_s: float
    reestimate_parquet_s: float


# Each step in a process of its own, which tells its processor time without its start.
_STEP = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
import numpy, pyarrow.compute, pyarrow.parquet, pyarrow.json
from ecoimpact.lake import Estimator
from ecoimpact.lake.reestimate import reestimate
from ecoimpact.records.compact import compact
from ecoimpact.records.index import Index
from benchmarks.log_index import MODELS
MODELS = [name for _, _, name in MODELS]
def index(log): Index(log).refresh()
def compacted(log): compact(log, now=datetime(2026, 6, 1, tzinfo=UTC))
def again(log): reestimate(log, Path(log).parent / "out", Estimator("scope3"), workers=1)
step, log = sys.argv[1:]
list(map(Estimator("scope3"), pyarrow.table({"model": MODELS, "output_tokens": [1] * len(MODELS)}).to_batches()))
started = time.process_time()
globals()[step](log)
print(time.process_time() - started)
"""


def measured(records: int, progress: Callable[[str], object]) -> Sizes:
    with tempfile.TemporaryDirectory(prefix="ecoimpact-bench-") as folder:
        log, out = Path(folder) / "log", Path(folder) / "out"
        progress(f"writing {records:,} records")
        _write(log, records)
        jsonl_bytes = _bytes(log, "*.jsonl")
        progress("indexing, re-estimating, compacting")
        index_s = _step("index", log)
        index_bytes = (log / FILE_NAME).stat().st_size
        connection = sqlite3.connect(log / FILE_NAME)
        rollup_rows = int(connection.execute("SELECT count(*) FROM rollup").fetchone()[0])
        connection.close()
        from_jsonl_s = _step("again", log)
        shutil.rmtree(out)
        for segment in log.rglob("*.jsonl"):
            os.utime(segment, (0, 0))
        compact_s = _step("compacted", log)
        parquet_bytes = _bytes(log, "*.parquet")
        from_parquet_s = _step("again", log)
        reestimated_bytes = _bytes(out, "*.parquet")
    return Sizes(
        jsonl_bytes / records,
        parquet_bytes / records,
        reestimated_bytes / records,
        index_bytes / records,
        rollup_rows,
        index_s / records,
        compact_s / records,
        from_jsonl_s / records,
        from_parquet_s / records,
    )


def table(*, records: int = RECORDS, progress: Callable[[str], object] = lambda _: None) -> str:
    """What was measured, and what follows from it, as two Markdown tables."""
    sizes = measured(records, progress)
    rows = {
        "log, JSON Lines": (f"{sizes.jsonl_bytes:,.0f}", ""),
        "log, compacted to Parquet": (f"{sizes.parquet_bytes:,.0f}", _rate(sizes.compact_s)),
        "index": (f"{sizes.index_bytes:,.0f}", _rate(sizes.index_s)),
        "`reestimate` from JSON Lines": (f"{sizes.reestimated_bytes:,.0f}", _rate(sizes.reestimate_jsonl_s)),
        "`reestimate` from Parquet": (f"{sizes.reestimated_bytes:,.0f}", _rate(sizes.reestimate_parquet_s)),
    }
    lines = ["| | bytes a record | records a second of a core |", "|---|---|---|"]
    lines += [f"| {name} | {size} | {rate} |" for name, (size, rate) in rows.items()]
    lines += ["", f"{records:,} records of a day; {sizes.rollup_rows:,} rows in its roll-ups.", ""]
    head = [f"{number:,} a day" for number in A_DAY]
    lines += [f"| | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    per_record = {
        "JSON Lines, GB a day": sizes.jsonl_bytes / 1e9,
        "Parquet, GB a day": sizes.parquet_bytes / 1e9,
        "Parquet, TB a year": sizes.parquet_bytes * 365 / 1e12,
        "cores that index, all day": sizes.index_s / DAY_S,
        "cores that compact, all day": sizes.compact_s / DAY_S,
        "cores that re-estimate a day from Parquet in an hour": sizes.reestimate_parquet_s / HOUR_S,
    }
    lines += [f"| {name} | {' | '.join(_three(each * number) for number in A_DAY)} |" for name, each in per_record.items()]
    return "\n".join(lines)


def _three(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _rate(seconds: float) -> str:
    return f"{1 / seconds:,.0f}"


def _bytes(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern))


def _step(name: str, log: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _STEP, name, str(log)], check=True, capture_output=True, text=True, cwd=ROOT
    )
    return float(done.stdout)


def _write(log: Path, records: int) -> None:
    chance = random.Random(2026)  # noqa: S311 - no secret
    folder = log / f"{FIRST_DAY:%Y-%m-%d}"
    folder.mkdir(parents=True)
    with (folder / "000000-1-00000000.jsonl").open("w", encoding="ascii") as segment:
        for place in range(records):
            moment = datetime(1, 1, 1, tzinfo=UTC) + timedelta(days=place / records)
            line = _line(chance).replace("THE-ID", f"{chance.getrandbits(128):032x}")
            line = line.replace("THE-TIME", f"{moment:%H:%M:%S.%f}")
            line = line.replace("THE-USER", f"user-{chance.randrange(USERS):04}")
            segment.write(line.replace("THE-FEATURE", f"feature-{chance.randrange(FEATURES)}"))


if __name__ == "__main__":
    print(table(progress=lambda text: print(text, file=sys.stderr, flush=True)))
