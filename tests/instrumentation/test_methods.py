"""SDKs whose methods are watched one by one: what holds besides the call shapes."""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from pathlib import Path
from types import AsyncGeneratorType, GeneratorType
from typing import Any

import clients
import payloads as p
import pytest
import shapes_cohere
import shapes_google_genai
import shapes_huggingface_hub
import shapes_mistralai
import shapes_ollama
from hypothesis import given
from hypothesis import strategies as st
from server import Reply, Server, as_json

import ecoimpact
from ecoimpact import Impacts, Record, runtime
from ecoimpact.instrumentation.methods import Calls
from ecoimpact.instrumentation.provider import Endpoint, Method, Reader, Request
from ecoimpact.providers import all_providers
from ecoimpact.types import Usage

METHOD_BY_METHOD = ("cohere", "google_genai", "huggingface_hub", "mistralai", "ollama")

PLAIN: dict[str, tuple[Reply, Callable[[Any], Any]]] = {
    "cohere": (as_json(shapes_cohere.chat()), lambda client: client.chat(**shapes_cohere.ASK)),
    "google_genai": (
        as_json(shapes_google_genai.content()),
        lambda client: client.models.generate_content(**shapes_google_genai.ASK),
    ),
    "huggingface_hub": (
        as_json(shapes_huggingface_hub.chat()),
        lambda client: client.chat_completion(**shapes_huggingface_hub.ASK),
    ),
    "mistralai": (as_json(shapes_mistralai.chat()), lambda client: client.chat.complete(**shapes_mistralai.ASK)),
    "ollama": (as_json(shapes_ollama.chat()), lambda client: client.chat(**shapes_ollama.ASK)),
}
"""A plain answer of each, and how to ask for it."""


@pytest.fixture(autouse=True)
def _bare() -> Iterator[None]:
    yield
    ecoimpact.uninstrument()


def watched_functions(name: str) -> dict[tuple[str, str], Any]:
    """The functions that a provider names, as they stand in the SDK now."""
    found = {}
    for target in all_providers()[name].targets:
        owner = sys.modules.get(target.module)
        *path, attribute = target.name.split(".")
        for part in path:
            owner = getattr(owner, part, None)
        if owner is not None and attribute in vars(owner):
            found[target.module, target.name] = vars(owner)[attribute]
    return found


@pytest.mark.parametrize("name", METHOD_BY_METHOD)
def test_a_client_made_before_is_watched_and_uninstrument_restores_everything(server: Server, name: str) -> None:
    reply, ask = PLAIN[name]
    server.reset(reply)
    client = clients.make(name, "default", server.url, asynchronous=False)
    ask(client)  # what is loaded on first use is there now
    before = watched_functions(name)
    assert before
    records: list[Record] = []
    ecoimpact.instrument(name, exporters=[records.append])
    during = watched_functions(name)
    assert all(during[place] is not function for place, function in before.items())
    for place, original in before.items():  # beside them, classes get a function of their own that they inherited
        function = during[place]
        assert (function.__name__, function.__doc__) == (original.__name__, original.__doc__)
        assert inspect.signature(function) == inspect.signature(original)
        assert inspect.iscoroutinefunction(function) == inspect.iscoroutinefunction(original)
    assert isinstance(ask(client).impacts, Impacts)
    ecoimpact.instrument(name)
    assert watched_functions(name) == during
    ecoimpact.uninstrument()
    assert watched_functions(name) == before
    answer = ask(client)
    assert ecoimpact.impacts_of(answer) is None
    assert not hasattr(answer, "impacts")
    asyncio.run(clients.close(client))
    assert len(records) == 1


@pytest.mark.parametrize("name", METHOD_BY_METHOD)
def test_wrap_watches_one_client_alone_and_leaves_no_trace(server: Server, name: str) -> None:
    reply, ask = PLAIN[name]
    server.reset(reply)
    one, other = (clients.make(name, "default", server.url, asynchronous=False) for _ in range(2))
    records: list[Record] = []
    ecoimpact.instrument("anthropic", exporters=[records.append])
    assert ecoimpact.wrap(one) is one
    assert isinstance(ecoimpact.impacts_of(ask(one)), Impacts)
    assert ecoimpact.impacts_of(ask(other)) is None
    ecoimpact.instrument(name)
    assert isinstance(ecoimpact.impacts_of(ask(one)), Impacts)
    assert isinstance(ecoimpact.impacts_of(ask(other)), Impacts)
    assert ecoimpact.flush(10)
    assert len(records) == 3
    ecoimpact.uninstrument()
    anchor = all_providers()[name].anchor
    assert not [key for client in (one, anchor(one) if anchor else one) for key in vars(client) if "ecoimpact" in key]
    assert ecoimpact.impacts_of(ask(one)) is None
    for client in (one, other):
        asyncio.run(clients.close(client))


@pytest.mark.parametrize("name", METHOD_BY_METHOD)
def test_another_tool_on_top_does_not_make_two_of_one(server: Server, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours, theirs on top, ours again: two layers of ours, of which the outer one counts."""
    reply, ask = PLAIN[name]
    server.reset(reply)
    client = clients.make(name, "default", server.url, asynchronous=False)
    ask(client)
    records: list[Record] = []
    ecoimpact.instrument(name, exporters=[records.append])
    seen: list[str] = []
    for target in all_providers()[name].targets:
        owner: Any = sys.modules.get(target.module)
        *path, attribute = target.name.split(".")
        for part in path:
            owner = getattr(owner, part, None)
        inner = vars(owner).get(attribute) if owner is not None else None
        if target.method is None or inner is None or inspect.iscoroutinefunction(inner):
            continue

        def theirs(self: Any, *args: Any, _inner: Any = inner, **kwargs: Any) -> Any:
            seen.append("theirs")
            return _inner(self, *args, **kwargs)

        monkeypatch.setattr(owner, attribute, theirs)
    ecoimpact.uninstrument()
    assert ecoimpact.impacts_of(ask(client)) is None
    ecoimpact.instrument(name, exporters=[records.append])
    assert isinstance(ecoimpact.impacts_of(ask(client)), Impacts)
    assert ecoimpact.flush(10)
    assert len(seen) == 2
    assert len(records) == 1
    ecoimpact.uninstrument()
    asyncio.run(clients.close(client))


IMPORTED_LATER = """
import asyncio, sys
sys.path.insert(0, {here!r})
import ecoimpact
records = []
ecoimpact.instrument(exporters=[records.append])
assert not {heavy!r} & set(sys.modules), "instrument() imports no SDK"
from server import Server
import test_methods, clients
server = Server()
reply, ask = test_methods.PLAIN[{name!r}]
server.reset(reply)
client = clients.make({name!r}, "default", server.url, asynchronous=False)
print(type(ask(client).impacts).__name__)
asyncio.run(clients.close(client))
server.close()
ecoimpact.flush(10)
print(len(records))
"""


@pytest.mark.parametrize("name", METHOD_BY_METHOD)
def test_an_sdk_that_is_imported_later_is_watched(name: str) -> None:
    heavy = {"mistralai", "cohere", "ollama", "huggingface_hub", "google.genai", "pydantic"}
    code = IMPORTED_LATER.format(here=str(Path(__file__).parent), heavy=heavy, name=name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["Impacts", "1"]


def test_functions_that_ollama_bound_when_it_was_imported_are_watched(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx
    import ollama

    server.reset(as_json(shapes_ollama.chat()))
    with httpx.Client(base_url=server.url) as http:
        monkeypatch.setattr(ollama.chat.__self__, "_client", http)  # type: ignore[attr-defined]
        ecoimpact.instrument("ollama")
        assert isinstance(ecoimpact.impacts_of(ollama.chat(**shapes_ollama.ASK)), Impacts)


def test_nothing_of_an_answer_or_a_client_is_kept(server: Server) -> None:
    import weakref

    server.reset(shapes_ollama.chat_lines()())
    records: list[Record] = []
    ecoimpact.instrument("ollama", exporters=[records.append])
    client = clients.make("ollama", "default", server.url, asynchronous=False)
    items = list(client.chat(**shapes_ollama.ASK, stream=True))
    impacts = items[-1].impacts
    asyncio.run(clients.close(client))
    kept = [weakref.ref(kept) for kept in (client, *items)]
    del client, items
    gc.collect()
    assert [ref() for ref in kept] == [None] * len(kept)
    assert impacts.energy.value.min > 0
    assert ecoimpact.flush(10)
    assert len(records) == 1


# --- generators: ours against the bare one, whatever a program does to it


class CountReader(Reader):
    def feed(self, item: Any) -> bool:
        self.characters += 1
        return bool(item == "last")

    def counts(self) -> Usage:
        return Usage()


class Sdk:
    """A generator of items that notes what reaches it."""

    def __init__(self, stubborn: bool) -> None:
        self.noted: list[Any] = []
        self.stubborn = stubborn

    def stream(self) -> Generator[Any, Any, str]:
        self.noted.append("sent")
        try:
            for item in (*p.WORDS, "last"):
                try:
                    self.noted.append((yield item))
                except KeyError:
                    self.noted.append("thrown")
                    if not self.stubborn:
                        raise
        finally:
            self.noted.append("closed")
        return "done"

    async def stream_async(self) -> AsyncGenerator[Any, Any]:
        self.noted.append("sent")
        try:
            for item in (*p.WORDS, "last"):
                try:
                    self.noted.append((yield item))
                except KeyError:
                    self.noted.append("thrown")
                    if not self.stubborn:
                        raise
        finally:
            self.noted.append("closed")


def watching(function: Callable[..., Any]) -> Callable[..., Any]:
    endpoint = Endpoint("stream", CountReader)
    method = Method(lambda client, _args, _kwargs: Request(endpoint, p.MODEL, True, type(client), (None, None)))
    return Calls(all_providers()["ollama"], runtime._runtime, lambda _client: True, method).wrap(function)


STEPS = st.lists(st.sampled_from(["next", "send", "send none", "throw", "throw stop", "close"]), max_size=10)


@given(steps=STEPS, stubborn=st.booleans())
def test_a_generator_does_what_the_bare_one_does(steps: list[str], stubborn: bool) -> None:
    def play(stream: Callable[[Sdk], Any]) -> list[Any]:
        sdk = Sdk(stubborn)
        generator: Any = stream(sdk)
        assert type(generator) is GeneratorType
        seen: list[Any] = [generator.__name__, generator.__qualname__]
        ways: dict[str, Callable[[], Any]] = {
            "next": lambda: next(generator),
            "send": lambda: generator.send("x"),
            "send none": lambda: generator.send(None),
            "throw": lambda: generator.throw(KeyError("mine")),
            "throw stop": lambda: generator.throw(StopIteration("mine")),
            "close": generator.close,
        }
        for step in steps:
            try:
                seen.append(ways[step]())
            except BaseException as error:  # noqa: BLE001 - whatever it is
                seen.append((type(error), str(error), getattr(error, "value", None)))
            seen.append((list(sdk.noted), inspect.getgeneratorstate(generator)))
        generator.close()
        return [*seen, sdk.noted]

    assert play(watching(Sdk.stream)) == play(Sdk.stream)


@given(steps=STEPS, stubborn=st.booleans())
def test_an_asynchronous_generator_does_what_the_bare_one_does(steps: list[str], stubborn: bool) -> None:
    async def play(stream: Callable[[Sdk], Any]) -> list[Any]:
        sdk = Sdk(stubborn)
        generator: Any = stream(sdk)
        assert type(generator) is AsyncGeneratorType
        seen: list[Any] = [generator.__name__, generator.__qualname__]
        ways: dict[str, Callable[[], Any]] = {
            "next": generator.__anext__,
            "send": lambda: generator.asend("x"),
            "send none": lambda: generator.asend(None),
            "throw": lambda: generator.athrow(KeyError("mine")),
            "throw stop": lambda: generator.athrow(StopAsyncIteration("mine")),
            "close": generator.aclose,
        }
        for step in steps:
            try:
                seen.append(await ways[step]())
            except BaseException as error:  # noqa: BLE001 - whatever it is
                seen.append((type(error), str(error)))
            seen.append(list(sdk.noted))
        await generator.aclose()
        return [*seen, sdk.noted]

    assert asyncio.run(play(watching(Sdk.stream_async))) == asyncio.run(play(Sdk.stream_async))


@pytest.mark.parametrize("name", METHOD_BY_METHOD)
def test_a_failure_of_ours_never_reaches_the_program(server: Server, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ecoimpact.instrumentation import report
    from ecoimpact.instrumentation.call import Call

    def broken(*_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("ours, not theirs")

    reply, ask = PLAIN[name]
    server.reset(reply)
    client = clients.make(name, "default", server.url, asynchronous=False)
    bare = repr(ask(client))
    for attribute in ("__init__", "answer", "end", "inference"):
        with monkeypatch.context() as patch:
            patch.setattr(Call, attribute, broken)
            ecoimpact.instrument(name)
            assert repr(ask(client)) == bare
            ecoimpact.uninstrument()
    asyncio.run(clients.close(client))
    report.failures.clear()
