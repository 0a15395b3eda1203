"""Closed segments of the log become Parquet files, by the day (UTC) on which their requests began.

Rules that hold in this file: no record is lost or counted twice, wherever a run is killed; one run at a time changes the
log; memory is bounded. It goes in batches, each of segments of one folder:

1. The manifest says that a batch is being made, and hides the segments that it will leave behind.
2. Its files are written beside their names, read back as far as their counts, put on the disk, and named.
3. One new manifest lists the files and hides the segments that they replace. That moment is the change.
4. The index has the segments give way to the files, and the segments are deleted.

Whoever holds the lock next deletes what no manifest lists: after a kill before 3 the files, after it the segments. What
cannot be a row, such as a torn line, is left behind in a segment of its own, ``<name>.<batch>.rest.jsonl``. A segment that
has nothing but such lines stays as it is.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final

from ecoimpact.records import compact_manifest
from ecoimpact.records.compact_manifest import DEFAULT_FOLDER, File, Making, Manifest, rest_of
from ecoimpact.records.compact_parts import Parts
from ecoimpact.records.compact_places import is_remote, new_batch, state
from ecoimpact.records.compact_rows import date_of
from ecoimpact.records.folding import is_blank, parse, whole_lines
from ecoimpact.records.index import PARQUET, Index, Progress, alone
from ecoimpact.records.listing import Segment, is_closed, is_untouched, open_segment, segments
from ecoimpact.records.segments import DAY_NAME, copy_part, new_segment, sync_directory

OLDER_THAN_DAYS: Final = 2
BATCH_BYTES: Final = 2**30
"""Bytes of segments that become files together; a larger segment comes alone."""

Report = Callable[[Progress], object] | None


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a run did: ``records`` of ``segments``, which took ``bytes``, are in ``files`` of ``file_bytes`` now.

    ``left`` segments have lines that cannot be rows: those lines are where they were, or in a segment beside it.
    """

    records: int = 0
    segments: int = 0
    bytes: int = 0
    files: int = 0
    file_bytes: int = 0
    left: int = 0

    def __add__(self, other: Compacted) -> Compacted:
        return Compacted(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


def compact(
    log_dir: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    older_than_days: int = OLDER_THAN_DAYS,
    now: datetime,
    dry_run: bool = False,
    progress: Report = None,
) -> Compacted:
    """Turn what was written on days more than ``older_than_days`` before the day of ``now`` (UTC) into Parquet.

    Only segments that nobody writes to any more. The files go to ``<out>/date=<YYYY-MM-DD>/``; by default ``out`` is the
    folder ``parquet`` in the log; it can be the URL of an object store. ``dry_run`` only counts.

    Raises:
        FileNotFoundError: there is no such directory.
        ModuleNotFoundError: there is no pyarrow.
        OSError: something cannot be written or deleted. The log is whole all the same.
        TimeoutError: another process is changing the index.
        ValueError: ``older_than_days`` is less than zero, or ``now`` has no time zone.
    """
    if older_than_days < 0 or now.tzinfo is None:
        raise ValueError(f"needs days >= 0 and a time with a time zone, got {older_than_days}, {now.isoformat()}")
    import_module("pyarrow.parquet")
    with alone(log_dir) as index:
        index.refresh()
        todo = _batches(index, _oldest(now, older_than_days))
        if dry_run:
            known = index.store.segments()
            return sum((_would(batch, known) for batch in todo), Compacted())
        if not index.is_locked:
            raise OSError(f"{index.log_dir} cannot be locked: nothing in it is changed")
        run = _Run(index, _place(index.log_dir, out), progress, sum(batch.bytes for batch in todo))
        return sum((run.compact(batch) for batch in todo), Compacted())


# --- which ----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Batch:
    """Segments of one folder that become files together."""

    folder: str
    segments: list[tuple[str, Path, os.stat_result]] = field(default_factory=list)
    bytes: int = 0


def _oldest(now: datetime, days: int) -> str:
    """The first day that is not compacted."""
    try:
        return f"{now.astimezone(UTC) - timedelta(days=days):%Y-%m-%d}"
    except OverflowError:
        return ""


def _batches(index: Index, oldest: str) -> list[_Batch]:
    known = index.store.segments()
    batches: list[_Batch] = []
    for (folder, name), (path, status) in segments(index.log_dir).items():
        day = folder if DAY_NAME.fullmatch(folder) else f"{datetime.fromtimestamp(status.st_mtime, UTC):%Y-%m-%d}"
        segment = known.get((folder, name))
        nothing_in_it = segment is not None and is_untouched(segment, status) and not segment.records and segment.skipped
        if day >= oldest or not is_closed(status) or nothing_in_it or (path.parent.name, path.name) != (folder, name):
            continue
        if not batches or batches[-1].folder != folder or batches[-1].bytes + status.st_size > BATCH_BYTES:
            batches.append(_Batch(folder))
        batches[-1].segments.append((name, path, status))
        batches[-1].bytes += status.st_size
    return batches


def _would(batch: _Batch, known: dict[tuple[str, str], Segment]) -> Compacted:
    there = [known[batch.folder, name] for name, _, _ in batch.segments if (batch.folder, name) in known]
    return Compacted(
        records=sum(segment.records for segment in there),
        segments=len(batch.segments),
        bytes=batch.bytes,
        left=sum(segment.skipped > 0 or segment.torn for segment in there),
    )


def _place(log_dir: Path, out: str | os.PathLike[str] | None) -> str:
    """As the manifest says it: relative to the log where it lies in it, so that both can be moved together."""
    if out is None:
        return DEFAULT_FOLDER
    if is_remote(os.fspath(out)):
        return os.fspath(out).rstrip("/")
    place = Path(out).absolute()
    return place.relative_to(log_dir).as_posix() if place.is_relative_to(log_dir) else place.as_posix()


# --- a run ----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Taken:
    """What became of a segment: ``kept`` are the parts of it, by their offsets, that cannot be rows."""

    name: str
    path: Path
    status: os.stat_result
    records: int = 0
    kept: list[tuple[int, int]] = field(default_factory=list)

    def keep(self, start: int, end: int) -> None:
        if self.kept and self.kept[-1][1] == start:
            start = self.kept.pop()[0]
        self.kept.append((start, end))


class _Run:
    def __init__(self, index: Index, out: str, progress: Report, total: int) -> None:
        self._index = index
        self._log_dir = index.log_dir
        self._out = out
        self._progress = progress
        self._done = self._records = 0
        self._total = total

    def compact(self, batch: _Batch) -> Compacted:
        manifest = compact_manifest.read(self._log_dir)
        making = Making(self._out, new_batch())
        rests = {name: rest_of(name, making.batch) for name, _, _ in batch.segments}
        compact_manifest.write(
            self._log_dir,
            replace(manifest, making=making, hidden=frozenset((batch.folder, name) for name in rests.values())),
        )
        try:
            return self._compact(batch, manifest, making, rests)
        finally:
            compact_manifest.recover(self._log_dir)

    def _compact(self, batch: _Batch, manifest: Manifest, making: Making, rests: dict[str, str]) -> Compacted:
        counted = self._index.store.segments()
        known = {name: counted.get((batch.folder, name)) for name, _, _ in batch.segments}
        pointed_at = self._index.store.pointed_at()
        parts = Parts(self._log_dir, making, batch.folder)
        moved: dict[tuple[str, int, int], tuple[str, int]] = {}
        with ExitStack() as stack:
            stack.callback(parts.give_up)
            every = [self._take(_Taken(*item), parts, known[item[0]], pointed_at, moved) for item in batch.segments]
            taken = [segment for segment in every if segment.records or not segment.kept]
            left = sum(bool(segment.kept) for segment in every)
            files = parts.finish()
        kept_bytes = 0
        for segment in taken:
            if segment.kept:
                kept_bytes += _leave(segment, rests[segment.name])
                sync_directory(segment.path.parent)
        if any(not _is_as_read(segment) for segment in taken):
            raise OSError(f"somebody wrote to {batch.folder} while it was compacted; it stays as it is")
        compact_manifest.write(
            self._log_dir,
            Manifest((*manifest.files, *files), frozenset((batch.folder, segment.name) for segment in taken)),
        )
        self._carry(known, taken, files, moved)
        return Compacted(
            records=sum(segment.records for segment in taken),
            segments=len(taken),
            bytes=sum(segment.status.st_size for segment in taken) - kept_bytes,
            files=len(files),
            file_bytes=sum(file.bytes for file in files),
            left=left,
        )

    def _take(
        self,
        taken: _Taken,
        parts: Parts,
        known: Segment | None,
        pointed_at: dict[tuple[int, int], str],
        moved: dict[tuple[str, int, int], tuple[str, int]],
    ) -> _Taken:
        """The records of a segment into the files of their days."""
        number = 0 if known is None else known.id
        with open_segment(taken.path) as file:
            taken.status = os.fstat(file.fileno())
            for start, end, record in _lines(file, taken.status.st_size):
                date = date_of(record)
                if date is None:
                    taken.keep(start, end)
                    continue
                there = parts.add(date, record, taken.name)
                taken.records += 1
                self._records += 1
                if (number, start) in pointed_at:
                    moved[pointed_at[number, start], number, start] = there
                if self._progress is not None and self._records % 5_000 == 0:
                    self._progress(Progress(self._done + end, self._total, self._records))
        self._done += taken.status.st_size
        return taken

    def _carry(
        self,
        known: dict[str, Segment | None],
        taken: list[_Taken],
        files: list[File],
        moved: dict[tuple[str, int, int], tuple[str, int]],
    ) -> None:
        """Spare the index to count anew what it has counted. Where that is not plain, the next refresh counts anew."""
        gone = [segment for item in taken if (segment := known[item.name]) is not None]
        if len(gone) < len(taken) or not all(map(_is_counted, gone, taken)):
            return
        store = self._index.store
        numbers = {file.path: number for number, file in enumerate(files, start=store.next_segment())}
        come = []
        for file in files:
            size, mtime_ns = state(self._log_dir, file.path, file.bytes)
            come.append(
                Segment(
                    file.folder,
                    file.path,
                    numbers[file.path],
                    gone[0].folder_id,
                    PARQUET,
                    size,
                    mtime_ns,
                    offset=file.records,
                    records=file.records,
                )
            )
        places = {here: (numbers[path], row) for here, (path, row) in moved.items()}
        with contextlib.suppress(sqlite3.Error):
            self._index.change(lambda store: store.move(gone, come, places))


def _lines(file: BinaryIO, size: int) -> Iterator[tuple[int, int, Any]]:
    """Where each line begins and ends, and what it holds: ``None`` where that is no JSON. Blank ones are nothing."""
    at = 0
    for block, end in whole_lines(file, 0, size):
        if block is None:
            yield at, end, None
        else:
            for value, length in parse(block):
                if not is_blank(value):
                    yield at, at + length, value
                at += length
        at = end
    if at < size:
        yield at, size, None


def _leave(taken: _Taken, name: str) -> int:
    """Have what cannot be rows in a segment of its own. How many bytes of it there are."""
    with open_segment(taken.path) as source, new_segment(taken.path.with_name(name)) as file:
        for start, end in taken.kept:
            copy_part(source, file, start, end)
        file.flush()
        os.fsync(file.fileno())
    times = (taken.status.st_atime_ns, taken.status.st_mtime_ns)
    os.utime(taken.path.with_name(name), ns=times)  # it has no writer either
    return sum(end - start for start, end in taken.kept)


def _is_as_read(taken: _Taken) -> bool:
    status = taken.path.lstat()
    read = taken.status
    return (status.st_ino, status.st_size, status.st_mtime_ns) == (read.st_ino, read.st_size, read.st_mtime_ns)


def _is_counted(segment: Segment, taken: _Taken) -> bool:
    """Whether the sums of the index over a segment are those of its rows."""
    return (
        is_untouched(segment, taken.status)
        and segment.offset == taken.status.st_size
        and not (segment.skipped or segment.torn or taken.kept)
        and segment.records == taken.records
    )
