"""The SDKs' clients, pointed at the local server."""

from __future__ import annotations

import functools
import importlib
import inspect
from typing import Any

import shapes_anthropic
import shapes_bedrock
import shapes_cohere
import shapes_google_genai
import shapes_huggingface_hub
import shapes_mistralai
import shapes_ollama
import shapes_openai
from harness import Shape

SHAPES: dict[str, list[Shape]] = {
    "openai": shapes_openai.SHAPES,
    "anthropic": shapes_anthropic.SHAPES,
    "mistralai": shapes_mistralai.SHAPES,
    "google_genai": shapes_google_genai.SHAPES,
    "cohere": shapes_cohere.SHAPES,
    "ollama": shapes_ollama.SHAPES,
    "huggingface_hub": shapes_huggingface_hub.SHAPES,
    "bedrock": shapes_bedrock.SHAPES,
}


def make(provider: str, kind: str, url: str, *, asynchronous: bool) -> Any:
    """A client of a kind, without retries."""
    return _MAKERS[provider](kind, url, asynchronous)


async def close(client: Any) -> None:
    """Close a client, whichever way its SDK has."""
    for name in ("close", "aclose"):
        if hasattr(type(client), name):
            result = getattr(client, name)()
            if inspect.isawaitable(result):
                await result
            return
    if hasattr(getattr(client, "_client", None), "send"):  # of httpx: old versions leave it to the garbage collection
        await close(client._client)
    if hasattr(client, "__aexit__"):
        await client.__aexit__(None, None, None)
    if hasattr(client, "__exit__"):
        client.__exit__(None, None, None)


def _of(module: str, asynchronous: bool, name: str) -> Any:
    return getattr(importlib.import_module(module), f"Async{name}" if asynchronous else name)


def _openai(kind: str, url: str, asynchronous: bool) -> Any:
    name, options = {
        "default": ("OpenAI", {"api_key": "test", "base_url": f"{url}/v1"}),
        "azure": ("AzureOpenAI", {"api_key": "test", "azure_endpoint": url, "api_version": "2024-10-21"}),
    }[kind]
    return _of("openai", asynchronous, name)(**options, max_retries=0)


def _anthropic(kind: str, url: str, asynchronous: bool) -> Any:
    bedrock = {"aws_access_key": "test", "aws_secret_key": "test", "aws_region": "eu-west-3", "base_url": url}
    vertex = {"access_token": "test", "project_id": "test", "region": "europe-west1", "base_url": url}
    name, options = {
        "default": ("Anthropic", {"api_key": "test", "base_url": url}),
        "bedrock": ("AnthropicBedrock", bedrock),
        "vertex": ("AnthropicVertex", vertex),
    }[kind]
    return _of("anthropic", asynchronous, name)(**options, max_retries=0)


def _mistralai(kind: str, url: str, asynchronous: bool) -> Any:
    module, name, options = {
        "default": ("mistralai.client", "Mistral", {"api_key": "test"}),
        "azure": ("mistralai.azure.client", "MistralAzure", {"api_key": "test"}),
        "gcp": ("mistralai.gcp.client", "MistralGCP", {"access_token": "test", "project_id": "test"}),
    }[kind]
    return getattr(importlib.import_module(module), name)(**options, server_url=url)


def _google_genai(kind: str, url: str, asynchronous: bool) -> Any:
    from google import genai

    client = genai.Client(api_key="test", vertexai=kind == "vertex", http_options={"base_url": url})
    return client.aio if asynchronous else client


def _cohere(kind: str, url: str, asynchronous: bool) -> Any:
    name = {"default": "ClientV2", "v1": "Client"}[kind]
    return _of("cohere", asynchronous, name)(api_key="test", base_url=url)


def _ollama(_kind: str, url: str, asynchronous: bool) -> Any:
    import ollama

    return ollama.AsyncClient(host=url) if asynchronous else ollama.Client(host=url)


def _huggingface_hub(kind: str, url: str, asynchronous: bool) -> Any:
    import huggingface_hub

    options: dict[str, Any] = {"default": {"base_url": url}, "endpoint": {"model": url}}[kind]
    client = huggingface_hub.AsyncInferenceClient if asynchronous else huggingface_hub.InferenceClient
    return client(token="test", **options)


@functools.cache
def _aws_session(module: str) -> Any:
    """One for all clients: it reads the services' models from the disk, and makes the classes of their exceptions."""
    return importlib.import_module(module).get_session()


def _bedrock(kind: str, url: str, asynchronous: bool) -> Any:
    config = importlib.import_module("aiobotocore.config" if asynchronous else "botocore.config")
    settings = (config.AioConfig if asynchronous else config.Config)(
        retries={"total_max_attempts": 2 if kind == "retrying" else 1, "mode": "standard"}, read_timeout=20
    )
    made = _aws_session("aiobotocore.session" if asynchronous else "botocore.session").create_client(
        *("bedrock-runtime", "eu-west-3"),
        endpoint_url=url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=settings,
    )
    if not asynchronous:
        return made
    entering = made.__aenter__()  # does not wait for anything, with a key and an address at hand
    try:
        entering.send(None)
    except StopIteration as entered:
        return entered.value
    raise AssertionError("making a client was expected not to wait")


_MAKERS = {
    "openai": _openai,
    "anthropic": _anthropic,
    "mistralai": _mistralai,
    "google_genai": _google_genai,
    "cohere": _cohere,
    "ollama": _ollama,
    "huggingface_hub": _huggingface_hub,
    "bedrock": _bedrock,
}
