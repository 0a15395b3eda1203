"""The log on disk: append-only segments of JSON Lines, one at a time for each process.

Rules that hold in this file: a segment belongs to the process that made it, so no lock is needed between processes; a
batch is one ``write`` of whole lines; after a failure the segment ends with a whole line. Files are for their owner only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from ecoimpact.records.forks import renew_in_child
from ecoimpact.types import Record

logger = logging.getLogger("ecoimpact")

MAX_SEGMENT_BYTES = 64 * 2**20

# Some of these flags do not exist on every system.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
for _name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):
    _FLAGS |= getattr(os, _name, 0)

DAY_NAME = re.compile(r"\d{4}-\d{2}-\d{2}")
"""The name of a folder."""
NEW_SUFFIX = ".new"
"""Of a file that is being written, beside the segment in whose place it will be."""
_COPY_BYTES = 2**20

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class LogWriter:
    """Writes records to ``<log_dir>/<YYYY-MM-DD>/<HHMMSS>-<pid>-<random>.jsonl`` (UTC), one JSON object a line.

    A new segment begins when the day changes, when the next batch would exceed ``max_segment_bytes``, in a forked child,
    and after a failed write. A full disk, a read-only or a deleted directory costs the records of that batch and one
    warning; the next batch tries again.

    ``fsync``: each batch is on the disk, not only with the operating system, before it counts as written. What is then
    still lost when the machine itself fails is what the disk says is written and is not.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        *,
        max_segment_bytes: int = MAX_SEGMENT_BYTES,
        fsync: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.log_dir = Path(log_dir).absolute()  # the program may change its working directory
        self._fsync = fsync
        self._max_segment_bytes = max_segment_bytes
        self._now = now
        self._segment: _Segment | None = None
        self._warned = False
        self._lock = threading.Lock()
        renew_in_child(self)

    def renew(self) -> None:
        self._lock = threading.Lock()
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close()

    def write_batch(self, records: Sequence[Record]) -> int:
        """Append the records. Returns how many of them were lost; never raises for a file system that fails."""
        lines, lost = _lines(records)
        if not lines:
            return lost
        with self._lock:
            try:
                return lost + self._append(lines)
            except OSError as error:
                self._discard()
                self._warn(error)
                return lost + len(lines)

    def close(self) -> None:
        """Close the segment; a later batch begins a new one."""
        with self._lock:
            if self._segment is not None:
                self._segment.close()
                self._segment = None

    def _append(self, lines: list[bytes]) -> int:
        data = b"".join(lines)
        segment = self._segment_for(len(data))
        try:
            segment.append(data)
        except OSError as error:
            written = segment.end_with_whole_line()
            self._discard()
            self._warn(error)
            return len(lines) - written
        if self._fsync:
            segment.sync()
        return 0

    def _segment_for(self, size: int) -> _Segment:
        moment = datetime.fromtimestamp(self._now(), UTC)
        day = moment.strftime("%Y-%m-%d")
        segment = self._segment
        if segment is not None:
            fits = not segment.size or segment.size + size <= self._max_segment_bytes
            if fits and segment.day == day and segment.is_in_place():
                return segment
            self._discard()
        self.log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = self.log_dir / day
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        name = f"{moment:%H%M%S}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        self._segment = _Segment(folder / name, day)
        if self._fsync:
            for parent in (folder, self.log_dir):  # else a crash may leave a file that no directory knows
                sync_directory(parent)
        return self._segment

    def _discard(self) -> None:
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close()
            if not segment.size:
                with contextlib.suppress(OSError):
                    segment.path.unlink()

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            with contextlib.suppress(Exception):  # a logging handler of the host may raise as well
                logger.warning(
                    "ecoimpact cannot write its log in %s: %s; lost records are counted, see ecoimpact.drops()",
                    self.log_dir,
                    os.strerror(error.errno) if error.errno else type(error).__name__,
                )


class _Segment:
    """One open file. ``size`` counts the bytes of whole lines in it."""

    def __init__(self, path: Path, day: str) -> None:
        self.path = path
        self.day = day
        self.size = 0
        self._torn = b""
        self._fd = os.open(path, _FLAGS, 0o600)
        status = os.fstat(self._fd)
        self._identity = (status.st_dev, status.st_ino)

    def is_in_place(self) -> bool:
        """False once the file was deleted, or the descriptor closed (and perhaps given to another file) behind us."""
        try:
            status = os.fstat(self._fd)
        except OSError:
            return False
        return self._is_ours(status) and status.st_nlink > 0

    def append(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                written = os.write(self._fd, rest)
            except OSError:
                self._torn = data[: len(data) - len(rest)]
                raise
            rest = rest[written:]
        self.size += len(data)

    def end_with_whole_line(self) -> int:
        """After a failed append: cut a torn line off. Returns how many lines of that append are whole."""
        whole = self._torn[: self._torn.rfind(b"\n") + 1]
        self.size += len(whole)
        if len(whole) < len(self._torn):
            with contextlib.suppress(OSError):  # else a reader skips the torn line
                os.ftruncate(self._fd, self.size)
        return whole.count(b"\n")

    def sync(self) -> None:
        os.fsync(self._fd)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._is_ours(os.fstat(self._fd)):
                os.close(self._fd)

    def _is_ours(self, status: os.stat_result) -> bool:
        return (status.st_dev, status.st_ino) == self._identity


def new_segment(path: Path) -> BinaryIO:
    """A file for whole lines, for its owner only.

    Raises:
        FileExistsError: there is one.
    """
    return os.fdopen(os.open(path, _FLAGS & ~os.O_APPEND, 0o600), "wb")


def copy_part(source: BinaryIO, target: BinaryIO, start: int, end: int) -> None:
    """What is between two offsets of a file to the end of another."""
    source.seek(start)
    while start < end and (data := source.read(min(_COPY_BYTES, end - start))):
        target.write(data)
        start += len(data)


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders of days that are over, where nothing is left in them. A writer may be about to use yesterday's."""
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    for folder in set(folders):
        if DAY_NAME.fullmatch(folder.name) and folder.name < yesterday:
            with contextlib.suppress(OSError):  # something else is in it
                folder.rmdir()


def sync_directory(path: Path) -> None:
    """Have the names in a folder on the disk."""
    if os.name == "nt":
        return  # Windows opens no directories
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _lines(records: Iterable[Record]) -> tuple[list[bytes], int]:
    """Each record as a line, and how many could not be one: a value in it has no JSON form."""
    lines, lost = [], 0
    for record in records:
        try:
            lines.append(to_json(record.to_dict()).encode("ascii") + b"\n")
        except (TypeError, ValueError, OverflowError):
            lost += 1
    return lines, lost


def to_json(record: dict[str, Any]) -> str:
    """One line of the log. What is not a finite number is null: JSON has no such numbers.

    >>> to_json({"energy_kwh_min": float("nan"), "labels": {"app": "chat"}})
    '{"energy_kwh_min":null,"labels":{"app":"chat"}}'
    """
    try:
        return _encode(record)
    except ValueError:
        return _encode(finite(record))


def finite(value: Any) -> Any:
    """Plain data with ``None`` for every number that is infinite or none at all."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
