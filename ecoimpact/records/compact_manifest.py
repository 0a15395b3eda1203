"""Which Parquet files are part of a log, and which of its segments no longer are: one small file in it says so.

Rules that hold in this file:

- It is replaced as a whole. So at every moment a log is made of exactly the segments that are not ``hidden`` and of the
  files that are listed, whoever is killed when, and what runs between two moments changes nothing for a reader.
- Whatever is hidden, dropped or being made is no part of the log, and is deleted by the next one who has the log's lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from ecoimpact.records.compact_places import NEW, READ, made, remove
from ecoimpact.records.segments import remove_empty, sync_directory

FILE_NAME: Final = "compacted.json"
DEFAULT_FOLDER: Final = "parquet"
VERSION: Final = 1

_REST: Final = ".rest.jsonl"
_REST_NAME: Final = re.compile(r"(.*)\.[0-9a-f]{16}\.rest\.jsonl", re.DOTALL)


class File(NamedTuple):
    """A Parquet file. ``folder`` is the one whose segments its records were in; ``path`` is relative to the log, where it
    lies in it, else absolute or the address of an object. ``first`` and ``last`` are times of records."""

    folder: str
    path: str
    records: int
    bytes: int
    first: str
    last: str

    @property
    def key(self) -> tuple[str, str]:
        return self.folder, self.path


class Making(NamedTuple):
    """A run that has not come to its end: its files are in ``out``, with ``batch`` in their names."""

    out: str
    batch: str


def rest_of(name: str, batch: str) -> str:
    """The name of a segment for the lines of another one that cannot be rows."""
    return f"{source_of_rest(name).removesuffix('.jsonl')}.{batch}{_REST}"


def source_of_rest(name: str) -> str:
    """The name of the segment that a rest is of; the name itself where it is none."""
    found = _REST_NAME.fullmatch(name)
    return name if found is None else f"{found[1]}.jsonl"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a log consists of besides its segments, and what of them it does not consist of any more."""

    files: tuple[File, ...] = ()
    hidden: frozenset[tuple[str, str]] = frozenset()
    dropped: tuple[str, ...] = ()
    making: Making | None = None

    @property
    def is_settled(self) -> bool:
        return not (self.hidden or self.dropped or self.making)


class Illegible(OSError):  # noqa: N818 - an error by its base; the name says which
    """There is a manifest, and it cannot be read: what is compacted cannot be found."""


def read(log_dir: Path) -> Manifest:
    """The manifest of a log; an empty one where nothing was compacted.

    Raises:
        Illegible: it is damaged, of a later version, not ours to read, or gone while its files are there.
    """
    path = log_dir / FILE_NAME
    try:
        with os.fdopen(os.open(path, READ), "rb") as file:
            told = json.load(file)
        _ = {VERSION: told}[told["version"]]  # a later version may mean something else by the same names
        return Manifest(
            tuple(File(**item) for item in told["files"]),
            frozenset((folder, name) for folder, name in told["hidden"]),
            tuple(map(str, told["dropped"])),
            Making(**told["making"]) if told["making"] else None,
        )
    except FileNotFoundError:
        if next((log_dir / DEFAULT_FOLDER).glob("date=*/*.parquet"), None) is not None:
            raise Illegible(f"{path} is gone: the Parquet files of this log are unknown") from None
        return Manifest()
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise Illegible(
            f"{path} cannot be read ({type(error).__name__}): the Parquet files of this log are unknown"
        ) from None


def write(log_dir: Path, manifest: Manifest) -> None:
    """Replace the manifest: from here on the log is what this one says, also after a loss of power."""
    path = log_dir / FILE_NAME
    beside = log_dir / f".{FILE_NAME}.{secrets.token_hex(4)}.new"
    told = {
        "version": VERSION,
        "files": [file._asdict() for file in manifest.files],
        "hidden": sorted(manifest.hidden),
        "dropped": list(manifest.dropped),
        "making": manifest.making and manifest.making._asdict(),
    }
    try:
        with os.fdopen(os.open(beside, NEW, 0o600), "wb") as file:
            file.write(json.dumps(told, indent=1).encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(log_dir)


def recover(log_dir: Path) -> Manifest:
    """Delete what is no part of the log, left by whoever was killed or has just ended. For the holder of its lock.

    Raises:
        OSError: something cannot be deleted, or the manifest is illegible.
    """
    manifest = read(log_dir)
    if manifest.is_settled:
        return manifest
    for left in log_dir.glob(f".{FILE_NAME}.*.new"):
        left.unlink(missing_ok=True)
    folders = {log_dir / folder for folder, _ in manifest.hidden}
    for folder, name in manifest.hidden:
        if not (log_dir / folder).is_symlink():
            (log_dir / folder / name).unlink(missing_ok=True)
    for each in folders:
        with contextlib.suppress(FileNotFoundError):
            sync_directory(each)  # or else a loss of power might bring them back, when nothing hides them any more
    remove_empty(folders)
    for path in manifest.dropped:
        remove(log_dir, path)
    if manifest.making:
        for path in made(log_dir, *manifest.making):
            remove(log_dir, path)
    settled = replace(manifest, hidden=frozenset(), dropped=(), making=None)
    write(log_dir, settled)
    return settled
