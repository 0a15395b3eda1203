"""The deployment ``GPUServer``: worked cases, the equations against plain loops, properties, errors, plots."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ecoimpact import deployments
from ecoimpact.deployments import FleetFootprint, GPUJob, GPUServer, InsufficientCapacityError
from ecoimpact.deployments.gpu_server import SERVER_TYPES

GOLDEN = json.loads((Path(__file__).with_name("golden") / "gpu-server.json").read_text("utf-8"))
CASES = GOLDEN["cases"]
RULES = ("seed", "current")
FIGURES = ("instances_raw", "instances", "energy_kwh", "use_kgco2eq", "fabrication_kgco2eq")
FLOAT32 = 2e-6
FLOAT64 = 1e-9


def by_name(case: dict[str, Any]) -> str:
    return str(case["case"])


# --- worked cases -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_worked_case(case: dict[str, Any], rule: Any) -> None:
    server = GPUServer(**case["server"])
    for name, value in case["instance"].items():
        assert getattr(server, name) == pytest.approx(value, rel=FLOAT64), name
    result = server.footprint(case["jobs"], rule)
    assert result.hours == case["hours"]
    for name, (first, last) in case["series"].items():
        series = getattr(result, name)
        assert (series.dtype, series.shape) == (np.float64, (case["hours"],))
        assert series[: len(first)] == pytest.approx(first, rel=FLOAT32, abs=1e-12), name
        assert series[-len(last) :] == pytest.approx(last, rel=FLOAT32, abs=1e-12), name
    for name, value in case["totals"].items():
        assert getattr(result, name) == pytest.approx(value, rel=FLOAT32), name


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_the_parts_of_the_jobs_as_e_footprint_has_them(case: dict[str, Any]) -> None:
    result = GPUServer(**case["server"]).footprint(case["jobs"], "current")
    for figure, parts in case["current"].items():
        for name, value in parts.items():
            assert getattr(result.jobs[name], figure).sum() == pytest.approx(value, rel=FLOAT32), (figure, name)


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_the_weights_of_the_documentation(case: dict[str, Any]) -> None:
    result = GPUServer(**case["server"]).footprint(case["jobs"])
    for name, (first, last) in case["weights"].items():
        weight = result.jobs[name].weight
        assert weight[: len(first)] == pytest.approx(first, rel=FLOAT64)
        assert weight[-len(last) :] == pytest.approx(last, rel=FLOAT64)
    assert result.weight == pytest.approx(sum(job.weight for job in result.jobs.values()), rel=FLOAT64)


@pytest.mark.parametrize("case", [case for case in CASES if case["seed"]], ids=by_name)
def test_the_parts_of_the_jobs_by_these_weights(case: dict[str, Any]) -> None:
    result = GPUServer(**case["server"]).footprint(case["jobs"])
    assert result.attribution == "seed"
    for figure, parts in case["seed"].items():
        for name, value in parts.items():
            assert getattr(result.jobs[name], figure).sum() == pytest.approx(value, rel=FLOAT64), (figure, name)


def test_the_figures_that_the_documentation_prints() -> None:
    """Three significant digits, of the example on e-footprint's page about the class."""
    example_case = CASES[-1]
    result = GPUServer(**example_case["server"]).footprint(example_case["jobs"])
    job = result.jobs["Manually defined GPU job"]
    printed = {
        "hour_by_hour_ram_need in kB": (
            result.ram_need_gb * 1e6,
            [97.2, 27.8, 41.7, 13.9, 69.4, 97.2, 83.3, 55.6, 111, 69.4],
        ),
        "hour_by_hour_compute_need": (
            result.gpu_need * 1e3,
            [1.94, 0.556, 0.833, 0.278, 1.39, 1.94, 1.67, 1.11, 2.22, 1.39],
        ),
        "raw_nb_of_instances": (
            result.instances_raw * 1e3,
            [0.54, 0.154, 0.231, 0.0772, 0.386, 0.54, 0.463, 0.309, 0.617, 0.386],
        ),
        "nb_of_instances": (result.instances, [1] * 10),
        "instances_fabrication_footprint in g": (result.fabrication_kgco2eq * 1e3, [58.9] * 10),
        "instances_energy in Wh": (result.energy_kwh * 1e3, [241, 240, 240, 240, 241, 241, 241, 241, 241, 241]),
        "energy_footprint in g": (result.use_kgco2eq * 1e3, [24.1, 24, 24, 24, 24.1, 24.1, 24.1, 24.1, 24.1, 24.1]),
        "job_repartition_weights": (
            job.weight * 1e3,
            [0.486, 0.139, 0.208, 0.0695, 0.347, 0.486, 0.417, 0.278, 0.556, 0.347],
        ),
        "fabrication_impact_repartition": (job.provisioned_share, [1] * 10),
        "usage_impact_repartition": (job.load_share, [1] * 10),
    }
    for name, (series, expected) in printed.items():
        assert [float(f"{value:.3g}") for value in series] == expected, name
    server = result.server
    assert (server.occupied_ram_gb_per_instance, server.occupied_gpu_per_instance) == (0, 0)
    assert server.fraction_of_usage_time == 1


# --- the equations, in plain loops --------------------------------------------------------------------------------------


class Reference(NamedTuple):
    """The equations once more, as they are written: no array, no trick. A demand within 1e-9 of n instances needs n."""

    raw: list[float]
    instances: list[float]
    parts: dict[str, dict[str, list[float]]]


def occurrences_of(job: dict[str, Any], hours: int) -> list[float]:
    duration_h = job["duration_s"] / 3600
    running = [0.0] * hours
    for start, count in enumerate(job["hourly_starts"]):
        for hour in range(start, hours):
            running[hour] += count * min(max(duration_h - (hour - start), 0.0), 1.0)
    return running


def reference(server: GPUServer, jobs: list[dict[str, Any]], rule: str, hours: int) -> Reference:
    runs = {job["name"]: occurrences_of(job, hours) for job in jobs}
    gpu = [sum(runs[j["name"]][h] * j["gpu"] for j in jobs) / server.free_gpu_per_instance for h in range(hours)]
    ram = [sum(runs[j["name"]][h] * j["ram_gb"] for j in jobs) / server.free_ram_gb_per_instance for h in range(hours)]
    raw = [max(pair) for pair in zip(gpu, ram, strict=True)]
    if server.server_type == "autoscaling":
        instances = [float(math.ceil(r - 1e-9)) for r in raw]
    elif server.server_type == "serverless":
        instances = raw
    else:
        instances = [float(server.fixed_instances or math.ceil(max(raw) - 1e-9))] * hours
    demand = {}
    for j in jobs:
        if rule == "seed":
            a_run = [j["gpu"] / server.gpu_count + j["ram_gb"] / server.instance_ram_gb] * hours
        else:
            by_gpu, by_ram = j["gpu"] / server.free_gpu_per_instance, j["ram_gb"] / server.free_ram_gb_per_instance
            a_run = [by_gpu if g >= r else by_ram for g, r in zip(gpu, ram, strict=True)]
        demand[j["name"]] = [n * w for n, w in zip(runs[j["name"]], a_run, strict=True)]

    def shares_over(chosen: list[int]) -> dict[str, float] | None:
        total = sum(demand[name][h] for name in demand for h in chosen)
        return {name: sum(demand[name][h] for h in chosen) / total for name in demand} if total else None

    equal = {name: 1 / len(jobs) for name in demand}
    period = shares_over(list(range(hours))) or equal
    load = [shares_over([h]) or period for h in range(hours)]
    provisioned = load
    if rule == "current" and server.server_type == "on-premise":
        tiers = [shares_over([h for h in range(hours) if raw[h] > k + 1e-9]) or period for k in range(int(instances[0]))]
        flat = {name: sum(tier[name] for tier in tiers) / len(tiers) for name in demand} if tiers else equal
        provisioned = [flat] * hours
    idle_kwh, load_kwh = (server.pue * w / 1000 for w in (server.instance_idle_power_w, server.instance_load_power_w))
    fabrication = server.instance_fabrication_kgco2eq / (server.lifespan_years * 365.25 * 24)
    parts = {}
    for name in demand:
        energy = [provisioned[h][name] * instances[h] * idle_kwh + load[h][name] * raw[h] * load_kwh for h in range(hours)]
        parts[name] = {
            "instances_raw": [load[h][name] * raw[h] for h in range(hours)],
            "instances": [provisioned[h][name] * instances[h] for h in range(hours)],
            "energy_kwh": energy,
            "use_kgco2eq": [kwh * server.grid_gco2eq_per_kwh / 1000 for kwh in energy],
            "fabrication_kgco2eq": [provisioned[h][name] * instances[h] * fabrication for h in range(hours)],
        }
    return Reference(raw, instances, parts)


# Numbers with few digits, so that a demand is a whole number of instances exactly or not nearly.
def some(values: list[float]) -> st.SearchStrategy[float]:
    return st.sampled_from(values)


servers = st.builds(
    lambda kind, fixed, **others: GPUServer(
        server_type=kind, fixed_instances=fixed if kind == "on-premise" else None, **others
    ),
    some([*SERVER_TYPES]),  # type: ignore[list-item]
    st.one_of(st.none(), st.integers(500, 510)),
    gpu_power_w=some([300, 700]),
    gpu_idle_power_w=some([0, 70, 300]),
    ram_per_gpu_gb=some([40, 80]),
    gpu_count=some([4, 8]),
    lifespan_years=some([3, 6]),
    pue=some([1, 1.25]),
    utilization_rate=some([0.75, 1]),
    grid_gco2eq_per_kwh=some([0, 56, 384]),
    base_gpu=some([0, 0.5]),
    base_ram_gb=some([0, 16]),
)
starts = st.lists(st.one_of(st.just(0), st.integers(0, 20), st.floats(0, 20, width=16)), min_size=1, max_size=12)
job_parameters = st.fixed_dictionaries(
    {
        "duration_s": some([0, 12.5, 900, 3600, 5400, 7200, 45000]),
        "gpu": some([0, 0.5, 1, 2]),
        "ram_gb": some([0, 8, 40]),
        "hourly_starts": starts,
    }
)
job_lists = st.lists(job_parameters, min_size=1, max_size=4).map(
    lambda jobs: [{"name": f"job {number}", **job} for number, job in enumerate(jobs)]
)
rules: Any = st.sampled_from(RULES)


@given(servers, job_lists, rules)
def test_the_equations(server: GPUServer, jobs: list[dict[str, Any]], rule: Any) -> None:
    result = server.footprint(jobs, rule)
    expected = reference(server, jobs, rule, result.hours)
    assert result.instances_raw == pytest.approx(expected.raw, rel=FLOAT64, abs=1e-12)
    assert result.instances == pytest.approx(expected.instances, rel=FLOAT64, abs=1e-12)
    for name, parts in expected.parts.items():
        for figure, series in parts.items():
            assert getattr(result.jobs[name], figure) == pytest.approx(series, rel=FLOAT64, abs=1e-12), (name, figure)


@given(st.lists(st.floats(0, 1e6), max_size=30), st.floats(0, 60))
@example([1.0, 2.0, 3.0], 1.0)
@example([1.0, 2.0, 3.0], 7.0)
@example([1.0], 23.999)
def test_runs_at_work(counts: list[float], duration_h: float) -> None:
    server = GPUServer(gpu_count=8)
    job = {"name": "job", "duration_s": duration_h * 3600, "hourly_starts": [*counts, 0.0]}
    occurrences = server.footprint([job]).jobs["job"].occurrences
    assert occurrences == pytest.approx(occurrences_of(job, len(occurrences)), rel=FLOAT64, abs=1e-9)
    assert occurrences.sum() == pytest.approx(sum(counts) * duration_h, rel=FLOAT64)


def test_nothing_remains_where_nothing_runs() -> None:
    """A remainder of 1e-16 would keep a whole instance on."""
    counts = [0.1, 0.7, 1e9 + 0.3, *[0.0] * 40, 0.2, *[0.0] * 40]
    result = GPUServer(server_type="autoscaling").footprint(
        [{"name": "job", "duration_s": 7 * 3600, "hourly_starts": counts}]
    )
    assert not result.instances[9:43].any()
    assert result.instances[43:50].tolist() == [1.0] * 7


@pytest.mark.parametrize(
    ("starts_per_hour", "duration_s", "gpu", "instances"),
    [
        (360, 10, 4, 1),
        (1200, 3, 4, 1),
        (3, 1200, 4, 1),
        (49, 3600 / 49, 4, 1),
        (1, 3 * 1200.0000000000002, 4, 1),
        (361, 10, 4, 2),
    ],
)
def test_rounding_does_not_switch_an_instance_on(
    starts_per_hour: int, duration_s: float, gpu: float, instances: int
) -> None:
    for share in (0.1, 0.7, 0.9, 1.0):
        server = GPUServer(server_type="autoscaling", gpu_count=gpu / share, utilization_rate=share)
        jobs = [
            {"name": f"part {part}", "duration_s": duration_s, "gpu": gpu / 10, "hourly_starts": [starts_per_hour]}
            for part in range(10)
        ]
        result = server.footprint(jobs)
        assert result.instances.tolist() == [instances]


# --- properties ---------------------------------------------------------------------------------------------------------


@given(servers, job_lists, rules)
def test_the_parts_add_up_to_the_whole(server: GPUServer, jobs: list[dict[str, Any]], rule: Any) -> None:
    result = server.footprint(jobs, rule)
    for figure in (*FIGURES, "idle_energy_kwh", "load_energy_kwh", "gwp_kgco2eq", "gpu_need", "ram_need_gb"):
        whole = getattr(result, figure)
        parts = sum(getattr(job, figure) for job in result.jobs.values())
        assert parts == pytest.approx(whole, rel=FLOAT64, abs=1e-300), figure
        assert (whole >= 0).all(), figure
        assert np.isfinite(whole).all(), figure
    for kind in ("load_share", "provisioned_share"):
        assert sum(getattr(job, kind) for job in result.jobs.values()) == pytest.approx(np.ones(result.hours), rel=FLOAT64)


tiny_and_huge = st.one_of(st.floats(0, 1e30), st.floats(0, 1e-290), st.just(5e-324))


@given(
    st.sampled_from(SERVER_TYPES),
    rules,
    st.lists(
        st.fixed_dictionaries(
            {
                "duration_s": st.floats(0, 1e6),
                "gpu": st.floats(0, 8),
                "ram_gb": st.floats(0, 640),
                "hourly_starts": st.lists(tiny_and_huge, min_size=1, max_size=5),
            }
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_whatever_the_sizes(kind: Any, rule: Any, jobs: list[dict[str, Any]]) -> None:
    result = GPUServer(server_type=kind, gpu_count=8).footprint(
        [{"name": str(number), **job} for number, job in enumerate(jobs)], rule
    )
    for figure in FIGURES:
        whole = getattr(result, figure)
        assert np.isfinite(whole).all()
        parts = sum(getattr(job, figure) for job in result.jobs.values())
        assert parts == pytest.approx(whole, rel=FLOAT64, abs=1e-300), figure


@given(servers, job_lists)
def test_what_is_provided(server: GPUServer, jobs: list[dict[str, Any]]) -> None:
    result = server.footprint(jobs)
    raw, instances = result.instances_raw, result.instances
    assert (instances >= raw).all()
    if server.server_type == "autoscaling":
        assert (instances == np.ceil(raw)).all()
    elif server.server_type == "serverless":
        assert (instances == raw).all()
    else:
        assert (instances == (server.fixed_instances or math.ceil(raw.max()))).all()


@given(servers, job_lists, st.integers(0, 3), st.floats(1, 3))
def test_more_of_a_job_is_never_less_of_anything(
    server: GPUServer, jobs: list[dict[str, Any]], which: int, factor: float
) -> None:
    before = server.footprint(jobs)
    more = [dict(job) for job in jobs]
    job = more[which % len(jobs)]
    job["hourly_starts"] = [count * factor for count in job["hourly_starts"]]
    after = server.footprint(more)
    for figure in FIGURES:
        assert (getattr(after, figure) >= getattr(before, figure) * (1 - 1e-12)).all(), figure


@given(job_lists, rules, st.sampled_from([0.5, 2.0, 10.0]))
def test_serverless_figures_are_proportional_to_the_starts(jobs: list[dict[str, Any]], rule: Any, factor: float) -> None:
    server = GPUServer(server_type="serverless")
    once = server.footprint(jobs, rule)
    times = server.footprint([{**job, "hourly_starts": np.array(job["hourly_starts"]) * factor} for job in jobs], rule)
    for name in once.jobs:
        for figure in FIGURES:
            expected = getattr(once.jobs[name], figure) * factor
            assert getattr(times.jobs[name], figure) == pytest.approx(expected, rel=FLOAT64, abs=1e-300)


@given(servers, job_lists, st.sampled_from(["pue", "grid_gco2eq_per_kwh", "lifespan_years"]))
def test_factors_of_the_server(server: GPUServer, jobs: list[dict[str, Any]], parameter: str) -> None:
    before = server.footprint(jobs)
    changed = {field: getattr(server, field) for field in server.__slots__} | {parameter: 2 * getattr(server, parameter)}
    after = GPUServer(**changed).footprint(jobs)
    energy, use, fabrication = {"pue": (2, 2, 1), "grid_gco2eq_per_kwh": (1, 2, 1), "lifespan_years": (1, 1, 0.5)}[
        parameter
    ]
    assert after.energy_kwh == pytest.approx(before.energy_kwh * energy, rel=FLOAT64)
    assert after.use_kgco2eq == pytest.approx(before.use_kgco2eq * use, rel=FLOAT64)
    assert after.fabrication_kgco2eq == pytest.approx(before.fabrication_kgco2eq * fabrication, rel=FLOAT64)


@given(servers, job_lists, rules)
def test_the_order_of_jobs_does_not_matter(server: GPUServer, jobs: list[dict[str, Any]], rule: Any) -> None:
    one, other = server.footprint(jobs, rule), server.footprint(jobs[::-1], rule)
    for name in one.jobs:
        for figure in FIGURES:
            mine = getattr(one.jobs[name], figure)
            assert mine == pytest.approx(getattr(other.jobs[name], figure), rel=FLOAT64, abs=1e-12)


# --- hours without demand -----------------------------------------------------------------------------------------------


def test_idle_hours_go_by_the_shares_of_the_period() -> None:
    server = GPUServer(server_type="on-premise", gpu_count=4, ram_per_gpu_gb=80)
    jobs = [
        GPUJob("a", duration_s=3600, gpu=1, ram_gb=0, hourly_starts=[1, 0, 2]),
        GPUJob("b", duration_s=3600, gpu=2, ram_gb=0, hourly_starts=[0, 0, 0.5]),
    ]
    result = server.footprint(jobs)
    # Weights: a has 1/4 and 2/4, b has 2/4 x 0.5: three quarters of the period are a's.
    assert result.jobs["a"].load_share.tolist() == pytest.approx([1, 0.75, 2 / 3])
    assert result.jobs["b"].load_share.tolist() == pytest.approx([0, 0.25, 1 / 3])
    assert result.jobs["a"].fabrication_kgco2eq[1] == pytest.approx(0.75 * result.fabrication_kgco2eq[1])


@pytest.mark.parametrize("rule", RULES)
def test_a_fleet_that_nobody_uses_is_shared_equally(rule: Any) -> None:
    jobs = [GPUJob("a", hourly_starts=[0, 0]), GPUJob("b", gpu=3, hourly_starts=[0])]
    result = GPUServer(server_type="on-premise", fixed_instances=2).footprint(jobs, rule)
    assert result.instances.tolist() == [2, 2]
    assert result.jobs["a"].instances.tolist() == [1, 1]
    assert result.energy_kwh == pytest.approx([2 * 0.2 * 1.2] * 2)
    nothing = GPUServer(server_type="on-premise").footprint(jobs, rule)
    assert not nothing.instances.any()


def test_tiers_are_paid_for_by_those_who_need_them() -> None:
    """Two instances by day for one job, one by night for the other: the second instance is the day's alone."""
    server = GPUServer(server_type="on-premise", gpu_count=1)
    jobs = [
        GPUJob("day", duration_s=3600, hourly_starts=[2, 0]),
        GPUJob("night", duration_s=3600, hourly_starts=[0, 1]),
    ]
    result = server.footprint(jobs, "current")
    assert result.jobs["day"].provisioned_share == pytest.approx([(2 / 3 + 1) / 2] * 2)
    assert result.jobs["night"].provisioned_share == pytest.approx([(1 / 3 + 0) / 2] * 2)
    assert result.jobs["night"].load_share.tolist() == [0, 1]
    spare = GPUServer(server_type="on-premise", gpu_count=1, fixed_instances=4).footprint(jobs, "current")
    assert spare.jobs["day"].provisioned_share == pytest.approx([(2 / 3 + 1 + 2 / 3 + 2 / 3) / 4] * 2)


# --- what is given, and what comes back ---------------------------------------------------------------------------------


def test_series_of_any_kind_and_length() -> None:
    jobs = [
        GPUJob("list", hourly_starts=[1, 2, 3]),
        GPUJob("integers", hourly_starts=np.array([1, 2], dtype=np.int32)),
        GPUJob("narrow", hourly_starts=np.array([0.5], dtype=np.float32)),
        GPUJob("strided", hourly_starts=np.arange(8.0)[::2]),
        GPUJob("none", hourly_starts=[]),
    ]
    result = GPUServer().footprint(jobs)
    assert list(result.jobs) == ["list", "integers", "narrow", "strided", "none"]
    assert result.hours == 4
    assert result.jobs["strided"].occurrences * 3600 == pytest.approx([0, 2, 4, 6])
    assert result.jobs["narrow"].occurrences * 3600 == pytest.approx([0.5, 0, 0, 0])
    assert not result.jobs["none"].occurrences.any()
    for job in result.jobs.values():
        for figure in FIGURES:
            series = getattr(job, figure)
            assert (series.dtype, series.shape) == (np.float64, (4,))


def test_the_caller_may_change_his_arrays_and_not_ours() -> None:
    mine = np.array([1.0, 2.0])
    job = GPUJob("job", hourly_starts=mine)
    mine[:] = 99
    result = GPUServer().footprint([job])
    assert result.jobs["job"].occurrences * 3600 == pytest.approx([1, 2])
    for array in (result.instances, result.instances_raw, result.fabrication_kgco2eq, result.gpu_need, job.hourly_starts):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0  # type: ignore[index]
    part = result.jobs["job"].energy_kwh
    part[:] = 0
    assert result.jobs["job"].energy_kwh.all()


def test_starts_that_were_counted_elsewhere() -> None:
    jobs: list[Any] = [GPUJob("chat", duration_s=10), {"name": "batch", "duration_s": 600, "hourly_starts": [1, 1, 1]}]
    start = datetime(2026, 3, 1, 1, 0, tzinfo=timezone(timedelta(hours=1)))
    result = GPUServer().footprint(jobs, hourly_starts={"chat": [5, 0]}, start=start)
    assert result.start == start
    assert result.times is not None
    assert result.times.tolist() == [datetime(2026, 3, 1, hour) for hour in range(3)]
    assert result.jobs["chat"].occurrences == pytest.approx([50 / 3600, 0, 0])
    assert GPUServer().footprint([GPUJob("job", hourly_starts=[1])]).times is None


def test_what_a_result_says_of_itself() -> None:
    case = CASES[0]
    result = GPUServer(**case["server"]).footprint(case["jobs"])
    assert repr(result) == "<FleetFootprint of 49 h, 2 jobs: 597 kWh, use 229.2 kgCO2eq, fabrication 31.46 kgCO2eq>"
    assert repr(result.jobs["batch"]) == ("<JobFootprint 'batch': 89.88 kWh, use 34.51 kgCO2eq, fabrication 5.284 kgCO2eq>")
    assert result.total_gwp_kgco2eq == pytest.approx(result.gwp_kgco2eq.sum())
    again = pickle.loads(pickle.dumps(result))
    assert isinstance(again, FleetFootprint)
    assert (again.jobs["batch"].use_kgco2eq == result.jobs["batch"].use_kgco2eq).all()


def test_the_defaults_are_those_of_e_footprint() -> None:
    """``GPUServer.default_values`` and ``GPUJob.default_values`` of efootprint 27.0.0."""
    server = GPUServer()
    assert server.server_type == "serverless"
    assert (server.gpu_power_w, server.gpu_idle_power_w, server.ram_per_gpu_gb, server.gpu_count) == (400, 50, 80, 4)
    assert (server.fabrication_per_gpu_kgco2eq, server.fabrication_without_gpu_kgco2eq) == (150, 2500)
    assert (server.lifespan_years, server.pue, server.utilization_rate, server.grid_gco2eq_per_kwh) == (6, 1.2, 1, 400)
    assert (server.base_gpu, server.base_ram_gb, server.fixed_instances) == (0, 0, None)
    job = GPUJob("job")
    assert (job.duration_s, job.gpu, job.ram_gb, job.hourly_starts) == (1, 1, 0.05, None)


# --- errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"server_type": "on_premise"}, r"unknown server_type 'on_premise': did you mean 'on-premise'\?"),
        ({"server_type": "Autoscaling"}, "did you mean 'autoscaling'"),
        ({"server_type": None}, "Known: autoscaling, serverless, on-premise"),
        ({"gpu_power_w": -1}, "gpu_power_w must be at least 0, got -1"),
        ({"gpu_power_w": math.nan}, "gpu_power_w must be finite"),
        ({"grid_gco2eq_per_kwh": math.inf}, "grid_gco2eq_per_kwh must be finite"),
        ({"grid_gco2eq_per_kwh": 10**400}, "grid_gco2eq_per_kwh must be finite"),
        ({"fabrication_per_gpu_kgco2eq": 1e31}, r"at most 1e\+30"),
        ({"lifespan_years": 0}, "lifespan_years must be above 0"),
        ({"gpu_count": 0}, "gpu_count must be above 0"),
        ({"gpu_count": "8"}, "gpu_count must be a number, got '8'"),
        ({"gpu_count": True}, "gpu_count must be a number"),
        ({"ram_per_gpu_gb": None}, "ram_per_gpu_gb must be a number"),
        ({"pue": 0.9}, "pue must be at least 1"),
        ({"utilization_rate": 1.1}, "utilization_rate must be at most 1"),
        ({"gpu_power_w": 40, "gpu_idle_power_w": 50}, "gpu_idle_power_w 50 is above gpu_power_w 40"),
        ({"fixed_instances": 3}, "fixed_instances is for on-premise servers: leave it out with 'serverless'"),
        ({"server_type": "on-premise", "fixed_instances": 2.5}, "whole number"),
        ({"server_type": "on-premise", "fixed_instances": 0}, "fixed_instances must be at least 1"),
        ({"server_type": "on-premise", "fixed_instances": math.inf}, "fixed_instances must be finite"),
    ],
)
def test_a_wrong_server_says_what_is_right(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GPUServer(**parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"base_gpu": 4}, r"node: an instance has no GPUs left for jobs \(0\): raise gpu_count .* or lower base_gpu"),
        ({"base_gpu": 3.7, "utilization_rate": 0.9}, "no GPUs left"),
        ({"base_ram_gb": 320}, "no GB of memory left for jobs .* or lower base_ram_gb"),
    ],
)
def test_nothing_is_left_for_jobs(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InsufficientCapacityError, match=message):
        GPUServer(name="node", **parameters)


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (
            {"name": "job", "cpu_cores": 4, "hourly_starts": [1]},
            "asks for CPU cores .*runs only jobs whose compute is measured",
        ),
        ({"name": "job", "cpu": 4, "hourly_starts": [1]}, "asks for CPU cores"),
        ({"name": "job", "gpus": 4, "hourly_starts": [1]}, "unknown parameter of job 'job': 'gpus': did you mean 'gpu'"),
        ({"gpu": 4, "hourly_starts": [1]}, "a job needs a name"),
        ({"name": "", "hourly_starts": [1]}, "a job needs a name"),
        ({"name": 7, "hourly_starts": [1]}, "a job needs a name"),
        ("job", "whose compute is measured in GPUs; got 'job'"),
        ({"name": "job", "gpu": -1, "hourly_starts": [1]}, "job 'job': gpu must be at least 0"),
        ({"name": "job", "duration_s": math.nan, "hourly_starts": [1]}, "duration_s must be finite"),
        ({"name": "job", "duration_s": 1e12, "hourly_starts": [1]}, "duration_s must be at most 3.15576e"),
        ({"name": "job", "ram_gb": "8", "hourly_starts": [1]}, "ram_gb must be a number"),
        ({"name": "job", "hourly_starts": [1, -2]}, "finite, not negative .*hour 1 is -2"),
        ({"name": "job", "hourly_starts": [math.nan, 1]}, "hour 0 is nan"),
        ({"name": "job", "hourly_starts": [0, math.inf]}, "hour 1 is inf"),
        ({"name": "job", "hourly_starts": [1, None]}, "one series of numbers"),
        ({"name": "job", "hourly_starts": ["1"]}, "one series of numbers"),
        ({"name": "job", "hourly_starts": [[1], [2]]}, "one series of numbers"),
        ({"name": "job", "hourly_starts": [[1], [2, 3]]}, "one series of numbers"),
        ({"name": "job", "hourly_starts": 3}, "one series of numbers"),
        ({"name": "job", "hourly_starts": []}, "hourly_starts is empty"),
        ({"name": "job"}, "nothing says how often job 'job' is started"),
    ],
)
def test_a_wrong_job_says_what_is_right(job: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GPUServer().footprint([job])


def test_wrong_lists_of_jobs() -> None:
    job = GPUJob("job", hourly_starts=[1])
    server = GPUServer()
    with pytest.raises(ValueError, match="at least one job"):
        server.footprint([])
    with pytest.raises(ValueError, match="two jobs are called 'job'"):
        server.footprint([job, job])
    with pytest.raises(ValueError, match="unknown job 'jobb': did you mean 'job'"):
        server.footprint([job], hourly_starts={"jobb": [1]})
    with pytest.raises(ValueError, match="both the job and hourly_starts say"):
        server.footprint([job], hourly_starts={"job": [1]})
    with pytest.raises(ValueError, match="unknown attribution 'curent': did you mean 'current'"):
        server.footprint([job], "curent")  # type: ignore[arg-type]
    for start in (datetime(2026, 1, 1), "2026-01-01"):
        with pytest.raises(ValueError, match="with a time zone"):
            server.footprint([job], start=start)  # type: ignore[arg-type]


def test_a_job_that_no_instance_holds() -> None:
    server = GPUServer(gpu_count=4, utilization_rate=0.9, base_gpu=0.5, base_ram_gb=20)
    server.footprint([GPUJob("all of it", gpu=3.5, ram_gb=300, hourly_starts=[1])])  # utilization is a fraction of time
    with pytest.raises(
        InsufficientCapacityError, match=r"job 'large' holds 3.6 GPUs and an instance has 3.5 for jobs: raise"
    ):
        server.footprint([GPUJob("large", gpu=3.6, hourly_starts=[1])])
    with pytest.raises(
        InsufficientCapacityError, match=r"holds 301 GB and an instance has 300 for jobs: raise ram_per_gpu"
    ):
        server.footprint([GPUJob("large", ram_gb=301, hourly_starts=[1])])


def test_too_few_instances() -> None:
    server = GPUServer(server_type="on-premise", gpu_count=1, fixed_instances=2)
    enough = [GPUJob("job", duration_s=3600, hourly_starts=[1, 2, 1])]
    assert server.footprint(enough).instances.tolist() == [2, 2, 2]
    with pytest.raises(InsufficientCapacityError, match="hour 1 needs 3 instances and there are 2: raise fixed_instances"):
        server.footprint([GPUJob("job", duration_s=3600, hourly_starts=[1, 2.5, 1])])
    assert issubclass(InsufficientCapacityError, ValueError)


# --- memory, and what is imported ---------------------------------------------------------------------------------------


def peak_bytes(hours: int, jobs: int, instances: float = 1) -> int:
    counts = np.arange(hours) % 7 * instances
    listed = [GPUJob(str(number), duration_s=5400, hourly_starts=counts) for number in range(jobs)]
    server = GPUServer(server_type="on-premise", gpu_count=1)
    tracemalloc.start()
    try:
        result = server.footprint(listed, "current")
        for job in result.jobs.values():
            job.use_kgco2eq.sum()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_linear_in_hours_and_in_jobs_and_free_of_instances() -> None:
    peak_bytes(100, 2)  # what is imported on first use
    assert peak_bytes(40_000, 4) < 2.2 * peak_bytes(20_000, 4)
    assert peak_bytes(20_000, 80) < 2.2 * peak_bytes(20_000, 40)
    assert peak_bytes(20_000, 4, instances=1e9) < 1.1 * peak_bytes(20_000, 4)


def test_numpy_comes_with_the_first_use() -> None:
    program = """
import sys, ecoimpact, ecoimpact.deployments
assert "numpy" not in sys.modules
assert "GPUServer" in dir(ecoimpact.deployments)
from ecoimpact.deployments import GPUServer
assert "numpy" in sys.modules and "plotly" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_public_names() -> None:
    for name in deployments.__all__:
        assert getattr(deployments, name).__name__ == name
    with pytest.raises(AttributeError, match="GPUServers"):
        _ = deployments.GPUServers


def test_the_benchmark_runs() -> None:
    program = "from benchmarks import fleet; print(fleet.table(rounds=1, hours=48, jobs=6))"
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for row in ("autoscaling, `current`", "autoscaling, `seed`", "on-premise, `current`", "on-premise, `seed`"):
        assert f"| {row} | " in done.stdout
    assert "48 hours, 6 jobs" in done.stdout


# --- plots --------------------------------------------------------------------------------------------------------------


def traces(figure: Any) -> dict[tuple[str, str], Any]:
    """The traces of a figure by the title of their row and their own name."""
    titles = [annotation.text for annotation in figure.layout.annotations]
    return {(titles[int(trace.yaxis[1:] or 1) - 1], trace.name): trace for trace in figure.data}


def test_plots_show_the_arrays() -> None:
    pytest.importorskip("plotly")
    from ecoimpact.deployments import plots

    case = CASES[2]
    result = GPUServer(**case["server"]).footprint(case["jobs"], "current", start=datetime(2026, 1, 1, tzinfo=UTC))
    assert result.times is not None
    found = traces(plots.hourly(result))
    assert (np.asarray(found["instances", "provided"].y) == result.instances).all()
    assert (np.asarray(found["instances", "demanded"].y) == result.instances_raw).all()
    for row, figure in (("energy, kWh", "energy_kwh"), ("use, kgCO2eq", "use_kgco2eq")):
        for name, job in result.jobs.items():
            assert (np.asarray(found[row, name].y) == getattr(job, figure)).all()
    for name, job in result.jobs.items():
        trace = found["fabrication, kgCO2eq", name]
        assert (np.asarray(trace.y) == job.fabrication_kgco2eq).all()
        assert trace.stackgroup
        assert (np.asarray(trace.x, dtype="datetime64[s]") == result.times).all()
    assert len(found) == 2 + 3 * len(result.jobs)


def test_plots_of_many_jobs_put_the_small_ones_together(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    from ecoimpact.deployments import plots

    jobs = [GPUJob(f"job {number}", gpu=number / 2, hourly_starts=[number, 1]) for number in range(6)]
    result = GPUServer().footprint(jobs)
    figure = plots.hourly(result, max_jobs=2)
    found = traces(figure)
    assert {name for row, name in found if row == "energy, kWh"} == {"job 5", "job 4", plots.OTHERS}
    small = sum(result.jobs[f"job {number}"].energy_kwh for number in range(4))
    assert np.asarray(found["energy, kWh", plots.OTHERS].y) == pytest.approx(small)
    assert list(found["energy, kWh", plots.OTHERS].x) == [0, 1]
    figure.write_html(tmp_path / "fleet.html")
    assert "job 5" in (tmp_path / "fleet.html").read_text("utf-8")
    with pytest.raises(ValueError, match="max_jobs"):
        plots.hourly(result, max_jobs=0)
