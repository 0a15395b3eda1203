"""Who answers at a host, for SDKs that can be pointed at others than their own provider.

A host that is not listed (a proxy, a gateway, one's own machine) leaves the request with the SDK's own provider.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlsplit

HOSTS = {
    "api.anthropic.com": "anthropic",
    "api.cerebras.ai": "cerebras",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "api.groq.com": "groq",
    "api.eu.mistral.ai": "mistralai",
    "api.mistral.ai": "mistralai",
    "api.us.mistral.ai": "mistralai",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.scaleway.ai": "scaleway",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.x.ai": "xai",
    "generativelanguage.googleapis.com": "google_genai",
    "models.github.ai": "github_models",
    "models.inference.ai.azure.com": "github_models",
    "openrouter.ai": "openrouter",
    "router.huggingface.co": "huggingface_hub",
    # whole domains
    "ai.cloud.ovh.net": "ovh",
    "aiplatform.googleapis.com": "vertex",
    "amazonaws.com": "bedrock",
    "cognitiveservices.azure.com": "azure_openai",
    "endpoints.huggingface.cloud": "huggingface_hub",
    "openai.azure.com": "azure_openai",
    "openai.com": "openai",
    "services.ai.azure.com": "azure_ai",
}


LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "host.docker.internal"})  # noqa: S104 - where to, not from

LOCAL_SERVERS = {11434: "ollama", 1234: "lm_studio", 8000: "vllm", 8080: "llama_cpp"}
"""The ports that servers of open models listen on unless they are told otherwise."""

_COMMON_PORTS = frozenset({8000, 8080})
"""Those of half the programs there are: only the name of an open model tells that such a server is behind them."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Place(NamedTuple):
    """Where a client points to: a provider's id where it is known, and the host, with its port where that is unusual."""

    provider: str | None
    host: str | None


def place_of(url: Any, model: str | None = None) -> Place:
    """Who answers at an address, a text or the URL object of a library.

    >>> place_of("https://api.groq.com/openai/v1"), place_of("http://127.0.0.1:11434/v1")
    (Place(provider='groq', host='api.groq.com'), Place(provider='ollama', host='127.0.0.1:11434'))
    >>> [place_of("http://localhost:8000/v1", model).provider for model in ("Qwen/Qwen3-8B", "gpt-4o")]
    ['vllm', None]
    """
    try:
        parts = urlsplit(str(url))
        host, port = parts.hostname, parts.port
    except ValueError:
        return Place(None, None)
    if not host:
        return Place(None, None)
    if port == _DEFAULT_PORTS.get(parts.scheme):
        port = None
    provider = provider_at(host)
    if provider is None and host in LOOPBACK and port in LOCAL_SERVERS and (port not in _COMMON_PORTS or _is_open(model)):
        provider = LOCAL_SERVERS[port]
    name = f"[{host}]" if ":" in host else host
    return Place(provider, name if port is None else f"{name}:{port}")


def _is_open(model: str | None) -> bool:
    """Whether a name is one of open weights, as their servers call them: ``organisation/model``, or a file."""
    return model is not None and ("/" in model.strip("/") or model.endswith(".gguf"))


def provider_at(host: str) -> str | None:
    """The provider at a host, or at the domain it is in.

    >>> provider_at("api.groq.com"), provider_at("my-unit.openai.azure.com"), provider_at("localhost")
    ('groq', 'azure_openai', None)
    """
    name = host
    while name:
        if (provider := HOSTS.get(name)) is not None:
            return provider
        name = name.partition(".")[2]
    return None
