"""What the dashboard answers: every number against plain sums over the records, and who gets no answer at all."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made_logs import START, assert_sums, figures_in, made, number_in, same, time_of, without_central, write
from starlette.testclient import TestClient

import ecoimpact
from ecoimpact.budgets import Budget
from ecoimpact.cli.dashboard import reports
from ecoimpact.dashboard import downloads, guard, plain
from ecoimpact.dashboard.app import create_app
from ecoimpact.dashboard.asked import GROUPS, METRICS
from ecoimpact.dashboard.equivalences import EQUIVALENCES
from ecoimpact.dashboard.live import Live, TooLong
from ecoimpact.dashboard.requests import passes
from ecoimpact.dashboard.server import serving
from ecoimpact.records.queries import TOLD_COUNTS, Totals, Where, combinations, known, report, timeline, total
from ecoimpact.types import CRITERIA, Range

NOW = datetime(2026, 4, 25, 13, 30, tzinfo=UTC)
MODELS = ("gpt-4o-mini", "gpt-4.1", "claude-sonnet-4-5-20250929")
HOSTILE = "=cmd|'<img src=x onerror=alert(1)>'\u202e\x1b[31m"
FIGURES = tuple(f"{c.suffix}_{end}" for c in CRITERIA for end in ("min", "central", "max"))


def varied(number: int) -> dict[str, Any]:
    """A record that differs from its neighbours in every dimension; some know little."""
    labels = [{"feature": "search"}, {"feature": HOSTILE, "user": f"u{number % 5}"}, {}, {"user": "u1"}][number % 4]
    changes: dict[str, Any] = {"labels": labels, "model": MODELS[number % 3], "request_model": MODELS[number % 3]}
    changes |= {
        "provider": ("openai", "openai", "anthropic")[number % 3],
        "endpoint": ("responses", "messages")[number % 2],
    }
    record = made(number * 5, **changes)
    if number % 7 == 0:
        unknown = [name for name in record if name.endswith(("_min", "_central", "_max"))]
        record |= dict.fromkeys([*unknown, "cost_usd", "output_tokens", "latency_s"])
        record |= {"status": "error", "errors": ["model-not-registered"]}
    if number % 3 == 0:
        record |= {"warnings": ["model-arch-not-released"], "tokens_estimated": True}
    return record


RECORDS = [varied(number) for number in range(400)]  # 83 days, up to the first hours of 25 April
BUDGETS = (
    Budget("all", usd=500.0),
    Budget("search", gco2eq=1e6, label="feature=search", period="year", bound="high"),
    Budget("users", wh=1e5, per="user", period="month"),
    Budget("ever", l=1e4, period="total"),
)

Get = Callable[..., Any]


@pytest.fixture(scope="module", name="log_dir")
def _log_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    log_dir = tmp_path_factory.mktemp("log")
    for place in range(4):
        write(log_dir, f"s{place}", RECORDS[place::4], folder=f"2026-02-0{place % 2 + 1}")
    return log_dir


@pytest.fixture(scope="module", name="live")
def _live(log_dir: Path) -> Iterator[Live]:
    live = Live(log_dir)
    live.refresh()
    yield live
    live.stop()


def client_of(live: Live, **options: Any) -> TestClient:
    options = dict[str, Any](budgets=BUDGETS, reports=reports(), clock=lambda: NOW, live=live) | options
    return TestClient(create_app(live.index.log_dir, **options), base_url="http://127.0.0.1:8377", follow_redirects=False)


@pytest.fixture(scope="module", name="client")
def _client(live: Live) -> TestClient:
    return client_of(live)


@pytest.fixture(scope="module", name="get")
def _get(client: TestClient) -> Get:
    def get(name: str, **parameters: Any) -> Any:
        answer = client.get(f"/api/{name}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return get


# --- sums ---------------------------------------------------------------------------------------------------------------


def as_totals(flat: dict[str, Any]) -> Totals:
    """What the answer says, as totals again, for the one comparison with the records that all tests use."""
    ranges: dict[str, Any] = {}
    for c in CRITERIA:
        low, central, high = (flat[f"{c.suffix}_{end}"] for end in ("min", "central", "max"))
        assert (low is None) == (central is None) == (high is None)
        ranges[c.key] = None if low is None else Range(low, high, central)
    return Totals(**{name: flat[name] for name in (*TOLD_COUNTS, "mean_latency_s", "cost_usd")}, **ranges)


def assert_figures(flat: dict[str, Any], records: list[dict[str, Any]]) -> None:
    assert_sums(as_totals(flat), records)
    tokens = sum(number_in(record, "output_tokens") or 0 for record in records)
    gwp = [ends for record in records if (ends := figures_in(record, "gwp_kgco2eq")) is not None]
    for place, end in enumerate(("min", "central", "max")):
        expected = math.fsum(ends[place] for ends in gwp) * 1e3 / (tokens / 1000) if gwp and tokens else None
        assert same(flat[f"gwp_gco2eq_per_1000_output_tokens_{end}"], expected)


KEYS: dict[str, Callable[[dict[str, Any]], str]] = {
    "model": lambda record: record["model"],
    "provider": lambda record: record["provider"],
    "endpoint": lambda record: record["endpoint"],
    "zone": lambda record: record["zone"],
    "methodology": lambda record: record["methodology"],
    "hour": lambda record: record["time"][:13],
    "day": lambda record: record["time"][:10],
    "month": lambda record: record["time"][:7],
    "label:feature": lambda record: record["labels"].get("feature", "(none)"),
    "label:user": lambda record: record["labels"].get("user", "(none)"),
}
FILTERS: list[tuple[dict[str, str], Callable[[dict[str, Any]], bool]]] = [
    ({}, lambda record: True),
    ({"model": "gpt-4.1"}, lambda record: record["model"] == "gpt-4.1"),
    (
        {"provider": "anthropic", "endpoint": "messages"},
        lambda r: r["provider"] == "anthropic" and r["endpoint"] == "messages",
    ),
    ({"since": "2026-03-01", "until": "2026-03-31"}, lambda record: record["time"][:7] == "2026-03"),
    ({"label": f"feature={HOSTILE}"}, lambda record: record["labels"].get("feature") == HOSTILE),
    ({"label": "user=(none)", "model": "gpt-4o-mini"}, lambda r: "user" not in r["labels"] and r["model"] == "gpt-4o-mini"),
    ({"model": "no such"}, lambda record: False),
]


@pytest.mark.parametrize(("asked", "passing"), FILTERS, ids=lambda each: str(each) if isinstance(each, dict) else "")
def test_every_sum_is_that_of_the_records(
    get: Get, asked: dict[str, str], passing: Callable[[dict[str, Any]], bool]
) -> None:
    inside = [record for record in RECORDS if passing(record)]
    for by, key in KEYS.items():
        if "label" in asked and (by == "hour" or by.startswith("label:")):
            continue
        view = get("overview", group_by=by, rows=200, **asked)
        assert_figures(view["total"], inside)
        groups: dict[str, list[dict[str, Any]]] = {}
        for record in inside:
            groups.setdefault(key(record), []).append(record)
        assert view["group_count"] == len(groups)
        for row in view["groups"]:
            assert_figures(row, groups.pop(row["key"]))
        rest = [record for records in groups.values() for record in records]
        assert (view["others"] is None) == (not rest)
        if rest:
            assert_figures(view["others"], rest)


@pytest.mark.parametrize("metric", METRICS)
def test_the_course_adds_up_to_the_sums(get: Get, metric: str) -> None:
    field = {
        "energy": "energy_kwh",
        "gwp": "gwp_kgco2eq",
        "water": "wcf_l",
        "primary_energy": "pe_mj",
        "minerals": "adpe_kgsbeq",
    }
    for by in ("model", "label:user", "day"):
        view = get("overview", group_by=by, metric=metric)
        series = view["series"]
        days = {record["time"][:10] for record in RECORDS}
        assert days <= set(series["times"])
        assert len(series["times"]) == (max(map(day_of, RECORDS)) - min(map(day_of, RECORDS))).days + 1
        for place, day in enumerate(series["times"]):
            records = [record for record in RECORDS if record["time"][:10] == day]
            assert series["requests"][place] == len(records)
            if metric in field:
                ends = [e for record in records if (e := figures_in(record, field[metric])) is not None]
                expected = [math.fsum(column) for column in zip(*ends, strict=True)] if ends else [0.0] * 3
            else:
                name = {"cost": "cost_usd"}.get(metric, metric)
                expected = [math.fsum(1 if name == "requests" else number_in(r, name) or 0 for r in records)] * 3
            found = series["total"][place]
            if found is None:  # there were requests, and nothing is known of them
                assert records
                assert expected == [0.0] * 3
                continue
            assert all(map(same, found, expected))
            parts = [part["values"][place] for part in series["parts"]]
            parts.append(series["others"][place] if series["others"] else 0.0)
            assert math.isclose(math.fsum(parts), found[1], rel_tol=1e-9, abs_tol=1e-15)
        for part in series["parts"] if metric == "requests" else ():
            days_of = [
                sum(KEYS[by](r) == part["key"] and r["time"][:10] == day for r in RECORDS) for day in series["times"]
            ]
            assert part["values"] == days_of
        if by == "model":
            assert {part["key"] for part in series["parts"]} == set(MODELS)


@pytest.mark.parametrize("level", ["hour", "day", "month"])
@pytest.mark.parametrize("by", ["model", "provider", "endpoint", "zone", "methodology", "label:user", "label:feature"])
def test_a_timeline_has_the_sums_of_each_group_at_each_time(live: Live, by: str, level: str) -> None:
    keys = {KEYS[by](record) for record in RECORDS[:8]}
    wheres: list[tuple[Where, Callable[[dict[str, Any]], bool]]] = [
        (Where(), lambda _: True),
        (
            Where(provider="openai", since=datetime(2026, 2, 7, tzinfo=UTC)),
            lambda r: r["provider"] == "openai" and r["time"] >= "2026-02-07",
        ),
        (Where(label=("user", "u1")), lambda record: record["labels"].get("user") == "u1"),
    ]
    for where, passing in wheres:
        if (where.label and by == "label:feature") or (level == "hour" and (where.label or by.startswith("label:"))):
            with pytest.raises(ValueError, match=r"labels are counted (by day|one by one)"):
                timeline(live.index, by, keys, where, level=level)
            continue
        expected: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for record in filter(passing, RECORDS):
            if KEYS[by](record) in keys:
                expected.setdefault((KEYS[by](record), KEYS[level](record)), []).append(record)
        found = timeline(live.index, by, keys, where, level=level)
        assert {(key, time) for key, times in found.items() for time in times} == set(expected)
        for (key, time), records in expected.items():
            assert_sums(found[key][time], records)


def test_combinations_and_names_are_those_of_the_records(live: Live) -> None:
    names = ("provider", "endpoint", "model", "zone", "methodology", "data_version")
    for where in (Where(), Where(label=("feature", HOSTILE))):
        inside = [record for record in RECORDS if passes(record, where)]
        found = {tuple(getattr(each, name) for name in names): each.totals for each in combinations(live.index, where)}
        assert set(found) == {tuple(record[name] for name in names) for record in inside}
        for key, totals in found.items():
            assert_sums(totals, [record for record in inside if tuple(record[name] for name in names) == key])
    assert known(live.index, values=2).labels == {"feature": (HOSTILE, "search"), "user": ("u0", "u1")}
    assert known(live.index).providers == ("anthropic", "openai")
    for wrong in ({"by": "day"}, {"by": "nothing"}, {"level": "year"}):
        with pytest.raises(ValueError, match=r"timeline|no report by"):
            timeline(live.index, **({"by": "model", "keys": []} | wrong))  # type: ignore[arg-type]


def day_of(record: dict[str, Any]) -> Any:
    moment = time_of(record)
    assert moment is not None
    return moment.date()


def test_rows_stand_in_the_order_that_is_asked_for_and_have_their_share(get: Get) -> None:
    for metric in ("requests", "cost", "gwp", "output_tokens"):
        view = get("overview", sort=metric, group_by="label:user", metric="energy")
        field = {"cost": "cost_usd", "gwp": "gwp_kgco2eq_central"}.get(metric, metric)
        values = [row[field] for row in view["groups"]]
        assert values == sorted(values, reverse=True)
        for row in view["groups"]:
            assert same(row["share"], row[field] / view["total"][field])
    days = [row["key"] for row in get("overview", group_by="day", rows=5)["groups"]]
    assert days == ["2026-04-25", "2026-04-24", "2026-04-23", "2026-04-22", "2026-04-21"]


def test_the_change_is_against_the_period_before(get: Get) -> None:
    def between(since: datetime, until: datetime) -> list[dict[str, Any]]:
        return [record for record in RECORDS if since <= (time_of(record) or NOW) < until]

    week = get("overview", since="7d")["change"]
    end = datetime(2026, 4, 25, 14, tzinfo=UTC)
    start = datetime(2026, 4, 18, 13, tzinfo=UTC)
    assert (week["since"], week["until"]) == ("2026-04-18T13:00:00Z", "2026-04-25T14:00:00Z")
    assert_figures(week["current"], between(start, end))
    assert_figures(week["previous"], between(start - (end - start), start))
    march = get("overview", since="2026-03-01", until="2026-03-31")["change"]
    assert_figures(march["previous"], between(datetime(2026, 1, 29, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)))
    everything = get("overview")["change"]
    assert everything["is_of_view"] is False
    assert everything["hours"] == 30 * 24
    assert_figures(everything["current"], between(end - timedelta(days=30), end))
    assert_figures(everything["previous"], between(end - timedelta(days=60), end - timedelta(days=30)))
    labelled = get("overview", since="7d", label="user=u1")["change"]
    assert (labelled["since"], labelled["until"]) == ("2026-04-18T00:00:00Z", "2026-04-26T00:00:00Z")
    assert get("overview", since="2026-01-01", until="2026-02-10")["change"] is None  # nothing was before


def test_the_forecast_is_that_of_the_reports(get: Get, live: Live) -> None:
    from ecoimpact.records.queries import forecast

    for asked, where in (({}, Where()), ({"model": "gpt-4.1", "since": "7d"}, Where(model="gpt-4.1"))):
        expected = forecast(live.index, where, now=NOW)
        assert expected is not None
        found = get("overview", **asked)["forecast"]
        assert found["expected"] == plain.figures(expected.expected)
        assert (found["month"], found["days_seen"]) == ("2026-04", 28)


def test_names_of_figures_are_those_of_the_reports(live: Live) -> None:
    totals = total(live.index)
    own = plain.figures(totals)
    assert {name: own[name] for name in totals.to_dict()} == totals.to_dict()


def test_coverage_counts_what_is_missing(get: Get) -> None:
    view = get("overview")
    assert view["coverage"]["errors"] == {"model-not-registered": 58}
    assert view["coverage"]["warnings"] == {"model-arch-not-released": 134}
    assert view["coverage"]["editions"] == ["ecologits-2025-09, data 2026-11-22"]
    assert view["coverage"]["skipped_lines"] == 0
    assert view["known"]["models"] == sorted(MODELS)
    assert set(view["known"]["labels"]["user"]) == {f"u{number}" for number in range(5)}


def test_equivalences_are_the_totals_in_other_units_and_have_a_source(get: Get) -> None:
    view = get("overview")
    for found, each in zip(view["equivalences"], EQUIVALENCES, strict=True):
        suffix = next(c.suffix for c in CRITERIA if c.key == each.field)
        assert same(found["max"], view["total"][f"{suffix}_max"] / each.per_unit)
        assert re.fullmatch(r"\d{4}(-\d\d)?", each.date)
        assert each.source
    # 400 g a mile, 10 715 kWh a year, 2.5 gallons a minute
    assert [round(each.per_unit, 4) for each in EQUIVALENCES] == [0.2485, 1.2232, 9.4635]
    assert get("overview", model="no such")["equivalences"] == []


def test_budgets_stand_where_the_records_put_them(get: Get) -> None:
    rows = {(row["budget"], row["scope"]): row for row in get("budgets")["budgets"]}
    april = [record for record in RECORDS if record["time"][:7] == "2026-04"]
    costs = [cost for record in april if (cost := number_in(record, "cost_usd")) is not None]
    row = rows["all", None]
    assert same(row["used"], math.fsum(costs))
    assert same(row["share"], math.fsum(costs) / 500)
    assert (row["uncounted"], row["requests"]) == (len(april) - len(costs), len(april))
    assert row["ends"] == "2026-05-01T00:00:00Z"
    # As much a day as in the 28 whole days before today, for the 5.4375 days that are left.
    window = [
        r for r in RECORDS if datetime(2026, 3, 28, tzinfo=UTC) <= (time_of(r) or NOW) < datetime(2026, 4, 25, tzinfo=UTC)
    ]
    daily = math.fsum(cost for record in window if (cost := number_in(record, "cost_usd")) is not None) / 28
    assert math.isclose(row["expected"], math.fsum(costs) + daily * 5.4375, rel_tol=1e-9)

    row = rows["search", None]
    mine = [record for record in RECORDS if record["labels"].get("feature") == "search"]
    high = [ends[2] * 1e3 for record in mine if (ends := figures_in(record, "gwp_kgco2eq")) is not None]
    in_2026 = [ends[2] * 1e3 for r in mine if r["time"] >= "2026" and (ends := figures_in(r, "gwp_kgco2eq")) is not None]
    assert len(high) == len(in_2026)
    assert same(row["used_max"], math.fsum(in_2026))
    assert same(row["share"], math.fsum(in_2026) / 1e6)
    assert row["expected_max"] > row["used_max"]

    for user in ("u0", "u1", "u2", "u3", "u4"):
        own = [record for record in april if record["labels"].get("user") == user]
        energies = [found for record in own if (found := figures_in(record, "energy_kwh")) is not None]
        for place, name in enumerate(("used_min", "used", "used_max")):
            assert same(rows["users", user][name], math.fsum(ends[place] for ends in energies) * 1e3)
    assert rows["ever", None]["expected"] is None
    water = [found for record in RECORDS if (found := figures_in(record, "wcf_l")) is not None]
    assert same(rows["ever", None]["used_min"], math.fsum(low for low, _, _ in water))
    assert same(rows["ever", None]["used"], math.fsum(central for _, central, _ in water))


# --- estimated again ----------------------------------------------------------------------------------------------------


def test_methodologies_make_of_the_requests_what_the_engine_makes_of_each(tmp_path: Path) -> None:
    """The mean request, as many times over, is every single one added up: these are proportional to their tokens."""
    records = [
        made(n, model=m, request_model=m, output_tokens=100 + n, input_tokens=50, latency_s=1e6, zone=None)
        for n in range(40)
        for m in ("gpt-4o-mini", "gpt-4.1")
    ]
    write(tmp_path, "a", records)
    live = Live(tmp_path)
    live.refresh()
    found = client_of(live).get("/api/methodologies").json()["methodologies"]
    live.stop()
    assert {row["methodology"] for row in found} >= {"ecologits-2025-09", "scope3", "sci"}
    for row in found:
        assert row["energy_kwh_min"] <= row["energy_kwh_central"] <= row["energy_kwh_max"]
        if row["methodology"] == "measured-2026":
            assert row["energy_kwh_central"] < 0.9 * (row["energy_kwh_min"] + row["energy_kwh_max"]) / 2, (
                "its own best value"
            )
        if row["methodology"] not in ("ecologits-2025-09", "ecologits-0.11"):
            continue
        each = [
            ecoimpact.estimate(
                record["model"],
                output_tokens=record["output_tokens"],
                provider="openai",
                input_tokens=record["input_tokens"],
                latency_s=record["latency_s"],
                methodology=row["methodology"],
            )
            for record in records
        ]
        assert math.isclose(row["energy_kwh_min"], math.fsum(i.energy.min for i in each if i.energy), rel_tol=1e-9)
        assert math.isclose(row["gwp_kgco2eq_max"], math.fsum(i.gwp.max for i in each if i.gwp), rel_tol=1e-9)
        assert (row["requests"], row["estimated"]) == (80, 80)
        assert row["includes"]


def test_requests_of_unknown_tokens_are_left_out_and_counted(get: Get) -> None:
    rows = get("methodologies")["methodologies"]
    known = sum(record["output_tokens"] is not None for record in RECORDS)
    assert {row["requests"] for row in rows} == {known}
    assert all(row["estimated"] <= known for row in rows)


def test_another_model_takes_what_the_engine_says_of_it(get: Get) -> None:
    rows = {row["model"]: row for row in get("models", other_model="gpt-4.1-nano")["models"]}
    assert set(rows) == {"gpt-4.1-nano", *MODELS}
    each = [
        ecoimpact.estimate("gpt-4.1-nano", output_tokens=tokens)
        for record in RECORDS
        if (tokens := record["output_tokens"]) is not None
    ]
    low = math.fsum(impacts.energy.min for impacts in each if impacts.energy is not None)
    assert math.isclose(rows["gpt-4.1-nano"]["energy_kwh_min"], low, rel_tol=1e-9)
    assert rows["gpt-4.1-nano"]["estimated"] == len(each)
    assert rows["gpt-4.1-nano"]["cost_usd"] > 0
    unknown = get("models", other_model="nobody knows <b>")["models"][0]
    assert (unknown["energy_kwh_min"], unknown["cost_usd"], unknown["estimated"]) == (None, None, 0)


def test_one_request_is_explained_step_by_step(tmp_path: Path) -> None:
    impacts = ecoimpact.estimate("gpt-4o-mini", output_tokens=400, provider="openai", latency_s=3.5)
    assert impacts.energy is not None
    assert impacts.gwp is not None
    figures: dict[str, Any] = {}
    for c in CRITERIA:
        figure = getattr(impacts, c.key)
        figures |= {f"{c.suffix}_{end}": getattr(figure, end) for end in ("min", "central", "max")}
    mine = made(0, id="mine", output_tokens=400, latency_s=3.5, zone=impacts.zone, **figures)
    older = without_central(mine) | {"id": "older"}
    other = mine | {"id": "other", "energy_kwh_central": impacts.energy.min}
    write(
        tmp_path,
        "a",
        [mine, older, other, made(1, id="odd", methodology="gone[x=1]", model=7, request_model=None, latency_s="x")],
    )
    live = Live(tmp_path)
    live.refresh()
    client = client_of(live)
    found = client.get("/api/request", params={"id": "mine"}).json()
    assert found["is_as_recorded"] is True
    energy = {"min": impacts.energy.min, "central": impacts.energy.central, "max": impacts.energy.max}
    assert found["figures"]["energy_kwh"] == energy
    assert client.get("/api/request", params={"id": "older"}).json()["is_as_recorded"] is True
    assert client.get("/api/request", params={"id": "other"}).json()["is_as_recorded"] is False
    steps = list(impacts.explain())
    assert [(s["symbol"], s["low"], s["high"]) for s in found["steps"]] == [(s.symbol, s.low, s.high) for s in steps]
    odd = client.get("/api/request", params={"id": "odd"}).json()
    assert odd["is_as_recorded"] is False
    assert (odd["steps"], odd["recorded_methodology"]) == ([], "gone[x=1]")
    assert client.get("/api/request", params={"id": "nobody"}).status_code == 400
    live.stop()


def test_the_newest_requests_are_those_of_the_view(get: Get) -> None:
    found = get("requests", number=7)["requests"]
    newest = list(reversed(RECORDS))
    assert [row["id"] for row in found] == [record["id"] for record in newest[:7]]
    for row, record in zip(found, newest, strict=False):
        assert {name: row[name] for name in FIGURES} == {name: record[name] for name in FIGURES}
        assert (row["labels"], row["output_tokens"]) == (record["labels"], record["output_tokens"])
    for asked, passing in FILTERS:
        ids = [row["id"] for row in get("requests", number=500, **asked)["requests"]]
        assert ids == [record["id"] for record in newest if passing(record)]
    assert not {name for row in found for name in row} & {"messages", "prompt", "content"}


# --- downloads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "passing"), FILTERS, ids=lambda each: str(each) if isinstance(each, dict) else "")
def test_downloads_hold_the_records_of_the_view(
    client: TestClient, asked: dict[str, str], passing: Callable[[dict[str, Any]], bool]
) -> None:
    ids = {record["id"] for record in RECORDS if passing(record)}
    lines = client.get("/download/records.jsonl", params=asked).text.splitlines()
    assert {json.loads(line)["id"] for line in lines} == ids
    assert len(lines) == len(ids)
    answer = client.get("/download/records.csv", params=asked)
    assert answer.headers["content-disposition"] == 'attachment; filename="ecoimpact-records.csv"'
    assert {row["id"] for row in csv.DictReader(io.StringIO(answer.text))} == ids
    table = pq.read_table(io.BytesIO(client.get("/download/records.parquet", params=asked).content))
    assert set(table["id"].to_pylist()) == ids


def test_a_downloaded_table_has_no_formula_in_it(client: TestClient, live: Live) -> None:
    text = client.get("/download/report.csv", params={"group_by": "label:feature"}).text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["label:feature"] for row in rows} == {"search", "(none)", f"'{HOSTILE}"}
    expected = {group.key: group.totals.cost_usd for group in report(live.index, "label:feature").groups}
    assert {row["label:feature"].removeprefix("'"): float(row["cost_usd"]) for row in rows} == expected


def test_the_report_is_one_page_that_is_safe(client: TestClient) -> None:
    answer = client.get("/download/report.html", params={"group_by": "label:feature"})
    assert answer.status_code == 200
    assert "<img" not in answer.text
    assert "<script" not in answer.text
    assert answer.headers["content-disposition"].startswith("attachment")


def test_downloads_have_a_limit_that_is_said(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    from ecoimpact.dashboard.asked import Asked, Refused

    with pytest.raises(Refused, match=r"400 records are more than the 399 .* ecoimpact export --format csv"):
        downloads.records_file(live, Asked(Where()), "csv", most=399)
    for _ in range(2):
        assert downloads._AT_ONCE.acquire(blocking=False)
    try:
        answer = client_of(live).get("/download/records.csv")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    finally:
        for _ in range(2):
            downloads._AT_ONCE.release()


# --- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"group_by": "model; DROP TABLE rollup"}, "group_by is one of"),
        ({"group_by": "data_version"}, "group_by is one of"),
        ({"group_by": "label:"}, "group_by is one of"),
        ({"group_by": "label:nobody"}, "there is no label 'nobody'"),
        ({"group_by": "label:feature' OR '1'='1"}, "there is no label"),
        ({"sort": "1; --"}, "sort is one of"),
        ({"metric": "rowid"}, "metric is one of"),
        ({"rows": "100000"}, "rows is a number from 1 to 200"),
        ({"rows": "-1"}, "rows is a number"),
        ({"rows": "٣"}, "rows is a number"),
        ({"since": "soon"}, "is no point in time"),
        ({"since": "2026-03-02", "until": "2026-03-01"}, "until does not come after since"),
        ({"label": "feature"}, "label is like feature=search"),
        ({"label": "nobody=x"}, "there is no label"),
        ({"label": "feature=search", "group_by": "hour"}, "counted by day"),
        ({"label": "feature=search", "group_by": "label:user"}, "counted one by one"),
        ({"model": "x" * 600}, "more than 512"),
    ],
    ids=str,
)
def test_what_is_no_view_is_refused_with_what_would_be_right(
    client: TestClient, asked: dict[str, str], message: str
) -> None:
    answer = client.get("/api/overview", params=asked)
    assert answer.status_code == 400
    assert message in answer.text
    assert answer.headers["content-type"].startswith("text/plain")


def test_bound_values_find_nothing_and_break_nothing(get: Get) -> None:
    for value in (
        "' OR 1=1 --",
        '"; DELETE FROM rollup',
        "\x00",
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    ):
        assert get("overview", model=value)["total"]["requests"] == 0
        assert get("overview", label=f"user={value}")["total"]["requests"] == 0
    assert get("overview")["total"]["requests"] == 400


def test_the_connection_cannot_write(live: Live) -> None:
    for statement in ("DELETE FROM rollup", "UPDATE rollup SET requests = 0", "CREATE TABLE x (y)", "DROP TABLE rollup"):
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            live.ask(lambda index, s=statement: index.read(lambda connection: connection.execute(s)))  # type: ignore[misc]


def test_a_question_that_takes_too_long_is_given_up(log_dir: Path) -> None:
    live = Live(log_dir, limit_s=0.0)
    live.refresh()
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    with pytest.raises(TooLong):
        live.ask(lambda index: index.read(lambda connection: connection.execute(endless).fetchone()))
    assert live.index.read(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
    live.stop()


# --- who may ask --------------------------------------------------------------------------------------------------------

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "  # the chart sets styles
    "img-src 'self' data: blob:; connect-src 'self'"
)
PATHS = [
    "/",
    "/static/app.js",
    "/static/style.css",
    "/plotly.min.js",
    "/api/overview",
    "/api/nothing",
    "/download/records.csv",
]


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_tells_the_browser_what_it_may_do(client: TestClient, path: str) -> None:
    answer = client.get(path, headers={"Origin": "http://evil.example"})
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "a@127.0.0.1",
        "10.0.0.1",
        "",
        "127.0.0.1:x",
        "[::1",
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/overview", "/plotly.min.js"])
def test_a_name_that_is_not_the_dashboards_gets_nothing(client: TestClient, host: str, path: str) -> None:
    answer = client.get(path, headers={"Host": host})
    assert answer.status_code == 400
    assert len(answer.content) < 100
    assert answer.headers["content-security-policy"] == POLICY


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9", "localhost:8377", "LOCALHOST", "[::1]:8377"])
def test_loopback_has_these_names(client: TestClient, host: str) -> None:
    assert client.get("/api/budgets", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/api/overview", "/download/records.csv"])
def test_nothing_can_be_changed(client: TestClient, method: str, path: str) -> None:
    assert client.request(method, path).status_code == 405
    assert client.request(method, path, headers={"Origin": "http://127.0.0.1:8377"}).status_code == 405
    for origin in ("http://evil.example", "null", "http://127.0.0.1:8378"):
        assert client.request(method, path, headers={"Origin": origin}).status_code == 403


@pytest.mark.parametrize("path", PATHS[1:])
def test_other_pages_get_nothing_into_theirs(client: TestClient, path: str) -> None:
    for site in ("cross-site", "same-site"):  # another port of this machine is the same site
        assert client.get(path, headers={"Sec-Fetch-Site": site}).status_code == 403
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
    assert client.get("/api/budgets", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/%2e%2e/__init__.py",
        "/static//etc/passwd",
        "/static/..%5capp.py",
        "/download/records.csv%2f..%2f..",
        "/download/..%2fpyproject.toml",
        "/download/records.exe",
        "/download/report.json",
        "/static/",
    ],
)
def test_no_other_file_is_served(live: Live, path: str) -> None:
    with serving(live.index.log_dir) as address, socket.create_connection(("127.0.0.1", address.port), timeout=10) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.split(b" ", 2)[1] in (b"404", b"400", b"405")
    assert b"import" not in answer
    assert b"root:" not in answer


def test_beyond_loopback_a_token_is_needed(live: Live) -> None:
    client = client_of(live, token="s3cret", hosts=("127.0.0.1",), addresses=True)
    for path in PATHS:
        assert client.get(path).status_code == 401
        assert client.get(f"{path}?token=wrong").status_code == 401
    assert client.get("/api/budgets", headers={"Authorization": "Bearer s3cret"}).status_code == 200
    assert client.get("/api/budgets", headers={"Authorization": "Bearer "}).status_code == 401
    answer = client.get("/?token=s3cret&group_by=day&model=a%26b")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?group_by=day&model=a%26b")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    client.cookies.set(guard.COOKIE, "s3cret")
    assert client.get("/api/budgets").status_code == 200
    assert client.get("/api/budgets", headers={"Host": "192.168.7.7:80"}).status_code == 200
    assert client.get("/api/budgets", headers={"Host": "evil.example"}).status_code == 400


def test_the_server_is_on_loopback_and_makes_a_token_for_anywhere_else(log_dir: Path) -> None:
    with serving(log_dir) as address:
        assert (address.host, address.token) == ("127.0.0.1", None)
        with urllib.request.urlopen(f"{address.url}api/overview", timeout=10) as answer:
            assert json.load(answer)["total"]["requests"] == 400
            assert "server" not in answer.headers
    with serving(log_dir, host="0.0.0.0") as address:  # noqa: S104 - that is what is tested
        assert address.token is not None
        assert len(address.token) >= 32
        assert address.url == f"http://127.0.0.1:{address.port}/?token={address.token}"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{address.port}/api/overview", timeout=10)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"), serving(log_dir, port=taken.getsockname()[1]):
            pass
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ecoimpact-server")]


# --- live ---------------------------------------------------------------------------------------------------------------


def test_what_did_not_change_is_not_sent_again(tmp_path: Path) -> None:
    write(tmp_path, "a", [made(0)])
    live = Live(tmp_path)
    live.refresh()
    client = client_of(live)
    first = client.get("/api/overview")
    tag = first.headers["etag"]
    same_ = client.get("/api/overview", headers={"If-None-Match": tag})
    assert (same_.status_code, same_.content) == (304, b"")
    assert client.get("/api/overview?metric=cost", headers={"If-None-Match": tag}).status_code == 200
    live.refresh()
    assert client.get("/api/overview", headers={"If-None-Match": tag}).status_code == 304
    write(tmp_path, "a", [made(1)])
    live.refresh()
    changed = client.get("/api/overview", headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json()["total"]["requests"]) == (200, 2)
    # Another process, such as ecoimpact report, may be the one that counts.
    write(tmp_path, "a", [made(2)])
    subprocess.run([sys.executable, "-m", "ecoimpact.cli", "report", "--log", tmp_path], check=True, capture_output=True)
    again_ = client.get("/api/overview", headers={"If-None-Match": changed.headers["etag"]})
    assert (again_.status_code, again_.json()["total"]["requests"]) == (200, 3)
    later = client_of(live, clock=lambda: NOW + timedelta(minutes=2))
    assert later.get("/api/overview", headers={"If-None-Match": again_.headers["etag"]}).status_code == 200
    live.stop()


def test_new_records_arrive_without_a_request_that_waits_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ecoimpact.dashboard import live as module

    monkeypatch.setattr(module, "LOOK_S", 0.01)
    write(tmp_path, "a", [made(0)])
    live = Live(tmp_path)
    looked = threading.Condition()
    refresh = live.refresh

    def told() -> None:
        refresh()
        with looked:
            looked.notify_all()

    monkeypatch.setattr(live, "refresh", told)
    with client_of(live) as client:
        with looked:
            write(tmp_path, "a", [made(1)])
            assert looked.wait_for(lambda: total(live.index).requests == 2, timeout=30)
        assert client.get("/api/overview").json()["total"]["requests"] == 2
    assert live._thread is not None
    assert not live._thread.is_alive()


@pytest.mark.parametrize("records", [0, 1], ids=["empty", "one record"])
def test_little_is_no_error(tmp_path: Path, records: int) -> None:
    write(tmp_path, "a", [made(n) for n in range(records)])
    live = Live(tmp_path)
    live.refresh()
    client = client_of(live, budgets=(*BUDGETS, Budget("labelled", usd=1, label="a=b")))
    for by in GROUPS:
        answer = client.get("/api/overview", params={"group_by": by})
        assert answer.status_code == 200
        view = answer.json()
        assert view["total"]["requests"] == len(view["groups"]) == records
        if not records:
            assert view["total"]["energy_kwh_central"] is view["total"]["cost_usd"] is view["forecast"] is None
            assert view["series"]["times"] == []
    for name in ("budgets", "methodologies", "models", "requests"):
        assert client.get(f"/api/{name}").status_code == 200
    for name in ("records.csv", "records.jsonl", "records.parquet", "report.html", "report.csv"):
        assert client.get(f"/download/{name}").status_code == 200
    live.stop()


def test_a_damaged_log_shows_what_is_whole_in_it(tmp_path: Path) -> None:
    odd = made(3, id=7, labels="no map", model=["x"], errors=[1], latency_s=float("nan"), output_tokens=-4)
    write(tmp_path, "a", [made(0), b"\xff\x00 torn {\n", b"[]\n", made(1), odd, b'{"schema":1,"id":"half'])
    live = Live(tmp_path)
    live.refresh()
    client = client_of(live)
    view = client.get("/api/overview").json()
    assert (view["total"]["requests"], view["coverage"]["skipped_lines"]) == (3, 3)
    assert len(client.get("/api/requests").json()["requests"]) == 3
    (tmp_path / "index.sqlite").write_bytes(b"no index" * 1000)
    other = Live(tmp_path)
    other.refresh()
    assert client_of(other).get("/api/overview").json()["total"]["requests"] == 3
    for each in (live, other):
        each.stop()


def test_records_pass_as_the_index_counts_them(live: Live) -> None:
    wheres = [Where(), Where(model="gpt-4.1"), Where(label=("user", "(none)")), Where(since=START + timedelta(hours=50))]
    for where in wheres:
        assert sum(passes(record, where) for record in RECORDS) == total(live.index, where).requests


# --- the command --------------------------------------------------------------------------------------------------------


def test_the_command_says_where_it_is_and_ends_with_a_signal(log_dir: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "ecoimpact.cli", "dashboard"]
    command += ["--log", str(log_dir), "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline()
            url = re.search(r"http://127\.0\.0\.1:\d+/", line)
            assert url, line + process.stderr.read()
            with urllib.request.urlopen(f"{url[0]}api/overview", timeout=30) as answer:
                assert json.load(answer)["total"]["requests"] == 400
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        assert process.stderr.read() == ""


def test_the_command_refuses_a_log_that_is_not_there(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ecoimpact.cli", "dashboard", "--log", str(tmp_path / "none"), "--no-browser"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no log" in done.stderr
