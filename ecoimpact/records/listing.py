"""The segments in a log as they lie on the disk, and whether one is still what it was.

Rules that hold in this file: links are never followed, neither to segments nor to folders; what disappears while one looks
is not there.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

_FINGERPRINT_BYTES: Final = 1024

_READ = os.O_RDONLY
for _name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY", "O_NONBLOCK"):  # some do not exist on every system
    _READ |= getattr(os, _name, 0)


@dataclass(slots=True)
class Segment:
    """A segment as far as it is folded. ``offset`` is where the lines that are counted end."""

    folder: str
    name: str
    id: int = 0
    folder_id: int = 0
    inode: str = ""
    size: int = 0
    mtime_ns: int = 0
    offset: int = 0
    fingerprint: int = 0
    records: int = 0
    skipped: int = 0
    torn: bool = False


def segments(log_dir: Path) -> Iterator[tuple[tuple[str, str], tuple[Path, os.stat_result]]]:
    """The segments in a log by folder and name, in the order of their names; links are none."""
    for folder in _entries(log_dir):
        if not folder.is_dir(follow_symlinks=False):
            continue
        for entry in _entries(Path(folder.path)):
            if entry.name.endswith(".jsonl") and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):  # deleted meanwhile
                    path = Path(entry.path)
                    yield (_text(folder.name), _text(entry.name)), (path, path.lstat())


def open_segment(path: Path) -> BinaryIO:
    """For reading, unbuffered; a link is refused."""
    return os.fdopen(os.open(path, _READ), "rb", buffering=0)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:  # deleted meanwhile, or not ours to read
        return []


def _text(name: str) -> str:
    """A file's name as text that SQLite can hold, whatever bytes are in it."""
    return name.encode("utf-8", "backslashreplace").decode()


def is_untouched(segment: Segment, status: os.stat_result) -> bool:
    return (segment.inode, segment.size, segment.mtime_ns) == (inode_of(status), status.st_size, status.st_mtime_ns)


def is_rewritten(segment: Segment, path: Path, status: os.stat_result) -> bool:
    """Whether anything but appending happened to a segment. Moving or copying it, times and all, is no change."""
    if is_untouched(segment, status):
        return False
    if status.st_size < segment.offset or (status.st_size == segment.size and status.st_mtime_ns != segment.mtime_ns):
        return True
    try:
        with open_segment(path) as file:
            return fingerprint(file, segment.offset) != segment.fingerprint
    except OSError:
        return True


def fingerprint(file: BinaryIO, offset: int) -> int:
    """Of the first and the last bytes before ``offset``. Each record has an id of its own in there."""
    at = file.tell()
    file.seek(0)
    head = file.read(min(_FINGERPRINT_BYTES, offset))
    file.seek(max(offset - _FINGERPRINT_BYTES, 0))
    tail = file.read(min(_FINGERPRINT_BYTES, offset))
    file.seek(at)
    return zlib.crc32(tail, zlib.crc32(head))


def inode_of(status: os.stat_result) -> str:
    """As text, because some file systems have numbers beyond SQLite's."""
    return str(status.st_ino)
