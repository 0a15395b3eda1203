"""Taking records out of the log: those that are old, and those of a user who asks for it.

Rules that hold in this file: no record that should stay is lost, whoever writes to the log meanwhile; nobody else changes
the index or prunes at the same time; the index forgets a folder before anything in it changes, so that a run that is killed
leaves an index that the next refresh brings in line with what is there.

A writer appends to its segment and to nothing else, until the day changes. So a segment that was not written to for two
days has no writer any more, and is replaced by a new file without the records. In all others the lines are overwritten in
place with spaces: the file keeps its length, its writer goes on at its end, and readers pass over blank lines.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from ecoimpact.records.folding import parse, whole_lines
from ecoimpact.records.index import Index, Progress
from ecoimpact.records.listing import open_segment, segments

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_QUIET_S: Final = 2 * 86_400.0

_BATCH_LINES: Final = 100_000
_COPY_BYTES: Final = 2**20
_NEW_SUFFIX: Final = ".new"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_IN_PLACE = os.O_RDWR
for _name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):  # some do not exist on every system
    _NEW_FILE |= getattr(os, _name, 0)
    _IN_PLACE |= getattr(os, _name, 0)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed: records, the whole segments that went with them, and bytes of the log."""

    records: int
    segments: int
    bytes: int


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
    with _alone(log_dir) as index:
        index.refresh(progress=progress)
        records = {key: segment.records for key, segment in index.store.segments().items()}
        old = [
            (key, path, status.st_size)
            for key, (path, status) in segments(index.log_dir)
            if _DAY.fullmatch(key[0]) and key[0] < oldest
        ]
        pruned = Pruned(sum(records.get(key, 0) for key, _, _ in old), len(old), sum(size for _, _, size in old))
        if not dry_run:
            for _, path, _ in old:
                path.unlink(missing_ok=True)
            index.refresh()
            yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"  # a writer may be about to use that one
            for folder in {path.parent for _, path, _ in old if path.parent.name < yesterday}:
                with contextlib.suppress(OSError):  # something else is in it
                    folder.rmdir()
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
        OSError: something in it cannot be changed.
        TimeoutError: another process is changing the index.
    """
    sought = _Sought(key, values)
    records = removed = size = done = 0
    batch: dict[tuple[str, Path], list[_Line]] = {}
    with _alone(log_dir) as index:
        there = list(segments(index.log_dir))
        total = sum(status.st_size for _, (_, status) in there)

        def remove() -> int:
            index.forget({folder for folder, _ in batch})
            whole = sum(_remove(path, lines) for (_, path), lines in batch.items())
            batch.clear()
            return whole

        for (folder, _), (path, status) in there:
            lines = sought.lines_in(path)
            records += sum(line.is_record for line in lines)
            size += sum(line.length for line in lines)
            done += status.st_size
            if lines and not dry_run:
                batch[folder, path] = lines
                if sum(map(len, batch.values())) > _BATCH_LINES:
                    removed += remove()
            if progress is not None:
                progress(Progress(done, total, records))
        if batch:
            removed += remove()
        if not dry_run:
            index.refresh()
    return Pruned(records, removed, size)


@contextlib.contextmanager
def _alone(log_dir: str | os.PathLike[str]) -> Iterator[Index]:
    with Index(log_dir) as index, index.exclusive() as granted:
        if not granted:
            raise TimeoutError(f"another process is changing the index of {index.log_dir}")
        for left in index.log_dir.glob(f"*/.*{_NEW_SUFFIX}"):  # by a run that was killed
            left.unlink(missing_ok=True)
        yield index


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
                if self._has_label(value):
                    yield _Line(offset + start, length, is_record=True)
            elif value is None and any(needle in block[start : start + length] for needle in self._needles):
                yield _Line(offset + start, length, is_record=False)
            start += length

    def _has_label(self, record: dict[str, Any]) -> bool:
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
        if time.time() - status.st_mtime > _QUIET_S:
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
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_NEW_SUFFIX}")
    try:
        with os.fdopen(os.open(beside, _NEW_FILE, 0o600), "wb") as file:
            at = 0
            for line in lines:
                _copy(segment, file, at, line.offset)
                at = line.offset + line.length
            _copy(segment, file, at, status.st_size)
            file.flush()
            os.fsync(file.fileno())
        os.utime(beside, ns=(status.st_atime_ns, status.st_mtime_ns))  # it still has no writer
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return False


def _copy(source: BinaryIO, target: BinaryIO, start: int, end: int) -> None:
    source.seek(start)
    while start < end and (data := source.read(min(_COPY_BYTES, end - start))):
        target.write(data)
        start += len(data)
