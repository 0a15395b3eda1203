"""One import: files of a source go into a log.

Rules that hold in this file: every row is counted once, as imported, as there already, as no request or as turned away.
Records of a batch are on the disk before their ids are noted. A log that cannot be written ends the import; running it
again goes on where it ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from ecoimpact.imports.facts import Facts, Reject, Source
from ecoimpact.imports.ledger import Ledger
from ecoimpact.imports.making import Maker
from ecoimpact.imports.rejects import Rejects
from ecoimpact.imports.rows import STDIN, Opened, Read
from ecoimpact.records.index import Progress
from ecoimpact.records.segments import LogWriter
from ecoimpact.types import Record

BATCH: Final = 5_000
"""Records that are written and noted at once."""
PROGRESS_ROWS: Final = 500


@dataclass
class Imported:
    """What became of the rows. ``imported`` rows made ``records`` records, of which ``unestimated`` have no figures."""

    rows: int = 0
    imported: int = 0
    present: int = 0
    not_requests: int = 0
    records: int = 0
    unestimated: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "imported": self.imported,
            "present": self.present,
            "not_requests": self.not_requests,
            "rejected": dict(sorted(self.rejected.items())),
            "records": self.records,
            "unestimated": self.unestimated,
            "errors": dict(sorted(self.errors.items())),
        }


def import_files(
    source: Source,
    files: Iterable[Path],
    log_dir: Path,
    maker: Maker,
    rejects: Rejects,
    *,
    format: str | None = None,  # noqa: A002 - the option's name
    columns: Iterable[str] = (),
    progress: Callable[[Progress], object] | None = None,
) -> Imported:
    """Bring the files of a source into the log.

    ``columns`` are those that a reader of Parquet has to fetch besides the source's.

    Raises:
        OSError: a file cannot be read, or the log cannot be written.
        TimeoutError: another import into the same log is running.
        ValueError: a format that cannot be read.
    """
    paths = list(files)
    with Ledger(log_dir) as ledger, closing(LogWriter(log_dir, fsync=True)) as writer, closing(rejects):
        run = _Run(source, maker, rejects, ledger, writer)
        total = sum(path.stat().st_size for path in paths if path != STDIN)
        done = 0
        for path in paths:
            with closing(Opened(path, format)) as opened:
                wanted = (*source.columns, *columns) if source.columns else ()
                for read in opened.rows(source.envelopes, wanted):
                    run.take(read, path.name)
                    if progress is not None and run.imported.rows % PROGRESS_ROWS == 0:
                        progress(Progress(done + opened.position, total, run.imported.records))
                done += opened.size
        run.write()
        if progress is not None:
            progress(Progress(total, total, run.imported.records))
    return run.imported


@dataclass(slots=True)
class _Taken:
    """What is kept of a row that makes records, which may be large itself; ``is_new`` once one of them was missing."""

    facts: Facts
    labels: Mapping[str, str]
    is_new: bool = False


class _Piece(NamedTuple):
    """Some of the records of a row: all, unless it makes more than a batch."""

    taken: _Taken
    ids: list[tuple[int, str]]
    is_last: bool


class _Run:
    """The rows that wait for the next batch, and what was counted."""

    def __init__(self, source: Source, maker: Maker, rejects: Rejects, ledger: Ledger, writer: LogWriter) -> None:
        self._source, self._maker, self._rejects, self._ledger, self._writer = source, maker, rejects, ledger, writer
        self._waiting: list[_Piece] = []
        self._records = 0
        self.imported = Imported()

    def take(self, read: Read, file: str) -> None:
        rows = (read.row,) if read.problem is not None else self._source.expand(read.row)
        for row in rows:
            self.imported.rows += 1
            try:
                self._take_row(row, read)
            except Reject as reject:
                self.imported.rejected[reject.reason] += 1
                self._rejects.add(file, read.line, reject.reason, reject.field, row)

    def _take_row(self, row: Any, read: Read) -> None:
        if read.problem is not None:
            raise Reject(read.problem)
        if not isinstance(row, Mapping):
            raise Reject("not-an-object")
        facts = self._source.read(row)
        if facts is None:
            self.imported.not_requests += 1
            return
        taken, left = _Taken(facts, self._maker.labels_of(row)), facts.requests
        all_ids = self._maker.ids(facts, read.line)
        while left:
            ids = list(islice(all_ids, BATCH))
            left -= len(ids)
            self._waiting.append(_Piece(taken, ids, not left))
            self._records += len(ids)
            if self._records >= BATCH:
                self.write()

    def write(self) -> None:
        """Write what waits and is not there yet, and note it."""
        known = self._ledger.known(each for piece in self._waiting for _, each in piece.ids)
        records: list[Record] = []
        for taken, ids, is_last in self._waiting:
            missing = [(number, each) for number, each in ids if each not in known]
            known.update(each for _, each in missing)
            taken.is_new |= bool(missing)
            records += self._maker.records(taken.facts, missing, taken.labels)
            if is_last:
                self.imported.imported += taken.is_new
                self.imported.present += not taken.is_new
        self._waiting, self._records = [], 0
        if records:
            self._put(records)

    def _put(self, records: list[Record]) -> None:
        if self._writer.write_batch(records):
            raise OSError(f"{self._writer.log_dir} cannot be written")
        self._ledger.add(record.id for record in records)
        self.imported.records += len(records)
        for record in records:
            if record.assessment.low is None:
                self.imported.unestimated += 1
                self.imported.errors.update(error.code for error in record.assessment.errors)
