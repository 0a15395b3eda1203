"""The index of the log, kept up to date while somebody looks.

Rules that hold in this file: a request never waits for the log to be read; one question at a time, and none for longer than
``LIMIT_S``; a version names what the index holds, so that nothing is asked twice.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from ecoimpact.records.index import Index

T = TypeVar("T")

LIMIT_S: Final = 10.0
LOOK_S: Final = 2.0
"""Between two looks at the log."""
IDLE_S: Final = 120.0
"""So long after the last request the log is left alone."""
_STEPS: Final = 20_000


class TooLong(Exception):  # noqa: N818 - it is the answer to a request
    """A question took longer than ``LIMIT_S``."""


class Live:
    """One index, one thread that refreshes it, and many who ask."""

    def __init__(self, log_dir: Path, *, limit_s: float = LIMIT_S) -> None:
        self.index = Index(log_dir)
        self._limit_s = limit_s
        self._asking = threading.Lock()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._asked_at = time.monotonic()
        self._nonce = secrets.token_hex(4)
        self._connection: sqlite3.Connection | None = None
        self._epoch = 0
        self.lagging = False

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="ecoimpact-dashboard", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(LIMIT_S)
        self.index.close()

    def refresh(self) -> None:
        """Count what is new. What stands in the way is tried again at the next look."""
        with contextlib.suppress(OSError, sqlite3.Error, TimeoutError):
            self.lagging = not self.index.refresh(wait_s=0.2).up_to_date

    def version(self) -> str:
        """Changes whenever the index does, whoever changes it."""
        self._asked_at = time.monotonic()
        self._wake.set()

        def ask(connection: sqlite3.Connection) -> str:
            if connection is not self._connection:
                self._connection = connection
                self._epoch += 1
            others = connection.execute("PRAGMA data_version").fetchone()[0]
            return f"{self._nonce}-{self._epoch}-{others}-{connection.total_changes}"

        return self.index.read(ask)

    def ask(self, work: Callable[[Index], T]) -> T:
        """What ``work`` makes of the index at one moment.

        Raises:
            TooLong: it was interrupted.
        """
        with self._asking:
            me, deadline = threading.get_ident(), time.monotonic() + self._limit_s

            def is_late() -> bool:  # the refreshing thread uses the same connection, and may take its time
                return threading.get_ident() == me and time.monotonic() > deadline

            connection = self.index.connection
            connection.set_progress_handler(is_late, _STEPS)
            try:
                return self._at_one_moment(work)
            except sqlite3.OperationalError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_INTERRUPT:
                    raise TooLong from None
                raise
            finally:
                with contextlib.suppress(sqlite3.ProgrammingError):  # closed meanwhile
                    connection.set_progress_handler(None, 0)

    def _at_one_moment(self, work: Callable[[Index], T]) -> T:
        """What changes between two statements is asked again; what changes all the time, not for ever."""
        for _ in range(2):
            before = self.version()
            found = work(self.index)
            if self.version() == before:
                return found
        return work(self.index)

    def _run(self) -> None:
        while not self._ending.is_set():
            if time.monotonic() - self._asked_at > IDLE_S:
                self._wake.clear()
                self._wake.wait()
            if not self._ending.is_set():
                self.refresh()
            self._ending.wait(LOOK_S)
