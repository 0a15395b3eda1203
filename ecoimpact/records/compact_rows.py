"""Records as rows of Parquet and back again, without a loss.

Rules that hold in this file: a record that comes back is the one that went in. Each field of the schema has a column of its
type, for whoever reads the files; what such a column cannot hold is null there, or the nearest that it can, and stands as
it was in the column ``extra``: values of another type, fields that the schema does not know, times in another spelling.
A record that has no legible time, or is of a later schema, cannot be a row. pyarrow is imported inside the functions.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from ecoimpact.records.buckets import hour_of_text
from ecoimpact.records.compact_manifest import File
from ecoimpact.records.compact_places import open_file
from ecoimpact.records.export import Exported, arrow_schema, arrow_values
from ecoimpact.records.reader import moment_of
from ecoimpact.records.schema import FIELDS
from ecoimpact.types import RECORD_SCHEMA

logger = logging.getLogger("ecoimpact")

SEGMENT: Final = "segment"
ABSENT: Final = "absent"
EXTRA: Final = "extra"
OWN: Final = (SEGMENT, ABSENT, EXTRA)

READ_ROWS: Final = 2_048

_NAMES: Final = frozenset(field.name for field in FIELDS)
_TEXTS: Final = tuple(field.name for field in FIELDS if field.type not in ("integer", "number", "boolean"))
_OWN_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}Z", re.ASCII)

HINT: Final = 'pip install "ecoimpact[lake]"'


class Unreadable(Exception):  # noqa: N818 - it is counted, not raised any further
    """A file is gone, damaged, or there is no pyarrow to read it with."""


def has_pyarrow() -> bool:
    return find_spec("pyarrow") is not None


# --- there --------------------------------------------------------------------------------------------------------------


def date_of(record: Any) -> str | None:
    """The day (UTC) of the partition that a record belongs to; ``None`` where it cannot be a row."""
    if not isinstance(record, dict) or type(record.get("schema")) is not int or not 1 <= record["schema"] <= RECORD_SCHEMA:
        return None
    time = record.get("time")
    if not isinstance(time, str):
        return None
    if _OWN_TIME.fullmatch(time):
        return time[:10] if _is_day(time[:10]) else None
    if hour_of_text(time) is None:
        return None
    moment = moment_of(record)
    return None if moment is None else f"{moment:%Y-%m-%d}"


@lru_cache(maxsize=4096)
def _is_day(text: str) -> bool:
    return hour_of_text(f"{text}T00:00Z") is not None


def row_schema() -> Any:
    """The columns of a file: those of an export, and three of our own, all of them text.

    ``segment`` is the one of the log in which the record was written; ``absent`` are the fields that the record does not
    have, with commas between them; ``extra`` is a JSON object of what the other columns cannot hold.
    """
    pa = import_module("pyarrow")
    return pa.schema([(field.name, field.type) for field in arrow_schema()] + [(name, pa.string()) for name in OWN])


def writer(sink: Any, schema: Any) -> Any:
    """A writer of files that every reader of Parquet can read; damage to a page shows."""
    parquet = import_module("pyarrow.parquet")
    # The schema in Arrow's own form, which is left out, is as large as a few hundred records.
    return parquet.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True, store_schema=False)


def rows(records: list[dict[str, Any]], segments: list[str], schema: Any) -> Any:
    """A record batch. Every record has a ``date_of``; ``segments`` are the names of those that they were in."""
    pa = import_module("pyarrow")
    columns: dict[str, list[Any]] = {}
    extra: dict[int, dict[str, Any]] = {}
    for field in FIELDS:
        told = Exported()
        columns[field.name] = arrow_values(field, records, told)
        if told.odd_values:
            for place, (record, value) in enumerate(zip(records, columns[field.name], strict=True)):
                if value is None and record.get(field.name) is not None:
                    extra.setdefault(place, {})[field.name] = record[field.name]
    absent: list[str | None] = [None] * len(records)
    for place, record in enumerate(records):
        if not _OWN_TIME.fullmatch(record["time"]):
            extra.setdefault(place, {})["time"] = record["time"]
        if record.keys() != _NAMES:
            absent[place] = ",".join(sorted(_NAMES - record.keys())) or None
            unknown = {name: record[name] for name in record.keys() - _NAMES}
            if unknown:
                extra.setdefault(place, {}).update(unknown)
    for place, name in _halves(records):
        extra.setdefault(place, {})[name] = records[place][name]
    columns[SEGMENT] = segments
    columns[ABSENT] = absent
    columns[EXTRA] = [json.dumps(extra[place]) if place in extra else None for place in range(len(records))]
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _halves(records: list[dict[str, Any]]) -> Iterator[tuple[int, str]]:
    """Where texts hold halves of characters, which UTF-8 has not."""
    if _has_utf8([[record.get(name) for name in _TEXTS] for record in records]):
        return
    for place, record in enumerate(records):
        for name in _TEXTS:
            if name in record and not _has_utf8(record[name]):
                yield place, name


def _has_utf8(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


# --- and back -----------------------------------------------------------------------------------------------------------


def read_rows(
    log_dir: Path,
    file: File,
    *,
    columns: Collection[str] | None = None,
    segments: Collection[str] | None = None,
    start: int = 0,
) -> Iterator[list[dict[str, Any]]]:
    """The records of a file from row ``start`` on, some thousands at a time.

    Of ``columns`` only those fields, of ``segments`` only the records that were in them.

    Raises:
        Unreadable: the file is gone or damaged, or there is no pyarrow. What was read before is right.
    """
    for batch in _batches(log_dir, file.path, columns, start):
        records = _records(batch)
        if segments is not None:
            were_in = batch.column(SEGMENT).to_pylist()
            records = [record for record, name in zip(records, were_in, strict=True) if name in segments]
        yield records


def read_some(log_dir: Path, path: str, wanted: Sequence[int]) -> list[dict[str, Any]]:
    """The records in some rows, in the order of ``wanted``.

    Raises:
        Unreadable: the file is gone or damaged, or there is no pyarrow.
    """
    return [dict(record) for record in _some(str(log_dir), path, tuple(wanted))]


@lru_cache(maxsize=4)  # files never change; a dashboard asks for the same rows every few seconds
def _some(log_dir: str, path: str, wanted: tuple[int, ...]) -> tuple[dict[str, Any], ...]:
    def take(file: Any) -> Iterator[dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        first = 0
        for group in range(file.num_row_groups):
            end = first + file.metadata.row_group(group).num_rows
            here = sorted({number for number in wanted if first <= number < end})
            if here:
                table = file.read_row_group(group, use_threads=False).take([number - first for number in here])
                for batch in table.combine_chunks().to_batches():
                    found.update(zip(here, _records(batch), strict=True))
            first = end
        for number in wanted:
            yield found[number]

    return tuple(_opened(Path(log_dir), path, take))


def _batches(log_dir: Path, path: str, columns: Collection[str] | None, start: int) -> Iterator[Any]:
    def read(file: Any) -> Iterator[Any]:
        there = set(file.schema_arrow.names)
        wanted = None if columns is None else [name for name in (*columns, ABSENT, EXTRA) if name in there]
        first, groups = 0, []
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if first + size <= start:
                first += size
            else:
                groups.append(group)
        skip = start - first
        for batch in file.iter_batches(READ_ROWS, row_groups=groups, columns=wanted, use_threads=False) if groups else ():
            rest = batch.slice(skip) if skip < batch.num_rows else None
            skip = max(skip - batch.num_rows, 0)
            if rest is not None:
                yield rest

    return _opened(log_dir, path, read)


def _opened(log_dir: Path, path: str, read: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
    if not has_pyarrow():
        raise Unreadable(f"{path} is Parquet, which needs pyarrow: {HINT}")
    parquet = import_module("pyarrow.parquet")
    try:
        with open_file(log_dir, path) as source, parquet.ParquetFile(source, page_checksum_verification=True) as file:
            yield from read(file)
    except Exception as error:  # the bytes may be anybody's, and a reader goes on without them
        raise Unreadable(f"{path} cannot be read: {str(error) or type(error).__name__}") from error


def _records(batch: Any) -> list[dict[str, Any]]:
    names = batch.schema.names
    columns = [_values(name, array) for name, array in zip(names, batch.columns, strict=True)]
    own = {name: columns.pop(names.index(name)) for name in reversed(names) if name in OWN}
    kept = [name for name in names if name not in OWN]
    records = [dict(zip(kept, row, strict=True)) for row in zip(*columns, strict=True)]
    for record, absent in zip(records, own.get(ABSENT, ()), strict=False):
        if absent is not None:
            for name in _split(absent):
                record.pop(name, None)
    for record, extra in zip(records, own.get(EXTRA, ()), strict=False):
        if extra is not None:
            record.update(json.loads(extra))
    return records


@lru_cache(maxsize=256)
def _split(names: str) -> tuple[str, ...]:
    return tuple(names.split(","))


def _values(name: str, array: Any) -> list[Any]:
    """A column as the values that are in records. Lists of few different texts and maps are slow by pyarrow's own way."""
    pa = import_module("pyarrow")
    kind = array.type
    if name == "time":
        texts = array.cast(pa.timestamp("us")).cast(pa.string()).to_pylist()
        return [None if text is None else f"{text[:10]}T{text[11:]}Z" for text in texts]
    if pa.types.is_map(kind):
        ends = array.offsets.to_pylist()
        keys, items = _texts(array.keys), _texts(array.items)
        return _unless_null(array, [dict(zip(keys[a:b], items[a:b], strict=True)) for a, b in pairwise(ends)])
    if pa.types.is_list(kind):
        ends = array.offsets.to_pylist()
        texts = _texts(array.values)
        return _unless_null(array, [texts[a:b] for a, b in pairwise(ends)])
    return _texts(array) if pa.types.is_string(kind) and name != "id" else list(array.to_pylist())


def _texts(array: Any) -> list[Any]:
    coded = array.dictionary_encode()
    words = coded.dictionary.to_pylist()
    return [None if number is None else words[number] for number in coded.indices.to_pylist()]


def _unless_null(array: Any, values: list[Any]) -> list[Any]:
    if not array.null_count:
        return values
    return [value if valid else None for value, valid in zip(values, array.is_valid().to_pylist(), strict=True)]


def said_unreadable(error: Unreadable, lost: int) -> None:
    """A warning in the log of the command or of the host."""
    logger.warning("ecoimpact: %s; %d records of the log are not counted", error, lost)
