"""Google's SDK: ``generate_content``, plain and streamed, and the chats on top, on the Gemini API and on Vertex AI.

The two private methods that are watched make one request each. Automatic function calling and continuations go through them
request by request, and every one counts; the answer that the program gets reports the last one's usage alone.

Token counts: ``candidates_token_count`` excludes what a model thinks, which ``thoughts_token_count`` has. Every chunk of a
stream brings running totals: the last counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from ecoimpact.instrumentation.provider import Endpoint, Reader, count, field, length, present, text
from ecoimpact.providers._methods import Call, Server, instance_of, method_provider
from ecoimpact.types import Usage


class ContentReader(Reader):
    """``GenerateContentResponse``: an answer, or a chunk of one."""

    def __init__(self) -> None:
        self._usage: dict[str, Any] = {}

    def feed(self, item: Any) -> bool:
        candidates, usage = field(item, "candidates"), field(item, "usage_metadata")
        if candidates is None and usage is None:
            item = _unparsed(item)
            candidates, usage = field(item, "candidates"), field(item, "usageMetadata")
        self.response_model = text(item, "model_version") or text(item, "modelVersion") or self.response_model
        self.response_id = text(item, "response_id") or text(item, "responseId") or self.response_id
        totals = usage if isinstance(usage, dict) else getattr(usage, "__dict__", {})
        for name, value in totals.items():
            if value is not None:
                self._usage[name] = value
        for candidate in candidates if isinstance(candidates, list) else ():
            parts = field(field(candidate, "content"), "parts")
            self.characters += sum(map(_characters, parts)) if isinstance(parts, list) else 0
            if field(candidate, "finish_reason") is not None or field(candidate, "finishReason") is not None:
                self.finished = True
        return self.finished

    def counts(self) -> Usage:
        given, tools = self._count("prompt_token_count"), self._count("tool_use_prompt_token_count")
        shown, thought = self._count("candidates_token_count"), self._count("thoughts_token_count")
        return Usage(
            input_tokens=None if given is None else given + (tools or 0),
            output_tokens=None if shown is None and thought is None else (shown or 0) + (thought or 0),
            cached_input_tokens=self._count("cached_content_token_count"),
            reasoning_tokens=thought,
            priced_apart=present(
                input_audio_tokens=self._audio("prompt_tokens_details"),
                output_audio_tokens=self._audio("candidates_tokens_details"),
            ),
        )

    def _count(self, name: str) -> int | None:
        number: int | None = _spelt(self._usage, name, count)
        return number

    def _audio(self, name: str) -> int | None:
        details = _spelt(self._usage, name, field)
        for detail in details if isinstance(details, list) else ():
            if field(detail, "modality") == "AUDIO":
                number: int | None = _spelt(detail, "token_count", count)
                return number
        return None


def _spelt(item: Any, name: str, read: Callable[[Any, str], Any]) -> Any:
    """A field by the SDK's name, or by the API's own: ``prompt_token_count`` is ``promptTokenCount`` there."""
    value = read(item, name)
    if value is None:
        first, *others = name.split("_")
        value = read(item, first + "".join(map(str.capitalize, others)))
    return value


def _characters(part: Any) -> int:
    called = field(part, "function_call") or field(part, "functionCall")
    arguments = field(called, "args")
    return length(part, "text") + length(called, "name") + (len(str(arguments)) if arguments else 0)


def _unparsed(item: Any) -> Any:
    """The answer inside the HTTP response, where the program asked for nothing but that."""
    body = text(field(item, "sdk_http_response"), "body")
    try:
        return json.loads(body) if body else item
    except ValueError:
        return item


CONTENT: Final = Endpoint("generate_content", ContentReader)


def server_of(client: Any, _kwargs: Mapping[str, Any]) -> Server:
    api = client._api_client
    return Server("vertex" if api.vertexai else None, field(api._http_options, "base_url"))


PROVIDER: Final = method_provider(
    id="google_genai",
    package="google",  # of which "google.genai" is a part: that name cannot be looked up where there is no "google" at all
    supported=">=1.10,<4",
    distribution="google-genai",
    calls=[
        Call(f"google.genai.models:{models}.{method}", CONTENT, stream=stream, required=True)
        for models in ("Models", "AsyncModels")
        for method, stream in (("_generate_content", False), ("_generate_content_stream", True))
    ],
    server_of=server_of,
    anchor=lambda client: client._api_client,
    accepts=instance_of("google.genai.client:Client", "google.genai.client:AsyncClient"),
    shows=["google.genai._common:BaseModel.__iter__"],
    sending=[
        *("request", "async_request", "request_streamed", "async_request_streamed", "_from_response"),
        *("_GenerateContentResponse_from_mldev", "_GenerateContentResponse_from_vertex"),
    ],
)
