"""From the log to a fleet and back: demand against sums over the raw records, parts against the whole."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
import tempfile
import tomllib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_logs import START, made, write
from rich.cells import cell_len
from typer.testing import CliRunner

from ecoimpact import fleet
from ecoimpact.cli.app import app
from ecoimpact.cli.fleet_file import described_by
from ecoimpact.cli.sparkline import BLOCKS, sparkline
from ecoimpact.deployments import GPUServer, InsufficientCapacityError, ManagedInference
from ecoimpact.deployments.managed_inference import ManagedInferenceFootprint
from ecoimpact.fleet import AttributedFootprint, Demand, from_log
from ecoimpact.fleet.demand import MAX_CELLS, MAX_HOURS, OTHERS
from ecoimpact.records.index import Index
from ecoimpact.records.queries import Where, course
from ecoimpact.types import Range

REL = 1e-9
NOW = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOSTILE = (
    "=cmd()",
    "<script>alert(1)</script>",
    "\x1b[31mred\x07",
    "two\nlines",
    "\u202eright-to-left",
    "x" * 300,
    "[bold red]markup[/]",
    "(idle)",
    "(other)",
    "",
    "日本語のとても長い名前" * 4,
)
NODE: dict[str, Any] = {
    "node_power_w": 2600.0,
    "node_fabrication_kgco2eq": 5150.0,
    "infrastructure_power_w": 420.0,
    "infrastructure_fabrication_kgco2eq": 1310.0,
    "control_plane_power_w_per_node": 55.0,
    "control_plane_fabrication_kgco2eq_per_node": 75.0,
    "pue": 1.16,
    "wue_l_per_kwh": 0.25,
    "grid_kgco2eq_per_kwh": 0.044,
}
SERVER: dict[str, Any] = {
    "server_type": "autoscaling",
    "gpu_count": 4,
    "gpu_power_w": 400,
    "gpu_idle_power_w": 50,
    "ram_per_gpu_gb": 80,
    "fabrication_per_gpu_kgco2eq": 150,
    "fabrication_without_gpu_kgco2eq": 2500,
    "lifespan_years": 6,
    "pue": 1.2,
    "grid_gco2eq_per_kwh": 100,
}

Invoke = Callable[..., Any]


def request(minutes: int = 0, **changes: Any) -> dict[str, Any]:
    """A record that begins so many minutes after the start of all logs here."""
    return made(0, time=f"{START + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%S.%fZ}") | changes


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    return tmp_path / "impact-log"


@pytest.fixture
def busy_log(log_dir: Path) -> Path:
    """Nine days with gaps: three models of two providers, a label that some lack, some tokens and latencies unknown."""
    records = []
    for number in range(900):
        minutes = number * 14 + (600 if number > 300 else 0)
        changes: dict[str, Any] = {
            "model": ("llama-3.3-70b", "qwen3-8b", "gpt-4o")[number * 5 // 2 % 3],
            "provider": ("vllm", "vllm", "openai")[number * 5 // 2 % 3],
            "output_tokens": None if number % 10 == 3 else 10 + number % 97,
            "input_tokens": number % 311,
            "latency_s": None if number % 13 == 5 else 0.25 + number % 17,
            "labels": {"team": ("search", "chat")[number % 2]} if number % 5 else {},
        }
        records.append(request(minutes, **changes))
    write(log_dir, "a", records[::2])
    write(log_dir, "b", records[1::2])
    return log_dir


def read(log_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(log_dir.glob("*/*.jsonl")) for line in path.read_text().splitlines()]


def hour_of(record: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(record["time"]).replace(minute=0, second=0, microsecond=0)


def group_of(record: dict[str, Any], by: str) -> str:
    return str(record["labels"].get(by[6:], "(none)") if by.startswith("label:") else record[by] or "(unknown)")


SERIES: dict[str, Callable[[dict[str, Any]], float]] = {
    "requests": lambda record: 1,
    "input_tokens": lambda record: record["input_tokens"] or 0,
    "output_tokens": lambda record: record["output_tokens"] or 0,
    "generation_s": lambda record: record["latency_s"] or 0.0,
}


def summed(records: list[dict[str, Any]], by: str, name: str, grain: int = 1) -> dict[tuple[str, datetime], float]:
    """The sum of a series by group and hour, or by group and day."""
    found: defaultdict[tuple[str, datetime], list[float]] = defaultdict(list)
    for record in records:
        hour = hour_of(record)
        found[group_of(record, by), hour.replace(hour=0) if grain == 24 else hour].append(SERIES[name](record))
    return {key: math.fsum(values) for key, values in found.items()}


def cells(demand: Demand, name: str, grain: int = 1) -> dict[tuple[str, datetime], float]:
    """What is not zero in a demand."""
    found: defaultdict[tuple[str, datetime], list[float]] = defaultdict(list)
    for key, group in demand.groups.items():
        for hour, value in enumerate(getattr(group, name)):
            moment = demand.start + hour * HOUR
            if value:
                found[key, moment.replace(hour=0) if grain == 24 else moment].append(value)
    return {key: math.fsum(values) for key, values in found.items()}


def assert_same(found: dict[Any, float], expected: dict[Any, float]) -> None:
    expected = {key: value for key, value in expected.items() if value}
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert math.isclose(found[key], value, rel_tol=1e-12), key


# --- demand -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["model", "provider", "endpoint", "zone", "methodology"])
def test_hours_are_those_of_the_records(busy_log: Path, by: str) -> None:
    demand, records = from_log(busy_log, by=by), read(busy_log)
    for name in SERIES:
        assert_same(cells(demand, name), summed(records, by, name))
    assert not demand.spread
    assert demand.start == START
    assert demand.end == max(map(hour_of, records)) + HOUR
    assert [str(time) for time in demand.times[:2]] == ["2026-01-31T22:00:00", "2026-01-31T23:00:00"]
    counts = Counter(group_of(record, by) for record in records)
    assert {key: group.totals.requests for key, group in demand.groups.items()} == counts
    assert list(demand.groups) == sorted(counts, key=lambda key: (-counts[key], key))
    assert demand.report.total.requests == len(records)


@pytest.mark.parametrize(
    ("by", "where"),
    [
        ("label:team", Where()),
        ("label:team", Where(model="qwen3-8b")),
        ("label:team", Where(label=("team", "chat"))),
        ("model", Where(label=("team", "(none)"))),
    ],
)
def test_labels_have_the_days_of_the_records_in_the_hours_of_all(busy_log: Path, by: str, where: Where) -> None:
    demand = from_log(busy_log, by=by, where=where)
    records = [r for r in read(busy_log) if where.model in (None, r["model"])]
    mine = [r for r in records if where.label is None or group_of(r, "label:team") == where.label[1]]
    assert demand.spread
    for name in SERIES:
        assert_same(cells(demand, name, 24), summed(mine, by, name, 24))
        if where.label is None:
            total = {("", demand.start + hour * HOUR): v for hour, v in enumerate(getattr(demand, name)) if v}
            everyone = [record | {"labels": {"all": ""}} for record in records]
            assert_same(total, summed(everyone, "label:all", name))


def test_a_label_without_a_filter_by_model_is_spread_as_all_requests_are(log_dir: Path) -> None:
    night = [request(number, labels={"team": "a"}) for number in range(3)]  # 22:00
    evening = [request(60 + number, labels={"team": "b"}) for number in range(9)]  # 23:00
    write(log_dir, "a", night + evening)
    demand = from_log(log_dir, by="label:team")
    assert demand.groups["a"].requests.tolist() == [0.75, 2.25]
    assert demand.groups["b"].requests.tolist() == [2.25, 6.75]
    assert demand.requests.tolist() == [3.0, 9.0]


@settings(max_examples=40)
@given(
    minutes=st.lists(st.integers(0, 4000), min_size=1, max_size=30),
    by=st.sampled_from(["model", "label:team"]),
    ends=st.tuples(st.none() | st.integers(-100, 2000), st.none() | st.integers(2001, 5000)),
    offset=st.integers(-12, 14),
)
def test_a_period_is_rounded_outwards_and_has_no_gaps(
    minutes: list[int], by: str, ends: tuple[int | None, int | None], offset: int
) -> None:
    grain = 24 * HOUR if by.startswith("label:") else HOUR
    zone = timezone(timedelta(hours=offset))
    since, until = (None if end is None else (START + timedelta(minutes=end)).astimezone(zone) for end in ends)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    first = None if since is None else epoch + (since - epoch) // grain * grain
    last = None if until is None else epoch - (epoch - until) // grain * grain
    records = [request(minute, model=f"m{minute % 3}", labels={"team": f"t{minute % 2}"}) for minute in minutes]
    inside = [
        record
        for record in records
        if (first is None or hour_of(record) >= first) and (last is None or hour_of(record) < last)
    ]
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), "a", records)
        if not inside and None in ends:
            with pytest.raises(ValueError, match="no requests to say how long the fleet ran"):
                from_log(folder, by=by, since=since, until=until)
            return
        demand = from_log(folder, by=by, since=since, until=until)
    assert demand.start == (first or min(map(hour_of, inside)))
    assert demand.end == (last or max(map(hour_of, inside)) + HOUR)
    assert all(len(group.requests) == demand.hours for group in demand.groups.values())
    assert demand.requests.sum() == pytest.approx(len(inside), rel=1e-12)
    assert_same(cells(demand, "requests", 24), summed(inside, by, "requests", 24))
    assert np.diff(demand.times).tolist() == [HOUR] * (demand.hours - 1)


def test_the_day_that_is_shorter_elsewhere_has_all_its_hours(log_dir: Path) -> None:
    paris = ZoneInfo("Europe/Paris")
    since, until = datetime(2026, 3, 29, tzinfo=paris), datetime(2026, 3, 30, tzinfo=paris)
    write(log_dir, "a", [request(time=f"2026-03-29T{hour:02}:30:00.000000Z") for hour in range(24)])
    demand = from_log(log_dir, since=since, until=until)
    assert demand.start == datetime(2026, 3, 28, 23, tzinfo=UTC)
    assert demand.requests.tolist() == [0.0, *[1.0] * 22]


def test_one_request_is_one_hour(log_dir: Path) -> None:
    write(log_dir, "a", [request(59, latency_s=2.0)])
    demand = from_log(log_dir)
    assert (demand.start, demand.hours) == (START, 1)
    assert demand.groups["gpt-4o-mini"].generation_s.tolist() == [2.0]
    assert "1 groups, 1 h from 2026-01-31T22" in repr(demand)


def test_demand_is_read_from_the_index_alone(busy_log: Path) -> None:
    with Index(busy_log) as index:
        index.refresh()
        expected = fleet.from_index(index).requests
        for segment in busy_log.glob("*/*.jsonl"):
            segment.unlink()
        assert fleet.from_index(index).requests.tolist() == expected.tolist()


def test_an_empty_log_has_a_demand_in_a_period_only(log_dir: Path) -> None:
    log_dir.mkdir()
    with pytest.raises(ValueError, match="give since and until"):
        from_log(log_dir)
    demand = from_log(log_dir, since=START, until=START + 5 * HOUR)
    assert (demand.hours, dict(demand.groups), demand.requests.tolist()) == (5, {}, [0.0] * 5)
    with pytest.raises(ValueError, match="there is no label 'team'"):
        from_log(log_dir, by="label:team")
    with pytest.raises(FileNotFoundError, match="no log in"):
        from_log(log_dir / "elsewhere")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "modle"}, "did you mean 'model'"),
        ({"by": "day"}, "hour by hour already: it can be by model, provider, endpoint, zone, methodology, label:KEY"),
        ({"by": "label:taem"}, "there is no label 'taem': those in this log are 'team'"),
        ({"by": "label:user", "where": Where(label=("team", "chat"))}, "labels are counted one by one"),
        ({"since": datetime(2026, 2, 1)}, "a period needs times with a time zone"),
        ({"since": START + HOUR, "until": START}, "a period ends after it begins"),
        (
            {"since": datetime(1, 1, 1, tzinfo=UTC), "until": datetime(9998, 1, 1, tzinfo=UTC)},
            f"and {MAX_HOURS:,} is the most there can be",
        ),
        ({"max_groups": 0}, "max_groups must be at least 1"),
    ],
)
def test_what_cannot_be_asked_is_an_error(busy_log: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_log(busy_log, **arguments)


def test_what_is_beyond_the_number_of_groups_is_one(busy_log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = from_log(busy_log, by="model")
    smaller = from_log(busy_log, by="model", max_groups=2)
    first, *others = whole.groups.values()
    assert list(smaller.groups) == [first.key, OTHERS]
    assert smaller.folded == 2
    assert smaller.groups[OTHERS].requests.tolist() == np.add.reduce([group.requests for group in others]).tolist()
    assert smaller.groups[OTHERS].totals.output_tokens == sum(group.totals.output_tokens for group in others)
    assert list(from_log(busy_log, by="label:team", max_groups=1).groups) == [OTHERS]
    assert MAX_CELLS >= 1000 * 24 * 365  # a year of as many values as a label can have
    monkeypatch.setattr("ecoimpact.fleet.demand.MAX_CELLS", whole.hours * 2)
    assert list(from_log(busy_log, by="model").groups) == list(smaller.groups)


def test_a_course_is_of_one_moment_and_says_whose_its_rows_are(busy_log: Path) -> None:
    with Index(busy_log) as index:
        index.refresh()
        found = course(index, "provider")
        by_key: Counter[str] = Counter()
        for number, _, requests, *_ in found.hours:
            by_key[found.keys[number]] += requests
        assert by_key == {group.key: group.totals.requests for group in found.report.groups}
        assert found.days is None
        labelled = course(index, "label:team", Where(since=START + 30 * HOUR))
        assert labelled.days is not None
        assert {labelled.keys[number] for number, *_ in labelled.days} == {"search", "chat", "(none)"}
        assert min(day for _, day, *_ in labelled.days) * 24 <= min(hour for _, hour, *_ in labelled.hours)
        assert {number for number, *_ in labelled.hours} == {0}


# --- jobs ---------------------------------------------------------------------------------------------------------------


def test_jobs_take_their_starts_and_durations_from_the_log(busy_log: Path) -> None:
    demand = from_log(busy_log)
    jobs = demand.jobs(gpu_per_request={"gpt-4o": 2}, ram_gb_per_request=5)
    for key, job in jobs.items():
        mine = [r["latency_s"] for r in read(busy_log) if r["model"] == key and r["latency_s"] is not None]
        assert job.name == key
        assert job.duration_s == pytest.approx(math.fsum(mine) / len(mine), rel=1e-12)
        assert (job.gpu, job.ram_gb) == (2.0 if key == "gpt-4o" else 1.0, 5.0)
        assert np.array_equal(np.asarray(job.hourly_starts), demand.groups[key].requests)
    assert demand.jobs(duration_s=7)["gpt-4o"].duration_s == 7.0
    with pytest.raises(ValueError, match=r"gpu_per_request is for 'gpt4o', which is no group here: did you mean 'gpt-4o'"):
        demand.jobs(gpu_per_request={"gpt4o": 2})


def test_requests_without_a_latency_take_as_long_as_the_others(log_dir: Path) -> None:
    write(log_dir, "a", [request(latency_s=2.0), request(latency_s=None), request(model="other", latency_s=None)])
    demand = from_log(log_dir)
    assert {key: job.duration_s for key, job in demand.jobs().items()} == {"gpt-4o-mini": 2.0, "other": 2.0}
    found = fleet.footprint(demand, GPUServer(**SERVER))
    assert found.notes == ("Requests without known latency, taken as the mean of their group: 2.",)
    write(log_dir, "b", [request(model="third", latency_s=None)])
    with pytest.raises(ValueError, match="do not say how long requests take: give duration_s"):
        from_log(log_dir, where=Where(model="third")).jobs()


def test_a_latency_that_cannot_be_is_not_used_and_said(log_dir: Path) -> None:
    write(log_dir, "a", [request(latency_s=3.0), request(model="odd", latency_s=9e11), *[request(latency_s=3.0)] * 2])
    odd, usual = from_log(log_dir, where=Where(model="odd")), from_log(log_dir)
    with pytest.raises(ValueError, match="give duration_s"):
        odd.jobs()
    assert {key: job.duration_s for key, job in usual.jobs().items()} == {"gpt-4o-mini": 3.0, "odd": 3.0}
    found = fleet.footprint(usual, ManagedInference(**NODE), attribution="time")
    assert {row.group: row.share for row in found.rows} == pytest.approx({"gpt-4o-mini": 0.75, "odd": 0.25})
    assert found.notes[0] == "Latencies of more than a day in the mean are not used: 'odd'."
    assert_adds_up(found)


# --- footprints ---------------------------------------------------------------------------------------------------------


def assert_adds_up(found: AttributedFootprint) -> None:
    """The parts are the whole, at both ends, to the ninth digit; and the hours are the whole too."""
    for name, whole in found.total._asdict().items():
        parts = [getattr(row.amounts, name) for row in found.rows]
        for end in ("min", "central", "max") if isinstance(whole, Range) else (None,):
            if whole is None:
                assert parts == [None] * len(parts)
                continue
            numbers = parts if end is None else [getattr(part, end) for part in parts]
            assert math.isclose(
                math.fsum(numbers), whole if end is None else getattr(whole, end), rel_tol=REL, abs_tol=1e-300
            )
    assert math.isclose(math.fsum(row.share for row in found.rows), 1.0, rel_tol=REL)
    hourly = (found.hours.energy_kwh, found.hours.use_kgco2eq, found.hours.fabrication_kgco2eq)
    for array, whole in zip(hourly, found.total, strict=False):
        middle = whole.central if isinstance(whole, Range) else whole
        assert middle is not None
        assert math.isclose(math.fsum(array), middle, rel_tol=REL, abs_tol=1e-300)


logs = st.lists(
    st.tuples(
        st.integers(0, 100),  # hours from the start
        st.sampled_from(["m1", "m2", "m3"]),
        st.sampled_from([None, "a", "b", ""]),
        st.none() | st.integers(0, 10_000),  # output tokens
        st.none() | st.floats(0.0, 20_000.0, allow_subnormal=False),  # latency
    ),
    min_size=0,
    max_size=12,
)


@settings(max_examples=60)
@given(
    log=logs,
    by=st.sampled_from(["model", "label:team"]),
    server_type=st.sampled_from(["autoscaling", "serverless", "on-premise"]),
    rule=st.sampled_from(["seed", "current", "tokens", "time", "requests"]),
)
def test_parts_add_up_to_the_whole(log: Any, by: str, server_type: Any, rule: Any) -> None:
    records = [
        request(
            60 * hour, model=model, labels={} if team is None else {"team": team}, output_tokens=tokens, latency_s=seconds
        )
        for hour, model, team, tokens, seconds in log
    ]
    records.append(request(60 * 50, model="m9", labels={"team": "other"}, latency_s=1.0))  # by which the label exists
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), "a", records)
        demand = from_log(folder, by=by, since=START, until=START + 120 * HOUR)
    if rule in fleet.RULES["gpu-server"]:
        server = GPUServer(**SERVER | {"server_type": server_type})
        found = fleet.footprint(demand, server, attribution=rule, gpu_per_request=0.5)
    else:
        found = fleet.footprint(demand, ManagedInference(**NODE), attribution=rule)
    assert_adds_up(found)
    assert {row.group for row in found.rows} == set(demand.groups)
    assert all(0 <= row.share <= 1 + REL for row in found.rows)


def test_a_gpu_server_has_the_hours_of_its_formulas(log_dir: Path) -> None:
    """Every hour by hand from the records: need, instances, energy, use and fabrication."""
    records = [request(minute, model=("a", "b")[minute % 2], latency_s=600.0 + 300 * (minute % 2)) for minute in range(300)]
    write(log_dir, "a", [*records, request(600, model="a", latency_s=600.0)])
    demand = from_log(log_dir)
    found = fleet.footprint(demand, GPUServer(**SERVER), gpu_per_request=0.5, ram_gb_per_request=20.0)
    starts = {key: Counter(hour_of(r) for r in read(log_dir) if r["model"] == key) for key in ("a", "b")}
    by_hand: dict[str, list[float]] = {"a": [], "b": []}
    for hour in range(11):
        at = {key: starts[key][START + hour * HOUR] * seconds / 3600 for key, seconds in (("a", 600), ("b", 900))}
        raw = max(sum(at.values()) * 0.5 / 4, sum(at.values()) * 20 / 320)
        instances = math.ceil(raw - 1e-12)
        energy_kwh = 1.2 * (200 * instances + (1600 - 200) * raw) / 1000
        gwp = energy_kwh * 0.1 + instances * (2500 + 4 * 150) / (6 * 365.25 * 24)
        assert found.hours.instances[hour] == instances
        assert found.hours.energy_kwh[hour] == pytest.approx(energy_kwh, rel=1e-12)
        for key, mine in at.items():
            by_hand[key].append(gwp * mine / sum(at.values()) if raw else 0.0)
    assert found.hours.instances.tolist()[5:10] == [0.0] * 5
    for row in found.rows:
        assert row.gwp_kgco2eq == pytest.approx(math.fsum(by_hand[row.group]), rel=REL)
        assert row.per_request is not None
        assert row.per_request.gwp_kgco2eq == pytest.approx(math.fsum(by_hand[row.group]) / row.requests, rel=REL)
    assert_adds_up(found)
    assert found.load == pytest.approx(found.hours.instances_raw.sum() / found.hours.instances.sum())  # type: ignore[union-attr]
    assert [assumption.name for assumption in found.assumptions] == [
        "gpu_power_w",
        "gpu_idle_power_w",
        "ram_per_gpu_gb",
        "fabrication_per_gpu_kgco2eq",
        "fabrication_without_gpu_kgco2eq",
        "gpu_count",
        "lifespan_years",
        "pue",
    ]


def test_nodes_are_on_in_every_hour_and_paid_for_by_tokens(log_dir: Path) -> None:
    tokens: dict[str, list[int | None]] = {"a": [100, None, 50], "b": [25], "c": [None]}
    records = [request(60 * place, model=key, output_tokens=t) for key, of in tokens.items() for place, t in enumerate(of)]
    write(log_dir, "a", records)
    demand = from_log(log_dir, since=START, until=START + 100 * HOUR)
    found = fleet.footprint(demand, ManagedInference(nodes=2, **NODE))
    energy_kwh = 1.16 * (2 * 2600 + 420 + 2 * 55) * 100 / 1000
    fabrication = 100 / 52_560 * (2 * 5150 + 1310 + 2 * 75)
    assert found.total.energy_kwh == pytest.approx(energy_kwh, rel=1e-12)
    assert found.total.gwp_kgco2eq == pytest.approx(energy_kwh * 0.044 + fabrication, rel=1e-12)
    assert found.total.wcf_l == pytest.approx(energy_kwh / 1.16 * 0.25, rel=1e-12)
    # What a has no count of is the mean of the others of a, what c has none of that of all.
    weights = {"a": 3 * 75.0, "b": 25.0, "c": 175 / 3}
    for row in found.rows:
        assert row.share == pytest.approx(weights[row.group] / sum(weights.values()), rel=1e-12)
    assert found.notes == ("Requests without known output tokens, taken as the mean of their group: 2.",)
    assert [row.group for row in found.rows] == ["a", "c", "b"]
    assert found.rule == "tokens"
    assert isinstance(found.footprint, ManagedInferenceFootprint)
    assert found.footprint.requests == 5
    assert_adds_up(found)


def test_time_and_requests_share_as_they_say(log_dir: Path) -> None:
    write(
        log_dir,
        "a",
        [request(model="a", latency_s=1.0), request(model="a", latency_s=2.0), request(model="b", latency_s=9)],
    )
    demand = from_log(log_dir)
    by_time = fleet.footprint(demand, ManagedInference(**NODE), attribution="time")
    assert {row.group: row.share for row in by_time.rows} == pytest.approx({"a": 0.25, "b": 0.75})
    by_requests = fleet.footprint(demand, ManagedInference(**NODE), attribution="requests")
    assert {row.group: row.share for row in by_requests.rows} == pytest.approx({"a": 2 / 3, "b": 1 / 3})


@pytest.mark.parametrize("rule", ["tokens", "time"])
def test_what_nobody_knows_is_shared_by_requests_and_said(log_dir: Path, rule: Any) -> None:
    unknown: dict[str, Any] = {"output_tokens": None, "latency_s": None}
    write(log_dir, "a", [request(model=model, **unknown) for model in ("a", "a", "a", "b")])
    found = fleet.footprint(from_log(log_dir), ManagedInference(**NODE), attribution=rule)
    assert {row.group: row.share for row in found.rows} == pytest.approx({"a": 0.75, "b": 0.25})
    assert f"Nothing is known to share by {rule}: it is shared by requests." in found.notes


@pytest.mark.parametrize(
    "deployment", [GPUServer(**SERVER | {"server_type": "on-premise", "fixed_instances": 2}), ManagedInference(**NODE)]
)
def test_a_fleet_that_nobody_asks_costs_all_the_same(log_dir: Path, deployment: Any) -> None:
    log_dir.mkdir()
    found = fleet.footprint(from_log(log_dir, since=START, until=START + 24 * HOUR), deployment)
    (row,) = found.rows
    assert (row.group, row.share, row.per_request) == ("(idle)", 1.0, None)
    assert row.amounts == found.total
    assert found.total.energy_kwh > 0
    assert_adds_up(found)


def test_ranges_stay_ranges(busy_log: Path) -> None:
    found = fleet.footprint(from_log(busy_log, by="label:team"), ManagedInference(instance="L4", zone="pl-waw-1"))
    assert isinstance(found.total.gwp_kgco2eq, Range)
    assert found.total.wcf_l is None
    assert_adds_up(found)
    assert "Labels are counted by day" in found.notes[0]
    assert found.assumptions[0].name == "node_power_w"
    assert "assumed  node_power_w" in str(found)


def test_the_log_s_own_estimates_stand_beside_it(busy_log: Path) -> None:
    found = fleet.footprint(from_log(busy_log), ManagedInference(**NODE))
    records = read(busy_log)
    assert found.estimated.gwp is not None
    assert found.estimated.gwp.min == pytest.approx(math.fsum(r["gwp_kgco2eq_min"] for r in records), rel=1e-12)
    for row in found.rows:
        mine = [r["gwp_kgco2eq_max"] for r in records if r["model"] == row.group]
        assert row.totals.gwp is not None
        assert row.totals.gwp.max == pytest.approx(math.fsum(mine), rel=1e-12)


def test_what_does_not_fit_the_fleet_is_an_error(busy_log: Path) -> None:
    demand = from_log(busy_log)
    with pytest.raises(ValueError, match="no attribution 'tokens' for gpu-server: it can be seed, current"):
        fleet.footprint(demand, GPUServer(), attribution="tokens")
    with pytest.raises(ValueError, match="no attribution 'seed' for managed-inference: it can be tokens, time, requests"):
        fleet.footprint(demand, ManagedInference(**NODE), attribution="seed")
    with pytest.raises(ValueError, match="gpu_per_request is for a GPU server: leave it out"):
        fleet.footprint(demand, ManagedInference(**NODE), gpu_per_request=1)
    with pytest.raises(InsufficientCapacityError, match="holds 9 GPUs"):
        fleet.footprint(demand, GPUServer(), gpu_per_request=9)


def test_hostile_labels_are_groups_like_others(log_dir: Path) -> None:
    write(log_dir, "a", [request(place, labels={"team": name}) for place, name in enumerate(HOSTILE)])
    demand = from_log(log_dir, by="label:team")
    assert set(demand.groups) == {name[:256] for name in HOSTILE}
    for deployment in (GPUServer(**SERVER), ManagedInference(**NODE)):
        found = fleet.footprint(demand, deployment)
        assert {row.group for row in found.rows} == set(demand.groups)
        assert_adds_up(found)
    write(log_dir, "b", [request(labels={"team": "(empty)"})])
    assert len(fleet.footprint(from_log(log_dir, by="label:team"), GPUServer(**SERVER)).rows) == len(HOSTILE) + 1


# --- the command --------------------------------------------------------------------------------------------------------


@pytest.fixture(name="invoke")
def _invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """``ecoimpact fleet`` in a directory of its own, at noon of the tenth of March."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("ECOIMPACT_LOG", raising=False)
    for module in ("log_options", "fleet"):
        monkeypatch.setattr(f"ecoimpact.cli.{module}.now", lambda: NOW)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, ["fleet", *map(str, arguments)])


PRESET = ("--instance", "L4", "--zone", "fr-par-2")


@pytest.fixture
def server_file(tmp_path: Path) -> Path:
    path = tmp_path / "server.toml"
    lines = ['kind = "gpu-server"', "gpu_per_request = 0.25", "[ram_gb_per_request]", '"gpt-4o" = 3.0']
    lines[1:1] = [f"{name} = {json.dumps(value)}" for name, value in SERVER.items()]
    path.write_text("\n".join(lines))
    return path


def fits(text: str) -> bool:
    return all(cell_len(line.rstrip()) <= 80 for line in text.splitlines())


def is_plain(text: str) -> bool:
    return not [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf")]


def test_json_is_what_the_package_computes(invoke: Invoke, busy_log: Path, server_file: Path) -> None:
    result = invoke("--server", server_file, "--attribution", "current", "--format", "json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    told = json.loads(result.stdout)
    expected = fleet.footprint(
        from_log(busy_log),
        GPUServer(**SERVER),
        attribution="current",
        gpu_per_request=0.25,
        ram_gb_per_request={"gpt-4o": 3.0},
    )
    assert (told["kind"], told["attribution"], told["by"]) == ("gpu-server", "current", "model")
    assert (told["since"], told["until"]) == ("2026-01-31T22:00:00Z", f"{expected.demand.end:%Y-%m-%dT%H:%M:%SZ}")
    assert told["parameters"]["server_type"] == "autoscaling"
    assert told["total"]["gwp_kgco2eq_central"] == expected.total.gwp_kgco2eq
    assert told["total"]["wcf_l_central"] is None
    assert told["hourly"]["energy_kwh"] == expected.hours.energy_kwh.tolist()
    assert sum(told["hourly"]["requests"]) == told["total"]["requests"] == 900
    for group, row in zip(told["groups"], expected.rows, strict=True):
        assert (group["key"], group["share"]) == (row.group, row.share)
        assert group["gwp_kgco2eq_max"] == row.gwp_kgco2eq
        assert group["requests"] == row.requests
    assert math.fsum(group["energy_kwh_min"] for group in told["groups"]) == pytest.approx(told["total"]["energy_kwh_min"])
    # The file says all of the server, also where it says the default; of two models it does not say how much they hold.
    assert [assumption["name"] for assumption in told["assumptions"]] == ["ram_gb_per_request"]


def test_the_table_fits_and_says_what_it_rests_on(invoke: Invoke, busy_log: Path, server_file: Path) -> None:
    for arguments in (("--server", server_file), PRESET, (*PRESET, "--by", "label:team", "--top", "1")):
        result = invoke(*arguments)
        assert result.exit_code == 0, result.output
        assert fits(result.stdout), result.stdout
        assert is_plain(result.stdout)
        assert "2026-01-31 22:00 to 2026-02-10 02:00" in result.stdout
        for text in (
            "energy  ",
            "fabrication",
            "instances",
            "a column is",
            "total  ",
            "900",
        ):
            assert text in result.stdout, text
        assert "Request by request, the log estimates" in result.stdout
        assert "Assumed, as nobody gave it:" in result.stdout
        assert any(block in result.stdout for block in BLOCKS)
    assert "(2 others)" in result.stdout


def test_hostile_labels_are_shown_and_not_obeyed(invoke: Invoke, log_dir: Path) -> None:
    write(log_dir, "a", [request(place, labels={"team": name}) for place, name in enumerate(HOSTILE)])
    result = invoke(*PRESET, "--by", "label:team")
    assert result.exit_code == 0, result.output
    assert fits(result.stdout)
    assert is_plain(result.stdout)
    assert "[bold re" in result.stdout
    assert "\\x1b[31m" in result.stdout
    rows = list(csv.DictReader(io.StringIO(invoke(*PRESET, "--by", "label:team", "--format", "csv").stdout, newline="")))
    assert len(rows) == len(HOSTILE)
    assert not [row for row in rows if row["label:team"].startswith("=")]
    assert math.fsum(float(row["share"]) for row in rows) == pytest.approx(1.0)
    assert rows[0]["wcf_l_central"]
    told = json.loads(invoke(*PRESET, "--by", "label:team", "--format", "json").stdout)
    assert {group["key"] for group in told["groups"]} == {name[:256] for name in HOSTILE}


def test_periods_and_filters_are_those_of_the_records(invoke: Invoke, busy_log: Path) -> None:
    arguments = ("--since", "2026-02-03", "--until", "2026-02-04", "--provider", "vllm", "--model", "qwen3-8b")
    told = json.loads(invoke(*PRESET, *arguments, "--format", "json").stdout)
    wanted = [r for r in read(busy_log) if r["time"][:10] in ("2026-02-03", "2026-02-04") and r["model"] == "qwen3-8b"]
    assert wanted
    assert (told["total"]["requests"], told["since"], told["until"]) == (
        len(wanted),
        "2026-02-03T00:00:00Z",
        "2026-02-05T00:00:00Z",
    )
    assert len(told["hourly"]["requests"]) == 48
    labelled = json.loads(invoke(*PRESET, "--label", "team=chat", "--format", "json").stdout)
    assert labelled["total"]["requests"] == sum(r["labels"].get("team") == "chat" for r in read(busy_log))


@pytest.mark.parametrize("by", ["model", "label:team"])
def test_a_period_ends_with_the_hour_of_now(log_dir: Path, by: str) -> None:
    times = (
        "2026-03-10T11:00:00.000000Z",
        "2026-03-10T12:59:00.000000Z",
        "2026-03-10T20:00:00.000000Z",
    )  # the last is wrong
    write(log_dir, "a", [request(time=time, labels={"team": "a"}) for time in times])
    where = Where(since=NOW.replace(hour=0, minute=0), until=NOW + 30 * HOUR)
    with Index(log_dir) as index:
        index.refresh()
        demand = fleet.from_index(index, by=by, where=where, now=NOW)
        assert (demand.start.hour, demand.hours) == (0, 13)
        assert demand.requests.tolist() == [*[0.0] * 11, 1.0, 1.0]
        assert fleet.from_index(index, by=by, where=Where(label=("team", "a")), now=NOW).end == demand.end
        with pytest.raises(ValueError, match="a period ends after it begins"):
            fleet.from_index(index, by=by, where=where, now=NOW - 100 * HOUR)


def test_a_fleet_has_no_future(invoke: Invoke, busy_log: Path) -> None:
    told = json.loads(invoke(*PRESET, "--since", "2026-03-10", "--until", "today", "--format", "json").stdout)
    assert (told["since"], told["until"]) == ("2026-03-10T00:00:00Z", "2026-03-10T13:00:00Z")
    assert [group["key"] for group in told["groups"]] == ["(idle)"]
    assert told["total"]["requests"] == 0
    result = invoke(*PRESET, "--since", "2026-03-10", "--until", "today", "--by", "label:team")
    assert "(idle)" in result.stdout
    assert "2026-03-10 00:00 to 2026-03-10 13:00 UTC" in " ".join(result.stdout.split())
    assert fits(result.stdout)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu_count = 4", 'needs a line kind = "gpu-server" or kind = "managed-inference"'),
        ('kind = "gpu"', "and has 'gpu'"),
        ('kind = ["gpu-server"]', "and has ['gpu-server']"),
        ('kind = "gpu-server"\ngpu_cuont = 4', "'gpu_cuont' is no parameter of gpu-server. Near: gpu_count"),
        ('kind = "managed-inference"\ngpu_per_request = 4', "'gpu_per_request' is no parameter of managed-inference"),
        ('kind = "gpu-server"\npue = 0.5', "pue must be at least 1"),
        ('kind = "gpu-server"\nserver_type = "onpremise"', "did you mean 'on-premise'"),
        ('kind = "gpu-server"\nname = 5', "name must be a text"),
        ('kind = "gpu-server"\ngpu_per_request = "1"', "must be a number"),
        ('kind = "gpu-server"\n[gpu_per_request]\ngpt4o = 1', "did you mean 'gpt-4o'"),
        ('kind = "gpu-server"\ngpu_per_request = 99', "holds 99 GPUs"),
        ('kind = "managed-inference"\ninstance = "L5"\nzone = "fr-par-2"', "unknown instance 'L5': did you mean 'L4'"),
        ('kind = "managed-inference"\ninstance = "L4"', "pue is not known"),
        ("kind = ", "is no TOML"),
        (b"\xff\xfe", "is no TOML"),
    ],
)
def test_a_wrong_file_exits_with_2_and_says_what_is_right(
    invoke: Invoke, busy_log: Path, tmp_path: Path, text: str | bytes, message: str
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    result = invoke("--server", path)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split()), result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say which fleet: --server FILE.toml, or --instance and --zone"),
        (("--instance", "L5", "--zone", "fr-par-2"), "did you mean 'L4'"),
        (("--instance", "L4", "--zone", "fr-par-9"), "did you mean 'fr-par-"),
        ((*PRESET, "--nodes", "0"), "nodes must be above 0"),
        (("--server", "server.toml", "--nodes", "2"), "write them into it"),
        (("--server", "nowhere.toml"), "No such file"),
        ((*PRESET, "--attribution", "seed"), "Known: tokens, time, requests"),
        ((*PRESET, "--attribution", "token"), "Near: tokens"),
        ((*PRESET, "--by", "modle"), "did you mean 'model'"),
        ((*PRESET, "--by", "hour"), "hour by hour already"),
        ((*PRESET, "--by", "label:taem"), "those in this log are 'team'"),
        ((*PRESET, "--format", "xml"), "Known: table, json, csv"),
        ((*PRESET, "--since", "2026-02-02", "--until", "2026-02-01"), "does not come after"),
        ((*PRESET, "--since", "2027-01-01"), "no requests to say how long the fleet ran"),
        ((*PRESET, "--log", "nowhere"), "there is no log in nowhere"),
        ((*PRESET, "--label", "team"), "is not a label such as"),
        ((*PRESET, "--plot", "-"), "for --plot: a page goes into a file"),
        ((*PRESET, "--plot", "nowhere/hours.html"), "for --plot: there is no directory nowhere"),
    ],
)
@pytest.mark.usefixtures("busy_log", "server_file")
def test_wrong_usage_exits_with_2(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.setattr("ecoimpact.cli.fleet.find_spec", lambda name: object())  # as if plotly was there
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split()), result.stderr
    assert result.stdout == ""


def test_what_is_not_installed_is_named(invoke: Invoke, busy_log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing: set[str] = set()
    monkeypatch.setattr("ecoimpact.cli.fleet.find_spec", lambda name: None if name in missing else object())
    missing.add("plotly")
    result = invoke(*PRESET, "--plot", "hours.html")
    assert result.exit_code == 2
    assert 'pip install "ecoimpact[fleet]"' in result.stderr
    assert not Path("hours.html").exists()
    missing.add("numpy")
    result = invoke(*PRESET)
    assert result.exit_code == 2
    assert 'needs numpy: pip install "ecoimpact[fleet]"' in result.stderr


@pytest.mark.parametrize("arguments", [PRESET, ("--server", "server.toml")], ids=["managed-inference", "gpu-server"])
def test_the_page_needs_nothing_else_and_obeys_no_label(
    invoke: Invoke, log_dir: Path, server_file: Path, arguments: tuple[str, ...]
) -> None:
    server_file.write_text(server_file.read_text().partition("[ram_gb")[0])
    names = [*HOSTILE, *(f"team {number}" for number in range(9))]
    write(log_dir, "a", [request(place, labels={"team": name}) for place, name in enumerate(names)])
    result = invoke(*arguments, "--by", "label:team", "--plot", "hours.html", "--format", "csv")
    assert result.exit_code == 0, result.output
    assert result.stderr == "The page is in hours.html.\n"
    page = Path("hours.html")
    assert page.stat().st_mode & 0o777 == 0o600
    text = page.read_text("utf-8")
    assert "<script>alert" not in text
    assert "Plotly.newPlot" in text
    assert 'src="http' not in text
    ours = text[text.rindex("Plotly.newPlot") :]
    assert "\\u003cscript" not in ours
    assert "\\u0026lt;script" in ours or "&lt;script" in ours


def test_the_files_of_the_documentation_are_fleets() -> None:
    document = (Path(__file__).parents[1] / "docs" / "fleet.md").read_text("utf-8")
    blocks = [part.partition("```")[0] for part in document.split("```toml\n")[1:]]
    described = [described_by(tomllib.loads(block)) for block in blocks]
    assert [type(each.deployment) for each in described] == [GPUServer, ManagedInference]
    assert described[0].of_a_request == {"gpu_per_request": 0.0625, "ram_gb_per_request": {"llama-3.3-70b": 4.0}}


def test_commands_load_numpy_only_when_a_fleet_is_asked_for() -> None:
    program = "import sys, ecoimpact.cli.app; sys.exit('numpy' in sys.modules or 'ecoimpact.fleet' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@given(values=st.lists(st.floats(0, 1e6), max_size=400), width=st.integers(1, 90))
def test_a_sparkline_has_its_width_and_hides_nothing(values: list[float], width: int) -> None:
    line, each = sparkline(values, width)
    assert len(line) <= width
    assert len(line) == -(-len(values) // each)
    for place, block in enumerate(line):
        assert (block == " ") == (sum(values[place * each : (place + 1) * each]) == 0)
    if any(values):
        assert BLOCKS[-1] in line
