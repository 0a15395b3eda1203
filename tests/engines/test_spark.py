"""A cluster of two workers gives the rows that one process gives: types, registrations, a killed worker, a second run."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cluster import ENVIRONMENT, JVM, MEMORY_MB, START_S, Cluster, Gate, gated, kill_session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.errors import PythonException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

import ecoimpact
from ecoimpact import engine, methodologies
from ecoimpact.lake import Estimator
from ecoimpact.lake import spark as lake
from ecoimpact.types import Figures, Usage

FILES, ROWS = 8, 60
"""Files of requests, and the rows of each; Spark makes a partition of each file."""

MODELS = ["gpt-4o-mini", "claude-haiku-4-5", "openai/gpt-oss-120b", "no-such-model", None]
METHODOLOGIES = sorted(set(methodologies.names()) - set(methodologies.ALIASES))


def requests(start: int, rows: int) -> pa.Table:
    """Requests of three days, with columns of every kind that nobody asks for."""
    numbers = range(start, start + rows)
    noon = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
    times = [noon + dt.timedelta(hours=9 * (n % 7), microseconds=n) for n in numbers]
    return pa.table(
        {
            "id": [f"r{n}" for n in numbers],
            "time": pa.array(times, pa.timestamp("us", "UTC")),
            "date": pa.array([time.date() for time in times]),
            "provider": pa.array([("openai", "anthropic", "groq", None)[n % 4] for n in numbers]),
            "model": pa.array([MODELS[n % 5] for n in numbers]),
            "zone": pa.array([(None, "FRA", "US-CA", "XXX")[n % 4] for n in numbers]),
            "input_tokens": pa.array([None if n % 11 == 0 else 13 * n for n in numbers], pa.int64()),
            "output_tokens": pa.array([None if n % 13 == 0 else -1 if n % 17 == 0 else 7 * n for n in numbers], pa.int32()),
            "latency_s": pa.array([None if n % 3 else 0.25 * n for n in numbers], pa.float64()),
            "tokens_estimated": pa.array([n % 9 == 0 for n in numbers]),
            "endpoint": pa.array([("messages", "embeddings", None)[n % 3] for n in numbers]),
            "labels": pa.array([[("user", f"u{n % 3}")] for n in numbers], pa.map_(pa.string(), pa.string())),
            "tags": pa.array([["a", None] if n % 2 else None for n in numbers], pa.list_(pa.string())),
            "price": pa.array([Decimal(n).scaleb(-4) for n in numbers], pa.decimal128(12, 4)),
            "digest": pa.array([bytes([n % 256]) for n in numbers]),
            "gen_ai.system": pa.array(["x"] * rows),
            "span": pa.array([{"n": n} for n in numbers], pa.struct([("n", pa.int16())])),
        }
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("requests")
    for number in range(FILES):
        pq.write_table(requests(number * ROWS, ROWS), folder / f"part-{number}.parquet")
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.add_workers(2)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def spark(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    os.environ |= {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    own = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": "512m",
        "spark.driver.extraJavaOptions": JVM,
        "spark.executor.memory": f"{MEMORY_MB}m",
        "spark.executor.extraJavaOptions": JVM,
        "spark.local.dir": str(tmp_path_factory.mktemp("spark")),
        "spark.sql.files.minPartitionNum": str(FILES),
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.session.timeZone": "Asia/Kathmandu",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    builder = SparkSession.builder.master(cluster.url).appName("ecoimpact-tests")
    for name, value in own.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_current", engine.Catalog({}, {}))


def here(table: pa.Table, estimator: Estimator) -> list[dict[str, Any]]:
    """The rows that this process gives."""
    given = table.combine_chunks().to_batches()
    return rows(pa.Table.from_batches(map(estimator, given), estimator.schema(table.schema)))


def rows(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=lambda row: str(row["id"]))


def collected(df: DataFrame) -> pa.Table:
    return df.toArrow()


def on_disk(folder: Path, pattern: str = "**/*.parquet") -> list[dict[str, Any]]:
    """Every row of every Parquet file, hidden ones too, with its partition."""
    tables = []
    for path in sorted(folder.glob(pattern)):
        assert path.parent.parent == folder, path  # nothing is left in a folder of an unfinished write
        date = dt.date.fromisoformat(path.parent.name.removeprefix("date="))
        table = pq.ParquetFile(path).read()
        tables.append(table.append_column("date", pa.array([date] * table.num_rows)))
    found = rows(pa.concat_tables(tables))
    assert len({row["id"] for row in found}) == len(found)
    return found


@pytest.mark.parametrize("methodology", METHODOLOGIES)
def test_executors_give_the_rows_of_one_process(spark: SparkSession, source: Path, methodology: str) -> None:
    df = spark.read.parquet(str(source))
    assert df.rdd.getNumPartitions() == FILES
    figures = lake.estimate(df, methodology=methodology)
    assert figures.columns[: len(df.columns)] == df.columns
    assert rows(collected(figures)) == here(pq.read_table(source), Estimator(methodology))


def test_columns_that_were_there_keep_type_and_metadata(spark: SparkSession, source: Path) -> None:
    df = spark.read.parquet(str(source)).withMetadata("model", {"comment": "theirs"})
    figures = lake.estimate(df)
    for before in df.schema:
        after = figures.schema[before.name]
        assert (after.dataType, after.metadata) == (before.dataType, before.metadata)
    assert figures.schema["model"].metadata == {"comment": "theirs"}
    assert lake.estimate(figures).schema == figures.schema  # replaced, not appended


def test_what_the_program_registered_travels(spark: SparkSession, source: Path) -> None:
    df = spark.read.parquet(str(source))
    ecoimpact.register_model("no-such-model", active_params_b=7, total_params_b=(7, 8), source="model card")
    ecoimpact.register_site("groq", zone="SWE", pue=(1.1, 1.3), wue_l_per_kwh=0.1)
    figures, estimator = lake.estimate(df), Estimator()
    ecoimpact.register_model("no-such-model", active_params_b=70, total_params_b=70, source="after the estimator was made")
    found = rows(collected(figures))
    assert found == here(pq.read_table(source), estimator)
    assert all("model-not-registered" not in row["errors"] for row in found if row["model"] == "no-such-model")


def test_a_methodology_of_the_programs_own_travels(spark: SparkSession, source: Path) -> None:
    class Linear:  # not to be imported where the executors are, like a class of a notebook
        name = "linear"
        site_table = "ecologits-2025-09"

        def serve(self, model: Any) -> float:
            return float(model.active_params_b)

        def assess(self, serving: Any, usage: Usage, latency_s: Any, site: Any) -> Figures:
            energy_kwh = usage.output_tokens * serving
            return Figures(energy_kwh, energy_kwh * site.gwp, None, None, None, None, None, None)

        def steps(self, *_: Any) -> tuple[()]:
            return ()

    found = rows(collected(lake.estimate(spark.read.parquet(str(source)), methodology=Linear())))
    assert found == here(pq.read_table(source), Estimator(Linear()))
    assert sum(row["energy_kwh_max"] is not None for row in found) > ROWS


def test_zone_and_columns(spark: SparkSession, source: Path) -> None:
    renamed = {"model": "gen_ai.request.model", "output_tokens": "gen_ai.usage.output_tokens"}
    df = spark.read.parquet(str(source)).withColumnsRenamed(renamed)
    table = pq.read_table(source)
    table = table.rename_columns([renamed.get(name, name) for name in table.column_names])
    found = rows(collected(lake.estimate(df, methodology="scope3", zone="FRA", columns=renamed)))
    assert found == here(table, Estimator("scope3", zone="FRA", columns=renamed))
    assert {row["zone"] for row in found} >= {"FRA"}


def test_partitions_that_are_empty_or_hold_nothing_known(spark: SparkSession) -> None:
    for sql in (
        "select 'gpt-4o' as model, 5 as output_tokens where false",
        "select cast(null as string) as model, cast(null as bigint) as output_tokens",
        "select null as model, null as output_tokens",
        "select 'gpt-4o' as model, 5.5BD as output_tokens, 'a word' as input_tokens",
        "select 7 as model, array('a') as output_tokens, false as latency_s, 'kept' as energy_kwh_min, 1 as errors",
    ):
        df = spark.sql(sql)
        figures = collected(lake.estimate(df.repartition(3)))
        assert figures.num_rows == df.count(), sql
        given = df.toArrow()
        assert figures.to_pylist() == [row for batch in given.to_batches() for row in Estimator()(batch).to_pylist()], sql
        assert figures.schema.field("energy_kwh_min").type == pa.float64()


def test_large_types(spark: SparkSession, source: Path) -> None:
    spark.conf.set("spark.sql.execution.arrow.useLargeVarTypes", "true")
    try:
        found = rows(collected(lake.estimate(spark.read.parquet(str(source)))))
    finally:
        spark.conf.unset("spark.sql.execution.arrow.useLargeVarTypes")
    assert found == here(pq.read_table(source), Estimator())


def test_wrong_use_is_told_before_a_job_starts(spark: SparkSession, source: Path) -> None:
    df = spark.read.parquet(str(source))
    with pytest.raises(ValueError, match="ecologits"):
        lake.estimate(df, methodology="ecologit")
    with pytest.raises(ValueError, match="FRA"):
        lake.estimate(df, zone="Frence")
    with pytest.raises(ValueError, match="'model'"):
        lake.estimate(df.drop("model"))
    with pytest.raises(ValueError, match="near: date"):
        lake.write(df, "nowhere", partition_by="day_date")
    with pytest.raises(ValueError, match="one column at least"):
        lake.write(df, "nowhere", partition_by=[])
    with pytest.raises(TypeError, match="DataFrame of Spark, got Table"):
        lake.estimate(pq.read_table(source))
    with pytest.raises(ValueError, match="'Errors' and 'errors'"):
        lake.estimate(df.withColumn("Errors", f.lit(1)))
    with pytest.raises(ValueError, match="'id' and 'id'"):
        lake.estimate(df.select("*", "id"))


def test_executors_with_other_tables_are_refused(
    spark: SparkSession, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecoimpact.data.DATA_VERSION", "1999-01")
    with pytest.raises(PythonException, match="install the same version of ecoimpact"):
        collected(lake.estimate(spark.read.parquet(str(source))))


# --- writing ------------------------------------------------------------------------------------------------------------


def test_a_second_run_leaves_what_the_first_one_left(spark: SparkSession, source: Path, tmp_path: Path) -> None:
    mode = spark.conf.get("spark.sql.sources.partitionOverwriteMode")
    figures = lake.estimate(spark.read.parquet(str(source)))
    lake.write(figures, str(tmp_path))
    first, files = on_disk(tmp_path), len(list(tmp_path.rglob("*.parquet")))
    assert first == here(pq.read_table(source), Estimator())
    lake.write(figures, str(tmp_path))
    assert on_disk(tmp_path) == first
    assert len(list(tmp_path.rglob("*.parquet"))) == files
    assert spark.conf.get("spark.sql.sources.partitionOverwriteMode") == mode


def test_only_the_days_that_come_are_replaced(spark: SparkSession, source: Path, tmp_path: Path) -> None:
    df = spark.read.parquet(str(source))
    lake.write(lake.estimate(df), str(tmp_path))
    second = dt.date(2026, 3, 2)
    lake.write(lake.estimate(df.where(f.col("date") == f.lit(second)), methodology="scope3"), str(tmp_path))
    found = on_disk(tmp_path)
    assert {(row["date"] == second, row["methodology"].partition("-")[0]) for row in found} == {
        (True, "scope3"),
        (False, "ecologits"),
    }
    assert len(found) == FILES * ROWS


@pytest.mark.parametrize("shuffled", [False, True], ids=["tasks that write", "tasks whose shuffled rows are lost"])
def test_a_worker_is_killed_in_the_middle(
    spark: SparkSession, cluster: Cluster, source: Path, tmp_path: Path, shuffled: bool
) -> None:
    gate = Gate()
    df = spark.read.parquet(str(source))
    numbered = df.toDF(*map(str, range(len(df.columns))))
    figures = lake.estimate(numbered.mapInArrow(gated(gate.port), numbered.schema).toDF(*df.columns))
    writing = threading.Thread(
        target=lake.write, args=(figures.repartition("date") if shuffled else figures, str(tmp_path)), daemon=True
    )
    writing.start()
    try:
        waiting = dict([gate.arrival(), gate.arrival()])
        assert set(waiting) == set(cluster.workers)
        victim, survivor = waiting
        waiting.pop(victim).close()  # it finishes a task, so that there is something to lose
        again, task = gate.arrival()
        assert again == victim
        cluster.kill_worker(victim)
        task.close()
        waiting[survivor].close()
        gate.open()
        writing.join(START_S)
        assert not writing.is_alive()
    finally:
        gate.close()
        cluster.add_workers(2 - len(cluster.workers))
    assert set(gate.passed_open) == {survivor}
    assert len(gate.passed_open) >= FILES - 2 + shuffled  # what the victim had shuffled has to be worked out again
    assert on_disk(tmp_path) == here(pq.read_table(source), Estimator())


DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
from cluster import gated
from pyspark.sql import SparkSession
from ecoimpact.lake import spark as lake

_, _, source, out, port = sys.argv
session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
df = session.read.parquet(source).drop("gen_ai.system").repartition(8)
lake.write(lake.estimate(df.mapInArrow(gated(int(port)), df.schema)), out)
"""


def test_a_driver_is_killed_in_the_middle_and_the_run_repeated(spark: SparkSession, source: Path, tmp_path: Path) -> None:
    df = spark.read.parquet(str(source))
    lake.write(lake.estimate(df.where("date = '2026-03-02'")), str(tmp_path))
    before = on_disk(tmp_path)
    gate = Gate()
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(Path(__file__).parent), str(source), str(tmp_path), str(gate.port)],
        env={**ENVIRONMENT, "PYSPARK_PYTHON": sys.executable, "JDK_JAVA_OPTIONS": JVM},
        start_new_session=True,
    )
    try:
        _, first = gate.arrival()
        gate.arrival()
        first.close()
        gate.arrival()  # so the first has written its files
    finally:
        kill_session(driver.pid)
        driver.wait()
        gate.close()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".spark-staging")]
    assert rows(collected(spark.read.parquet(str(tmp_path)).select("id"))) == [{"id": row["id"]} for row in before]
    lake.write(lake.estimate(df), str(tmp_path))
    assert on_disk(tmp_path, "date=*/*.parquet") == here(pq.read_table(source), Estimator())
    assert spark.read.parquet(str(tmp_path)).count() == FILES * ROWS


# --- any rows -----------------------------------------------------------------------------------------------------------

request_row = st.fixed_dictionaries(
    {
        "provider": st.sampled_from(["openai", "groq", "nobody", None]),
        "model": st.sampled_from(MODELS),
        "output_tokens": st.none() | st.sampled_from([0, -1, 10**10]) | st.integers(0, 100_000),
        "latency_s": st.none() | st.sampled_from([float("nan"), -1.0]) | st.floats(0.01, 600),
        "tokens_estimated": st.none() | st.booleans(),
    }
)


REQUEST_SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "provider": pa.string(),
        "model": pa.string(),
        "output_tokens": pa.int64(),
        "latency_s": pa.float64(),
        "tokens_estimated": pa.bool_(),
    }
)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(request_row, min_size=1, max_size=30), partitions=st.integers(1, 3))
def test_any_rows(spark: SparkSession, requests: list[dict[str, Any]], partitions: int) -> None:
    table = pa.Table.from_pylist([{"id": f"{number:03}", **row} for number, row in enumerate(requests)], REQUEST_SCHEMA)
    df = spark.createDataFrame(table).repartition(partitions)
    assert repr(rows(collected(lake.estimate(df)))) == repr(here(table, Estimator()))  # NaN is NaN
