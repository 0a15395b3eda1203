"""The figures of a Spark DataFrame: executors call the same function on Arrow batches that a laptop calls.

Rules: nothing is worked out before Spark is asked for rows, and no setting of the session is changed; what cannot be right
is a ``ValueError`` before a job starts. What the program registered travels with the function, which Spark broadcasts once
it is above a megabyte; the tables are those of the package, which has to be on the executors with the same data, or the job
fails and says so. Columns that were there pass through as they are. pyspark is imported only where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeAlias

from ecoimpact.engine import DEFAULT_METHODOLOGY
from ecoimpact.lake.estimating import RESULTS, Estimator
from ecoimpact.types import Methodology

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType, StructType

Batches: TypeAlias = "Iterator[pa.RecordBatch]"


def estimate(
    df: DataFrame,
    *,
    methodology: str | Methodology = DEFAULT_METHODOLOGY,
    zone: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> DataFrame:
    """A DataFrame of requests with the figures of each, as :class:`~ecoimpact.lake.Estimator` gives them.

    Args:
        df: one row a request; ``model`` and ``output_tokens`` are needed, ``provider``, ``input_tokens``, ``latency_s``,
            ``zone``, ``tokens_estimated`` and ``endpoint`` are used where they are there, by the names of records.
        methodology: a name, or a :class:`~ecoimpact.types.Methodology`.
        zone: the electricity zone of every row, whatever the rows say; default: that of the row, else the provider's own.
        columns: our names to those of ``df``, such as ``{"output_tokens": "completion_tokens"}``.

    Returns:
        the columns of ``df`` in their order, then the figures; a column that has the name of a figure is replaced. Unknown
        figures are null. Nothing runs until its rows are asked for.

    Raises:
        TypeError: ``df`` is no DataFrame of Spark.
        ValueError: a needed column is missing, an unknown methodology or zone, columns that Spark cannot tell apart.
    """
    if not hasattr(df, "mapInArrow"):
        raise TypeError(f"df is a DataFrame of Spark, got {type(df).__name__}")
    estimator = Estimator(methodology, zone=zone, columns=columns)
    _refuse_alike(df, df.columns)
    schema = _with_figures(df.schema, estimator)
    _refuse_alike(df, schema.names)
    # mapInArrow looks columns up by name, and takes a dot in a name for a field of a struct.
    numbered = df.toDF(*(f"_{number}" for number in range(len(df.columns))))
    return numbered.mapInArrow(_task(estimator, df.columns), schema)


def write(df: DataFrame, path: str, *, partition_by: str | Sequence[str] = "date", compression: str = "zstd") -> None:
    """Write Parquet in partitions: those that ``df`` has rows of are replaced as a whole, the others stay.

    A second run leaves the same rows as the first, and a run that was killed is mended by another one. This is Spark's
    dynamic overwrite of partitions, asked for with this write only.

    Raises:
        ValueError: no column to partition by, or none that ``df`` has.
    """
    names = [partition_by] if isinstance(partition_by, str) else list(partition_by)
    if not names:
        raise ValueError("partition_by names one column at least: without one, everything under path would be replaced")
    for name in names:
        if name not in df.columns:
            near = get_close_matches(name, df.columns, n=3) or df.columns
            raise ValueError(f"df has no column {name!r} to partition by; near: {', '.join(near)}")
    writer = df.write.mode("overwrite").option("partitionOverwriteMode", "dynamic").option("compression", compression)
    writer.partitionBy(*names).parquet(path)


def _task(estimator: Estimator, names: list[str]) -> Callable[[Batches], Batches]:
    """What an executor runs over the batches of a partition, under the columns' own names."""

    def run(batches: Batches) -> Batches:
        import pyarrow as pa

        for batch in batches:
            fields = [field.with_name(name) for field, name in zip(batch.schema, names, strict=True)]
            yield estimator(pa.RecordBatch.from_arrays(batch.columns, schema=pa.schema(fields)))

    return run


# --- types --------------------------------------------------------------------------------------------------------------

_MAY_BECOME_NULL = frozenset({*RESULTS, "model", "zone"})


def _with_figures(given: StructType, estimator: Estimator) -> StructType:
    """Spark's types of what comes out: columns that pass through keep theirs."""
    import pyarrow as pa
    from pyspark.sql.types import StructField, StructType

    seen = pa.schema([(field.name, _arrow_type(field.dataType)) for field in given])
    before = {field.name: field for field in given}
    fields = []
    for field in estimator.schema(seen):
        own = before.get(field.name)
        if own is None or field.type != seen.field(field.name).type:
            fields.append(StructField(field.name, _spark_type(field.type)))
        elif field.name in _MAY_BECOME_NULL:
            fields.append(StructField(field.name, own.dataType, metadata=own.metadata))
        else:
            fields.append(own)
    return StructType(fields)


def _arrow_type(kind: DataType) -> pa.DataType:
    """What the estimator's schema is asked with. Which types pass through, and how, is between Spark and Arrow."""
    import pyarrow as pa

    name = kind.simpleString()
    if name.startswith("string"):  # or one with a collation
        return pa.string()
    plain = {"double": pa.float64(), "array<string>": pa.list_(pa.string())}
    return plain.get(name, pa.null())


def _spark_type(kind: pa.DataType) -> DataType:
    """The type of a figure."""
    import pyarrow as pa
    from pyspark.sql.types import ArrayType, DoubleType, StringType

    if pa.types.is_float64(kind):
        return DoubleType()
    return ArrayType(StringType()) if pa.types.is_list(kind) else StringType()


def _refuse_alike(df: DataFrame, names: Iterable[str]) -> None:
    """Spark takes ``Errors`` and ``errors`` for one column, and would fail only where one of them is asked for."""
    is_exact = df.sparkSession.conf.get("spark.sql.caseSensitive") == "true"
    seen: dict[str, str] = {}
    for name in names:
        key = name if is_exact else name.lower()
        if key in seen:
            raise ValueError(f"Spark cannot tell columns {seen[key]!r} and {name!r} apart: rename one of them first")
        seen[key] = name
