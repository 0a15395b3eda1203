"""The edition ``ecologits-0.11`` against the package it reproduces: every model, many zones, counts and latencies."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator

import pytest
from ecologits.electricity_mix_repository import electricity_mixes
from ecologits.impacts.llm import compute_llm_impacts
from ecologits.model_repository import ParametersMoE
from ecologits.model_repository import models as upstream_models
from ecologits.tracers.utils import PROVIDER_CONFIG_MAP, llm_impacts

from ecoimpact import data
from ecoimpact.engine import estimate
from ecoimpact.types import Impacts

REL = 1e-9
NAMES = sorted((m.provider.value, m.name) for m in upstream_models.list_models())
ZONES = sorted(mix.zone for mix in electricity_mixes.list_electricity_mixes())
TOTALS = ("energy", "gwp", "adpe", "pe", "wcf")
EMBODIED = ("gwp", "adpe", "pe")


class Comparison:
    """Counts what was compared and keeps the worst relative error."""

    def __init__(self) -> None:
        self.figures = 0
        self.worst = 0.0

    def compare(self, ours: float, theirs: float, about: object) -> None:
        self.figures += 1
        if ours != theirs:
            error = abs(ours - theirs) / abs(theirs) if theirs else math.inf
            self.worst = max(self.worst, error)
            assert error <= REL, f"{about}: {ours!r}, upstream {theirs!r}"


@pytest.fixture(scope="module")
def comparison() -> Iterator[Comparison]:
    logger = logging.getLogger("ecologits")
    logger.disabled = True
    tally = Comparison()
    yield tally
    logger.disabled = False
    print(f"\nparity with ecologits 0.11.3: {tally.figures} figures, worst relative error {tally.worst:.1e}")


def compare(comparison: Comparison, ours: Impacts, theirs: object, about: object) -> None:
    for phase, keys in (("", TOTALS), ("usage", TOTALS), ("embodied", EMBODIED)):
        mine, other = (getattr(x, phase) if phase else x for x in (ours, theirs))
        for key in keys:
            figure, expected = getattr(mine, key), getattr(other, key)
            assert (figure.unit, figure.name, figure.type) == (expected.unit, expected.name, expected.type)
            low = getattr(expected.value, "min", expected.value)
            high = getattr(expected.value, "max", expected.value)
            comparison.compare(figure.value.min, low, (about, phase, key, "min"))
            comparison.compare(figure.value.max, high, (about, phase, key, "max"))


def codes(notices: object) -> list[str]:
    return [notice.code for notice in notices or ()]  # type: ignore[attr-defined]


def test_there_is_something_to_compare() -> None:
    assert len(NAMES) == 351
    assert len(ZONES) == 215


@pytest.mark.parametrize("provider", sorted(PROVIDER_CONFIG_MAP))
def test_every_model(comparison: Comparison, provider: str) -> None:
    zones = (None, "FRA", "IND", "NOR", "ABW", "WOR")
    requests = list(itertools.product(zones, (1, 400, 32_000), (0.4, 5.0, 1e5)))
    for owner, name in NAMES:
        if owner != provider:
            continue
        for zone, tokens, latency_s in requests:
            theirs = llm_impacts(provider, name, tokens, latency_s, zone)
            ours = estimate(
                name, provider=provider, output_tokens=tokens, latency_s=latency_s, zone=zone, methodology="ecologits-0.11"
            )
            about = (provider, name, zone, tokens, latency_s)
            compare(comparison, ours, theirs, about)
            assert codes(ours.warnings) == codes(theirs.warnings), about
            assert not ours.errors
            assert ours.model is not None
            assert ours.model.step in ("exact", "alias")


def test_every_zone(comparison: Comparison) -> None:
    for zone in ZONES:
        for provider, name in (
            ("openai", "gpt-4o-mini"),
            ("mistralai", "mistral-large-latest"),
            ("anthropic", "claude-opus-5"),
        ):
            theirs = llm_impacts(provider, name, 500, 7.0, zone)
            ours = estimate(
                name, provider=provider, output_tokens=500, latency_s=7.0, zone=zone, methodology="ecologits-0.11"
            )
            compare(comparison, ours, theirs, (provider, name, zone))
            assert codes(ours.warnings) == codes(theirs.warnings), zone


def test_every_model_without_a_measured_latency(comparison: Comparison) -> None:
    for provider, name in NAMES:
        model = upstream_models.find_model(provider, name)
        site = PROVIDER_CONFIG_MAP[provider]
        mix = electricity_mixes.find_electricity_mix(site.datacenter_location)
        assert model is not None
        assert mix is not None
        sizes = model.architecture.parameters
        is_moe = isinstance(sizes, ParametersMoE)
        theirs = compute_llm_impacts(
            model_active_parameter_count=sizes.active if is_moe else sizes,  # type: ignore[arg-type, union-attr]
            model_total_parameter_count=sizes.total if is_moe else sizes,  # type: ignore[arg-type, union-attr]
            output_token_count=777,
            if_electricity_mix_adpe=mix.adpe,
            if_electricity_mix_pe=mix.pe,
            if_electricity_mix_gwp=mix.gwp,
            if_electricity_mix_wue=mix.wue,
            datacenter_pue=site.datacenter_pue,
            datacenter_wue=site.datacenter_wue,
            request_latency=None,
            tps=model.deployment.tps if model.deployment else None,
            ttft=model.deployment.ttft if model.deployment else None,
        )
        ours = estimate(name, provider=provider, output_tokens=777, methodology="ecologits-0.11")
        compare(comparison, ours, theirs, (provider, name))


def test_the_tables_hold_what_upstream_holds() -> None:
    ours = {(card.provider, card.name) for card in data.cards()} | set(data.aliases())
    assert ours == set(NAMES)
    for zone in ZONES:
        theirs, mix = electricity_mixes.find_electricity_mix(zone), data.mix(zone)
        assert theirs is not None
        assert mix is not None
        assert (mix.gwp.min, mix.adpe.min, mix.pe.min, mix.wue.min) == (theirs.gwp, theirs.adpe, theirs.pe, theirs.wue)


def test_unknown_names_give_the_same_error_codes() -> None:
    for model, zone in (("no-such-model", None), ("gpt-4o-mini", "ZZZ")):
        theirs = llm_impacts("openai", model, 10, 1.0, zone)
        ours = estimate(model, provider="openai", output_tokens=10, latency_s=1.0, zone=zone, methodology="ecologits-0.11")
        assert codes(ours.errors) == codes(theirs.errors)
        assert ours.energy is None


def test_a_published_figure() -> None:
    """gpt-4o-mini, 400 tokens in 5 s, as the package printed it when this edition was written."""
    ours = estimate("gpt-4o-mini", provider="openai", output_tokens=400, latency_s=5.0, methodology="ecologits-0.11")
    expected = {
        "energy": (2.554685e-05, 3.101323e-05),
        "gwp": (1.063401e-05, 1.273529e-05),
        "adpe": (4.810047e-11, 4.863918e-11),
        "pe": (2.578064e-04, 3.107668e-04),
        "wcf": (9.212877e-05, 1.118420e-04),
    }
    for key, (low, high) in expected.items():
        figure = getattr(ours, key)
        assert (figure.min, figure.max) == pytest.approx((low, high), rel=1e-6)
