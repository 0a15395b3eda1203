"""Reading the log back, whatever state a crash or a stranger left it in."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_LINE_BYTES = 2**20


class RecordReader(Iterator[dict[str, Any]]):
    """The records of a log, segment by segment in the order of their names, each as the flat dict that was written.

    ``skipped`` counts the lines that are no record: torn by a crash, longer than ``MAX_LINE_BYTES``, or not ours.
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        self.log_dir = Path(log_dir)
        self.skipped = 0
        if not self.log_dir.is_dir():
            raise FileNotFoundError(f"no log in {self.log_dir}: there is no such directory")
        self._records = self._read()

    def __next__(self) -> dict[str, Any]:
        return next(self._records)

    def _read(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self.log_dir.glob("*/*.jsonl")):
            if path.is_symlink() or not path.is_file():
                continue  # the writer makes none; following one could lead anywhere
            with path.open("rb") as segment:
                yield from self._segment(segment)

    def _segment(self, segment: Any) -> Iterator[dict[str, Any]]:
        while line := segment.readline(MAX_LINE_BYTES):
            record = None
            if line.endswith(b"\n") or len(line) < MAX_LINE_BYTES:
                record = _parse(line)
            else:
                while (rest := segment.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
            if record is None:
                self.skipped += 1
            else:
                yield record


def read_records(log_dir: str | os.PathLike[str]) -> RecordReader:
    """Every record in ``log_dir``; segments may be growing meanwhile.

    Raises:
        FileNotFoundError: there is no such directory.
    """
    return RecordReader(log_dir)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("schema"), int) else None
