"""A library whose functions ask other SDKs: the outermost layer of ours has the request. LiteLLM has tests of its own."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import payloads as p
import pytest
from server import Server, as_json, sse

import ecoimpact
from ecoimpact import Record
from ecoimpact.instrumentation.layers import LAYER, Layer
from ecoimpact.instrumentation.patch import Patcher
from ecoimpact.instrumentation.provider import Provider, Reader, Request, Role, Shape, Target
from ecoimpact.providers.openai import CHAT
from ecoimpact.runtime import _runtime

LIBRARY = '''
import functools


def again(function):
    """Tries a second time what failed once."""
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except KeyError:
            return function(*args, **kwargs)
    return wrapper


class Stream:
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.items)


@again
def ask(client, **body):
    return client.chat.completions.create(**body)


@again
def ask_twice(client, **body):
    return [ask(client, **body), ask(client, **body)][-1]


@again
def stream(client, **body):
    return Stream(iter(client.chat.completions.create(**body, stream=True)))


@again
def later(client, **body):
    def items():
        yield from client.chat.completions.create(**body, stream=True)
    return items()


def outer(client, **body):
    return Stream(iter(stream(client, **body)))


@again
def wrapped(client, **body):
    return outer(client, **body)


failures = []


@again
def failing(client, **body):
    if not failures:
        failures.append(client.chat.completions.create(**body))
        raise KeyError("after it was sent")
    return client.chat.completions.create(**body)


@again
def refused(**body):
    raise ValueError("before it was sent")


async def ask_async(client, **body):
    return await client.chat.completions.create(**body)


ask_async = again(ask_async)
'''
ASK: Any = {"model": p.MODEL, "messages": [{"role": "user", "content": "How does water boil?"}]}
NAMES = ("ask", "ask_twice", "stream", "later", "wrapped", "failing", "refused", "ask_async")


class Attempt:
    def __init__(self, request: Request) -> None:
        self.request = request

    def answered(self, result: Any, reader: Reader) -> bool:
        return True

    def failed(self, error: BaseException) -> bool:
        return isinstance(error, KeyError)


def begin(args: tuple[Any, ...], kwargs: Any) -> Attempt:
    return Attempt(Request(CHAT, kwargs["model"], False, object, None))


PROVIDER = Provider(
    id="library",
    package="ecoimpact_imaginary_library",
    supported=">=1",
    targets=(
        *(
            Target("ecoimpact_imaginary_library", name, Role.FUNCTION, begin=begin, cell="function")
            for name in (*NAMES, "no_such_function", "outer")
        ),
        Target("ecoimpact_imaginary_library", "Stream.__next__", Role.ITEMS),
    ),
    identify=lambda _client, _args, _kwargs: None,
    locate=lambda _request: ("openai", None),
    claim=lambda _args, _kwargs: True,
    release=lambda _args, _kwargs: None,
    shape=lambda _result: Shape.ITEM,
    accepts=lambda _client: False,
    ask_for_usage=lambda _args, _kwargs: False,
    observe_parser=lambda _args, _kwargs, _reader: None,
)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "ecoimpact_imaginary_library.py").write_text(LIBRARY, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("ecoimpact_imaginary_library")
    del sys.modules["ecoimpact_imaginary_library"]


@pytest.fixture
def records(library: Any) -> Iterator[list[Record]]:
    records: list[Record] = []
    ecoimpact.instrument(exporters=[records.append])
    patcher = Patcher(PROVIDER, _runtime)
    patcher.enable()
    yield records
    patcher.disable()
    ecoimpact.uninstrument()
    assert LAYER.get() is None


def statuses(records: list[Record]) -> list[str]:
    gc.collect()
    assert ecoimpact.flush(10)
    assert ecoimpact.drops() == {}
    return [record.inference.status for record in records]


def test_a_request_is_counted_once(library: Any, records: list[Record], server: Server, client: openai.OpenAI) -> None:
    ask: Callable[..., Any] = library.ask
    server.reset(as_json(p.chat()))
    assert ecoimpact.impacts_of(ask(client, **ASK)) is not None
    assert statuses(records) == ["ok"]
    client.chat.completions.create(**ASK)
    assert statuses(records) == ["ok", "ok"]


def test_functions_inside_count_and_the_outer_one_does_not(
    library: Any, records: list[Record], server: Server, client: openai.OpenAI
) -> None:
    server.reset(as_json(p.chat()))
    answer = library.ask_twice(client, **ASK)
    assert ecoimpact.impacts_of(answer) is not None
    assert statuses(records) == ["ok", "ok"]
    assert len(server.received) == 2


def test_a_decorator_that_tries_again_makes_two_requests(
    library: Any, records: list[Record], server: Server, client: openai.OpenAI
) -> None:
    server.reset(as_json(p.chat()))
    library.failing(client, **ASK)
    assert statuses(records) == ["error", "ok"]
    assert records[0].inference.error_type == "KeyError"


def test_what_was_not_sent_does_not_count(library: Any, records: list[Record]) -> None:
    with pytest.raises(ValueError, match="before it was sent"):
        library.refused(**ASK)
    assert statuses(records) == []


@pytest.mark.parametrize("name", ["stream", "later", "wrapped"])
def test_streams_are_counted_once_whenever_their_request_goes_out(
    library: Any, records: list[Record], server: Server, client: openai.OpenAI, name: str
) -> None:
    server.reset(lambda _request: sse(p.chat_chunks(usage=True), done=True))
    answers = getattr(library, name)(client, **ASK, stream_options={"include_usage": True})
    items = list(answers)
    assert ecoimpact.impacts_of(items[-1]) is not None
    assert not any(ecoimpact.impacts_of(item) for item in items[:-2])
    if name != "later":  # a generator has no place for them
        assert ecoimpact.impacts_of(answers) is not None
    del answers
    assert statuses(records) == ["ok"]
    usage = records[0].inference.usage
    assert (usage.output_tokens, usage.estimated, records[0].inference.stream) == (503, False, True)
    client.chat.completions.create(**ASK, stream=True).close()
    assert len(statuses(records)) == 2


def test_a_stream_that_is_dropped(library: Any, records: list[Record], server: Server, client: openai.OpenAI) -> None:
    server.reset(lambda _request: sse(p.endless_chunks()))
    next(library.stream(client, **ASK))
    assert statuses(records) == ["abandoned"]


def test_a_closed_layer_holds_nobody_back(
    library: Any, records: list[Record], server: Server, client: openai.OpenAI
) -> None:
    server.reset(as_json(p.chat()))
    layer = Layer.enter()
    inherited = contextvars.copy_context()
    client.chat.completions.create(**ASK)
    layer.leave()
    assert statuses(records) == []
    thread = threading.Thread(target=inherited.run, args=(lambda: client.chat.completions.create(**ASK),))
    thread.start()
    thread.join()
    assert statuses(records) == ["ok"]


def test_asynchronous_calls_side_by_side(library: Any, records: list[Record], server: Server) -> None:
    server.reset(as_json(p.chat()))

    async def main() -> None:
        async with openai.AsyncOpenAI(api_key="test", base_url=server.url, max_retries=0) as client:
            await asyncio.gather(
                library.ask_async(client, **ASK), client.chat.completions.create(**ASK), library.ask_async(client, **ASK)
            )

    asyncio.run(main())
    assert statuses(records) == ["ok", "ok", "ok"]


def test_the_functions_are_put_back(library: Any) -> None:
    def cells() -> list[Any]:
        return [getattr(library, name).__closure__[0].cell_contents for name in NAMES]

    before = cells()
    patcher = Patcher(PROVIDER, _runtime)
    patcher.enable()
    assert not any(now is then for now, then in zip(cells(), before, strict=True))
    assert {target.name for target in patcher.patched} == {*NAMES, "Stream.__next__"}
    patcher.disable()
    assert cells() == before
