"""Central values: a record tells the best value of its methodology, and whatever adds records adds those, line by line.

The lines are written through a real SDK. What they come to is summed here from the JSON alone, and compared with every
place that shows a sum: reports, dashboard, metrics, budgets, notebooks. One log is of ``measured-2026``, whose best value
lies far below the midpoint; of one every other line is as it was before records had central values; one is of several
methodologies, of which one knows no water.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import payloads as p
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_logs import SIZES, assert_sums, counted, made, same, without_central, write
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry
from server import Received, Reply, Server, as_json
from starlette.testclient import TestClient
from typer.testing import CliRunner

import ecoimpact
from ecoimpact import Budget
from ecoimpact.budgets import spending
from ecoimpact.cli.app import app
from ecoimpact.cli.quantities import unit_for
from ecoimpact.dashboard.app import create_app
from ecoimpact.dashboard.live import Live
from ecoimpact.exporters.metrics import FIGURES
from ecoimpact.exporters.otel import OTelExporter
from ecoimpact.exporters.prometheus import PrometheusExporter
from ecoimpact.notebook import report as table_of
from ecoimpact.records.folding import figure_in
from ecoimpact.records.index import Index
from ecoimpact.records.queries import EMPTY, forecast, report, total
from ecoimpact.types import CRITERIA, Range

MODELS = ("gpt-4o-mini", "gpt-4.1", "gpt-4o")
METHODOLOGIES = ("measured-2026", "ecologits", "sci")


@dataclass(frozen=True)
class Run:
    """What came of some calls: the lines of the log, what the answers carried, and what the metrics counted."""

    lines: list[dict[str, Any]]
    impacts: dict[str, ecoimpact.Impacts]
    otel: dict[str, float]
    prometheus: dict[str, float]


def answer(request: Received) -> Reply:
    """As many tokens as the prompt has characters."""
    tokens = len(request.body["messages"][0]["content"])
    usage = {"prompt_tokens": 7 * tokens, "completion_tokens": tokens, "total_tokens": 8 * tokens}
    return as_json({**p.chat(), "model": request.body["model"], "usage": usage})


@pytest.fixture(scope="module", name="made_run")
def _made_run(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Run:
    server.reset(answer)
    log_dir = tmp_path_factory.mktemp("written")
    reader, registry = InMemoryMetricReader(), CollectorRegistry()
    exporters = [OTelExporter(MeterProvider([reader], shutdown_on_exit=False)), PrometheusExporter(registry)]
    impacts: dict[str, ecoimpact.Impacts] = {}
    try:
        with openai.OpenAI(api_key="test", base_url=server.url, max_retries=0) as client:
            for methodology in METHODOLOGIES:
                ecoimpact.instrument(log_dir=log_dir, methodology=methodology, exporters=exporters)
                for number in range(12):
                    ask: Any = [{"role": "user", "content": "x" * (40 + 31 * number)}]
                    name = f"{methodology}-{number}"
                    with ecoimpact.label(call=name, team=("a", "b")[number % 2]):
                        found = client.chat.completions.create(model=MODELS[number % 3], messages=ask)
                    impacts[name] = found.impacts  # type: ignore[attr-defined]
        assert ecoimpact.flush(10)
    finally:
        ecoimpact.uninstrument()
    lines = [json.loads(line) for path in sorted(log_dir.rglob("*.jsonl")) for line in path.read_text().splitlines()]
    return Run(lines, impacts, otel_sums(reader), prometheus_sums(registry))


def otel_sums(reader: InMemoryMetricReader) -> dict[str, float]:
    data = reader.get_metrics_data()
    assert data is not None
    metrics = [metric for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics]
    return {m.name: math.fsum(getattr(point, "value", 0.0) for point in m.data.data_points) for m in metrics}


def prometheus_sums(registry: CollectorRegistry) -> dict[str, float]:
    sums: dict[str, float] = {}
    for metric in registry.collect():
        for sample in metric.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


@dataclass(frozen=True)
class Log:
    """A log, and its lines."""

    log_dir: Path
    lines: list[dict[str, Any]]

    def summed(self, suffix: str, end: str) -> float:
        return math.fsum(value for line in self.lines if (value := value_of(line, suffix, end)) is not None)


def value_of(line: dict[str, Any], suffix: str, end: str) -> float | None:
    """What a line says; the midpoint where it has no central value."""
    value: float | None = line.get(f"{suffix}_{end}")
    low, high = line[f"{suffix}_min"], line[f"{suffix}_max"]
    return (low + high) / 2 if end == "central" and value is None and low is not None else value


@pytest.fixture(scope="module", name="log", params=["measured", "half old", "mixed"])
def _log(request: pytest.FixtureRequest, made_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Log:
    lines = made_run.lines
    if request.param != "mixed":
        lines = [line for line in lines if line["methodology"] == "measured-2026"]
    if request.param == "half old":
        lines = [line if place % 2 else without_central(line) for place, line in enumerate(lines)]
    log_dir = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    write(log_dir, "a", lines[::2])
    write(log_dir, "b", lines[1::2])
    return Log(log_dir, lines)


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # away from a pyproject.toml with budgets in it


@pytest.fixture(name="invoke")
def _invoke(log: Log, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("COLUMNS", "80")

    def invoke(*arguments: object) -> str:
        result = CliRunner().invoke(app, [*map(str, arguments), "--log", str(log.log_dir)])
        assert result.exit_code == 0, result.output
        return result.stdout

    return invoke


def assert_flat(flat: dict[str, Any], log: Log) -> None:
    """Every criterion, at both ends and in between, is the sum of the lines, to the twelfth digit."""
    for c in CRITERIA:
        known = [line for line in log.lines if line[f"{c.suffix}_min"] is not None]
        assert flat[f"{c.key}_known"] == len(known)
        for end in SIZES:
            name = f"{c.suffix}_{end}"
            assert same(flat[name], log.summed(c.suffix, end) if known else None), name


# --- what is written ----------------------------------------------------------------------------------------------------


def test_a_line_has_the_central_values_of_the_answer(made_run: Run) -> None:
    assert len(made_run.lines) == len(made_run.impacts) == 36
    for line in made_run.lines:
        impacts = made_run.impacts[line["labels"]["call"]]
        for c in CRITERIA:
            figure = getattr(impacts, c.key)
            expected = (None, None, None) if figure is None else (figure.min, figure.central, figure.max)
            assert tuple(line[f"{c.suffix}_{end}"] for end in SIZES) == expected


def test_the_best_value_is_not_the_midpoint_where_the_methodology_has_one(made_run: Run) -> None:
    for line in made_run.lines:
        low, central, high = (line[f"energy_kwh_{end}"] for end in SIZES)
        if line["methodology"] == "measured-2026":
            assert low < central < 0.8 * (low + high) / 2
        else:
            assert central == (low + high) / 2


# --- what adds them -----------------------------------------------------------------------------------------------------


def test_reports_add_them(log: Log, invoke: Callable[..., str]) -> None:
    found = json.loads(invoke("report", "--format", "json", "--by", "label:team"))
    assert_flat(found["total"], log)
    for group in found["groups"]:
        assert_flat(group, Log(log.log_dir, [line for line in log.lines if line["labels"]["team"] == group["key"]]))
    rows = list(csv.DictReader(io.StringIO(invoke("report", "--format", "csv"))))
    assert same(math.fsum(float(row["energy_kwh_central"]) for row in rows), log.summed("energy_kwh", "central"))
    page = invoke("report", "--format", "html")
    card = r'id="(\w+)"><h2>\w+</h2><p class="value" data-value="(.*?)"'
    exact = {name: float(value) for name, value in re.findall(card, page)}
    for name, suffix in (("energy", "energy_kwh"), ("carbon", "gwp_kgco2eq"), ("water", "wcf_l")):
        assert same(exact[name], log.summed(suffix, "central"))


def test_the_dashboard_adds_them_and_lists_each(log: Log) -> None:
    live = Live(log.log_dir)
    live.refresh()
    with TestClient(create_app(log.log_dir, live=live), base_url="http://127.0.0.1:8377") as client:
        view = client.get("/api/overview").json()
        assert_flat(view["total"], log)
        course = view["series"]["total"]
        assert same(math.fsum(each[1] for each in course if each), log.summed("energy_kwh", "central"))
        listed = {row["id"]: row for row in client.get("/api/requests", params={"number": 500}).json()["requests"]}
        for line in log.lines:
            for c in CRITERIA:
                assert listed[line["id"]][f"{c.suffix}_central"] == value_of(line, c.suffix, "central")


def test_the_dashboard_estimates_with_them_again(tmp_path: Path) -> None:
    """Requests that are all alike are each the mean of all."""
    alike = made(0, input_tokens=100, output_tokens=400, latency_s=2.0, zone=None)
    write(tmp_path, "a", [alike | {"id": f"id{number}"} for number in range(5)])
    live = Live(tmp_path)
    live.refresh()
    with TestClient(create_app(tmp_path, live=live), base_url="http://127.0.0.1:8377") as client:
        rows = {row["methodology"]: row for row in client.get("/api/methodologies").json()["methodologies"]}
    asked: dict[str, Any] = {"provider": "openai", "input_tokens": 100, "output_tokens": 400, "latency_s": 2.0}
    for name in ("measured-2026", "ecologits-2025-09"):
        energy = ecoimpact.estimate("gpt-4o-mini", methodology=name, **asked).energy
        assert energy is not None
        for end in SIZES:
            assert math.isclose(rows[name][f"energy_kwh_{end}"], 5 * getattr(energy, end), rel_tol=1e-12)


def test_the_metrics_add_them(made_run: Run) -> None:
    log = Log(Path(), made_run.lines)
    for ends in FIGURES:
        (suffix,) = [c.suffix for c in CRITERIA if c.key == ends.key]
        for metric, end in zip((ends.low, ends.central, ends.high), SIZES, strict=True):
            expected = log.summed(suffix, end) * ends.factor
            assert same(made_run.otel[metric.name], expected), metric.name
            assert same(made_run.prometheus[f"{metric.prometheus}_total"], expected), metric.prometheus


def test_budgets_count_them(log: Log, invoke: Callable[..., str]) -> None:
    some = (Budget("g", gco2eq=1e6), Budget("e", wh=1e6, bound="high"), Budget("w", l=1e6, period="total"))
    with Index(log.log_dir) as index:
        index.refresh()
        states = spending(index, some, now=datetime.now(UTC))
    for state, (suffix, factor) in zip(states, (("gwp_kgco2eq", 1e3), ("energy_kwh", 1e3), ("wcf_l", 1.0)), strict=True):
        used = state.used
        assert used is not None
        assert all(same(getattr(used, end), log.summed(suffix, end) * factor) for end in SIZES)
        assert state.uncounted == sum(line[f"{suffix}_min"] is None for line in log.lines)
    (row,) = json.loads(invoke("budget", "check", "--wh", "1000000", "--json"))
    assert same(row["used"], log.summed("energy_kwh", "central") * 1e3)


def test_notebooks_add_them(log: Log) -> None:
    table = table_of(log.log_dir)
    assert_flat(table.total, log)
    assert same(math.fsum(table.column("gwp_kgco2eq_central")), log.summed("gwp_kgco2eq", "central"))


def test_tail_shows_each(log: Log, invoke: Callable[..., str]) -> None:
    shown = invoke("tail", "-n", 100).splitlines()[1:]
    assert len(shown) == len(log.lines)
    for line, text in zip(sorted(log.lines, key=lambda line: line["time"]), shown, strict=True):
        central = value_of(line, "energy_kwh", "central")
        assert central is not None
        assert unit_for("energy", central).text(central) in text


def test_a_forecast_goes_on_with_them(log: Log, tmp_path: Path) -> None:
    times = (f"2026-03-{1 + place % 9:02}T00:{place:02}:00.000000Z" for place in range(len(log.lines)))
    moved = [line | {"time": time} for line, time in zip(log.lines, times, strict=True)]
    write(tmp_path, "a", moved)
    with Index(tmp_path) as index:
        index.refresh()
        found = forecast(index, now=datetime(2026, 3, 10, tzinfo=UTC))
    now = datetime(2026, 3, 10, tzinfo=UTC)
    live = Live(tmp_path)
    live.refresh()
    page = create_app(tmp_path, live=live, budgets=(Budget("g", gco2eq=1e6),), clock=lambda: now)
    with TestClient(page, base_url="http://127.0.0.1:8377") as client:
        (row,) = client.get("/api/budgets").json()["budgets"]
    for end, name in zip(SIZES, ("expected_min", "expected", "expected_max"), strict=True):
        assert math.isclose(row[name], log.summed("gwp_kgco2eq", end) * (1 + 22 / 9) * 1e3, rel_tol=1e-9)
    assert found is not None
    assert found.days_seen == 9
    for c in CRITERIA:
        expected = getattr(found.expected, c.key)
        for end in SIZES:
            assert math.isclose(getattr(expected, end), log.summed(c.suffix, end) * (1 + 22 / 9), rel_tol=1e-9)


# --- over how many requests each is summed --------------------------------------------------------------------------------


def test_a_figure_that_some_methodologies_lack_says_of_how_many_it_is(made_run: Run, tmp_path: Path) -> None:
    sci = [line for line in made_run.lines if line["methodology"].startswith("sci")]
    assert sci
    assert all(line["wcf_l_min"] is None is not line["energy_kwh_min"] for line in sci)
    write(tmp_path, "a", made_run.lines)

    def shown(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["report", "--log", str(tmp_path), *arguments], env={"COLUMNS": "100"})
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "Water is known of 24 of 36 requests with an estimate.\n" in shown()
    assert "Energy is known" not in shown()
    assert "with an estimate of water</dt><dd>24 of 36 (66.6 %)" in shown("--format", "html")
    whole = json.loads(shown("--format", "json", "--by", "methodology"))
    assert {name: whole["total"][f"{name}_known"] for name in ("energy", "gwp", "adpe", "pe", "wcf")} == {
        "energy": 36,
        "gwp": 36,
        **dict.fromkeys(("adpe", "pe", "wcf"), 24),
    }
    assert [(group["key"], group["wcf_known"]) for group in whole["groups"] if not group["wcf_known"]] == [("sci", 0)]
    result = CliRunner().invoke(app, ["budget", "check", "--log", str(tmp_path), "--l", "5", "--period", "total"])
    assert "12 of 36 requests have no estimate" in result.stdout


def test_where_every_estimate_has_all_figures_nothing_is_said(tmp_path: Path) -> None:
    unknown = dict.fromkeys(name for name in made() if name.endswith(tuple(SIZES)))
    write(tmp_path, "a", [made(0), made(1), made(2, **unknown, errors=["model-not-registered"])])
    result = CliRunner().invoke(app, ["report", "--log", str(tmp_path)])
    assert "is known of" not in result.stdout
    assert "Without an estimate: 1 request" in result.stdout


# --- odd values, and rounding -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [0.9, 3.1, -1.0, math.nan, math.inf, "2", True, None, [], 10**400])
def test_an_odd_central_value_counts_as_the_midpoint(tmp_path: Path, odd: Any) -> None:
    line = made(0, energy_kwh_min=1.0, energy_kwh_max=3.0, energy_kwh_central=odd)
    write(tmp_path, "a", [line, made(1, energy_kwh_min=1.0, energy_kwh_max=3.0, energy_kwh_central=1.25)])
    with Index(tmp_path) as index:
        index.refresh()
        assert total(index).energy == Range(2.0, 6.0, 3.25)
        assert total(index).gwp == Range(*(made(0)[f"gwp_kgco2eq_{end}"] * 3 for end in ("min", "max", "central")))
    assert figure_in(line, "energy_kwh") == Range(1.0, 3.0, 2.0)


def test_a_central_value_without_ends_is_no_figure(tmp_path: Path) -> None:
    for place, ends in enumerate([(None, 3.0), (1.0, None), (None, None), (3.0, 1.0)]):
        write(tmp_path, "a", [made(place, energy_kwh_min=ends[0], energy_kwh_max=ends[1], energy_kwh_central=2.0)])
    with Index(tmp_path) as index:
        index.refresh()
        assert total(index).energy is None
        assert (total(index).energy_known, total(index).gwp_known, total(index).unestimated) == (0, 4, 0)


_AMOUNTS = st.floats(0, 1e9, allow_subnormal=True) | st.sampled_from([0.1, 0.3, 1e-300, 1e9])


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.lists(_AMOUNTS, min_size=3, max_size=3).map(sorted), st.integers(0, 24 * 70), st.booleans()),
        min_size=1,
        max_size=30,
    )
)
def test_sums_stay_between_their_ends_whatever_is_rounded(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[list[float], int, bool]]
) -> None:
    """Points too, of which the sums of all three are rounded in their own ways."""
    log_dir = tmp_path_factory.mktemp("log")
    for place, ((low, central, high), hours, is_point) in enumerate(drawn):
        values = (central, central, central) if is_point else (low, central, high)
        ends = dict(zip(SIZES, values, strict=True))
        figures = {f"{c.suffix}_{end}": value for c in CRITERIA for end, value in ends.items()}
        write(log_dir, f"s{place % 3}", [made(hours, model=f"m{place % 2}", **figures)])
    with Index(log_dir) as index:
        index.refresh()
        everything = total(index)
        assert_sums(everything, counted(log_dir))
        parts = EMPTY
        for group in report(index, "day").groups:
            parts = parts + group.totals
        assert parts.energy is not None
        assert everything.energy is not None
        assert all(same(getattr(parts.energy, end), getattr(everything.energy, end)) for end in SIZES)
        shared = everything * 0.3
        assert shared.energy is not None
        assert shared.energy_known == round(0.3 * len(drawn))


def test_a_log_of_before_has_the_midpoints(tmp_path: Path) -> None:
    lines = [without_central(made(number, cost_usd=None if number % 3 else 0.5)) for number in range(50)]
    write(tmp_path, "a", lines)
    with Index(tmp_path) as index:
        index.refresh()
        found = total(index)
        assert_sums(found, lines)
        assert found.wcf is not None
        assert math.isclose(found.wcf.central, found.wcf.mean, rel_tol=1e-12)
