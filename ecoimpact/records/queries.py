"""What the log adds up to: the one thing that reports, budgets and dashboards read.

Rules that hold in this file: figures come from the roll-ups of the index, never from records, so that a report takes as
long for a million requests as for a thousand; what nobody knows is ``None`` and counted, never zero; dimensions are an
enumeration, values are bound, and the connection cannot write. All times are UTC.
"""

# ruff: noqa: S608 - what is put into statements are names of columns, all of them constants

from __future__ import annotations

import contextlib
import difflib
import json
import re
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final, NamedTuple

from ecoimpact.records.buckets import (
    DAY,
    END_OF_TIME,
    HOUR,
    MONTH,
    START_OF_TIME,
    Stretch,
    hour_of,
    moment_of,
    stretches,
    text_of,
)
from ecoimpact.records.compact_rows import Unreadable, read_some
from ecoimpact.records.folding import COUNTS, ENDS, KNOWN, SUMS, TOKENS, Sums, add_up
from ecoimpact.records.index import Index
from ecoimpact.records.listing import open_segment
from ecoimpact.records.names import EVERYTHING, clean_text
from ecoimpact.records.store import SUM_COLUMNS
from ecoimpact.types import CRITERIA, Range

DIMENSIONS: Final = ("model", "provider", "endpoint", "zone", "methodology", "day", "hour", "month", "label:KEY")
"""What a report can be grouped by; ``KEY`` stands for the name of a label."""

_OF_SERIES: Final = ("model", "provider", "endpoint", "zone", "methodology")
_LEVELS: Final = {"hour": HOUR, "day": DAY, "month": MONTH}
_LABEL: Final = "label:"

FORECAST_DAYS: Final = 28
"""How many of the last days a forecast takes the mean of."""


TOLD_COUNTS: Final = (
    "requests",
    "not_ok",
    "unestimated",
    "unpriced",
    "tokens_estimated",
    "tokens_unknown",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    *KNOWN,
)
"""The counts of :class:`Totals` that are told; ``timed`` only serves the mean."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over requests. Totals can be added.

    ``not_ok`` requests ended otherwise than ``ok``; ``unestimated`` ones have no figure at all, ``unpriced`` ones no price;
    for ``tokens_estimated`` the provider sent no count, and for ``tokens_unknown`` nobody knows the output tokens.
    ``timed`` requests have a latency, and ``mean_latency_s`` is theirs, in seconds. The impacts are in the units of
    ``types.CRITERIA``: kWh, kgCO2eq, kgSbeq, MJ, L; their ends are the sums of the ends, ``central`` is that of the central
    values. They and ``cost_usd`` cover the requests that have such a figure, and are ``None`` where none has:
    ``energy_known`` of them have an energy, ``wcf_known`` a water consumption, and so on.
    """

    requests: int = 0
    not_ok: int = 0
    unestimated: int = 0
    unpriced: int = 0
    tokens_estimated: int = 0
    tokens_unknown: int = 0
    timed: int = 0
    energy_known: int = 0
    gwp_known: int = 0
    adpe_known: int = 0
    pe_known: int = 0
    wcf_known: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    mean_latency_s: float | None = None
    cost_usd: float | None = None
    energy: Range | None = None
    gwp: Range | None = None
    adpe: Range | None = None
    pe: Range | None = None
    wcf: Range | None = None

    def __add__(self, other: object) -> Totals:
        if not isinstance(other, Totals):
            return NotImplemented
        sums = {name: _plus(getattr(self, name), getattr(other, name)) for name in _ADDED}
        timed, latency_s = self.timed + other.timed, _plus(self._latency_s(), other._latency_s())
        return Totals(**sums, mean_latency_s=None if latency_s is None else latency_s / timed)

    def __mul__(self, factor: float) -> Totals:
        """As many times over; counts are rounded. ``factor`` is no less than zero."""
        counts = {name: round(getattr(self, name) * factor) for name in (*COUNTS, *TOKENS)}
        amounts = {name: getattr(self, name) for name in _ADDED if name not in counts}
        scaled: dict[str, Any] = {name: None if value is None else value * factor for name, value in amounts.items()}
        return Totals(**counts, **scaled, mean_latency_s=self.mean_latency_s)

    def to_dict(self) -> dict[str, float | int | None]:
        """A flat mapping in full precision, by names that carry their units, as those of records do."""
        flat: dict[str, float | int | None] = {name: getattr(self, name) for name in TOLD_COUNTS}
        flat["mean_latency_s"] = self.mean_latency_s
        for criterion in CRITERIA:
            value: Range | None = getattr(self, criterion.key)
            for end in ENDS:
                flat[f"{criterion.suffix}_{end}"] = None if value is None else getattr(value, end)
        flat["cost_usd"] = self.cost_usd
        return flat

    def _latency_s(self) -> float | None:
        return None if self.mean_latency_s is None else self.mean_latency_s * self.timed


_ADDED: Final = tuple(field.name for field in fields(Totals) if field.name != "mean_latency_s")
EMPTY: Final = Totals()


@dataclass(frozen=True, slots=True)
class Where:
    """What is counted; every part is optional.

    ``since`` (inclusive) and ``until`` (exclusive) are aware. They hold to the hour, with ``label`` (its key and its value)
    to the day, and what is finer is rounded outwards. ``label=("team", "(none)")`` means requests without that label.

    Raises:
        ValueError: a time has no time zone.
    """

    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None
    provider: str | None = None
    endpoint: str | None = None
    label: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        for moment in (self.since, self.until):
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"a period needs times with a time zone, got {moment.isoformat()}")


@dataclass(frozen=True, slots=True)
class Group:
    """One line of a report. ``key`` is ``(none)`` for requests without the label, ``(unknown)`` where a record is silent,
    and ``(other)`` for what is beyond the number of names that an index keeps."""

    key: str
    totals: Totals


@dataclass(frozen=True, slots=True)
class Report:
    """Totals by ``by``, and over all.

    ``since`` and ``until`` are the period that is covered, after rounding; ``None`` is open. Groups of time are in its
    order, all others by energy, then by requests, falling. ``first`` and ``last`` are the hours (with a label the days) of
    the first and the last request. ``error_codes`` say why requests have no figures, ``warning_codes`` what makes them less
    certain: they are counted by day, for the whole days that the period touches, and not by label (empty then).
    ``skipped_lines`` are the torn or foreign lines in the whole log.
    """

    by: str
    since: datetime | None
    until: datetime | None
    groups: tuple[Group, ...]
    total: Totals
    first: datetime | None
    last: datetime | None
    editions: tuple[str, ...]
    error_codes: dict[str, int]
    warning_codes: dict[str, int]
    skipped_lines: int


COURSE: Final = ("requests", "input_tokens", "output_tokens", "latency_s")
"""What a course tells of each hour: sums over the requests of which it is known, 0 where it is of none."""


@dataclass(frozen=True, slots=True)
class Course:
    """How the groups of a report went, hour by hour.

    ``hours`` are rows of a number, an hour since 1970 and the values of ``COURSE``; ``keys`` says which group a number is
    of, and several may be of the same. Labels are counted by day: where one is asked about, ``days`` are the rows of the
    groups, with a day since 1970, and ``hours`` those of all requests together, with the label or without, of number 0.
    """

    report: Report
    keys: dict[int, str]
    hours: list[tuple[Any, ...]]
    days: list[tuple[Any, ...]] | None


@dataclass(frozen=True, slots=True)
class Combination:
    """The requests of one series: what all of them have in common, and their sums."""

    provider: str
    endpoint: str
    model: str
    zone: str
    methodology: str
    data_version: str
    totals: Totals


@dataclass(frozen=True, slots=True)
class Known:
    """The names in the log, in the order of the alphabet; of each label the first values."""

    models: tuple[str, ...]
    providers: tuple[str, ...]
    endpoints: tuple[str, ...]
    labels: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a month comes to: ``so_far`` and, for the ``days_left``, as much a day as in the mean of the ``days_seen``."""

    month: str
    so_far: Totals
    expected: Totals
    days_seen: int
    days_left: float


# --- asking -------------------------------------------------------------------------------------------------------------


def report(index: Index, by: str = "model", where: Where = Where()) -> Report:
    """Totals by one of ``DIMENSIONS``.

    Raises:
        ValueError: there is no such dimension or label, or the combination is not kept: hours with a label, two labels.
    """
    return index.read(lambda connection: _Asked(connection, where, by).report())


def course(index: Index, by: str = "model", where: Where = Where()) -> Course:
    """The report by a dimension that is no time, and the hours of its groups, of one moment.

    Raises:
        ValueError: there is no such dimension or label, or the combination is not kept.
    """
    if by in _LEVELS:
        raise ValueError(f"a course is hour by hour already: it can be by {', '.join((*_OF_SERIES, 'label:KEY'))}")
    return index.read(lambda connection: _Asked(connection, where, by).course())


def total(index: Index, where: Where = Where()) -> Totals:
    """The sum over all requests that ``where`` lets through.

    Raises:
        ValueError: no request has a label of that name.
    """
    return index.read(lambda connection: _Asked(connection, where).total())


def timeline(
    index: Index, by: str, keys: Iterable[str], where: Where = Where(), *, level: str = "day"
) -> dict[str, dict[str, Totals]]:
    """How some groups of a report by a dimension that is no time went: their totals by hour, day or month.

    Raises:
        ValueError: no such dimension, label or level, or the combination is not kept: hours with a label, two labels.
    """
    if by in _LEVELS or level not in _LEVELS:
        raise ValueError(f"a timeline is of groups that are no time, by {', '.join(_LEVELS)}")
    wanted = frozenset(keys)
    return index.read(lambda connection: _Asked(connection, where, by).timeline(wanted, level))


def combinations(index: Index, where: Where = Where()) -> tuple[Combination, ...]:
    """Totals by everything that a series is made of.

    Raises:
        ValueError: no request has a label of that name.
    """
    return index.read(lambda connection: _Asked(connection, where).combinations())


def known(index: Index, *, values: int = 100) -> Known:
    """The names that there are to choose from; ``values`` is how many of each label at most."""

    def ask(connection: sqlite3.Connection) -> Known:
        def column(name: str) -> tuple[str, ...]:
            return tuple(row[0] for row in connection.execute(f"SELECT DISTINCT {name} FROM series ORDER BY {name}"))

        found = "SELECT value FROM label WHERE key = ? AND value <> '(none)' ORDER BY value LIMIT ?"
        labels = {key: tuple(row[0] for row in connection.execute(found, (key, values))) for key in _label_keys(connection)}
        return Known(column("model"), column("provider"), column("endpoint"), labels)

    return index.read(ask)


def recent(index: Index, limit: int = 50) -> list[dict[str, Any]]:
    """The newest records, newest first, as they stand in the log. At most the last 5 000 can be had."""
    found = index.read(
        lambda connection: connection.execute(
            "SELECT folder.name, segment.name, recent.offset, recent.length FROM recent "
            "JOIN segment ON segment.id = recent.segment JOIN folder ON folder.id = segment.folder "
            "ORDER BY recent.time DESC, folder.name DESC, segment.name DESC, recent.offset DESC LIMIT ?",
            (max(limit, 0),),
        ).fetchall()
    )
    wanted: dict[tuple[str, str], list[tuple[int, int, int]]] = {}
    for place, (folder, name, offset, length) in enumerate(found):
        wanted.setdefault((folder, name), []).append((offset, length, place))
    records: dict[int, dict[str, Any]] = {}
    for (folder, name), lines in wanted.items():
        if not name.endswith(".jsonl"):
            with contextlib.suppress(Unreadable):
                rows = read_some(index.log_dir, name, [offset for offset, _, _ in lines])
                records.update(zip((place for _, _, place in lines), rows, strict=True))
            continue
        try:
            with open_segment(index.log_dir / folder / name) as file:
                for offset, length, place in lines:
                    file.seek(offset)
                    record = json.loads(file.read(length))
                    if isinstance(record, dict):
                        records[place] = record
        except (OSError, ValueError, RecursionError):  # deleted or rewritten since the last refresh
            continue
    return [records[place] for place in sorted(records)]


def label_keys(index: Index) -> dict[str, int]:
    """The names of the labels in the log, and how many values each has."""
    return index.read(_label_keys)


def forecast(index: Index, where: Where = Where(), *, now: datetime) -> Forecast | None:
    """What the month of ``now`` comes to. The period of ``where`` is not looked at.

    The mean is that of whole days before today, at most the last 28, from the first request on.
    ``None`` where not even one was seen.
    """
    now = now.astimezone(UTC)
    today = datetime.combine(now.date(), time(), UTC)
    start = today.replace(day=1)
    end = _next_month(start)

    def within(since: datetime | None, until: datetime | None) -> Where:
        return Where(since, until, where.model, where.provider, where.endpoint, where.label)

    def ask(connection: sqlite3.Connection) -> Forecast | None:
        first, _ = _Asked(connection, within(None, today)).ends()
        if first is None:
            return None
        first_whole_day = datetime.combine(first.date(), time(), UTC)
        if first.hour:
            first_whole_day += timedelta(days=1)
        seen_since = max(first_whole_day, today - timedelta(days=FORECAST_DAYS))
        days_seen = (today - seen_since).days
        if days_seen < 1:
            return None
        so_far = _Asked(connection, within(start, today + timedelta(days=1))).total()
        seen = _Asked(connection, within(seen_since, today)).total()
        days_left = (end - now) / timedelta(days=1)
        return Forecast(f"{start:%Y-%m}", so_far, so_far + seen * (days_left / days_seen), days_seen, days_left)

    return index.read(ask)


_AGO: Final = re.compile(r"(\d{1,6})([dh])")
_PLAIN_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def parse_moment(text: str, *, now: datetime, end: bool = False) -> datetime:
    """A point in time as people write it, in UTC.

    A date, ``today``, ``yesterday`` or ``month`` is its start; with ``end`` it is its end, because ``--until 2026-11-30``
    means that day too. ``7d`` and ``24h`` are that long ago. A time without a zone is UTC.

    Raises:
        ValueError: it is none of these.

    >>> now = datetime(2026, 11, 22, 13, 5, tzinfo=UTC)
    >>> for text in ("2026-11-01", "2026-11-01T10:00+01:00", "24h", "yesterday", "month"):
    ...     print(parse_moment(text, now=now).isoformat())
    2026-11-01T00:00:00+00:00
    2026-11-01T09:00:00+00:00
    2026-11-21T13:05:00+00:00
    2026-11-21T00:00:00+00:00
    2026-11-01T00:00:00+00:00
    >>> parse_moment("2026-11-30", now=now, end=True).isoformat()
    '2026-12-01T00:00:00+00:00'
    """
    now = now.astimezone(UTC)
    today = datetime.combine(now.date(), time(), UTC)
    word = text.strip().lower()
    try:
        if ago := _AGO.fullmatch(word):
            return now - (timedelta(days=int(ago[1])) if ago[2] == "d" else timedelta(hours=int(ago[1])))
        if word == "month":
            start = today.replace(day=1)
            return _next_month(start) if end else start
        if word in ("today", "yesterday") or _PLAIN_DATE.fullmatch(word):
            days = {"today": today, "yesterday": today - timedelta(days=1)}
            start = days[word] if word in days else datetime.fromisoformat(word).replace(tzinfo=UTC)
            return start + timedelta(days=1) if end else start
        moment = datetime.fromisoformat(text.strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no point in time: use a date such as 2026-11-01, a time such as 2026-11-01T10:00 (UTC) or "
            "2026-11-01T10:00+01:00, 7d or 24h for that long ago, today, yesterday, or month"
        ) from None


def _next_month(start: datetime) -> datetime:
    return (start + timedelta(days=31)).replace(day=1)


# --- answering ----------------------------------------------------------------------------------------------------------


class _Labels(NamedTuple):
    """Labels as an expression for ``IN (...)``, and what is bound in it."""

    sql: str
    bound: tuple[Any, ...]


class _Asked:
    """One question: the period that it covers, in hours, and the rows of the roll-ups in it."""

    def __init__(self, connection: sqlite3.Connection, where: Where, by: str = "model") -> None:
        self._connection = connection
        self._where = where
        self._by = _checked(by)
        hours = 24 if where.label or by.startswith(_LABEL) else 1  # labels are rolled up by day
        self._since = START_OF_TIME if where.since is None else _floor(where.since, hours)
        self._until = END_OF_TIME if where.until is None else _ceiling(where.until, hours)
        self._labels = self._labels_of(where.label)
        parts = {name: getattr(where, name) for name in ("model", "provider", "endpoint")}
        given = {name: clean_text(value) for name, value in parts.items() if value is not None}
        self._series = (
            f"AND series IN (SELECT id FROM series WHERE {' AND '.join(f'{n} = ?' for n in given)})" if given else ""
        )
        self._of_series = tuple(given.values())

    def report(self) -> Report:
        by = self._by
        series = self._sums("series", self._labels)
        total = _total(series.values())
        if by in _OF_SERIES:
            groups = self._by_series(series, by)
        elif by in _LEVELS:
            groups = self._by_time(by)
        else:
            groups = self._by_label(by.removeprefix(_LABEL))
        first, last = self.ends()
        return Report(
            by=by,
            since=None if self._where.since is None else moment_of(self._since),
            until=None if self._where.until is None else moment_of(self._until),
            groups=groups,
            total=total,
            first=first,
            last=last,
            editions=self._editions(series),
            error_codes=self._codes("error"),
            warning_codes=self._codes("warning"),
            skipped_lines=self._connection.execute("SELECT coalesce(sum(skipped + torn), 0) FROM segment").fetchone()[0],
        )

    def course(self) -> Course:
        report, everyone = self.report(), _Labels("?", (EVERYTHING,))
        if self._by in _OF_SERIES:
            column, labels = "series", self._labels
            keys = dict(self._connection.execute(f"SELECT id, {self._by} FROM series"))
        else:
            column, (labels, keys) = "label", self._labels_by(self._by.removeprefix(_LABEL))
        if labels == everyone:
            return Course(report, keys, self._course(column, HOUR, labels), None)
        return Course(report, keys, self._course("0", HOUR, everyone), self._course(column, DAY, labels))

    def _course(self, column: str, level: int, labels: _Labels) -> list[tuple[Any, ...]]:
        hours = {HOUR: 1, DAY: 24}[level]
        sums = ", ".join(f"coalesce(sum({name}), 0)" for name in COURSE)
        return self._connection.execute(
            f"SELECT {column}, bucket, {sums} FROM rollup WHERE level = ? AND label IN ({labels.sql}) "
            f"AND bucket >= ? AND bucket < ? {self._series} GROUP BY label, bucket{', series' * (column == 'series')}",
            (level, *labels.bound, self._since // hours, self._until // hours, *self._of_series),
        ).fetchall()

    def timeline(self, wanted: frozenset[str], level: str) -> dict[str, dict[str, Totals]]:
        labels = self._labels
        if self._by in _OF_SERIES:
            column, names = "series", dict(self._connection.execute(f"SELECT id, {self._by} FROM series"))
        else:
            column, (labels, names) = "label", self._labels_by(self._by.removeprefix(_LABEL))
        if level == "hour" and column == "label":
            raise ValueError(_NO_HOURS)
        self._check_hours(level)
        numbers = ", ".join(str(int(number)) for number, name in names.items() if name in wanted)
        found: dict[str, dict[str, list[Sums]]] = {}
        for stretch in stretches(self._since, self._until, largest=_LEVELS[level]):
            rows = self._rows(f"{column}, bucket", stretch, labels, f"AND {column} IN ({numbers})")
            for number, bucket, *row in rows:
                time = text_of(stretch.level, bucket)[: _WIDTHS[level]]
                found.setdefault(names[number], {}).setdefault(time, []).append(tuple(row))
        return {key: {time: _total(rows) for time, rows in sorted(times.items())} for key, times in found.items()}

    def combinations(self) -> tuple[Combination, ...]:
        columns = ("provider", "endpoint", "model", "zone", "methodology", "data_version")
        names = {row[0]: row[1:] for row in self._connection.execute(f"SELECT id, {', '.join(columns)} FROM series")}
        sums = self._sums("series", self._labels)
        return tuple(
            Combination(**dict(zip(columns, names[number], strict=True)), totals=_total([row]))
            for number, row in sorted(sums.items())
        )

    def total(self) -> Totals:
        return _total(self._sums("series", self._labels).values())

    def ends(self) -> tuple[datetime | None, datetime | None]:
        """The hour, with a label the day, of the first and of the last request."""
        level, hours = (DAY, 24) if self._where.label else (HOUR, 1)
        ends = []
        for order in ("ASC", "DESC"):
            found = self._connection.execute(
                f"SELECT bucket FROM rollup WHERE level = ? AND label IN ({self._labels.sql}) "
                f"AND bucket >= ? AND bucket < ? {self._series} ORDER BY bucket {order} LIMIT 1",
                (level, *self._labels.bound, self._since // hours, self._until // hours, *self._of_series),
            ).fetchone()
            ends.append(None if found is None else moment_of(found[0] * hours))
        return ends[0], ends[1]

    def _by_series(self, series: dict[int, Sums], name: str) -> tuple[Group, ...]:
        names = dict(self._connection.execute(f"SELECT id, {name} FROM series"))
        return _ranked((names[number], sums) for number, sums in series.items())

    def _by_time(self, name: str) -> tuple[Group, ...]:
        self._check_hours(name)
        sums: dict[str, list[Sums]] = {}
        for stretch in stretches(self._since, self._until, largest=_LEVELS[name]):
            for bucket, *row in self._rows("bucket", stretch, self._labels):
                sums.setdefault(text_of(stretch.level, bucket)[: _WIDTHS[name]], []).append(tuple(row))
        return tuple(Group(text, _total(rows)) for text, rows in sorted(sums.items()))

    def _check_hours(self, level: str) -> None:
        if level == "hour" and self._where.label:
            raise ValueError(_NO_HOURS)

    def _by_label(self, key: str) -> tuple[Group, ...]:
        labels, values = self._labels_by(key)
        return _ranked((values[number], sums) for number, sums in self._sums("label", labels).items())

    def _labels_by(self, key: str) -> tuple[_Labels, dict[int, str]]:
        """The labels that a report by a key is made of, and the values of that key by their numbers."""
        labels = self._labels
        if self._where.label is None:
            self._check_key(key)
            labels = _Labels("SELECT id FROM label WHERE key = ?", (clean_text(key),))
        elif self._where.label[0] != key:
            raise ValueError(
                f"labels are counted one by one: a report by {key!r} cannot be filtered by {self._where.label[0]!r}"
            )
        return labels, dict(self._connection.execute("SELECT id, value FROM label WHERE key = ?", (clean_text(key),)))

    def _sums(self, column: str, labels: _Labels) -> dict[int, Sums]:
        """The sums by a column of numbers, over all stretches."""
        found: dict[int, list[Sums]] = {}
        for stretch in stretches(self._since, self._until):
            for number, *row in self._rows(column, stretch, labels):
                found.setdefault(number, []).append(tuple(row))
        return {number: add_up(rows) for number, rows in found.items()}

    def _rows(self, columns: str, stretch: Stretch, labels: _Labels, only: str = "") -> sqlite3.Cursor:
        return self._connection.execute(
            f"SELECT {columns}, {SUM_COLUMNS} FROM rollup WHERE level = ? AND label IN ({labels.sql}) "
            f"AND bucket >= ? AND bucket < ? {self._series} {only} GROUP BY {columns}",
            (stretch.level, *labels.bound, stretch.first, stretch.end, *self._of_series),
        )

    def _editions(self, series: dict[int, Sums]) -> tuple[str, ...]:
        rows = self._connection.execute("SELECT id, methodology, data_version FROM series")
        return tuple(sorted({f"{methodology}, data {data}" for number, methodology, data in rows if number in series}))

    def _codes(self, kind: str) -> dict[str, int]:
        if self._where.label:
            return {}
        rows = self._connection.execute(
            f"SELECT code, sum(requests) AS number FROM code WHERE kind = ? AND day >= ? AND day < ? {self._series} "
            "GROUP BY code ORDER BY number DESC, code",
            (kind, self._since // 24, -(-self._until // 24), *self._of_series),
        )
        return dict(rows.fetchall())

    def _labels_of(self, label: tuple[str, str] | None) -> _Labels:
        if label is None:
            return _Labels("?", (EVERYTHING,))
        self._check_key(label[0])
        return _Labels("SELECT id FROM label WHERE key = ? AND value = ?", (clean_text(label[0]), clean_text(label[1])))

    def _check_key(self, key: str) -> None:
        known = _label_keys(self._connection)
        if clean_text(key) not in known:
            names = (
                f"those in this log are {', '.join(map(repr, sorted(known)))}" if known else "no record in this log has any"
            )
            raise ValueError(f"there is no label {key!r}: {names}")


_NO_HOURS: Final = "labels are counted by day, not by hour: leave the label out, or take by='day'"
_WIDTHS: Final = {"hour": len("2026-11-22T13"), "day": len("2026-11-22"), "month": len("2026-11")}


def _checked(by: str) -> str:
    if by in _OF_SERIES or by in _LEVELS or (by.startswith(_LABEL) and by != _LABEL):
        return by
    near = difflib.get_close_matches(by, DIMENSIONS, n=2)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise ValueError(f"there is no report by {by!r}: {hint}it can be by {', '.join(DIMENSIONS)}")


def _label_keys(connection: sqlite3.Connection) -> dict[str, int]:
    rows = connection.execute(
        "SELECT key, count(*) FROM label WHERE id <> ? AND value <> '(none)' GROUP BY key ORDER BY key", (EVERYTHING,)
    )
    return dict(rows.fetchall())


def _floor(moment: datetime, hours: int) -> int:
    return _within_time(hour_of(moment) // hours * hours)


def _ceiling(moment: datetime, hours: int) -> int:
    hour = hour_of(moment)
    return _within_time(-(-(hour + (moment_of(hour) < moment)) // hours) * hours)


def _within_time(hour: int) -> int:
    return min(max(hour, START_OF_TIME), END_OF_TIME)


def _ranked(found: Iterable[tuple[str, Sums]]) -> tuple[Group, ...]:
    by_key: dict[str, list[Sums]] = {}
    for key, sums in found:
        by_key.setdefault(key, []).append(sums)
    groups = [Group(key, _total(rows)) for key, rows in by_key.items()]
    return tuple(sorted(groups, key=_rank))


def _rank(group: Group) -> tuple[float, int, str]:
    energy = group.totals.energy
    return (0.0 if energy is None else -energy.central, -group.totals.requests, group.key)


def _total(rows: Iterable[Sums]) -> Totals:
    rows = list(rows)
    if not rows:
        return EMPTY
    sums = add_up(rows)
    latency_s = sums[_LATENCY]
    counts: dict[str, Any] = {name: sums[place] or 0 for name, place in _COUNTS}
    impacts: dict[str, Any] = {key: _range(sums[low], sums[central], sums[high]) for key, (low, central, high) in _RANGES}
    return Totals(
        **counts,
        mean_latency_s=None if latency_s is None else latency_s / counts["timed"],
        cost_usd=sums[_COST],
        **impacts,
    )


# Where each stands in ``Sums``: a report by hour makes totals by the thousand.
_LATENCY: Final = SUMS.index("latency_s")
_COST: Final = SUMS.index("cost_usd")
_COUNTS: Final = tuple((name, SUMS.index(name)) for name in (*COUNTS, *TOKENS))
_RANGES: Final = tuple((c.key, [SUMS.index(f"{c.suffix}_{end}") for end in ENDS]) for c in CRITERIA)


def _range(low: float | None, central: float | None, high: float | None) -> Range | None:
    if low is None or central is None or high is None:
        return None
    high = max(low, high)  # all are sums of the same requests; rounding may put them in the wrong order
    return Range(low, high, min(max(low, central), high))


def _plus(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    return one + other
