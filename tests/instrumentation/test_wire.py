"""Requests without an SDK: every way to read an answer of httpx, httpx2, requests and aiohttp, once bare and once watched.

The program must see the same bytes, each request must give exactly one record with exact tokens, and none that an SDK's own
layer has counted.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import importlib
import inspect
import io
import itertools
import json
import pickle
import shutil
import tracemalloc
import warnings
import weakref
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import aiohttp
import anthropic
import clients
import httpx
import httpx2
import openai
import payloads as p
import pytest
import requests
import urllib3
from harness import collect
from hypothesis import given
from hypothesis import strategies as st
from server import Received, Reply, Server, as_json, sse

import ecoimpact
from ecoimpact import Record
from ecoimpact.instrumentation import report
from ecoimpact.instrumentation.body import BODY_LIMIT_BYTES
from ecoimpact.providers import _http_libraries, all_providers
from ecoimpact.types import Impacts

CHAT: Any = {"model": p.MODEL, "messages": [{"role": "user", "content": "How does water boil?"}]}
MESSAGE: Any = {"model": p.CLAUDE, "max_tokens": 9, "messages": CHAT["messages"]}
STREAM: Any = {**CHAT, "stream": True}
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module", autouse=True)
def _collections_are_quick() -> Iterator[None]:
    """Most tests collect garbage; what the libraries brought with them need not be looked at each time."""
    for provider in ("openai", "anthropic", "mistralai", "google_genai", "cohere", "ollama", "huggingface_hub"):
        asyncio.run(clients.close(clients.make(provider, "default", "http://127.0.0.1", asynchronous=False)))
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _bare(server: Server) -> Iterator[None]:
    server.reset(answer)
    report.failures.clear()
    yield
    ecoimpact.uninstrument()
    assert not report.failures, "nothing of ours failed"


@pytest.fixture
def records() -> list[Record]:
    return []


def settle(records: list[Record]) -> list[Record]:
    collect()
    assert ecoimpact.flush(10)
    return records


def answer(request: Received) -> Reply:
    """What the path and the body ask for; compressed where the path says so."""
    streams = isinstance(request.body, dict) and bool(request.body.get("stream"))
    if "/v1/messages" in request.path:
        reply = sse(p.message_events(), named=True) if streams else as_json(p.message())
    elif "/responses" in request.path:
        reply = sse(p.response_events(), named=True) if streams else as_json(p.response())
    else:
        reply = sse(p.chat_chunks(usage=True), done=True) if streams else as_json(p.chat())
    return compressed(reply) if request.path.startswith("/gzip") else reply


def compressed(reply: Reply) -> Reply:
    packer = zlib.compressobj(wbits=31)
    parts = [reply.body] if reply.events is None else list(reply.events)
    packed = [packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in parts]
    packed[-1] += packer.flush()
    headers = {**reply.headers, "content-encoding": "gzip"}
    if reply.events is None:
        return Reply(body=b"".join(packed), headers=headers)
    return Reply(events=packed, content_type=reply.content_type, headers=headers)


async def wait(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def each(items: Any) -> AsyncIterator[Any]:
    if hasattr(items, "__aiter__"):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


# --- the ways of reading


class Way(NamedTuple):
    """How a program asks and reads: it gets a client, a URL and a body, and returns what it saw and the response."""

    library: str
    name: str
    ask: Callable[[Any, str, Any], Awaitable[tuple[Any, Any]]]


WAYS: list[Way] = []


def way(*libraries: str) -> Callable[[Any], Any]:
    def register(ask: Any) -> Any:
        WAYS.extend(Way(library, ask.__name__, ask) for library in libraries)
        return ask

    return register


HTTPX = ("httpx", "httpx-async", "httpx2", "httpx2-async")


def make(library: str) -> Any:
    package, _, direction = library.partition("-")
    if package == "requests":
        return requests.Session()
    if package == "aiohttp":
        return aiohttp.ClientSession()
    module = importlib.import_module(package)
    return module.AsyncClient() if direction else module.Client()


async def close(client: Any) -> None:
    await wait(client.aclose() if hasattr(client, "aclose") else client.close())


async def httpx_stream(client: Any, url: str, body: Any) -> Any:
    return await wait(client.send(client.build_request("POST", url, json=body), stream=True))


def of(response: Any, client: Any, name: str) -> Any:
    return getattr(response, f"a{name}" if "Async" in type(client).__name__ else name)


@way(*HTTPX)
async def post(client: Any, url: str, body: Any) -> Any:
    response = await wait(client.post(url, json=body))
    return (response.content, response.text, response.status_code), response


@way("httpx", "httpx2")
async def post_of_the_module(client: Any, url: str, body: Any) -> Any:
    module = importlib.import_module(type(client).__module__.partition(".")[0])
    response = module.post(url, content=json.dumps(body), trust_env=False)
    return response.content, response


@way(*HTTPX)
async def stream_read(client: Any, url: str, body: Any) -> Any:
    manager = client.stream("POST", url, json=body)
    if hasattr(manager, "__aenter__"):
        async with manager as response:
            return await response.aread(), response
    with manager as response:
        return response.read(), response


def httpx_way(name: str, *arguments: Any) -> None:
    async def read(client: Any, url: str, body: Any) -> Any:
        response = await httpx_stream(client, url, body)
        seen = [item async for item in each(of(response, client, name)(*arguments))]
        await wait(of(response, client, "close")())
        return (seen if name == "iter_lines" else seen[0][:0].join(seen)), response

    read.__name__ = "_".join(map(str, (name, *arguments)))
    way(*HTTPX)(read)


for method in (("iter_bytes",), ("iter_bytes", 7), ("iter_text",), ("iter_lines",), ("iter_raw",), ("iter_raw", 5)):
    httpx_way(*method)


@way(*HTTPX)
async def the_stream_itself(client: Any, url: str, body: Any) -> Any:
    response = await httpx_stream(client, url, body)
    seen = [piece async for piece in each(response.stream)]
    await wait(of(response, client, "close")())
    return b"".join(seen), response


@way("requests")
async def post_json(client: Any, url: str, body: Any) -> Any:
    response = client.post(url, json=body)
    return (response.content, response.text, response.status_code), response


@way("requests")
async def post_text(client: Any, url: str, body: Any) -> Any:
    response = requests.post(url, data=json.dumps(body), timeout=10)
    return response.content, response


def requests_way(name: str, read: Callable[[Any], Any]) -> None:
    async def ask(client: Any, url: str, body: Any) -> Any:
        with client.post(url, json=body, stream=True) as response:
            return read(response), response

    ask.__name__ = name
    way("requests")(ask)


def copied(response: Any) -> bytes:
    target = io.BytesIO()
    shutil.copyfileobj(response.raw, target, 11)
    return target.getvalue()


def read_into(response: Any) -> bytes:
    seen, buffer = b"", bytearray(100)
    while size := response.raw.readinto(buffer):
        seen += buffer[:size]
    return seen


requests_way("content", lambda r: r.content)
requests_way("iter_content", lambda r: b"".join(r.iter_content(None)))
requests_way("iter_content_7", lambda r: b"".join(r.iter_content(7)))
requests_way("iter_content_text", lambda r: "".join(map(str, r.iter_content(64, decode_unicode=True))))
requests_way("iter_lines", lambda r: list(r.iter_lines()))
requests_way("iter", b"".join)
requests_way("raw_read", lambda r: r.raw.read())
requests_way("raw_read_decoded", lambda r: r.raw.read(decode_content=True))
requests_way("raw_read_9", lambda r: b"".join(iter(lambda: r.raw.read(9), b"")))
if hasattr(urllib3.HTTPResponse, "read1"):  # since its second version
    requests_way("raw_read1", lambda r: b"".join(iter(lambda: r.raw.read1(9), b"")))
requests_way("raw_stream", lambda r: b"".join(r.raw.stream()))
requests_way("raw_stream_9", lambda r: b"".join(r.raw.stream(9, decode_content=True)))
requests_way("raw_iter", lambda r: b"".join(r.raw))
requests_way("raw_copied", copied)
requests_way("raw_into", read_into)
requests_way("raw_data", lambda r: r.raw.data)


@way("requests")
async def nothing_but_a_method_is_kept(client: Any, url: str, body: Any) -> Any:
    return b"".join(client.post(url, json=body, stream=True).iter_content(13)), None


@way("requests")
async def nothing_but_a_method_of_raw_is_kept(client: Any, url: str, body: Any) -> Any:
    return client.post(url, json=body, stream=True).raw.read(), None


def aiohttp_way(name: str, read: Callable[[Any], Awaitable[Any]]) -> None:
    async def ask(client: Any, url: str, body: Any) -> Any:
        async with client.post(url, json=body) as response:
            return await read(response), response

    ask.__name__ = name
    way("aiohttp")(ask)


async def joined(pieces: Any) -> bytes:
    return b"".join([piece[0] if isinstance(piece, tuple) else piece async for piece in pieces])


async def until_empty(read: Callable[[], Any]) -> bytes:
    seen = b""
    while piece := await read():
        seen += piece
    return seen


async def exactly(response: Any) -> bytes:
    start: bytes = await response.content.readexactly(20)
    rest: bytes = await response.content.read()
    return start + rest


async def not_waiting(response: Any) -> bytes:
    await response.content.wait_eof()
    data: bytes = response.content.read_nowait()
    return data


aiohttp_way("read", lambda r: r.read())
aiohttp_way("text", lambda r: r.text())
aiohttp_way("content_read", lambda r: r.content.read())
aiohttp_way("content_read_7", lambda r: until_empty(lambda: r.content.read(7)))
aiohttp_way("readany", lambda r: until_empty(r.content.readany))
aiohttp_way("readline", lambda r: until_empty(r.content.readline))
aiohttp_way("readuntil", lambda r: until_empty(lambda: r.content.readuntil(b"\n\n")))
aiohttp_way("readexactly", exactly)
aiohttp_way("read_nowait", not_waiting)
aiohttp_way("lines", lambda r: joined(r.content))
aiohttp_way("iter_any", lambda r: joined(r.content.iter_any()))
aiohttp_way("iter_chunked", lambda r: joined(r.content.iter_chunked(7)))
aiohttp_way("iter_chunks", lambda r: joined(r.content.iter_chunks()))


@way("aiohttp")
async def not_decompressed(client: Any, url: str, body: Any) -> Any:
    async with aiohttp.ClientSession(auto_decompress=False) as other, other.post(url, json=body) as response:
        return await response.read(), response


@way("aiohttp")
async def without_a_context(client: Any, url: str, body: Any) -> Any:
    response = await client.request("post", url, data=json.dumps(body))
    return await response.read(), response


def run(library: str, ask: Callable[[Any], Awaitable[Any]], prepare: Callable[[Any], Any] = lambda client: client) -> Any:
    async def main() -> Any:
        client = prepare(make(library))
        try:
            return await ask(client)
        finally:
            await close(client)

    return asyncio.run(main())


@pytest.mark.parametrize("prefix", ["", "/gzip"])
@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "streamed"])
@pytest.mark.parametrize("each_way", WAYS, ids=lambda way: f"{way.library}-{way.name}")
def test_every_way_to_read(server: Server, records: list[Record], each_way: Way, body: Any, prefix: str) -> None:
    url = f"{server.url}{prefix}{PATH}"

    def ask(client: Any) -> Awaitable[Any]:
        return each_way.ask(client, url, body)

    dropped = ecoimpact.drops()
    bare, _ = run(each_way.library, ask)
    wire = [(request.method, request.path, request.raw) for request in server.received]
    server.received.clear()
    ecoimpact.instrument("httpx", exporters=[records.append])
    seen, response = run(each_way.library, ask)
    assert seen == bare
    assert [(request.method, request.path, request.raw) for request in server.received] == wire
    if response is not None:
        impacts = response.impacts
        assert isinstance(impacts, Impacts)
        assert impacts.energy is not None
    del response
    (record,) = settle(records)
    assert told(record) == Told(tokens=503, stream="stream" in body)
    assert record.inference.request_model == p.MODEL
    assert record.inference.response_model == p.SNAPSHOT
    assert ecoimpact.drops() == dropped


class Told(NamedTuple):
    tokens: int | None
    stream: bool = False
    status: str = "ok"
    error_type: str | None = None
    estimated: bool = False
    endpoint: str = "chat.completions"
    provider: str = "openai_compatible"


def told(record: Record) -> Told:
    inference = record.inference
    assert inference.latency_s is not None
    assert 0 <= inference.latency_s < 60
    usage = inference.usage
    return Told(
        usage.output_tokens,
        inference.stream,
        inference.status,
        inference.error_type,
        usage.estimated,
        inference.endpoint,
        inference.provider,
    )


LIBRARIES = (*HTTPX, "requests", "aiohttp")


async def send(client: Any, url: str, body: Any = CHAT, **options: Any) -> Any:
    """A request whose answer has been read, however long it takes."""
    response = await wait(client.post(url, json=body, **options))
    if isinstance(response, aiohttp.ClientResponse):
        await response.read()
    return response


async def open_stream(client: Any, url: str, body: Any = STREAM) -> Any:
    if isinstance(client, requests.Session):
        return client.post(url, json=body, stream=True)
    if isinstance(client, aiohttp.ClientSession):
        return await client.post(url, json=body)
    return await httpx_stream(client, url, body)


def lines(response: Any) -> Any:
    if isinstance(response, aiohttp.ClientResponse):
        return response.content
    if isinstance(response, requests.Response):
        return response.iter_lines()
    return response.aiter_lines() if hasattr(response.stream, "__aiter__") else response.iter_lines()


async def leave(response: Any) -> None:
    await wait(response.aclose() if hasattr(getattr(response, "stream", None), "aclose") else response.close())


# --- what is asked for


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("/v1/messages", MESSAGE), Told(317, endpoint="messages")),
        (("/v1/messages?beta=true", {**MESSAGE, "stream": True}), Told(317, stream=True, endpoint="messages")),
        (("/v1/responses", {"model": p.MODEL, "input": "x"}), Told(87, endpoint="responses")),
        (("/v1/responses", {"model": p.MODEL, "input": "x", "stream": True}), Told(87, stream=True, endpoint="responses")),
        (("/openai/deployments/d/chat/completions?api-version=1", {"messages": []}), Told(503)),
        (("/v1/completions", {"model": p.MODEL, "prompt": "x"}), Told(503, endpoint="completions")),
        (("/v1/embeddings", {"model": p.MODEL, "input": "x"}), Told(0, endpoint="embeddings")),
    ],
)
def test_endpoints(server: Server, records: list[Record], library: str, asked: tuple[str, Any], expected: Told) -> None:
    path, body = asked
    ecoimpact.instrument("httpx", exporters=[records.append])
    run(library, lambda client: send(client, server.url + path, body))
    assert [told(record) for record in settle(records)] == [expected]


@pytest.mark.parametrize("library", LIBRARIES)
def test_other_requests_pass(server: Server, records: list[Record], library: str) -> None:
    ecoimpact.instrument("httpx", exporters=[records.append])

    async def others(client: Any) -> None:
        for path, body in (
            ("/v1/models", CHAT),
            ("/forms/7/responses", {"answers": [1]}),
            ("/v1/messages", {"to": "+33", "body": "hello"}),
            ("/chat/completions/chatcmpl-1", CHAT),
            (PATH, ["a list"]),
            (PATH, "text"),
        ):
            response = await send(client, server.url + path, body)
            assert not hasattr(response, "impacts")
        for response in (
            await wait(client.get(server.url + PATH)),
            await wait(client.post(server.url + PATH, data={"model": "a form"})),
            await wait(client.post(server.url + PATH)),
        ):
            await wait(response.read() if library == "aiohttp" else None)

    run(library, others)
    assert settle(records) == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_bodies_that_cannot_be_read_beforehand(server: Server, records: list[Record], library: str) -> None:
    """A body that is made while it is sent, and one that is longer than anybody wants to read twice."""
    ecoimpact.instrument("httpx", exporters=[records.append])
    name = "data" if library in ("requests", "aiohttp") else "content"
    long = {**CHAT, "picture": "x" * 2**20}

    def pieces() -> Iterator[bytes]:
        yield json.dumps(STREAM).encode()

    async def pieces_async() -> AsyncIterator[bytes]:
        for piece in pieces():
            yield piece

    async def ask(client: Any) -> None:
        length = {"content-length": str(len(json.dumps(STREAM)))}  # the local server knows no chunked requests
        made: Any = pieces_async() if library.endswith(("async", "aiohttp")) else pieces()
        if library == "requests":  # which takes no such length from a program: a file has one
            made, length = io.BytesIO(next(made)), {}
        bodies = [(made, length), (json.dumps(CHAT).encode(), {})]
        if library != "aiohttp":  # which warns of it
            bodies.append((json.dumps(long), {}))
        for body, headers in bodies:
            response = await wait(client.post(server.url + PATH, **{name: body}, headers=headers))
            await wait(response.read() if library == "aiohttp" else None)

    run(library, ask)
    settle(records)
    long_too = [] if library == "aiohttp" else [(p.MODEL, False)]
    asked = [(None, True), (p.MODEL, False), *long_too]
    assert [(r.inference.request_model, r.inference.stream) for r in records] == asked
    assert [r.inference.usage.output_tokens for r in records] == [503] * len(asked)


def test_who_serves_is_told_by_the_host(records: list[Record]) -> None:
    ecoimpact.instrument("httpx", exporters=[records.append])
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json=p.chat()))
    hosts = {
        "https://api.groq.com/openai/v1": "groq",
        "https://unit.openai.azure.com/openai/v1": "azure_openai",
        "https://gateway.example/v1": "openai_compatible",
    }
    with httpx.Client(transport=transport) as client:
        for base in hosts:
            client.post(f"{base}/chat/completions", json=CHAT)
    assert [r.inference.provider for r in settle(records)] == list(hosts.values())


# --- how a request ends


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_error_status_is_an_error(server: Server, records: list[Record], library: str) -> None:
    server.reset(as_json({"error": {"message": "too many"}}, 429))
    ecoimpact.instrument("httpx", exporters=[records.append])

    async def ask(client: Any) -> Any:
        response = await send(client, server.url + PATH)
        with pytest.raises(Exception, match="429") as raised:
            response.raise_for_status()
        return raised.type.__name__

    name = run(library, ask)
    assert [told(r) for r in settle(records)] == [Told(None, status="error", error_type=name)]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_redirect_counts_where_it_leads(server: Server, records: list[Record], library: str) -> None:
    def script(request: Received) -> Reply:
        moved = Reply(status=307, headers={"location": PATH})
        return moved if request.path.startswith("/old") else answer(request)

    server.reset(script)
    ecoimpact.instrument("httpx", exporters=[records.append])
    follows = {"follow_redirects": True} if library in HTTPX else {"allow_redirects": True}
    ignores = dict.fromkeys(follows, False)
    run(library, lambda client: send(client, f"{server.url}/old{PATH}", **ignores))
    assert settle(records) == [], "it reached no model"
    run(library, lambda client: send(client, f"{server.url}/old{PATH}", **follows))
    assert [told(r) for r in settle(records)] == [Told(503)]
    assert len(server.received) == 3


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_stream_that_is_left_early(server: Server, records: list[Record], library: str) -> None:
    server.reset(lambda _request: sse(p.endless_chunks()))
    ecoimpact.instrument("httpx", exporters=[records.append])

    async def ask(client: Any) -> Any:
        response = await open_stream(client, server.url + PATH)
        async for line in each(lines(response)):
            if line:
                break
        await leave(response)
        assert await asyncio.to_thread(server.disconnected.wait, 10)
        assert isinstance(response.impacts, Impacts)

    run(library, ask)
    (record,) = settle(records)
    assert record.inference.usage.output_tokens is not None
    assert told(record)._replace(tokens=0) == Told(0, stream=True, status="abandoned", estimated=True)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_stream_that_is_left_once_it_said_that_it_is_done(server: Server, records: list[Record], library: str) -> None:
    server.reset(lambda _request: sse([*p.chat_chunks(usage=True), None, p.chunk({"content": "late"})]))
    ecoimpact.instrument("httpx", exporters=[records.append])

    async def ask(client: Any) -> Any:
        response = await open_stream(client, server.url + PATH)
        async for line in each(lines(response)):
            if "completion_tokens" in str(line):
                break
        await leave(response)
        server.release.set()

    run(library, ask)
    assert [told(r) for r in settle(records)] == [Told(503, stream=True)]


@pytest.mark.parametrize("library", ["httpx", "httpx2", "requests"])
def test_a_stream_that_is_dropped(server: Server, records: list[Record], library: str) -> None:
    """Not with aiohttp, which keeps a response for as long as its connection is open."""
    server.reset(lambda _request: sse(p.endless_chunks()))
    ecoimpact.instrument("httpx", exporters=[records.append])

    async def ask(client: Any) -> Any:
        response = await open_stream(client, server.url + PATH)
        next(lines(response))
        del response
        assert [r.inference.status for r in settle(records)] == ["abandoned"]

    run(library, ask)
    assert len(settle(records)) == 1


def test_requests_closes_a_dropped_stream_without_a_collection(server: Server, records: list[Record]) -> None:
    server.reset(lambda _request: sse(p.endless_chunks()))
    ecoimpact.instrument("httpx", exporters=[records.append])
    gc.disable()
    try:
        with requests.Session() as session:
            response = session.post(server.url + PATH, json=STREAM, stream=True)
            alive = weakref.ref(response)
            del response
            assert alive() is None
            assert ecoimpact.flush(10)
            assert [r.inference.status for r in records] == ["abandoned"]
    finally:
        gc.enable()


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_connection_that_breaks(server: Server, records: list[Record], library: str, streamed: bool) -> None:
    server.reset(lambda _request: sse(p.chat_chunks(usage=False)[:4], cut=True))

    async def ask(client: Any) -> Any:
        async def read() -> None:
            if not streamed:
                await send(client, server.url + PATH, STREAM)
                return
            response = await open_stream(client, server.url + PATH)
            try:
                async for _ in each(lines(response)):
                    pass
            finally:
                await leave(response)

        with pytest.raises(Exception, match=r".") as raised:
            await read()
        return raised.type.__name__

    bare = run(library, ask)
    ecoimpact.instrument("httpx", exporters=[records.append])
    assert run(library, ask) == bare
    (record,) = settle(records)
    assert (record.inference.status, record.inference.error_type) == ("error", bare)
    assert record.inference.usage.output_tokens == (4 if streamed or library == "aiohttp" else None)


@pytest.mark.parametrize("library", LIBRARIES)
def test_nobody_answers(records: list[Record], library: str) -> None:
    server = Server()
    server.close()
    ecoimpact.instrument("httpx", exporters=[records.append])

    async def ask(client: Any) -> Any:
        with pytest.raises(Exception, match=r".") as raised:
            await send(client, server.url + PATH)
        return raised.type.__name__

    name = run(library, ask)
    assert [told(r) for r in settle(records)] == [Told(None, status="error", error_type=name)]


@pytest.mark.parametrize("library", ["httpx-async", "httpx2-async", "aiohttp"])
@pytest.mark.parametrize("streamed", [False, True])
def test_cancellation(server: Server, records: list[Record], library: str, streamed: bool) -> None:
    server.reset(lambda _request: sse([*p.chat_chunks(usage=False)[:3], None]) if streamed else Reply(waits=True))
    ecoimpact.instrument("httpx", exporters=[records.append])

    async def ask(client: Any) -> None:
        reading = asyncio.Event()

        async def read() -> None:
            if not streamed:
                reading.set()
                await send(client, server.url + PATH)
                return
            response = await open_stream(client, server.url + PATH)
            try:
                async for line in each(lines(response)):
                    if "boils" in str(line):
                        reading.set()
            finally:
                await leave(response)

        task = asyncio.ensure_future(read())
        await reading.wait()
        while not server.received:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.release.set()

    run(library, ask)
    (record,) = settle(records)
    assert (record.inference.status, record.inference.error_type) == ("cancelled", "CancelledError")
    assert record.inference.usage.output_tokens == (3 if streamed else None)


def test_a_timeout_of_aiohttp(server: Server, records: list[Record]) -> None:
    server.reset(lambda _request: sse([*p.chat_chunks(usage=False)[:3], None]))
    ecoimpact.instrument("httpx", exporters=[records.append])

    async def ask(client: Any) -> None:
        timeout = aiohttp.ClientTimeout(total=0.3)
        with pytest.raises(TimeoutError):
            async with client.post(server.url + PATH, json=STREAM, timeout=timeout) as response:
                await response.text()
        server.release.set()

    run("aiohttp", ask)
    (record,) = settle(records)
    assert (record.inference.status, record.inference.error_type) == ("error", "TimeoutError")


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_is_never_sent_is_not_counted(records: list[Record], library: str) -> None:
    ecoimpact.instrument("httpx", exporters=[records.append])

    async def ask(client: Any) -> None:
        if library == "requests":
            with pytest.raises(ValueError, match="PreparedRequest"):
                client.send(requests.Request("POST", f"http://127.0.0.1{PATH}", json=CHAT))
        else:
            await close(client)
            with pytest.raises(RuntimeError, match="closed"):
                await send(client, f"http://127.0.0.1{PATH}")

    run(library, ask)
    assert settle(records) == []


def test_hooks_and_authentication_are_part_of_one_request(server: Server, records: list[Record]) -> None:
    class Twice(httpx.Auth):
        def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
            yield request
            request.headers["authorization"] = "again"
            yield request

    def hook(response: httpx.Response) -> None:
        response.read()

    ecoimpact.instrument("httpx", exporters=[records.append])
    with httpx.Client(auth=Twice(), event_hooks={"response": [hook]}) as client:
        client.post(server.url + PATH, json=CHAT)
        with client.stream("POST", server.url + PATH, json=STREAM) as response:
            assert len(list(response.iter_lines())) == 18
    assert len(server.received) == 4
    assert [told(r) for r in settle(records)] == [Told(503), Told(503, stream=True)]


def test_no_usage_gives_an_estimate(server: Server, records: list[Record]) -> None:
    server.reset(lambda _request: sse(p.chat_chunks(usage=False), done=True))
    ecoimpact.instrument("httpx", exporters=[records.append])
    with httpx.Client() as client, client.stream("POST", server.url + PATH, json=STREAM) as response:
        list(response.iter_lines())
    assert [told(r) for r in settle(records)] == [Told(-(-len(p.TEXT) // 4), stream=True, estimated=True)]


def test_an_answer_too_large_to_keep_is_unknown(server: Server, records: list[Record]) -> None:
    server.reset(lambda _request: as_json(p.chat("x" * (BODY_LIMIT_BYTES + 1))))
    ecoimpact.instrument("httpx", exporters=[records.append])
    with httpx.Client() as client:
        response = client.post(server.url + PATH, json=CHAT)
    assert [e.code for e in response.impacts.errors]  # type: ignore[attr-defined]
    assert [told(r) for r in settle(records)] == [Told(None)]


def test_an_encoding_that_nobody_undoes_is_unknown(server: Server, records: list[Record]) -> None:
    server.reset(Reply(body=b"\x1b\x03\x00\xf8", headers={"content-encoding": "br"}))
    ecoimpact.instrument("httpx", exporters=[records.append])
    with requests.post(server.url + PATH, json=CHAT, stream=True, timeout=10) as response:
        assert response.raw.read() == b"\x1b\x03\x00\xf8"
    assert [told(r) for r in settle(records)] == [Told(None)]


def test_a_response_can_be_pickled(server: Server) -> None:
    ecoimpact.instrument("httpx")
    for module in (httpx, httpx2):
        with module.Client() as client, client.stream("POST", server.url + PATH, json=STREAM) as response:
            pickle.dumps(response)
            response.read()
        copy = pickle.loads(pickle.dumps(response))
        assert copy.content == response.content
        assert copy.impacts.energy is not None
    assert pickle.loads(pickle.dumps(requests.post(server.url + PATH, json=CHAT, timeout=10))).json() == p.chat()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_stream_that_is_still_unread_when_the_program_ends(server: Server, records: list[Record], library: str) -> None:
    server.reset(lambda _request: sse([*p.chat_chunks(usage=False)[:3], None]))
    ecoimpact.instrument("httpx", exporters=[records.append])

    async def ask(client: Any) -> None:
        response = await open_stream(client, server.url + PATH)
        assert ecoimpact.shutdown(10)
        assert [r.inference.status for r in records] == ["abandoned"]
        server.release.set()
        assert len([line async for line in each(lines(response))]) > 4, "the program reads on"
        await leave(response)

    run(library, ask)
    assert len(records) == 1


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_stream_is_read_on_after_all_was_put_back(server: Server, library: str) -> None:
    async def ask(client: Any) -> list[Any]:
        response = await open_stream(client, server.url + PATH)
        ecoimpact.uninstrument()
        seen = [line async for line in each(lines(response))]
        await leave(response)
        return seen

    bare = run(library, ask)
    ecoimpact.instrument("httpx")
    assert run(library, ask) == bare


@pytest.mark.parametrize("library", LIBRARIES)
def test_nothing_of_an_answer_is_kept(server: Server, records: list[Record], library: str) -> None:
    ecoimpact.instrument("httpx", exporters=[records.append])
    figures: list[Any] = []

    async def ask(client: Any) -> Any:
        kept = []
        for body in (CHAT, STREAM):
            response = await open_stream(client, server.url + PATH, body)
            async for _ in each(lines(response)):
                pass
            await leave(response)
            kept.append(weakref.ref(response))
            figures.append(response.impacts)
            del response
        return kept

    kept = run(library, ask)
    assert len(settle(records)) == 2
    assert [ref() for ref in kept] == [None, None]
    assert [impacts.energy.value.min > 0 for impacts in figures] == [True, True]


def test_memory_stays_flat_over_many_requests() -> None:
    whole, kind, path, _ = WHOLE[0]
    pieces = split(whole, [])
    ecoimpact.instrument("httpx", exporters=[lambda _record: None])

    def ask(client: Any, number: int) -> None:
        for _ in range(number):
            with client.stream("POST", f"http://test{path}", json=STREAM) as response:
                response.read()
        del response
        assert ecoimpact.flush(30)
        gc.collect()

    with in_process(pieces, {"content-type": kind}) as client:
        ask(client, 100)
        tracemalloc.start()
        try:
            ask(client, 20)
            before, _ = tracemalloc.get_traced_memory()
            ask(client, 300)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert after - before < 64 * 1024


# --- who is watched


@pytest.mark.parametrize("library", LIBRARIES)
def test_it_has_to_be_asked_for(server: Server, records: list[Record], library: str) -> None:
    ecoimpact.instrument(exporters=[records.append])
    assert all_providers()["httpx"].opt_in
    run(library, lambda client: send(client, server.url + PATH))
    assert settle(records) == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_one_client_alone(server: Server, records: list[Record], library: str) -> None:
    ecoimpact.instrument("openai", exporters=[records.append])
    run(library, lambda client: send(client, server.url + PATH), ecoimpact.wrap)
    run(library, lambda client: send(client, server.url + PATH))
    assert [told(r) for r in settle(records)] == [Told(503)]


def test_everything_is_put_back() -> None:
    targets = all_providers()["httpx"].targets

    def functions() -> list[Any]:
        found = []
        for target in targets:
            owner, method = target.name.split(".")
            found.append(vars(getattr(importlib.import_module(target.module), owner)).get(method))
        return [function for function in found if function is not None]

    before = functions()
    ecoimpact.instrument("httpx")
    assert all(ours is not theirs for ours, theirs in zip(functions(), before, strict=True))
    assert [ours.__qualname__ for ours in functions()] == [theirs.__qualname__ for theirs in before]
    ecoimpact.uninstrument()
    assert functions() == before


@pytest.mark.parametrize("name", ["feed", "done", "failed", "drop", "refused", "_carry"])
def test_a_failure_of_ours_harms_nothing(server: Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from ecoimpact.instrumentation import wire

    def broken(*_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("ours, not theirs")

    async def ask(client: Any) -> Any:
        response = await open_stream(client, server.url + PATH)
        seen = [line async for line in each(lines(response))]
        await leave(response)
        return seen

    bare = [run(library, ask) for library in LIBRARIES]
    ecoimpact.instrument("httpx")
    monkeypatch.setattr(wire.BodyTap, name, report.quietly(broken))
    assert [run(library, ask) for library in LIBRARIES] == bare
    collect()
    report.failures.clear()


# --- never twice


def sdk_answer(request: Received) -> Reply:
    """What the SDKs of OpenAI-compatible providers, Anthropic, Cohere, Google and Ollama ask for."""
    body = request.body
    if "/v2/chat" in request.path:
        tokens = {"tokens": {"input_tokens": 4, "output_tokens": 77}}
        message = {"role": "assistant", "content": [{"type": "text", "text": "x"}]}
        return as_json({"id": "1", "finish_reason": "COMPLETE", "message": message, "usage": tokens})
    if "generateContent" in request.path:
        usage = {"promptTokenCount": 4, "candidatesTokenCount": 77, "totalTokenCount": 81}
        content = {"role": "model", "parts": [{"text": "x"}]}
        return as_json({"candidates": [{"content": content, "finishReason": "STOP"}], "usageMetadata": usage})
    if request.path == "/api/chat":
        message = {"role": "assistant", "content": "x"}
        done = {"done": True, "eval_count": 77, "prompt_eval_count": 4}
        return as_json({"model": body["model"], "message": message, **done})
    return answer(request)


SDKS: dict[str, tuple[Callable[[Any], Any], int, bool]] = {
    # how to ask, the tokens that come, and whether its requests are OpenAI's or Anthropic's, which the wire knows
    "openai": (lambda c: c.chat.completions.create(**CHAT), 503, True),
    "openai-stream": (lambda c: c.chat.completions.create(**STREAM), 503, True),
    "openai-responses": (lambda c: c.responses.create(model=p.MODEL, input="x"), 87, True),
    "openai-raw": (lambda c: c.chat.completions.with_raw_response.create(**CHAT), 503, True),
    "anthropic": (lambda c: c.messages.create(**MESSAGE), 317, True),
    "anthropic-stream": (lambda c: c.messages.create(**MESSAGE, stream=True), 317, True),
    "anthropic-helper": (lambda c: helped(c.messages.stream(**MESSAGE)), 317, True),
    "mistralai": (lambda c: directed(c.chat, "complete")(**CHAT), 503, True),
    "mistralai-stream": (lambda c: directed(c.chat, "stream")(**CHAT), 503, True),
    "huggingface_hub": (lambda c: c.chat_completion(**CHAT), 503, True),
    "huggingface_hub-stream": (lambda c: c.chat_completion(**STREAM), 503, True),
    "cohere": (lambda c: c.chat(**CHAT), 77, False),
    "google_genai": (lambda c: c.models.generate_content(model="gemini-2.5-flash", contents="x"), 77, False),
    "ollama": (lambda c: c.chat(**CHAT), 77, False),
}


def directed(chat: Any, name: str) -> Any:
    """Mistral's client has methods for both directions: the test says which it wants by the name of its task."""
    return getattr(chat, f"{name}_async" if asyncio.current_task().get_name() == "async" else name)  # type: ignore[union-attr]


async def helped(manager: Any) -> None:
    """A helper whose request goes out when it is entered."""
    if hasattr(manager, "__aenter__"):
        async with manager as stream:
            await stream.get_final_message()
    else:
        with manager as stream:
            stream.get_final_message()


async def use(client: Any, ask: Callable[[Any], Any]) -> None:
    answered = await wait(ask(client))
    if hasattr(answered, "__anext__") or hasattr(answered, "__next__"):
        async for _ in each(answered):
            pass


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("shape", SDKS)
@pytest.mark.parametrize("watched", ["both", "wire", "another client"])
def test_an_sdk_over_a_watched_library(
    server: Server, records: list[Record], shape: str, asynchronous: bool, watched: str
) -> None:
    provider = shape.partition("-")[0]
    ask, tokens, is_compatible = SDKS[shape]
    server.reset(sdk_answer)
    ecoimpact.instrument("httpx", *([provider] if watched == "both" else []), exporters=[records.append])

    async def main() -> None:
        asyncio.current_task().set_name("async" if asynchronous else "sync")  # type: ignore[union-attr]
        client = clients.make(provider, "default", server.url, asynchronous=asynchronous)
        other = clients.make(provider, "default", server.url, asynchronous=asynchronous)
        if watched == "another client":
            ecoimpact.wrap(other)
        try:
            await use(client, ask)
        finally:
            await clients.close(client)
            await clients.close(other)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Google's SDK inherits from what aiohttp would not have it
        asyncio.run(main())
    settle(records)
    assert len(server.received) == 1
    if watched == "both":
        assert [(r.inference.provider, r.inference.usage.output_tokens) for r in records] == [(provider, tokens)]
    else:
        counted = [("openai_compatible", tokens)] if is_compatible else []
        assert [(r.inference.provider, r.inference.usage.output_tokens) for r in records] == counted


class BusyServer(Server):
    request_queue_size = 64


def test_sdks_and_plain_requests_at_the_same_time(records: list[Record]) -> None:
    """Tasks run through each other: whose request is whose does not depend on who is waiting."""
    server = BusyServer()
    server.reset(answer)
    ecoimpact.instrument("httpx", "openai", "anthropic", exporters=[records.append])

    async def main() -> None:
        async with (
            openai.AsyncOpenAI(api_key="test", base_url=f"{server.url}/v1", max_retries=0) as gpt,
            anthropic.AsyncAnthropic(api_key="test", base_url=server.url, max_retries=0) as claude,
            httpx.AsyncClient() as plain,
            aiohttp.ClientSession() as other,
        ):
            asks: list[Any] = []
            for _ in range(8):
                asks += [use(gpt, SDKS["openai"][0]), use(claude, SDKS["anthropic-stream"][0])]
                asks += [send(plain, server.url + PATH), send(other, server.url + PATH, STREAM)]
            await asyncio.gather(*asks)

    try:
        asyncio.run(main())
    finally:
        server.close()
    counted = sorted((r.inference.provider, r.inference.stream, r.inference.usage.output_tokens) for r in settle(records))
    assert counted == [
        *[("anthropic", True, 317)] * 8,
        *[("openai", False, 503)] * 8,
        *[("openai_compatible", False, 503)] * 8,
        *[("openai_compatible", True, 503)] * 8,
    ]


def test_a_request_made_while_a_stream_of_an_sdk_is_read(server: Server, records: list[Record]) -> None:
    ecoimpact.instrument("httpx", "openai", exporters=[records.append])
    with openai.OpenAI(api_key="test", base_url=f"{server.url}/v1") as gpt, httpx.Client() as plain:
        for number, _chunk in enumerate(gpt.chat.completions.create(**STREAM)):
            if number == 2:
                plain.post(server.url + PATH, json=CHAT)
    assert [r.inference.provider for r in settle(records)] == ["openai_compatible", "openai"]


# --- whatever comes


def body_of(items: list[Any]) -> bytes:
    return b"".join(f"data: {json.dumps(item)}\r\n\r\n".encode() for item in items) + b"data: [DONE]\n\n"


def in_process(pieces: list[bytes], headers: dict[str, str]) -> httpx.Client:
    """A client whose answer comes in these pieces."""

    class Pieces(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield from pieces

    return httpx.Client(
        transport=httpx.MockTransport(lambda _request: httpx.Response(200, headers=headers, stream=Pieces()))
    )


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


JSON_TYPE, SSE_TYPE = "application/json", "text/event-stream"
WHOLE = [
    (body_of(p.chat_chunks(usage=True)), SSE_TYPE, PATH, 503),
    (body_of(p.message_events()), SSE_TYPE, "/v1/messages", 317),
    (body_of(p.response_events()), SSE_TYPE, "/v1/responses", 87),
    (json.dumps(p.chat(), indent=1).encode(), JSON_TYPE, PATH, 503),
    (json.dumps(p.message()).encode(), "text/plain", "/v1/messages", 317),
    (body_of(p.chat_chunks(usage=True)), "", PATH, 503),
]


@given(
    cuts=st.lists(st.integers(0, 10_000), max_size=40),
    whole=st.sampled_from(WHOLE),
    packed=st.booleans(),
    raw=st.booleans(),
)
def test_bytes_may_be_split_anywhere(cuts: list[int], whole: tuple[bytes, str, str, int], packed: bool, raw: bool) -> None:
    data, kind, path, tokens = whole
    records: list[Record] = []
    sent = gzip.compress(data) if packed else data
    headers = {"content-type": kind, **({"content-encoding": "gzip"} if packed else {})}
    ecoimpact.instrument("httpx", exporters=[records.append])
    try:
        with (
            in_process(split(sent, cuts), headers) as client,
            client.stream("POST", f"http://test{path}", json=CHAT) as response,
        ):
            seen = b"".join(response.iter_raw() if raw else response.iter_bytes())
        assert seen == (sent if raw else data)
        assert ecoimpact.flush(10)
        assert [(r.inference.usage.output_tokens, r.inference.usage.estimated) for r in records] == [(tokens, False)]
    finally:
        ecoimpact.uninstrument()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "usage", "delta", "message", "type", "content", "model", "id", "response", "object", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
GARBAGE = st.one_of(
    st.binary(max_size=300),
    st.lists(JSON_VALUES, max_size=6).map(body_of),
    JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    st.just(b"[" * 20_000),
    st.just(b"data:" + b"{" * 20_000 + b"\n\n"),
    st.text('data: []{}":,\r\n\\', max_size=200).map(str.encode),
)


@given(
    data=GARBAGE,
    cuts=st.lists(st.integers(0, 10_000), max_size=10),
    headers=st.fixed_dictionaries(
        {"content-type": st.sampled_from([JSON_TYPE, SSE_TYPE, "text/html", ""])},
        optional={"content-encoding": st.sampled_from(["gzip", "br", "zstd", "identity", "gzip, br"])},
    ),
    path=st.sampled_from([PATH, "/v1/messages", "/v1/responses", "/v1/completions", "/v1/embeddings"]),
    leaves=st.booleans(),
)
def test_garbage_passes_unchanged(data: bytes, cuts: list[int], headers: dict[str, str], path: str, leaves: bool) -> None:
    records: list[Record] = []
    pieces = split(data, cuts)
    ecoimpact.instrument("httpx", exporters=[records.append])
    try:
        with in_process(pieces, headers) as client, client.stream("POST", f"http://test{path}", json=CHAT) as response:
            if leaves:
                next(response.iter_raw(), None)
            else:
                assert b"".join(response.iter_raw()) == data
        assert ecoimpact.flush(10)
        assert len(records) == 1
        assert response.impacts.to_dict()  # type: ignore[attr-defined]
        assert not report.failures
    finally:
        ecoimpact.uninstrument()


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200), JSON_VALUES.map(json.dumps), st.none(), JSON_VALUES))
def test_any_request_body_is_looked_at_without_harm(body: Any) -> None:
    asked = _http_libraries.read_request(body)
    assert asked is None or isinstance(asked.model, str | None)


def test_memory_is_bounded_over_an_endless_line() -> None:
    """A hundred million bytes without an end of line, and as many in one event: no more than the limit is kept."""
    piece = b"x" * 2**20

    def pieces() -> Iterator[bytes]:
        for _ in range(50):
            yield piece
        yield b"\n"
        for _ in range(50):
            yield b"data: " + piece + b"\n"

    class Pieces(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            return pieces()

    def handle(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": SSE_TYPE}, stream=Pieces())

    ecoimpact.instrument("httpx")
    with httpx.Client(transport=httpx.MockTransport(handle)) as client:
        tracemalloc.start()
        try:
            with client.stream("POST", f"http://test{PATH}", json=CHAT) as response:
                size = sum(map(len, response.iter_raw()))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert size > 100 * 2**20
    assert peak < 3 * BODY_LIMIT_BYTES
