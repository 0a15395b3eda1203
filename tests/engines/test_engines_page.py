"""What docs/lake/engines.md shows is run, each engine by itself and twice, and leaves the rows that one process gives."""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cluster import JVM

from ecoimpact.lake import Estimator

PAGE = Path(__file__).parents[2] / "docs" / "lake" / "engines.md"
OURS = '```python skip="runs in the session: engines"'
ENVIRONMENT = {
    **os.environ,
    "JDK_JAVA_OPTIONS": JVM,
    "PYSPARK_PYTHON": sys.executable,
    "RAY_USAGE_STATS_ENABLED": "0",
    "SPARK_LOCAL_IP": "127.0.0.1",
}


def code(text: str, fence: str) -> list[str]:
    return re.findall(rf"^{re.escape(fence)}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def sections() -> dict[str, str]:
    """The code of each engine, by its heading; what comes before the headings is common to all."""
    start, *parts = re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    (preparation,) = code(start, "```python")
    found = {}
    for part in parts:
        heading = part.partition("\n")[0]
        (found[heading],) = code(part, OURS)
    at_home = ("ray.init(", "ray.init(_node_ip_address='127.0.0.1', ")  # else it takes the machine's own address
    return {heading: (preparation + block).replace(*at_home) for heading, block in found.items()}


SECTIONS = sections()


def rows(tables: list[pa.Table]) -> list[dict[str, Any]]:
    """By id, and whatever an engine takes a date for."""
    found = [row for table in tables for row in table.to_pylist()]
    for row in found:
        if isinstance(row["date"], dt.date):
            row["date"] = row["date"].isoformat()
        row["labels"] = dict(row["labels"])
    return sorted(found, key=lambda row: int(row["id"]))


def written(folder: Path) -> list[dict[str, Any]]:
    """Every row of every file, with the columns that stand in the names of folders."""
    if (folder / "_delta_log").is_dir():  # only its log knows which files still belong to it
        import deltalake

        return rows([pa.table(deltalake.DeltaTable(folder).to_pyarrow_table())])
    tables = []
    for path in folder.rglob("*.parquet"):
        table = pq.ParquetFile(path).read()
        for part in path.relative_to(folder).parts[:-1]:
            name, _, value = part.partition("=")
            table = table.append_column(name, pa.array([value] * table.num_rows))
        tables.append(table)
    return rows(tables)


def run(code: str, folder: Path, **environment: str) -> list[dict[str, Any]]:
    """Run it as a program of its own; the rows that it leaves."""
    script = folder / "example.py"
    script.write_text(code, "utf-8")
    command, environment = [sys.executable, str(script)], {**ENVIRONMENT, **environment}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return written(folder / "estimated")


def one_process(folder: Path) -> list[dict[str, Any]]:
    tables = [pq.read_table(path) for path in sorted((folder / "requests").iterdir())]
    estimator = Estimator()
    return rows([pa.Table.from_batches([estimator(batch)]) for table in tables for batch in table.to_batches()])


@pytest.mark.parametrize("heading", sorted(set(SECTIONS) - {"Spark"}))
def test_each_engine_gives_the_rows_of_one_process(heading: str, tmp_path: Path) -> None:
    first, second = run(SECTIONS[heading], tmp_path), run(SECTIONS[heading], tmp_path)
    assert first == one_process(tmp_path)
    assert second == first


def test_spark_and_spark_connect(tmp_path: Path) -> None:
    """The second run is the same code as a client of a server."""
    assert run(SECTIONS["Spark"], tmp_path) == one_process(tmp_path)
    is_client = "\nassert 'connect' in type(session).__module__\n"
    assert run(SECTIONS["Spark"] + is_client, tmp_path, SPARK_REMOTE="local[2]") == one_process(tmp_path)
