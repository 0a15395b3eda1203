"""From lines of the log to sums: pure, and as fast as plain Python gets.

Rules that hold in this file: no I/O; no line makes it raise. A line is a record where the reader takes it for one and its
``time`` can be read; else it is skipped and counted. A value that a field cannot have (a text for a number, less than zero,
no number at all, absurdly large) is unknown, and unknown stays apart from zero: a sum of nothing known is ``None``. A
figure whose central value is not told, as in older logs, or is not between its ends has its midpoint for it.

Records that the writer made have their fields as they should be. So types are looked at all at once, by one look-up of
their combination, and only what is odd goes field by field through ``_clean``.
"""

from __future__ import annotations

import heapq
import json
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter, le
from typing import Any, BinaryIO, Final, NamedTuple, TypeAlias

from ecoimpact.records.buckets import DAY, HOUR, MONTH, hour_of_text, in_utc, month_of_day
from ecoimpact.records.names import DIMENSIONS, EVERYTHING, Names, clean_text, remember
from ecoimpact.records.reader import MAX_LINE_BYTES
from ecoimpact.types import CRITERIA, Range

ENDS: Final = ("min", "central", "max")
FIGURES: Final = tuple(f"{c.suffix}_{end}" for c in CRITERIA for end in ENDS)
KNOWN: Final = tuple(f"{c.key}_known" for c in CRITERIA)
"""How many requests have each figure: not every methodology has all of them."""
TOKENS: Final = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")
_MEASURES: Final = ("status", "tokens_estimated", *TOKENS, "latency_s", "cost_usd", *FIGURES)
COUNTS: Final = (
    "requests",
    "not_ok",
    "unestimated",
    "unpriced",
    "tokens_unknown",
    "timed",  # requests whose latency is known
    *KNOWN,
    "tokens_estimated",
)
AMOUNTS: Final = (*TOKENS, "latency_s", "cost_usd", *FIGURES)
SUMS: Final = (*COUNTS, *AMOUNTS)
"""What is summed over requests. An amount is ``None`` where no request had one."""

LIMIT: Final = 1e12
"""What no tokens, seconds or figures of one request reach. Sums of millions of such still fit into SQLite's integers."""

RECENT: Final = 5_000
"""How many of the newest records the index can find again."""

BLOCK_BYTES: Final = 256 * 2**10
UNFILED: Final = 0
"""The folder of sums by month, which are made of more than one."""

Sums: TypeAlias = tuple[Any, ...]
"""Values in the order of ``SUMS``, of one record or of many."""

KEY: Final = ("level", "label", "bucket", "series", "folder")
"""What a row of the roll-ups is about. ``folder`` says where to count anew when a segment changed behind us."""
Key: TypeAlias = tuple[int, int, int, int, int]

Pointer: TypeAlias = tuple[str, int, int, int]
"""When a request began, and where its record lies: the number of the segment, the offset, the length in bytes."""


# --- lines --------------------------------------------------------------------------------------------------------------


def whole_lines(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes | None, int]]:
    """The whole lines between two offsets in blocks, each with the offset after it; ``None`` for an overlong line.

    What follows the last newline is left alone: it is torn, or still being written.
    """
    file.seek(start)
    rest, at, overlong = b"", start, False
    while at < end and (data := file.read(min(BLOCK_BYTES, end - at))):
        at += len(data)
        if overlong:
            _, newline, data = data.partition(b"\n")
            if not newline:
                continue
            overlong = False
            yield None, at - len(data)
        cut = data.rfind(b"\n") + 1
        if cut:
            yield rest + data[:cut], at - len(data) + cut
            rest = data[cut:]
        else:
            rest += data
        if len(rest) > MAX_LINE_BYTES:
            rest, overlong = b"", True


_MARK: Final = secrets.token_hex(8)  # no line of the log can guess it
_BETWEEN: Final = f',"{_MARK}",'


def parse(block: bytes) -> Iterable[tuple[Any, int]]:
    """What each line of a block holds (``None`` where it is no JSON), and its length in bytes with its newline.

    All lines are parsed in one go, as one array with marks between them, which takes two thirds of the time. Where a line
    is no JSON, or only two together are, the marks are not where they should be, and each line is parsed by itself.
    """
    lines = block.split(b"\n")
    lines.pop()  # what is after the last newline: nothing
    try:
        together = json.loads(f"[{block[:-1].decode().replace(chr(10), _BETWEEN)}]")
    except (ValueError, RecursionError):
        together = []
    if (
        len(block) <= MAX_LINE_BYTES
        and len(together) == 2 * len(lines) - 1
        and together[1::2].count(_MARK) == len(lines) - 1
    ):
        records = together[::2]
    else:
        records = [_parse_line(line) for line in lines]
    return zip(records, [len(line) + 1 for line in lines], strict=True)


def _parse_line(line: bytes) -> Any:
    if line.isspace() or not line:
        return _BLANK
    if len(line) >= MAX_LINE_BYTES:
        return None
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


_BLANK: Final = object()  # where a record was removed in place


def is_blank(value: Any) -> bool:
    """Whether what ``parse`` gave is of an empty line."""
    return value is _BLANK


# --- one record ---------------------------------------------------------------------------------------------------------


class _Shape(NamedTuple):
    """What the types of a record's measures say about all records that have the same."""

    numbers: Callable[[Sums], Sequence[float]]
    lows: Callable[[Sums], Sequence[float]]
    centrals: Callable[[Sums], Sequence[float]]
    highs: Callable[[Sums], Sequence[float]]
    counts_ok: Sums
    """The counts up to the first measure after the status, where that is ``ok``."""
    counts_not_ok: Sums


_OUTPUT_TOKENS: Final = _MEASURES.index("output_tokens")
_LATENCY: Final = _MEASURES.index("latency_s")
_COST: Final = _MEASURES.index("cost_usd")
_FIRST_FIGURE: Final = _MEASURES.index(FIGURES[0])
_CENTRAL: Final = FIGURES[1]

_measures = itemgetter(*_MEASURES)
_before_figures = itemgetter(*_MEASURES[:_FIRST_FIGURE])
_TRIPLES: Final = tuple(tuple(f"{c.suffix}_{end}" for end in ENDS) for c in CRITERIA)
_dimensions = itemgetter(*DIMENSIONS, "request_model")
_others = itemgetter("time", "labels", "warnings", "errors")

READ: Final = ("schema", "time", "labels", "warnings", "errors", *_MEASURES, *DIMENSIONS, "request_model")
"""The fields of a record that are looked at."""


def _with_midpoints(record: dict[str, Any]) -> Sums:
    """The measures of a record that lacks central values, such as one of an older version."""
    figures: list[Any] = []
    for low_name, central_name, high_name in _TRIPLES:
        low, central, high = record[low_name], record.get(central_name), record[high_name]
        if central is None and low is not None and high is not None:
            central = _midpoint(low, high)
        figures += low, central, high
    return (*_before_figures(record), *figures)


def _midpoint(low: float, high: float) -> float:
    return (low + high) / 2


def _shape(types: tuple[type, ...]) -> _Shape:
    """Of the types of measures that are clean."""
    known = [position for position, kind in enumerate(types) if kind is not type(None)]
    figures = [position for position in known if position >= _FIRST_FIGURE]
    flags = [not figures, _COST not in known, _OUTPUT_TOKENS not in known, _LATENCY in known]
    flags += [low in known for low in range(_FIRST_FIGURE, len(types), 3)]
    return _Shape(
        numbers=_picker(known[2:]),
        lows=_picker(figures[::3]),
        centrals=_picker(figures[1::3]),
        highs=_picker(figures[2::3]),
        counts_ok=(1, 0, *map(int, flags)),
        counts_not_ok=(1, 1, *map(int, flags)),
    )


def _picker(positions: list[int]) -> Callable[[Sums], Sequence[float]]:
    if len(positions) > 1:
        return itemgetter(*positions)
    return lambda row: [row[position] for position in positions]


def _clean(record: dict[str, Any]) -> Sums:
    """The measures of a record that may have odd ones: what cannot be is unknown."""
    measures: list[Any] = [record.get(name) for name in _MEASURES]
    measures[0] = measures[0] if isinstance(measures[0], str) else ""
    measures[1] = measures[1] is True
    for position, name in enumerate(_MEASURES[2:], start=2):
        measures[position] = _possible(measures[position], *((int,) if name in TOKENS else (int, float)))
    for place in range(_FIRST_FIGURE, len(measures), 3):
        measures[place : place + 3] = _figure(*measures[place : place + 3])
    return tuple(measures)


def _possible(value: Any, *kinds: type) -> Any:
    return value if type(value) in kinds and 0 <= value < LIMIT else None


def _figure(low: Any, central: Any, high: Any) -> tuple[Any, Any, Any]:
    if low is None or high is None or low > high:
        return None, None, None
    return low, _midpoint(low, high) if central is None or not low <= central <= high else central, high


def figure_in(record: Mapping[str, Any], suffix: str) -> Range | None:
    """A figure of one record, such as ``energy_kwh``, as it is counted in sums.

    >>> figure_in({"energy_kwh_min": 1.0, "energy_kwh_max": 3.0}, "energy_kwh").central
    2.0
    """
    values = (_possible(record.get(f"{suffix}_{end}"), int, float) for end in ENDS)
    low, central, high = _figure(*values)
    return None if low is None else Range(low, high, central)


def _codes(value: Any) -> tuple[str, ...]:
    return tuple(clean_text(code) for code in value if isinstance(code, str)) if isinstance(value, list) else ()


# --- many records -------------------------------------------------------------------------------------------------------


def add_up(rows: list[Sums]) -> Sums:
    """The sums over some rows, column by column."""
    return rows[0] if len(rows) == 1 else tuple(map(_known_sum, zip(*rows, strict=True)))


def _known_sum(column: tuple[Any, ...]) -> Any:
    if column[0] is not None:
        try:
            return sum(column)
        except TypeError:  # some are not known
            pass
    known = [value for value in column if value is not None]
    return sum(known) if known else None


class _Folder:
    """What was gathered from one folder."""

    def __init__(self) -> None:
        self.cells: defaultdict[tuple[int, int, int], list[Sums]] = defaultdict(list)  # hour, series, set of label keys
        self.labelled: defaultdict[tuple[int, int, int], list[Sums]] = defaultdict(list)  # label, day, series
        self.codes: defaultdict[tuple[int, int, tuple[str, ...], tuple[str, ...]], int] = defaultdict(int)

    def add(self, row: Sums, hour: int, series: int, keyset: int, labels: tuple[int, ...]) -> None:
        self.cells[hour, series, keyset].append(row)
        for label in labels:
            self.labelled[label, hour // 24, series].append(row)


def _add_to(table: dict[Key, Sums], key: Key, sums: Sums) -> None:
    have = table.get(key)
    table[key] = sums if have is None else add_up([have, sums])


class _Months(dict[int, int]):
    """The months of days."""

    def __missing__(self, day: int) -> int:
        month = self[day] = month_of_day(day)
        return month


class Summed(NamedTuple):
    """What a chunk adds to the index."""

    rollups: list[tuple[Any, ...]]
    """Each the values of ``KEY`` and of ``SUMS`` in one tuple, in the order of their keys."""
    codes: dict[tuple[str, str, int, int, int], int]
    """How many requests had each code: by ``warning`` or ``error``, the code, day, series and folder."""
    days: dict[int, tuple[int, int]]
    """The first and the last day in each folder."""
    newest: list[Pointer]


class Chunk:
    """Records gathered for one commit, with the sums over them.

    ``feed`` collects the measures of each record under every row that it belongs to; they are added up at the end, a
    column at a time, because that is much faster than to add number by number.
    """

    def __init__(self, names: Names, recent_after: str = "") -> None:
        self._names = names
        self._recent_after = recent_after
        self._hours: dict[str, int] = {}
        self._shapes: dict[tuple[type, ...], _Shape] = {}
        self._months = _Months()
        self.start()

    def start(self) -> None:
        """Forget what was gathered; what was learnt about names and types stays."""
        self._folders: dict[int, _Folder] = {}
        self.recent: list[Pointer] = []
        self.records = 0

    def feed(self, block: bytes, *, folder: int, segment: int, offset: int) -> tuple[int, int]:
        """Take in whole lines that begin at ``offset``. How many of them were records, and how many were skipped."""
        into = self._folders.setdefault(folder, _Folder())
        records = skipped = 0
        for record, length in parse(block):
            if isinstance(record, dict) and isinstance(record.get("schema"), int):
                time = self._add(record, into)
                if time is None:
                    skipped += 1
                else:
                    records += 1
                    if time > self._recent_after:
                        self.recent.append((time, segment, offset, length))
            elif record is not _BLANK:
                skipped += 1
            offset += length
        self.records += records
        if len(self.recent) > 4 * RECENT:
            self.recent = heapq.nlargest(RECENT, self.recent)
        return records, skipped

    def take(self, records: Iterable[dict[str, Any]], *, folder: int, segment: int, first: int) -> tuple[int, int]:
        """Take in records that were rows, from row ``first`` on. How many counted, and how many were skipped."""
        into = self._folders.setdefault(folder, _Folder())
        taken = skipped = 0
        for row, record in enumerate(records, start=first):
            time = self._add(record, into)
            if time is None:
                skipped += 1
            else:
                taken += 1
                if time > self._recent_after:
                    self.recent.append((time, segment, row, 0))
        self.records += taken
        if len(self.recent) > 4 * RECENT:
            self.recent = heapq.nlargest(RECENT, self.recent)
        return taken, skipped

    def _add(self, record: dict[str, Any], into: _Folder) -> str | None:
        """The time of the record, in UTC; ``None``, and nothing done, where it has none."""
        names = self._names
        try:
            time, labels, warnings, errors = _others(record)
            measures: Sums = _measures(record) if record.get(_CENTRAL) is not None else _with_midpoints(record)
            shape = self._shapes[tuple(map(type, measures))]
            amounts = shape.numbers(measures)
            hour = self._hours[time[:13]]
            if (
                len(time) == 27
                and time[26] == "Z"
                and type(warnings) is type(errors) is list
                and min(amounts, default=0) >= 0
                and sum(amounts) < LIMIT
                and all(map(le, shape.lows(measures), centrals := shape.centrals(measures)))
                and all(map(le, centrals, shape.highs(measures)))
            ):
                dimensions = _dimensions(record)
                series = names.series.get(dimensions) or names.series_of(dimensions)
                keyset, numbers = names.labels.get(tuple(labels.items())) or names.labels_of(labels)
                if warnings or errors:
                    into.codes[hour // 24, series, tuple(warnings), tuple(errors)] += 1
                counts = shape.counts_ok if measures[0] == "ok" else shape.counts_not_ok
                into.add(counts + measures[1:], hour, series, keyset, numbers)
                return str(time)
        except (KeyError, TypeError, AttributeError, OverflowError):  # odd, or the first of its kind
            pass
        return self._add_odd(record, into)

    def _add_odd(self, record: dict[str, Any], into: _Folder) -> str | None:
        time = record.get("time")
        if not isinstance(time, str):
            return None
        # Of the writer's own form the first part is looked at, here as above.
        own = len(time) == 27 and time[26] == "Z"
        hour = hour_of_text(f"{time[:13]}:00Z" if own else time)
        if hour is None:
            return None
        if own:
            remember(self._hours, time[:13], hour, Names.CACHE)
        else:
            time = f"{in_utc(time):%Y-%m-%dT%H:%M:%S.%fZ}"
        measures = _clean(record)
        types = tuple(map(type, measures))
        shape = _shape(types)
        remember(self._shapes, types, shape, Names.CACHE)  # what is odd has types that no clean record has
        series = self._names.series_of(tuple(record.get(name) for name in (*DIMENSIONS, "request_model")))
        keyset, numbers = self._names.labels_of(record.get("labels"))
        warnings, errors = _codes(record.get("warnings")), _codes(record.get("errors"))
        if warnings or errors:
            into.codes[hour // 24, series, warnings, errors] += 1
        counts = shape.counts_ok if measures[0] == "ok" else shape.counts_not_ok
        into.add(counts + measures[1:], hour, series, keyset, numbers)
        return time

    def summed(self) -> Summed:
        """The sums over what was gathered."""
        newest = heapq.nlargest(RECENT, self.recent)
        return Summed(self._rollups(), self._codes(), self._days(), newest)

    def _rollups(self) -> list[tuple[Any, ...]]:
        table: dict[Key, Sums] = {}
        for folder, gathered in self._folders.items():
            by_keyset: defaultdict[tuple[int, int, int], list[Sums]] = defaultdict(list)
            for (hour, series, keyset), rows in gathered.cells.items():
                sums = add_up(rows)
                _add_to(table, (HOUR, EVERYTHING, hour, series, folder), sums)
                by_keyset[hour // 24, series, keyset].append(sums)
            lacking = self._names.lacking()
            for (day, series, keyset), rows in by_keyset.items():
                sums = add_up(rows)
                for label in (EVERYTHING, *lacking[keyset]):
                    _add_to(table, (DAY, label, day, series, folder), sums)
            for (label, day, series), rows in gathered.labelled.items():
                _add_to(table, (DAY, label, day, series, folder), add_up(rows))
        months: defaultdict[Key, list[Sums]] = defaultdict(list)
        for (level, label, day, series, _), sums in table.items():
            if level == DAY:
                months[MONTH, label, self._months[day], series, UNFILED].append(sums)
        for key, rows in months.items():
            table[key] = add_up(rows)
        return [(*key, *table[key]) for key in sorted(table)]

    def _codes(self) -> dict[tuple[str, str, int, int, int], int]:
        counts: defaultdict[tuple[str, str, int, int, int], int] = defaultdict(int)
        for folder, gathered in self._folders.items():
            for (day, series, warnings, errors), number in gathered.codes.items():
                for kind, codes in (("warning", warnings), ("error", errors)):
                    for code in dict.fromkeys(codes):
                        if isinstance(code, str):
                            counts[kind, clean_text(code), day, series, folder] += number
        return counts

    def _days(self) -> dict[int, tuple[int, int]]:
        return {
            folder: (min(gathered.cells)[0] // 24, max(gathered.cells)[0] // 24)
            for folder, gathered in self._folders.items()
            if gathered.cells
        }
