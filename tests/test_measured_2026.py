"""The methodology ``measured-2026``: its fit, its intervals, and what it says about requests."""

from __future__ import annotations

import csv
import doctest
import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ecoimpact
from benchmarks import fit_measured as fitting
from benchmarks import gpu_counts
from ecoimpact import data, engine, methodologies
from ecoimpact.data.tables import FILES
from ecoimpact.engine import estimate
from ecoimpact.methodologies._measured_form import CACHE_BYTES_PER_TOKEN, Coefficients, Scale
from ecoimpact.methodologies.measured_2026 import EDITION, ENERGY_UWH, GPUS, SPREAD, TIME_US, gpu_energy_wh_per_output_token
from ecoimpact.types import Impacts, ModelParameters, SiteFactors, Usage

SITE = SiteFactors(1.2, 0.5, 0.4, 1e-7, 9.0, 3.0)
NAME = "measured-2026"
DOCS = Path(__file__).parents[1] / "docs"


def fitted() -> dict[str, str]:
    """The table of the fit: value by coefficient."""
    with (FILES / "measured_fit.csv").open(encoding="utf-8", newline="") as file:
        return {row["coefficient"]: row["value"] for row in csv.DictReader(file)}


def codes(impacts: Impacts) -> set[str]:
    return {warning.code for warning in impacts.warnings}


def central_wh(impacts: Impacts) -> float:
    assert impacts.energy is not None
    return impacts.energy.central * 1000


# --- the fit ------------------------------------------------------------------------------------------------------------


def test_the_measurements_give_the_committed_table() -> None:
    with (FILES / "measured_fit.csv").open(encoding="utf-8", newline="") as file:
        committed = list(csv.reader(file))
    found = list(fitting.table())
    assert [row[0] for row in found] == [row[0] for row in committed]
    for one, other in zip(found[1:], committed[1:], strict=True):
        assert float(one[1]) == pytest.approx(float(other[1]), rel=1e-3)
        assert [float(c) for c in one[4].split()] == pytest.approx([float(c) for c in other[4].split()], rel=0.02, abs=1e-4)


@pytest.mark.parametrize(("quantity", "constants"), [("energy", ENERGY_UWH), ("time", TIME_US)])
def test_the_edition_has_the_constants_of_the_table(quantity: str, constants: Coefficients) -> None:
    values = fitted()
    for name in Coefficients.__slots__:
        assert getattr(constants, name) == float(values[f"{quantity}.{name}"])
    for gpu in ("B200", "A100"):
        scale: Scale = getattr(GPUS[gpu], quantity)
        for name in Scale.__slots__:
            assert getattr(scale, name) == float(values[f"{quantity}.{gpu}.{name}"])
    assert getattr(GPUS["H100"], quantity) == Scale()
    if quantity == "energy":
        assert {kind: float(values[f"energy.spread.{kind}"]) for kind in SPREAD} == SPREAD


def test_a_fit_does_not_depend_on_the_family_that_is_left_out() -> None:
    rows = fitting.text_rows(fitting.measured())
    name = "Llama-3.1-70B"
    assert (rows.family == name).sum() > 10
    wrong = rows._replace(energy_uwh=np.where(rows.family == name, 10 * rows.energy_uwh, rows.energy_uwh))
    others = wrong.where(rows.family != name)
    again = fitting.fit(others, others.energy_uwh, fitting.priors("energy")).values
    assert again == pytest.approx(fitting.left_out()[name], rel=1e-9)
    everything = fitting.fit(wrong, wrong.energy_uwh, fitting.priors("energy")).values
    assert everything != pytest.approx(again, rel=1e-2)


def test_variants_are_one_family() -> None:
    families = {fitting.family(row["model"]) for row in fitting.measured() if row["dataset"] == "v3"}
    assert "Qwen3-235B-A22B" in families
    assert not [name for name in families if "FP8" in name or "Thinking" in name or "Instruct" in name or "VL" in name]


def test_the_coefficients_are_those_of_the_hardware() -> None:
    """Reading weights goes at the bandwidth of the data sheet, computing below the peak."""
    assert 1e9 / (TIME_US.memory * 1e-6) == pytest.approx(3.35e12, rel=0.1)
    assert 0.3 * 989.4e12 < 2e9 / (TIME_US.compute * 1e-6) < 989.4e12
    watts = ENERGY_UWH.memory * 3600 / TIME_US.memory
    assert 350 < watts < 700


def test_the_smallest_measured_deployments_are_found_and_none_is_above_twice_that() -> None:
    found = list(gpu_counts.deployments())
    assert len(found) == 25
    assert sum(each.models for each in found) == 44
    for each in found:
        assert each.by_the_rule == min(each.gpu_counts)
        assert max(each.gpu_counts) <= 2 * each.by_the_rule


def test_the_page_has_the_table_of_the_measured_deployments() -> None:
    assert gpu_counts.table() in (DOCS / "methodologies" / "measured-2026.md").read_text("utf-8")


def test_the_page_has_the_coefficients_of_the_table() -> None:
    page = (DOCS / "methodologies" / "measured-2026.md").read_text("utf-8")
    values = fitted()
    for name in Coefficients.__slots__:
        unit = "" if name in fitting.SHARED else " µ"
        cells = [f"{float(values[f'{quantity}.{name}']):.3g}{unit}" for quantity in ("energy", "time")]
        line = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        for cell in cells:
            assert cell in line, name


# --- energies, worked out by hand from the table ------------------------------------------------------------------------


def test_a_dense_model_by_hand() -> None:
    """70 10^9 parameters of 2 bytes on 4 H100, batch 64: a step, 140 GB, and what every token needs."""
    v = {name: float(value) for name, value in fitted().items()}
    shared = (v["energy.step"] * 4 * math.sqrt(71) + v["energy.memory"] * 140) / 64
    token = v["energy.compute"] * 70 + v["energy.token"] * math.sqrt(70)
    context = v["energy.attention"] * math.sqrt(70) * (250 + 750) / 1000
    prefill = v["energy.compute"] * 70 * 250 / 1500
    found = gpu_energy_wh_per_output_token(
        active_params_b=70, total_params_b=70, weight_bits=16, gpu="H100", gpu_count=4, batch_size=64
    )
    assert found.central * 1e6 == pytest.approx(shared + token + context + prefill, rel=1e-12)
    factor = math.exp(1.6448536269514722 * v["energy.spread.dense"])
    assert (found.min, found.max) == pytest.approx((found.central / factor, found.central * factor), rel=1e-12)


def test_a_mixture_of_experts_by_hand() -> None:
    """235 10^9 parameters of one byte, 22 of them active, on 4 B200, batch 128."""
    v = {name: float(value) for name, value in fitted().items()}
    touched = 1 - (1 - 22 / 235) ** (v["energy.experts"] * 128)
    step = v["energy.step"] * v["energy.B200.step"] * v["energy.mixture"] * 4 * math.sqrt(23)
    memory = v["energy.memory"] * v["energy.B200.memory"]
    compute = v["energy.compute"] * v["energy.B200.compute"] * 22
    width = v["energy.B200.memory"] * math.sqrt(22)
    exchange = v["energy.exchange"] * v["energy.B200.exchange"] * 4 * math.sqrt(23)
    whole = (
        (step + memory * 235 * touched) / 128
        + compute * (1 + 100 / 800)
        + v["energy.token"] * width
        + exchange
        + v["energy.attention"] * width * (100 + 400) / 1000
    )
    found = gpu_energy_wh_per_output_token(
        active_params_b=22,
        total_params_b=235,
        weight_bits=8,
        gpu="NVIDIA B200",
        gpu_count=4,
        batch_size=128,
        input_tokens=100,
        output_tokens=800,
    )
    assert found.central * 1e6 == pytest.approx(whole, rel=1e-12)
    assert math.log(found.max / found.central) == pytest.approx(1.6448536269514722 * v["energy.spread.mixture"])


@pytest.mark.parametrize(("batch_size", "measured_wh"), [(8, 0.313), (64, 0.066), (898, 0.031)])
def test_a_published_energy_lies_within_the_interval(batch_size: float, measured_wh: float) -> None:
    """Llama 3.1 70B on four H100, 300 tokens, GPUs only."""
    found = gpu_energy_wh_per_output_token(
        active_params_b=70, total_params_b=70, weight_bits=16, gpu="H100", gpu_count=4, batch_size=batch_size
    )
    assert found.min < measured_wh / 300 < found.max
    assert found.central == pytest.approx(measured_wh / 300, rel=0.25)


def test_a_request_is_made_of_its_tokens() -> None:
    """IT energy of GPUs, hosts and idle machines, with the lengths that were asked for."""
    edition = methodologies.get(NAME, gpu="H100", gpu_count=4, batch_size=64, weight_bits=16)
    figures = edition.assess(edition.serve(ModelParameters(70, 70)), Usage(500, 400), math.inf, SITE)
    gpu_wh = (
        400
        * gpu_energy_wh_per_output_token(
            active_params_b=70,
            total_params_b=70,
            weight_bits=16,
            gpu="H100",
            gpu_count=4,
            batch_size=64,
            input_tokens=500,
            output_tokens=400,
        ).central
    )
    it_kwh = figures.usage_energy_kwh / 1.2
    steps = {symbol: value for symbol, _, value, *_ in edition.steps(ModelParameters(70, 70), Usage(500, 400), 1.0, SITE)}
    assert steps["gpu_energy_kwh"] * 1000 == pytest.approx(gpu_wh, rel=1e-12)
    assert it_kwh == pytest.approx(1.1 * (gpu_wh / 1000 + 229 * steps["busy_gpu_s"] / 3.6e6), rel=1e-12)
    embodied = 1.1 * steps["busy_gpu_s"] * (3775 / 8 + 273) / (4 * 365 * 24 * 3600)
    assert figures.embodied_gwp_kgco2eq == pytest.approx(embodied, rel=1e-12)
    assert figures.usage_wcf_l == pytest.approx(it_kwh * (0.5 + 1.2 * 3.0), rel=1e-12)


# --- intervals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4o-mini", "claude-opus-5", "meta-llama/Llama-3.1-70B-Instruct"])
def test_the_median_lies_within_every_range(model: str) -> None:
    impacts = estimate(model, output_tokens=400, input_tokens=500, methodology=NAME)
    for key in ("energy", "gwp", "adpe", "pe", "wcf"):
        value = getattr(impacts, key).value
        assert 0 < value.min < value.central < value.max
        assert value.central < value.mean  # the distribution is skewed
    flat = impacts.to_dict()
    assert flat["energy_kwh_central"] == impacts.energy.central  # type: ignore[union-attr]
    assert f"{impacts.energy.central:.3g} [" in str(impacts)  # type: ignore[union-attr]


def test_editions_without_a_value_of_their_own_have_the_midpoint() -> None:
    told = estimate("gpt-4o", output_tokens=400)
    assert told.assessment.central is None
    assert told.energy is not None
    assert told.to_dict()["energy_kwh_central"] == told.energy.mean


def test_what_is_known_narrows_the_interval() -> None:
    def width(**known: Any) -> float:
        energy = estimate(
            "meta-llama/Llama-3.1-70B-Instruct",
            output_tokens=400,
            input_tokens=500,
            zone="FRA",
            provider="openai",
            methodology=methodologies.get(NAME, **known),
        ).energy
        assert energy is not None
        return math.log(energy.max / energy.min)

    steps: list[dict[str, Any]] = [{}, {"gpu": "H100"}, {"gpu_count": 2}, {"weight_bits": 8}, {"batch_size": 64}]
    known: dict[str, Any] = {}
    widths = []
    for step in steps:
        known |= step
        widths.append(width(**known))
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.65 * widths[0]
    assert widths[-1] >= 2 * 1.6448 * SPREAD["dense"]
    assert width(interval=0.5) < width(interval=0.9) < width(interval=0.99)


def test_an_interval_is_that_of_a_normal_distribution() -> None:
    half, most = (
        gpu_energy_wh_per_output_token(
            active_params_b=8, total_params_b=8, weight_bits=16, gpu="H100", gpu_count=1, batch_size=8, interval=interval
        )
        for interval in (0.5, 0.9)
    )
    assert half.central == most.central
    assert math.log(half.max / half.central) / math.log(most.max / most.central) == pytest.approx(
        0.67449 / 1.64485, rel=1e-4
    )


def test_the_shares_of_the_width_add_up() -> None:
    steps = estimate("gpt-4o", output_tokens=400, input_tokens=500, methodology=NAME).explain()
    shares = {step.symbol: step.value for step in steps if step.symbol.startswith("share_")}
    assert sum(share.min for share in shares.values()) == pytest.approx(1)
    assert max(shares, key=lambda name: shares[name].min) == "share_batch"
    factor = steps["interval_factor"]
    assert factor.low * factor.high == pytest.approx(1)
    served = estimate(
        "gpt-4o", output_tokens=400, input_tokens=500, methodology=methodologies.get(NAME, batch_size=100)
    ).explain()
    assert served["share_batch"].value == 0
    assert served["batch_size"].source == "given by the program"


def test_a_published_precision_narrows_the_interval() -> None:
    """The same model with and without: EcoLogits' sizes of gpt-oss-120b, of which the maker says four bits."""
    asked: dict[str, Any] = {"output_tokens": 400, "input_tokens": 500, "provider": "vllm", "zone": "FRA"}
    known = estimate("gpt-oss-120b", methodology=NAME, **asked)
    before = engine._current
    try:
        engine.register_model("unknown-117b", active_params_b=5.1, total_params_b=117, source="the same without bits")
        unknown = estimate("unknown-117b", methodology=NAME, **asked)
    finally:
        engine._current = before
    assert [each.explain()["weight_bits"].value.mean for each in (known, unknown)] == [4.25, 8]
    assert "ML.ENERGY" in known.explain()["weight_bits"].source
    assert unknown.explain()["weight_bits"].source.startswith("not known")
    assert known.explain()["share_precision"].value == 0
    assert unknown.explain()["share_precision"].value.min > 0.02
    assert known.energy is not None
    assert unknown.energy is not None
    assert known.energy.max / known.energy.min < unknown.energy.max / unknown.energy.min
    assert known.energy.central < unknown.energy.central


@pytest.mark.parametrize("name", ["ecologits-2025-09", "ecologits-0.11", "sci"])
@pytest.mark.parametrize("model", ["openai/gpt-oss-120b", "nvidia/NVIDIA-Nemotron-Nano-12B-v2", "deepseek-ai/DeepSeek-V3"])
def test_editions_with_bits_of_their_own_do_not_move(name: str, model: str) -> None:
    found = data.find("vllm", model)
    assert found is not None
    assert found.card.weight_bits is not None
    edition = methodologies.get(name)
    bare = ModelParameters(found.card.active_params_b.min, found.card.total_params_b.min)
    here, there = (edition.assess(edition.serve(one), Usage(100, 400), 3.0, SITE) for one in (found.card.low(), bare))
    assert here == there


def test_the_precision_in_a_name_is_used() -> None:
    rounded = estimate("meta-llama/Llama-3.1-70B-Instruct-FP8", output_tokens=400, input_tokens=9, methodology=NAME)
    assert rounded.explain()["weight_bits"].value == 8
    assert rounded.explain()["share_precision"].value == 0


# --- models whose layers do not all have attention ----------------------------------------------------------------------

NEMOTRON = "nvidia/NVIDIA-Nemotron-Nano-12B-v2"
CACHE_BYTES = 6 * 2 * 8 * 128 * 2  # layers with attention, keys and values, heads, width of a head, bytes
STATE_BYTES = 28 * 128 * 80 * 128 * 4  # layers with a state, heads, width of a head, state, bytes


def test_what_attention_keeps_is_that_of_the_families_with_attention_in_all_layers() -> None:
    """Llama 3.1 8B, 70B, 405B and Qwen3 8B: layers, eight heads of 128 for keys and values, of two bytes."""
    per_root = [layers * 2 * 8 * 128 * 2 / math.sqrt(size) for layers, size in ((32, 8), (80, 70), (126, 405), (36, 8))]
    assert math.exp(sum(map(math.log, per_root)) / 4) == pytest.approx(CACHE_BYTES_PER_TOKEN, rel=2e-3)


def test_a_model_with_state_space_layers_by_hand() -> None:
    v = {name: float(value) for name, value in fitted().items()}
    shared = (v["energy.step"] * math.sqrt(13) + v["energy.memory"] * 24) / 32
    token = v["energy.compute"] * 12 * (1 + 250 / 1500) + v["energy.token"] * math.sqrt(12)
    kept = (CACHE_BYTES * (250 + 750) + 2 * STATE_BYTES) / 39_500 / 1000
    given: dict[str, Any] = {
        "active_params_b": 12, "total_params_b": 12, "weight_bits": 16, "gpu": "H100", "gpu_count": 1, "batch_size": 32,
    }  # fmt: skip
    found = gpu_energy_wh_per_output_token(**given, cache_bytes_per_token=CACHE_BYTES, state_bytes=STATE_BYTES)
    assert found.central * 1e6 == pytest.approx(shared + token + v["energy.attention"] * kept, rel=1e-12)
    plain = gpu_energy_wh_per_output_token(**given)
    long: dict[str, Any] = {"output_tokens": 20_000}
    more = gpu_energy_wh_per_output_token(**given, **long, cache_bytes_per_token=CACHE_BYTES, state_bytes=STATE_BYTES)
    assert more.central / found.central < 0.5 * gpu_energy_wh_per_output_token(**given, **long).central / plain.central


@pytest.mark.parametrize("name", [NEMOTRON, f"{NEMOTRON}-VL-BF16", "nvidia/nemotron-nano-12b-v2:free", f"{NEMOTRON}-FP8"])
def test_what_its_layers_keep_is_known_by_the_name(name: str) -> None:
    found = data.find("openrouter", name)
    assert found is not None
    kept = found.card.memory
    assert kept is not None
    assert (kept.cache_bytes_per_token, kept.state_bytes) == (CACHE_BYTES, STATE_BYTES)
    steps = estimate(name, output_tokens=400, input_tokens=100, provider="openrouter", methodology=NAME).explain()
    assert steps["state_bytes"].value == STATE_BYTES
    assert "arxiv.org/abs/2508.14444" in steps["cache_bytes_per_token"].source
    coefficient = steps["energy_attention"].value.mean
    assert steps["gpu_energy_uwh_per_context_token"].value.mean == pytest.approx(coefficient * CACHE_BYTES / 39_500 / 1000)


def test_other_models_are_as_they_were() -> None:
    found = data.find("vllm", "meta-llama/Llama-3.1-8B-Instruct")
    assert found is not None
    assert found.card.memory is None
    steps = estimate("meta-llama/Llama-3.1-8B-Instruct", output_tokens=9, input_tokens=9, methodology=NAME).explain()
    assert "state_bytes" not in [step.symbol for step in steps]


# --- where it is served -------------------------------------------------------------------------------------------------


def test_the_region_of_the_host_brings_its_overhead_and_water() -> None:
    """AWS publishes 1.24 and 0.17 L/kWh of Frankfurt, and 1.14 and 0.12 L/kWh of all its data centres."""
    at: dict[str, Any] = {
        "provider": "bedrock",
        "models": ("anthropic.claude-haiku-4-5-20251001-v1:0",),
        "usage": Usage(500, 400),
    }

    def assessed(methodology: str, host: str | None) -> Impacts:
        return Impacts(engine.assess(engine.catalog(), methodology=methodology, host=host, **at))

    here = assessed(NAME, "bedrock-runtime.eu-central-1.amazonaws.com")
    anywhere = assessed(NAME, None)
    steps, usual = here.explain(), anywhere.explain()
    assert (here.zone, anywhere.zone) == ("DEU", "USA")
    assert [each["pue"].value.mean for each in (steps, usual)] == [1.24, 1.14]
    assert [each["wue_l_per_kwh"].value.mean for each in (steps, usual)] == [0.17, 0.12]
    assert "zone-from-host" in codes(here)
    assert here.energy is not None
    assert anywhere.energy is not None
    assert here.energy.central / anywhere.energy.central == pytest.approx(1.24 / 1.14)
    mix = data.mix("DEU")
    assert mix is not None
    water = steps["it_energy_kwh"].value.max * (0.17 + 1.24 * mix.wue.max)
    assert here.wcf is not None
    assert here.wcf.max == pytest.approx(water)
    assert assessed(NAME, "api.example.org").energy == anywhere.energy


# --- what holds for all -------------------------------------------------------------------------------------------------

sizes = st.floats(0.1, 3000)
pairs_of_sizes = st.tuples(sizes, sizes).map(sorted)
tokens = st.tuples(st.integers(0, 10**6), st.integers(0, 10**6))
settings_of = st.fixed_dictionaries(
    {},
    optional={
        "gpu": st.sampled_from(["H100", "B200", "A100"]),
        "gpu_count": st.integers(1, 64),
        "batch_size": st.floats(1, 4096),
        "weight_bits": st.sampled_from([4, 8, 16]),
        "interval": st.floats(0.1, 0.99),
    },
)


@given(settings_of, pairs_of_sizes, tokens, st.floats(1, 10))
@settings(max_examples=150)
def test_figures_grow_with_every_input(
    parameters: dict[str, Any], size: list[float], counts: tuple[int, int], factor: float
) -> None:
    (active, total), (tokens_in, tokens_out) = size, counts
    edition = methodologies.get(NAME, **parameters)

    def run(model: ModelParameters, usage: Usage, site: SiteFactors = SITE) -> list[Any]:
        return [value for value in edition.assess(edition.serve(model), usage, math.inf, site) if value is not None]

    model, usage = ModelParameters(active, total), Usage(tokens_in, tokens_out)
    before = run(model, usage)
    assert all(math.isfinite(value) and value >= 0 for value in before)
    more = [
        run(model, Usage(int(tokens_in * factor), tokens_out)),
        run(model, Usage(tokens_in, int(tokens_out * factor))),
        *(run(model, usage, SITE._replace(**{name: getattr(SITE, name) * factor})) for name in SITE._fields),
    ]
    bits = model._replace(weight_bits=8.0), model._replace(weight_bits=8.0 * factor)
    pairs = [(before, after) for after in more] + [(run(bits[0], usage), run(bits[1], usage))]
    larger = model._replace(total_params_b=total * factor)
    if active >= 0.8 * total * factor or active < 0.8 * total:  # of the same kind
        pairs.append((before, run(larger, usage)))
    if active < 0.8 * total and active * factor < 0.8 * total:
        pairs.append((before, run(model._replace(active_params_b=active * factor), usage)))
    for less, grown in pairs:
        assert all(b >= a * (1 - 1e-12) for a, b in zip(less, grown, strict=True))


@given(settings_of, pairs_of_sizes, st.one_of(st.none(), st.sampled_from([4.0, 16.0])), st.floats(1, 20), tokens)
@settings(max_examples=100)
def test_the_ends_hold_the_middle(
    parameters: dict[str, Any], size: list[float], bits: float | None, factor: float, counts: tuple[int, int]
) -> None:
    (active, total), (tokens_in, tokens_out) = size, counts
    edition: Any = methodologies.get(NAME, **parameters)
    low = ModelParameters(active, total, bits)
    high = ModelParameters(active * factor, total * factor, bits)
    figures = [
        edition.assess(edition.serve(end), Usage(tokens_in, tokens_out), math.inf, SITE) for end in edition.ends(low, high)
    ]
    for at_low, at_high, middle in zip(*figures, strict=True):
        if middle is not None:
            assert 0 <= at_low <= middle <= at_high < math.inf


@given(st.lists(st.tuples(pairs_of_sizes, tokens), min_size=1, max_size=6), settings_of)
@settings(max_examples=50)
def test_arrays_give_what_floats_give(rows: list[tuple[list[float], tuple[int, int]]], parameters: dict[str, Any]) -> None:
    edition = methodologies.get(NAME, **parameters)
    small, large = (np.array([size[place] for size, _ in rows]) for place in (0, 1))
    tokens_in, tokens_out = (np.array([float(counts[place]) for _, counts in rows]) for place in (0, 1))
    together = edition.assess(
        edition.serve(ModelParameters(small, large, np.full(len(rows), 8.0))), Usage(tokens_in, tokens_out), math.inf, SITE
    )
    for number, (size, counts) in enumerate(rows):
        alone = edition.assess(edition.serve(ModelParameters(size[0], size[1], 8.0)), Usage(*counts), math.inf, SITE)
        for array, value in zip(together, alone, strict=True):
            assert (array is None) == (value is None)
            if value is not None:
                assert np.broadcast_to(array, len(rows))[number] == pytest.approx(value, rel=1e-12)


def test_larger_batches_take_less_and_more_gpus_more() -> None:
    def wh(**changes: Any) -> float:
        known: dict[str, Any] = {
            "active_params_b": 22,
            "total_params_b": 235,
            "weight_bits": 8,
            "gpu": "H100",
            "gpu_count": 8,
            "batch_size": 64,
        }
        return gpu_energy_wh_per_output_token(**{**known, **changes}).central

    batches = [wh(batch_size=batch) for batch in (1, 2, 8, 64, 512, 4096)]
    assert batches == sorted(batches, reverse=True)
    assert wh(gpu_count=4) < wh() < wh(gpu_count=16)
    assert wh(weight_bits=4) < wh() < wh(weight_bits=16)
    assert wh(output_tokens=500) < wh(output_tokens=5000)
    dense = {"active_params_b": 70, "total_params_b": 70, "batch_size": 1024}
    assert wh(gpu="B200", **dense) < wh(**dense) < wh(gpu="A100", **dense)


# --- requests -----------------------------------------------------------------------------------------------------------


def test_unknown_input_tokens_are_flagged_and_widen_the_range() -> None:
    unknown, none, many = (
        estimate("gpt-4o", output_tokens=400, input_tokens=count, methodology=NAME) for count in (None, 0, 6000)
    )
    assert "input-tokens-unknown" in codes(unknown)
    assert "input-tokens-unknown" not in codes(none)
    assert unknown.energy is not None
    assert (unknown.energy.min, unknown.energy.max) == (none.energy.min, many.energy.max)  # type: ignore[union-attr]
    typical = estimate("gpt-4o", output_tokens=400, input_tokens=250, methodology=NAME)
    assert central_wh(unknown) == pytest.approx(central_wh(typical), rel=1e-12)


def test_the_bound_of_unknown_input_can_be_replaced() -> None:
    exact = methodologies.get(NAME, unknown_input_tokens=0, interval=0.01)
    unknown = estimate("gpt-4o", output_tokens=9, methodology=exact)
    assert unknown.energy == estimate("gpt-4o", output_tokens=9, input_tokens=0, methodology=exact).energy
    assert len(unknown.explain()) > 10


def test_the_measured_latency_is_not_used() -> None:
    without = estimate("gpt-4o", output_tokens=400, input_tokens=9, methodology=NAME)
    assert estimate("gpt-4o", output_tokens=400, input_tokens=9, latency_s=90.0, methodology=NAME) == without


def test_estimated_tokens_leave_the_median_at_the_estimate() -> None:
    told = [
        Impacts(
            engine.assess(
                engine.catalog(),
                provider="openai",
                models=("gpt-4o",),
                usage=Usage(100, 400, estimated=estimated),
                methodology=NAME,
            )
        )
        for estimated in (False, True)
    ]
    assert central_wh(told[0]) == central_wh(told[1])
    assert told[1].energy is not None
    assert told[0].energy is not None
    assert told[1].energy.max > told[0].energy.max


def test_a_model_far_from_what_is_published_is_flagged() -> None:
    for output_tokens in (1, 100_000):  # whatever the request
        far = estimate("gpt-5.5-pro", output_tokens=output_tokens, input_tokens=5, methodology=NAME)
        near = estimate("gpt-4o", output_tokens=output_tokens, input_tokens=5, methodology=NAME)
        assert "energy-outside-published" in codes(far)
        assert "energy-outside-published" not in codes(near)
    for other in ("ecologits", "ecologits-0.11", "scope3"):
        assert "energy-outside-published" not in codes(estimate("gpt-5.5-pro", output_tokens=9, methodology=other))


def test_a_custom_methodology_may_bring_ends_of_its_own() -> None:
    """What the engine asks for: the model at its ends, and remarks about it."""

    class Own:
        name = "own"
        site_table = NAME

        def ends(self, low: ModelParameters, high: ModelParameters) -> tuple[Any, Any, Any]:
            return low.active_params_b / 2, high.active_params_b * 2, low.active_params_b

        def serve(self, model: Any) -> float:
            return float(model)

        def assess(self, serving: float, usage: Usage, latency_s: Any, site: SiteFactors) -> Any:
            tokens: Any = usage.output_tokens
            return (serving * tokens,)

        def remarks(self, serving: float, site: SiteFactors) -> tuple[str, ...]:
            return (f"served-{serving:g}",)

        def steps(self, *_: Any) -> tuple[()]:
            return ()

    engine.validate_methodology(Own())
    told = engine.assess(
        engine.Catalog({}, {}), provider=None, models=("llama-3.1-8b",), usage=Usage(1, 10), methodology=Own()
    )
    low, high, central = told.low, told.high, told.central
    assert low is not None
    assert high is not None
    assert central is not None
    assert (low[0], central[0], high[0]) == (low[0], 2 * low[0], 4 * low[0])
    assert [w.code for w in told.warnings if w.code.startswith("served-")] == [f"served-{central[0] / 10:g}"]


def test_many_at_once_have_the_same_ends() -> None:
    figures = ecoimpact.estimate_batch(
        {"model": ["gpt-4o", "gpt-4o-mini"], "output_tokens": [400, 90], "input_tokens": [10, 20]}, methodology=NAME
    )
    for number, (model, tokens, tokens_in) in enumerate((("gpt-4o", 400, 10), ("gpt-4o-mini", 90, 20))):
        energy = estimate(model, output_tokens=tokens, input_tokens=tokens_in, methodology=NAME).energy
        assert energy is not None
        assert figures["energy_kwh_min"][number] == pytest.approx(energy.min, rel=1e-12)
        assert figures["energy_kwh_max"][number] == pytest.approx(energy.max, rel=1e-12)


def test_the_steps_of_known_deployments_recompute() -> None:
    edition = methodologies.get(NAME, gpu="B200", gpu_count=8, batch_size=200, weight_bits=8, interval=0.5)
    impacts = estimate("gpt-4o", output_tokens=400, input_tokens=100, methodology=edition)
    steps = impacts.explain()
    assert impacts.energy is not None
    energy = steps["energy_kwh"]
    assert (energy.low, energy.high) == (impacts.energy.min, impacts.energy.max)
    assert steps["gpu_count"].source == "given by the program"
    assert "gpu_memory_gb" not in {step.symbol for step in steps}


def test_sites_are_the_newest_published() -> None:
    aws, microsoft, google = (data.site(NAME, provider) for provider in ("bedrock", "azure_openai", "vertex"))
    assert (aws.pue.max, aws.wue_l_per_kwh.max) == (1.14, 0.12)
    assert (microsoft.pue.max, microsoft.wue_l_per_kwh.max) == (1.16, 0.27)
    assert google.pue.max == 1.09


# --- parameters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"batchsize": 1}, "did you mean 'batch_size'"),
        ({"gpu": "H200"}, "unknown GPU 'H200': did you mean"),
        ({"gpu": 8}, "unknown GPU 8"),
        ({"gpu": "GB200"}, "unknown GPU"),
        ({"interval": 1.0}, "below 1"),
        ({"interval": 0}, "above 0"),
        ({"batch_size": 0.5}, "at least 1"),
        ({"gpu_count": math.inf}, "finite"),
        ({"weight_bits": "4"}, "finite number"),
    ],
)
def test_a_wrong_parameter_says_what_is_right(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        methodologies.get(NAME, **parameters)


def test_impossible_sizes_are_errors() -> None:
    known: dict[str, Any] = {"weight_bits": 8, "gpu": "H100", "gpu_count": 1, "batch_size": 8}
    for active, total in ((0, 1), (2, 1), (1, math.inf)):
        with pytest.raises(ValueError, match="active_params_b <= total_params_b"):
            gpu_energy_wh_per_output_token(active_params_b=active, total_params_b=total, **known)


def test_numbers_of_numpy_are_numbers() -> None:
    known: dict[str, Any] = {"active_params_b": 8, "total_params_b": 8, "gpu": "NVIDIA H100 80GB HBM3"}
    plain = gpu_energy_wh_per_output_token(weight_bits=16, gpu_count=1, batch_size=8, **known)
    assert plain == gpu_energy_wh_per_output_token(
        weight_bits=np.int64(16),  # type: ignore[arg-type]
        gpu_count=np.int64(1),  # type: ignore[arg-type]
        batch_size=np.float64(8),
        **known,
    )


def test_unknown_parameters_may_be_none() -> None:
    assert methodologies.get(NAME, batch_size=None, gpu=None) is EDITION
    assert methodologies.get(NAME, gpu="nvidia-h100-80gb").name == "measured-2026[gpu='H100']"


@pytest.mark.parametrize("module", ["measured_2026", "_measured_form"])
def test_the_examples_in_the_docstrings(module: str) -> None:
    results = doctest.testmod(importlib.import_module(f"ecoimpact.methodologies.{module}"))
    assert results.failed == 0
    assert results.attempted > 0
