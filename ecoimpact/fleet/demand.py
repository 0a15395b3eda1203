"""What was asked of a fleet in each hour, as the log has it.

Rules of this file: hours are UTC, whole, and without gaps; an hour without requests is zero, a figure that nobody knows is
counted and filled in by nobody here. The sum of the groups of an hour is what the log has in that hour; labels are
counted by day, and are spread over the hours of a day as all its requests are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecoimpact.records.index import Index
from ecoimpact.records.queries import COURSE, Course, Report, Totals, Where, course

if TYPE_CHECKING:
    from ecoimpact.deployments import GPUJob

FloatArray: TypeAlias = NDArray[np.float64]
PerRequest: TypeAlias = float | Mapping[str, float]
"""A figure of a request: the same for all groups, or by group."""

MAX_HOURS: Final = 1_000_000
MAX_CELLS: Final = 10_000_000
"""Hours times groups: 80 MB for each of the four series. What is beyond is one group."""

OTHERS: Final = "(other)"
"""The group of what is beyond, which is the name that an index has for that as well."""

GPU_PER_REQUEST: Final = 1.0
RAM_GB_PER_REQUEST: Final = 0.05
"""What e-footprint takes for a job where nothing is said."""

LONGEST_S: Final = 86_400.0
"""A mean latency above a day is a mistake of what wrote the log, and would keep a fleet busy for years."""

EVERYTHING: Final = Where()

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, eq=False)
class GroupDemand:
    """One group: an array of float64 for each series, a value an hour, and ``totals``, its sums in a report.

    ``generation_s`` is the sum of the latencies, in seconds. Tokens and latencies are of the requests that have them;
    ``totals`` says how many have none. Where the hours are spread from days, they are no whole numbers.
    """

    key: str
    totals: Totals
    requests: FloatArray
    input_tokens: FloatArray
    output_tokens: FloatArray
    generation_s: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What was asked in each hour from ``start`` on, by ``by``: the groups by name, the largest number of requests first.

    ``report`` is the report of the same period. ``spread`` says that only the days are the log's own, not the hours of the
    groups. ``folded`` groups were too small for a series of their own and are together in ``(other)``.
    """

    by: str
    start: datetime
    hours: int
    groups: Mapping[str, GroupDemand]
    report: Report
    spread: bool
    folded: int

    @property
    def end(self) -> datetime:
        """The end of the last hour."""
        return self.start + self.hours * _HOUR

    @property
    def times(self) -> NDArray[np.datetime64]:
        """The beginning of each hour in UTC, as ``datetime64[s]``."""
        first = np.datetime64(self.start.replace(tzinfo=None), "s")
        return np.asarray(first + np.arange(self.hours) * np.timedelta64(3600, "s"))

    @property
    def requests(self) -> FloatArray:
        """Requests of all groups."""
        return self._all("requests")

    @property
    def input_tokens(self) -> FloatArray:
        """Input tokens of all groups."""
        return self._all("input_tokens")

    @property
    def output_tokens(self) -> FloatArray:
        """Output tokens of all groups."""
        return self._all("output_tokens")

    @property
    def generation_s(self) -> FloatArray:
        """Seconds of generation of all groups."""
        return self._all("generation_s")

    def _all(self, name: str) -> FloatArray:
        total = np.zeros(self.hours)
        for group in self.groups.values():
            total += getattr(group, name)
        return total

    def duration_s(self, group: str) -> float | None:
        """The mean latency of a group's requests, else that of all others; ``None`` where nobody knows any.

        A mean above ``LONGEST_S`` is not known.
        """
        own = _latency_s([self.groups[group].totals])
        return _latency_s([other.totals for other in self.groups.values()]) if own is None else own

    def jobs(
        self,
        *,
        duration_s: PerRequest | None = None,
        gpu_per_request: PerRequest | None = None,
        ram_gb_per_request: PerRequest | None = None,
    ) -> dict[str, GPUJob]:
        """A job of a GPU server for each group, by its name. Its runs are the requests, and start with their hour.

        Args:
            duration_s: how long a request keeps what it holds. Default: the mean latency of the group, else of all.
            gpu_per_request: GPUs that a request holds: 1 where each has one to itself, 1/16 where 16 are served together.
                The log does not know; the default is that of e-footprint, 1.
            ram_gb_per_request: GB of GPU memory that a request holds besides what is there before any (``base_ram_gb`` of
                the server). The log does not know; the default is that of e-footprint, 0.05.

        Each is a number, or a mapping from groups to numbers; groups that are not in it have the default.

        Raises:
            ValueError: a mapping names no group; a number cannot be; nothing says how long requests take.
        """
        from ecoimpact.deployments import GPUJob

        durations = self._by_group("duration_s", duration_s, None)
        gpus = self._by_group("gpu_per_request", gpu_per_request, GPU_PER_REQUEST)
        rams = self._by_group("ram_gb_per_request", ram_gb_per_request, RAM_GB_PER_REQUEST)
        jobs = {}
        for key, group in self.groups.items():
            seconds = self.duration_s(key) if durations[key] is None else durations[key]
            if seconds is None:
                raise ValueError("the latencies in the log do not say how long requests take: give duration_s")
            name = _job_name(key, self.groups)
            jobs[key] = GPUJob(name, duration_s=seconds, gpu=gpus[key], ram_gb=rams[key], hourly_starts=group.requests)
        return jobs

    def _by_group(self, name: str, given: PerRequest | None, default: float | None) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            return dict.fromkeys(self.groups, default if given is None else given)
        for key in given:
            if key not in self.groups:
                raise ValueError(_no_group(name, key, self.groups))
        return {key: given.get(key, default) for key in self.groups}

    def __repr__(self) -> str:
        return (
            f"<Demand by {self.by}: {len(self.groups)} groups, {self.hours} h from {self.start:%Y-%m-%dT%H}, "
            f"{self.report.total.requests} requests>"
        )


def from_log(
    log_dir: str | os.PathLike[str],
    *,
    by: str = "model",
    since: datetime | None = None,
    until: datetime | None = None,
    where: Where | None = None,
    max_groups: int | None = None,
) -> Demand:
    """The hourly demand in a log, which is indexed first.

    Args:
        log_dir: the directory of the log.
        by: ``"model"``, ``"provider"``, ``"endpoint"``, ``"zone"``, ``"methodology"`` or ``"label:KEY"``.
        since: the beginning, aware; default: the hour of the first request. What is finer than an hour, with labels than a
            day, is rounded outwards.
        until: the end, aware; default: the hour of the last request. A fleet that is on costs something without requests,
            so a fleet's month is ``since`` and ``until`` of that month.
        where: what else is counted, such as ``Where(provider="vllm")``.
        max_groups: groups that have a series of their own; default: as many as are not too large for memory.

    Raises:
        FileNotFoundError: there is no such directory.
        ValueError: there is no such dimension or label (with near ones); a time without a zone; there is no request that
            says when the period begins or ends; the period is longer than a million hours.
    """
    where = where or EVERYTHING
    where = replace(where, since=since or where.since, until=until or where.until)
    with Index(log_dir) as index:
        index.refresh()
        return from_index(index, by=by, where=where, max_groups=max_groups)


def from_index(
    index: Index,
    *,
    by: str = "model",
    where: Where = EVERYTHING,
    max_groups: int | None = None,
    now: datetime | None = None,
) -> Demand:
    """The same from an index, as it is. A period, or a day, that ends after the hour of ``now`` ends with it."""
    found = course(index, by, where)
    start, hours = _axis(found.report, whole_days=where.label is not None, now=now)
    rows, folded = _rows(found, hours, max_groups)
    first_hour = (start - _EPOCH) // _HOUR
    series = _series(found, rows, first_hour, hours)
    return Demand(
        by=by,
        start=start,
        hours=hours,
        groups=MappingProxyType(
            {key: GroupDemand(key, totals, *series[:, row]) for row, (key, totals) in enumerate(rows.items())}
        ),
        report=found.report,
        spread=found.days is not None,
        folded=folded,
    )


def _axis(report: Report, *, whole_days: bool, now: datetime | None) -> tuple[datetime, int]:
    """The first hour and the number of hours: those of the period, where it is open those of the requests."""
    start = report.since or report.first
    end = report.until
    if end is None and report.last is not None:
        end = report.last + (timedelta(days=1) if whole_days else _HOUR)
    if end is not None and now is not None and (whole_days or report.until is not None):
        end = min(end, _EPOCH + ((now - _EPOCH) // _HOUR + 1) * _HOUR)
    if start is None or end is None:
        raise ValueError("there are no requests to say how long the fleet ran: give since and until, or another log")
    hours = (end - start) // _HOUR
    if hours < 1:
        raise ValueError(f"a period ends after it begins: {start.isoformat()} to {end.isoformat()} does not")
    if hours > MAX_HOURS:
        raise ValueError(
            f"{start:%Y-%m-%d} to {end:%Y-%m-%d} are {hours:,} hours, and {MAX_HOURS:,} is the most there can be"
        )
    return start, hours


def _rows(found: Course, hours: int, max_groups: int | None) -> tuple[dict[str, Totals], int]:
    """The groups that have a series of their own, with their totals; and how many others are together in the last."""
    if max_groups is not None and max_groups < 1:
        raise ValueError(f"max_groups must be at least 1, got {max_groups!r}")
    room = max(MAX_CELLS // hours, 1)
    room = room if max_groups is None else min(max_groups, room)
    ranked = sorted(found.report.groups, key=lambda group: (-group.totals.requests, group.key))
    if len(ranked) <= room:
        return {group.key: group.totals for group in ranked}, 0
    kept = [group for group in ranked if group.key != OTHERS][: room - 1]
    rows = {group.key: group.totals for group in kept}
    others = [group for group in ranked if group.key not in rows]
    rows[OTHERS] = sum((group.totals for group in others[1:]), start=others[0].totals)
    return rows, len([group for group in others if group.key != OTHERS])


def _series(found: Course, rows: Mapping[str, Any], first_hour: int, hours: int) -> FloatArray:
    """The values of ``COURSE`` by group and hour: an array of so many by so many by so many."""
    others = list(rows).index(OTHERS) if OTHERS in rows else 0
    row_of = {key: row for row, key in enumerate(rows)}
    row_of_number = {number: row_of.get(key, others) for number, key in found.keys.items()}
    if found.days is None:
        return _fixed(_gathered(found.hours, row_of_number, len(rows), first_hour, hours))
    first_day, end_day = first_hour // 24, -(-(first_hour + hours) // 24)
    days = end_day - first_day
    everyone = _gathered(found.hours, {0: 0}, 1, first_day * 24, days * 24).reshape(len(COURSE), 1, days, 24)
    of_day = everyone.sum(axis=3, keepdims=True)
    part_of_day = np.divide(everyone, of_day, out=np.zeros_like(everyone), where=of_day > 0)
    by_day = _gathered(found.days, row_of_number, len(rows), first_day, days)
    spread = (by_day[..., np.newaxis] * part_of_day).reshape(len(COURSE), len(rows), days * 24)
    skipped = first_hour - first_day * 24
    return _fixed(spread[:, :, skipped : skipped + hours])


def _gathered(
    found: Iterable[Sequence[float]], row_of: Mapping[int, int], rows: int, first: int, buckets: int
) -> FloatArray:
    """Rows of the index, added up into ``rows`` rows of ``buckets`` hours or days from ``first`` on."""
    width = 2 + len(COURSE)
    table = np.fromiter(chain.from_iterable(found), dtype=np.float64).reshape(-1, width)
    table = table[table[:, 1] < first + buckets]  # where a clock is wrong, some are of after now
    place = np.zeros(max(row_of, default=0) + 1, dtype=np.int64)
    place[list(row_of)] = list(row_of.values())
    cell = place[table[:, 0].astype(np.int64)] * buckets + (table[:, 1].astype(np.int64) - first)
    sums = [np.bincount(cell, table[:, column], minlength=rows * buckets) for column in range(2, width)]
    return np.array(sums, dtype=np.float64).reshape(len(COURSE), rows, buckets)


def _fixed(array: FloatArray) -> FloatArray:
    array.setflags(write=False)
    return array


def _latency_s(groups: Iterable[Totals]) -> float | None:
    """The mean over the requests of those groups whose own mean can be."""
    means = [(totals.mean_latency_s, totals.timed) for totals in groups]
    known = [(mean, timed) for mean, timed in means if mean is not None and mean <= LONGEST_S]
    return sum(mean * timed for mean, timed in known) / sum(timed for _, timed in known) if known else None


def _job_name(key: str, taken: Iterable[str]) -> str:
    """A label may be empty, the name of a job may not."""
    name = key or "(empty)"
    while name != key and name in taken:
        name += "'"
    return name


def _no_group(parameter: str, key: object, groups: Iterable[str]) -> str:
    from difflib import get_close_matches

    groups = list(groups)
    near = get_close_matches(str(key), groups, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return f"{parameter} is for {key!r}, which is no group here: {hint}there are {', '.join(map(repr, groups[:10]))}"
