"""Anthropic's SDK: messages, stable and beta, on Anthropic's own platform, Bedrock, Vertex and Foundry.

Token counts: ``input_tokens`` excludes what was read from or written to the cache, ``output_tokens`` includes thinking. A
stream gives the input in ``message_start`` and a running total of the output in every ``message_delta``: the last counts.
"""

from __future__ import annotations

from typing import Any, Final

from ecoimpact.instrumentation.provider import Endpoint, Reader, count, field, kept, length, present, text, tier
from ecoimpact.providers._stainless import stainless_provider
from ecoimpact.types import Usage


class MessageReader(Reader):
    """``Message`` and the events of its stream."""

    _start_usage: Any = None  # of message_start: the input; its output count is no total
    _usage: Any = None  # of a plain message, or of the last message_delta: running totals

    def feed(self, item: Any) -> bool:
        # The two items that nearly all are, read without a detour: an event with text, and a plain answer with its counts.
        try:
            fields = item.__dict__
            kind = fields["type"]
            if kind == "content_block_delta":
                self.characters += len(fields["delta"].__dict__["text"])
                return False
            if kind == "message" and count(fields["usage"], "output_tokens") is not None:
                self._usage, self.finished = kept(fields["usage"]), True
                self._identify(item)
                return True
        except (AttributeError, KeyError, TypeError):
            pass  # anything else
        return self._feed(item)

    def _feed(self, item: Any) -> bool:
        kind = field(item, "type")
        if kind == "content_block_delta":
            delta = field(item, "delta")
            self.characters += length(delta, "text") or length(delta, "partial_json") or length(delta, "thinking")
            return False
        if kind == "message_delta":
            self._usage = kept(field(item, "usage")) or self._usage
            self.finished = field(field(item, "delta"), "stop_reason") is not None
            return self.finished
        if kind == "message_start":
            message = field(item, "message")
            self._start_usage = kept(field(message, "usage"))
            self._identify(message)
            return False
        if kind == "message":
            self._usage = kept(field(item, "usage"))
            self._identify(item)
            self.finished = True
            if count(self._usage, "output_tokens") is None:
                self.characters = _content_characters(item)
            return True
        if kind == "message_stop":
            self.finished = True
        return self.finished

    def _identify(self, message: Any) -> None:
        self.response_model = text(message, "model")
        self.response_id = text(message, "id")

    def counts(self) -> Usage:
        # A compaction on the server's side generates tokens of its own, which the totals leave out.
        compactions = [i for i in _iterations(self._usage) if field(i, "type") == "compaction"]
        extra_in, extra_out = (sum(count(i, name) or 0 for i in compactions) for name in ("input_tokens", "output_tokens"))
        uncached, cached = self._latest("input_tokens"), self._latest("cache_read_input_tokens")
        written = self._latest("cache_creation_input_tokens")
        output_tokens = count(self._usage, "output_tokens")
        return Usage(
            input_tokens=None if uncached is None else uncached + (cached or 0) + (written or 0) + extra_in,
            output_tokens=None if output_tokens is None else output_tokens + extra_out,
            cached_input_tokens=cached,
            reasoning_tokens=self._latest("thinking_tokens", "output_tokens_details"),
            cache_write_tokens=written,
            service_tier=self._tier("service_tier") or self._tier("speed"),
            priced_apart=present(
                cache_write_1h_tokens=self._latest("ephemeral_1h_input_tokens", "cache_creation"),
                web_searches=self._latest("web_search_requests", "server_tool_use"),
            ),
            region=text(self._usage, "inference_geo") or text(self._start_usage, "inference_geo"),
        )

    def _tier(self, name: str) -> str | None:
        return tier(field(self._usage, name)) or tier(field(self._start_usage, name))

    def _latest(self, name: str, inside: str | None = None) -> int | None:
        """A count from the last usage that has it: a delta leaves out what did not change."""
        for usage in (self._usage, self._start_usage):
            value = count(field(usage, inside) if inside else usage, name)
            if value is not None:
                return value
        return None


def _iterations(usage: Any) -> list[Any]:
    iterations = field(usage, "iterations")
    return iterations if isinstance(iterations, list) else []


def _content_characters(message: Any) -> int:
    blocks = field(message, "content")
    return sum(length(block, "text") + length(block, "thinking") for block in blocks) if isinstance(blocks, list) else 0


MESSAGES: Final = Endpoint("messages", MessageReader)


def endpoint_of(method: str, path: str) -> Endpoint | None:
    return MESSAGES if method == "post" and path in ("/v1/messages", "/v1/messages?beta=true") else None


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
