"""Cohere's SDK: chat of its APIs v1 and v2, and the older ``generate``, plain and streamed.

Clients keep bound methods of their own, made when they were; what all of them call is the raw client below, which is also
what ``with_raw_response`` gives. It is watched there.

Token counts: ``tokens`` are what the model read and wrote; ``billed_units`` leave some of it out, and stand in where there
is nothing else. A stream brings them in its last event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ecoimpact.instrumentation.provider import Endpoint, Reader, count, field, length, text
from ecoimpact.providers._methods import Call, Server, instance_of, method_provider
from ecoimpact.types import Usage


class ChatReader(Reader):
    """``V2ChatResponse``, ``NonStreamedChatResponse``, ``Generation``, and the events of their streams."""

    _usage: Any = None

    def feed(self, item: Any) -> bool:
        try:  # what nearly all items are, read without a detour: an event with text
            fields = item.__dict__
            if fields["type"] == "content-delta":
                content = fields["delta"].__dict__["message"].__dict__["content"]
                self.characters += len(content.__dict__["text"])
                return False
        except (AttributeError, KeyError, TypeError):
            pass
        return self._feed(item)

    def _feed(self, item: Any) -> bool:
        delta = field(item, "delta")
        answer = field(item, "response") or item  # what the last event of a v1 stream holds
        self.response_id = text(answer, "id") or text(answer, "generation_id") or self.response_id
        usage = field(answer, "usage") or field(delta, "usage") or field(answer, "meta")
        if usage is not None:
            self._usage = usage
        if answer is item or not self.characters:
            self.characters += _characters(answer) + _characters(field(delta or answer, "message"))
            for generation in _listed(field(answer, "generations")):
                self.characters += length(generation, "text")
        kind = field(item, "type") or field(item, "event_type")
        if kind in _LAST or (kind is None and delta is None):  # an answer is no event
            self.finished = True
        return self.finished

    def counts(self) -> Usage:
        tokens, billed = field(self._usage, "tokens"), field(self._usage, "billed_units")
        given, generated = count(tokens, "input_tokens"), count(tokens, "output_tokens")
        return Usage(
            input_tokens=count(billed, "input_tokens") if given is None else given,
            output_tokens=count(billed, "output_tokens") if generated is None else generated,
            cached_input_tokens=count(self._usage, "cached_tokens"),
        )


_LAST: Final = ("message-end", "stream-end")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _characters(message: Any) -> int:
    """What a message, or a part of one, generates: content, the plan for its tools, and their calls."""
    characters = length(message, "text") + length(message, "tool_plan") + length(message, "content")
    for part in _listed(field(message, "content")):
        characters += length(part, "text") + length(part, "thinking")
    for call in _listed(field(message, "tool_calls")):
        called = field(call, "function")
        characters += length(called, "name") + length(called, "arguments")
    return characters


CHAT: Final = Endpoint("chat", ChatReader)
GENERATE: Final = Endpoint("generate", ChatReader)


def server_of(client: Any, _kwargs: Mapping[str, Any]) -> Server:
    return Server(None, client._client_wrapper.get_base_url())


_CHAT: Final = (("chat", CHAT, False), ("chat_stream", CHAT, True))
_GENERATE: Final = (("generate", GENERATE, False), ("generate_stream", GENERATE, True))

PROVIDER: Final = method_provider(
    id="cohere",
    package="cohere",
    supported=">=5.16,<8",
    calls=[
        Call(
            f"{module}:{prefix}{name}.{method}",
            endpoint,
            stream=stream,
            inside="_data",
            lazy=stream,
            required=endpoint is CHAT,
        )
        for module, name, methods in (
            ("cohere.v2.raw_client", "RawV2Client", _CHAT),
            ("cohere.raw_base_client", "RawBaseCohere", (*_CHAT, *_GENERATE)),
        )
        for prefix in ("", "Async")
        for method, endpoint, stream in methods
    ],
    server_of=server_of,
    anchor=lambda client: client._client_wrapper,
    accepts=instance_of(
        *(f"cohere.{place}" for place in ("base_client:BaseCohere", "base_client:AsyncBaseCohere")),
        *(f"cohere.v2.client:{name}" for name in ("V2Client", "AsyncV2Client")),
    ),
    shows=["cohere.core.unchecked_base_model:UncheckedBaseModel.__iter__"],
    sending=["request", "stream"],
)
