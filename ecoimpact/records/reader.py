"""Reading the log back, whatever state a crash or a stranger left it in."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ecoimpact.records import listing

if TYPE_CHECKING:
    from ecoimpact.records.compact_manifest import File
    from ecoimpact.records.index import Progress

MAX_LINE_BYTES = 2**20

PROGRESS_LINES = 5_000
"""A callback for progress is called after so many lines, and at the end."""

# How the writer begins a line. Where it is so, a line outside the wanted period need not be parsed.
_HEAD = re.compile(rb'\{"schema":\d+,"id":"[^"\\]*","time":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)"')


class RecordReader(Iterator[dict[str, Any]]):
    """The records of a log, folder by folder in the order of their names, each as the flat dict that was written.

    In a folder those that were compacted come first, then its segments. ``skipped`` counts the lines that are no record:
    torn by a crash, longer than ``MAX_LINE_BYTES``, or not ours; where a period is wanted, also those whose time cannot be
    read; and the records of Parquet files that are gone or damaged. While segments are compacted, each record comes once.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        progress: Callable[[Progress], object] | None = None,
    ) -> None:
        self.log_dir = Path(log_dir)
        self.skipped = 0
        if not self.log_dir.is_dir():
            raise FileNotFoundError(f"no log in {self.log_dir}: there is no such directory")
        self._period = _Period(since, until)
        self._progress = progress
        self._records = self._read()

    def __next__(self) -> dict[str, Any]:
        return next(self._records)

    def _read(self) -> Iterator[dict[str, Any]]:
        there = listing.listed(self.log_dir)
        report = _Reporter(self._progress, there)
        gone: set[tuple[str, str]] = set()
        for folder in sorted({folder for folder, _ in (*there.files, *there.segments)}):
            for key, file in there.files.items():
                if key[0] == folder:
                    yield from self._file(file, report)
            for key, (path, _) in there.segments.items():
                if key[0] == folder:
                    yield from self._lines(key, path, report, gone)
        if gone:
            yield from self._compacted_meanwhile(there, gone, report)
        report.now()

    def _lines(
        self, key: tuple[str, str], path: Path, report: _Reporter, gone: set[tuple[str, str]]
    ) -> Iterator[dict[str, Any]]:
        try:
            segment = path.open("rb")
        except FileNotFoundError:
            gone.add(key)
            return
        with segment:
            yield from self._segment(segment, report)

    def _compacted_meanwhile(
        self, before: listing.Listed, gone: set[tuple[str, str]], report: _Reporter
    ) -> Iterator[dict[str, Any]]:
        """What was in segments that became rows of new files since they were listed. Others were pruned."""
        from ecoimpact.records.compact_manifest import source_of_rest

        now = listing.listed(self.log_dir)
        for key, file in now.files.items():
            names = frozenset(name for folder, name in gone if folder == file.folder)
            if names and key not in before.files:
                yield from self._file(file, report, names)
        for (folder, name), (path, _) in now.segments.items():
            if (folder, source_of_rest(name)) in gone:
                yield from self._lines((folder, name), path, report, set())

    def _file(self, file: File, report: _Reporter, segments: frozenset[str] | None = None) -> Iterator[dict[str, Any]]:
        """The records of a Parquet file; of ``segments``, only those that were in them."""
        from ecoimpact.records.compact_places import origin
        from ecoimpact.records.compact_rows import Unreadable, read_rows, said_unreadable

        if self._period.surely_excludes_all(file.first, file.last):
            report.part(file.bytes)
            return
        done = 0
        try:
            for records in read_rows(self.log_dir, file, segments=segments):
                for record in records:
                    if self._period.includes(record):
                        report.records += 1
                        yield record
                done += len(records)
                report.part(file.bytes * len(records) // max(file.records, 1))
        except Unreadable as error:
            now = listing.listed(self.log_dir).files.values()
            if file in now:
                self.skipped += file.records - done
                said_unreadable(error, file.records - done)
                return
            for successor in now:  # records were taken out of it meanwhile
                if origin(successor.path) == origin(file.path):
                    yield from self._file(successor, report, segments)

    def _segment(self, segment: IO[bytes], report: _Reporter) -> Iterator[dict[str, Any]]:
        while line := segment.readline(MAX_LINE_BYTES):
            report.line(len(line))
            if line.isspace():
                continue  # where a record was deleted
            if line.endswith(b"\n") or len(line) < MAX_LINE_BYTES:
                if self._period.bounded and self._period.surely_excludes(line):
                    continue
                record = parse(line)
            else:
                record = None
                while (rest := segment.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
            included = False if record is None else self._period.includes(record)
            if included is None or record is None:
                self.skipped += 1
            elif included:
                report.records += 1
                yield record


def read_records(
    log_dir: str | os.PathLike[str],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    progress: Callable[[Progress], object] | None = None,
) -> RecordReader:
    """Every record in ``log_dir``; segments may be growing meanwhile.

    Args:
        since: only records of requests that began at this moment or later; with a time zone.
        until: only records of requests that began before this moment; with a time zone.
        progress: called now and then with how far reading has come.

    Raises:
        FileNotFoundError: there is no such directory.
        ValueError: a moment without a time zone.
    """
    return RecordReader(log_dir, since=since, until=until, progress=progress)


def segments(log_dir: Path) -> list[Path]:
    """The segments of a log in the order of their names. Links are left out: the writer makes none."""
    return [path for path, _ in listing.segments(log_dir).values()]


def parse(line: bytes) -> dict[str, Any] | None:
    """The record in a line of the log; ``None`` where it holds none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("schema"), int) else None


def moment_of(record: dict[str, Any]) -> datetime | None:
    """When the request began, in UTC; ``None`` where the record does not say it legibly."""
    try:
        moment = datetime.fromisoformat(record["time"])
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


class _Period:
    """From ``since`` to before ``until``; either may be open."""

    def __init__(self, since: datetime | None, until: datetime | None) -> None:
        for name, moment in (("since", since), ("until", until)):
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"{name} needs a time zone, got {moment!r}")
        self.since, self.until = since, until
        self.bounded = since is not None or until is not None
        # As the writer spells moments: of equal length, so that their order is that of their letters.
        self._first = None if since is None else _spelt(since)
        self._end = None if until is None else _spelt(until)

    def surely_excludes(self, line: bytes) -> bool:
        head = _HEAD.match(line)
        if head is None:
            return False
        time = head[1]
        return (self._first is not None and time < self._first) or (self._end is not None and time >= self._end)

    def surely_excludes_all(self, first: str, last: str) -> bool:
        """Whether no record between two times, as the writer spells them, is in the period."""
        before = self._first is not None and last.encode() < self._first
        return before or (self._end is not None and first.encode() >= self._end)

    def includes(self, record: dict[str, Any]) -> bool | None:
        """``None`` where the record's time cannot be read and would decide it."""
        if not self.bounded:
            return True
        moment = moment_of(record)
        if moment is None:
            return None
        return (self.since is None or moment >= self.since) and (self.until is None or moment < self.until)


def _spelt(moment: datetime) -> bytes:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").zfill(27).encode()


class _Reporter:
    """Tells how far reading has come, between lines."""

    def __init__(self, progress: Callable[[Progress], object] | None, there: listing.Listed) -> None:
        self.records = 0
        self._progress = progress
        self._lines = self._bytes = 0
        self._total = sum(status.st_size for _, status in there.segments.values())
        self._total += sum(file.bytes for file in there.files.values())

    def part(self, size: int) -> None:
        self._bytes += size
        self.now()

    def line(self, size: int) -> None:
        self._bytes += size
        self._lines += 1
        if self._lines % PROGRESS_LINES == 0:
            self.now()

    def now(self) -> None:
        if self._progress is not None:
            from ecoimpact.records.index import Progress

            self._progress(Progress(self._bytes, max(self._bytes, self._total), self.records))
