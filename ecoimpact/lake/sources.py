"""What comes in: Parquet, CSV and JSON Lines, and the log itself, as Arrow batches of one schema.

Rules of this file: memory does not grow with a file; a row is left out only where nobody can tell where it begins or ends,
or what its parts are, and then it is counted. CSV knows no types: the columns of a record have theirs, all others stay the
text that they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from ecoimpact import storage
from ecoimpact.records.compact_manifest import FILE_NAME as COMPACTED
from ecoimpact.records.export import arrow_schema
from ecoimpact.records.listing import listed as log_files

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 1 << 16
BLOCK_BYTES = 1 << 23
PART_ROWS = 1 << 22
"""A Parquet file with more rows is worked on in parts, each some row groups."""

_ENDINGS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(slots=True)
class Source:
    """A file that comes in. ``illegible`` counts lines that hold no row."""

    filesystem: Any
    file: storage.Found
    format: str
    is_log: bool = False
    schema: Any = None
    row_groups: tuple[tuple[int, int], ...] = ()
    """Rows and bytes of each row group of a Parquet file."""
    illegible: int = field(default=0, compare=False)
    _raw: Any = field(default=None, compare=False)

    @property
    def position(self) -> int:
        """How many bytes of a file without row groups have been read."""
        return 0 if self._raw is None else int(self._raw.tell())

    def stream(self) -> Any:
        """The content from its beginning, unpacked."""
        import pyarrow as pa

        self._raw = raw = self.filesystem.open_input_stream(self.file.path, compression=None)
        codec = next((codec for ending, codec in _PACKED.items() if self.name.lower().endswith(ending)), None)
        return raw if codec is None else pa.CompressedInputStream(raw, codec)

    @property
    def name(self) -> str:
        return self.file.name

    def parts(self) -> list[tuple[int, ...]]:
        """The numbers of the row groups of each part; one part without numbers for what has no row groups."""
        parts: list[tuple[int, ...]] = []
        now: list[int] = []
        rows = 0
        for number, (more, _) in enumerate(self.row_groups):
            if now and rows + more > PART_ROWS:
                parts.append(tuple(now))
                now, rows = [], 0
            now.append(number)
            rows += more
        return [*parts, tuple(now)]

    def partitions(self) -> dict[str, str | None]:
        """What the folders say: ``day=2026-01-01/model=gpt-4o/...``."""
        pairs = (part.split("=", 1) for part in self.name.split("/")[:-1] if "=" in part)
        return {unquote(name): None if value == _NO_PARTITION else unquote(value) for name, value in pairs}


def format_of(name: str) -> str | None:
    """The format that the name of a file tells; ``None`` where it is none that is read.

    >>> format_of("a/b.parquet"), format_of("b.CSV.gz"), format_of("index.sqlite")
    ('parquet', 'csv', None)
    """
    name = name.lower()
    for ending in _PACKED:
        name = name.removesuffix(ending)
    return next((found for ending, found in _ENDINGS.items() if name.endswith(ending)), None)


class Listed(NamedTuple):
    """All files that come in, each with its file system, and the folder that their names start from."""

    base: str
    files: list[tuple[Any, storage.Found]]
    is_log: bool = False
    """Whether it is a log of which a part has been compacted: files give way to others there."""


def listed(filesystem: Any, path: str) -> Listed:
    """The files of a place that have a format that is read.

    Raises:
        FileNotFoundError: there are no files.
    """
    if filesystem.type_name == "local" and (Path(path) / COMPACTED).is_file():
        return Listed(path, list(_of_log(Path(path))), is_log=True)
    base, found = storage.files(filesystem, path)
    return Listed(base, [(filesystem, file) for file in found if format_of(file.name) is not None])


def _of_log(log_dir: Path) -> Iterator[tuple[Any, storage.Found]]:
    """The segments and the Parquet files that a log consists of at this moment: no record is in two of them."""
    now = log_files(log_dir)
    places = [(f"{folder}/{name}", str(path)) for (folder, name), (path, _) in now.segments.items()]
    for file in now.files.values():
        is_elsewhere = "://" in file.path or Path(file.path).is_absolute()
        name = "/".join(file.path.split("/")[-2:])
        places.append((name, file.path) if is_elsewhere else (file.path, str(log_dir / file.path)))
    for name, place in places:
        filesystem, path = storage.resolve(place)
        for found in storage.files(filesystem, path)[1]:
            yield filesystem, found._replace(name=name)


def opened(filesystem: Any, file: storage.Found) -> Source:
    """A file with its schema. Of JSON Lines that are no log, all is read for it.

    Raises:
        OSError, ValueError, pyarrow.ArrowException: it cannot be read.
    """
    source = Source(filesystem, file, format_of(file.name) or "parquet")
    if source.format == "parquet":
        _open_parquet(source)
    elif source.format == "csv":
        source.schema = _csv_schema(source)
    else:
        from ecoimpact.lake import json_lines

        source.is_log = json_lines.is_log(source)
        source.schema = arrow_schema() if source.is_log else json_lines.schema(source)
    twice = [name for name, number in Counter(source.schema.names).items() if number > 1]
    if twice:
        raise ValueError(f"it has two columns of the name {twice[0]!r}")
    return source


def batches(source: Source, row_groups: Sequence[int] = (), unread: Collection[str] = ()) -> Iterator[pa.RecordBatch]:
    """The rows of a file, or of some of its row groups, in batches of its schema; what is ``unread`` may be absent."""
    source.illegible = 0
    if source.format == "parquet":
        return _parquet(source, row_groups, [name for name in source.schema.names if name not in unread])
    if source.format == "csv":
        return _csv(source)
    from ecoimpact.lake import json_lines

    return json_lines.batches(source)


def conformed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch under a schema that its own was united into: with all columns, and their types."""
    import pyarrow as pa

    if batch.schema.equals(schema):
        return batch
    arrays = []
    for wanted in schema:
        place = batch.schema.get_field_index(wanted.name)
        column = pa.nulls(batch.num_rows, wanted.type) if place < 0 else batch.column(place)
        if column.type != wanted.type:
            column = column.cast(wanted.type)
        arrays.append(column)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def united(schemas: Sequence[tuple[str, pa.Schema]], leaving_out: Sequence[str]) -> pa.Schema:
    """One schema for all files: every column, with a type that holds what each file has.

    Columns in ``leaving_out`` are replaced anyway: of them the first file's type counts.

    Raises:
        ValueError: a column has types that no type holds; the message names two files.
    """
    import pyarrow as pa

    whole = schemas[0][1]
    for name, schema in schemas[1:]:
        if schema.equals(whole):
            continue
        told = [f for f in schema if f.name not in leaving_out or f.name not in whole.names]
        same = {f.name: f for f in whole if f.name in leaving_out}
        try:
            whole = pa.unify_schemas([_plain(whole), _plain(pa.schema(told))], promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise ValueError(f"{name} does not go with {schemas[0][0]}: {error}") from None
        whole = pa.schema([same.get(f.name, f) for f in whole], whole.metadata)
    return whole


def _plain(schema: pa.Schema) -> pa.Schema:
    """Without dictionaries, which say how a column is held and not what is in it."""
    import pyarrow as pa

    fields = [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in schema]
    return pa.schema(fields, schema.metadata)


# --- Parquet ------------------------------------------------------------------------------------------------------------


def _open_parquet(source: Source) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetFile(source.file.path, filesystem=source.filesystem) as file:
        source.schema = file.schema_arrow
        groups = (file.metadata.row_group(number) for number in range(file.num_row_groups))
        source.row_groups = tuple((group.num_rows, group.total_byte_size) for group in groups)


def _parquet(source: Source, row_groups: Sequence[int], columns: list[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(source.file.path, filesystem=source.filesystem, pre_buffer=False) as file:
        for number in row_groups:
            yield from file.iter_batches(BATCH_ROWS, row_groups=[number], columns=columns)


# --- CSV ----------------------------------------------------------------------------------------------------------------


def _csv_schema(source: Source) -> pa.Schema:
    import pyarrow as pa

    names = _csv_head(source)[1]
    record = arrow_schema()
    texts = ("warnings", "errors", "labels")  # as the export writes them
    return pa.schema(
        [_untold(record.field(n)) if n in record.names and n not in texts else (n, pa.string()) for n in names]
    )


def _untold(known: pa.Field) -> pa.Field:
    return known.remove_metadata()


def _csv_head(source: Source) -> tuple[str, list[str]]:
    """The sign between the cells, and the names of the first line."""
    import csv

    with source.stream() as stream:
        line = bytes(stream.read(1 << 16)).partition(b"\n")[0].decode("utf-8-sig", "replace").rstrip("\r")
    delimiter = max(",;\t|", key=line.count)
    return delimiter, next(csv.reader([line], delimiter=delimiter), [])


def _csv(source: Source) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    from pyarrow import csv

    def count(_: Any) -> str:
        source.illegible += 1
        return "skip"

    delimiter, names = _csv_head(source)
    if not names:
        return
    parsing = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=count)
    texts = dict.fromkeys(names, pa.string())
    converting = csv.ConvertOptions(column_types=texts, strings_can_be_null=True, null_values=[""])
    reading = csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False, column_names=names, skip_rows=1)
    with source.stream() as stream:
        try:
            reader = csv.open_csv(stream, reading, parsing, converting)
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            raise
        for batch in reader:
            columns = [_parsed(batch.column(place), wanted.type) for place, wanted in enumerate(source.schema)]
            yield pa.RecordBatch.from_arrays(columns, schema=source.schema)


def _parsed(column: Any, kind: Any) -> Any:
    """Text as values of a type; null where it is none."""
    import pyarrow as pa

    if kind == pa.string():
        return column
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        return pa.array([_one(value, kind) for value in column], kind)


def _one(value: Any, kind: Any) -> Any:
    import pyarrow as pa

    try:
        return value.cast(kind).as_py()
    except pa.ArrowInvalid:
        return None
