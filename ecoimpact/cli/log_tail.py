"""The newest records of a log, and those that come in, over the segments of all processes.

Rules that hold here: memory is bounded by what is asked for; only whole lines count; nothing is shown twice.
"""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from ecoimpact.records.compact_rows import Unreadable, read_rows, said_unreadable
from ecoimpact.records.listing import listed
from ecoimpact.records.reader import MAX_LINE_BYTES, parse, segments
from ecoimpact.records.segments import to_json

BLOCK_BYTES = 2**16

SLACK = 100
"""Lines of each segment that are looked at besides: requests end, and are written, in another order than they begin."""


class Line(NamedTuple):
    """A line of the log, and the record in it; ``raw`` is empty for one that is in a Parquet file."""

    raw: bytes
    record: dict[str, Any]
    place: tuple[str, int] = ("", 0)
    """Name of the segment, and something that grows in it."""

    @property
    def order(self) -> tuple[str, str, int]:
        """When the request began; of several at once the later written one is later."""
        time = self.record.get("time")
        return (time if isinstance(time, str) else "", *self.place)

    def matches(self, label: tuple[str, str] | None) -> bool:
        labels = self.record.get("labels")
        return label is None or (isinstance(labels, dict) and labels.get(label[0]) == label[1])


@dataclass(slots=True)
class _Position:
    """How far a segment has been read, and which file it was: a rewritten one has another number."""

    offset: int
    inode: int


class LogTail:
    """Reads the end of a log, then what is appended to it.

    A segment that is rewritten meanwhile, as by ``ecoimpact prune``, is followed from its new end on.
    """

    def __init__(self, log_dir: Path, label: tuple[str, str] | None = None) -> None:
        self._log_dir = log_dir
        self._label = label
        # JSON can spell a text in several ways, but no writer escapes plain letters. So most lines need not be parsed.
        self._needle = label[1].encode() if label is not None and label[1].isascii() and label[1].isalnum() else b""
        self._positions: dict[Path, _Position] = {}

    def newest(self, number: int) -> list[Line]:
        """The newest records, at most ``number`` of them, in the order in which their requests began."""
        found: list[Line] = []
        paths = segments(self._log_dir)
        ends = {path: self._end(path) for path in paths}
        self._positions = {path: end for path, end in ends.items() if end is not None}
        for day in sorted({path.parent for path in self._positions}, reverse=True):
            of_day = [(path, end) for path, end in self._positions.items() if path.parent == day]
            lines = (line for path, end in of_day for line in self._last(path, end.offset, number + SLACK))
            found += heapq.nlargest(number, lines, key=lambda line: line.order)
            if len(found) >= number:  # earlier folders were written on earlier days
                break
        if len(found) < number:
            found += self._compacted(number)
        return sorted(found, key=lambda line: line.order)[-number:] if number else []

    def _compacted(self, number: int) -> list[Line]:
        """The newest of those records that are in Parquet files, which is where the oldest are."""
        found: list[Line] = []
        for file in sorted(listed(self._log_dir).files.values(), key=lambda file: file.last, reverse=True):
            if len(found) == number and file.last < found[0].order[0]:
                break
            try:
                for records in read_rows(self._log_dir, file):
                    lines = (Line(b"", record, (file.path, row)) for row, record in enumerate(records))
                    wanted = (line for line in lines if line.matches(self._label))
                    found = sorted([*found, *wanted], key=lambda line: line.order)[-number:]
            except Unreadable as error:
                said_unreadable(error, file.records)
        return found

    def appended(self) -> list[Line]:
        """What has come in since the last call, in the order in which the requests began; all of it at the first call."""
        lines: list[Line] = []
        paths = segments(self._log_dir)
        for path in paths:
            lines += self._new(path)
        self._positions = {path: self._positions[path] for path in paths if path in self._positions}
        return sorted(lines, key=lambda line: line.order[0])  # stable

    def _end(self, path: Path) -> _Position | None:
        """Where the last whole line of a segment ends."""
        try:
            with path.open("rb") as segment:
                status = os.fstat(segment.fileno())
                end = status.st_size
                while end > 0:
                    begin = max(0, end - BLOCK_BYTES)
                    segment.seek(begin)
                    newline = segment.read(end - begin).rfind(b"\n")
                    if newline >= 0:
                        return _Position(begin + newline + 1, status.st_ino)
                    end = begin
                return _Position(0, status.st_ino)
        except OSError:
            return None  # pruned meanwhile

    def _last(self, path: Path, end: int, number: int) -> Iterator[Line]:
        try:
            with path.open("rb") as segment:
                found = 0
                for raw in lines_from_the_end(segment, end):
                    if found == number:
                        return
                    line = self._line(raw)
                    if line is not None:
                        found += 1
                        yield line._replace(place=(path.name, -found))
        except OSError:
            return

    def _new(self, path: Path) -> Iterator[Line]:
        position = self._positions.get(path)
        try:
            with path.open("rb") as segment:
                status = os.fstat(segment.fileno())
                if position is None:
                    position = self._positions[path] = _Position(0, status.st_ino)
                elif position.inode != status.st_ino or position.offset > status.st_size:
                    self._positions[path] = self._end(path) or position
                    return
                segment.seek(position.offset)
                while raw := segment.readline(MAX_LINE_BYTES):
                    if not raw.endswith(b"\n") and len(raw) < MAX_LINE_BYTES:
                        return  # the rest of it is still to come
                    position.offset += len(raw)
                    line = self._line(raw)
                    if line is not None:
                        yield line
        except OSError:
            return

    def _line(self, raw: bytes) -> Line | None:
        if self._needle not in raw:
            return None
        record = parse(raw)
        if record is None:
            return None
        line = Line(raw, record)
        return line if line.matches(self._label) else None


def lines_from_the_end(file: IO[bytes], end: int) -> Iterator[bytes]:
    """The lines before ``end``, the last one first. Those longer than ``MAX_LINE_BYTES`` are cut, so that none parses."""
    rest = b""
    while end > 0:
        begin = max(0, end - BLOCK_BYTES)
        file.seek(begin)
        first, *lines = (file.read(end - begin) + rest[:MAX_LINE_BYTES]).split(b"\n")
        yield from filter(None, reversed(lines))
        rest, end = first, begin
    if rest:
        yield rest


def plain(line: Line) -> str:
    """A line of the log as it is, in ASCII: what a stranger wrote into it must not reach a terminal."""
    if not line.raw:
        return to_json(line.record)
    text = line.raw.decode("utf-8", "replace").rstrip("\n")
    return text if text.isascii() and text.isprintable() else json.dumps(line.record)
