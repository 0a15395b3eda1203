"""Runs every benchmark and writes the tables between the markers of ``docs/benchmarks.md`` and ``docs/accuracy.md``."""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import (
    accuracy,
    batch,
    coverage,
    estimate,
    fleet,
    import_time,
    lake,
    log_index,
    log_put,
    memory,
    overhead,
    sizing,
)

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PACKAGES = ("openai", "anthropic", "ecologits", "sentry-sdk", "opentelemetry-instrumentation-openai-v2", "wrapt")


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text("utf-8"))
        model = found.group(1) if found else model
    packages = []
    for name in PACKAGES:
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    today = datetime.now(UTC).date()
    return (
        f"Measured on {today}: {os.cpu_count()} cores of {model}, {platform.system()}, "
        f"Python {platform.python_version()}, {', '.join(packages)}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, no peers: only to see that everything runs")
    parser.add_argument("--print", action="store_true", dest="print_only", help="print the tables, leave the page alone")
    parser.add_argument("--only", nargs="+", metavar="TABLE", help="these tables, such as: overhead memory index")
    parser.add_argument("--peer-python", metavar="PATH", help="an interpreter that has efootprint, for the table: fleet")
    parser.add_argument("--rows", type=int, default=lake.ROWS, metavar="N", help="of the table: lake")
    parser.add_argument("--spark", action="store_true", help="in the table lake, Spark too, where pyspark is installed")
    arguments = parser.parse_args()
    quick = arguments.quick

    def progress(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    sizes = (2_000,) if quick else (100_000, 1_000_000, 10_000_000)
    benchmarks: dict[str, Callable[[], str]] = {
        "machine": machine,
        "overhead": lambda: overhead.table(rounds=2 if quick else 30, peers=not quick, progress=progress),
        "estimate": lambda: estimate.table(rounds=2 if quick else 40),
        "batch": lambda: batch.table(rows=1_000 if quick else batch.ROWS, rounds=1 if quick else 9, progress=progress),
        "lake": lambda: lake.table(rows=2_000 if quick else arguments.rows, spark=arguments.spark, progress=progress),
        "sizing": lambda: sizing.table(records=500 if quick else sizing.RECORDS, progress=progress),
        "import": lambda: import_time.table(rounds=1 if quick else 15),
        "put": lambda: log_put.table(puts=200 if quick else 20_000),
        "memory": lambda: memory.table(calls=200 if quick else 1_000_000),
        "coverage": coverage.table,
        "accuracy": accuracy.table,
        "fleet": lambda: fleet.table(
            rounds=1 if quick else 9,
            hours=48 if quick else fleet.HOURS,
            peer_python=arguments.peer_python,
            progress=progress,
        ),
        "index": lambda: log_index.table(sizes, rounds=1 if quick else 7, progress=progress),
    }
    tables = {}
    for name in arguments.only or benchmarks:
        if name not in benchmarks:
            parser.error(f"no table {name!r}; there are {', '.join(benchmarks)}")
        progress(name)
        tables[name] = benchmarks[name]()
    for name, table in tables.items():
        print(f"\n## {name}\n\n{table}" if arguments.print_only or quick else f"{name}: done")
    if not (arguments.print_only or quick):
        of_accuracy = {name: tables.pop(name) for name in ("accuracy",) if name in tables}
        if of_accuracy:
            write(accuracy.PAGE, of_accuracy)
            accuracy.PICTURE.write_text(accuracy.picture(), "utf-8")
        if "sizing" in tables:
            write(sizing.PAGE, {"sizing": tables.pop("sizing")})
        write(PAGE, tables)


def write(path: Path, tables: dict[str, str]) -> None:
    page = path.read_text("utf-8")
    for name, table in tables.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, _, rest = page.partition(start)
        _, found, after = rest.partition(end)
        if not found:
            raise SystemExit(f"{path} has no place for the table {name!r}")
        page = f"{before}{start}\n\n{table}\n\n{end}{after}"
    path.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
