"""Tables in four shapes (a dict of arrays, pandas, polars, Arrow), read as the same columns and given back as they came.

Rules: text is read once for each distinct value, numbers as float64 with NaN for what is unknown; nothing is copied that
need not be, and nothing of the caller's is changed. Each library is imported only where its own table comes in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

Array: TypeAlias = Any
"""A numpy array of one dimension."""

UNKNOWN = -1
"""The code of a text that is missing."""


class Texts(NamedTuple):
    """A column of text: its distinct values, and for each row which of them it has (or :data:`UNKNOWN`)."""

    codes: Array
    values: list[Any]


class Lists(NamedTuple):
    """A column of lists of text, in the same way."""

    codes: Array
    values: list[tuple[str, ...]]


class Table(Protocol):
    """A table of one of the shapes."""

    names: tuple[str, ...]
    rows: int

    def texts(self, name: str) -> Texts: ...

    def numbers(self, name: str) -> Array: ...

    def give(self, columns: Mapping[str, Array | Lists]) -> Any:
        """These columns as a table of the same shape."""
        ...


def table_of(columns: Any) -> Table:
    """The table behind what a program has.

    Raises:
        TypeError: it is none of the four shapes.
        ValueError: columns of different lengths.
    """
    library = type(columns).__module__.partition(".")[0]
    if isinstance(columns, Mapping):
        return Arrays(columns)
    if library == "pandas" and hasattr(columns, "columns"):
        return Pandas(columns)
    if library == "polars" and hasattr(columns, "get_columns"):
        return Polars(columns)
    if library == "pyarrow" and hasattr(columns, "schema") and hasattr(columns, "num_rows"):
        return Arrow(columns)
    kind = f"{type(columns).__module__}.{type(columns).__qualname__}"
    raise TypeError(f"columns are a dict of arrays, a pandas or polars DataFrame, an Arrow table or batch; got {kind}")


class Arrays:
    """A dict of arrays, lists, or single values that hold for every row."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self.names = tuple(columns)
        self._columns = columns
        lengths = {name: len(column) for name, column in columns.items() if not _is_single(column)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns have different lengths: {lengths}")
        self.rows = next(iter(lengths.values()), 1)

    def texts(self, name: str) -> Texts:
        import numpy as np

        column = self._columns[name]
        if _is_single(column):
            value = _text_or_none(column)
            known = value is not None
            return Texts(np.full(self.rows, 0 if known else UNKNOWN, np.int32), [value] if known else [])
        return _coded(column.tolist() if hasattr(column, "tolist") else column)

    def numbers(self, name: str) -> Array:
        import numpy as np

        column = self._columns[name]
        if _is_single(column):
            return np.full(self.rows, _number(column))
        if getattr(getattr(column, "dtype", None), "kind", "O") in "biuf":
            return np.asarray(column, np.float64)
        return np.fromiter(map(_number, column), np.float64, self.rows)

    def give(self, columns: Mapping[str, Array | Lists]) -> Any:
        return {name: _objects(column) if isinstance(column, Lists) else column for name, column in columns.items()}


class Pandas:
    """A ``pandas.DataFrame``; what is given back has its index."""

    def __init__(self, frame: Any) -> None:
        self.names = tuple(map(str, frame.columns))
        self.rows = len(frame)
        self._frame = frame

    def texts(self, name: str) -> Texts:
        import pandas as pd

        codes, values = pd.factorize(self._frame[name], use_na_sentinel=True)
        return Texts(codes, list(map(_text_or_none, values)))

    def numbers(self, name: str) -> Array:
        import numpy as np
        import pandas as pd

        column = self._frame[name]
        if pd.api.types.is_numeric_dtype(column):
            return column.to_numpy(np.float64, na_value=np.nan)
        return np.fromiter(map(_number, column), np.float64, self.rows)

    def give(self, columns: Mapping[str, Array | Lists]) -> Any:
        import pandas as pd

        data = {name: _objects(column) if isinstance(column, Lists) else column for name, column in columns.items()}
        return pd.DataFrame(data, index=self._frame.index)


class Polars:
    """A ``polars.DataFrame``."""

    def __init__(self, frame: Any) -> None:
        self.names = tuple(frame.columns)
        self.rows = frame.height
        self._frame = frame

    def texts(self, name: str) -> Texts:
        import polars as pl

        column = self._frame.get_column(name)
        if column.dtype not in (pl.String, pl.Categorical):
            return _coded(column.to_list())
        distinct = column.cast(pl.String).unique().drop_nulls()
        codes = column.cast(pl.Enum(distinct)).to_physical().cast(pl.Int64).fill_null(UNKNOWN)
        return Texts(codes.to_numpy(), distinct.to_list())

    def numbers(self, name: str) -> Array:
        import numpy as np
        import polars as pl

        column = self._frame.get_column(name)
        if column.dtype.is_numeric() or column.dtype == pl.Boolean:
            return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return np.fromiter(map(_number, column.to_list()), np.float64, self.rows)

    def give(self, columns: Mapping[str, Array | Lists]) -> Any:
        import polars as pl

        def series(column: Array | Lists) -> Any:
            if isinstance(column, Lists):
                return pl.Series(values=list(map(list, column.values)), dtype=pl.List(pl.String)).gather(column.codes)
            return pl.Series(values=column, nan_to_null=True)

        return pl.DataFrame({name: series(column) for name, column in columns.items()})


class Arrow:
    """A ``pyarrow.Table`` or ``RecordBatch``; unknown figures come back as nulls."""

    def __init__(self, table: Any) -> None:
        self.names = tuple(table.schema.names)
        self.rows = table.num_rows
        self._table = table

    def _column(self, name: str) -> Any:
        import pyarrow as pa

        column = self._table.column(name)
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column

    def texts(self, name: str) -> Texts:
        import pyarrow as pa
        import pyarrow.compute as pc

        column = self._column(name)
        if isinstance(column, pa.ChunkedArray):  # more than one array can hold
            column = pa.chunked_array(column).unify_dictionaries()
        if pa.types.is_null(column.type):
            return _coded([None] * self.rows)
        if not pa.types.is_dictionary(column.type):
            column = _text(column).dictionary_encode()
        codes = pc.fill_null(column.indices.cast(pa.int64()), UNKNOWN).to_numpy(zero_copy_only=False)
        return Texts(codes, list(map(_text_or_none, column.dictionary.to_pylist())))

    def numbers(self, name: str) -> Array:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        column = self._column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        kind = column.type
        if (
            pa.types.is_null(kind)
            or pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_boolean(kind)
            or pa.types.is_decimal(kind)
        ):
            numbers = pc.cast(column, pa.float64(), safe=False)
            if numbers.null_count:
                numbers = pc.fill_null(numbers, float("nan"))
            return numbers.to_numpy(zero_copy_only=False)
        return np.fromiter(map(_number, column.to_pylist()), np.float64, self.rows)

    def give(self, columns: Mapping[str, Array | Lists]) -> Any:
        import pyarrow as pa

        arrays = {name: arrow_array(column) for name, column in columns.items()}
        made = pa.RecordBatch if isinstance(self._table, pa.RecordBatch) else pa.Table
        return made.from_pydict(arrays)


def _text(column: Any) -> Any:
    """Text that a file holds as bytes, as text: some writers of Parquet do not say which of both it is."""
    import pyarrow as pa

    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        with contextlib.suppress(pa.ArrowInvalid):
            return column.cast(pa.string() if pa.types.is_binary(column.type) else pa.large_string())
    return column


def arrow_array(column: Array | Lists | Texts) -> Any:
    """A column as an Arrow array: float64, lists of text, or text. NaN is null."""
    import numpy as np
    import pyarrow as pa

    if isinstance(column, Texts):
        return pa.array(column.values, pa.string()).take(pa.array(column.codes))
    if isinstance(column, Lists):
        return _arrow_lists(column)
    has_nulls = len(column) > 0 and bool(np.isnan(column.min()))
    return pa.array(column, pa.float64(), from_pandas=has_nulls)


def _arrow_lists(lists: Lists) -> Any:
    """Each row's list, written out; what rows share is looked up in one flat column."""
    import numpy as np
    import pyarrow as pa

    kind = pa.list_(pa.string())
    flat = pa.array([text for value in lists.values for text in value], pa.string())
    offsets = np.zeros(len(lists.codes) + 1, np.int32)
    if not len(flat):
        return pa.ListArray.from_arrays(pa.array(offsets), flat, kind)
    sizes = np.array([len(value) for value in lists.values], np.int64)
    of_rows = sizes.take(lists.codes)
    total = int(of_rows.sum())
    if total > _MAX_OFFSET:
        return pa.array(list(map(list, lists.values)), kind).take(pa.array(lists.codes))
    np.cumsum(of_rows, out=offsets[1:])
    places = np.arange(total)
    places += np.repeat((np.cumsum(sizes) - sizes).take(lists.codes) - offsets[:-1], of_rows)
    return pa.ListArray.from_arrays(pa.array(offsets), flat.take(pa.array(places)), kind)


_MAX_OFFSET = 2**31 - 1


def _is_single(column: Any) -> bool:
    return column is None or isinstance(column, str) or not hasattr(column, "__len__") or getattr(column, "ndim", 1) == 0


def _coded(column: Sequence[Any]) -> Texts:
    import numpy as np

    try:
        distinct: Any = dict.fromkeys(column)
    except TypeError:  # something that has no hash is no text
        column = list(map(_text_or_none, column))
        distinct = dict.fromkeys(column)
    values: list[Any] = []
    for each in distinct:
        value = _text_or_none(each)
        distinct[each] = UNKNOWN if value is None else len(values)
        if value is not None:
            values.append(value)
    return Texts(np.fromiter(map(distinct.__getitem__, column), np.int32, len(column)), values)


def _text_or_none(value: Any) -> str | None:
    """A value of a column of texts: what is none of them is written out, for the engine to refuse."""
    if value is None or isinstance(value, str):
        return value
    return None if isinstance(value, float) and value != value else str(value)[:_MAX_WRITTEN]  # noqa: PLR0124 - NaN


_MAX_WRITTEN = 80


def _number(value: Any) -> float:
    """A value of a column that holds more than numbers; NaN where it is missing, below 0 where it is no number."""
    if value is None:
        return float("nan")
    if isinstance(value, str | bytes):
        return -1.0
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return -1.0


def _objects(lists: Lists) -> Array:
    import numpy as np

    distinct = np.empty(len(lists.values), object)
    distinct[:] = lists.values
    return distinct[lists.codes]
