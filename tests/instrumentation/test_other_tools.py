"""What other tools that patch the same SDKs rely on, without the tools: those themselves run in tests/frameworks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import anthropic
import openai
import payloads
import pytest
import wrapt
from server import Server, as_json, sse

import ecoimpact
from ecoimpact import Record

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def records() -> Iterator[list[Record]]:
    records: list[Record] = []
    yield records
    ecoimpact.uninstrument()


def test_a_wrapper_put_in_before_learns_whose_method_it_is(
    server: Server, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    instances = []

    def tool(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        instances.append(instance)
        return wrapped(*args, **kwargs)

    monkeypatch.setattr(openai.OpenAI, "request", wrapt.FunctionWrapper(openai.OpenAI.request, tool))
    server.reset(as_json(payloads.chat()))
    ecoimpact.instrument("openai", exporters=[records.append])
    with openai.OpenAI(api_key="test", base_url=f"{server.url}/v1") as client:
        client.chat.completions.create(model=payloads.MODEL, **ASK)
    assert instances == [client]
    assert ecoimpact.flush(10)
    assert len(records) == 1


def test_a_tool_that_leaves_may_uncover_what_it_found(
    server: Server, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = openai.OpenAI.request

    def tool(self: Any, *args: Any, **kwargs: Any) -> Any:
        return found(self, *args, **kwargs)

    monkeypatch.setattr(openai.OpenAI, "request", tool, raising=False)
    ecoimpact.instrument("openai", exporters=[records.append])
    monkeypatch.setattr(openai.OpenAI, "request", found)
    ecoimpact.instrument("openai")  # a second call looks again
    server.reset(as_json(payloads.chat()))
    with openai.OpenAI(api_key="test", base_url=f"{server.url}/v1") as client:
        client.chat.completions.create(model=payloads.MODEL, **ASK)
    assert ecoimpact.flush(10)
    assert len(records) == 1
    ecoimpact.uninstrument()
    assert openai.OpenAI.request is found


def test_an_iterator_that_is_made_on_first_use_still_is(server: Server, records: list[Record]) -> None:
    lazy = isinstance(vars(anthropic.Stream).get("_iterator"), cached_property)
    server.reset(sse(payloads.message_events(), named=True))
    ecoimpact.instrument("anthropic", exporters=[records.append])
    made = []
    original: Any = vars(anthropic.Stream).get("_iterator")
    if lazy:

        def make(stream: Any) -> Any:
            made.append(stream)
            return original.func(stream)

        late = cached_property(make)
        late.__set_name__(anthropic.Stream, "_iterator")
        anthropic.Stream._iterator = late  # type: ignore[method-assign,assignment]
    try:
        with anthropic.Anthropic(api_key="test", base_url=server.url) as client:
            stream = client.messages.create(model=payloads.CLAUDE, max_tokens=9, stream=True, **ASK)
            assert made == []
            assert [event.type for event in stream][-1] == "message_stop"
            assert made == ([stream] if lazy else [])
    finally:
        if lazy:
            anthropic.Stream._iterator = original  # type: ignore[method-assign]
    assert ecoimpact.flush(10)
    assert [record.inference.usage.output_tokens for record in records] == [317]
