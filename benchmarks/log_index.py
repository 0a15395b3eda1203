"""How fast the index takes in a log, and how fast it answers. ``python -m benchmarks.log_index``.

The log is that of a year: eight models of two providers, a feature (8 values) and a user (1 000 values) on each request.
Its figures are the engine's own. A few days are made record by record; the others are copies of them with their own date.
"""

from __future__ import annotations

import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import ecoimpact
from benchmarks import dashboard_view
from ecoimpact.records.index import FILE_NAME, Index
from ecoimpact.records.queries import Where, report
from ecoimpact.records.segments import MAX_SEGMENT_BYTES, to_json
from ecoimpact.types import Inference, Record, Usage

MODELS = (
    ("openai", "chat.completions", "gpt-4o-mini"),
    ("openai", "chat.completions", "gpt-4o"),
    ("openai", "responses", "gpt-4.1"),
    ("openai", "responses", "gpt-4.1-mini"),
    ("anthropic", "messages", "claude-3-5-haiku-latest"),
    ("anthropic", "messages", "claude-sonnet-4-0"),
    ("anthropic", "messages", "claude-opus-4-0"),
    ("anthropic", "messages", "claude-3-7-sonnet-latest"),
)
FEATURES, USERS, DAYS = 8, 1_000, 365
FIRST_DAY = datetime(2025, 1, 1, tzinfo=UTC)
DISTINCT, DISTINCT_DAYS = 5_000, 10
"""So many requests have figures of their own; more of them repeat these under other ids, times and labels."""

MARCH_TO_NOVEMBER = Where(since=datetime(2025, 3, 10, 9, tzinfo=UTC), until=datetime(2025, 11, 20, 17, tzinfo=UTC))
REPORTS: dict[str, tuple[str, Where]] = {
    "by model": ("model", Where()),
    "by day": ("day", Where()),
    "by user": ("label:user", Where()),
    "by model, 10 March 9:00 to 20 November 17:00": ("model", MARCH_TO_NOVEMBER),
    "by user, the same period": ("label:user", MARCH_TO_NOVEMBER),
    "by user, of one model": ("label:user", Where(model="gpt-4o")),
    "by day, of one user": ("day", Where(label=("user", "user-0007"))),
}


def table(
    sizes: Sequence[int] = (100_000, 1_000_000, 10_000_000),
    *,
    rounds: int = 7,
    progress: Callable[[str], object] = lambda _: None,
) -> str:
    """Taking in and asking, a column for each size, as a Markdown table. What finds no room on the disk is left out."""
    rows: dict[str, list[str]] = {name: [] for name in ("taken in, records/s", "log, MB", "index, MB", "new line, ms")}
    rows |= {name: [] for name in (*(f"{name}, ms" for name in REPORTS), *dashboard_view.names())}
    rows["taking it in: peak memory, MiB"] = []
    measured = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="ecoimpact-bench-") as folder:
            chance = random.Random(2025)  # noqa: S311 - no secret
            templates = [_line(chance) for _ in range(DISTINCT)]
            days = [_one_day(max(size // DAYS, 1), templates, chance) for _ in range(DISTINCT_DAYS)]
            if shutil.disk_usage(folder).free < 1.5 * len(days[0]) * DAYS:
                progress(f"no room for a log of {size:,} records")
                continue
            progress(f"log of {size:,} records: writing")
            _write(Path(folder), days)
            del days
            progress(f"log of {size:,} records: taking it in")
            for name, value in _measured(Path(folder), rounds).items():
                rows[name].append(value)
            measured.append(size)
    head = ["| | " + " | ".join(f"{size:,} records" for size in measured) + " |", "|---" * (len(measured) + 1) + "|"]
    return "\n".join([*head, *(f"| {name} | {' | '.join(values)} |" for name, values in rows.items())])


# In a process of its own, because this one has held the lines that it wrote. Linux counts a parent's memory in `ru_maxrss`.
_TAKE_IN = r"""
import re, sys, time
from pathlib import Path
from ecoimpact.records.index import Index
started = time.perf_counter()
with Index(sys.argv[1]) as index:
    records = index.refresh().records
taken_s = time.perf_counter() - started
status = Path("/proc/self/status")
peak = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
print(records / taken_s, int(peak[1]) / 1024 if peak else "nan")
"""


def _measured(log_dir: Path, rounds: int) -> dict[str, str]:
    taken = subprocess.run([sys.executable, "-c", _TAKE_IN, log_dir], check=True, capture_output=True, text=True)
    records_per_s, peak_mib = map(float, taken.stdout.split())
    log_bytes = sum(path.stat().st_size for path in log_dir.glob("*/*.jsonl"))
    measured = {
        "taken in, records/s": f"{records_per_s:,.0f}",
        "log, MB": f"{log_bytes / 1e6:,.0f}",
        "index, MB": f"{(log_dir / FILE_NAME).stat().st_size / 1e6:,.1f}",
        "new line, ms": f"{_median_ms(lambda: _one_more(log_dir), rounds):.1f}",
    }
    for name, asked in REPORTS.items():
        measured[f"{name}, ms"] = f"{_median_ms(partial(_ask, log_dir, *asked), rounds):.1f}"
    measured |= dashboard_view.measured(log_dir, rounds)
    return measured | {"taking it in: peak memory, MiB": f"{peak_mib:.0f}"}


def _ask(log_dir: Path, by: str, where: Where) -> None:
    with Index(log_dir) as index:
        assert report(index, by, where).groups


def _one_more(log_dir: Path) -> None:
    """What a dashboard does again and again: there is one more record, and it looks."""
    segment = next(log_dir.glob("2025-12-31/*.jsonl"))
    with segment.open("rb") as file:
        line = file.readline()
    with segment.open("ab") as file:
        file.write(line)
    with Index(log_dir) as index:
        assert index.refresh().records == 1


def _median_ms(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


def _one_day(number: int, templates: Sequence[str], chance: random.Random) -> bytes:
    """Lines in the order of their times, users and features at random."""
    lines = []
    for place in range(number):
        moment = FIRST_DAY + timedelta(days=place / number)
        line = chance.choice(templates)
        line = line.replace("THE-ID", f"{chance.getrandbits(128):032x}").replace("THE-TIME", f"{moment:%H:%M:%S.%f}")
        line = line.replace("THE-USER", f"user-{chance.randrange(USERS) if place else 7:04}")
        lines.append(line.replace("THE-FEATURE", f"feature-{chance.randrange(FEATURES)}"))
    return "".join(lines).encode()


def _line(chance: random.Random) -> str:
    provider, endpoint, model = chance.choices(MODELS, weights=range(len(MODELS), 0, -1))[0]
    output_tokens = int(chance.lognormvariate(5.5, 0.8)) + 1
    latency_s = 0.4 + output_tokens * chance.uniform(0.005, 0.02)
    input_tokens = int(chance.lognormvariate(6.5, 1.0))
    impacts = ecoimpact.estimate(
        model, output_tokens=output_tokens, input_tokens=input_tokens, provider=provider, latency_s=latency_s
    )
    record = Record(
        id="THE-ID",
        inference=Inference(
            provider=provider,
            endpoint=endpoint,
            request_model=model,
            response_model=model,
            usage=Usage(input_tokens, output_tokens, chance.choice([0, 0, input_tokens // 2]), 0),
            latency_s=latency_s,
            time_to_first_token_s=None,
            started_at=FIRST_DAY.timestamp(),
            stream=False,
            status=chance.choices(("ok", "error", "cancelled"), weights=(97, 2, 1))[0],
        ),
        assessment=impacts.assessment,
        labels={"feature": "THE-FEATURE", "user": "THE-USER"},
        cost_usd=output_tokens * 4e-6,
    )
    return to_json(record.to_dict() | {"time": f"{FIRST_DAY:%Y-%m-%d}TTHE-TIMEZ"}) + "\n"


def _write(log_dir: Path, days: Sequence[bytes]) -> None:
    written = f"{FIRST_DAY:%Y-%m-%d}T".encode()
    for number in range(DAYS):
        date = f"{FIRST_DAY + timedelta(days=number):%Y-%m-%d}"
        lines = days[number % len(days)].replace(b'"time":"' + written, b'"time":"' + f"{date}T".encode())
        folder = log_dir / date
        folder.mkdir()
        start = part = 0
        while start < len(lines):
            end = lines.rfind(b"\n", start, start + MAX_SEGMENT_BYTES) + 1
            (folder / f"000000-1-{part:08x}.jsonl").write_bytes(lines[start:end])
            start, part = end, part + 1


if __name__ == "__main__":
    sizes = [int(size) for size in sys.argv[1:]]
    print(table(sizes or (100_000, 1_000_000, 10_000_000), progress=lambda text: print(text, file=sys.stderr, flush=True)))
