"""OpenAI's SDK, and every OpenAI-compatible endpoint reached through it: chat completions and responses.

Token counts: ``completion_tokens`` and ``output_tokens`` include reasoning tokens. A chat stream sends usage in an extra
last chunk, only when asked; a response's stream in its last event.
"""

from __future__ import annotations

from typing import Any, Final

from ecoimpact.instrumentation.provider import Endpoint, Reader, count, field, length, text
from ecoimpact.providers._stainless import stainless_provider


class ChatReader(Reader):
    """``ChatCompletion`` and ``ChatCompletionChunk``."""

    __slots__ = ()

    def feed(self, item: Any) -> bool:
        if self.response_model is None:
            self.response_model = text(item, "model")
            self.response_id = text(item, "id")
        usage = field(item, "usage")
        if usage is not None:
            self._read_usage(usage)
        final = usage is not None
        choices = field(item, "choices")
        for choice in choices if isinstance(choices, list) else ():
            message = field(choice, "delta") or field(choice, "message")
            self.characters += length(message, "content")
            if field(message, "content") is None:
                self.characters += _other_characters(message)
            if field(choice, "finish_reason") is not None:
                self.finished = final = True
        return final

    def is_usage_only(self, item: Any) -> bool:
        return field(item, "usage") is not None and not field(item, "choices")

    def _read_usage(self, usage: Any) -> None:
        self.input_tokens = count(usage, "prompt_tokens")
        self.output_tokens = count(usage, "completion_tokens")
        self.cached_input_tokens = count(field(usage, "prompt_tokens_details"), "cached_tokens")
        self.reasoning_tokens = count(field(usage, "completion_tokens_details"), "reasoning_tokens")


def _other_characters(message: Any) -> int:
    """What a message generates besides its content: refusals, reasoning (as others spell it), tool calls."""
    characters = length(message, "refusal") + length(message, "reasoning_content") + length(message, "reasoning")
    calls = field(message, "tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = field(call, "function")
        characters += length(function, "name") + length(function, "arguments")
    return characters


class ResponseReader(Reader):
    """``Response`` and the events of its stream."""

    __slots__ = ()

    def feed(self, item: Any) -> bool:
        response = field(item, "response")
        if response is not None:  # response.created ... response.completed | incomplete | failed
            return self._read(response)
        if field(item, "object") == "response":
            return self._read(item)
        self.characters += length(item, "delta")
        return False

    def _read(self, response: Any) -> bool:
        self.response_model = text(response, "model") or self.response_model
        self.response_id = text(response, "id") or self.response_id
        status = field(response, "status")
        self.background = field(response, "background") is True
        self.pending = self.background and status in ("queued", "in_progress")
        self.finished = status not in ("queued", "in_progress")
        usage = field(response, "usage")
        if usage is not None:
            self.input_tokens = count(usage, "input_tokens")
            self.output_tokens = count(usage, "output_tokens")
            self.cached_input_tokens = count(field(usage, "input_tokens_details"), "cached_tokens")
            self.reasoning_tokens = count(field(usage, "output_tokens_details"), "reasoning_tokens")
        elif self.finished and not self.characters:
            self.characters = _output_characters(response)
        return self.finished


def _output_characters(response: Any) -> int:
    characters = 0
    output = field(response, "output")
    for item in output if isinstance(output, list) else ():
        characters += length(item, "arguments")
        parts = field(item, "content")
        characters += sum(length(part, "text") for part in parts if part is not None) if isinstance(parts, list) else 0
    return characters


CHAT: Final = Endpoint("chat.completions", ChatReader)
RESPONSES: Final = Endpoint("responses", ResponseReader)
RESPONSES_POLL: Final = Endpoint("responses", ResponseReader, polls=True)


def endpoint_of(method: str, path: str) -> Endpoint | None:
    if method == "post":
        if path in ("/chat/completions", "/responses"):
            return CHAT if path == "/chat/completions" else RESPONSES
        if path == "/responses/compact":
            return RESPONSES
    parts = path.strip("/").split("/")
    if parts[0] != "responses" or len(parts) < 2:
        return None
    fetched, cancelled = method == "get" and len(parts) == 2, method == "post" and parts[2:] == ["cancel"]
    return RESPONSES_POLL if fetched or cancelled else None


PROVIDER: Final = stainless_provider(
    id="openai",
    package="openai",
    supported=">=1.66,<4",
    endpoint_of=endpoint_of,
    clients={
        "AzureOpenAI": "azure_openai",
        "AsyncAzureOpenAI": "azure_openai",
        "BedrockOpenAI": "bedrock",
        "AsyncBedrockOpenAI": "bedrock",
    },
    helpers={
        "openai.lib.streaming.chat._completions:ChatCompletionStream": ("get_final_completion",),
        "openai.lib.streaming.chat._completions:AsyncChatCompletionStream": ("get_final_completion",),
        "openai.lib.streaming.responses._responses:ResponseStream": ("get_final_response",),
        "openai.lib.streaming.responses._responses:AsyncResponseStream": ("get_final_response",),
    },
    asks_for_usage=CHAT,
)
