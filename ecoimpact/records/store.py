"""The index in SQLite: what it keeps, and the few ways in which it changes.

Rules that hold in this file: each change is one transaction, and each transaction leaves sums that belong to the offsets
beside them. Sums by month are always those of the days. Every row names the folder that it was counted from, so that one
folder can be forgotten without the others. Names of things are text from the log: values are always bound.
"""

# ruff: noqa: S608 - what is put into statements are names of columns, all of them constants

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from ecoimpact.records.buckets import DAY, HOUR, MONTH, first_day, month_of_day
from ecoimpact.records.folding import AMOUNTS, COUNTS, KEY, RECENT, SUMS, TOKENS, UNFILED, Pointer, Summed
from ecoimpact.records.listing import Segment
from ecoimpact.records.names import DIMENSIONS, EVERYTHING, NONE, OTHER, Names

VERSION: Final = 2
APPLICATION_ID: Final = 0x65636F69  # "ecoi"

_CACHE_KIB: Final = 32 * 1024
_BUSY_S: Final = 30.0
_MAX_CODES: Final = 200

_SCHEMA: Final = f"""
CREATE TABLE folder (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, first_day INTEGER, last_day INTEGER);
CREATE TABLE segment (
    id INTEGER PRIMARY KEY, folder INTEGER NOT NULL, name TEXT NOT NULL, inode TEXT NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, offset INTEGER NOT NULL, fingerprint INTEGER NOT NULL, records INTEGER NOT NULL,
    skipped INTEGER NOT NULL, torn INTEGER NOT NULL, UNIQUE (folder, name)
);
CREATE TABLE series (id INTEGER PRIMARY KEY, {", ".join(f"{name} TEXT NOT NULL" for name in DIMENSIONS)});
CREATE TABLE label (id INTEGER PRIMARY KEY, key TEXT, value TEXT, UNIQUE (key, value));
INSERT INTO label VALUES ({EVERYTHING}, NULL, NULL);
CREATE TABLE rollup (
    {", ".join(f"{name} INTEGER NOT NULL" for name in KEY)},
    {", ".join(f"{name} INTEGER NOT NULL" for name in COUNTS)},
    {", ".join(f"{name} {'INTEGER' if name in TOKENS else 'REAL'}" for name in AMOUNTS)},
    PRIMARY KEY ({", ".join(KEY)})
) WITHOUT ROWID;
CREATE TABLE code (
    kind TEXT NOT NULL, code TEXT NOT NULL, day INTEGER NOT NULL, series INTEGER NOT NULL, folder INTEGER NOT NULL,
    requests INTEGER NOT NULL, PRIMARY KEY (kind, code, day, series, folder)
) WITHOUT ROWID;
CREATE TABLE recent (
    time TEXT NOT NULL, segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (time, segment, offset)
) WITHOUT ROWID;
"""

SUM_COLUMNS: Final = ", ".join(f"sum({name})" for name in SUMS)
_UPSERT: Final = (
    f"INSERT INTO rollup VALUES ({', '.join('?' * (len(KEY) + len(SUMS)))}) "
    f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTS)
    + ", "
    + ", ".join(f"{name} = coalesce({name} + excluded.{name}, {name}, excluded.{name})" for name in AMOUNTS)
)


class Unusable(Exception):  # noqa: N818 - it is no error of anybody's: the index is made anew
    """The file is no index of this version, or damaged."""


class Store:
    """One connection. It can write inside ``writing()`` only.

    Raises:
        Unusable: what is in the file is no index of this version.
        sqlite3.OperationalError: the file cannot be opened or written.
    """

    def __init__(self, path: Path | None, *, create: bool = True) -> None:
        """``None``: in memory. ``create`` says that an empty file may be made an index: the lock is held."""
        self.connection = sqlite3.connect(
            path or ":memory:", timeout=_BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            self._prepare(create)
        except BaseException:
            self.connection.close()
            raise

    def _prepare(self, create: bool) -> None:
        execute = self.connection.execute
        try:
            execute("PRAGMA journal_mode=TRUNCATE")
            execute("PRAGMA synchronous=NORMAL")
            execute("PRAGMA secure_delete=ON")  # what was pruned from the log stays in no free page
            execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            if create and not execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                self._create()
            execute("PRAGMA query_only=ON")
            self._check()
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                raise Unusable from error
            raise

    def _check(self) -> None:
        execute = self.connection.execute
        found = (execute("PRAGMA application_id").fetchone()[0], execute("PRAGMA user_version").fetchone()[0])
        if found != (APPLICATION_ID, VERSION):
            raise Unusable

    def _create(self) -> None:
        self.connection.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION}; COMMIT;"
        )

    def copy_from(self, path: Path) -> None:
        """Take over what is in a file that can only be read."""
        source = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        with contextlib.closing(source), self.writing(transaction=False):
            source.backup(self.connection)
            self._check()

    def close(self) -> None:
        self.connection.close()

    @contextlib.contextmanager
    def writing(self, *, transaction: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it or nothing."""
        self.connection.execute("PRAGMA query_only=OFF")
        try:
            if transaction:
                self.connection.execute("BEGIN IMMEDIATE")
            yield self.connection
            if transaction:
                self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        finally:
            self.connection.execute("PRAGMA query_only=ON")

    # What is there

    def segments(self) -> dict[tuple[str, str], Segment]:
        """All segments that are folded, by folder and name."""
        rows = self.connection.execute(
            "SELECT f.name, s.name, s.id, s.folder, s.inode, s.size, s.mtime_ns, s.offset, s.fingerprint, s.records, "
            "s.skipped, s.torn FROM segment s JOIN folder f ON f.id = s.folder"
        )
        return {(row[0], row[1]): Segment(*row) for row in rows}

    def folders(self) -> dict[str, int]:
        return dict(self.connection.execute("SELECT name, id FROM folder"))

    def names(self) -> Names:
        series = self.connection.execute(f"SELECT id, {', '.join(DIMENSIONS)} FROM series")
        labels = self.connection.execute("SELECT id, key, value FROM label WHERE id <> ?", (EVERYTHING,))
        return Names(((row[0], tuple(row[1:])) for row in series), labels.fetchall())

    def recent_after(self) -> str:
        """What the time of a record must exceed to be one of the newest; empty while there is room."""
        number, oldest = self.connection.execute("SELECT count(*), min(time) FROM recent").fetchone()
        return oldest if number >= RECENT else ""

    # What changes it

    def add(self, summed: Summed, names: Names, segments: Collection[Segment]) -> None:
        """Commit the sums over a chunk, and how far its segments are folded with them."""
        with self.writing() as connection:
            connection.executemany(
                f"INSERT INTO series VALUES ({', '.join('?' * (1 + len(DIMENSIONS)))})",
                [(number, *values) for number, values in names.new_series],
            )
            connection.executemany("INSERT INTO label VALUES (?, ?, ?)", names.new_labels)
            for number, _, value in names.new_labels:
                if value == NONE:
                    _count_all_under(connection, number)
            connection.executemany(_UPSERT, summed.rollups)
            self._add_codes(connection, summed.codes)
            self._add_recent(connection, summed.newest)
            for segment in segments:
                _put_segment(connection, segment)
            connection.executemany(
                "UPDATE folder SET first_day = min(coalesce(first_day, :first), :first), "
                "last_day = max(coalesce(last_day, :last), :last) WHERE id = :folder",
                [{"folder": folder, "first": first, "last": last} for folder, (first, last) in summed.days.items()],
            )
        names.new_series.clear()
        names.new_labels.clear()

    def _add_codes(self, connection: sqlite3.Connection, codes: dict[tuple[str, str, int, int, int], int]) -> None:
        known = set(connection.execute("SELECT DISTINCT kind, code FROM code"))
        for (kind, code, *key), number in codes.items():
            if (kind, code) not in known and len(known) >= _MAX_CODES:
                code = OTHER  # noqa: PLW2901
            known.add((kind, code))
            connection.execute(
                "INSERT INTO code VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET requests = requests + excluded.requests",
                (kind, code, *key, number),
            )

    def _add_recent(self, connection: sqlite3.Connection, newest: list[Pointer]) -> None:
        connection.executemany("INSERT OR REPLACE INTO recent VALUES (?, ?, ?, ?)", newest)
        connection.execute(
            "DELETE FROM recent WHERE (time, segment, offset) IN (SELECT time, segment, offset FROM recent "
            f"ORDER BY time DESC, segment DESC, offset DESC LIMIT -1 OFFSET {RECENT})"
        )

    def pointed_at(self) -> dict[tuple[int, int], str]:
        """The newest records: the number of the segment and the offset, and when they began."""
        rows = self.connection.execute("SELECT segment, offset, time FROM recent")
        return {(segment, offset): time for segment, offset, time in rows}

    def next_segment(self) -> int:
        """A number that no segment has."""
        return int(self.connection.execute("SELECT coalesce(max(id), 0) + 1 FROM segment").fetchone()[0])

    def move(
        self, gone: Collection[Segment], come: Collection[Segment], moved: Mapping[tuple[str, int, int], tuple[int, int]]
    ) -> None:
        """Have segments give way to the files of their folder that their records are in now: no sum changes with that.

        ``moved`` says of each record that is pointed at when it began and where it was, segment and offset, and where it
        is now: file and row.
        """
        with self.writing() as connection:
            connection.executemany(
                "UPDATE recent SET segment = ?, offset = ?, length = 0 WHERE time = ? AND segment = ? AND offset = ?",
                [(*there, *here) for here, there in moved.items()],
            )
            for segment in gone:
                connection.execute("DELETE FROM recent WHERE segment = ?", (segment.id,))
                connection.execute("DELETE FROM segment WHERE id = ?", (segment.id,))
            for segment in come:
                _put_segment(connection, segment)

    def forget(self, folders: Collection[int]) -> None:
        """Take out all that was counted from some folders: what is still there will be folded anew."""
        if not folders:
            return
        with self.writing() as connection:
            months: set[int] = set()
            for folder in folders:
                months |= _forget_folder(connection, folder)
            for month in months:
                _sum_month(connection, month)
            _forget_names(connection)

    def clear(self) -> None:
        """Take out everything."""
        with self.writing() as connection:
            for table in ("folder", "segment", "series", "rollup", "code", "recent"):
                connection.execute(f"DELETE FROM {table}")
            connection.execute("DELETE FROM label WHERE id <> ?", (EVERYTHING,))


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is broken, and not the disk or the way to it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether somebody read the file for longer than one would wait."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _put_segment(connection: sqlite3.Connection, segment: Segment) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO folder (id, name) VALUES (?, ?)",
        (segment.folder_id, segment.folder),
    )
    connection.execute(
        "INSERT OR REPLACE INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            segment.id,
            segment.folder_id,
            segment.name,
            segment.inode,
            segment.size,
            segment.mtime_ns,
            segment.offset,
            segment.fingerprint,
            segment.records,
            segment.skipped,
            segment.torn,
        ),
    )


def _count_all_under(connection: sqlite3.Connection, label: int) -> None:
    """A key is new: none of the records up to now has it."""
    connection.execute(
        f"INSERT INTO rollup SELECT level, ?, bucket, series, folder, {', '.join(SUMS)} FROM rollup "
        "WHERE level IN (?, ?) AND label = ?",
        (label, DAY, MONTH, EVERYTHING),
    )


def _forget_folder(connection: sqlite3.Connection, folder: int) -> set[int]:
    """The months that have to be summed up anew."""
    found = connection.execute("SELECT first_day, last_day FROM folder WHERE id = ?", (folder,)).fetchone()
    connection.execute("DELETE FROM recent WHERE segment IN (SELECT id FROM segment WHERE folder = ?)", (folder,))
    connection.execute("DELETE FROM segment WHERE folder = ?", (folder,))
    connection.execute("DELETE FROM folder WHERE id = ?", (folder,))
    if found is None or found[0] is None:
        return set()
    first, last = found
    days = connection.execute(
        "SELECT DISTINCT bucket FROM rollup WHERE level = ? AND label = ? AND bucket BETWEEN ? AND ? AND folder = ?",
        (DAY, EVERYTHING, first, last, folder),
    ).fetchall()
    # With all labels named, each is found by the key of the table, without reading the rest of it.
    connection.execute(
        "DELETE FROM rollup WHERE level = ? AND label = ? AND bucket BETWEEN ? AND ? AND folder = ?",
        (HOUR, EVERYTHING, 24 * first, 24 * last + 23, folder),
    )
    connection.execute(
        "DELETE FROM rollup WHERE level = ? AND label IN (SELECT id FROM label) AND bucket BETWEEN ? AND ? AND folder = ?",
        (DAY, first, last, folder),
    )
    connection.execute("DELETE FROM code WHERE folder = ?", (folder,))
    return {month_of_day(day) for (day,) in days}


def _sum_month(connection: sqlite3.Connection, month: int) -> None:
    everyone = "label IN (SELECT id FROM label)"
    connection.execute(f"DELETE FROM rollup WHERE level = ? AND {everyone} AND bucket = ?", (MONTH, month))
    connection.execute(
        f"INSERT INTO rollup SELECT ?, label, ?, series, ?, {SUM_COLUMNS} FROM rollup "
        f"WHERE level = ? AND {everyone} AND bucket BETWEEN ? AND ? GROUP BY label, series",
        (MONTH, month, UNFILED, DAY, first_day(month), first_day(month + 1) - 1),
    )


def _forget_names(connection: sqlite3.Connection) -> None:
    """Make room for new names, and leave none in the file that is no longer in the log."""
    used = "EXISTS (SELECT 1 FROM rollup WHERE level = ? AND label = label.id)"
    connection.execute(f"DELETE FROM label WHERE id <> ? AND value <> '(none)' AND NOT {used}", (EVERYTHING, MONTH))
    unused_keys = "SELECT key FROM label GROUP BY key HAVING max(value) = '(none)' AND min(value) = '(none)'"
    connection.execute(
        f"DELETE FROM rollup WHERE level IN (?, ?) AND label IN (SELECT id FROM label WHERE key IN ({unused_keys}))",
        (DAY, MONTH),
    )
    connection.execute(f"DELETE FROM label WHERE key IN ({unused_keys})")
    connection.execute(
        "DELETE FROM series WHERE id NOT IN (SELECT series FROM rollup WHERE level = ? AND label = ?)", (MONTH, EVERYTHING)
    )
