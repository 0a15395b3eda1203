"""OpenAI's SDK, and every compatible endpoint reached through it: chat completions, responses, completions, embeddings.

Token counts: ``completion_tokens`` and ``output_tokens`` include reasoning tokens. A chat stream sends usage in an extra
last chunk, only when asked; a response's stream in its last event.
"""

from __future__ import annotations

from typing import Any, Final

from ecoimpact.instrumentation.provider import Endpoint, Reader, count, field, kept, length, present, text, tier
from ecoimpact.providers._stainless import stainless_provider
from ecoimpact.types import Usage


class ChatReader(Reader):
    """``ChatCompletion`` and ``ChatCompletionChunk``."""

    _usage: Any = None
    _tier: Any = None

    def feed(self, item: Any) -> bool:
        # The two items that nearly all are, read without a detour: a chunk with text, and a plain answer with its counts.
        try:
            fields = item.__dict__
            usage = fields["usage"]
            if usage is None and self.characters:
                (choice,) = fields["choices"]
                content = choice.__dict__["delta"].__dict__["content"]
                if content and content.__class__ is str and choice.__dict__["finish_reason"] is None:
                    self.characters += len(content)
                    return False
            elif fields["object"] == "chat.completion" and count(usage, "completion_tokens") is not None:
                self.response_model, self.response_id = text(item, "model"), text(item, "id")
                self._usage, self._tier, self.finished = kept(usage), fields.get("service_tier"), True
                return True
        except (AttributeError, KeyError, TypeError, ValueError):
            pass  # anything else
        return self._feed(item)

    def _feed(self, item: Any) -> bool:
        if self.response_model is None:
            self.response_model = text(item, "model")
            self.response_id = text(item, "id")
        final = False
        usage = field(item, "usage")
        if usage is not None:
            self._usage = kept(usage)
            self._tier = field(item, "service_tier")
            final = True
        choices = field(item, "choices")
        for choice in choices if isinstance(choices, list) else ():
            if not self.finished:
                message = field(choice, "delta") or field(choice, "message")
                self.characters += _characters(message)
            if field(choice, "finish_reason") is not None:
                self.finished = final = True
        return final

    def is_usage_only(self, item: Any) -> bool:
        return field(item, "usage") is not None and not field(item, "choices")

    def counts(self) -> Usage:
        return _counts(self._usage, "prompt", "completion", self._tier)


def _counts(usage: Any, input_name: str, output_name: str, service_tier: Any) -> Usage:
    """The counts of both APIs, which differ in what they call the two directions."""
    input_details, output_details = (field(usage, f"{name}_tokens_details") for name in (input_name, output_name))
    return Usage(
        input_tokens=count(usage, f"{input_name}_tokens"),
        output_tokens=count(usage, f"{output_name}_tokens"),
        cached_input_tokens=count(input_details, "cached_tokens"),
        reasoning_tokens=count(output_details, "reasoning_tokens"),
        cache_write_tokens=count(input_details, "cache_write_tokens"),
        service_tier=tier(service_tier),
        priced_apart=present(
            input_audio_tokens=count(input_details, "audio_tokens"),
            output_audio_tokens=count(output_details, "audio_tokens"),
        ),
    )


def _characters(message: Any) -> int:
    """What a message, or a part of one, generates: content, refusal, reasoning (as others spell it), tool calls."""
    characters = sum(length(message, name) for name in ("content", "refusal", "reasoning_content", "reasoning"))
    calls = field(message, "tool_calls")
    for call in calls if isinstance(calls, list) else ():
        for kind, text_name in (("function", "arguments"), ("custom", "input")):
            called = field(call, kind)
            characters += length(called, "name") + length(called, text_name)
    return characters


class ResponseReader(Reader):
    """``Response`` and the events of its stream."""

    _usage: Any = None
    _tier: Any = None

    def feed(self, item: Any) -> bool:
        delta = field(item, "delta")
        if isinstance(delta, str):
            self.characters += len(delta)
            return False
        response = field(item, "response")
        if response is not None:  # response.created ... response.completed | incomplete | failed
            return self._read(response)
        if field(item, "object") == "response":
            return self._read(item)
        return False

    def _read(self, response: Any) -> bool:
        self.response_model = text(response, "model") or self.response_model
        self.response_id = text(response, "id") or self.response_id
        status = field(response, "status")
        self.background = field(response, "background") is True
        self.finished = status not in ("queued", "in_progress")
        self.pending = self.background and not self.finished
        self._usage = kept(field(response, "usage"))
        self._tier = field(response, "service_tier")
        if self.finished and not self.characters and count(self._usage, "output_tokens") is None:
            self.characters = _output_characters(response)
        return self.finished

    def counts(self) -> Usage:
        return _counts(self._usage, "input", "output", self._tier)


def _output_characters(response: Any) -> int:
    characters = 0
    output = field(response, "output")
    for item in output if isinstance(output, list) else ():
        characters += length(item, "arguments")
        parts = field(item, "content")
        characters += sum(length(part, "text") for part in parts if part is not None) if isinstance(parts, list) else 0
    return characters


class CompletionReader(ChatReader):
    """``Completion``, plain and as a part of a stream: the text lies in the choice itself."""

    def _feed(self, item: Any) -> bool:
        choices = field(item, "choices")
        self.characters += sum(length(choice, "text") for choice in choices) if isinstance(choices, list) else 0
        return super()._feed(item)


class EmbeddingReader(Reader):
    """``CreateEmbeddingResponse``: the input was read, and nothing generated."""

    _usage: Any = None

    def feed(self, item: Any) -> bool:
        self.response_model = text(item, "model")
        self._usage = kept(field(item, "usage"))
        self.finished = True
        return True

    def counts(self) -> Usage:
        return Usage(input_tokens=count(self._usage, "prompt_tokens"), output_tokens=0, generates=False)


CHAT: Final = Endpoint("chat.completions", ChatReader)
COMPLETIONS: Final = Endpoint("completions", CompletionReader)
EMBEDDINGS: Final = Endpoint("embeddings", EmbeddingReader)
RESPONSES: Final = Endpoint("responses", ResponseReader)
RESPONSES_POLL: Final = Endpoint("responses", ResponseReader, polls=True)


_POSTED: Final = {
    "/chat/completions": CHAT,
    "/completions": COMPLETIONS,
    "/embeddings": EMBEDDINGS,
    "/responses": RESPONSES,
    "/responses?beta=true": RESPONSES,
    "/responses/compact": RESPONSES,
    "/responses/compact?beta=true": RESPONSES,
}


def endpoint_of(method: str, path: str) -> Endpoint | None:
    if method == "post" and (endpoint := _POSTED.get(path)) is not None:
        return endpoint
    if not path.startswith("/responses/"):
        return None
    _, *rest = path.partition("?")[0].strip("/").split("/")
    fetched, cancelled = method == "get" and len(rest) == 1, method == "post" and rest[1:] == ["cancel"]
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
    asks_for_usage=(CHAT, COMPLETIONS),
)
