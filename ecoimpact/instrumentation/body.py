"""Usage from an HTTP body that the program reads by itself: ``with_streaming_response``, ``.iter_lines()``, a proxy's way.

Rules: the bytes pass through unchanged and at once; what is kept is bounded; parsing an answer the usual way switches this
off, since the SDK's objects are read then.
"""

from __future__ import annotations

import functools
import json
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

from ecoimpact.instrumentation.call import Call, feed_json
from ecoimpact.instrumentation.report import quietly
from ecoimpact.types import Status

BODY_LIMIT_BYTES: Final = 8 * 2**20


def watch_body(http_response: Any, call: Call) -> Callable[[], None]:
    """Observe the decoded bytes of an unread response (httpx's, either generation); returns what ends the watch."""
    fields = http_response.__dict__
    if "_content" in fields:
        return _nothing
    content_type = http_response.headers.get("content-type", "")
    if content_type.startswith("text/event-stream"):
        decoder: EventDecoder | JsonBody = EventDecoder(call)
    elif "json" in content_type:
        decoder = JsonBody(call)
    else:
        return _nothing
    # All of httpx's ways to the body (read, iter_text, iter_lines, ...) go through these two methods of the instance.
    fields["iter_bytes"] = functools.partial(_tee, weakref.ref(http_response), decoder)
    fields["aiter_bytes"] = functools.partial(_tee_async, weakref.ref(http_response), decoder)
    return functools.partial(_stop, weakref.ref(http_response))


def _nothing() -> None:
    return


def _stop(response: weakref.ref[Any]) -> None:
    fields = getattr(response(), "__dict__", {})
    fields.pop("iter_bytes", None)
    fields.pop("aiter_bytes", None)


def _tee(ref: weakref.ref[Any], decoder: Any, chunk_size: int | None = None) -> Iterator[bytes]:
    response: Any = ref()
    try:
        for chunk in type(response).iter_bytes(response, chunk_size):
            decoder.feed(chunk)
            yield chunk
    except Exception as error:
        decoder.end("error", error)
        raise
    decoder.end("ok")
    _stop(ref)


async def _tee_async(ref: weakref.ref[Any], decoder: Any, chunk_size: int | None = None) -> AsyncIterator[bytes]:
    response: Any = ref()
    try:
        async for chunk in type(response).aiter_bytes(response, chunk_size):
            decoder.feed(chunk)
            yield chunk
    except Exception as error:
        decoder.end("error", error)
        raise
    decoder.end("ok")
    _stop(ref)


class EventDecoder:
    """Server-sent events, by the WHATWG HTML standard, section 9.2, as far as the ``data`` of JSON events needs it."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._rest: list[bytes] = []  # of a line that has not ended
        self._rest_bytes = 0
        self._data: list[bytes] = []
        self._data_bytes = 0

    @quietly
    def feed(self, chunk: bytes) -> None:
        if b"\n" not in chunk:
            self._keep(chunk)
            return
        first, *lines, rest = chunk.split(b"\n")
        self._line(b"".join([*self._rest, first]).rstrip(b"\r"))
        self._rest, self._rest_bytes = [], 0
        for line in lines:
            self._line(line.rstrip(b"\r"))
        self._keep(rest)

    def _keep(self, part: bytes) -> None:
        self._rest_bytes += len(part)
        if self._rest_bytes > BODY_LIMIT_BYTES:
            self._rest = []  # too long a line to be an event of ours
        elif part:
            self._rest.append(part)

    def _line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data_bytes += len(line)
            if self._data_bytes <= BODY_LIMIT_BYTES:
                self._data.append(line[5:].strip())
        elif not line and self._data:
            data, self._data, self._data_bytes = b"\n".join(self._data), [], 0
            try:
                event = json.loads(data.decode())  # spares it finding out the encoding, which the standard fixes
            except (ValueError, RecursionError):  # "[DONE]", or no JSON
                return
            if isinstance(event, dict):
                self._call.feed(event)

    @quietly
    def end(self, status: Status, error: BaseException | None = None) -> None:
        self._line(b"".join(self._rest).rstrip(b"\r"))
        self._line(b"")
        self._call.end(status, error)


class JsonBody:
    """A plain answer, kept up to a limit and read off the caller's path."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._body = bytearray()
        self._is_whole = True

    @quietly
    def feed(self, chunk: bytes) -> None:
        if self._is_whole and len(self._body) + len(chunk) <= BODY_LIMIT_BYTES:
            self._body += chunk
        else:
            self._body.clear()
            self._is_whole = False

    @quietly
    def read(self) -> None:
        """Read what has come now: it may be all."""
        feed_json(self._call.reader, bytes(self._body))

    @quietly
    def end(self, status: Status, error: BaseException | None = None) -> None:
        self._call.feed_body(bytes(self._body))
        self._call.end(status, error)
