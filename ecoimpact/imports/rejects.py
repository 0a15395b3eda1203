"""Rows that were turned away, written aside: where, why and by which field; the row itself where somebody asks for it.

Rule of this file: without being asked it writes nothing that stood in a row.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import IO, Any, Final

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL
for _name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):  # some do not exist on every system
    _FLAGS |= getattr(os, _name, 0)

MAX_ROW_CHARS: Final = 100_000


class Rejects:
    """JSON Lines with ``file``, ``line``, ``reason``, ``field``, and ``row`` with ``keep_rows``.

    The file is made when the first row is turned away, for its owner only, where there is none yet.
    """

    def __init__(self, path: Path, *, keep_rows: bool = False) -> None:
        self.path = path
        self._keep_rows = keep_rows
        self._file: IO[str] | None = None

    def add(self, file: str, line: int, reason: str, field: str | None = None, row: Any = None) -> None:
        """Note a row.

        Raises:
            OSError: the file cannot be written.
        """
        if self._file is None:
            self._file = os.fdopen(os.open(self.path, _FLAGS, 0o600), "w", encoding="utf-8", errors="backslashreplace")
        told: dict[str, Any] = {"file": file, "line": line, "reason": reason, "field": field}
        if self._keep_rows and row is not None:
            written = json.dumps(row, default=str)
            told["row"] = row if len(written) <= MAX_ROW_CHARS else written[:MAX_ROW_CHARS]
        self._file.write(json.dumps(told, default=str) + "\n")

    def close(self) -> None:
        if self._file is not None:
            with contextlib.closing(self._file):
                self._file.flush()
