"""The Parquet files of a batch as they grow.

Rules that hold in this file: memory holds no more than so many records and days, however many there are; a file gets its
name when all of the batch are on the disk with as many rows as they were given.
"""

from __future__ import annotations

import contextlib
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from ecoimpact.records.compact_manifest import File, Making
from ecoimpact.records.compact_places import new_file, new_path, open_file, publish, put_down
from ecoimpact.records.compact_rows import row_schema, rows, writer
from ecoimpact.records.export import BATCH

ROW_GROUP: Final = 2**17
"""Records that wait in memory, as Arrow, to be written together."""
MAX_OPEN: Final = 64
"""Days whose files are written at the same time."""


class _Part:
    """A Parquet file that grows: the records of one day from the segments of a batch."""

    def __init__(self, log_dir: Path, path: str, folder: str, schema: Any) -> None:
        self._schema = schema
        self._folder = folder
        self._log_dir = log_dir
        self.path = path
        self._file: Any = new_file(log_dir, path)
        self._writer: Any = writer(self._file, schema)
        self._records: list[dict[str, Any]] = []
        self._segments: list[str] = []
        self._group: list[Any] = []
        self._flushed = 0
        self.waiting = 0
        self._first, self._last = "", ""

    def add(self, record: dict[str, Any], segment: str) -> int:
        """Take in a record. The number of its row."""
        self._records.append(record)
        self._segments.append(segment)
        self.waiting += 1
        if len(self._records) == BATCH:
            self._encode()
        return self._flushed + self.waiting - 1

    def flush(self) -> None:
        """Write what waits as a row group."""
        self._encode()
        if self._group:
            table = import_module("pyarrow").Table.from_batches(self._group)
            self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
        self._flushed += self.waiting
        self.waiting = 0
        self._group = []

    def close(self) -> File:
        """Have it on the disk, still without its name."""
        self.flush()
        self._writer.close()
        size = put_down(self._file)
        with open_file(self._log_dir, self.path, published=False) as file:
            told = import_module("pyarrow.parquet").read_metadata(file).num_rows
        if told != self._flushed:
            raise OSError(f"{self.path} has {told} rows, not {self._flushed}")
        return File(self._folder, self.path, self._flushed, size, self._first, self._last)

    def give_up(self) -> None:
        with contextlib.suppress(Exception):  # whatever it is, one has failed already
            self._writer.close()
        with contextlib.suppress(Exception):
            self._file.close()

    def _encode(self) -> None:
        if self._records:
            batch = rows(self._records, self._segments, self._schema)
            times = import_module("pyarrow.compute").min_max(batch.column("time")).as_py()
            first, last = (f"{times[end]:%Y-%m-%dT%H:%M:%S.%fZ}" for end in ("min", "max"))
            self._first, self._last = min(self._first or first, first), max(self._last, last)
            self._group.append(batch)
            self._records, self._segments = [], []


class Parts:
    """The files of a batch, one for each day; more where there are too many days to have all of them open."""

    def __init__(self, log_dir: Path, making: Making, folder: str) -> None:
        self._log_dir = log_dir
        self._making = making
        self._folder = folder
        self._schema = row_schema()
        self._open: dict[str, _Part] = {}  # the one that was least recently written to comes first
        self._made = 0
        self._waiting = 0
        self.done: list[File] = []

    def add(self, date: str, record: dict[str, Any], segment: str) -> tuple[str, int]:
        """Take in a record. The path of its file, and its row."""
        part = self._open.pop(date, None)
        if part is None:
            if len(self._open) >= MAX_OPEN:
                self._close(next(iter(self._open)))
            path = new_path(self._making.out, date, self._folder, self._making.batch, self._made)
            self._made += 1
            part = _Part(self._log_dir, path, self._folder, self._schema)
        self._open[date] = part
        row = part.add(record, segment)
        self._waiting += 1
        if self._waiting >= ROW_GROUP:
            largest = max(self._open.values(), key=lambda part: part.waiting)
            self._waiting -= largest.waiting
            largest.flush()
        return part.path, row

    def finish(self) -> list[File]:
        """All files, whole and under their names."""
        for date in [*self._open]:
            self._close(date)
        publish(self._log_dir, [file.path for file in self.done])
        return self.done

    def give_up(self) -> None:
        for part in self._open.values():
            part.give_up()

    def _close(self, date: str) -> None:
        part = self._open[date]
        self._waiting -= part.waiting
        self.done.append(part.close())
        del self._open[date]
