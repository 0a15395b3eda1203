"""A lake of requests under another methodology, zone or edition of the tables: files in, Parquet files with figures out.

Rules of this file: memory does not grow with the data. What comes out stands under the names of what came in, and each
file holds in its footer what it was made from: that decides whether it has to be made again, so a run that was killed goes
on, and a run that finds nothing new changes nothing. A file appears whole or not at all, and the note about the whole run
comes last.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from hashlib import sha256
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from ecoimpact import data, storage
from ecoimpact.lake import sources
from ecoimpact.lake.estimating import RESULTS, Estimator
from ecoimpact.lake.sources import Source
from ecoimpact.lake.sums import SUMMED, Sums
from ecoimpact.records.index import Progress

if TYPE_CHECKING:
    import pyarrow as pa

NOTE = "_reestimate.json"
"""The name of the note about a whole run; there is none while something is unfinished."""

ROW_GROUP_ROWS = 1 << 18
MAX_WORKERS = 8

_FOOTER = "ecoimpact.reestimate"
_UNREAD = {*RESULTS} - {*SUMMED}
"""Columns that are replaced and of which no sum is told."""


@dataclass(frozen=True, slots=True)
class Reestimated:
    """A finished run: over all files, whether they were made now (``made``) or by a run before (``kept``).

    ``failed`` says of files that could not be read or written why; ``stale`` are files in the output whose input is gone.
    """

    sums: Sums
    made: int
    kept: int
    failed: Mapping[str, str]
    stale: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Unit:
    """A file to make."""

    source: Source
    path: str
    row_groups: tuple[int, ...]
    size: int
    origin: dict[str, Any]
    """All that its content follows from."""


def reestimate(
    src: str | os.PathLike[str],
    out: str | os.PathLike[str],
    estimator: Estimator,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Callable[[Progress], object] | None = None,
) -> Reestimated:
    """Write every row of ``src`` with the figures of ``estimator`` into Parquet files in the folder ``out``.

    Args:
        src: a file, a folder, a pattern such as ``lake/day=*/*.parquet``, or a URL of one of them: Parquet, CSV, JSON
            Lines, or the folder of a log.
        out: a folder or its URL; it is made where there is none. Files keep the names and folders of what they came from.
        overwrite: also replace files in ``out`` that were not made here.
        workers: how many files are worked on at once; default: one for each processor.
        progress: called now and then, from any thread.

    Raises:
        ValueError: nothing to read, a needed column is missing, ``out`` lies in ``src``, columns whose types differ from
            file to file beyond what one type can hold, a file in ``out`` that was not made here.
        FileNotFoundError: there is no ``src``.
    """
    number = workers or min(os.cpu_count() or 1, MAX_WORKERS)
    return _Run(src, out, estimator, overwrite=overwrite, workers=number, progress=progress).done()


class _Run:
    def __init__(
        self,
        src: str | os.PathLike[str],
        out: str | os.PathLike[str],
        estimator: Estimator,
        *,
        overwrite: bool,
        workers: int,
        progress: Callable[[Progress], object] | None,
    ) -> None:
        self._estimator = estimator
        self._overwrite = overwrite
        self._progress = progress
        self._lock = Lock()
        self._is_over = Event()
        self._failures = _failures()
        self._bytes = self._rows = self._total = 0
        self._pool = ThreadPoolExecutor(workers)
        self._failed: dict[str, str] = {}
        filesystem, path = storage.resolve(src)
        self._to, self._out = storage.resolve(out)
        self._source = f"{filesystem.type_name}:{path}"
        self._listed = listed = sources.listed(filesystem, path)
        if not listed.files:
            raise ValueError(f"there are no Parquet, CSV or JSON Lines files at {os.fspath(src)}")
        is_one_file = [file.path for _, file in listed.files] == [path]
        _check_apart(filesystem, listed.base, self._to, self._out, is_one_file=is_one_file)

    def done(self) -> Reestimated:
        with self._pool:
            try:
                return self._all()
            finally:
                self._is_over.set()
                self._pool.shutdown(cancel_futures=True)

    def _all(self) -> Reestimated:
        opened = self._opened()
        self._schema = self._united(opened)
        units = [unit for source in opened for unit in self._units(source)]
        _check_names(units)
        there = self._there()
        todo = {unit.path: unit for unit in units if there.get(unit.path, {}).get("origin") != unit.origin}
        self._check_overwriting(todo, there)
        if todo or self._failed:
            storage.delete(self._to, self._note_path)
        self._total = sum(unit.size for unit in todo.values())
        made: dict[str, Sums] = {}
        waiting = {self._pool.submit(self._make, unit): unit for unit in todo.values()}
        for future in as_completed(waiting):
            unit = waiting[future]
            try:
                made[unit.path] = future.result()
            except self._failures as error:
                self._failed[unit.source.name] = _reason(error)
        sums = Sums()
        for unit in units:  # in this order, so that the same sums come out of every run
            if unit.path not in todo:
                sums.add(Sums(**there[unit.path]["sums"]))
            elif unit.path in made:
                sums.add(made[unit.path])
        stale = self._stale(units, there)
        if not self._failed:
            self._write_note(units, sums)
        failed = dict(sorted(self._failed.items()))
        return Reestimated(sums, len(made), len(units) - len(todo), failed, stale)

    # --- what is to be done

    def _opened(self) -> list[Source]:
        opened = []
        waiting = {self._pool.submit(sources.opened, *each): each[1] for each in self._listed.files}
        for future, file in waiting.items():
            try:
                opened.append(future.result())
            except self._failures as error:
                self._failed[file.name] = _reason(error)
        if not opened:
            name, reason = next(iter(self._failed.items()))
            raise ValueError(f"no file could be read; {name}: {reason}")
        return opened

    def _united(self, opened: list[Source]) -> pa.Schema:
        """The schema of what comes in, with the columns that only folders tell; what is missing is told now."""
        import pyarrow as pa

        whole = sources.united([(source.name, source.schema) for source in opened], RESULTS)
        self._own_names = tuple(whole.names)
        folders = dict.fromkeys(name for source in opened for name in source.partitions() if name not in whole.names)
        if told := [name for name in folders if name in RESULTS]:
            raise ValueError(f"the folders are by {told[0]}, which changes: the output would be in the wrong ones")
        everything = [*whole.names, *folders]
        self._read = set(self._estimator.inputs(everything).values())
        self._from_folders = tuple(name for name in folders if name in self._read)
        for name in self._from_folders:
            whole = whole.append(pa.field(name, pa.string()))
        result = self._estimator.schema(whole)
        self._result = pa.schema([f for f in result if f.name not in self._from_folders], result.metadata)
        return whole

    def _units(self, source: Source) -> Iterator[_Unit]:
        parts = source.parts()
        stem = source.name if source.format != "parquet" else source.name.removesuffix(".parquet")
        own = {name: str(self._schema.field(name).type) for name in source.schema.names}
        for number, row_groups in enumerate(parts):
            name = f"{stem}.parquet" if len(parts) == 1 else f"{stem}.{number:05}.parquet"
            origin = {
                "input": source.name,
                "size": source.file.size,
                "version": source.file.version,
                "part": number,
                "parts": len(parts),
                "methodology": self._estimator.methodology.name,
                "data_version": data.DATA_VERSION,
                "zone": self._estimator.zone,
                "columns": self._estimator.columns,
                "registered": _digest(self._estimator.registered),
                "types": _digest(own),
            }
            size = sum(source.row_groups[n][1] for n in row_groups) if source.row_groups else source.file.size
            yield _Unit(source, f"{self._out}/{name}", row_groups, size, origin)

    def _there(self) -> dict[str, dict[str, Any]]:
        """What the files in the output were made from; nothing of those that were not made here."""
        try:
            _, found = storage.files(self._to, self._out, unfinished=self._drop)
        except FileNotFoundError:
            return {}
        paths = [file.path for file in found if file.name.endswith(".parquet")]
        return dict(zip(paths, self._pool.map(self._footer, paths), strict=True))

    def _drop(self, path: str) -> None:
        """What a run that was killed has left behind."""
        storage.delete(self._to, path)

    def _footer(self, path: str) -> dict[str, Any]:
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path, filesystem=self._to) as file:
                text = (file.metadata.metadata or {}).get(_FOOTER.encode())
            found = json.loads(text) if text is not None else {}
        except self._failures:
            return {}
        return found if isinstance(found, dict) else {}

    def _check_overwriting(self, todo: Mapping[str, _Unit], there: Mapping[str, Any]) -> None:
        foreign = [path for path in todo if path in there and there[path].get("source") != self._source]
        if foreign and not self._overwrite:
            raise ValueError(f"{foreign[0]} was not made from this input; overwrite replaces it")

    # --- the work

    def _make(self, unit: _Unit) -> Sums:
        import pyarrow as pa
        import pyarrow.parquet as pq

        sums = Sums()
        texts = [f.name for f in self._result if not pa.types.is_floating(f.type)]
        with (
            storage.new_file(self._to, unit.path) as file,
            pq.ParquetWriter(file, self._result, compression="zstd", use_dictionary=texts) as writer,
        ):
            told = 0
            group: list[pa.RecordBatch] = []
            for batch in self._batches(unit):
                if self._is_over.is_set():
                    raise _InterruptedError
                made = self._estimator(batch)
                sums.count(batch, made)
                group.append(made.select(self._result.names))
                told = self._tell(unit, sums.rows, batch.num_rows, told)
                if sum(each.num_rows for each in group) >= ROW_GROUP_ROWS:
                    _write(writer, group)
                    group = []
            if group or not sums.rows:
                _write(writer, group, self._result)
            sums.illegible = unit.source.illegible
            footer = {"source": self._source, "origin": unit.origin, "sums": asdict(sums)}
            writer.add_key_value_metadata({_FOOTER: json.dumps(footer, sort_keys=True)})
        return sums

    def _batches(self, unit: _Unit) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        told = unit.source.partitions()
        own = pa.schema([self._schema.field(name) for name in self._own_names], self._schema.metadata)
        for batch in sources.batches(unit.source, unit.row_groups, _UNREAD - self._read):
            whole = sources.conformed(batch, own)
            columns = [pa.repeat(pa.scalar(told.get(name), pa.string()), batch.num_rows) for name in self._from_folders]
            if columns:
                whole = pa.RecordBatch.from_arrays([*whole.columns, *columns], schema=self._schema)
            yield whole

    def _tell(self, unit: _Unit, rows: int, more: int, told: int) -> int:
        """Say how far a file has come, after its first ``rows``; how many bytes of it have been told of."""
        if self._progress is None:
            return 0
        of_parts = sum(unit.source.row_groups[number][0] for number in unit.row_groups)
        done = unit.size * rows // of_parts if of_parts else unit.source.position
        with self._lock:
            self._bytes += done - told
            self._rows += more
            progress = Progress(min(self._bytes, self._total), self._total, self._rows)
        self._progress(progress)
        return done

    # --- the end

    def _stale(self, units: list[_Unit], there: dict[str, dict[str, Any]]) -> tuple[str, ...]:
        """Files whose input is gone. What an input of this run does not have any more is deleted: parts, and in a log the
        segments that have become Parquet, or else their rows would be there twice. Nothing is while a file has failed."""
        expected = {unit.path for unit in units}
        opened = {unit.source.name for unit in units}
        stale = []
        for path, found in there.items():
            if path in expected or found.get("source") != self._source or found["origin"]["input"] in self._failed:
                continue
            if not self._failed and (self._listed.is_log or found["origin"]["input"] in opened):
                storage.delete(self._to, path)
            else:
                stale.append(path)
        return tuple(sorted(stale))

    @property
    def _note_path(self) -> str:
        return f"{self._out}/{NOTE}"

    def _write_note(self, units: list[_Unit], sums: Sums) -> None:
        note = {
            "methodology": self._estimator.methodology.name,
            "data_version": data.DATA_VERSION,
            "zone": self._estimator.zone,
            "columns": self._estimator.columns,
            "inputs": len({unit.source.name for unit in units}),
            "files": len(units),
            **{name: value for name, value in asdict(sums).items() if value != {}},
        }
        content = (json.dumps(note, indent=2, sort_keys=True) + "\n").encode()
        if storage.read(self._to, self._note_path) != content:
            storage.put(self._to, self._note_path, content)


class _InterruptedError(Exception):
    """The run is over, and this file of it is not wanted any more."""


def _write(writer: Any, group: list[Any], schema: Any = None) -> None:
    import pyarrow as pa

    writer.write_table(pa.Table.from_batches(group, schema), row_group_size=ROW_GROUP_ROWS)


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _failures() -> tuple[type[BaseException], ...]:
    """What a file that cannot be read or written may raise."""
    import pyarrow as pa

    return (OSError, pa.ArrowException, ValueError)


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


def _check_names(units: list[_Unit]) -> None:
    times = Counter(unit.path for unit in units)
    twice = next((path for path, number in times.items() if number > 1), None)
    if twice is not None:
        names = sorted(unit.source.name for unit in units if unit.path == twice)
        raise ValueError(f"{' and '.join(names)} would both be written to {twice}: give one of them another name")


def _check_apart(source: Any, base: str, target: Any, out: str, *, is_one_file: bool) -> None:
    """What comes out must not be taken for what comes in, now or by the next run."""
    if not source.equals(target):
        return
    real = os.path.realpath if source.type_name == "local" else str
    one, other = (real(path).rstrip("/") + "/" for path in (base, out))
    if one == other:
        raise ValueError(f"the output {out} is the folder of the input: name another")
    if not is_one_file and (one.startswith(other) or other.startswith(one)):
        raise ValueError(f"of the input {base} and the output {out} one lies in the other: name a folder apart")
