"""The deployment ``managed-inference``: worked cases, the operator's own examples, properties, what is assumed, errors."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoimpact.deployments import ManagedInference, scaleway
from ecoimpact.deployments._managed_inputs import PARAMETERS
from ecoimpact.deployments.managed_inference import ManagedInferenceFootprint, instance_share
from ecoimpact.types import Range

REL = 1e-9

# Three deployments worked out by hand as the sum of the parts that Scaleway, Managed Inference footprint calculation,
# names; PUE, WUE and grid are Scaleway's reference values, watts and kilograms of the hardware are examples.
PARIS: dict[str, Any] = {
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
AMSTERDAM: dict[str, Any] = {
    **PARIS,
    "nodes": 3,
    "node_power_w": 3200.0,
    "node_fabrication_kgco2eq": 7450.0,
    "imported_model_gb": 140.0,
    "storage_server_capacity_gb": 480_000.0,
    "storage_server_power_w": 700.0,
    "storage_server_fabrication_kgco2eq": 2600.0,
    "pue": 1.38,
    "wue_l_per_kwh": 0.85,
    "grid_kgco2eq_per_kwh": 0.253,
}
WARSAW: dict[str, Any] = {
    "nodes": 2,
    "node_power_w": 1350.0,
    "node_fabrication_kgco2eq": 2300.0,
    "infrastructure_power_w": 380.0,
    "infrastructure_fabrication_kgco2eq": 990.0,
    "control_plane_power_w_per_node": 40.0,
    "control_plane_fabrication_kgco2eq_per_node": 60.0,
    "pue": 1.5,
    "wue_l_per_kwh": None,
    "grid_kgco2eq_per_kwh": 0.615,
}
CASES: dict[str, tuple[dict[str, Any], float, dict[str, Any]]] = {
    "a node for 30 days in Paris": (
        PARIS,
        720.0,
        {
            "it_energy_kwh": 2214.0,
            "energy_kwh": 2568.24,
            "use_kgco2eq": 113.00256,
            "fabrication_kgco2eq": 89.52054794520548,
            "gwp_kgco2eq": 202.52310794520548,
            "wcf_l": 553.5,
            "nodes": 166.09482520547942,
            "infrastructure": 33.37970147945205,
            "control_plane": 3.0485812602739726,
        },
    ),
    "three nodes for an hour in Amsterdam with a model of 140 GB": (
        AMSTERDAM,
        1.0,
        {
            "it_energy_kwh": 10.1853828125,
            "energy_kwh": 14.05582828125,
            "use_kgco2eq": 3.55612455515625,
            "fabrication_kgco2eq": 0.4544600813356165,
            "gwp_kgco2eq": 4.010584636491866,
            "wcf_l": 8.657575390624999,
            "nodes": 3.776972310502283,
            "infrastructure": 0.17156269649923894,
            "control_plane": 0.06188892191780822,
            "model_storage": 0.0001607075725361492,
        },
    ),
    "two nodes for a quarter in Warsaw, whose WUE nobody publishes": (
        WARSAW,
        2190.0,
        {
            "it_energy_kwh": 6920.4,
            "energy_kwh": 10380.6,
            "use_kgco2eq": 6384.069,
            "fabrication_kgco2eq": 237.91666666666666,
            "gwp_kgco2eq": 6621.985666666667,
            "wcf_l": None,
            "nodes": 5646.409166666667,
            "infrastructure": 808.9545,
            "control_plane": 166.622,
        },
    ),
}
SITE = {
    "site_power_w": 3e6,
    "data_centre_fabrication_kgco2eq": 3.3e6,
    "network_power_w": 50_000.0,
    "network_fabrication_kgco2eq": 400_000.0,
    "cross_functional_power_w": 120_000.0,
    "cross_functional_fabrication_kgco2eq": 900_000.0,
}


def bare(**parameters: Any) -> ManagedInference:
    """A deployment of nothing, with what is given beside."""
    nothing = dict.fromkeys((name for name in PARIS if name.endswith(("_w", "_kgco2eq", "_per_node"))), 0.0)
    return ManagedInference(**{**nothing, "pue": 1.0, "grid_kgco2eq_per_kwh": 0.0, **parameters})


def figures(footprint: ManagedInferenceFootprint) -> dict[str, Any]:
    return {**footprint.total._asdict(), **footprint.parts_kgco2eq}


# --- worked cases -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_worked_case(case: str) -> None:
    parameters, duration_h, expected = CASES[case]
    footprint = ManagedInference(**parameters).footprint(duration_h=duration_h)
    found = figures(footprint)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value is None:
            assert found[name] is None
        else:
            assert type(found[name]) is float
            assert found[name] == pytest.approx(value, rel=REL), name
    assert footprint.assumptions == ()


def test_what_a_site_publishes_may_come_from_its_zone() -> None:
    named = {name: value for name, value in PARIS.items() if name not in ("pue", "wue_l_per_kwh", "grid_kgco2eq_per_kwh")}
    footprint = ManagedInference(zone="fr-par-2", **named).footprint(720)
    assert figures(footprint) == figures(ManagedInference(**PARIS).footprint(720))
    assert footprint.assumptions == ()  # published, so not assumed
    assert ManagedInference(zone="fr-par-2", **{**named, "pue": 1.3}).footprint(720).energy_kwh == pytest.approx(2878.2)


# Scaleway's pages work out a few examples. These are the ones whose arithmetic holds; what does not is in the docs.


def test_the_operators_example_of_a_server() -> None:
    """Bare Metal: 100 of 52 560 hours of a server of 850 kgCO2eq are 1.62 kgCO2eq."""
    assert bare(node_fabrication_kgco2eq=850).footprint(100).gwp_kgco2eq == pytest.approx(1.62, abs=0.005)


def test_the_operators_example_of_a_cluster() -> None:
    """Kubernetes: two Instances of 6 W and a load balancer of 5 W; 7 gCO2eq an hour; 0.065 kgCO2eq/kWh and PUE 1.16."""
    cluster = bare(
        infrastructure_power_w=2 * 6 + 5,
        infrastructure_fabrication_kgco2eq=0.007 * 52_560,
        pue=1.16,
        grid_kgco2eq_per_kwh=0.065,
    ).footprint(100)
    assert cluster.fabrication_kgco2eq == pytest.approx(0.700, rel=REL)
    assert cluster.use_kgco2eq == pytest.approx(0.128, abs=0.0005)


def test_the_operators_example_of_object_storage() -> None:
    """Object Storage: 100 GB take 150 of 800 GB; 100 hours of a server of 850 kgCO2eq are 0.3 kgCO2eq of fabrication."""
    deployment = bare(
        imported_model_gb=100,
        storage_server_capacity_gb=1000,
        storage_server_power_w=600,
        storage_server_fabrication_kgco2eq=850,
    )
    footprint = deployment.footprint(100)
    assert footprint.explain()["storage_share"].value == 0.1875
    assert footprint.fabrication_kgco2eq == pytest.approx(0.3, abs=0.01)
    assert footprint.it_energy_kwh == pytest.approx(0.1875 * 60, rel=REL)


def test_the_operators_example_of_a_data_centre() -> None:
    """Calculation breakdown: 110 W for 100 hours in a site of 3 MW, 25 years and 3.3e6 kgCO2eq are 0.055 kgCO2eq."""
    footprint = bare(node_power_w=110, site_power_w=3e6, data_centre_fabrication_kgco2eq=3.3e6).footprint(100)
    assert footprint.parts_kgco2eq["data_centre"] == pytest.approx(0.055, abs=0.0005)
    assert footprint.not_counted == ("network", "cross_functional", "non_it")


def test_the_operators_rule_for_instances_adds_ratios() -> None:
    assert instance_share((1, 1), (64, 64), (100, 100)) == 3.0
    with pytest.raises(ValueError, match="installed must be above 0"):
        instance_share((4, 0))


# --- properties ---------------------------------------------------------------------------------------------------------

amounts = st.floats(0, 1e6)
ratios = st.floats(1, 5)
deployments: Any = st.fixed_dictionaries(
    {
        "nodes": st.floats(0.1, 1000),
        **{name: amounts for name in PARIS if name.endswith(("_w", "_kgco2eq", "_per_node"))},
        "pue": ratios,
        "wue_l_per_kwh": st.floats(0, 10),
        "grid_kgco2eq_per_kwh": st.floats(0, 2),
        "lifespan_h": st.floats(1000, 1e5),
        "imported_model_gb": amounts,
        "storage_replication": ratios,
        "storage_fill_rate": st.floats(0.1, 1),
        "storage_server_capacity_gb": st.floats(1000, 1e6),
        "storage_server_power_w": amounts,
        "storage_server_fabrication_kgco2eq": amounts,
    },
    optional={},
)
sites: Any = st.one_of(st.just({}), st.fixed_dictionaries({name: st.floats(1, 1e6) for name in SITE}))
hours = st.floats(0.01, 1e5)


def close(value: Any, expected: Any) -> bool:
    return math.isclose(float(value), float(expected), rel_tol=REL, abs_tol=1e-12)


@given(deployments, sites, hours)
def test_parts_sum_to_the_whole(deployment: dict[str, Any], site: dict[str, Any], duration_h: float) -> None:
    footprint = ManagedInference(**deployment, **site).footprint(duration_h)
    assert close(math.fsum(map(float, footprint.parts_kgco2eq.values())), footprint.gwp_kgco2eq)
    assert close(float(footprint.use_kgco2eq) + float(footprint.fabrication_kgco2eq), footprint.gwp_kgco2eq)
    assert all(float(part) >= 0 for part in footprint.parts_kgco2eq.values())


@given(deployments, sites, hours, st.floats(0.1, 10))
def test_figures_are_linear_in_time(
    deployment: dict[str, Any], site: dict[str, Any], duration_h: float, factor: float
) -> None:
    whole = ManagedInference(**deployment, **site)
    once, longer = figures(whole.footprint(duration_h)), figures(whole.footprint(duration_h * factor))
    assert all(close(longer[name], once[name] * factor) for name in once)


@given(deployments, hours, st.floats(0.1, 10))
def test_nodes_and_the_control_plane_are_linear_in_nodes(
    deployment: dict[str, Any], duration_h: float, factor: float
) -> None:
    more = {**deployment, "nodes": deployment["nodes"] * factor}
    once = ManagedInference(**deployment).footprint(duration_h).parts_kgco2eq
    scaled = ManagedInference(**more).footprint(duration_h).parts_kgco2eq
    assert all(close(scaled[part], float(once[part]) * factor) for part in ("nodes", "control_plane"))
    assert scaled["infrastructure"] == once["infrastructure"]
    assert scaled.get("model_storage") == once.get("model_storage")


LOWERING = {"lifespan_h", "storage_fill_rate", "storage_server_capacity_gb", "site_power_w"}


@given(deployments, sites, st.data())
def test_figures_are_monotone_in_every_parameter(
    deployment: dict[str, Any], site: dict[str, Any], data: st.DataObject
) -> None:
    parameters = {**deployment, **site}
    name = data.draw(st.sampled_from(sorted(parameters)))
    more = parameters[name] * data.draw(st.floats(1, 10))
    if name == "storage_fill_rate":
        more = min(more, 1.0)
    before = figures(ManagedInference(**parameters).footprint(100))
    after = figures(ManagedInference(**{**parameters, name: more}).footprint(100))
    if name in LOWERING:
        before, after = after, before
    if name == "imported_model_gb":
        before.setdefault("model_storage", 0.0)
    assert all(float(after[figure]) >= float(value) * (1 - 1e-12) for figure, value in before.items())


@given(deployments, sites, st.data())
def test_a_range_goes_from_everything_low_to_everything_high(
    deployment: dict[str, Any], site: dict[str, Any], data: st.DataObject
) -> None:
    low = {**deployment, **site}
    high = dict(low)
    for name in data.draw(st.lists(st.sampled_from(sorted(low.keys() - {"nodes"})), min_size=1, unique=True)):
        factor = data.draw(st.floats(1, 3))
        high[name] = low[name] / factor if name in LOWERING else low[name] * factor
    between: dict[str, Any] = {
        name: low[name] if low[name] == high[name] else tuple(sorted((low[name], high[name]))) for name in low
    }
    footprint = ManagedInference(**between).footprint(24)
    at_low, at_high = figures(ManagedInference(**low).footprint(24)), figures(ManagedInference(**high).footprint(24))
    for name, figure in figures(footprint).items():
        if isinstance(figure, Range):
            assert (figure.min, figure.max) == (at_low[name], at_high[name])
        else:
            assert figure == at_low[name] == at_high[name]


def test_one_range_makes_every_figure_one_and_the_best_value_goes_through() -> None:
    footprint = ManagedInference(**{**PARIS, "node_power_w": Range(1000, 5000, central=2600)}).footprint(720)
    plain = ManagedInference(**PARIS).footprint(720)
    assert isinstance(footprint.gwp_kgco2eq, Range)
    assert footprint.gwp_kgco2eq.central == plain.gwp_kgco2eq
    assert footprint.fabrication_kgco2eq == plain.fabrication_kgco2eq  # a range of one point


# --- the steps ----------------------------------------------------------------------------------------------------------


def recomputed(footprint: ManagedInferenceFootprint) -> dict[str, float]:
    """The symbols as the written formulas give them."""
    symbols: dict[str, float] = {}
    for step in footprint.explain():
        value = eval(step.formula, {"__builtins__": {}}, dict(symbols)) if step.formula else float(step.value)  # noqa: S307
        symbols[step.symbol] = value
    return symbols


@pytest.mark.parametrize("parameters", [PARIS, AMSTERDAM, WARSAW, {**AMSTERDAM, **SITE}, {**PARIS, **SITE}])
def test_the_steps_give_the_result(parameters: dict[str, Any]) -> None:
    footprint = ManagedInference(**parameters).footprint(123.0)
    symbols = recomputed(footprint)
    for name, value in footprint.total._asdict().items():
        assert (value is None) == (name not in symbols)
        assert value is None or symbols[name] == pytest.approx(value, rel=1e-12)
    for part, value in footprint.parts_kgco2eq.items():
        assert symbols[f"{part}_kgco2eq"] == pytest.approx(value, rel=1e-12)
    for step in footprint.explain():
        assert symbols[step.symbol] == pytest.approx(float(step.value), rel=1e-12)
        assert step.source
        assert step.unit or step.symbol in (
            "pue",
            "storage_replication",
            "storage_fill_rate",
            "storage_share",
            "site_share",
        )


def test_the_steps_name_what_each_figure_rests_on() -> None:
    steps = ManagedInference(instance="L40S", zone="fr-par-2", nodes=2).footprint(1).explain()
    assert steps["nodes"].source == "given"
    assert "NVIDIA" in steps["node_power_w"].source
    assert "Calculation reference values" in steps["pue"].source
    assert "Calculation reference values" in steps["lifespan_h"].source
    assert str(steps).startswith("managed-inference\nduration_h = 1 h")


# --- shares of it -------------------------------------------------------------------------------------------------------


def test_shares_of_nodes_hours_and_requests() -> None:
    footprint = ManagedInference(**AMSTERDAM).footprint(24, requests=12_000)
    assert footprint.per_node.gwp_kgco2eq == pytest.approx(float(footprint.gwp_kgco2eq) / 3, rel=REL)
    assert footprint.per_hour.energy_kwh == pytest.approx(float(footprint.energy_kwh) / 24, rel=REL)
    assert footprint.per_node_hour.wcf_l == pytest.approx(float(footprint.wcf_l or 0) / 72, rel=REL)
    assert footprint.per_request is not None
    assert footprint.per_request.use_kgco2eq == pytest.approx(float(footprint.use_kgco2eq) / 12_000, rel=REL)


@pytest.mark.parametrize("requests", [None, 0])
def test_a_request_has_no_figures_where_none_is_known(requests: int | None) -> None:
    footprint = ManagedInference(**PARIS).footprint(1, requests=requests)
    assert footprint.per_request is None


def test_unknown_water_is_unknown_everywhere() -> None:
    footprint = ManagedInference(**WARSAW).footprint(10, requests=5)
    assert footprint.per_request is not None
    assert {footprint.wcf_l, footprint.per_node.wcf_l, footprint.per_request.wcf_l} == {None}
    assert "unknown" in str(footprint)
    zone = {name: value for name, value in WARSAW.items() if name not in ("pue", "grid_kgco2eq_per_kwh")}
    assert ManagedInference(zone="pl-waw-1", **zone).footprint(10).wcf_l is None


# --- what is assumed ----------------------------------------------------------------------------------------------------


def test_assumptions_are_reported_and_given_values_are_none() -> None:
    deployment = ManagedInference(instance="H100-SXM-4-80G", zone="fr-par-2", imported_model_gb=140, lifespan_h=40_000)
    names = [assumption.name for assumption in deployment.assumptions]
    assert names == [
        "node_power_w",
        "node_fabrication_kgco2eq",
        "infrastructure_power_w",
        "infrastructure_fabrication_kgco2eq",
        "control_plane_power_w_per_node",
        "control_plane_fabrication_kgco2eq_per_node",
        "storage_server_capacity_gb",
        "storage_server_power_w",
        "storage_server_fabrication_kgco2eq",
    ]
    assert all(assumption.unit and assumption.why and assumption.source for assumption in deployment.assumptions)
    known = dataclasses.replace(deployment, node_power_w=3100, storage_server_power_w=500)
    assert {a.name for a in known.assumptions} == set(names) - {"node_power_w", "storage_server_power_w"}
    assert known.footprint(1).assumptions == known.assumptions
    for assumption in known.assumptions:
        assert str(assumption) in str(known.footprint(1))


def test_storage_is_assumed_only_where_there_is_a_model_to_store() -> None:
    deployment = ManagedInference(instance="L4", zone="fr-par-2")
    assert not any(assumption.name.startswith("storage") for assumption in deployment.assumptions)
    assert "model_storage" not in deployment.footprint(1).parts_kgco2eq


def test_a_node_is_its_gpus_and_their_share_of_a_host() -> None:
    """Four H100 of 700 W and half of 10.2 kW less eight of them; 575.1 kgCO2eq each, and half of 5700."""
    half = scaleway.instance("h100-sxm-4")
    assert isinstance(half.power_w.value, Range)
    assert isinstance(half.fabrication_kgco2eq.value, Range)
    assert half.power_w.value.max == pytest.approx(4 * 700 + (10_200 - 8 * 700) / 2)
    assert half.power_w.value.min == pytest.approx(4 * 700 * 50 / 400 + 1000 / 2)
    assert half.fabrication_kgco2eq.value.max == pytest.approx(4 * 575.1 + 5700 / 2)
    assert half.fabrication_kgco2eq.value.min == pytest.approx(4 * 1312 / 8 + 2500 / 2)


def test_a_node_type_is_its_instance() -> None:
    for name, row in scaleway.instances().items():
        assert scaleway.instance(row.node_type) is scaleway.instance(name.lower())
        assert int(name.split("-")[-2]) == row.gpu_count
        assert row.gpu == name.rsplit("-", 2)[0]
    whole, half = scaleway.instance("H100-SXM-8"), scaleway.instance("H100-SXM-4")
    assert whole.power_w.value == half.power_w.value * 2


def test_the_table_names_its_sources_and_uses_them_all() -> None:
    table = tomllib.loads(Path(scaleway.__file__).with_name("scaleway.toml").read_text(encoding="utf-8"))
    rows = [row for kind in ("zones", "instances", "assumptions") for row in table[kind].values()]
    rows += [
        cell
        for kind in ("gpus", "hosts")
        for row in table[kind].values()
        for cell in row.values()
        if isinstance(cell, dict)
    ]
    cited = {key for row in rows for key in row["source"].split()}
    in_code = {p.source for p in PARAMETERS.values() if p.source} | {"managed-inference", "breakdown"}
    assert cited | in_code == table["sources"].keys() - {"instances"}
    assert table["assumptions"].keys() <= PARAMETERS.keys()
    assert {row["gpu"] for row in table["instances"].values()} <= table["gpus"].keys() & table["hosts"].keys()
    for row in table["assumptions"].values():
        assert row["why"]


def test_zones_are_those_of_the_operators_reference_values() -> None:
    """PUE, WUE and kgCO2eq/kWh of the page Calculation reference values."""
    published = {
        "fr-par-1": (1.45, 0.009, 0.044),
        "fr-par-2": (1.16, 0.25, 0.044),
        "fr-par-3": (1.44, 0.001, 0.044),
        "nl-ams-1": (1.38, 0.85, 0.253),
        "nl-ams-2": (1.4, None, 0.253),
        "nl-ams-3": (1.2, None, 0.253),
        "pl-waw-1": (1.5, None, 0.615),
        "pl-waw-2": (1.24, None, 0.615),
        "pl-waw-3": (1.5, None, 0.615),
    }
    for name, (pue, wue_l_per_kwh, grid_kgco2eq_per_kwh) in published.items():
        zone = scaleway.zone(name)
        water = zone.wue_l_per_kwh and zone.wue_l_per_kwh.value
        assert (zone.pue.value, water, zone.grid_kgco2eq_per_kwh.value) == (pue, wue_l_per_kwh, grid_kgco2eq_per_kwh)
        assert "reference values" in zone.pue.source
    assert {"DC2", "DC3", "DC4", "DC5", "AMS1", "WAW1"} == scaleway.zones().keys() - published.keys()


# --- errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instance": "H100-SXM-5"}, "unknown instance 'H100-SXM-5': did you mean 'H100-SXM-"),
        ({"instance": "GB200"}, "unknown instance 'GB200'"),
        ({"zone": "fr-par-9"}, "unknown zone 'fr-par-9': did you mean 'fr-par-"),
        ({"nodes": 0}, "nodes must be above 0, got 0"),
        ({"nodes": (1, 2)}, "nodes must be a number"),
        ({"nodes": True}, "nodes must be a number"),
        ({"node_power_w": -1}, "node_power_w must be at least 0, got -1"),
        ({"node_power_w": math.nan}, "node_power_w must be finite"),
        ({"node_power_w": math.inf}, "node_power_w must be finite"),
        ({"node_power_w": "2600"}, "node_power_w must be a number"),
        ({"node_power_w": (2600, 100)}, r"node_power_w must be a number or \(low, high\)"),
        ({"node_power_w": (1, 2, 3)}, r"node_power_w must be a number or \(low, high\)"),
        ({"node_power_w": (-1, 2)}, "node_power_w must be at least 0"),
        ({"node_power_w": Range(1, math.inf)}, "node_power_w must be finite"),
        ({"node_power_w": None}, r"node_power_w is not known: give it, or an instance to take it from \(L4-1-24G"),
        ({"pue": None}, r"pue is not known: give it, or a zone to take it from \(fr-par-1"),
        ({"pue": 0.9}, "pue must be at least 1"),
        ({"storage_fill_rate": 1.5}, "storage_fill_rate must be .*at most 1"),
        ({"storage_replication": 0.5}, "storage_replication must be at least 1"),
        ({"lifespan_h": 0}, "lifespan_h must be above 0"),
        (
            {"network_power_w": 1000.0, "site_power_w": 1e6},
            "network_fabrication_kgco2eq is not known: what the whole site has",
        ),
        ({"data_centre_fabrication_kgco2eq": 1e6}, "site_power_w is not known"),
        (
            {"site_power_w": 1e6},
            r"site_power_w is only for what the whole site has: give totals of it \(data_centre_fabric",
        ),
        (
            {"network_lifespan_h": 50_000},
            r"network_lifespan_h is only for .*\(network_power_w, network_fabrication_kgco2eq\)",
        ),
    ],
)
def test_what_cannot_be_is_an_error_at_once(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ManagedInference(**{**PARIS, **change})


@pytest.mark.parametrize("duration_h", [0, -1, math.nan, math.inf, "720", None, True])
def test_a_duration_is_a_finite_number_above_zero(duration_h: Any) -> None:
    with pytest.raises(ValueError, match="duration_h must be"):
        ManagedInference(**PARIS).footprint(duration_h)


@pytest.mark.parametrize("requests", [-1, math.nan, math.inf, "5", True])
def test_requests_are_a_number_from_zero_on(requests: Any) -> None:
    with pytest.raises(ValueError, match="requests must be"):
        ManagedInference(**PARIS).footprint(1, requests=requests)


# --- the objects --------------------------------------------------------------------------------------------------------


def test_none_stands_for_not_given() -> None:
    nothing = dict.fromkeys(name for name in PARAMETERS if name not in PARIS and name != "nodes")
    assert figures(ManagedInference(**{**PARIS, **nothing}).footprint(5)) == figures(ManagedInference(**PARIS).footprint(5))


def test_the_parameters_are_the_fields() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(ManagedInference) if field.init}
    assert set(fields) == {"instance", "zone", *PARAMETERS}
    defaults = {name: value for name, value in fields.items() if value is not None}
    assert defaults == {"nodes": 1.0, **{name: p.default for name, p in PARAMETERS.items() if p.default is not None}}


def test_values_travel() -> None:
    deployment = ManagedInference(instance="L4", zone="fr-par-2", node_power_w=(50, 120))
    footprint = deployment.footprint(24, requests=7)
    for same in (pickle.loads(pickle.dumps(footprint)), copy.deepcopy(footprint)):
        assert same == footprint
        assert str(same) == str(footprint)
    assert pickle.loads(pickle.dumps(deployment)) == deployment
    assert "_inputs" not in repr(deployment)


def test_importing_it_loads_no_numpy() -> None:
    code = "import sys; from ecoimpact.deployments import ManagedInference; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
