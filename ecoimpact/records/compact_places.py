"""Parquet files where they lie: in the log, elsewhere on this machine, or in an object store.

Rules that hold in this file: a path is relative to the log, absolute, or a URL; a file has no name that ``*.parquet`` finds
before it is whole. On this machine files and folders are for their owner only, and links are refused. Only files with names
of our own, in partitions, are deleted. Object stores go through pyarrow, which is imported for them alone.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from ecoimpact.records.segments import sync_directory

_ODD: Final = re.compile(r"[^\w.+-]", re.ASCII)
_NAME: Final = re.compile(r"\.?([\w.+-]*?-[0-9a-f]{16}-\d+)(-[0-9a-f]{16}-\d+)?\.parquet(\.new)?", re.ASCII)
_PARTITION: Final = re.compile(r"date=\d{4}-\d\d-\d\d", re.ASCII)

READ: int = os.O_RDONLY
NEW: int = os.O_WRONLY | os.O_CREAT | os.O_EXCL
for _name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):  # some do not exist on every system
    READ |= getattr(os, _name, 0)
    NEW |= getattr(os, _name, 0)


# --- names --------------------------------------------------------------------------------------------------------------


def new_batch() -> str:
    """What the names of all files of a run have in common, and of no other."""
    return secrets.token_hex(8)


def new_path(out: str, date: str, folder: str, batch: str, number: int) -> str:
    """Of a file for the records of a day that were in a folder of the log.

    >>> new_path("parquet", "2026-11-01", "2026-11-02", "0123456789abcdef", 0)
    'parquet/date=2026-11-01/2026-11-02-0123456789abcdef-0.parquet'
    """
    return f"{out}/date={date}/{_ODD.sub('_', folder)[:64]}-{batch}-{number}.parquet"


def out_of(path: str) -> str:
    return path.rpartition("/date=")[0]


def origin(path: str) -> str:
    """What a file has in common with those that replaced it when records were taken out."""
    folder, _, file = path.rpartition("/")
    name = _NAME.fullmatch(file)
    return path if name is None else f"{folder}/{name[1]}"


def successor(path: str, batch: str) -> str:
    """The path of the file that replaces one."""
    return f"{origin(path)}-{batch}-0.parquet"


def is_remote(path: str) -> bool:
    return "://" in path


def _unpublished(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.new"


# --- files --------------------------------------------------------------------------------------------------------------


def open_file(log_dir: Path, path: str, *, published: bool = True) -> Any:
    """For reading.

    Raises:
        OSError: it cannot be read, or a link is in its place.
    """
    path = path if published else _unpublished(path)
    if is_remote(path):
        store, place = _store(path)
        return store.open_input_file(place)
    local = log_dir / path
    if local.parent.is_symlink():
        raise OSError(f"{local.parent} is a link")
    return os.fdopen(os.open(local, READ), "rb", buffering=0)


def state(log_dir: Path, path: str, size: int) -> tuple[int, int]:
    """Size and time of change, by which one sees that somebody put another in its place; ``(-1, 0)`` if there is none.

    Nobody looks into an object store for it: there it is always the ``size`` that was written.
    """
    if is_remote(path):
        return size, 0
    try:
        status = (log_dir / path).lstat()
    except OSError:
        return -1, 0
    return status.st_size, status.st_mtime_ns


def new_file(log_dir: Path, path: str) -> Any:
    """A file to write, without its name until ``publish``."""
    if is_remote(path):
        store, place = _store(_unpublished(path))
        store.create_dir(place.rpartition("/")[0], recursive=True)
        return store.open_output_stream(place)
    partition = (log_dir / path).parent
    out = partition.parent
    if partition.is_symlink() or (out.is_symlink() and out.parent == log_dir):
        raise OSError(f"{partition} is a link, or in one")
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    partition.mkdir(mode=0o700, exist_ok=True)
    return os.fdopen(os.open(log_dir / _unpublished(path), NEW, 0o600), "wb")


def put_down(file: BinaryIO) -> int:
    """Close a file when it is on the disk, or whole in its store. Its size."""
    size = file.tell()
    file.flush()
    if isinstance(file, io.BufferedWriter):  # that of a store is none
        os.fsync(file.fileno())
    file.close()
    return size


def publish(log_dir: Path, paths: list[str]) -> None:
    """Give files their names, and have those on the disk."""
    for path in paths:
        if is_remote(path):
            store, place = _store(path)
            store.move(_store(_unpublished(path))[1], place)
        else:
            (log_dir / _unpublished(path)).rename(log_dir / path)
    partitions = {(log_dir / path).parent for path in paths if not is_remote(path)}
    for folder in {each for partition in partitions for each in (partition, *partition.parents[:2])}:
        sync_directory(folder)


def remove(log_dir: Path, path: str) -> None:
    """Delete a file that a run has made, and its partition with the last of them; nothing else is ever deleted.

    Raises:
        OSError: it cannot be deleted.
    """
    folder, _, name = path.rpartition("/")
    if not _NAME.fullmatch(name) or not _PARTITION.fullmatch(folder.rpartition("/")[2]):
        return
    if is_remote(path):
        store, place = _store(path)
        with contextlib.suppress(FileNotFoundError):
            store.delete_file(place)
        return
    local = log_dir / path
    if local.parent.is_symlink():
        return
    local.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # there is more in it
        local.parent.rmdir()


def made(log_dir: Path, out: str, batch: str) -> Iterator[str]:
    """The paths of all files of a run, with and without their names."""
    if is_remote(out):
        from pyarrow.fs import FileSelector

        store, place = _store(out)
        found = store.get_file_info(FileSelector(place, recursive=True, allow_not_found=True))
        paths = [f"{out}{each.path.removeprefix(place)}" for each in found]
    else:
        paths = [f"{out}/{each.parent.name}/{each.name}" for each in (log_dir / out).glob("date=*/*")]
    return (path for path in paths if f"-{batch}-" in path.rpartition("/")[2])


def _store(url: str) -> tuple[Any, str]:
    from ecoimpact.storage import resolve

    return resolve(url)
