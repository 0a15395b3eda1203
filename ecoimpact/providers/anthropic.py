"""Anthropic's SDK: messages, stable and beta, on Anthropic's own platform, Bedrock, Vertex and Foundry.

Token counts: ``input_tokens`` excludes what was read from or written to the cache, ``output_tokens`` includes thinking. A
stream gives the input in ``message_start`` and a running total of the output in every ``message_delta``: the last counts.
"""

from __future__ import annotations

from typing import Any, Final

from ecoimpact.instrumentation.provider import Endpoint, Reader, count, field, length, text
from ecoimpact.providers._stainless import stainless_provider
from ecoimpact.types import Usage


class MessageReader(Reader):
    """``Message`` and the events of its stream."""

    __slots__ = ("_cache_creation_tokens", "_uncached_tokens")

    def __init__(self) -> None:
        super().__init__()
        self._uncached_tokens: int | None = None
        self._cache_creation_tokens: int | None = None

    def feed(self, item: Any) -> bool:
        kind = field(item, "type")
        if kind == "content_block_delta":
            delta = field(item, "delta")
            self.characters += length(delta, "text") or length(delta, "partial_json") or length(delta, "thinking")
            return False
        if kind == "message_start":
            self._read_message(field(item, "message"))
            self.output_tokens = None  # what the start of a stream reports is no total
        elif kind == "message_delta":
            self._read_usage(field(item, "usage"))
            self.finished = field(field(item, "delta"), "stop_reason") is not None
            return self.finished
        elif kind == "message_stop":
            self.finished = True
            return True
        elif kind == "message":
            self._read_message(item)
            self.finished = True
            if self.output_tokens is None:
                self.characters = _content_characters(item)
            return True
        return False

    def usage(self) -> Usage:
        parts = (self._uncached_tokens, self.cached_input_tokens, self._cache_creation_tokens)
        known = [part for part in parts if part is not None]
        self.input_tokens = sum(known) if self._uncached_tokens is not None else None
        return super().usage()

    def _read_message(self, message: Any) -> None:
        self.response_model = text(message, "model")
        self.response_id = text(message, "id")
        self._read_usage(field(message, "usage"))

    def _read_usage(self, usage: Any) -> None:
        output_tokens = count(usage, "output_tokens")
        # A compaction on the server's side generates tokens of its own, which the totals leave out.
        compactions = [i for i in _iterations(usage) if field(i, "type") == "compaction"]
        extra_in, extra_out = (
            sum(count(i, name) or 0 for i in compactions) for name in ("input_tokens", "output_tokens")
        )
        for attribute, value in (
            ("_uncached_tokens", count(usage, "input_tokens")),
            ("_cache_creation_tokens", count(usage, "cache_creation_input_tokens")),
            ("cached_input_tokens", count(usage, "cache_read_input_tokens")),
            ("reasoning_tokens", count(field(usage, "output_tokens_details"), "thinking_tokens")),
        ):
            if value is not None:  # a delta leaves out what did not change
                setattr(self, attribute, value + (extra_in if attribute == "_uncached_tokens" else 0))
        if output_tokens is not None:
            self.output_tokens = output_tokens + extra_out


def _iterations(usage: Any) -> list[Any]:
    iterations = field(usage, "iterations")
    return iterations if isinstance(iterations, list) else []


def _content_characters(message: Any) -> int:
    blocks = field(message, "content")
    return sum(length(block, "text") + length(block, "thinking") for block in blocks) if isinstance(blocks, list) else 0


MESSAGES: Final = Endpoint("messages", MessageReader)


def endpoint_of(method: str, path: str) -> Endpoint | None:
    return MESSAGES if method == "post" and path == "/v1/messages" else None


_HELPERS: Final = {
    f"anthropic.lib.streaming.{module}:{name}": ("get_final_message",)
    for module, names in (
        ("_messages", ("MessageStream", "AsyncMessageStream")),
        ("_beta_messages", ("BetaMessageStream", "BetaAsyncMessageStream")),
    )
    for name in names
}

PROVIDER: Final = stainless_provider(
    id="anthropic",
    package="anthropic",
    supported=">=0.49,<3",
    endpoint_of=endpoint_of,
    clients={
        "BaseBedrockClient": "bedrock",
        "BaseMantleClient": "bedrock",
        "BaseVertexClient": "vertex",
        "BaseGoogleCloudClient": "vertex",
        "BaseFoundryClient": "azure_ai",
    },
    helpers=_HELPERS,
    rebuilds=("anthropic.lib.threads._beta_threads:BaseMessageThread._parse_reply",),
)
