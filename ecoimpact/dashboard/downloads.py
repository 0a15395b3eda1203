"""Rows to take away: the records of a view as CSV, JSON Lines or Parquet.

They are written into a nameless file of this user first, whatever the size of the log, and then sent.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from typing import IO, Final

from ecoimpact.dashboard.asked import Asked, Refused, whole
from ecoimpact.dashboard.live import Live
from ecoimpact.dashboard.requests import passes
from ecoimpact.records import queries
from ecoimpact.records.export import export
from ecoimpact.records.reader import read_records

TYPES: Final = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
MAX_RECORDS: Final = 1_000_000
"""Beyond, ``ecoimpact export`` is the better way."""
_AT_ONCE: Final = threading.BoundedSemaphore(2)
_PIECE: Final = 1 << 18


class Busy(Exception):  # noqa: N818 - it is the answer to a request
    """Enough is being written already."""


def records_file(live: Live, asked: Asked, format: str, *, most: int = MAX_RECORDS) -> IO[bytes]:  # noqa: A002
    """The records that the view's figures are of, as a file at its beginning.

    Raises:
        Refused: there are more than ``most``, or no pyarrow for Parquet.
        Busy: two are being written.
    """

    where = whole(asked)
    number = live.ask(lambda index: queries.total(index, where)).requests
    if number > most:
        raise Refused(
            f"{number:,} records are more than the {most:,} that are sent from here: choose a shorter period, or use "
            f"ecoimpact export --format {format}"
        )
    if not _AT_ONCE.acquire(blocking=False):
        raise Busy
    try:
        records = read_records(live.index.log_dir, since=where.since, until=where.until)
        file = tempfile.TemporaryFile()  # noqa: SIM115 - whoever sends it closes it
        try:
            export((record for record in records if passes(record, where)), file, format)
        except ModuleNotFoundError:
            file.close()
            raise Refused('Parquet needs pyarrow: pip install "ecoimpact[lake]"') from None
        except BaseException:
            file.close()
            raise
    finally:
        _AT_ONCE.release()
    file.seek(0)
    return file


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(_PIECE):
            yield piece
