"""A lake from Parquet to Parquet: every row with its figures. ``python -m benchmarks.lake [--rows N] [--spark]``.

Each engine runs in a process of its own, on the same files, and writes zstd: numpy by hand over Arrow batches on one core
(see :mod:`benchmarks.batch`: no warnings, no errors, no unknown values), ``ecoimpact reestimate`` on one and on all cores,
DuckDB that reads and hands Arrow batches over, and Spark on all cores where it is wanted. Time is that of the whole
process, its start included; memory is the sum of the peaks of the process and those that it starts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROWS = 10_000_000
FILE_ROWS = 1_000_000
ROW_GROUP_ROWS = 250_000
BATCH_ROWS = 1 << 16

ENGINES = {
    "hand": "numpy by hand, one core",
    "ours": "`ecoimpact reestimate`, one core",
    "workers": "`ecoimpact reestimate`, all cores",
    "duckdb": "DuckDB, Arrow batches, `Estimator`",
    "spark": "Spark, all cores",
}


def table(*, rows: int = ROWS, spark: bool = False, progress: Callable[[str], object] = lambda _: None) -> str:
    """Seconds, rows a second and peak memory of each engine, as a Markdown table."""
    engines = {name: said for name, said in ENGINES.items() if name != "spark" or spark}
    left_out = [name for name, package in (("duckdb", "duckdb"), ("spark", "pyspark")) if find_spec(package) is None]
    lines = ["| | s | rows/s | peak memory, MiB | written, MB |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory(prefix="ecoimpact-bench-") as folder:
        progress(f"writing {rows:,} rows")
        src = Path(folder) / "in"
        _write(src, rows)
        size = sum(path.stat().st_size for path in src.glob("*.parquet"))
        for name, said in engines.items():
            if name in left_out:
                continue
            progress(said)
            out = Path(folder) / "out"
            started = time.perf_counter()
            command = [sys.executable, "-m", "benchmarks.lake", "--engine", name, str(src), str(out)]
            peak_mib = _run(command)
            seconds = time.perf_counter() - started
            written = _checked(src, out, rows)
            lines.append(f"| {said} | {seconds:.1f} | {rows / seconds:,.0f} | {peak_mib:,.0f} | {written / 1e6:,.0f} |")
            shutil.rmtree(out)
    told = f"{rows:,} rows in files of {FILE_ROWS:,}, {size / rows:.0f} bytes a row; {os.cpu_count()} cores."
    missing = (
        f" Not at hand: {', '.join(name for name in left_out if name in engines)}." if set(left_out) & set(engines) else ""
    )
    return "\n".join([*lines, "", told + missing])


def _write(folder: Path, rows: int) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from benchmarks.batch import columns

    folder.mkdir()
    users = pa.array([f"user-{number:04}" for number in range(1000)])
    for first in range(0, rows, FILE_ROWS):
        number = min(FILE_ROWS, rows - first)
        given = columns(number) | {
            "id": np.arange(first, first + number),
            "user": users.take(pa.array(np.arange(number) * 7919 % 1000)),
        }
        plain = pa.table(
            {name: column.cast(pa.string()) if name in ("provider", "model") else column for name, column in given.items()}
        )
        path = folder / f"part-{first // FILE_ROWS:05}.parquet"
        pq.write_table(plain, path, compression="zstd", row_group_size=ROW_GROUP_ROWS)


def _checked(src: Path, out: Path, rows: int) -> int:
    """The bytes that were written, of figures that are the right ones."""
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    paths = sorted(out.rglob("*.parquet"))
    written = ds.dataset(paths, format="parquet").to_table(columns=["id", "output_tokens", "energy_kwh_central"])
    given = ds.dataset(src, format="parquet").to_table(columns=["output_tokens"])
    assert written.num_rows == rows
    assert pc.count_distinct(written["id"]).as_py() == rows
    assert pc.sum(written["output_tokens"]) == pc.sum(given["output_tokens"])
    assert written["energy_kwh_central"].null_count == 0
    return sum(path.stat().st_size for path in paths)


def _run(command: list[str]) -> float:
    """Run an engine to its end; the peaks of the memory of its process and of those that this started, together, in MiB."""
    started: dict[int, int] = {}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=Path(__file__).parents[1]) as process:
        while True:
            try:
                told, errors = process.communicate(timeout=0.1)
                break
            except subprocess.TimeoutExpired:
                started |= {child: _peak_kib(child) for child in _descendants(process.pid)}
    if process.returncode:
        raise SystemExit(errors)
    return (int(told.splitlines()[-1]) + sum(started.values())) / 1024


def _descendants(pid: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text("ascii").split()):
                found += [child, *_descendants(child)]
    return found


def _peak_kib(pid: int | str) -> int:
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text("utf-8"))
        return int(found[1]) if found else 0
    return 0


# --- the engines --------------------------------------------------------------------------------------------------------


def hand(src: Path, out: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from benchmarks.batch import by_hand

    pa.set_cpu_count(1)
    out.mkdir()
    for path in sorted(src.glob("*.parquet")):
        with pq.ParquetFile(path, read_dictionary=["model"]) as file:
            writer = None
            for number in range(file.num_row_groups):
                given = file.read_row_group(number)
                made = pa.table({**{name: given[name] for name in given.column_names}, **by_hand(given)})
                if writer is None:
                    texts = ["provider", "model", "user"]
                    writer = pq.ParquetWriter(out / path.name, made.schema, compression="zstd", use_dictionary=texts)
                writer.write_table(made)
            assert writer is not None
            writer.close()


def ours(src: Path, out: Path) -> None:
    import pyarrow as pa

    pa.set_cpu_count(1)
    _reestimate(src, out, 1)


def workers(src: Path, out: Path) -> None:
    _reestimate(src, out, None)


def _reestimate(src: Path, out: Path, number: int | None) -> None:
    from ecoimpact.lake import Estimator
    from ecoimpact.lake.reestimate import reestimate

    assert not reestimate(src, out, Estimator("ecologits"), workers=number).failed


def duckdb(src: Path, out: Path) -> None:
    import duckdb as library
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ecoimpact.lake import Estimator

    out.mkdir()
    estimator = Estimator("ecologits")
    relation = library.sql(f"FROM read_parquet('{src}/*.parquet')")
    assert relation is not None
    found = relation.fetch_record_batch(BATCH_ROWS)
    schema = estimator.schema(found.schema)
    texts = [field.name for field in schema if not pa.types.is_floating(field.type)]
    with pq.ParquetWriter(out / "all.parquet", schema, compression="zstd", use_dictionary=texts) as writer:
        group: list[Any] = []
        for batch in found:
            group.append(estimator(batch))
            if len(group) * BATCH_ROWS >= ROW_GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(group))
                group = []
        if group:
            writer.write_table(pa.Table.from_batches(group))


def spark(src: Path, out: Path) -> None:
    from benchmarks.lake_spark import run

    run(str(src), str(out), "ecologits")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lake")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--spark", action="store_true", help="Spark as well, where pyspark is installed")
    parser.add_argument("--engine", nargs=3, metavar=("NAME", "SRC", "OUT"), help="what a process of the table runs")
    arguments = parser.parse_args()
    if arguments.engine:
        name, src, out = arguments.engine
        runs: dict[str, Callable[[Path, Path], None]] = {
            "hand": hand,
            "ours": ours,
            "workers": workers,
            "duckdb": duckdb,
            "spark": spark,
        }
        runs[name](Path(src), Path(out))
        print(_peak_kib("self") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    else:
        print(
            table(
                rows=arguments.rows, spark=arguments.spark, progress=lambda text: print(text, file=sys.stderr, flush=True)
            )
        )


if __name__ == "__main__":
    main()
