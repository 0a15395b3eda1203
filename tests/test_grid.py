"""Electricity by the hour: from a file, and asked of APIs whose answers a local server plays back."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from payloads import chat
from server import Received, Reply, Server, as_json

import ecoimpact
from ecoimpact import config, data, engine, methodologies
from ecoimpact.grid import (
    KEY_VARIABLE,
    MAX_ASKED_PER_MINUTE,
    ElectricityMaps,
    GridIntensity,
    HourlyFile,
    UkCarbonIntensity,
    named,
)
from ecoimpact.types import Figure, Impacts, Record, Usage

NOON_S = 1767268800.0  # 2026-01-01T12:00Z
HOUR_S = 3600.0


class Fixed:
    """What a program of somebody might bring along."""

    name = "my meter"

    def __init__(self, **figures: Any) -> None:
        self.figures = figures

    def gwp_kgco2eq_per_kwh(self, zone: str, time_s: float) -> Any:
        found = self.figures.get(zone)
        if isinstance(found, Exception):
            raise found
        return found


def assessed(grid: GridIntensity | None, *, started_at: float | None = NOON_S, **given: Any) -> Impacts:
    request: dict[str, Any] = {"provider": "openai", "models": ("gpt-4o-mini",), "usage": Usage(23, 400), "latency_s": 3.0}
    return Impacts(engine.assess(engine.catalog(), **{**request, **given}, grid=grid, started_at=started_at))


def codes(impacts: Impacts) -> list[str]:
    return [warning.code for warning in impacts.warnings if warning.code.startswith("grid-")]


def usage_gwp(impacts: Impacts) -> Figure:
    assert impacts.usage is not None
    assert impacts.usage.gwp is not None
    return impacts.usage.gwp


# --- the engine ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edition", methodologies.names())
def test_the_hour_replaces_the_gwp_of_the_electricity_and_nothing_else(edition: str) -> None:
    mix = data.mix("GBR")
    assert mix is not None
    yearly = assessed(None, zone="GBR", methodology=edition)
    hourly = assessed(Fixed(GBR=3 * mix.gwp.mean), zone="GBR", methodology=edition)
    assert codes(yearly) == []
    assert codes(hourly) == ["grid-hourly"]
    before, after = yearly.to_dict(), hourly.to_dict()
    changed = {name.rpartition("_")[0] for name in before if before[name] != after[name] and name != "warnings"}
    assert changed == {"gwp_kgco2eq", "usage_gwp_kgco2eq"}
    for end in ("min", "max"):
        assert after[f"usage_gwp_kgco2eq_{end}"] == pytest.approx(3 * before[f"usage_gwp_kgco2eq_{end}"], rel=1e-12)
    source = [step.source for step in hourly.explain() if step.symbol == "grid_gwp_kgco2eq_per_kwh"]
    assert source == ["my meter"]


def test_a_provider_in_two_zones_has_the_range_of_their_hours() -> None:
    model: dict[str, Any] = {"provider": "mistralai", "models": ("mistral-large-latest",)}
    both = assessed(Fixed(SWE=0.02, NOR=0.01), **model)
    low, high = (assessed(Fixed(SWE=gwp, NOR=gwp), **model) for gwp in (0.01, 0.02))
    assert usage_gwp(both).min == usage_gwp(low).min
    assert usage_gwp(both).max == usage_gwp(high).max
    assert codes(both) == ["grid-hourly"]
    assert codes(assessed(Fixed(SWE=0.02), **model)) == ["grid-yearly"]


ODD = st.one_of(
    st.none(),
    st.text(max_size=5),
    st.booleans(),
    st.floats(max_value=-1e-9),
    st.just(math.nan),
    st.just(math.inf),
    st.binary(),
)


@given(st.one_of(ODD, st.builds(RuntimeError), st.builds(OSError)))
def test_odd_figures_leave_the_yearly_one(figure: Any) -> None:
    odd = assessed(Fixed(GBR=figure), zone="GBR")
    assert codes(odd) == ["grid-yearly"]
    assert {**odd.to_dict(), "warnings": ()} == {**assessed(None, zone="GBR").to_dict(), "warnings": ()}


def test_without_a_time_or_with_errors_there_is_no_hour() -> None:
    assert codes(assessed(Fixed(GBR=0.1), zone="GBR", started_at=None)) == ["grid-yearly"]
    unknown = assessed(Fixed(GBR=0.1), zone="GBR", models=("no-such-model",))
    assert unknown.energy is None
    assert codes(unknown) == []


# --- a file -------------------------------------------------------------------------------------------------------------


def written(folder: Path, *lines: str, head: str = "time,zone,gco2eq_per_kwh") -> Path:
    path = folder / "hours.csv"
    path.write_text("\n".join((head, *lines)) + "\n", encoding="utf-8")
    return path


def test_a_file_tells_the_hour(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "2026-01-01T12:00Z,GBR,150",
        "2026-01-01T12:30Z,GBR,170.5,",
        "2026-01-01T14:00+01:00,fra,20",
        "2026-01-01T15:00,GBR,0",
        head="time,zone,gco2eq_per_kwh,note",
    )
    grid = HourlyFile(path)
    assert grid.zones == ("FRA", "GBR")
    at = grid.gwp_kgco2eq_per_kwh
    assert [at("GBR", NOON_S + s) for s in (-1, 0, 1799, 1800, 1800 + 3599, 1800 + 3600)] == [
        *(None, 0.15, 0.15, 0.1705, 0.1705, None)
    ]
    assert at("FRA", NOON_S + HOUR_S) == 0.02
    assert at("GBR", NOON_S + 3 * HOUR_S) == 0
    assert at("DEU", NOON_S) is None
    assert at("GBR", math.nan) is None


@pytest.mark.parametrize(
    ("lines", "head", "what"),
    [
        ((), "time,zone,gco2eq_per_kwh", "no rows"),
        (("2026-01-01T12:00Z,GBR,1",), "time,zone,gco2", "no column gco2eq_per_kwh"),
        (("2026-01-01T12:00Z,GBR,1", "noon,GBR,1"), "time,zone,gco2eq_per_kwh", "line 3: a time is like"),
        (("2026-01-01T12:00Z,GBR,-1",), "time,zone,gco2eq_per_kwh", "line 2: gco2eq_per_kwh is from 0 to 5000, not '-1'"),
        (("2026-01-01T12:00Z,GBR,nan",), "time,zone,gco2eq_per_kwh", "line 2: gco2eq_per_kwh"),
        (("2026-01-01T12:00Z,GBR",), "time,zone,gco2eq_per_kwh", "line 2: gco2eq_per_kwh"),
        (("2026-01-01T12:00Z,,3",), "time,zone,gco2eq_per_kwh", "line 2: a zone is like"),
    ],
)
def test_a_file_that_makes_no_sense_is_an_error_at_once(
    tmp_path: Path, lines: tuple[str, ...], head: str, what: str
) -> None:
    path = written(tmp_path, *lines, head=head)
    with pytest.raises(ValueError, match=r"hours\.csv") as raised:
        HourlyFile(path)
    assert what in str(raised.value)
    with pytest.raises(ValueError, match="grid"):
        ecoimpact.instrument(grid=str(path))
    with pytest.raises(ValueError, match="cannot be read"):
        HourlyFile(tmp_path / "none.csv")


@given(st.text(max_size=300))
@settings(max_examples=60)
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("grid") / "hours.csv"
    path.write_text("time,zone,gco2eq_per_kwh\n" + text, encoding="utf-8", errors="replace")
    try:
        grid = HourlyFile(path)
    except ValueError:
        return
    assert grid.zones


# --- APIs ---------------------------------------------------------------------------------------------------------------

# As https://carbonintensity.github.io/api-definitions/ has it.
HALF_HOUR = {
    "data": [
        {
            "from": "2026-01-01T12:00Z",
            "to": "2026-01-01T12:30Z",
            "intensity": {"forecast": 266, "actual": 263, "index": "moderate"},
        }
    ]
}
# As https://portal.electricitymaps.com/developer-hub/api/reference has it.
PAST = {
    "zone": "FR",
    "carbonIntensity": 32,
    "datetime": "2026-01-01T12:00:00.000Z",
    "updatedAt": "2026-04-07T15:32:21.002Z",
    "createdAt": "2026-02-08T06:20:31.772Z",
    "emissionFactorType": "lifecycle",
    "isEstimated": False,
    "estimationMethod": None,
}


def loaded(grid: Any, zone: str, time_s: float = NOON_S) -> float | None:
    assert grid.gwp_kgco2eq_per_kwh(zone, time_s) is None  # nothing is asked by asking for what is known
    grid.load(zone, time_s)
    found: float | None = grid.gwp_kgco2eq_per_kwh(zone, time_s)
    return found


def test_the_uk_api_is_asked_for_the_half_hour(server: Server) -> None:
    server.reset(as_json(HALF_HOUR))
    grid = UkCarbonIntensity(base_url=server.url)
    assert loaded(grid, "GBR", NOON_S + 1700) == 0.263
    assert [request.path for request in server.received] == ["/intensity/2026-01-01T12:00Z/2026-01-01T12:30Z"]
    grid.load("GBR", NOON_S)  # the same half hour
    grid.load("FRA", NOON_S)  # not theirs
    assert len(server.received) == 1
    assert grid.gwp_kgco2eq_per_kwh("GBR", NOON_S + 1800) is None


def test_a_half_hour_that_is_not_measured_yet_is_forecast(server: Server) -> None:
    server.reset(as_json({"data": [{**HALF_HOUR["data"][0], "intensity": {"forecast": 266, "actual": None}}]}))
    assert loaded(UkCarbonIntensity(base_url=server.url), "GBR") == 0.266


def test_electricity_maps_is_asked_for_a_past_hour(server: Server) -> None:
    server.reset(as_json(PAST))
    grid = ElectricityMaps("a-key", base_url=server.url + "/")
    assert loaded(grid, "FRA", NOON_S + 3599) == 0.032
    (request,) = server.received
    assert request.path == "/v3/carbon-intensity/past?zone=FR&datetime=2026-01-01T12%3A00%3A00Z"
    assert request.headers["auth-token"] == "a-key"
    assert "a-key" not in repr(grid)


def test_electricity_maps_is_asked_for_the_last_day_at_once(server: Server) -> None:
    now_s = time.time()
    hours = [now_s - now_s % HOUR_S - n * HOUR_S for n in range(24)]
    stamp = "%Y-%m-%dT%H:%M:%S.000Z"
    history = [
        {**PAST, "datetime": time.strftime(stamp, time.gmtime(s)), "carbonIntensity": n} for n, s in enumerate(hours)
    ]
    server.reset(as_json({"zone": "FR", "history": history}))
    grid = ElectricityMaps("a-key", base_url=server.url)
    assert loaded(grid, "FRA", hours[1]) == 0.001
    assert [grid.gwp_kgco2eq_per_kwh("FRA", s) for s in hours[:4]] == [0, 0.001, 0.002, 0.003]
    assert [request.path for request in server.received] == ["/v3/carbon-intensity/history?zone=FR"]


def test_zones_go_by_the_names_of_electricity_maps(server: Server) -> None:
    server.reset(as_json(PAST))
    grid = ElectricityMaps("a-key", zones={"US-VA": "US-MIDA-PJM"}, base_url=server.url)
    for zone in ("CA-QC", "SE-SE3", "USA", "US-VA", "US-TX", "CN-SC", "WOR"):
        grid.load(zone, NOON_S)
    asked = [request.path.partition("zone=")[2].partition("&")[0] for request in server.received]
    assert asked == ["CA-QC", "SE-SE3", "US", "US-MIDA-PJM"]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "history", "from", "intensity", "actual", "carbonIntensity", "datetime"]), inner
        )
    ),
    max_leaves=8,
)


@given(JSON)
@settings(max_examples=150)
def test_no_odd_answer_is_taken_for_a_figure(answer: Any) -> None:
    """The readers, on what an API might say on a bad day; ``load`` takes what they raise for a failure."""
    for grid in (UkCarbonIntensity(), ElectricityMaps("a-key")):
        try:
            found = dict(grid._plausible(grid.figures(answer)))
        except Exception:  # noqa: BLE001, S112 - what load() expects
            continue
        for begins_s, figure in found.items():
            assert begins_s % grid.slot_s == 0
            assert 0 <= figure <= 5


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b"<html>"),
        Reply(body=b"[" * 100_000),
        Reply(body=b"null"),
        Reply(status=500),
        Reply(status=429),
        Reply(status=401),
        Reply(body=b" " * 1_100_000 + json.dumps(HALF_HOUR).encode()),
        as_json({"data": [{"from": "2026-01-01T12:00Z", "intensity": "high"}]}),
    ],
    ids=["html", "deep", "null", "500", "429", "401", "huge", "shape"],
)
def test_an_api_in_trouble_is_left_alone_for_a_while(server: Server, reply: Reply) -> None:
    server.reset(reply)
    grid = UkCarbonIntensity(base_url=server.url)
    now_s = 0.0
    grid._clock = lambda: now_s
    assert loaded(grid, "GBR") is None
    server.script = half_hour
    for hour in range(5):
        grid.load("GBR", NOON_S + hour * HOUR_S)
    assert len(server.received) == 1
    now_s = 61
    grid.load("GBR", NOON_S + HOUR_S)  # an hour that was not asked for
    assert len(server.received) == 2
    now_s = 601
    assert loaded(grid, "GBR") == 0.263
    assert len(server.received) == 3


def half_hour(request: Received, grams: float = 263) -> Reply:
    """The figure of the half hour that was asked for."""
    return as_json({"data": [{"from": request.path.split("/")[2], "intensity": {"forecast": 9, "actual": grams}}]})


def test_a_zone_that_the_api_does_not_like_is_not_the_others_fault(server: Server) -> None:
    server.reset(lambda request: Reply(status=404) if "zone=DE" in request.path else as_json(PAST))
    grid = ElectricityMaps("a-key", base_url=server.url)
    assert loaded(grid, "DEU") is None
    assert loaded(grid, "FRA") == 0.032
    grid.load("DEU", NOON_S)
    assert len(server.received) == 2


def test_an_api_is_not_asked_without_end(server: Server) -> None:
    server.reset(as_json({"data": []}))
    grid = UkCarbonIntensity(base_url=server.url)
    grid._clock = lambda: 5.0
    for hour in range(3 * MAX_ASKED_PER_MINUTE):
        grid.load("GBR", NOON_S + hour * HOUR_S)
    assert len(server.received) == MAX_ASKED_PER_MINUTE


def test_nobody_there_is_no_figure_and_no_error() -> None:
    grid = UkCarbonIntensity(base_url="http://127.0.0.1:9")
    assert loaded(grid, "GBR") is None


# --- settings -----------------------------------------------------------------------------------------------------------


def test_names_of_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(named("uk-carbon-intensity"), UkCarbonIntensity)
    assert isinstance(named(str(written(tmp_path, "2026-01-01T12:00Z,GBR,1"))), HourlyFile)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(ValueError, match=f"set {KEY_VARIABLE}"):
        named("electricity-maps")
    monkeypatch.setenv(KEY_VARIABLE, "a-key")
    assert isinstance(named("Electricity-Maps"), ElectricityMaps)
    with pytest.raises(ValueError, match="did you mean 'electricity-maps'"):
        named("electricity-map")
    monkeypatch.setenv("ECOIMPACT_GRID", "uk-carbon-intensity")
    assert isinstance(config.from_surroundings(tmp_path)["grid"], UkCarbonIntensity)
    monkeypatch.setattr("ecoimpact.grid.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"ecoimpact\[grid\]"):
        named("uk-carbon-intensity")


@pytest.mark.parametrize("grid", [3, object(), "", "nothing", b"x.csv"])
def test_what_is_no_grid_is_refused_at_once(grid: Any) -> None:
    with pytest.raises(ValueError, match="grid"):
        ecoimpact.instrument(grid=grid)
    assert not ecoimpact.runtime.status()["instrumented"]


def test_a_log_without_background_has_nobody_to_ask(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='log_mode="sync"'):
        ecoimpact.instrument(grid="uk-carbon-intensity", log_mode="sync", log_dir=tmp_path)
    assert not ecoimpact.runtime.status()["instrumented"]


# --- watched calls ------------------------------------------------------------------------------------------------------


def ask(client: openai.OpenAI) -> Any:
    return client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "?"}])


def test_a_watched_call_has_the_figure_of_its_hour(server: Server, client: openai.OpenAI) -> None:
    server.reset(as_json(chat()))
    records: list[Record] = []
    ecoimpact.instrument("openai", zone="GBR", grid=Fixed(GBR=0.5), exporters=[records.append])
    try:
        response = ask(client)
        assert ecoimpact.flush(10)
    finally:
        ecoimpact.uninstrument()
    impacts = ecoimpact.impacts_of(response)
    assert impacts is not None
    assert impacts.energy is not None
    assert usage_gwp(impacts).max == pytest.approx(impacts.energy.max * 0.5, rel=1e-12)
    (record,) = records
    assert record.assessment.high == impacts.assessment.high
    assert "grid-hourly" in [warning.code for warning in record.assessment.warnings]


def test_the_caller_never_waits_for_an_api(server: Server, client: openai.OpenAI) -> None:
    """The API holds its answer back until the caller has read the figures: were it waited for, neither would end."""
    asked = threading.Event()

    def script(request: Received) -> Reply:
        if not request.path.startswith("/intensity"):
            return as_json(chat())
        asked.set()
        return replace(half_hour(request, 500), waits=True)

    server.reset(script)
    records: list[Record] = []
    ecoimpact.instrument("openai", zone="GBR", grid=UkCarbonIntensity(base_url=server.url), exporters=[records.append])
    try:
        impacts = ecoimpact.impacts_of(ask(client))
        assert asked.wait(10)
        assert impacts is not None
        assert codes(impacts) == ["grid-yearly"]
        server.release.set()
        assert ecoimpact.flush(10)
        later = ecoimpact.impacts_of(ask(client))
        assert later is not None
    finally:
        server.release.set()
        ecoimpact.uninstrument()
    assert [w.code for w in records[0].assessment.warnings if w.code.startswith("grid-")] == ["grid-hourly"]
    figures = records[0].assessment.high
    assert figures is not None
    assert figures.usage_gwp_kgco2eq == pytest.approx(figures.usage_energy_kwh * 0.5, rel=1e-12)


def test_without_a_log_the_figures_are_fetched_as_well(server: Server, client: openai.OpenAI) -> None:
    server.reset(lambda r: half_hour(r, 500) if r.path.startswith("/intensity") else as_json(chat()))
    grid = UkCarbonIntensity(base_url=server.url)
    ecoimpact.instrument("openai", zone="GBR", grid=grid)
    try:
        ask(client)
        assert ecoimpact.flush(10)
    finally:
        ecoimpact.uninstrument()
    assert list(grid._known.values()) == [0.5]


FORK = """
import json, os, sys, threading
import ecoimpact, openai
from ecoimpact.grid import UkCarbonIntensity

url = sys.argv[1]
ecoimpact.instrument("openai", zone="GBR", grid=UkCarbonIntensity(base_url=url), log_dir="log")
client = openai.OpenAI(api_key="test", base_url=url, max_retries=0)
ask = lambda: client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "?"}])
ask()                              # the background thread is now held by the API
sys.stdin.readline()
child = os.fork()
if child == 0:
    client = openai.OpenAI(api_key="test", base_url=url, max_retries=0)
    print("child", ask().impacts.energy is not None, flush=True)
    os._exit(0)
print("parent", os.waitpid(child, 0)[1], flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_fork_while_an_api_is_asked_does_not_hang(server: Server, tmp_path: Path) -> None:
    asked = threading.Event()

    def script(request: Received) -> Reply:
        if not request.path.startswith("/intensity"):
            return as_json(chat())
        asked.set()
        return Reply(body=b"{}", waits=True)

    server.reset(script)
    process = subprocess.Popen(
        [sys.executable, "-c", FORK, server.url],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert asked.wait(30)
        out, _ = process.communicate("now\n", timeout=60)
    finally:
        server.release.set()
        process.kill()
    assert sorted(out.splitlines()) == ["child True", "parent 0"]
