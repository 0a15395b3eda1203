"""What a log consists of: the segments as they lie on the disk, and the Parquet files that others have become.

Rules that hold in this file: links are never followed, neither to segments nor to folders; what disappears while one looks
is not there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from ecoimpact.records import compact_manifest
from ecoimpact.records.compact_manifest import File, Illegible, Manifest
from ecoimpact.records.compact_places import READ

logger = logging.getLogger("ecoimpact")

QUIET_S: Final = 2 * 86_400.0

_FINGERPRINT_BYTES: Final = 1024
_LOOKS: Final = 100

_READ = READ | getattr(os, "O_NONBLOCK", 0)

Found = dict[tuple[str, str], tuple[Path, os.stat_result]]
"""Segments by folder and name, in the order of their names."""


@dataclass(slots=True)
class Segment:
    """A segment, or a Parquet file, as far as it is folded.

    ``offset`` is where the lines that are counted end; of a Parquet file, whose ``name`` is its path, it counts rows.
    """

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


class Listed(NamedTuple):
    """What a log consisted of at one moment. No record is in both."""

    segments: Found
    files: dict[tuple[str, str], File]
    """Parquet files by folder and path."""


def listed(log_dir: Path) -> Listed:
    """All that a log consists of. Where its manifest is illegible, a warning says so, and the segments are all there is."""
    manifest = _manifest(log_dir)
    for _ in range(_LOOKS):
        found = dict(_found(log_dir))
        before, manifest = manifest, _manifest(log_dir)
        if manifest == before:  # else segments became a file between the two looks
            break
    for hidden in manifest.hidden:
        found.pop(hidden, None)
    return Listed(found, {file.key: file for file in manifest.files})


def segments(log_dir: Path) -> Found:
    """The segments in a log; links are none, and neither are those that have become Parquet."""
    return listed(log_dir).segments


def is_closed(status: os.stat_result) -> bool:
    """Whether a segment has no writer any more: one appends to its segment until the day changes."""
    return time.time() - status.st_mtime > QUIET_S


def _manifest(log_dir: Path) -> Manifest:
    try:
        return compact_manifest.read(log_dir)
    except Illegible as error:
        if log_dir not in _warned:
            _warned.add(log_dir)
            logger.warning("ecoimpact: %s", error)
        return Manifest()


_warned: set[Path] = set()


def _found(log_dir: Path) -> Iterator[tuple[tuple[str, str], tuple[Path, os.stat_result]]]:
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
