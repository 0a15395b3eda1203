"""What was imported into a log: the ids of its records, in ``imported.sqlite`` beside the segments.

Rules that hold in this file: one import at a time writes to a log; ids are noted after their records are on the disk.
So a run that is killed leaves at most records without a note: the next one looks for them in the segments of that run,
which have the number of its process in their names, before it begins. Ids are digests, and there is nothing else in the
file. Whoever deletes it can import everything again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from ecoimpact.imports.making import SOURCE_LABEL
from ecoimpact.records import listing
from ecoimpact.records.lock import FileLock
from ecoimpact.records.reader import MAX_LINE_BYTES, parse, read_records

FILE_NAME: Final = "imported.sqlite"
LOCK_NAME: Final = "imported.lock"

_APPLICATION_ID: Final = 0x65636F6A
_VERSION: Final = 1
_AT_ONCE: Final = 500
_CREATE = os.O_RDWR | os.O_CREAT
for _name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):  # some do not exist on every system
    _CREATE |= getattr(os, _name, 0)


class Ledger:
    """Which records of a log came by imports. To be used in a ``with`` block, by one process at a time.

    Raises:
        TimeoutError: another import into the same log is running.
        OSError: the directory or the file cannot be written.
        ValueError: there is a file of that name that is something else, or of a later version.
    """

    def __init__(self, log_dir: Path) -> None:
        self.log_dir = log_dir
        log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FileLock(log_dir / LOCK_NAME)
        if not self._lock.acquire(0.0):
            raise TimeoutError(f"another import into {log_dir} is running")
        try:
            self._connection = self._connect(log_dir / FILE_NAME)
            try:
                self._take_up()
            except BaseException:
                self._connection.close()
                raise
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:  # what was begun and not ended is looked at by the next one
            self._connection.execute("DELETE FROM run")
        self._connection.close()
        self._lock.release()

    def known(self, ids: Iterable[str]) -> set[str]:
        """Those of the ids that are in the log, or were."""
        wanted = [bytes.fromhex(each) for each in ids]
        found: set[str] = set()
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = self._connection.execute(f"SELECT id FROM imported WHERE id IN ({marks})", some)  # noqa: S608 - marks alone
            found.update(row[0].hex() for row in rows)
        return found

    def add(self, ids: Iterable[str]) -> None:
        """Note ids whose records are on the disk."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            rows = ((bytes.fromhex(each),) for each in ids)
            self._connection.executemany("INSERT OR IGNORE INTO imported VALUES (?)", rows)
        except BaseException:
            execute("ROLLBACK")
            raise
        execute("COMMIT")

    def _connect(self, path: Path) -> sqlite3.Connection:
        os.close(os.open(path, _CREATE, 0o600))
        connection = sqlite3.connect(path, isolation_level=None, timeout=30.0)
        try:
            _prepare(connection)
        except sqlite3.OperationalError as error:
            connection.close()
            raise OSError(f"{path}: {error}") from None
        except (sqlite3.DatabaseError, ValueError) as error:
            connection.close()
            raise ValueError(f"{path} is no ledger of imports of this version, or damaged: {error}") from None
        return connection

    def _take_up(self) -> None:
        """Note what a run that did not end wrote last, and begin one."""
        execute = self._connection.execute
        for process, begun in execute("SELECT process, begun FROM run").fetchall():
            self.add(self._written_by(process, begun))
        execute("DELETE FROM run")
        execute("INSERT INTO run VALUES (?, ?)", (os.getpid(), time.time()))

    def _written_by(self, process: int, begun: float) -> Iterator[str]:
        """Ids of imported records that the process may have written."""
        if time.time() - begun > listing.QUIET_S:  # they may have become Parquet
            records: Iterator[dict[str, Any]] = read_records(self.log_dir)
        else:
            records = self._in_segments_of(process)
        for record in records:
            labels, written = record.get("labels"), record.get("id")
            if isinstance(labels, dict) and SOURCE_LABEL in labels and isinstance(written, str):
                with contextlib.suppress(ValueError):  # a stranger's
                    yield bytes.fromhex(written).hex()

    def _in_segments_of(self, process: int) -> Iterator[dict[str, Any]]:
        for (_, name), (path, _) in listing.segments(self.log_dir).items():
            if name.split("-")[1:2] == [str(process)]:
                with path.open("rb") as file:
                    while line := file.readline(MAX_LINE_BYTES):
                        record = parse(line)
                        if record is not None:
                            yield record


def _prepare(connection: sqlite3.Connection) -> None:
    if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        connection.executescript(
            "BEGIN; CREATE TABLE imported (id BLOB PRIMARY KEY) WITHOUT ROWID;"
            "CREATE TABLE run (process INTEGER, begun REAL);"
            f"PRAGMA application_id={_APPLICATION_ID}; PRAGMA user_version={_VERSION}; COMMIT;"
        )
    found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    if found != [_APPLICATION_ID, _VERSION]:
        raise ValueError(f"it says {found}")
    connection.execute("PRAGMA synchronous=FULL")
