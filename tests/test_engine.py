"""The engine: from names and counts to impacts, whatever comes from outside."""

from __future__ import annotations

import doctest
import importlib
import math
import os
import subprocess
import sys
import threading
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecoimpact import data, engine, methodologies
from ecoimpact.engine import (
    MAX_TOKENS,
    assess,
    catalog,
    estimate,
    register_model,
    register_site,
    validate_methodology,
    validate_zone,
)
from ecoimpact.types import Assessment, Figures, Impacts, Usage

MINI: dict[str, Any] = {"provider": "openai", "models": ("gpt-4o-mini",)}


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_current", engine.Catalog({}, {}))


def codes(notices: Any) -> list[str]:
    return [notice.code for notice in notices]


def energy(impacts: Impacts) -> tuple[float, float]:
    assert not impacts.errors
    assert impacts.energy is not None
    return impacts.energy.min, impacts.energy.max


# --- estimates ----------------------------------------------------------------------------------------------------------


def test_an_estimate_is_the_methodology_over_the_tables() -> None:
    impacts = estimate("gpt-4o-mini", output_tokens=400, provider="openai", latency_s=5.0)
    edition = methodologies.get("ecologits")
    found, site = data.find("openai", "gpt-4o-mini"), data.site("ecologits-2025-09", "openai")
    assert found is not None
    usage = Usage(output_tokens=400)
    low = edition.assess(edition.serve(found.card.low()), usage, 5.0, site.low())
    high = edition.assess(edition.serve(found.card.high()), usage, 5.0, site.high())
    assert (impacts.assessment.low, impacts.assessment.high) == (low, high)
    assert (impacts.methodology, impacts.data_version, impacts.zone) == ("ecologits-2025-09", data.DATA_VERSION, "USA")
    assert codes(impacts.warnings) == ["model-arch-not-released", "model-arch-multimodal"]
    assert str(impacts.model) == "openai/gpt-4o-mini (exact)"


def test_without_a_provider_it_is_the_owner_of_the_name() -> None:
    for name, owner in (("gpt-4o", "openai"), ("claude-opus-5", "anthropic"), ("mistral-large-latest", "mistralai")):
        assert estimate(name, output_tokens=9) == estimate(name, output_tokens=9, provider=owner)


def test_two_zones_of_a_provider_give_a_range() -> None:
    impacts = estimate("mistral-large-latest", output_tokens=500, provider="mistralai")
    assert impacts.zone == "SWE+NOR"
    swe, nor = (estimate("mistral-large-latest", output_tokens=500, zone=zone) for zone in ("SWE", "NOR"))
    for key in ("gwp", "pe", "wcf"):
        figure, one, other = (getattr(i, key) for i in (impacts, swe, nor))
        assert figure.min == pytest.approx(min(one.min, other.min))
        assert figure.max == pytest.approx(max(one.max, other.max))


def test_a_zone_replaces_the_electricity_and_nothing_else() -> None:
    own = estimate("claude-opus-5", output_tokens=100, provider="anthropic")
    france = estimate("claude-opus-5", output_tokens=100, provider="anthropic", zone="fra")
    assert energy(own) == energy(france)
    assert france.zone == "FRA"
    assert own.gwp is not None
    assert france.gwp is not None
    assert france.gwp.value < own.gwp.value


def test_a_us_state() -> None:
    state = estimate("gpt-4o-mini", output_tokens=100, provider="openai", zone="US-CA")
    assert state.zone == "US-CA"
    assert "electricity-mix-wue-country" in codes(state.warnings)


def test_zero_tokens_are_a_count() -> None:
    impacts = estimate("gpt-4o-mini", output_tokens=0, provider="openai")
    assert energy(impacts) == (0, 0)


def test_an_estimated_count_widens_the_range() -> None:
    exact = Impacts(assess(catalog(), **MINI, usage=Usage(output_tokens=100)))
    guess = Impacts(assess(catalog(), **MINI, usage=Usage(output_tokens=100, estimated=True)))
    half, double = (estimate("gpt-4o-mini", output_tokens=n, provider="openai") for n in (50, 200))
    assert energy(guess) == (energy(half)[0], energy(double)[1])
    assert energy(guess)[0] < energy(exact)[0]
    assert codes(guess.warnings) == [*codes(exact.warnings), "output-tokens-estimated"]


def test_the_name_of_the_response_comes_first() -> None:
    both = assess(catalog(), provider="azure_openai", models=("gpt-4o-2024-08-06", "gpt-4o-mini"), usage=Usage(1, 1))
    assert both.model is not None
    assert both.model.name == "gpt-4o-2024-08-06"
    deployment = assess(catalog(), provider="azure_openai", models=(None, "my-deployment", "gpt-4o"), usage=Usage(1, 1))
    assert deployment.model is not None
    assert deployment.model.name == "gpt-4o"


def test_a_router_may_answer_with_a_model_of_another_family() -> None:
    routed = assess(catalog(), provider="openrouter", models=("anthropic/claude-opus-5", "gpt-4o"), usage=Usage(1, 1))
    assert routed.model is not None
    assert routed.model.provider == "anthropic"


def test_an_unknown_site_is_typical_and_flagged() -> None:
    impacts = estimate("openai/gpt-oss-120b", output_tokens=100, provider="together")
    assert impacts.zone == "WOR"
    assert "site-world" in codes(impacts.warnings)
    assert energy(impacts)[1] > 1.3 * energy(impacts)[0]


def test_litellm_is_a_library_and_no_place() -> None:
    through = estimate("anthropic/claude-opus-5", output_tokens=5, provider="litellm")
    assert energy(through) == energy(estimate("claude-opus-5", output_tokens=5))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"model": "no-such-model"}, "model-not-registered"),
        ({"model": "x" * 5000}, "model-not-registered"),
        ({"zone": "XYZ"}, "zone-not-registered"),
        ({"zone": 3}, "zone-not-registered"),
        ({"provider": "opnai"}, "provider-not-registered"),
        ({"provider": ""}, "provider-not-registered"),
        ({"output_tokens": None}, "output-tokens-unknown"),
        ({"output_tokens": -1}, "tokens-invalid"),
        ({"output_tokens": MAX_TOKENS + 1}, "tokens-invalid"),
        ({"output_tokens": 10**5000}, "tokens-invalid"),
        ({"output_tokens": math.nan}, "tokens-invalid"),
        ({"output_tokens": math.inf}, "tokens-invalid"),
        ({"output_tokens": "400"}, "tokens-invalid"),
        ({"output_tokens": True}, "tokens-invalid"),
        ({"output_tokens": [400]}, "tokens-invalid"),
        ({"output_tokens": Decimal(400)}, "tokens-invalid"),
        ({"output_tokens": np.array([1, 2])}, "tokens-invalid"),
    ],
)
def test_without_an_estimate_there_are_errors_and_no_figures(arguments: dict[str, Any], code: str) -> None:
    impacts = estimate(**{"model": "gpt-4o-mini", "output_tokens": 400, "provider": "openai", **arguments})
    assert codes(impacts.errors) == [code]
    assert impacts.energy is None
    assert impacts.usage is None
    assert len(impacts.errors[0].message) < 300
    assert impacts.cost is None


@pytest.mark.parametrize("tokens", [400.0, np.int64(400), np.float32(400), Fraction(400)])
def test_numbers_of_other_libraries_count(tokens: Any) -> None:
    assert estimate("gpt-4o-mini", output_tokens=tokens) == estimate("gpt-4o-mini", output_tokens=400)


@pytest.mark.parametrize("latency_s", [-1, -0.1, math.nan, "1", True, [1.0], 1j])
def test_an_impossible_latency_is_left_out(latency_s: Any) -> None:
    impacts = estimate("gpt-4o-mini", output_tokens=400, provider="openai", latency_s=latency_s)
    assert energy(impacts) == energy(estimate("gpt-4o-mini", output_tokens=400, provider="openai"))
    assert codes(impacts.warnings)[-1] == "latency-invalid"


@pytest.mark.parametrize("latency_s", [5, np.float64(5), np.int32(5), Fraction(5)])
def test_latencies_of_any_number_type(latency_s: Any) -> None:
    impacts = estimate("gpt-4o-mini", output_tokens=400, latency_s=latency_s)
    assert impacts == estimate("gpt-4o-mini", output_tokens=400, latency_s=5.0)


def test_a_latency_out_of_all_proportion_is_no_bound() -> None:
    unbounded = estimate("gpt-4o-mini", output_tokens=400)
    for latency_s in (10**400, math.inf, 1e300):
        assert energy(estimate("gpt-4o-mini", output_tokens=400, latency_s=latency_s)) == energy(unbounded)


def test_odd_input_tokens_only_warn() -> None:
    impacts = estimate("gpt-4o-mini", output_tokens=400, input_tokens=-3)
    assert codes(impacts.warnings)[-1] == "input-tokens-invalid"
    assert energy(impacts) == energy(estimate("gpt-4o-mini", output_tokens=400))


# --- junk from outside --------------------------------------------------------------------------------------------------

junk: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=300),
    st.binary(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from(
        [object(), 10**5000, -(10**5000), 1j, Decimal("NaN"), np.array([1.0, math.nan]), np.float32("nan"), int]
    ),
)
texts = st.sampled_from([None, "openai", "gpt-4o-mini", "FRA", "US-CA", "localhost:8000", "groq", "", "\ud800", "\x00"])


requests = st.fixed_dictionaries(
    {
        "provider": st.one_of(texts, junk),
        "models": st.one_of(junk, st.lists(st.one_of(texts, junk), max_size=3).map(tuple)),
        "usage": st.one_of(
            junk,
            st.builds(Usage, st.one_of(junk, st.integers(0, 10**6)), st.one_of(junk, st.integers(0, 10**6)), junk, junk),
            st.builds(Usage, st.integers(0, 10**6), st.integers(0, 10**6), st.none(), st.none(), st.booleans()),
        ),
        "latency_s": junk,
        "zone": st.one_of(texts, junk),
        "host": st.one_of(texts, junk),
        "methodology": st.sampled_from(["ecologits", "ecologits-0.11"]),
    }
)


@given(request=requests)
@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_nothing_from_outside_raises(request: dict[str, Any]) -> None:
    result = assess(catalog(), **request)
    assert isinstance(result, Assessment)
    if result.errors:
        assert result.low is None
        assert result.high is None
    else:
        assert result.low is not None
        assert result.high is not None
        for low, high in zip(result.low[:8], result.high[:8], strict=True):
            assert math.isfinite(low)
            assert 0 <= low <= high
        assert len(Impacts(result).explain()) > 30
    for notice in (*result.warnings, *result.errors):
        assert notice.code in data.NOTICES
        assert len(notice.message) < 1200
    str(Impacts(result))


def test_what_is_remembered_about_names_is_bounded() -> None:
    known = catalog()
    for i in range(3 * engine._MAX_PLANS):
        assess(known, provider="openai", models=(f"name-{i}",), usage=Usage(output_tokens=1))
        assert len(known.plans) <= engine._MAX_PLANS
    before = len(known.plans)
    assess(known, provider="openai", models=("x" * 1000,), usage=Usage(output_tokens=1))
    assert len(known.plans) == before


def test_names_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = estimate("gpt-4o-mini", output_tokens=400, provider="openai")
    monkeypatch.setattr(data, "find", None)
    assert estimate("gpt-4o-mini", output_tokens=400, provider="openai") == first


def test_threads_that_start_at_once_get_the_same() -> None:
    code = """
import sys, threading
sys.setswitchinterval(1e-6)
from ecoimpact.engine import estimate
barrier, seen = threading.Barrier(8), []
def first():
    barrier.wait()
    seen.append(estimate("gpt-4o-mini", output_tokens=400, provider="openai"))
threads = [threading.Thread(target=first) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
assert len(seen) == 8 and len(set(seen)) == 1 and seen[0].energy, seen
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- registering --------------------------------------------------------------------------------------------------------


def test_a_registered_model_counts_from_now_on() -> None:
    before = catalog()
    assert codes(estimate("acme-7b", output_tokens=10, provider="openai").errors) == ["model-not-registered"]
    register_model("Acme-7B", active_params_b=(6, 7), total_params_b=7, source="its model card")
    after = estimate("acme-7b", output_tokens=10, provider="openai")
    assert after.model is not None
    assert (after.model.step, after.model.name) == ("registered", "Acme-7B")
    assert energy(after)[0] < energy(after)[1]
    assert after.explain()["total_params_b"].source == "its model card"
    assert assess(before, provider="openai", models=("acme-7b",), usage=Usage(1, 1)).errors
    assert estimate("openai/acme-7b", output_tokens=10).model is not None


def test_a_registered_model_comes_before_the_table() -> None:
    register_model("gpt-4o-mini", provider="openai", active_params_b=3, total_params_b=3, source="a leak")
    mini = estimate("gpt-4o-mini", output_tokens=10, provider="openai")
    assert mini.model is not None
    assert mini.model.step == "registered"
    assert not mini.warnings
    elsewhere = estimate("gpt-4o-mini", output_tokens=10, provider="azure_openai")
    assert elsewhere.model is not None
    assert elsewhere.model.step == "exact"
    without = estimate("gpt-4o-mini", output_tokens=10)
    assert without == mini
    assert engine.models("openai")[0].source == "a leak"


def test_a_registered_site_by_host_and_by_provider() -> None:
    register_site("https://LLM.example.org/v1", zone="fra", pue=1.5, wue_l_per_kwh=(0, 1), source="our meter")
    register_site("groq", zone="SWE", pue=1.1, wue_l_per_kwh=0)
    usage = Usage(1, 100)
    ours = assess(catalog(), provider="openai", models=("gpt-4o",), usage=usage, host="llm.example.org:8000")
    assert (ours.zone, codes(ours.errors)) == ("FRA", [])
    assert ours.explain is not None
    assert ours.explain()["pue"].value == 1.5
    assert ours.explain()["pue"].source == "our meter"
    elsewhere = assess(catalog(), provider="openai", models=("gpt-4o",), usage=usage, host="api.openai.com")
    assert elsewhere.zone == "USA"
    swedish = assess(catalog(), provider="groq", models=("openai/gpt-oss-120b",), usage=usage)
    assert swedish.zone == "SWE"
    assert "site-world" not in codes(swedish.warnings)
    moved = assess(catalog(), provider="groq", models=("openai/gpt-oss-120b",), usage=usage, zone="IND")
    assert moved.zone == "IND"
    assert moved.explain is not None
    assert moved.explain()["pue"].value == 1.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "name is a text that is not empty"),
        ({"name": 7}, "name is a text"),
        ({"name": "x" * 300}, "at most 256"),
        ({"provider": " "}, "provider is a text"),
        ({"active_params_b": 0}, "above 0"),
        ({"active_params_b": 9}, "must not be above total_params_b"),
        ({"total_params_b": (8, 7)}, "low <= high"),
        ({"total_params_b": (7, 8, 9)}, "a pair"),
        ({"total_params_b": "8"}, "finite number"),
        ({"total_params_b": math.inf}, "finite number"),
        ({"active_params_b": True}, "finite number"),
        ({"weight_bits": 0}, "between 1 and 64"),
        ({"weight_bits": "fp8"}, "finite number"),
        ({"source": ""}, "source is a text"),
    ],
)
def test_a_wrong_model_says_what_is_right(change: dict[str, Any], message: str) -> None:
    right: dict[str, Any] = {"name": "m", "active_params_b": 7, "total_params_b": 8, "source": "s"}
    with pytest.raises(ValueError, match=message):
        register_model(**{**right, **change})
    assert not catalog().models


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"host_or_provider": ""}, "host_or_provider"),
        ({"zone": "Frence"}, r"FRA \(France\)"),
        ({"pue": 0.9}, "at least 1"),
        ({"pue": (1.2, 1.1)}, "low <= high"),
        ({"wue_l_per_kwh": -1}, "at least 0"),
        ({"wue_l_per_kwh": math.nan}, "finite"),
        ({"source": 1}, "source"),
    ],
)
def test_a_wrong_site_says_what_is_right(change: dict[str, Any], message: str) -> None:
    right: dict[str, Any] = {"host_or_provider": "h", "zone": "FRA", "pue": 1.2, "wue_l_per_kwh": 0}
    with pytest.raises(ValueError, match=message):
        register_site(**{**right, **change})
    assert not catalog().sites


def test_registering_from_threads_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowCatalog(engine.Catalog):
        """Gives the other threads their turn in the middle of a swap."""

        def __init__(self, *args: Any) -> None:
            if hasattr(os, "sched_yield"):
                os.sched_yield()
            super().__init__(*args)

    monkeypatch.setattr(engine, "Catalog", SlowCatalog)

    def register(start: int) -> None:
        for i in range(start, start + 25):
            register_model(f"m{i}", active_params_b=1, total_params_b=1, source="s")

    threads = [threading.Thread(target=register, args=(25 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(catalog().models) == 100


# --- configuration ------------------------------------------------------------------------------------------------------


def test_zones_in_any_case() -> None:
    assert [validate_zone(z) for z in ("FRA", " fra ", "us-ca", "WOR")] == ["FRA", "FRA", "US-CA", "WOR"]
    assert {zone.code for zone in engine.zones()} == set(data.zone_codes())


@pytest.mark.parametrize(
    ("zone", "near"),
    [
        ("France", "FRA"),
        ("Germny", "DEU"),
        ("FR", "FRA"),
        ("US-XX", "US-"),
        ("california", "US-CA"),
        (None, "ISO 3166"),
        ("", "ISO"),
    ],
)
def test_an_unknown_zone_lists_near_ones(zone: Any, near: str) -> None:
    with pytest.raises(ValueError, match=near):
        validate_zone(zone)


def test_methodologies_are_names_or_objects() -> None:
    edition = methodologies.get("ecologits-0.11")
    assert validate_methodology("ecologits-0.11") is validate_methodology(edition) is edition
    with pytest.raises(ValueError, match="did you mean 'ecologits'"):
        estimate("gpt-4o-mini", output_tokens=1, methodology="ecologit")
    with pytest.raises(ValueError, match="a methodology is a name or has"):
        validate_methodology(3)  # type: ignore[arg-type]


class Flat:
    """A methodology of a program's own: a watt-second a token."""

    name = "flat"
    site_table = "ecologits-2025-09"

    def serve(self, model: Any) -> Any:
        return model

    def assess(self, serving: Any, usage: Usage, latency_s: Any, site: Any) -> Figures:
        kwh = (usage.output_tokens or 0) / 3.6e6
        return Figures(kwh, kwh * site.gwp, None, None, None, None, None, None)

    def steps(self, model: Any, usage: Usage, latency_s: Any, site: Any) -> tuple[tuple[str, str, float, str, str], ...]:
        return (("usage_energy_kwh", "", (usage.output_tokens or 0) / 3.6e6, "kWh", "invented"),)


def test_a_methodology_of_the_program() -> None:
    impacts = estimate("gpt-4o-mini", output_tokens=3_600_000, provider="openai", methodology=Flat())
    assert energy(impacts) == (1, 1)
    assert impacts.methodology == "flat"
    assert impacts.pe is None
    assert impacts.embodied is None
    assert len(impacts.explain()) == 1

    class Lost(Flat):
        site_table = "nowhere"

    with pytest.raises(ValueError, match="unknown site_table 'nowhere'"):
        estimate("gpt-4o-mini", output_tokens=1, methodology=Lost())


def test_methodologies_are_not_mixed_up_in_what_is_remembered() -> None:
    small, large = methodologies.get("ecologits", batch_size=1), methodologies.get("ecologits", batch_size=512)
    first, second = (estimate("gpt-4o", output_tokens=100, methodology=m) for m in (small, large))
    assert energy(first)[0] > energy(second)[1]


# --- on demand ----------------------------------------------------------------------------------------------------------


def test_an_explanation_ends_in_the_figures() -> None:
    impacts = estimate(
        "claude-opus-5", output_tokens=300, provider="anthropic", latency_s=9.0, methodology="ecologits-0.11"
    )
    steps = impacts.explain()
    assert impacts.gwp is not None
    assert impacts.wcf is not None
    assert impacts.energy is not None
    assert steps["gwp_kgco2eq"].value == impacts.gwp.value
    assert steps["wcf_l"].value == impacts.wcf.value
    assert steps["energy_kwh"].value == impacts.energy.value
    assert steps["output_tokens"].source == "the request"
    assert "https://" in steps["grid_gwp_kgco2eq_per_kwh"].source
    assert "gwp_kgco2eq" in str(steps)


# --- the package --------------------------------------------------------------------------------------------------------


def test_nothing_heavy_is_imported() -> None:
    code = """
import sys, ecoimpact
light = set(sys.modules)
assert not {"ecoimpact.engine", "csv", "dataclasses"} & light, light
import ecoimpact.engine
ecoimpact.engine.estimate("gpt-4o-mini", output_tokens=4, provider="openai").to_dict()
heavy = {"numpy", "pydantic", "openai", "anthropic", "genai_prices", "tomllib", "importlib.metadata"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-I", "-c", code], check=True)


@pytest.mark.parametrize(
    "module",
    ["types", "engine", "data.tables", "data.notices", "data.models", "data.zones", "data.sites", "methodologies",
     "methodologies._arrays", "unknown_names", "methodologies.ecologits_2025_09", "methodologies.ecologits_0_11"],
)  # fmt: skip
def test_the_examples_in_the_docstrings(module: str) -> None:
    results = doctest.testmod(importlib.import_module(f"ecoimpact.{module}"), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0
    assert results.attempted > 0
