"""The methodology ``scope3``: worked cases, its fitted constants, sizes from prices, what it says about requests."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecoimpact import data, methodologies
from ecoimpact.data.tables import FILES
from ecoimpact.engine import estimate
from ecoimpact.methodologies.scope3 import EDITION, PriceRegression, size_from_price
from ecoimpact.types import Figures, Impacts, ModelParameters, SiteFactors, Usage

ROOT = Path(__file__).parents[1]
CASES = json.loads((Path(__file__).with_name("golden") / "scope3.json").read_text("utf-8"))
REQUESTS = [case for case in CASES if "params_b" in case["inputs"]]
OF_THE_REQUEST = ("params_b", "input_tokens", "output_tokens", "grid_kgco2eq_per_kwh")
REL = 1e-9


def codes(impacts: Impacts) -> list[str]:
    return [warning.code for warning in impacts.warnings]


def table(name: str) -> list[dict[str, str]]:
    with (FILES / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- worked cases -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case["about"][:40])
def test_worked_case(case: dict[str, Any]) -> None:
    given, expected = case["inputs"], dict(case["expected"])
    edition = methodologies.get("scope3", **{k: v for k, v in given.items() if k not in OF_THE_REQUEST})
    model = ModelParameters(given["params_b"], given["params_b"])
    usage = Usage(given["input_tokens"], given["output_tokens"])
    site = SiteFactors(1.7, 0.9, given["grid_kgco2eq_per_kwh"], 0, 0, 3.1)  # its PUE and water give way to the parameters
    figures = edition.assess(edition.serve(model), usage, 4.0, site)
    steps = {symbol: value for symbol, _, value, _, _ in edition.steps(model, usage, 4.0, site)}
    assert figures.total("energy") == pytest.approx(expected.pop("energy_kwh"), rel=REL)
    for criterion, name in (("gwp", "gwp_kgco2eq"), ("wcf", "wcf_l")):
        assert figures.total(criterion) == pytest.approx(expected.pop(name), rel=REL)
    for name, value in expected.items():
        found = getattr(figures, name) if name in Figures._fields else steps[name]
        assert found == (None if value is None else pytest.approx(value, rel=REL)), name


def test_there_are_cases_for_requests_and_for_prices() -> None:
    assert (len(REQUESTS), len(CASES)) == (3, 4)


# --- what counts --------------------------------------------------------------------------------------------------------


def test_input_tokens_count_and_the_measured_latency_does_not() -> None:
    few = estimate("gpt-4o", output_tokens=400, input_tokens=10, methodology="scope3")
    many = estimate("gpt-4o", output_tokens=400, input_tokens=4000, methodology="scope3")
    assert few.energy is not None
    assert many.energy is not None
    assert many.energy.min > few.energy.min
    assert estimate("gpt-4o", output_tokens=400, input_tokens=10, latency_s=90.0, methodology="scope3") == few


def test_unknown_input_tokens_are_flagged_and_widen_the_range() -> None:
    unknown, none, many = (
        estimate("gpt-4o", output_tokens=400, input_tokens=count, methodology="scope3") for count in (None, 0, 6000)
    )
    assert "input-tokens-unknown" in codes(unknown)
    assert "input-tokens-unknown" not in codes(none)
    for key in ("energy", "gwp", "wcf"):
        low, high = getattr(none, key), getattr(many, key)
        assert (getattr(unknown, key).min, getattr(unknown, key).max) == (low.min, high.max)
    steps = unknown.explain()
    assert (steps["input_tokens"].low, steps["input_tokens"].high) == (0, 6000)
    assert steps["input_tokens"].source == "not known: from none to many"
    assert none.explain()["input_tokens"].source == "the request"


def test_an_impossible_count_of_input_tokens_is_an_unknown_one() -> None:
    odd: Any = -4
    impacts = estimate("gpt-4o", output_tokens=400, input_tokens=odd, methodology="scope3")
    assert {"input-tokens-invalid", "input-tokens-unknown"} <= {*codes(impacts)}
    assert impacts.energy == estimate("gpt-4o", output_tokens=400, methodology="scope3").energy


def test_the_bound_of_unknown_input_can_be_replaced() -> None:
    exact = methodologies.get("scope3", unknown_input_tokens=0)
    assert estimate("gpt-4o", output_tokens=9, methodology=exact).energy == (
        estimate("gpt-4o", output_tokens=9, input_tokens=0, methodology="scope3").energy
    )


def test_training_is_absent_unless_given_and_then_part_of_the_total() -> None:
    without = estimate("gpt-4o", output_tokens=400, input_tokens=9, methodology="scope3")
    assert without.training is None
    assert "training-not-included" in codes(without)
    edition = methodologies.get("scope3", training_kgco2eq_per_inference=2e-6, training_l_per_inference=1e-5)
    trained = estimate("gpt-4o", output_tokens=400, input_tokens=9, methodology=edition)
    assert "training-not-included" not in codes(trained)
    assert trained.training is not None
    assert trained.training.gwp is not None
    assert trained.training.wcf is not None
    assert trained.training.energy is None
    assert trained.training.gwp.value == 2e-6
    assert trained.gwp is not None
    assert without.gwp is not None
    assert trained.gwp.min == pytest.approx(without.gwp.min + 2e-6)
    tuned = estimate(
        "gpt-4o", output_tokens=400, methodology=methodologies.get("scope3", fine_tuning_kgco2eq_per_inference=3e-8)
    )
    assert "training-not-included" in codes(tuned)  # fine-tuning alone is not all of it


def test_water_of_making_the_hardware_is_part_of_the_total() -> None:
    impacts = estimate("gpt-4o", output_tokens=400, input_tokens=9, methodology="scope3")
    assert impacts.embodied is not None
    assert impacts.embodied.wcf is not None
    assert impacts.usage is not None
    assert impacts.usage.wcf is not None
    assert impacts.wcf is not None
    assert impacts.wcf.max == impacts.usage.wcf.max + impacts.embodied.wcf.max


def test_criteria_that_it_does_not_have_are_unknown() -> None:
    impacts = estimate("gpt-4o", output_tokens=400, input_tokens=9, methodology="scope3")
    assert impacts.adpe is None
    assert impacts.pe is None


def test_mixtures_compute_with_active_parameters_and_are_held_with_all() -> None:
    site = SiteFactors(1, 0.2, 0.4, 0, 0, 3)
    usage = Usage(500, 400)
    dense, mixture = ModelParameters(22, 22), ModelParameters(22, 235)
    assert EDITION.assess(EDITION.serve(mixture), usage, 1, site) == EDITION.assess(EDITION.serve(dense), usage, 1, site)
    gpus = [
        next(value for symbol, _, value, _, _ in EDITION.steps(model, usage, 1, site) if symbol == "gpu_count")
        for model in (dense, mixture)
    ]
    assert gpus == [1, 4]


def test_the_precision_of_the_weights_is_the_models_own_where_it_is_known() -> None:
    coarse, fine, unknown = (EDITION.serve(ModelParameters(8, 8, bits)) for bits in (4, 16, None))
    assert coarse.s_per_output_token * 4 == pytest.approx(fine.s_per_output_token)
    assert coarse.s_per_output_token * 2 == pytest.approx(unknown.s_per_output_token)
    assert coarse.s_per_input_token * 2 == pytest.approx(fine.s_per_input_token, rel=1e-3)  # FP8 and FP16 peak
    given = methodologies.get("scope3", weight_bytes=2)
    assert given.serve(ModelParameters(8, 8, 4)) == fine


def test_a_request_that_only_reads_is_covered() -> None:
    site = SiteFactors(1, 0.2, 0.4, 0, 0, 3)
    figures = EDITION.assess(EDITION.serve(ModelParameters(7, 7)), Usage(8000, 0), 1, site)
    assert figures.usage_energy_kwh > 0
    assert EDITION.counts_input


def test_an_energy_beside_a_measurement() -> None:
    """Llama 3.1 405B in FP8 on 8 H100: 2 295.6 tokens/s at 2 048 in and out, at most 10.2 kW, at least the GPUs' 5.6 kW."""
    site = SiteFactors(1, 0, 0, 0, 0, 0)
    figures = EDITION.assess(EDITION.serve(ModelParameters(405, 405, 8)), Usage(2048, 2048), 1, site)
    seconds = 2048 / 2296
    assert 0.7 * 5.6 * seconds / 3600 < figures.usage_energy_kwh < 1.8 * 10.2 * seconds / 3600


# --- parameters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"beta_inn": 1}, "unknown parameter 'beta_inn': did you mean 'beta_in'"),
        ({"pue": 0.9}, "at least 1"),
        ({"pue": None}, "finite number"),
        ({"gpu_count": 0}, "above 0"),
        ({"gpu_power_w": -1}, "0 or more"),
        ({"beta_out": math.inf}, "finite number"),
        ({"beta_out": "1"}, "finite number"),
        ({"gpu_count": True}, "finite number"),
        ({"server_idle_power_w": 350}, "server_idle_power_w is that of the whole server: give its gpu_count"),
        ({"memory_bandwidth_byte_per_s": 4.8e12}, "give its gpu_count"),
    ],
)
def test_a_wrong_parameter_says_what_is_right(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        methodologies.get("scope3", **parameters)


def test_replaced_parameters_show_in_the_name_and_as_their_own_source() -> None:
    edition = methodologies.get("scope3", pue=1.1, gpu_count=4, training_l_per_inference=None)
    assert edition.name == "scope3[gpu_count=4, pue=1.1]"
    steps = estimate("gpt-4o", output_tokens=4, methodology=edition).explain()
    assert steps["pue"].source == steps["gpu_count"].source == "given by the program"
    assert methodologies.get("scope3", beta_in=EDITION.parameters.beta_in) is EDITION


# --- the fit of the betas -----------------------------------------------------------------------------------------------


def measured() -> list[tuple[dict[str, str], float, float, float]]:
    """Each measurement with prefill, decode and amortised seconds, written out once more."""
    found = []
    for row in table("throughput"):
        gpus, params = int(row["gpu_count"]), float(row["active_params_b"]) * 1e9
        n_in, n_out = int(row["input_tokens"]), int(row["output_tokens"])
        t_in = 2 * params * n_in / (gpus * float(row["gpu_peak_tflop_per_s"]) * 1e12)
        t_out = float(row["weight_bytes"]) * params * n_out / (gpus * float(row["gpu_memory_bandwidth_tb_per_s"]) * 1e12)
        found.append((row, t_in, t_out, n_out / float(row["output_tokens_per_s"])))
    return found


def test_the_fit_follows_from_the_measurements() -> None:
    rows = [row for row in measured() if row[0]["gpu"] in ("H100", "H200")]
    # The normal equations of two unknowns, by hand.
    a, b, c = (sum(x * y for x, y in pairs) for pairs in (
        [(t_in, t_in) for _, t_in, _, _ in rows],
        [(t_in, t_out) for _, t_in, t_out, _ in rows],
        [(t_out, t_out) for _, _, t_out, _ in rows],
    ))  # fmt: skip
    u, v = sum(t_in * t for _, t_in, _, t in rows), sum(t_out * t for _, _, t_out, t in rows)
    beta_in, beta_out = (u * c - v * b) / (a * c - b * b), (v * a - u * b) / (a * c - b * b)
    fit = next(row for row in table("throughput_fit") if row["scope"] == "hopper")
    assert int(fit["rows"]) == len(rows) == 112
    assert float(fit["beta_in"]) == pytest.approx(beta_in, rel=1e-6)
    assert float(fit["beta_out"]) == pytest.approx(beta_out, rel=1e-6)
    residuals = np.array([t - beta_in * t_in - beta_out * t_out for _, t_in, t_out, t in rows])
    seconds = np.array([t for *_, t in rows])
    assert float(fit["r2"]) == pytest.approx(1 - residuals @ residuals / (seconds @ seconds), abs=1e-4)


def test_the_edition_has_the_constants_of_the_fit() -> None:
    fit = next(row for row in table("throughput_fit") if row["scope"] == "hopper")
    assert (EDITION.parameters.beta_in, EDITION.parameters.beta_out) == (float(fit["beta_in"]), float(fit["beta_out"]))
    for name in ("beta_in", "beta_out"):
        assert 0 < float(fit[f"{name}_se"]) < 0.1 * float(fit[name])


@pytest.mark.parametrize(("script", "name"), [("fit_scope3", "throughput_fit"), ("fit_prices", "price_fit_by_provider")])
def test_the_script_prints_the_committed_table(script: str, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{script}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    printed = list(csv.DictReader(io.StringIO(done.stdout)))
    committed = table(name)
    assert len(printed) == len(committed)
    for one, other in zip(printed, committed, strict=True):
        for column, text in one.items():
            try:
                assert float(text) == pytest.approx(float(other[column]), rel=1e-5, abs=1e-7)
            except ValueError:
                assert text == other[column]


# --- sizes from prices --------------------------------------------------------------------------------------------------


def test_the_worked_case_of_prices() -> None:
    case = next(case for case in CASES if "regressions" in case["inputs"])
    found = size_from_price(
        blended_usd_per_million_tokens=case["inputs"]["blended_usd_per_million_tokens"],
        regressions=[PriceRegression(**regression) for regression in case["inputs"]["regressions"]],
    )
    assert list(found.params_b_by_provider) == pytest.approx(case["expected"]["params_b_by_provider"], rel=REL)
    assert found.params_b == pytest.approx(case["expected"]["params_b"], rel=REL)
    weights = [1 / r["standard_error_params_b"] ** 2 for r in case["inputs"]["regressions"]]
    assert found.standard_error_params_b == pytest.approx(sum(weights) ** -0.5, rel=REL)
    assert found.high_params_b == pytest.approx(found.params_b + 1.959963985 * sum(weights) ** -0.5, rel=REL)
    assert found.low_params_b + found.high_params_b == pytest.approx(2 * found.params_b)


@pytest.mark.parametrize(
    ("price", "regressions", "message"),
    [
        (0, [PriceRegression(1, 1, 1)], "above 0"),
        (math.nan, [PriceRegression(1, 1, 1)], "above 0"),
        (1, [], "at least one"),
        (1, [PriceRegression(1, 1, 0)], "standard_error_params_b"),
    ],
)
def test_what_no_size_follows_from(price: float, regressions: list[PriceRegression], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        size_from_price(blended_usd_per_million_tokens=price, regressions=regressions)


def test_the_regressions_of_the_providers() -> None:
    with (ROOT / "benchmarks" / "data" / "price_vs_size.csv").open(encoding="utf-8", newline="") as file:
        listings = list(csv.DictReader(file))
    for quantity in ("total", "active"):
        fits = data.price_fits(quantity)
        assert len(fits) == 10
        for fit in fits:
            rows = [row for row in listings if row["provider"] == fit.provider]
            x = np.log([float(row["blended_usd_per_mtok"]) for row in rows])
            y = np.log([float(row[f"{quantity}_params_b"]) for row in rows])
            design = np.column_stack([np.ones_like(x), x])
            coefficients, _, _, _ = np.linalg.lstsq(design, y, rcond=None)
            assert (fit.intercept, fit.slope, fit.rows) == (*(pytest.approx(c, rel=1e-6) for c in coefficients), len(rows))
            deviation = math.sqrt(float(np.sum((y - design @ coefficients) ** 2)) / (len(x) - 2))
            covariance = deviation**2 * np.linalg.inv(design.T @ design)
            assert (fit.intercept_se, fit.slope_se) == pytest.approx(tuple(np.sqrt(np.diag(covariance))), rel=1e-5)
            at = np.array([1.0, math.log(4.375)])
            _, _, error = fit.at(4.375)
            expected = math.exp(at @ coefficients) * math.sqrt(deviation**2 + at @ covariance @ at)
            assert error == pytest.approx(expected, rel=1e-5)
            assert fit.source in data.sources()


def test_the_narrow_interval_is_offered_and_not_used_by_the_names() -> None:
    price = (3 * 2.5 + 10) / 4
    narrow = size_from_price(
        blended_usd_per_million_tokens=price,
        regressions=[PriceRegression(*fit.at(price)) for fit in data.price_fits("active")],
    )
    from ecoimpact.data.prices import _predicted

    wide = _predicted("active", price)
    assert wide.min < narrow.low_params_b < narrow.high_params_b < wide.max
    assert (narrow.high_params_b / narrow.low_params_b) < 0.2 * (wide.max / wide.min)
