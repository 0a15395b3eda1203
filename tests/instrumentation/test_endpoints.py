"""The host decides who serves a call, and where: through the real SDKs, over a transport that never leaves the process."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import payloads as p
import pytest

import ecoimpact
from ecoimpact import Record, data, engine

OPEN = "meta-llama/Meta-Llama-3.1-8B-Instruct"

ENDPOINTS = [
    ("https://api.openai.com/v1", p.MODEL, "openai", "USA"),
    ("https://unit.openai.azure.com/openai/v1", p.MODEL, "azure_openai", "USA"),
    ("https://unit.services.ai.azure.com/models", OPEN, "azure_ai", "USA"),
    ("https://api.groq.com/openai/v1", "llama-3.1-8b-instant", "groq", "USA+CAN+FIN+SAU"),
    ("https://api.together.xyz/v1", OPEN, "together", None),
    ("https://api.deepseek.com", "deepseek-chat", "deepseek", "CHN"),
    ("https://api.x.ai/v1", "grok-4", "xai", None),
    ("https://us.api.x.ai/v1", "grok-4", "xai", None),
    ("https://openrouter.ai/api/v1", "openai/gpt-4o-mini", "openrouter", None),
    ("https://api.fireworks.ai/inference/v1", "accounts/fireworks/models/llama-v3p1-8b-instruct", "fireworks", None),
    ("https://api.mistral.ai/v1", "mistral-small-latest", "mistralai", "SWE+NOR"),
    ("https://api.perplexity.ai", "sonar", "perplexity", "USA"),
    ("https://api.cerebras.ai/v1", "llama3.1-8b", "cerebras", "USA+CAN"),
    ("https://router.huggingface.co/v1", OPEN, "huggingface_hub", "USA"),
    ("https://api.scaleway.ai/v1", "llama-3.1-8b-instruct", "scaleway", "FRA+NLD+POL"),
    ("https://oai.endpoints.kepler.ai.cloud.ovh.net/v1", "Llama-3.1-8B-Instruct", "ovh", "FRA+DEU+POL"),
    ("https://generativelanguage.googleapis.com/v1beta/openai/", "gemini-2.5-flash", "google_genai", "USA"),
    ("https://models.github.ai/inference", "openai/gpt-4o-mini", "github_models", "USA"),
    ("http://localhost:11434/v1", "llama3.1:8b", "ollama", None),
    ("http://127.0.0.1:1234/v1", "qwen3-8b", "lm_studio", None),
    ("http://127.0.0.1:8000/v1", OPEN, "vllm", None),
    ("http://[::1]:8080/v1", "Qwen3-8B-Q4_K_M.gguf", "llama_cpp", None),
    ("http://localhost:8000/v1", p.MODEL, "openai", "USA"),  # a gateway on the same port: the model is none to run at home
    ("http://gateway.internal/v1", p.MODEL, "openai", "USA"),
]


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Record]]:
    monkeypatch.setattr(engine, "_current", engine.Catalog({}, {}))
    kept: list[Record] = []
    ecoimpact.instrument("openai", "anthropic", exporters=[kept.append])
    yield kept
    ecoimpact.uninstrument()


def transport(client: type, answer: Any) -> Any:
    """An HTTP client, of the library that the SDK is made with, which answers by itself."""
    base: Any = next(c for c in client.__mro__ if c.__module__.partition(".")[0] in ("httpx", "httpx2"))
    http = importlib.import_module(base.__module__.partition(".")[0])
    return http.Client(transport=http.MockTransport(lambda _request: http.Response(200, json=answer)))


def ask(base_url: str, model: str) -> None:
    with openai.OpenAI(
        api_key="test", base_url=base_url, http_client=transport(openai.DefaultHttpxClient, p.chat(model=model))
    ) as client:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}])
    assert ecoimpact.flush(10)


@pytest.mark.parametrize(("url", "model", "provider", "zone"), ENDPOINTS, ids=[url for url, *_ in ENDPOINTS])
def test_a_compatible_endpoint(records: list[Record], url: str, model: str, provider: str, zone: str | None) -> None:
    """Each is a provider of its own, with a site of its own or the world's and a warning."""
    ask(url, model)
    (record,) = records
    told = record.assessment
    assert record.inference.provider == provider
    assert told.errors == ()
    codes = [warning.code for warning in told.warnings]
    assert (told.zone, "site-world" in codes) == ((data.WORLD, True) if zone is None else (zone, False))
    known = data.site("ecologits-2025-09", provider)
    assert ("site-typical" in codes) == ("site-typical" in known.warnings)


def test_an_anthropic_compatible_endpoint(records: list[Record]) -> None:
    with anthropic.Anthropic(
        api_key="test",
        base_url="https://api.deepseek.com/anthropic",
        http_client=transport(anthropic.DefaultHttpxClient, p.message(model="deepseek-chat")),
    ) as client:
        client.messages.create(model="deepseek-chat", max_tokens=5, messages=[{"role": "user", "content": "Hi"}])
    assert ecoimpact.flush(10)
    (record,) = records
    assert (record.inference.provider, record.assessment.zone) == ("deepseek", "CHN")


@pytest.mark.parametrize(
    ("registered", "called"),
    [
        ("http://gpu.internal", "http://gpu.internal/v1"),
        ("http://gpu.internal", "http://gpu.internal:8000/v1"),
        ("http://gpu.internal:8000/v1", "http://gpu.internal:8000/v1"),
        ("http://gpu.internal:80", "http://gpu.internal/v1"),
        ("HTTPS://GPU.internal:443/", "https://gpu.internal/v1"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
        ("[::1]", "http://[::1]:8000/v1"),
    ],
)
def test_a_site_of_ones_own(records: list[Record], registered: str, called: str) -> None:
    ecoimpact.register_site(registered, zone="FRA", pue=1.2, wue_l_per_kwh=0.2)
    ask(called, OPEN)
    (record,) = records
    told = record.assessment
    assert told.zone == "FRA"
    assert "site-world" not in [warning.code for warning in told.warnings]
    assert told.explain is not None
    steps = told.explain()
    assert steps["pue"].value == 1.2
    assert steps["wue_l_per_kwh"].value == 0.2


def test_another_port_is_another_site(records: list[Record]) -> None:
    ecoimpact.register_site("http://gpu.internal:8000", zone="FRA", pue=1.2, wue_l_per_kwh=0.2)
    ask("http://gpu.internal:9000/v1", p.MODEL)
    assert records[0].assessment.zone == "USA"


def test_an_embedding_is_counted_and_has_no_figures(records: list[Record]) -> None:
    """EcoLogits counts what is generated: what is only read is no zero, but unknown."""
    with openai.OpenAI(api_key="test", http_client=transport(openai.DefaultHttpxClient, p.embeddings())) as client:
        answer: Any = client.embeddings.create(model=p.EMBEDDER, input="Hi")
    impacts = ecoimpact.impacts_of(answer)
    assert impacts is not None
    assert impacts.energy is None
    assert ecoimpact.flush(10)
    line = records[0].to_dict()
    told = [line[name] for name in ("endpoint", "input_tokens", "output_tokens", "energy_kwh_min")]
    assert told == ["embeddings", 12, 0, None]


def test_what_is_only_read_is_not_covered_by_ecologits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_current", engine.Catalog({}, {}))
    ecoimpact.register_model("reader-1b", active_params_b=1, total_params_b=1, source="a guess")
    usage = ecoimpact.types.Usage(12, 0, generates=False)
    told = engine.assess(engine.catalog(), provider="openai", models=("reader-1b",), usage=usage)
    assert (told.low, told.high, told.errors) == (None, None, ())
    assert [warning.code for warning in told.warnings] == ["request-not-covered"]
