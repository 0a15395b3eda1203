"""Logs made for tests, whole and broken, and the plain sums over them that the index has to agree with."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ecoimpact.records.index import FILE_NAME, Index
from ecoimpact.records.queries import Report, Totals, report
from ecoimpact.records.reader import read_records
from ecoimpact.records.schema import FIELDS
from ecoimpact.types import CRITERIA

START = datetime(2026, 1, 31, 22, 0, tzinfo=UTC)
SIZES = {"min": 1.0, "central": 1.2, "max": 1.7}
"""Of the ends and the central value of a figure, which is not the midpoint."""
FIGURES = [f"{c.suffix}_{end}" for c in CRITERIA for end in SIZES]


def made(number: int = 0, **changes: Any) -> dict[str, Any]:
    """A record with every field; ``number`` moves its time by that many hours and makes its figures its own."""
    record: dict[str, Any] = {field.name: None for field in FIELDS}
    record |= {
        "schema": 1,
        "id": f"id-{number}",
        "time": f"{START + timedelta(hours=number):%Y-%m-%dT%H:%M:%S.%fZ}",
        "provider": "openai",
        "endpoint": "chat.completions",
        "request_model": "gpt-4o-mini",
        "model": "gpt-4o-mini",
        "input_tokens": 100 + number,
        "cached_input_tokens": 7,
        "output_tokens": 20 + number,
        "reasoning_tokens": None,
        "tokens_estimated": False,
        "latency_s": 0.1 * number + 0.3,
        "stream": False,
        "status": "ok",
        "zone": "USA",
        "methodology": "ecologits-2025-09",
        "data_version": "2026-11-22",
        "cost_usd": 0.001 * number + 1e-5,
        "warnings": [],
        "errors": [],
        "labels": {},
    }
    for place, criterion in enumerate(CRITERIA):
        for end, size in SIZES.items():
            record[f"{criterion.suffix}_{end}"] = 1e-3 / (place + 1) * (number + 1) * size / 3
    return record | changes


def of(user: str | None, number: int = 0, **changes: Any) -> dict[str, Any]:
    """A record of a user, or of nobody."""
    return made(number, labels={} if user is None else {"user": user, "feature": "f"}, **changes)


def without_central(record: dict[str, Any]) -> dict[str, Any]:
    """The record as it was written before records had central values."""
    return {name: value for name, value in record.items() if not name.endswith("_central")}


def line(record: Any) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def write(log_dir: Path, name: str, records: Iterable[Any], folder: str = "2026-02-01") -> Path:
    """Append to a segment."""
    path = log_dir / folder / f"{name}.jsonl"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("ab") as segment:
        segment.write(b"".join(item if isinstance(item, bytes) else line(item) for item in records))
    return path


def quiet(log_dir: Path) -> None:
    """Nobody wrote to these segments for days."""
    long_ago = time.time() - 10 * 86_400
    for path in log_dir.glob("*/*.jsonl"):
        os.utime(path, (long_ago, long_ago))


def counted(log_dir: Path) -> list[dict[str, Any]]:
    """The records that an index counts: those the reader finds that have a time."""
    return [record for record in read_records(log_dir) if time_of(record) is not None]


def time_of(record: dict[str, Any]) -> datetime | None:
    try:
        moment = datetime.fromisoformat(record["time"])
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return moment if 1970 <= moment.year < 9999 else None


def number_in(record: dict[str, Any], name: str) -> Any:
    """A measure as far as it can be one."""
    value: Any = record.get(name)
    kinds = (int,) if name.endswith("_tokens") else (int, float)
    return value if type(value) in kinds and 0 <= value < 1e12 else None


def figures_in(record: dict[str, Any], suffix: str) -> tuple[float, float, float] | None:
    """Low end, central value and high end; the midpoint where there is no central value, or none that can be."""
    low, central, high = (number_in(record, f"{suffix}_{end}") for end in SIZES)
    if low is None or high is None or low > high:
        return None
    return low, (low + high) / 2 if central is None or not low <= central <= high else central, high


def same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-12)


def assert_sums(totals: Totals, records: list[dict[str, Any]]) -> None:
    """The totals are those that plain Python gets from the records: counts exactly, amounts to the twelfth digit."""

    def known(name: str) -> list[Any]:
        return [value for record in records if (value := number_in(record, name)) is not None]

    def number_of(condition: Callable[[dict[str, Any]], bool]) -> int:
        return sum(map(condition, records))

    estimated = [[figures_in(record, c.suffix) for c in CRITERIA] for record in records]
    assert totals.requests == len(records)
    assert totals.not_ok == number_of(lambda record: record.get("status") != "ok")
    assert totals.unestimated == sum(not any(figures) for figures in estimated)
    assert totals.unpriced == number_of(lambda record: number_in(record, "cost_usd") is None)
    assert totals.tokens_estimated == number_of(lambda record: record.get("tokens_estimated") is True)
    assert totals.tokens_unknown == number_of(lambda record: number_in(record, "output_tokens") is None)
    for name in ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens"):
        assert getattr(totals, name) == sum(known(name)), name
    latency, cost = known("latency_s"), known("cost_usd")
    assert same(totals.mean_latency_s, math.fsum(latency) / len(latency) if latency else None)
    assert same(totals.cost_usd, math.fsum(cost) if cost else None)
    for place, c in enumerate(CRITERIA):
        ends = [ends for figures in estimated if (ends := figures[place]) is not None]
        value = getattr(totals, c.key)
        assert (value is None) == (not ends), c.key
        assert getattr(totals, f"{c.key}_known") == len(ends), c.key
        if ends:
            assert same(value.min, math.fsum(low for low, _, _ in ends)), c.key
            assert same(value.central, math.fsum(central for _, central, _ in ends)), c.key
            assert same(value.max, math.fsum(high for _, _, high in ends)), c.key


def assert_same_report(one: Report, other: Report) -> None:
    """Two reports say the same, but for the rounding of sums in another order."""
    assert [group.key for group in sorted(one.groups, key=lambda g: g.key)] == sorted(group.key for group in other.groups)
    by_key = {group.key: group.totals for group in other.groups}
    for group in one.groups:
        assert_same_totals(group.totals, by_key[group.key])
    assert_same_totals(one.total, other.total)
    for name in ("first", "last", "editions", "error_codes", "warning_codes", "skipped_lines"):
        assert getattr(one, name) == getattr(other, name), name


def assert_same_totals(one: Totals, other: Totals) -> None:
    for name in Totals.__dataclass_fields__:
        a, b = getattr(one, name), getattr(other, name)
        if hasattr(a, "min") and hasattr(b, "min"):
            for end in SIZES:
                assert same(getattr(a, end), getattr(b, end)), f"{name} {end}"
        else:
            assert same(a, b), name


def from_scratch(log_dir: Path, beside: Path) -> Index:
    """An index of a copy of the log, made in one go."""
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(log_dir, beside, ignore=shutil.ignore_patterns(f"{FILE_NAME}*", ".index.lock"), symlinks=True)
    index = Index(beside)
    index.refresh()
    return index


def assert_same_index(index: Index, log_dir: Path, beside: Path) -> None:
    """The index says what one says that is made of the same segments from scratch."""
    with from_scratch(log_dir, beside) as scratch:
        keys = [f"label:{key}" for key in ("feature", "user")]
        for by in ("model", "provider", "day", "hour", "month", *keys):
            try:
                expected = report(scratch, by)
            except ValueError:  # no record has such a label
                continue
            assert_same_report(report(index, by), expected)


def run(program: str, *arguments: object, expect: int = 0) -> str:
    """A program of its own, with the log's directory as its first argument."""
    head = """
        import os, signal, sys, threading
        from pathlib import Path
        from ecoimpact.records import folding, index, prune, queries, store
        from ecoimpact.records.index import Index
        log_dir = Path(sys.argv[1])
    """
    command = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-c"]
    source = textwrap.dedent(head) + textwrap.dedent(program)
    done = subprocess.run(
        [*command, source, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == expect, done.stderr
    return done.stdout
