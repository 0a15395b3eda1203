"""JSON Lines as Arrow batches: the segments of a log, and anybody else's.

Rules of this file: Arrow's own reader takes a block of lines, some megabytes, whole; where one line of it is odd, the block
is read line by line, and only lines that hold no object (or, in a log, no record) are left out and counted. A column whose
values differ in more than how large a number is becomes text.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ecoimpact.lake.sources import BATCH_ROWS, BLOCK_BYTES
from ecoimpact.records.export import arrow_schema, export
from ecoimpact.records.reader import parse

if TYPE_CHECKING:
    import pyarrow as pa

    from ecoimpact.lake.sources import Source


def is_log(source: Source) -> bool:
    """Whether the first line is a record of the log."""
    first = next((line for block in _blocks(source) for line in block.splitlines() if line.strip()), b"")
    record = parse(first)
    return record is not None and "response_model" in record


def schema(source: Source) -> pa.Schema:
    """The types of all lines together."""
    import pyarrow as pa

    whole = pa.schema([])
    for block in _blocks(source):
        table = _inferred(block)
        whole = _or_text(whole, (_table(_objects(block)[0]) if table is None else table).schema)
    return pa.schema([f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in whole])


def batches(source: Source) -> Iterator[pa.RecordBatch]:
    """The rows, in batches of the source's schema."""
    for block in _blocks(source):
        table = _log(block) if source.is_log else _typed(block, source.schema)
        if table is None:
            rows, illegible = _objects(block, is_log=source.is_log)
            source.illegible += illegible
            table = _records(rows) if source.is_log else _table(rows, source.schema)
        yield from table.to_batches(BATCH_ROWS)


def _blocks(source: Source) -> Iterator[bytes]:
    """Whole lines, some megabytes at a time."""
    rest = b""
    with source.stream() as stream:
        while more := bytes(stream.read(BLOCK_BYTES)):
            block = rest + more
            end = block.rfind(b"\n") + 1
            rest = block[end:]
            if end:
                yield block[:end]
    if rest.strip():
        yield rest


# --- a block at once ----------------------------------------------------------------------------------------------------


def _read(block: bytes, known: pa.Schema | None = None, unexpected: str = "infer") -> Any:
    """The lines of a block as a table; ``None`` where one of them is odd."""
    import pyarrow as pa
    from pyarrow import json as arrow_json

    parsing = arrow_json.ParseOptions(explicit_schema=known, unexpected_field_behavior=unexpected)
    reading = arrow_json.ReadOptions(block_size=len(block) + 1, use_threads=False)
    try:
        return arrow_json.read_json(pa.BufferReader(block), read_options=reading, parse_options=parsing)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _inferred(block: bytes) -> Any:
    """The lines with the types that they show. What looks like a time in one block need not in the next: it stays text."""
    import pyarrow as pa

    table = _read(block)
    if table is None or not any(pa.types.is_timestamp(f.type) for f in table.schema):
        return table
    return _read(block, pa.schema([f.with_type(pa.string()) if pa.types.is_timestamp(f.type) else f for f in table.schema]))


def _typed(block: bytes, known: pa.Schema) -> Any:
    table = _read(block, known, "ignore")
    return None if table is None else table.select(known.names).cast(known)


def _log(block: bytes) -> Any:
    """Records as :func:`~ecoimpact.records.export.export` writes them: ``labels``, an object, become a map."""
    import pyarrow as pa

    known = arrow_schema()
    plain = known.remove(known.get_field_index("labels"))
    table = _read(block, plain)
    if table is None or table["schema"].null_count or "labels" not in table.column_names or _has_huge(table):
        return None
    kind = table["labels"].type
    if pa.types.is_struct(kind) and any(field.type != pa.string() for field in kind):
        texts = pa.struct([(field.name, pa.string()) for field in kind])
        table = _read(block, plain.append(pa.field("labels", texts)))
        if table is None:
            return None
    labels = table["labels"].combine_chunks()
    if labels.null_count or not pa.types.is_struct(labels.type):
        return None
    columns = [_map(labels) if name == "labels" else table[name] for name in known.names]
    return pa.table(columns, schema=known)


def _has_huge(table: Any) -> bool:
    """Whether a figure may be a whole number that a float cannot hold: the export leaves such out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ends = [pc.min_max(table[f.name]).as_py() for f in table.schema if pa.types.is_floating(f.type)]
    return any(value is not None and abs(value) >= _EXACT for end in ends for value in end.values())


_EXACT = 2.0**53


def _map(labels: Any) -> Any:
    """Objects as maps of the names that each has."""
    import numpy as np
    import pyarrow as pa

    names, values = [field.name for field in labels.type], labels.flatten()
    rows, fields = len(labels), len(names)
    is_there = np.zeros((rows, fields), bool)
    for number, column in enumerate(values):
        is_there[:, number] = column.is_valid().to_numpy(zero_copy_only=False)
    row, place = np.nonzero(is_there)
    offsets = np.zeros(rows + 1, np.int32)
    np.cumsum(is_there.sum(axis=1), out=offsets[1:])
    keys = pa.array(names, pa.string()).take(pa.array(place))
    flat = pa.concat_arrays(values) if values else pa.array([], pa.string())
    return pa.MapArray.from_arrays(pa.array(offsets), keys, flat.take(pa.array(place * rows + row)))


# --- line by line -------------------------------------------------------------------------------------------------------


def _objects(block: bytes, *, is_log: bool = False) -> tuple[list[dict[str, Any]], int]:
    rows, illegible = [], 0
    for line in block.splitlines():
        if not line.strip():
            continue
        row = parse(line) if is_log else _object(line)
        if row is None:
            illegible += 1
        else:
            rows.append(row)
    return rows, illegible


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _records(rows: list[dict[str, Any]]) -> Any:
    """Records as columns: as the export writes them."""
    import pyarrow.parquet as pq

    file = io.BytesIO()
    export(rows, file, "parquet")
    return pq.read_table(file, schema=arrow_schema())


def _table(rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> Any:
    """Rows as columns; a column of several types is one of text."""
    import pyarrow as pa

    names = schema.names if schema is not None else list(dict.fromkeys(name for row in rows for name in row))
    columns = []
    for name in names:
        values = [row.get(name) for row in rows]
        kind = None if schema is None else schema.field(name).type
        try:
            columns.append(pa.array(values, kind))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            columns.append(pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values], pa.string()))
    return pa.table(columns, schema=schema) if schema is not None else pa.table(columns, names=names)


def _or_text(one: pa.Schema, other: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    try:
        return pa.unify_schemas([one, other], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        both = {f.name: f for f in (*one, *other)}
        for name in set(one.names) & set(other.names):
            try:
                pair = [pa.schema([schema.field(name)]) for schema in (one, other)]
                both[name] = pa.unify_schemas(pair, promote_options="permissive").field(0)
            except (pa.ArrowTypeError, pa.ArrowInvalid):
                both[name] = pa.field(name, pa.string())
        return pa.schema(list(both.values()))
