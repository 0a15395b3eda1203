"""LiteLLM's SDK: chat, completions, embeddings and responses, plain and streamed, and the router above them.

Its functions are watched inside the decorator that answers from the cache and repeats what failed: every attempt counts,
whoever makes it, and a cached answer does not. The SDKs that LiteLLM asks in its turn pass through.

Token counts are those of OpenAI, into which LiteLLM translates: ``prompt_tokens`` include the cache, ``completion_tokens``
what a model thinks. A stream's are those in the chunks that came from the provider: without any, LiteLLM makes an estimate
of its own, which does not count. Zeros stand for a usage that was not sent.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from ecoimpact.instrumentation.provider import (
    Endpoint,
    Provider,
    Reader,
    Request,
    Role,
    Shape,
    Target,
    count,
    field,
    length,
    text,
)
from ecoimpact.providers._hosts import place_of, provider_at
from ecoimpact.providers.openai import ChatReader, EmbeddingReader, ResponseReader
from ecoimpact.types import Usage


class AnswerReader(ChatReader):
    """``ModelResponse``, ``TextCompletionResponse``, and the chunks of their streams."""

    _chunks: list[Any] | None = None

    def watch(self, chunks: Any) -> None:
        """The list in which LiteLLM keeps a stream's chunks with what the provider sent, for as long as it comes."""
        if isinstance(chunks, list):
            self._chunks = chunks

    def feed(self, item: Any) -> bool:
        if self.response_model is None:
            self.response_model, self.response_id = text(item, "model"), text(item, "id")
        usage = field(item, "usage")
        final = usage is not None
        if self._chunks is None:
            self._usage = _sent(usage) or self._usage
        choices = field(item, "choices")
        for choice in choices if isinstance(choices, list) else ():
            if not self.finished:
                self.characters += length(choice, "text")
                self.characters += _characters(field(choice, "delta") or field(choice, "message"))
            if field(choice, "finish_reason") is not None:
                self.finished = final = True
        return final

    def over(self) -> None:
        self._look()
        self._chunks = None

    def _look(self) -> None:
        for chunk in self._chunks or ():
            self._usage = _over(_sent(field(chunk, "usage")), self._usage)

    def counts(self) -> Usage:
        self._look()
        written = count(field(self._usage, "prompt_tokens_details"), "cache_creation_tokens")
        usage = replace(super().counts(), region=text(self._usage, "inference_geo"))
        return usage if written is None else replace(usage, cache_write_tokens=written)


def _sent(usage: Any) -> Any:
    return usage if count(usage, "completion_tokens") or count(usage, "prompt_tokens") else None


def _over(later: Any, earlier: Any) -> Any:
    """Totals that a stream brings in two parts: the later ones, and the input from before where they have none."""
    if later is None or earlier is None:
        return earlier if later is None else later
    kept = ("prompt_tokens", "completion_tokens", "inference_geo")
    merged = {name: field(later, name) or field(earlier, name) for name in kept}
    for name, part in (("prompt_tokens_details", "cached_tokens"), ("completion_tokens_details", "reasoning_tokens")):
        details = field(later, name)
        merged[name] = details if count(details, part) else field(earlier, name) or details
    return merged


def _characters(message: Any) -> int:
    characters = length(message, "content") + length(message, "reasoning_content")
    calls = field(message, "tool_calls")
    for call in calls if isinstance(calls, list) else ():
        called = field(call, "function")
        characters += length(called, "name") + length(called, "arguments")
    return characters


CHAT: Final = Endpoint("chat.completions", AnswerReader)
TEXT: Final = Endpoint("completions", AnswerReader)
EMBEDDINGS: Final = Endpoint("embeddings", EmbeddingReader)
RESPONSES: Final = Endpoint("responses", ResponseReader)
RESPONSES_POLL: Final = Endpoint("responses", ResponseReader, polls=True)


# --- who serves a request

_SERVED_BY: Final = {
    "anthropic": "anthropic",
    "anthropic_text": "anthropic",
    "azure": "azure_openai",
    "azure_ai": "azure_ai",
    "azure_text": "azure_openai",
    "bedrock": "bedrock",
    "bedrock_converse": "bedrock",
    "bedrock_mantle": "bedrock",
    "cerebras": "cerebras",
    "cloudflare": "cloudflare",
    "codestral": "mistralai",
    "cohere": "cohere",
    "cohere_chat": "cohere",
    "databricks": "databricks",
    "deepinfra": "deepinfra",
    "deepseek": "deepseek",
    "fireworks_ai": "fireworks",
    "gemini": "google_genai",
    "github": "github_models",
    "groq": "groq",
    "hosted_vllm": "vllm",
    "huggingface": "huggingface_hub",
    "hyperbolic": "hyperbolic",
    "llamafile": "llama_cpp",
    "lm_studio": "lm_studio",
    "mistral": "mistralai",
    "moonshot": "moonshot",
    "nebius": "nebius",
    "novita": "novita",
    "nvidia_nim": "nvidia",
    "ollama": "ollama",
    "ollama_chat": "ollama",
    "openrouter": "openrouter",
    "ovhcloud": "ovh",
    "perplexity": "perplexity",
    "sambanova": "sambanova",
    "scaleway": "scaleway",
    "text-completion-codestral": "mistralai",
    "together_ai": "together",
    "vertex_ai": "vertex",
    "vertex_ai_beta": "vertex",
    "vllm": "vllm",
    "xai": "xai",
    "zai": "zai",
}
"""Whom LiteLLM's provider names mean. Those of OpenAI are missing: they serve for everything compatible as well."""

_OPENAI: Final = frozenset({"openai", "text-completion-openai"})


class Served:
    """Who serves a request: known once it has been sent."""

    __slots__ = ("name", "url")

    def __init__(self) -> None:
        self.name: str | None = None
        self.url: str | None = None

    def note(self, details: Any) -> None:
        """Take it from what LiteLLM noted of the request."""
        self.name = text(details, "custom_llm_provider")
        for place in ("additional_args", "litellm_params"):
            url = field(field(details, place), "api_base")
            if url:
                self.url = str(url)
                return


def locate(request: Request) -> tuple[str, str | None]:
    served: Served = request.url
    prefix, _, rest = (request.model or "").partition("/")
    place = place_of(served.url, rest if prefix == served.name else request.model)
    if served.name in _OPENAI:
        return place.provider or ("litellm" if place.host else "openai"), place.host
    listed = provider_at(place.host.partition(":")[0]) if place.host else None
    return listed or _SERVED_BY.get(served.name or "") or "litellm", place.host


# --- which calls are requests

_DELEGATED: Final = (
    *("acompletion", "atext_completion", "aembedding", "aresponses", "aget_responses", "acancel_responses"),
)
"""Set where a function is the synchronous part of the asynchronous one that calls it."""

_MOCKED: Final = ("mock_response", "mock_tool_calls", "mock_timeout")


class LiteLLMAttempt:
    """One run of a function, which may reach a provider."""

    def __init__(self, request: Request, kwargs: Mapping[str, Any]) -> None:
        self.request = request
        self._details = getattr(kwargs.get("litellm_logging_obj"), "model_call_details", {})
        self._before = self._details.get("api_call_start_time")

    def answered(self, result: Any, reader: Reader) -> bool:
        self.request.url.note(self._details)
        if isinstance(reader, AnswerReader):
            reader.watch(field(result, "chunks"))
        return not field(field(result, "_hidden_params"), "cache_hit")

    def failed(self, _error: BaseException) -> bool:
        self.request.url.note(self._details)
        return self._details.get("api_call_start_time") is not self._before  # set anew right before a request goes out


def _recognise(endpoint: Endpoint, position: int) -> Callable[[tuple[Any, ...], Mapping[str, Any]], LiteLLMAttempt | None]:
    def begin(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> LiteLLMAttempt | None:
        if any(kwargs.get(name) for name in (*_DELEGATED, *_MOCKED)) or _only_delegates(kwargs):
            return None
        model = kwargs.get("model") or (args[position] if len(args) > position else None)
        asked = TEXT if kwargs.get("text_completion") is True else endpoint
        request = Request(asked, model if isinstance(model, str) else None, bool(kwargs.get("stream")), object, Served())
        return LiteLLMAttempt(request, kwargs)

    return begin


def _only_delegates(kwargs: Mapping[str, Any]) -> bool:
    """Whether the function only calls itself again, for one model after the other."""
    fallbacks = kwargs.get("fallbacks") or getattr(sys.modules.get("litellm"), "model_fallbacks", None)
    return bool(fallbacks or kwargs.get("model_list"))


def _targets() -> tuple[Target, ...]:
    functions = [
        ("litellm.main", "completion", CHAT, 0),
        ("litellm.main", "acompletion", CHAT, 0),
        ("litellm.main", "text_completion", TEXT, 1),
        ("litellm.main", "atext_completion", TEXT, 0),
        ("litellm.main", "embedding", EMBEDDINGS, 0),
        ("litellm.main", "aembedding", EMBEDDINGS, 0),
        ("litellm.responses.main", "responses", RESPONSES, 1),
        ("litellm.responses.main", "aresponses", RESPONSES, 1),
        ("litellm.responses.main", "get_responses", RESPONSES_POLL, 9),
        ("litellm.responses.main", "aget_responses", RESPONSES_POLL, 9),
        ("litellm.responses.main", "cancel_responses", RESPONSES_POLL, 9),
        ("litellm.responses.main", "acancel_responses", RESPONSES_POLL, 9),
    ]
    streams = [
        ("litellm.litellm_core_utils.streaming_handler", "CustomStreamWrapper"),
        ("litellm.utils", "TextCompletionStreamWrapper"),
        ("litellm.responses.streaming_iterator", "ResponsesAPIStreamingIterator"),
        ("litellm.responses.streaming_iterator", "SyncResponsesAPIStreamingIterator"),
        ("litellm.responses.streaming_iterator", "MockResponsesAPIStreamingIterator"),
        ("litellm.responses.litellm_completion_transformation.streaming_iterator", "LiteLLMCompletionStreamingIterator"),
    ]
    targets = [
        Target(
            module,
            name,
            Role.FUNCTION,
            required=module == "litellm.main",
            begin=_recognise(endpoint, position),
            cell="original_function",
        )
        for module, name, endpoint, position in functions
    ]
    for module, name in streams:
        targets += [Target(module, f"{name}.{method}", Role.ITEMS) for method in ("__next__", "__anext__")]
        targets.append(Target(module, f"{name}.aclose", Role.CLOSE))
    answers = (
        *(("litellm.types.utils", name) for name in ("ModelResponseBase", "TextCompletionResponse", "EmbeddingResponse")),
        ("litellm.types.llms.base", "BaseLiteLLMOpenAIResponseObject"),
    )
    targets += [Target(module, f"{name}.__iter__", Role.SHOW) for module, name in answers]
    for method in ("_acompletion_streaming_iterator", "_completion_streaming_iterator"):
        targets.append(Target("litellm.router", f"Router.{method}", Role.REBUILD))
    return tuple(targets)


PROVIDER: Final = Provider(
    id="litellm",
    package="litellm",
    supported=">=1.80,<2",
    targets=_targets(),
    identify=lambda _client, _args, _kwargs: None,
    locate=locate,
    claim=lambda _args, _kwargs: True,
    release=lambda _args, _kwargs: None,
    shape=lambda _result: Shape.ITEM,
    accepts=lambda _client: False,
    ask_for_usage=lambda _args, _kwargs: False,
    observe_parser=lambda _args, _kwargs, _reader: None,
)
