"""Ollama's SDK: chat and generate, plain and streamed, on one's own machine or in Ollama's cloud.

All of its methods, and the module's functions bound when it was imported, go through ``_request``: it is watched there.

Token counts: ``eval_count`` includes what a model thinks; a stream brings it in its last item.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ecoimpact.instrumentation.provider import Endpoint, Reader, count, field, length, text
from ecoimpact.providers._methods import Call, Server, instance_of, method_provider
from ecoimpact.types import Usage


class AnswerReader(Reader):
    """``ChatResponse`` and ``GenerateResponse``: an answer, or a part of one."""

    _input_tokens: int | None = None
    _output_tokens: int | None = None

    def feed(self, item: Any) -> bool:
        try:  # what nearly all items are, read without a detour: a part of an answer, with text
            fields = item.__dict__
            if not fields["done"]:
                message = fields["message"].__dict__
                if message["thinking"] is None and message["tool_calls"] is None:
                    self.characters += len(message["content"])
                    return False
        except (AttributeError, KeyError, TypeError):
            pass
        return self._feed(item)

    def _feed(self, item: Any) -> bool:
        if field(item, "done") is True:
            self.finished = True
            self.response_model = text(item, "model")
            self._input_tokens, self._output_tokens = count(item, "prompt_eval_count"), count(item, "eval_count")
            if self._output_tokens is not None:
                return True
        message = field(item, "message")
        self.characters += length(item, "response") + length(item, "thinking")
        self.characters += length(message, "content") + length(message, "thinking")
        calls = field(message, "tool_calls")
        for call in calls if isinstance(calls, list) else ():
            called = field(call, "function")
            self.characters += length(called, "name") + len(str(field(called, "arguments") or ""))
        return self.finished

    def counts(self) -> Usage:
        return Usage(input_tokens=self._input_tokens, output_tokens=self._output_tokens)


_ENDPOINTS: Final = {"/api/chat": Endpoint("chat", AnswerReader), "/api/generate": Endpoint("generate", AnswerReader)}


def endpoint_of(args: tuple[Any, ...], _kwargs: Mapping[str, Any]) -> Endpoint | None:
    _kind, _method, path = args
    return _ENDPOINTS.get(path)


def model_of(_client: Any, _args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return kwargs["json"].get("model")


PROVIDER: Final = method_provider(
    id="ollama",
    package="ollama",
    supported=">=0.4.7,<1",
    calls=[
        Call(f"ollama._client:{client}._request", endpoint_of, stream=None, lazy=True, required=True)
        for client in ("Client", "AsyncClient")
    ],
    model_of=model_of,
    server_of=lambda client, _kwargs: Server(None, client._client.base_url),
    accepts=instance_of("ollama._client:Client", "ollama._client:AsyncClient"),
    shows=["ollama._types:SubscriptableBaseModel.__iter__"],
    sending=["_request", "inner"],
)
