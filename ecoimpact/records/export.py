"""Rows out of a log, for other tools: JSON Lines, CSV, Parquet.

Rules that hold in this file: memory is bounded, whatever the size of the log; a value that is not of its field's type
becomes null and is counted, never a guess; text that a spreadsheet would run as a formula is made harmless. pyarrow is
imported only for Parquet.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from typing import IO, Any, Final

from ecoimpact.records.reader import moment_of
from ecoimpact.records.schema import FIELDS, Field
from ecoimpact.records.segments import to_json

FORMATS: Final = ("jsonl", "csv", "parquet")

BATCH: Final = 1_000
"""Records that are held in memory at once."""

ROW_GROUP: Final = 50
"""Batches that make a row group of Parquet, which takes less memory than records do."""

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(slots=True)
class Exported:
    """What went out: ``odd_values`` are those that were not of their field's type, and are null in CSV and Parquet."""

    records: int = 0
    odd_values: int = 0


def export(records: Iterable[dict[str, Any]], out: IO[bytes], format: str) -> Exported:  # noqa: A002 - as the option says
    """Write records as ``jsonl``, ``csv`` or ``parquet`` to a binary file.

    JSON Lines keeps what is in the log. CSV has a column for each field of the schema; ``warnings`` and ``errors`` are
    codes with spaces between them, ``labels`` are a JSON object. Parquet has the same columns with their types; ``time`` is
    a timestamp, ``warnings`` and ``errors`` are lists, ``labels`` are a map.

    Raises:
        ValueError: an unknown format.
        ModuleNotFoundError: Parquet without pyarrow.
    """
    writers: dict[str, Callable[[Iterable[dict[str, Any]], IO[bytes], Exported], None]] = {
        "jsonl": _jsonl,
        "csv": _csv,
        "parquet": _parquet,
    }
    if format not in writers:
        raise ValueError(f"no format {format!r}; there are {', '.join(FORMATS)}")
    exported = Exported()
    writers[format](records, out, exported)
    return exported


def _batches(records: Iterable[dict[str, Any]], exported: Exported) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(records)
    while batch := list(islice(iterator, BATCH)):
        exported.records += len(batch)
        yield batch
        del batch  # before the next one is made


# --- JSON Lines ---------------------------------------------------------------------------------------------------------


def _jsonl(records: Iterable[dict[str, Any]], out: IO[bytes], exported: Exported) -> None:
    for batch in _batches(records, exported):
        out.write(b"".join(to_json(record).encode("ascii") + b"\n" for record in batch))


# --- CSV ----------------------------------------------------------------------------------------------------------------


def _csv(records: Iterable[dict[str, Any]], out: IO[bytes], exported: Exported) -> None:
    out.write((",".join(field.name for field in FIELDS) + "\r\n").encode())
    for batch in _batches(records, exported):
        columns = [_cells(field, _values(field, batch, exported)) for field in FIELDS]
        buffer = io.StringIO(newline="")
        csv.writer(buffer).writerows(zip(*columns, strict=True))
        out.write(buffer.getvalue().encode("utf-8", "replace"))


def _cells(field: Field, values: list[Any]) -> list[Any]:
    """As they are to stand in the file. The csv module writes numbers in full, and nothing for ``None``."""
    if field.type in ("integer", "number"):
        return values
    if field.type == "string":
        return [value and harmless(value) for value in values]
    if field.type == "array of strings":
        return [None if value is None else harmless(" ".join(value)) for value in values]
    # true and false, labels
    return [None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":")) for value in values]


def harmless(text: str) -> str:
    """Text that no spreadsheet takes for a formula: an apostrophe goes before what begins like one.

    >>> harmless("=cmd()"), harmless("gpt-4o"), harmless("-1")
    ("'=cmd()", 'gpt-4o', "'-1")
    """
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


# --- Parquet ------------------------------------------------------------------------------------------------------------


def _parquet(records: Iterable[dict[str, Any]], out: IO[bytes], exported: Exported) -> None:
    pa, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    schema = arrow_schema()
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        group: list[Any] = []
        for batch in _batches(records, exported):
            arrays = [pa.array(arrow_values(field, batch, exported), schema.field(field.name).type) for field in FIELDS]
            group.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
            if len(group) == ROW_GROUP:
                writer.write_table(pa.Table.from_batches(group), row_group_size=BATCH * ROW_GROUP)
                group = []
        if group:
            writer.write_table(pa.Table.from_batches(group), row_group_size=BATCH * ROW_GROUP)


def arrow_values(field: Field, batch: list[dict[str, Any]], exported: Exported) -> list[Any]:
    """One column as Arrow takes it: ``None`` for what is not of the field's type, which is counted in ``exported``."""
    values = _values(field, batch, exported)
    if field.name == "time":
        return [None if value is None else moment_of({"time": value}) for value in values]
    if field.type in ("string", "array of strings", "object"):
        values = _encodable(values)
    if field.type == "object":
        return [None if value is None else list(value.items()) for value in values]
    return values


def arrow_schema() -> Any:
    """The fields of a record as Arrow types; each column's metadata has its ``unit`` and ``meaning``."""
    pa = import_module("pyarrow")
    types = {
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "string": pa.string(),
        "array of strings": pa.list_(pa.string()),
        "object": pa.map_(pa.string(), pa.string()),
    }
    return pa.schema(
        [
            pa.field(
                field.name,
                pa.timestamp("us", "UTC") if field.name == "time" else types[field.type],
                metadata={"unit": field.unit, "meaning": field.meaning},
            )
            for field in FIELDS
        ]
    )


def _encodable(values: list[Any]) -> list[Any]:
    """Halves of surrogate pairs, which JSON can hold and UTF-8 cannot, become question marks."""
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        whole = json.dumps(values, ensure_ascii=False).encode("utf-8", "replace")
        values = json.loads(whole)
    return values


# --- what is of its type ------------------------------------------------------------------------------------------------


def _values(field: Field, batch: list[dict[str, Any]], exported: Exported) -> list[Any]:
    """One column. What is not of the field's type is ``None`` and counted."""
    values = [record.get(field.name) for record in batch]
    kinds = set(map(type, values))
    if kinds <= _PLAIN.get(field.name, _PLAIN.get(field.type, frozenset())):
        return values  # as nearly always
    if field.type == "number" and kinds <= _FLOATS and math.isfinite(sum(filter(None, values))):
        return values
    fits = _FITS.get(field.name, _FITS[field.type])
    odd = [index for index, value in enumerate(values) if value is not None and not fits(value)]
    for index in odd:
        values[index] = None
    exported.odd_values += len(odd)
    return values


def _is_integer(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_number(value: Any) -> bool:
    # An integer past 2**53 has no exact float; none of the figures is one.
    return (type(value) is float and math.isfinite(value)) or (type(value) is int and abs(value) <= 2**53)


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_list(value: Any) -> bool:
    return type(value) is list and all(type(item) is str for item in value)


def _is_map(value: Any) -> bool:
    return type(value) is dict and all(type(item) is str for item in value.values())


_PLAIN: Final[dict[str, frozenset[type]]] = {
    # Types that need no look at each value. Of the others some values do not fit.
    "boolean": frozenset({bool, type(None)}),
    "string": frozenset({str, type(None)}),
    "integer": frozenset({type(None)}),
    "number": frozenset({type(None)}),
    "time": frozenset(),
}
_FLOATS: Final = frozenset({float, type(None)})
_FITS: Final[dict[str, Callable[[Any], bool]]] = {
    "integer": _is_integer,
    "number": _is_number,
    "boolean": lambda value: type(value) is bool,
    "string": _is_text,
    "array of strings": _is_list,
    "object": _is_map,
    "time": lambda value: _is_text(value) and moment_of({"time": value}) is not None,
}
