"""HTTP libraries: which function sees one request of a program, what it sends, and how a program reads what comes back.

Everything here runs for each request of the program, models or not: the method and the path are looked at first.
"""

from __future__ import annotations

import json
import re
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from ecoimpact.instrumentation.provider import Endpoint, Head, Request, Tap, Wire

Function = Callable[..., Any]
Around = Callable[[Function], Function]
Endpoints = Callable[[str], Endpoint | None]
"""The endpoint at the path of a URL."""

_BODY_LIMIT_BYTES: Final = 2**20
"""What is longer holds pictures or documents, and is not read through for the name of a model."""

_FIRST_MODEL: Final = re.compile(r'\s*\{\s*"model"\s*:\s*"([^"\\]+)"')


class Asked(NamedTuple):
    """What a request's body asks for."""

    model: str | None = None
    stream: bool = False


def read_request(body: Any) -> Asked | None:
    """The model and whether to stream, as far as a body tells; ``None`` for one that asks no model anything.

    Some servers have the model in their URL, and take a body with nothing but messages.

    >>> read_request(b'{"model": "gpt-4o-mini", "stream": true}'), read_request('{"model": 1}'), read_request("a=b")
    (Asked(model='gpt-4o-mini', stream=True), None, None)
    >>> read_request(iter([b"{}"])), read_request(b'{"model": "gpt-4o", "messages": [' + b'"a",' * 2**20)
    (Asked(model=None, stream=False), Asked(model='gpt-4o', stream=False))
    """
    if isinstance(body, str | bytes):
        if len(body) > _BODY_LIMIT_BYTES:
            start = body[:1000]
            found = _FIRST_MODEL.match(start if isinstance(start, str) else start.decode("latin-1"))
            return Asked(found[1] if found else None)
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            return None
        return _asked(body) if isinstance(body, dict) else None
    if isinstance(body, dict):
        return _asked(body)
    return None if body is None else Asked()  # still to be made: nobody can say


def _asked(body: Mapping[str, Any]) -> Asked | None:
    model = body.get("model")
    if not isinstance(model, str):
        if not isinstance(body.get("messages"), list):
            return None
        model = None
    return Asked(model, body.get("stream") is True)


def _request(client: Any, endpoint: Endpoint | None, url: Any, body: Any) -> Request | None:
    asked = None if endpoint is None else read_request(body)
    if endpoint is None or asked is None:
        return None
    return Request(endpoint, asked.model, asked.stream, type(client), url)


def _head(status: int, headers: Mapping[str, str]) -> Head:
    return Head(
        status, headers.get("content-type", "").strip().lower(), headers.get("content-encoding", "").strip().lower()
    )


# --- httpx, and httpx2, which continues it


def httpx(endpoint_at: Endpoints) -> Wire:
    def identify(client: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request | None:
        request: Any = args[0] if args else kwargs.get("request")
        if getattr(request, "method", None) != "POST":
            return None
        endpoint = endpoint_at(request.url.path)
        # What is still to be made (of a generator, a file) is no content yet.
        return None if endpoint is None else _request(client, endpoint, request.url, vars(request).get("_content", request))

    return Wire(
        identify=identify,
        head=lambda response: _head(response.status_code, response.headers),
        content=lambda response: vars(response).get("_content"),
        watch=_watch_httpx,
        sending=frozenset({"handle_request", "handle_async_request"}),
        status_error="HTTPStatusError",
    )


def _watch_httpx(response: Any, tap: Tap) -> None:
    if "content-encoding" in response.headers:
        decoder = response._get_content_decoder()
        vars(response).pop("_decoder", None)  # this one is ours: the response makes another for itself
        tap.expand = partial(_expanded, decoder)
    response.stream._stream = _Pieces(response.stream._stream, tap)


def _expanded(decoder: Any, piece: bytes) -> bytes:
    data = decoder.decode(piece)
    return data if isinstance(data, bytes) else b"".join(data)  # httpx2 decodes in portions


class _Pieces:
    """The bytes of a body, of either direction, as they come in. All ways of httpx's to the body lead through here."""

    __slots__ = ("_pieces", "_tap")

    def __init__(self, pieces: Any, tap: Tap) -> None:
        self._pieces = pieces
        self._tap = tap

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pieces, name)

    def __iter__(self) -> _Reading:
        return _Reading(iter(self._pieces), self._tap)

    def __aiter__(self) -> _AsyncReading:
        return _AsyncReading(aiter(self._pieces), self._tap)

    def close(self) -> None:
        try:
            self._pieces.close()
        finally:
            self._tap.drop()

    async def aclose(self) -> None:
        try:
            await self._pieces.aclose()
        finally:
            self._tap.drop()


class _Reading(_Pieces):
    """An iterator over them. What closes it closes the one inside, not the body."""

    __slots__ = ()

    def __iter__(self) -> _Reading:
        return self

    def __next__(self) -> bytes:
        try:
            piece: bytes = next(self._pieces)
        except StopIteration:
            self._tap.done()
            raise
        except BaseException as error:
            self._tap.failed(error)
            raise
        self._tap.feed(piece)
        return piece

    def close(self) -> None:
        if hasattr(self._pieces, "close"):
            self._pieces.close()


class _AsyncReading(_Pieces):
    """The same for the other direction, with what makes it an asynchronous generator: httpx2 closes one at once."""

    __slots__ = ()

    def __aiter__(self) -> _AsyncReading:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece: bytes = await anext(self._pieces)
        except StopAsyncIteration:
            self._tap.done()
            raise
        except BaseException as error:
            self._tap.failed(error)
            raise
        self._tap.feed(piece)
        return piece

    def asend(self, value: Any) -> Any:
        return self._pieces.asend(value)

    def athrow(self, *error: Any) -> Any:
        return self._pieces.athrow(*error)

    async def aclose(self) -> None:
        if hasattr(self._pieces, "aclose"):
            await self._pieces.aclose()


# --- what follows is done in the classes of a library: of a single response, a method may be all that a program keeps

_TAP: Final = "_ecoimpact_tap"


class _Tapped:
    """What a response keeps: its tap, and who reads."""

    __slots__ = ("by_response", "tap")

    def __init__(self, tap: Tap) -> None:
        self.tap = tap
        self.by_response = False  # not by the program, from what lies below the response


# --- requests


def requests(endpoint_at: Endpoints) -> Wire:
    def identify(client: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request | None:
        request: Any = args[0] if args else kwargs.get("request")
        if getattr(request, "method", None) != "POST":
            return None
        endpoint = endpoint_at(request.url.partition("?")[0])
        return None if endpoint is None else _request(client, endpoint, request.url, getattr(request, "body", None))

    return Wire(
        identify=identify,
        head=lambda response: _head(response.status_code, response.headers),
        content=lambda response: response._content if isinstance(response._content, bytes) else None,
        watch=_watch_requests,
        sending=frozenset({"urlopen"}),
        status_error="HTTPError",
    )


def _watch_requests(response: Any, tap: Tap) -> None:
    """A program reads the response, or goes past it to urllib3's below, and reads that."""
    vars(response)[_TAP] = tapped = _Tapped(tap)
    if hasattr(response.raw, "__dict__"):
        vars(response.raw)[_TAP] = tapped


def _contents(function: Function) -> Function:
    """``Response.iter_content``, by which all else of the response is read."""

    def watched(response: Any, *args: Any, **kwargs: Any) -> Any:
        contents = function(response, *args, **kwargs)
        tapped = vars(response).get(_TAP)
        if tapped is None:
            return contents
        tapped.by_response = True
        return _passed_on(contents, tapped.tap)

    return watched


def _passed_on(pieces: Iterator[bytes], tap: Tap, feed: Callable[[bytes], None] | None = None) -> Iterator[bytes]:
    try:
        for piece in pieces:
            if feed is not None:
                feed(piece)
            yield piece
    except GeneratorExit:
        raise  # the program wants no more: that it is the end will be told when the response is closed
    except BaseException as error:
        tap.failed(error)
        raise
    tap.done()


def _read(function: Function) -> Function:
    """``read`` and ``read1`` of urllib3's response."""

    def watched(raw: Any, *args: Any, **kwargs: Any) -> Any:
        tapped = vars(raw).get(_TAP)
        if tapped is None:
            return function(raw, *args, **kwargs)
        tap = tapped.tap
        try:
            data = function(raw, *args, **kwargs)
        except BaseException as error:
            if not tapped.by_response:  # which gives the error another name
                tap.failed(error)
            raise
        tap.feed(data)
        if not tapped.by_response and _is_over(raw):
            tap.done()
        return data

    return watched


def _is_over(raw: Any) -> bool:
    """Whether there is nothing more to read, neither from the connection nor from what was decompressed."""
    decompressed = len(getattr(raw, "_decoded_buffer", b"")) or getattr(raw._decoder, "has_unconsumed_tail", False)
    return bool(raw.closed) and not decompressed


def _read_chunked(function: Function) -> Function:
    def watched(raw: Any, *args: Any, **kwargs: Any) -> Any:
        pieces = function(raw, *args, **kwargs)
        tapped = vars(raw).get(_TAP)
        if tapped is None:
            return pieces
        if tapped.by_response:
            return _fed(pieces, tapped.tap)
        return _passed_on(pieces, tapped.tap, tapped.tap.feed)

    return watched


def _fed(pieces: Iterator[bytes], tap: Tap) -> Iterator[bytes]:
    for piece in pieces:
        tap.feed(piece)
        yield piece


def _closed(function: Function) -> Function:
    def watched(response: Any) -> Any:
        try:
            return function(response)
        finally:
            if (tapped := vars(response).get(_TAP)) is not None:
                tapped.tap.drop()

    return watched


# --- aiohttp


def aiohttp(endpoint_at: Endpoints) -> Wire:
    def identify(client: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request | None:
        if len(args) < 2 or args[0] not in ("POST", "post"):
            return None
        endpoint = endpoint_at(str(args[1]).partition("?")[0])
        if endpoint is None:
            return None
        body, data = kwargs.get("json"), kwargs.get("data")
        if (body is not None and not isinstance(body, dict)) or isinstance(data, dict | list | tuple):
            return None  # no object, or a form
        return _request(client, endpoint, client._build_url(args[1]), data if body is None else body)

    return Wire(
        identify=identify,
        head=lambda response: _head(response.status, response.headers),
        content=lambda response: response._body,
        watch=_watch_aiohttp,
        sending=frozenset({"start"}),
        status_error="ClientResponseError",
    )


def _watch_aiohttp(response: Any, tap: Tap) -> None:
    """What comes in is decompressed and put into a buffer, from where a program takes it in many ways."""
    vars(response)[_TAP] = _Tapped(tap)
    stream, alive = response.content, weakref.ref(tap)
    if hasattr(stream, "_buffer"):
        stream._buffer = _Arrivals(stream._buffer, alive)
    stream.on_eof(partial(_arrived, alive))


class _Arrivals(deque[bytes]):
    """The buffer. What holds it may outlive the response: it does not keep the tap."""

    __slots__ = ("_tap",)

    def __init__(self, pieces: deque[bytes], tap: weakref.ref[Tap]) -> None:
        super().__init__()
        self._tap = tap
        for piece in pieces:
            self.append(piece)

    def append(self, piece: bytes) -> None:
        super().append(piece)
        if (tap := self._tap()) is not None:
            tap.feed(piece)


def _arrived(alive: weakref.ref[Tap]) -> None:
    if (tap := alive()) is not None:
        tap.done()


_READING: Final = frozenset({"_wait", "_read_nowait"})
"""Of aiohttp's stream, below all the ways of reading it."""


def _left(function: Function) -> Function:
    """``close`` and ``release``, after which the stream itself says that it was left."""

    def watched(response: Any) -> Any:
        tapped = vars(response).get(_TAP)
        if tapped is not None:
            tapped.tap.left(response.content.exception(), _READING)
        return function(response)

    return watched


AROUND: Final[Mapping[str, Mapping[str, Around]]] = {
    "requests.models": {"Response.iter_content": _contents, "Response.close": _closed},
    "urllib3.response": {
        "HTTPResponse.read": _read,
        "HTTPResponse.read1": _read,
        "HTTPResponse.read_chunked": _read_chunked,
    },
    "aiohttp.client_reqrep": {"ClientResponse.close": _left, "ClientResponse.release": _left},
}
"""What stands around methods by which answers are read and left."""
