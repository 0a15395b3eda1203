"""From the spellings of a model's name to a size: every step says so, and none leads to another family."""

from __future__ import annotations

import re
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ecoimpact import data
from ecoimpact.data import precision, prices, sizes
from ecoimpact.data.names import forms, spelling
from ecoimpact.data.tables import rows
from ecoimpact.engine import estimate

ROOT = Path(__file__).parents[1]
CODES = {
    "exact": None,
    "alias": None,
    "normalised": "model-name-normalised",
    "family": "model-family",
    "size": "model-size-from-name",
    "price": "model-size-from-price",
}
PROVIDERS = [
    None,
    "openai",
    "anthropic",
    "mistralai",
    "google_genai",
    "bedrock",
    "openrouter",
    "litellm",
    "ollama",
    "nobody",
]
CARDS = (*data.cards(), *data.added_cards())
NAMES = sorted({card.name for card in CARDS} | {row[1] for row in (*rows("model_names"), *rows("model_aliases"))})


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """The first unknown name imports the price lists, which takes longer than one example may."""
    data.find(None, "a-name-that-nobody-has")


def resolved(provider: str | None, name: str) -> data.Found:
    found = data.find(provider, name)
    assert found is not None, name
    return found


# --- each step, and how names are spelt ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "name", "expected"),
    [
        # newer and dated members
        ("openai", "gpt-4o-mini-2099-01-01", "openai/gpt-4o-mini (family)"),
        ("openai", "gpt-5-2027-01-31", "openai/gpt-5 (family)"),
        ("openai", "gpt-5.6-mini", "openai/gpt-5.4-mini (family)"),
        ("openai", "gpt-5.9-nano", "openai/gpt-5.4-nano (family)"),
        ("openai", "gpt-6.2-astra", "openai/gpt-6-astra (family)"),
        ("openai", "gpt-4.1-preview", "openai/gpt-4.1 (family)"),
        ("anthropic", "claude-haiku-4-5-20990101", "anthropic/claude-haiku-4-5-20251001 (family)"),
        ("anthropic", "claude-opus-5-7", "anthropic/claude-opus-5-5 (family)"),
        ("bedrock", "us.anthropic.claude-opus-5-7-v1:0", "anthropic/claude-opus-5-5 (family)"),
        ("openrouter", "anthropic/claude-sonnet-5.9", "anthropic/claude-sonnet-5-5 (family)"),
        ("google_genai", "gemini-3.1-pro", "google_genai/gemini-3.1-pro-preview (family)"),
        ("google_genai", "gemini-3.9-flash", "google_genai/gemini-3.8-flash (family)"),
        ("cohere", "command-r-12-2099", "cohere/command-r-08-2024 (family)"),
        ("together", "moonshotai/Kimi-K2.9-Code", "huggingface_hub/moonshotai/Kimi-K2.7-Code (family)"),
        # clouds
        ("azure_openai", "azureml://registries/azure-openai/models/gpt-4o/versions/2", "openai/gpt-4o (normalised)"),
        ("bedrock", "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-5-sonnet-20241022-v2:0",
         "anthropic/claude-3-5-sonnet (normalised)"),
        ("bedrock", "arn:aws:bedrock:us-east-1:1:custom-model/meta.llama3-1-8b-instruct-v1:0:128k/abc",
         "huggingface_hub/llama3-1-8b-instruct (size)"),
        ("bedrock", "us.deepseek.r1-v1:0", "huggingface_hub/deepseek-ai/DeepSeek-R1 (normalised)"),
        ("bedrock", "eu.mistral.pixtral-large-2502-v1:0",
         "huggingface_hub/mistralai/Pixtral-Large-Instruct-2411 (normalised)"),
        ("vertex", "projects/p/locations/us/publishers/anthropic/models/claude-sonnet-4-5@20250929",
         "anthropic/claude-sonnet-4-5-20250929 (normalised)"),
        ("vertex", "claude-3-5-sonnet-v2@20241022", "anthropic/claude-3-5-sonnet (normalised)"),
        ("vertex", "publishers/meta/models/llama-3.3-70b-instruct-maas", "huggingface_hub/llama-3.3-70b-instruct (size)"),
        # hosts and gateways
        ("fireworks", "accounts/fireworks/models/deepseek-v3p2", "huggingface_hub/deepseek-ai/DeepSeek-V3.2 (normalised)"),
        ("fireworks", "accounts/fireworks/models/qwen3-235b-a22b#accounts/acme/deployments/1",
         "huggingface_hub/qwen3-235b-a22b (size)"),
        ("together", "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8",
         "huggingface_hub/meta-llama/Llama-4-Maverick-17B-128E-Instruct (normalised)"),
        ("databricks", "databricks-meta-llama-3-1-8b-instruct",
         "huggingface_hub/meta-llama/Meta-Llama-3.1-8B-Instruct (normalised)"),
        ("cloudflare", "@cf/openai/gpt-oss-120b", "huggingface_hub/openai/gpt-oss-120b (normalised)"),
        ("litellm", "bedrock/us-east-1/anthropic.claude-3-haiku-20240307-v1:0", "anthropic/claude-3-haiku (normalised)"),
        ("litellm", "ollama_chat/deepseek-r1", "ollama/deepseek-r1 (normalised)"),
        ("litellm", "deepseek/deepseek-r1", "huggingface_hub/deepseek-ai/DeepSeek-R1 (normalised)"),
        ("openrouter", "~anthropic/claude-opus-latest", "anthropic/claude-opus-5-5 (family)"),
        ("huggingface_hub", "unsloth/DeepSeek-V3.2-GGUF:groq", "huggingface_hub/deepseek-ai/DeepSeek-V3.2 (normalised)"),
        # one's own machine
        ("ollama", "gpt-oss:120b-cloud", "huggingface_hub/openai/gpt-oss-120b (normalised)"),
        ("ollama", "llama3.1", "ollama/llama3.1 (exact)"),
        ("ollama", "deepseek-r1:671b", "huggingface_hub/deepseek-ai/DeepSeek-R1 (normalised)"),
        ("ollama", "deepseek-r1:70b", "huggingface_hub/deepseek-r1:70b (size)"),
        ("llama_cpp", "/models/Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf",
         "huggingface_hub/meta-llama/Meta-Llama-3.1-8B-Instruct (normalised)"),
        ("llama_cpp", "C:\\models\\qwen2.5-0.5b-instruct-q8_0.gguf", "huggingface_hub/qwen2.5-0.5b-instruct-q8_0 (size)"),
        ("vllm", "/root/.cache/huggingface/hub/models--openai--gpt-oss-20b/snapshots/0e9e39",
         "huggingface_hub/openai/gpt-oss-20b (normalised)"),
        # list prices
        ("litellm", "openrouter/x-ai/grok-4.7", "xai/grok-4.7 (price)"),
        ("openrouter", "x-ai/grok-4.7:batch", "openrouter/x-ai/grok-4.7 (price)"),
        ("bedrock", "us.amazon.nova-pro-v1:0", "bedrock/amazon.nova-pro-v1:0 (price)"),
    ],
)  # fmt: skip
def test_each_step_says_so(provider: str | None, name: str, expected: str) -> None:
    found = resolved(provider, name)
    assert str(found.match) == expected
    assert found.match.requested == name
    code = CODES[found.match.step]
    assert [w.code for w in found.warnings] == ([code] if code else [])


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "gpt-4o-maxi"),
        ("openai", "gpt-4o-mini-pro"),
        ("openai", "o5-pro"),
        ("openai", "o3-ultra"),
        ("openai", "gpt-7"),
        ("openai", "gpt-6-terra"),  # gpt-6.1-terra is newer than it
        ("openai", "gpt-4.2"),  # gpt-4 and gpt-4.1 differ too much to say
        ("openai", "gpt-4.1-pro"),
        ("openai", "gpt-5-70b"),
        ("openai", "grok-4"),
        ("openai", "acme-7b"),
        ("xai", "grok-44"),
        ("anthropic", "claude-opus-6"),
        ("anthropic", "claude-opus-5b"),
        ("mistralai", "mistral-large-2701"),
        ("mistralai", "mistral-large-2512-fast"),
        ("google_genai", "gemini-3.9-ultra"),
        ("groq", "llama-4-behemoth-17b-999e-instruct"),
        ("bedrock", "arn:aws:bedrock:us-east-1:123:application-inference-profile/abcdef12"),
        ("fireworks", "accounts/acme/models/ft-123"),
        ("ollama", "grok-4.7"),  # one's own machine has no list price
        ("vllm", "sonar-pro"),
        ("gpu.internal", "grok-4.7"),
    ],
)
def test_what_is_unknown_stays_unknown(provider: str, name: str) -> None:
    assert data.find(provider, name) is None


# --- sizes in names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "total_b", "active_b"),
    [
        ("llama-3.3-70b-instruct", 70, 70),
        ("qwen3-235b-a22b", 235, 22),
        ("Qwen3.8-2.4T-A95B", 2400, 95),
        ("dolphin-mixtral-8x7b", 46.7, 12.9),
        ("wizardlm-2-8x22b", 140.6, 39.1),
        ("deepseek-r1-distill-qwen-1.5b", 1.5, 1.5),
        ("lfm2p5-1p2b", 1.2, 1.2),
        ("databricks-qwen3-0-6b", 0.6, 0.6),
        ("llama-prompt-guard-2-22m", 0.022, 0.022),
        ("llama3-70b-8192", 70, 70),
        ("llama-2-7b-chat.q4_k_m.gguf", 7, 7),
        ("llama3.1:8b-instruct-q4_K_M", 8, 8),
        ("qwen2.5-7b-instruct-128k-2507", 7, 7),
    ],
)
def test_the_size_is_the_one_of_the_name(name: str, total_b: float, active_b: float) -> None:
    found = sizes.size(name)
    assert found is not None
    assert (found.total_params_b.min, found.total_params_b.max) == (total_b, total_b)
    assert (found.active_params_b.min, found.active_params_b.max) == (active_b, active_b)


def test_what_a_name_leaves_open_is_a_range() -> None:
    effective, mixture, large = sizes.size("gemma-4-e4b-it"), sizes.size("tiny-8x3b"), sizes.size("anubis-pro-105b-v1")
    assert effective is not None
    assert mixture is not None
    assert large is not None
    assert (effective.active_params_b.max, effective.total_params_b.min) == (4, 4)
    assert effective.total_params_b.max > 8
    assert mixture.active_params_b.min == 3
    assert 3 < mixture.total_params_b.min < mixture.total_params_b.max <= 24
    assert (large.total_params_b.min, large.active_params_b.max) == (105, 105)
    assert large.active_params_b.min < 5


@pytest.mark.parametrize(
    "name",
    [
        "phi-3-mini-128k-instruct",
        "llama-3.1",
        "qwen2.5-20240918",
        "mistral-large-2411",
        "llama-4-scout-17b-16e-instruct",  # the size of one token's path
        "minimax-m1-80k",
        "mixtral-0x22b",
        "mixtral-1x7b",
        "llama-70b-to-8b",
        "qwen-9000b",
        "qwen-0.001b",
        "qwen3-8b-a80b",
        "gpt-5.6-70b",
        "gemini-9b",
        "claude-8b",
    ],
)
def test_versions_dates_and_contexts_are_no_sizes(name: str) -> None:
    assert sizes.size(name) is None


# --- the precision of weights -------------------------------------------------------------------------------------------

PUBLISHED = "Precision in which makers publish"
MEASURED = "ML.ENERGY"


@pytest.mark.parametrize(
    ("provider", "name", "bits"),
    [
        ("ollama", "llama3.1:8b-instruct-q4_K_M", 4),
        ("ollama", "qwen3:8b-q8_0", 8),
        ("together", "Qwen/Qwen3-Coder-Next-FP8", 8),
        ("llama_cpp", "llama-2-7b-chat.Q5_K_S.gguf", 5),
        ("vllm", "/data/Qwen2.5-72B-Instruct-AWQ", 4),
        ("vllm", "zai-org/GLM-5.3-NVFP4", 4.5),  # 16 weights share a scale of 8 bits
        ("vllm", "lmstudio-community/gpt-oss-20b-MXFP4", 4.25),  # 32 weights do
        ("vllm", "Qwen/Qwen2.5-72B-Instruct-GPTQ-Int4", 4),
        ("vllm", "unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", 4),
        ("vllm", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 16),
        ("vllm", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8", 8),
        ("vllm", "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", 8),
        ("huggingface_hub", "meta-llama/Meta-Llama-3.1-405B-FP8", 8),
        ("huggingface_hub", "mistral-community/Mixtral-8x22B-v0.1-AWQ", 4),
    ],
)
def test_the_precision_in_a_name_comes_before_that_of_the_maker(provider: str, name: str, bits: float) -> None:
    card = resolved(provider, name).card
    assert (card.weight_bits, card.weight_bits_source) == (bits, "the name of the model")


@pytest.mark.parametrize(
    ("provider", "name", "bits", "source"),
    [
        ("huggingface_hub", "openai/gpt-oss-120b", 4.25, MEASURED),
        ("bedrock", "openai.gpt-oss-20b-1:0", 4.25, MEASURED),
        ("groq", "openai/gpt-oss-safeguard-20b", 4.25, MEASURED),
        ("deepseek", "deepseek-ai/DeepSeek-V3", 8, PUBLISHED),
        ("together", "deepseek-ai/DeepSeek-V3.1", 8, PUBLISHED),
        ("openrouter", "deepseek/deepseek-r1-0528", 8, MEASURED),
        ("fireworks", "accounts/fireworks/models/deepseek-v3p1", 8, PUBLISHED),
        ("groq", "deepseek-r1-distill-llama-70b", 16, PUBLISHED),  # a Llama
        ("openrouter", "perplexity/r1-1776", 16, PUBLISHED),  # the same weights, published anew
        ("moonshot", "moonshotai/Kimi-K2-Instruct", 8, PUBLISHED),
        ("moonshot", "kimi-k2-0905-preview", 8, PUBLISHED),
        ("moonshot", "kimi-k2-thinking", 4, PUBLISHED),  # the same size as Kimi K2, rounded further
        ("vllm", "Qwen/Qwen3-235B-A22B-Instruct-2507", 16, MEASURED),
        ("vllm", "Qwen/Qwen3-8B", 16, MEASURED),
        ("groq", "meta-llama/llama-4-scout-17b-16e-instruct", 16, PUBLISHED),
        ("bedrock", "meta.llama3-3-70b-instruct-v1:0", 16, PUBLISHED),
        ("huggingface_hub", "meta-llama/Meta-Llama-3.1-70B-Instruct", 16, MEASURED),
        ("nvidia", "nvidia/nvidia-nemotron-nano-9b-v2", 16, PUBLISHED),
        ("huggingface_hub", "CohereForAI/c4ai-command-r-plus-4bit", 8, PUBLISHED),  # two weights count as one
    ],
)
def test_the_precision_that_a_maker_published(provider: str, name: str, bits: float, source: str) -> None:
    card = resolved(provider, name).card
    assert card.weight_bits == bits
    told = data.cite(card.weight_bits_source)
    assert source in told
    assert "https://" in told


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("vllm", "Qwen2.5-72B-Instruct-GPTQ"),  # rounded, nobody says how far
        ("vllm", "Qwen2.5-72B-Instruct-GGUF"),
        ("together", "meta-llama/Meta-Llama-3.1-70B-Instruct-Turbo"),  # a host's own version
        ("groq", "llama-3.3-70b-versatile"),
        ("ollama", "llama3.1:8b"),  # its library rounds what it holds
        ("litellm", "ollama/llama3.1:8b"),
        ("vllm", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B"),  # published in several
        ("mistralai", "mistral-large-2411"),
        ("openai", "gpt-4o"),
        ("openai", "gpt-5.4-mini"),
    ],
)
def test_where_nobody_says_the_precision_is_unknown(provider: str, name: str) -> None:
    card = resolved(provider, name).card
    assert (card.weight_bits, card.weight_bits_source) == (None, "")


def test_every_row_of_precisions_leads_somewhere() -> None:
    """A whole name to a model that is found, the beginning of a line to nothing that a whole name would hide."""
    names = [row[0] for row in rows("weight_precision")]
    assert len({spelling(name) for name in names}) == len(names)
    for model, bits, form, _, evidence in rows("weight_precision"):
        assert evidence.startswith("https://")
        known = {"mxfp4": 4.25, "int4": 4.0, "fp8": 8.0, "bf16": 16.0, "fp16": 16.0}
        assert float(bits) == known.get(form, 8.0), model
        if not model.endswith("*"):
            assert resolved("vllm", model).card.weight_bits == float(bits), model


def test_listed_models_have_the_precision_of_their_names() -> None:
    listed = {card.name: card for card in (*data.cards(), *data.added_cards()) if card.provider == "huggingface_hub"}
    for name in ("openai/gpt-oss-20b", "deepseek-ai/DeepSeek-R1", "meta-llama/Meta-Llama-3.1-405B-FP8", "microsoft/phi-2"):
        assert listed[name] == resolved("huggingface_hub", name).card
    assert sum(card.weight_bits is not None for card in listed.values()) > 60


def test_a_known_precision_says_where_it_is_from() -> None:
    for name, told in (("openai/gpt-oss-120b", MEASURED), ("Qwen/Qwen3-8B-FP8", "the name of the model")):
        for methodology in ("measured-2026", "scope3"):
            step = estimate(name, output_tokens=9, input_tokens=9, methodology=methodology).explain()["weight_bits"]
            assert told in step.source


# --- sizes from prices --------------------------------------------------------------------------------------------------


def test_a_price_gives_the_interval_of_a_prediction() -> None:
    """gpt-4o at 2.50 and 10 USD: what the fit says of one further model at that price."""
    found = prices.priced("openai", [("gpt-4o", "")])
    assert found is not None
    active, total = found.active_params_b, found.total_params_b
    assert (active.min, active.central, active.max) == pytest.approx((14, 78, 419), rel=0.03)
    assert (total.min, total.central) == pytest.approx((72, 836), rel=0.02)
    assert total.max == sizes.MAX_PARAMS_B  # the interval ends above the largest size that is plausible


def test_a_price_is_the_last_resort() -> None:
    assert resolved("openai", "gpt-4o").match.step == "exact"
    assert resolved("openrouter", "x-ai/grok-4.7").match.step == "price"
    assert "model-arch-not-released" in resolved("xai", "grok-4.7").card.warnings


@given(st.floats(1e-4, 1e4))
def test_any_price_gives_sizes_that_fit_together(usd_per_mtok: float) -> None:
    active = prices._predicted("active", usd_per_mtok)
    total = prices._predicted("total", usd_per_mtok)
    for size in (active, total):
        assert 0 < size.min <= size.central <= size.max <= sizes.MAX_PARAMS_B
        assert size.max / size.min > 25 or size.max == sizes.MAX_PARAMS_B


def test_without_the_library_a_price_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "price_lists", lambda: None)
    prices._listed.cache_clear()
    try:
        assert data.find("xai", "grok-4.7") is None
        assert resolved("openai", "gpt-4o").match.step == "exact"
    finally:
        prices._listed.cache_clear()


@pytest.mark.parametrize("name", ["gpt-image-1", "mistral-embed", "text-embedding-3-small", "whisper-1"])
def test_the_price_of_what_generates_no_text_says_nothing(name: str) -> None:
    assert data.find("openai", name) is None
    assert data.find("mistralai", name) is None


def test_nothing_is_imported_before_it_is_needed() -> None:
    code = """
import sys
import ecoimpact.data as data
assert data.find("openai", "gpt-4o-mini").match.step == "exact"
assert data.find("bedrock", "us.anthropic.claude-opus-5-7-v1:0").match.step == "family"
late = {"genai_prices", "ecoimpact.data.prices", "numpy", "pydantic"} & set(sys.modules)
assert not late, late
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- what always holds --------------------------------------------------------------------------------------------------

known_names = st.sampled_from(NAMES)
providers = st.sampled_from(PROVIDERS)


@st.composite
def edited_names(draw: st.DrawFn) -> str:
    """A known name with up to three characters put in, taken out or exchanged."""
    name = draw(known_names)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(name)))
        taken = draw(st.integers(0, 1))
        put = draw(st.text(string.ascii_lowercase + string.digits + "-.:/", max_size=1))
        name = name[:at] + put + name[at + taken :]
    return name


def words(name: str) -> list[str]:
    """The letters of a name in order, without what tells a snapshot from another."""
    return [word for word in re.findall(r"[a-z]+", name.lower()) if word not in ("preview", "exp", "experimental")]


def names_of(card: data.Found) -> Iterator[str]:
    """All the names under which a card is listed."""
    model, owner = card.match.name, card.match.provider
    yield model
    for provider, name, of, *_ in (*rows("model_names"), *rows("model_aliases")):
        if (provider, of) == (owner, model):
            yield name


@given(providers, edited_names())
def test_an_edited_name_never_leads_to_another_family(provider: str | None, name: str) -> None:
    found = data.find(provider, name)
    if found is None or found.match.step in ("size", "price"):
        assume(found is not None)
        assert found is not None
        assert {spelling(f.text.rpartition("/")[2]) for f in forms(name)} & {spelling(found.match.name.rpartition("/")[2])}
        return
    listed = [n.rpartition("/")[2] for n in names_of(found)] + list(names_of(found))
    plainer = [text for f in forms(name) for text in (f.text, f.text.rpartition("/")[2])]
    plainer += [precision.without_quantisation(text) for text in plainer]
    if found.match.step in ("exact", "alias", "normalised"):
        assert {spelling(text) for text in plainer} & {spelling(n) for n in listed}
    else:
        assert any(words(text) == words(n) for text in plainer for n in listed)


TIERS = ("maxi", "ultra", "pro", "mini", "nano", "lite", "max", "plus", "large", "small", "flash", "turbo", "fast", "x")


@given(providers, known_names, st.sampled_from(TIERS))
def test_another_tier_is_another_model(provider: str | None, name: str, tier: str) -> None:
    base, tiered = data.find(provider, name), data.find(provider, f"{name}-{tier}")
    if base is None or tiered is None or tiered.match.step in ("size", "price"):
        return
    listed = [spelling(n) for n in names_of(tiered)]
    assert any(n.endswith(f"-{tier}") or f"-{tier}-" in n for n in listed), (name, tier, tiered.match)


@given(providers, st.one_of(known_names, edited_names()))
def test_resolving_is_deterministic_idempotent_and_blind_to_case(provider: str | None, name: str) -> None:
    found = data.find(provider, name)
    assert found == data.find(provider, name)
    for same in (name.upper(), name.lower(), f" {name}\n"):
        other = data.find(provider, same)
        assert (other and other.card) == (found and found.card), same
    if found is not None:
        again = data.find(provider, found.match.name)
        assert again is not None
        assert (again.match.provider, again.match.name) == (found.match.provider, found.match.name)


PIECES = ["7b", "8x7b", "a22b", "-", ".", "/", ":", "@", "#", "v1:0", "-2024-01-01", "q4_k_m", ".gguf", "models/"]
PIECES += [
    "models--",
    "ft:",
    "arn:",
    "us.",
    "anthropic.",
    "openrouter/",
    "0-",
    "1.",
    "p",
    "-00001-of-00002",
    "\\",
    "~",
    "4-5",
]


@given(providers, st.one_of(st.text(max_size=256), st.lists(st.sampled_from(PIECES), max_size=256).map("".join)))
def test_hostile_names_are_read_in_little_time(provider: str | None, name: str) -> None:
    """Each example has to end within the deadline that hypothesis sets."""
    found = data.find(provider, name[:256])
    assert found is None or found.card.total_params_b.min > 0
    assert len(forms(name[:256])) <= 50
    assert data.find(provider, "x" * 257) is None


@given(providers, st.one_of(known_names, edited_names()))
def test_every_card_can_be_estimated(provider: str | None, name: str) -> None:
    found = data.find(provider, name)
    if found is None:
        return
    card = found.card
    assert 0 < card.active_params_b.min <= card.total_params_b.min
    assert card.active_params_b.max <= card.total_params_b.max
    assert card.provider in (*data.PROVIDERS, "ollama")
    assert card.source
    code = CODES[found.match.step]
    codes = [w.code for w in found.warnings]
    assert code is None or code in codes
    assert set(codes) <= set(data.WARNINGS)


# --- through the engine -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "name", "code"),
    [
        ("openai", "gpt-5.6-mini", "model-family"),
        ("ollama", "llama3.1:8b", "model-size-from-name"),
        ("xai", "grok-4.7", "model-size-from-price"),
    ],
)
def test_an_estimate_names_the_step(provider: str, name: str, code: str) -> None:
    impacts: Any = estimate(name, provider=provider, output_tokens=400)
    assert impacts.energy.min > 0
    assert code in [w.code for w in impacts.warnings]
    assert impacts.explain()


def test_the_benchmark_prints_the_shares() -> None:
    command = [sys.executable, "-m", "benchmarks.coverage"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    head, *lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [cell.strip() for cell in head.strip("|").split("|")][3:-2] == [*CODES]
    shares = {line.split("|")[1].strip(): line.split("|")[3].strip() for line in lines}
    assert {"openai", "anthropic", "bedrock", "openrouter", "huggingface_hub", "all"} <= set(shares)
    assert all(re.fullmatch(r"\d+\.\d%", share) for share in shares.values())
