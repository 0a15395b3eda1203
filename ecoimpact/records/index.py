"""An index of the log: how much of each segment is counted, and the sums over it.

Rules that hold in this file:

- The index is a function of the segments, of the Parquet files that others became, and of nothing else. It may be deleted
  at any time; what is damaged, or of another version, is made anew.
- Lines are counted once each, by their offset, and only whole ones; rows likewise. Sums and offsets change in one
  transaction, so a process that is killed leaves nothing half done.
- A segment that shrank, was replaced, rewritten or deleted makes the index forget its folder and count that anew. So does
  a Parquet file; one that cannot be read counts as so many skipped lines.
- One process at a time changes the index. Where the directory cannot be written, the index lives in memory.
- Links are never followed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, TypeAlias, TypeVar
from weakref import WeakSet

from ecoimpact.records import compact_manifest
from ecoimpact.records.compact_manifest import File
from ecoimpact.records.compact_places import state
from ecoimpact.records.compact_rows import Unreadable, has_pyarrow, read_rows, said_unreadable
from ecoimpact.records.folding import READ, Chunk, whole_lines
from ecoimpact.records.listing import Segment, fingerprint, inode_of, is_rewritten, is_untouched, listed, open_segment
from ecoimpact.records.lock import FileLock
from ecoimpact.records.segments import NEW_SUFFIX
from ecoimpact.records.store import Store, Unusable, is_busy, is_damage

T = TypeVar("T")

FILE_NAME: Final = "index.sqlite"
LOCK_NAME: Final = ".index.lock"

UNFINISHED: Final = -1
"""The time of change of what is not counted to its end yet."""
PARQUET: Final = "parquet"
"""Stands where a segment has its inode."""
_NO_PYARROW: Final = -2
"""The size of a Parquet file that could not be read for want of pyarrow."""

CHUNK_BYTES: Final = 32 * 2**20
CHUNK_RECORDS: Final = 40_000

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL
for _name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY", "O_NONBLOCK"):  # some do not exist on every system
    _CREATE |= getattr(os, _name, 0)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run got: bytes of the log, and records in them."""

    bytes_done: int
    bytes_total: int
    records: int


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh did.

    ``records`` and ``bytes`` are those newly counted. Unless ``up_to_date``, another process was at work for longer than
    one would wait, and the figures may lag. Unless ``persistent``, the directory cannot be written, and the index lives in
    the memory of this process.
    """

    records: int
    bytes: int
    up_to_date: bool
    persistent: bool


class Index:
    """The index of the log in ``log_dir``. A context manager; may be used from several threads.

    Until the first ``refresh()``, figures are those of the index as it was left; nothing where there was none.

    Raises:
        FileNotFoundError: there is no such directory.
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        self.log_dir = Path(log_dir).absolute()
        if not self.log_dir.is_dir():
            raise FileNotFoundError(f"no log in {self.log_dir}: there is no such directory")
        self._path = self.log_dir / FILE_NAME
        self._file_lock = FileLock(self.log_dir / LOCK_NAME)
        self._identity: tuple[int, int] | None = None
        self._store: Store | None = None
        self._persistent = True
        self._held = 0
        self._renew_locks()
        _open_indexes.add(self)

    def _renew_locks(self) -> None:
        self._changing = threading.RLock()  # a whole run of refresh, rebuild or prune
        self._using = threading.RLock()  # the connection

    # For people and programs

    def refresh(
        self,
        *,
        wait_s: float = 10.0,
        progress: Callable[[Progress], object] | None = None,
        pause: Callable[[], object] | None = None,
    ) -> Refreshed:
        """Count what is new in the log.

        ``wait_s`` is how long to wait for another process that does the same. ``progress`` hears from it now and then;
        ``pause`` is called after every few hundred records: the background thread of a host yields there.
        """
        with self.exclusive(wait_s) as held:
            if held:
                with contextlib.suppress(TimeoutError):
                    return self._repairing(lambda: _Run(self, progress, pause).fold())
            return Refreshed(0, 0, up_to_date=False, persistent=self._persistent)

    def rebuild(self, *, progress: Callable[[Progress], object] | None = None) -> Refreshed:
        """Count everything anew.

        Raises:
            TimeoutError: another process is changing the index.
        """
        with self.exclusive() as held:
            if not held:
                raise TimeoutError(f"another process is changing {self._path}")
            self._throw_away()
            return self.refresh(progress=progress)

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What ``work`` makes of the index as it is at one moment. A damaged one is made anew first."""
        try:
            return self._read(work)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
        self.rebuild()
        return self._read(work)

    @property
    def is_locked(self) -> bool:
        """Whether no other process can change the log: inside ``exclusive``, unless there can be no lock file."""
        return self._file_lock.is_held

    @property
    def connection(self) -> sqlite3.Connection:
        """A connection that cannot write. For one thread at a time; ``read`` is for several."""
        return self.store.connection

    def close(self) -> None:
        with self._using:
            store, self._store = self._store, None
            if store is not None:
                store.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # For this room

    @contextlib.contextmanager
    def exclusive(self, wait_s: float = 10.0) -> Iterator[bool]:
        """Change the index, and rewrite the log, as the only one. Whether that was granted within ``wait_s``."""
        if not self._changing.acquire(timeout=max(wait_s, 0.0)):
            yield False
            return
        try:
            if not self._held and not self._lock_file(wait_s):
                yield False
                return
            self._held += 1
            try:
                yield True
            finally:
                self._held -= 1
                if not self._held:
                    self._file_lock.release()
        finally:
            self._changing.release()

    def change(self, work: Callable[[Store], T]) -> T:
        """Have the store changed, by whoever is inside ``exclusive``."""
        with self._using:
            return work(self.store)

    @property
    def store(self) -> Store:
        with self._using:
            if self._store is None:
                self._store = self._open_as_found()
            return self._store

    def forget(self, folders: set[str]) -> None:
        """Take out what was counted from these folders; the next refresh counts what is in them then.

        Raises:
            TimeoutError: a reader blocks the index.
        """

        def forget(store: Store) -> None:
            known = store.folders()
            store.forget([known[name] for name in folders if name in known])

        self._repairing(lambda: self.change(forget))

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._using:
            connection = self.store.connection
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _lock_file(self, wait_s: float) -> bool:
        try:
            held = self._file_lock.acquire(wait_s)
        except OSError:
            held, self._persistent = True, False
        if held:
            with self._using:
                self._open()
        return held

    def _repairing(self, work: Callable[[], T]) -> T:
        """What is damaged is made anew; what cannot be written is held in memory."""
        for _ in range(2):
            try:
                return work()
            except sqlite3.DatabaseError as error:
                if is_damage(error):
                    self._throw_away()
                elif is_busy(error):
                    raise TimeoutError(f"somebody is reading {self._path} without an end") from error
                elif self._persistent and isinstance(error, sqlite3.OperationalError):
                    self.close()
                    self._persistent = False
                    self._open()
                else:
                    raise
        return work()

    def _open(self) -> None:
        """Have a store that is the file's, or one in memory."""
        if self._store is not None and not self._persistent:
            return
        if self._store is not None and self._identity is not None and self._identity == _identity(self._path):
            return
        self.close()
        if self._persistent:
            try:
                self._store = self._open_file()
            except (OSError, sqlite3.Error):
                self._persistent = False
        if self._store is None:
            self._store = self._open_in_memory()

    def _open_file(self) -> Store:
        for _ in range(2):
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._path, _CREATE, 0o600))
            if not stat.S_ISREG(self._path.lstat().st_mode):
                raise OSError(f"{self._path} is no regular file")
            try:
                store = Store(self._path)
            except Unusable:
                self._delete()
            else:
                self._identity = _identity(self._path)
                return store
        raise OSError(f"{self._path} cannot be made")

    def _open_in_memory(self) -> Store:
        store = Store(None)
        if _identity(self._path) is not None:
            try:
                store.copy_from(self._path)
            except (sqlite3.Error, Unusable):
                store.close()
                store = Store(None)
        return store

    def _open_as_found(self) -> Store:
        """For reading, without a lock: nothing is made and nothing repaired."""
        self._identity = _identity(self._path)
        if self._identity is not None:
            with contextlib.suppress(sqlite3.Error, Unusable):
                return Store(self._path, create=False)
        self._identity = None
        return Store(None)

    def _throw_away(self) -> None:
        with self._using:
            self.close()
            if self._persistent:
                try:
                    self._delete()
                except OSError:
                    self._persistent = False
            self._open()
            if not self._persistent:
                self.store.clear()

    def _delete(self) -> None:
        self._path.unlink(missing_ok=True)
        self._path.with_name(f"{FILE_NAME}-journal").unlink(missing_ok=True)

    # In a forked child: locks and connections are the parent's. No transaction is open then, see below, so that closing
    # the child's copy of a connection changes nothing in the file.

    def _renew(self) -> None:
        self._file_lock.forget()
        self._held = 0
        self._renew_locks()
        self._store = None


@contextlib.contextmanager
def alone(log_dir: str | os.PathLike[str]) -> Iterator[Index]:
    """The index of a log, for the only one who changes the log; what others left half done is made whole first.

    Raises:
        FileNotFoundError: there is no such directory.
        OSError: something in it cannot be deleted.
        TimeoutError: another process is changing the index.
    """
    with Index(log_dir) as index, index.exclusive() as granted:
        if not granted:
            raise TimeoutError(f"another process is changing the index of {index.log_dir}")
        if index.is_locked:
            compact_manifest.recover(index.log_dir)
        for left in index.log_dir.glob(f"*/.*{NEW_SUFFIX}"):
            left.unlink(missing_ok=True)
        yield index


_Source: TypeAlias = tuple[Path, str] | File
"""A segment and its inode, or a Parquet file."""


def _goes_on(log_dir: Path, file: File, segment: Segment) -> bool:
    """Whether a Parquet file is still the one of which so many rows are counted."""
    if segment.size == _NO_PYARROW:
        return not has_pyarrow()
    return segment.mtime_ns == UNFINISHED or (segment.size, segment.mtime_ns) == state(log_dir, file.path, file.bytes)


class _Run:
    """One refresh."""

    def __init__(
        self, index: Index, progress: Callable[[Progress], object] | None, pause: Callable[[], object] | None
    ) -> None:
        self._index = index
        self._progress = progress
        self._pause = pause
        self._records = 0
        self._bytes = 0
        self._total = 0

    def fold(self) -> Refreshed:
        index = self._index
        todo = self._find()
        self._names = index.change(Store.names)
        self._chunk = Chunk(self._names, index.change(Store.recent_after))
        self._folded: dict[int, Segment] = {}
        self._chunk_bytes = 0
        for source, segment in todo:
            if isinstance(source, File):
                self._fold_file(source, segment)
                continue
            path, inode = source
            try:
                file = open_segment(path)
            except OSError:  # deleted meanwhile, or not ours to read: the next refresh tries again
                continue
            with file:
                status = os.fstat(file.fileno())
                if inode_of(status) == inode:  # else it was replaced meanwhile
                    self._fold_segment(file, segment, status)
        if self._folded:
            self._commit()
        return Refreshed(self._records, self._bytes, up_to_date=True, persistent=index._persistent)

    def _find(self) -> list[tuple[_Source, Segment]]:
        """What has something new in it; the index forgets folders where anything else changed."""
        index = self._index
        there = listed(index.log_dir)
        known = index.change(Store.segments)
        changed = {
            folder
            for (folder, name), segment in known.items()
            if not (
                _goes_on(index.log_dir, there.files[folder, name], segment)
                if (folder, name) in there.files
                else (folder, name) in there.segments and not is_rewritten(segment, *there.segments[folder, name])
            )
        }
        if changed:
            index.forget(changed)
        folders = index.change(Store.folders)
        number_of = _numbers(folders.values())
        segment_number = _numbers(segment.id for segment in known.values())
        todo: list[tuple[_Source, Segment]] = []
        for folder, name in (*there.files, *there.segments):
            segment = known.get((folder, name)) if folder not in changed else None
            if segment is None:
                folder_id = folders[folder] if folder in folders else folders.setdefault(folder, next(number_of))
                segment = Segment(folder, name, next(segment_number), folder_id)
            file = there.files.get((folder, name))
            if file is not None:
                if segment.mtime_ns == UNFINISHED or not segment.inode:
                    self._total += file.bytes
                    todo.append((file, segment))
                continue
            path, status = there.segments[folder, name]
            if not is_untouched(segment, status):
                self._total += max(status.st_size - segment.offset, 0)
                todo.append(((path, inode_of(status)), segment))
        return todo

    def _fold_file(self, file: File, segment: Segment) -> None:
        """Count the rows of a Parquet file. It never changes, so what was counted of one that is damaged holds as well."""
        log_dir = self._index.log_dir
        now = state(log_dir, file.path, file.bytes)
        segment.inode = PARQUET
        try:
            for rows in read_rows(log_dir, file, columns=READ, start=segment.offset):
                records, skipped = self._chunk.take(
                    rows, folder=segment.folder_id, segment=segment.id, first=segment.offset
                )
                segment.records += records
                segment.skipped += skipped
                segment.offset += len(rows)
                self._records += records
                self._bytes += file.bytes * len(rows) // max(file.records, 1)
                if self._chunk.records >= CHUNK_RECORDS:
                    segment.size, segment.mtime_ns = segment.offset, UNFINISHED
                    self._folded[segment.id] = segment
                    self._commit()
                if self._pause is not None:
                    self._pause()
        except Unreadable as error:
            lost = max(file.records - segment.offset, 1)
            segment.skipped += lost
            said_unreadable(error, lost)
            now = now if has_pyarrow() else (_NO_PYARROW, 0)
        segment.size, segment.mtime_ns = now
        self._folded[segment.id] = segment

    def _fold_segment(self, file: BinaryIO, segment: Segment, status: os.stat_result) -> None:
        segment.inode = inode_of(status)
        for block, end in whole_lines(file, segment.offset, status.st_size):
            if block is None:
                segment.skipped += 1
            else:
                records, skipped = self._chunk.feed(
                    block, folder=segment.folder_id, segment=segment.id, offset=segment.offset
                )
                segment.records += records
                segment.skipped += skipped
                self._records += records
            self._bytes += end - segment.offset
            self._chunk_bytes += end - segment.offset
            segment.offset = end
            if self._chunk_bytes >= CHUNK_BYTES or self._chunk.records >= CHUNK_RECORDS:
                # Neither size nor time are those of the file: should this process die, the next looks at it again.
                segment.size, segment.mtime_ns = segment.offset, UNFINISHED
                segment.fingerprint = fingerprint(file, segment.offset)
                self._folded[segment.id] = segment
                self._commit()
            if self._pause is not None:
                self._pause()
        segment.size, segment.mtime_ns = status.st_size, status.st_mtime_ns
        segment.torn = segment.offset < status.st_size
        segment.fingerprint = fingerprint(file, segment.offset)
        self._folded[segment.id] = segment

    def _commit(self) -> None:
        summed = self._chunk.summed()
        self._index.change(lambda store: store.add(summed, self._names, self._folded.values()))
        self._folded.clear()
        self._chunk_bytes = 0
        self._chunk.start()
        if self._progress is not None:
            self._progress(Progress(self._bytes, self._total, self._records))


def _numbers(taken: Iterable[int]) -> Iterator[int]:
    return itertools.count(max(taken, default=0) + 1)


def _identity(path: Path) -> tuple[int, int] | None:
    """``None`` where there is no regular file."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


# SQLite's connections must not pass into a forked child in the middle of a transaction: the child's end would roll it back
# under the parent's feet. So a fork waits for the commit of the moment, which takes a fraction of a second.

_open_indexes: WeakSet[Index] = WeakSet()
_held_for_fork: list[Any] = []


def _before_fork() -> None:
    for lock in [index._using for index in list(_open_indexes)]:
        lock.acquire()  # whoever holds it waits for nobody else
        _held_for_fork.append(lock)


def _after_in_parent() -> None:
    while _held_for_fork:
        _held_for_fork.pop().release()


def _after_in_child() -> None:
    _held_for_fork.clear()
    for index in list(_open_indexes):
        index._renew()


if hasattr(os, "register_at_fork"):  # absent on Windows, which has no fork
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
