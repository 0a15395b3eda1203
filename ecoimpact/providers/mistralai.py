"""Mistral's SDK: chat, agents, fill-in-the-middle, responses and conversations, on Mistral's own platform, Azure and GCP.

Token counts: ``completion_tokens`` includes what a model thinks, and comes with the last chunk of a stream. Conversations
run on Mistral's servers: each start, append and restart is one request here, however many steps it takes there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ecoimpact.instrumentation.provider import Endpoint, Reader, count, field, length, text, tier
from ecoimpact.providers._methods import Call, Server, instance_of, method_provider
from ecoimpact.providers.openai import ChatReader, ResponseReader
from ecoimpact.types import Usage


class MistralChatReader(ChatReader):
    """``ChatCompletionResponse``, and the ``CompletionEvent`` around each chunk of a stream."""

    def feed(self, item: Any) -> bool:
        try:  # what nearly all items are, read without a detour: a chunk with text
            fields = item.__dict__["data"].__dict__
            if fields["usage"] is None and self.characters:
                (choice,) = fields["choices"]
                content = choice.__dict__["delta"].__dict__["content"]
                if content.__class__ is str and content and choice.__dict__["finish_reason"] is None:
                    self.characters += len(content)
                    return False
        except (AttributeError, KeyError, TypeError, ValueError):
            pass
        chunk = field(item, "data")
        item = item if chunk is None else chunk
        final = self._feed(item)
        usage = field(item, "usage")
        if usage is not None and _sent(usage) is None:
            self._usage = None
        if self._usage is None:  # content may also be a list of parts, thinking among them
            for choice in _listed(item, "choices"):
                self.characters += _parts(field(choice, "delta") or field(choice, "message"))
        return final

    def counts(self) -> Usage:
        return replace(super().counts(), service_tier=tier(field(self._usage, "service_tier")))


def _sent(usage: Any) -> Any:
    """The usage, unless the SDK filled its counts with zeros because none came."""
    return usage if "completion_tokens" in getattr(usage, "model_fields_set", ("completion_tokens",)) else None


def _listed(item: Any, name: str) -> list[Any]:
    value = field(item, name)
    return value if isinstance(value, list) else []


def _parts(message: Any) -> int:
    parts = _listed(message, "content")
    return sum(
        length(part, "text") + sum(length(thought, "text") for thought in _listed(part, "thinking")) for part in parts
    )


class MistralResponseReader(ResponseReader):
    """``CreateResponseResponse``, and the frame around each event of a stream."""

    def feed(self, item: Any) -> bool:
        event = field(item, "data")
        return super().feed(item if event is None else event)


class ConversationReader(Reader):
    """``ConversationResponse``, and the ``ConversationEvents`` of a stream."""

    _usage: Any = None

    def feed(self, item: Any) -> bool:
        event = field(item, "data")
        item = item if event is None else event
        self._usage = _sent(field(item, "usage")) or self._usage
        for entry in (item, *_listed(item, "outputs")):
            self.response_model = text(entry, "model") or self.response_model
            self.characters += sum(length(entry, name) for name in ("content", "name", "arguments")) + _parts(entry)
        self.finished = self._usage is not None
        return self.finished

    def counts(self) -> Usage:
        return Usage(
            input_tokens=count(self._usage, "prompt_tokens"), output_tokens=count(self._usage, "completion_tokens")
        )


CHAT: Final = Endpoint("chat.completions", MistralChatReader)
AGENTS: Final = Endpoint("agents.completions", MistralChatReader)
FIM: Final = Endpoint("fim.completions", MistralChatReader)
RESPONSES: Final = Endpoint("responses", MistralResponseReader)
CONVERSATIONS: Final = Endpoint("conversations", ConversationReader)

_STREAM = "generator"


def _calls() -> list[Call]:
    calls = []
    for place, endpoint in (
        ("mistralai.client.chat:Chat", CHAT),
        ("mistralai.client.agents:Agents", AGENTS),
        ("mistralai.client.fim:Fim", FIM),
        ("mistralai.azure.client.chat:Chat", CHAT),
        ("mistralai.gcp.client.chat:Chat", CHAT),
        ("mistralai.gcp.client.fim:Fim", FIM),
    ):
        for direction in ("", "_async"):
            required = place.startswith("mistralai.client.chat")
            calls.append(Call(f"{place}.complete{direction}", endpoint, required=required))
            calls.append(Call(f"{place}.stream{direction}", endpoint, stream=True, inside=_STREAM, required=required))
    for method in ("start", "append", "restart"):
        place = f"mistralai.client.conversations:Conversations.{method}"
        calls += [Call(f"{place}{direction}", CONVERSATIONS) for direction in ("", "_async")]
        calls += [Call(f"{place}_stream{direction}", CONVERSATIONS, True, _STREAM) for direction in ("", "_async")]
    place = "mistralai.client.responses:Responses.create"
    return [*calls, *(Call(f"{place}{direction}", RESPONSES, None, _STREAM) for direction in ("", "_async"))]


_CLOUDS: Final = {"mistralai.azure": "azure_ai", "mistralai.gcp": "vertex"}


def server_of(client: Any, kwargs: Mapping[str, Any]) -> Server:
    cloud = _CLOUDS.get(".".join(type(client).__module__.split(".")[:2]))
    return Server(cloud, kwargs.get("server_url") or client.sdk_configuration.get_server_details()[0])


PROVIDER: Final = method_provider(
    id="mistralai",
    package="mistralai",
    supported=">=2,<4",
    calls=_calls(),
    closes=[
        f"mistralai.{cloud}client.utils.eventstreaming:{stream}.{method}"
        for cloud in ("", "azure.", "gcp.")
        for stream, leaves in (("EventStream", "__exit__"), ("EventStreamAsync", "__aexit__"))
        for method in ("close", leaves)
    ],
    shows=[f"mistralai.{part}client.types.basemodel:BaseModel.__iter__" for part in ("", "azure.", "gcp.")],
    rebuilds=["mistralai.client.chat:convert_to_parsed_chat_completion_response"],
    server_of=server_of,
    anchor=lambda client: client.sdk_configuration,
    accepts=instance_of(
        "mistralai.client.sdk:Mistral", "mistralai.azure.client.sdk:MistralAzure", "mistralai.gcp.client.sdk:MistralGCP"
    ),
    sending=["do_request", "do_request_async", "unmarshal_json_response"],
)
