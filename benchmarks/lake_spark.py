"""Parquet to Parquet by Spark on all cores of this machine, for the table ``lake`` of the benchmarks."""

from __future__ import annotations

import os
import sys

from ecoimpact.lake import spark as lake


def run(source: str, target: str, methodology: str) -> None:
    """Estimate every request under ``source`` and write the rows to ``target``; what stood there goes."""
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else the tasks run under the first python3 on the path
    from pyspark.sql import SparkSession

    settings = {
        "spark.driver.memory": "2g",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.compression.codec": "zstd",
    }
    builder = SparkSession.builder.master("local[*]").appName("ecoimpact-benchmark")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    try:
        figures = lake.estimate(session.read.parquet(source), methodology=methodology)
        figures.write.mode("overwrite").parquet(target)
    finally:
        session.stop()
