"""Taking records out of Parquet files of the log.

Rules that hold in this file: a file is replaced by one without the records, or dropped, by one change of the manifest; the
index forgets the folder before; what is deleted is deleted when the function returns. A file that cannot be read is said:
nobody can promise that a user's records are gone from it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from ecoimpact.records import compact_manifest
from ecoimpact.records.compact_manifest import File, Making
from ecoimpact.records.compact_places import new_batch, new_file, open_file, out_of, publish, put_down, state, successor
from ecoimpact.records.compact_rows import Unreadable, read_rows, writer
from ecoimpact.records.index import Index


def rows_with(log_dir: Path, file: File, wanted: Callable[[dict[str, Any]], bool]) -> list[int]:
    """The rows whose records are wanted, by their labels; none where there is no such file any more.

    Raises:
        Unreadable: the file is damaged.
    """
    if state(log_dir, file.path, file.bytes)[0] < 0:
        return []

    def every() -> Iterator[dict[str, Any]]:
        for records in read_rows(log_dir, file, columns=["labels"]):
            yield from records

    return [row for row, record in enumerate(every()) if wanted(record)]


def drop(index: Index, files: Collection[File]) -> None:
    """Take whole files out of the log.

    Raises:
        OSError: one cannot be deleted.
        TimeoutError: a reader blocks the index.
    """
    _change(index, files, [])


def take_out(index: Index, file: File, rows: list[int]) -> int:
    """Replace a file by one without some rows. How many bytes smaller it is.

    Raises:
        OSError: it cannot be written. Nothing is changed then.
        TimeoutError: a reader blocks the index.
        Unreadable: the file is damaged. Nothing is changed either.
    """
    if len(rows) == file.records:
        drop(index, [file])
        return file.bytes
    log_dir = index.log_dir
    making = Making(out_of(file.path), new_batch())
    compact_manifest.write(log_dir, replace(compact_manifest.read(log_dir), making=making))
    try:
        smaller = _without(log_dir, file, frozenset(rows), successor(file.path, making.batch))
        _change(index, [file], [smaller])
    finally:
        compact_manifest.recover(log_dir)
    return file.bytes - smaller.bytes


def _change(index: Index, gone: Collection[File], come: Collection[File]) -> None:
    manifest = compact_manifest.read(index.log_dir)
    index.forget({file.folder for file in gone})
    left = tuple(file for file in manifest.files if file not in gone)
    changed = replace(manifest, files=(*left, *come), dropped=tuple(file.path for file in gone), making=None)
    compact_manifest.write(index.log_dir, changed)
    compact_manifest.recover(index.log_dir)


def _without(log_dir: Path, file: File, rows: frozenset[int], path: str) -> File:
    pa, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    with (
        open_file(log_dir, file.path) as source,
        parquet.ParquetFile(source, page_checksum_verification=True) as old,
        new_file(log_dir, path) as target,
    ):
        written = first = 0
        with writer(target, old.schema_arrow) as smaller:
            for group in range(old.num_row_groups):
                try:
                    table = old.read_row_group(group, use_threads=False)
                except (OSError, pa.ArrowException) as error:
                    raise Unreadable(f"{file.path} cannot be read: {error}") from error
                stay = table.filter(pa.array([row not in rows for row in range(first, first + table.num_rows)]))
                first += table.num_rows
                written += stay.num_rows
                if stay.num_rows:
                    smaller.write_table(stay)
        size = put_down(target)
    if written != file.records - len(rows):
        raise OSError(f"{file.path} does not have the {file.records} rows that it should have")
    publish(log_dir, [path])
    return file._replace(path=path, records=written, bytes=size)
