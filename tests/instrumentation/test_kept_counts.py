"""What a program does to an answer's usage, once it has it, changes no record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import openai
import payloads
import pytest
from server import Server, as_json, sse

import ecoimpact
from ecoimpact import Record

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}


def chat(url: str) -> Any:
    with openai.OpenAI(api_key="test", base_url=f"{url}/v1") as client:
        return client.chat.completions.create(model=payloads.MODEL, **ASK)


def chat_stream(url: str) -> Any:
    options: Any = {"include_usage": True}
    with openai.OpenAI(api_key="test", base_url=f"{url}/v1") as client:
        return [*client.chat.completions.create(model=payloads.MODEL, stream=True, stream_options=options, **ASK)][-1]


def response(url: str) -> Any:
    with openai.OpenAI(api_key="test", base_url=f"{url}/v1") as client:
        return client.responses.create(model=payloads.MODEL, input="Hello")


def message(url: str) -> Any:
    with anthropic.Anthropic(api_key="test", base_url=url) as client:
        return client.messages.create(model=payloads.CLAUDE, max_tokens=9, **ASK)


@pytest.mark.parametrize(
    ("ask", "reply", "expected"),
    [
        (chat, lambda: as_json(payloads.chat()), (23, 503, 441)),
        (chat_stream, lambda: sse(payloads.chat_chunks(usage=True), done=True), (23, 503, 441)),
        (response, lambda: as_json(payloads.response()), (31, 87, 64)),
        (message, lambda: as_json(payloads.message()), (2065, 317, 200)),
    ],
    ids=["chat", "chat stream", "response", "message"],
)
def test_counts_are_those_that_came(
    server: Server, ask: Callable[[str], Any], reply: Callable[[], Any], expected: tuple[int, ...]
) -> None:
    server.reset(reply())
    records: list[Record] = []
    ecoimpact.instrument(exporters=[records.append])
    try:
        double(ask(server.url).usage)  # at once: the record is made of what was kept
        assert ecoimpact.flush(10)
    finally:
        ecoimpact.uninstrument()
    (record,) = records
    usage = record.inference.usage
    assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens) == expected


def double(usage: Any) -> None:
    """Add to the counts in place, as Instructor does to those of a repeated request."""
    for name, value in list(vars(usage).items()):
        if isinstance(value, int):
            setattr(usage, name, 2 * value)
        elif hasattr(value, "model_fields_set"):
            double(value)


@pytest.mark.parametrize(
    ("ask", "body", "kind"),
    [(chat, payloads.chat(), openai.BaseModel), (message, payloads.message(), anthropic.BaseModel)],
    ids=["openai", "anthropic"],
)
def test_a_dict_of_an_answer_is_as_it_was(server: Server, ask: Callable[[str], Any], body: Any, kind: type) -> None:
    """Frameworks make one, and JSON of it."""
    server.reset(as_json(body))
    bare = dict(ask(server.url))
    ecoimpact.instrument("openai", "anthropic")
    try:
        answer = ask(server.url)
        assert isinstance(answer.impacts, ecoimpact.Impacts)
        assert dict(answer) == bare
    finally:
        ecoimpact.uninstrument()
    assert "__iter__" not in vars(kind)
