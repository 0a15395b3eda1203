"""Reading the log back, whatever state a crash or a stranger left it in."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ecoimpact.records import listing

if TYPE_CHECKING:
    from ecoimpact.records.index import Progress

MAX_LINE_BYTES = 2**20

PROGRESS_LINES = 5_000
"""A callback for progress is called after so many lines, and at the end."""

# How the writer begins a line. Where it is so, a line outside the wanted period need not be parsed.
_HEAD = re.compile(rb'\{"schema":\d+,"id":"[^"\\]*","time":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)"')


class RecordReader(Iterator[dict[str, Any]]):
    """The records of a log, segment by segment in the order of their names, each as the flat dict that was written.

    ``skipped`` counts the lines that are no record: torn by a crash, longer than ``MAX_LINE_BYTES``, or not ours; where a
    period is wanted, also those whose time cannot be read.
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
        paths = segments(self.log_dir)
        report = _Reporter(self._progress, paths)
        for path in paths:
            try:
                segment = path.open("rb")
            except FileNotFoundError:
                continue  # pruned meanwhile
            with segment:
                yield from self._segment(segment, report)
        report.now()

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
    return [path for _, (path, _) in listing.segments(log_dir)]


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

    def __init__(self, progress: Callable[[Progress], object] | None, paths: list[Path]) -> None:
        self.records = 0
        self._progress = progress
        self._lines = self._bytes = self._total = 0
        if progress is not None:
            for path in paths:
                with contextlib.suppress(OSError):
                    self._total += path.stat().st_size

    def line(self, size: int) -> None:
        self._bytes += size
        self._lines += 1
        if self._lines % PROGRESS_LINES == 0:
            self.now()

    def now(self) -> None:
        if self._progress is not None:
            from ecoimpact.records.index import Progress

            self._progress(Progress(self._bytes, max(self._bytes, self._total), self.records))
