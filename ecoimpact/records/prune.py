"""Taking records out of the log: those that are old, and those of a user who asks for it.

Rules that hold in this file: no record that should stay is lost, whoever writes to the log meanwhile; nobody else changes
the index or prunes at the same time; the index forgets a folder before anything in it changes, so that a run that is killed
leaves an index that the next refresh brings in line with what is there.

A writer appends to its segment and to nothing else, until the day changes. So a segment that was not written to for two
days has no writer any more, and is replaced by a new file without the records. In all others the lines are overwritten in
place with spaces: the file keeps its length, its writer goes on at its end, and readers pass over blank lines. Records that
were compacted are taken out of their Parquet files, which are then others; the age is that of the folder they were in.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from ecoimpact.records.compact_manifest import File
from ecoimpact.records.compact_prune import drop, rows_with, take_out
from ecoimpact.records.compact_rows import HINT, Unreadable, has_pyarrow
from ecoimpact.records.folding import parse, whole_lines
from ecoimpact.records.index import Index, Progress, alone
from ecoimpact.records.listing import is_closed, listed, open_segment
from ecoimpact.records.segments import DAY_NAME, NEW_SUFFIX, copy_part, new_segment, remove_empty

_BATCH_LINES: Final = 100_000
_IN_PLACE = os.O_RDWR
for _name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):  # some do not exist on every system
    _IN_PLACE |= getattr(os, _name, 0)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed: records, the whole segments that went with them, bytes of the log, and how many Parquet files were
    deleted or replaced by smaller ones. Of those that would be replaced, the bytes are an estimate."""

    records: int
    segments: int
    bytes: int
    files: int = 0


def older_than(
    log_dir: str | os.PathLike[str],
    days: int,
    *,
    now: datetime,
    dry_run: bool = False,
    progress: Callable[[Progress], object] | None = None,
) -> Pruned:
    """Delete what was written on days more than ``days`` before the day of ``now`` (UTC). ``dry_run`` only counts it.

    Raises:
        FileNotFoundError: there is no such directory.
        OSError: something in it cannot be deleted.
        TimeoutError: another process is changing the index.
        ValueError: ``days`` is less than zero, or ``now`` has no time zone.
    """
    if days < 0 or now.tzinfo is None:
        raise ValueError(f"needs days >= 0 and a time with a time zone, got {days}, {now.isoformat()}")
    today = now.astimezone(UTC)
    try:
        oldest = f"{today - timedelta(days=days):%Y-%m-%d}"
    except OverflowError:
        return Pruned(0, 0, 0)
    with alone(log_dir) as index:
        index.refresh(progress=progress)
        there = listed(index.log_dir)
        records = {key: segment.records for key, segment in index.store.segments().items()}
        old = [
            (key, path, status.st_size)
            for key, (path, status) in there.segments.items()
            if DAY_NAME.fullmatch(key[0]) and key[0] < oldest
        ]
        files = [file for file in there.files.values() if DAY_NAME.fullmatch(file.folder) and file.folder < oldest]
        pruned = Pruned(
            sum(records.get(key, 0) for key, _, _ in old) + sum(file.records for file in files),
            len(old),
            sum(size for _, _, size in old) + sum(file.bytes for file in files),
            len(files),
        )
        if not dry_run:
            if files:
                drop(index, files)
            for _, path, _ in old:
                path.unlink(missing_ok=True)
            index.refresh()
            remove_empty(path.parent for _, path, _ in old)
    return pruned


def with_label(
    log_dir: str | os.PathLike[str],
    key: str,
    values: Collection[str],
    *,
    dry_run: bool = False,
    progress: Callable[[Progress], object] | None = None,
) -> Pruned:
    """Remove the records whose label ``key`` has one of ``values``. ``dry_run`` only counts them.

    All that were in the log when it was called are gone when it returns; what is written meanwhile may stay.

    Raises:
        FileNotFoundError: there is no such directory.
        ModuleNotFoundError: some of it is Parquet, and there is no pyarrow.
        OSError: something in it cannot be changed; or a Parquet file cannot be read, after all else is done.
        TimeoutError: another process is changing the index.
    """
    with alone(log_dir) as index:
        there = listed(index.log_dir)
        if there.files and not has_pyarrow():
            raise ModuleNotFoundError(f"some of this log is Parquet, which needs pyarrow: {HINT}")
        total = sum(status.st_size for _, status in there.segments.values())
        run = _Run(index, _Sought(key, values), total + sum(file.bytes for file in there.files.values()), dry_run, progress)
        for (folder, _), (path, status) in there.segments.items():
            run.segment(folder, path, status.st_size)
        run.remove()
        for file in there.files.values():
            run.file(file)
        if not dry_run:
            index.refresh()
        if run.unreadable:
            raise OSError(f"records may be left, as {'; '.join(run.unreadable)}")
    return Pruned(run.records, run.segments, run.bytes, run.files)


class _Run:
    """Removes, or only counts, what is sought."""

    def __init__(
        self,
        index: Index,
        sought: _Sought,
        total: int,
        dry_run: bool,
        progress: Callable[[Progress], object] | None,
    ) -> None:
        self._index = index
        self._sought = sought
        self._total = total
        self._dry_run = dry_run
        self._progress = progress
        self._done = 0
        self._batch: dict[tuple[str, Path], list[_Line]] = {}
        self.records = self.segments = self.bytes = self.files = 0
        self.unreadable: list[str] = []

    def segment(self, folder: str, path: Path, size: int) -> None:
        lines = self._sought.lines_in(path)
        self.records += sum(line.is_record for line in lines)
        self.bytes += sum(line.length for line in lines)
        if lines and not self._dry_run:
            self._batch[folder, path] = lines
            if sum(map(len, self._batch.values())) > _BATCH_LINES:
                self.remove()
        self._tell(size)

    def remove(self) -> None:
        """Have the lines that were found gone."""
        if self._batch:
            self._index.forget({folder for folder, _ in self._batch})
            self.segments += sum(_remove(path, lines) for (_, path), lines in self._batch.items())
            self._batch.clear()

    def file(self, file: File) -> None:
        try:
            rows = rows_with(self._index.log_dir, file, self._sought.has_label)
            if rows:
                self.bytes += file.bytes * len(rows) // file.records if self._dry_run else take_out(self._index, file, rows)
                self.records += len(rows)
                self.files += 1
        except Unreadable as error:
            self.unreadable.append(str(error))
        self._tell(file.bytes)

    def _tell(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress(Progress(self._done, self._total, self.records))


# --- finding ------------------------------------------------------------------------------------------------------------


class _Line(NamedTuple):
    offset: int
    length: int
    is_record: bool


class _Sought:
    """The records to remove, by a label."""

    def __init__(self, key: str, values: Collection[str]) -> None:
        self._key = key
        self._values = frozenset([values] if isinstance(values, str) else values)
        self._needles = [form for value in self._values for form in _written(value)]

    def lines_in(self, path: Path) -> list[_Line]:
        """The whole lines that have to go: such records, and what is left of torn ones with such a value in it."""
        try:
            file = open_segment(path)
        except FileNotFoundError:  # deleted meanwhile
            return []
        lines: list[_Line] = []
        with file:
            offset = 0
            for block, end in whole_lines(file, 0, os.fstat(file.fileno()).st_size):
                if block is not None and self._may_be_in(block):
                    lines += self._lines_of(block, offset)
                offset = end
        return lines

    def _lines_of(self, block: bytes, offset: int) -> Iterator[_Line]:
        start = 0
        for value, length in parse(block):
            if isinstance(value, dict) and isinstance(value.get("schema"), int):
                if self.has_label(value):
                    yield _Line(offset + start, length, is_record=True)
            elif value is None and any(needle in block[start : start + length] for needle in self._needles):
                yield _Line(offset + start, length, is_record=False)
            start += length

    def has_label(self, record: dict[str, Any]) -> bool:
        labels = record.get("labels")
        value = labels.get(self._key) if isinstance(labels, dict) else None
        return isinstance(value, str) and value in self._values

    def _may_be_in(self, block: bytes) -> bool:
        # A value may be written with escapes of any kind, and then only parsing tells.
        return b"\\" in block or any(needle in block for needle in self._needles)


def _written(value: str) -> set[bytes]:
    """A value as it stands in a line, unless it is written with needless escapes."""
    return {json.dumps(value).encode(), json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")}


# --- removing -----------------------------------------------------------------------------------------------------------


def _remove(path: Path, lines: list[_Line]) -> bool:
    """Whether the whole segment went with them."""
    with open_segment(path) as segment:
        status = os.fstat(segment.fileno())
        if is_closed(status):
            return _rewrite(path, segment, lines, status)
    _blank(path, lines)
    return False


def _blank(path: Path, lines: list[_Line]) -> None:
    with os.fdopen(os.open(path, _IN_PLACE), "r+b", buffering=0) as segment:
        for line in lines:
            segment.seek(line.offset)
            segment.write(b" " * (line.length - 1))  # its newline stays
        os.fsync(segment.fileno())


def _rewrite(path: Path, segment: BinaryIO, lines: list[_Line], status: os.stat_result) -> bool:
    if sum(line.length for line in lines) == status.st_size:
        path.unlink()
        return True
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{NEW_SUFFIX}")
    try:
        with new_segment(beside) as file:
            at = 0
            for line in lines:
                copy_part(segment, file, at, line.offset)
                at = line.offset + line.length
            copy_part(segment, file, at, status.st_size)
            file.flush()
            os.fsync(file.fileno())
        os.utime(beside, ns=(status.st_atime_ns, status.st_mtime_ns))  # it still has no writer
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return False
