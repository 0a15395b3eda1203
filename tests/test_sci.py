"""The methodology ``sci``: worked cases, functional units, and what it says where nobody measured the latency."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ecoimpact import methodologies
from ecoimpact.engine import estimate
from ecoimpact.methodologies.sci import EDITION, embodied_share, software_carbon_intensity
from ecoimpact.types import Impacts, ModelParameters, SiteFactors, Usage

CASES = json.loads((Path(__file__).with_name("golden") / "sci.json").read_text("utf-8"))
CALLS = [case for case in CASES if "duration_s" in case["inputs"]]
PARAMETERS = ("processor_tdp_w", "processor_count", "device_embodied_kgco2eq", "lifespan_h", "resource_share")
REL = 1e-9
MODEL = ModelParameters(8, 8)


def codes(impacts: Impacts) -> list[str]:
    return [warning.code for warning in impacts.warnings]


# --- worked cases -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CALLS, ids=lambda case: case["about"][:40])
def test_worked_case_of_a_call(case: dict[str, Any]) -> None:
    given = case["inputs"]
    edition = methodologies.get("sci", **{name: given[name] for name in PARAMETERS})
    site = SiteFactors(1.6, 1.0, given["grid_gco2eq_per_kwh"] / 1000, 1e-7, 9.0, 3.0)
    usage = Usage(None, 100)
    figures = edition.assess(edition.serve(MODEL), usage, given["duration_s"], site)
    steps = {symbol: value for symbol, _, value, _, _ in edition.steps(MODEL, usage, given["duration_s"], site)}
    for name, value in case["expected"].items():
        assert steps[name] == pytest.approx(value, rel=REL), name
    assert figures.usage_energy_kwh == pytest.approx(case["expected"]["energy_kwh"], rel=REL)
    assert figures.total("gwp") == pytest.approx(case["expected"]["sci_kgco2eq_per_call"], rel=REL)
    assert figures.total("adpe") is figures.total("pe") is figures.total("wcf") is None


def test_worked_cases_of_the_standard() -> None:
    shared, per_token = (case for case in CASES if case not in CALLS)
    given, expected = shared["inputs"], shared["expected"]
    embodied = embodied_share(
        device_embodied=given["device_embodied_gco2eq"],
        time_h=given["time_reserved_s"] / 3600,
        lifespan_h=given["lifespan_s"] / 3600,
        resource_share=given["resource_share"],
    )
    assert embodied == pytest.approx(expected["embodied_gco2eq"], rel=REL)
    assert software_carbon_intensity(
        energy_kwh=given["it_energy_kwh"] * given["pue"],
        grid_gco2eq_per_kwh=given["grid_gco2eq_per_kwh"],
        embodied_gco2eq=embodied,
        functional_units=given["functional_units"],
    ) == pytest.approx(expected["sci_gco2eq_per_unit"], rel=REL)
    given = {name: value for name, value in per_token["inputs"].items() if name != "functional_unit"}
    assert software_carbon_intensity(**given) == pytest.approx(per_token["expected"]["sci_gco2eq_per_unit"], rel=REL)


def test_the_same_by_the_edition_as_by_the_formula_of_the_standard() -> None:
    impacts = estimate("gpt-4o", output_tokens=400, latency_s=7.5, methodology="sci")
    steps = impacts.explain()
    assert impacts.energy is not None
    assert impacts.gwp is not None
    expected = software_carbon_intensity(
        energy_kwh=impacts.energy.min,
        grid_gco2eq_per_kwh=steps["grid_gwp_kgco2eq_per_kwh"].low * 1000,
        embodied_gco2eq=steps["embodied_kgco2eq"].low * 1000,
        functional_units=1,
    )
    assert impacts.gwp.min * 1000 == pytest.approx(expected, rel=1e-12)


# --- latency ------------------------------------------------------------------------------------------------------------


def test_a_measured_latency_counts_whatever_the_model() -> None:
    small, large = (
        estimate(name, output_tokens=400, latency_s=6.0, methodology="sci") for name in ("gpt-4o-mini", "gpt-4o")
    )
    assert small.energy == large.energy
    assert small.energy is not None
    assert small.energy.value == pytest.approx(0.7 * 6 / 3600)
    assert "latency-modelled" not in codes(small)


def test_without_one_the_latency_is_modelled_and_said_to_be() -> None:
    impacts = estimate("gpt-4o-mini", output_tokens=400, methodology="sci")
    assert "latency-modelled" in codes(impacts)
    reference = methodologies.get("ecologits-2025-09")
    for end, model in ((impacts.energy.min, 8.0), (impacts.energy.max, 28.0)):  # type: ignore[union-attr]
        seconds = 400 * reference.serve(ModelParameters(model, model)).latency_s_per_token
        assert end == pytest.approx(0.7 * seconds / 3600, rel=1e-12)
    assert "latency_alpha_s" in {step.symbol for step in impacts.explain()}


@pytest.mark.parametrize("odd", [-1.0, math.nan, math.inf])
def test_an_impossible_latency_is_none(odd: float) -> None:
    impacts = estimate("gpt-4o-mini", output_tokens=400, latency_s=odd, methodology="sci")
    assert "latency-modelled" in codes(impacts)
    assert impacts.energy == estimate("gpt-4o-mini", output_tokens=400, methodology="sci").energy


# --- functional units and parameters ------------------------------------------------------------------------------------


def test_functional_units() -> None:
    edition = methodologies.get("sci", calls_per_conversation=6, calls_per_user=250)
    steps = estimate("gpt-4o", output_tokens=400, latency_s=5.0, methodology=edition).explain()
    per_call = steps["sci_kgco2eq_per_call"].value.mean
    for unit, calls in (("10k_calls", 10_000), ("token", 1 / 400), ("conversation", 6), ("user", 250)):
        assert steps[f"sci_kgco2eq_per_{unit}"].value.mean == pytest.approx(per_call * calls, rel=1e-12)
    plain = {step.symbol for step in estimate("gpt-4o", output_tokens=400, methodology="sci").explain()}
    assert "sci_kgco2eq_per_user" not in plain
    nothing = {step.symbol for step in estimate("gpt-4o", output_tokens=0, methodology="sci").explain()}
    assert "sci_kgco2eq_per_token" not in nothing
    assert "calls_per_h" not in nothing


def test_every_assumption_of_the_document_is_a_step() -> None:
    steps = estimate("gpt-4o", output_tokens=400, methodology="sci").explain()
    for symbol, value in (("lifespan_h", 35_040), ("resource_share", 1), ("pue", 1), ("processor_tdp_w", 700)):
        assert steps[symbol].value == value
    assert steps["device_embodied_kgco2eq"].value == 5700 / 8 + 164


def test_figures_follow_the_parameters() -> None:
    site = SiteFactors(1.3, 1, 0.4, 1e-7, 9, 3)

    def gwp(**parameters: float) -> tuple[float, float]:
        edition = methodologies.get("sci", **parameters)
        figures = edition.assess(edition.serve(MODEL), Usage(None, 100), 10.0, site)
        return figures.usage_gwp_kgco2eq, figures.embodied_gwp_kgco2eq or 0.0

    usage, embodied = gwp()
    assert gwp(processor_tdp_w=350) == pytest.approx((usage / 2, embodied))
    assert gwp(processor_count=8) == pytest.approx((usage * 8, embodied * 8))
    assert gwp(lifespan_h=17_520, pue=1.5) == pytest.approx((usage * 1.5, embodied * 2))
    assert gwp(resource_share=0.25) == pytest.approx((usage, embodied / 4))
    assert gwp(device_embodied_kgco2eq=0) == pytest.approx((usage, 0))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"processor_tdp": 1}, "did you mean 'processor_tdp_w'"),
        ({"resource_share": 1.1}, "at most 1"),
        ({"pue": 0.5}, "at least 1"),
        ({"lifespan_h": 0}, "above 0"),
        ({"processor_tdp_w": -1}, "0 or more"),
        ({"lifespan_h": None}, "finite number"),
    ],
)
def test_a_wrong_parameter_says_what_is_right(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        methodologies.get("sci", **parameters)
    assert methodologies.get("sci", device_embodied_kgco2eq=None) is EDITION
