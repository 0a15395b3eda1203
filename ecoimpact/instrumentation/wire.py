"""Requests that a program sends with an HTTP library itself, without an SDK.

Rules: those of ``wrapper``; the bytes reach the program unchanged and at once, however it reads them; what is kept of them
is bounded. A request below a call that is being watched already, of an SDK or of another HTTP library, counts there alone.
"""

from __future__ import annotations

import inspect
import sys
import weakref
import zlib
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from ecoimpact.instrumentation.body import BODY_LIMIT_BYTES, EventDecoder, JsonBody
from ecoimpact.instrumentation.call import ATTRIBUTE, Call, Tracer
from ecoimpact.instrumentation.layers import LAYER
from ecoimpact.instrumentation.methods import BUILT_IN, passed_through
from ecoimpact.instrumentation.provider import Head, Provider, Wire
from ecoimpact.instrumentation.report import note_failure, quietly
from ecoimpact.instrumentation.stream import hold, status_of

Function = Callable[..., Any]

_OURS: Final = f"{__package__}."


class Sends:
    """Makes what stands in for the function by which an HTTP library sends a request."""

    def __init__(self, provider: Provider, tracer: Tracer, is_active: Callable[[Any], bool], wire: Wire) -> None:
        self.provider = provider
        self.tracer = tracer
        self.is_active = is_active
        self.wire = wire

    def wrap(self, function: Function) -> Function:
        begin, failed, observe = self._begin, self._failed, self._observe

        def watched(client: Any, *args: Any, **kwargs: Any) -> Any:
            call = begin(client, args, kwargs)
            if call is None:
                return function(client, *args, **kwargs)
            try:
                response = function(client, *args, **kwargs)
            except BaseException as error:
                failed(call, error)
                raise
            observe(call, response)
            return response

        async def watched_async(client: Any, *args: Any, **kwargs: Any) -> Any:
            call = begin(client, args, kwargs)
            if call is None:
                return await function(client, *args, **kwargs)
            try:
                response = await function(client, *args, **kwargs)
            except BaseException as error:
                failed(call, error)
                raise
            observe(call, response)
            return response

        return watched_async if inspect.iscoroutinefunction(function) else watched

    def _begin(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        try:
            request = self.wire.identify(client, args, kwargs)
            if request is None or not self.is_active(client):
                return None
            layer = LAYER.get()
            if (layer is not None and layer.open) or _is_taken(sys._getframe(2)):
                return None
            return Call(self.provider, request, self.tracer)
        except Exception as error:  # noqa: BLE001 - the boundary
            note_failure(error)
            return None

    @quietly
    def _failed(self, call: Call, error: BaseException) -> None:
        # A call that failed before it was sent reached no provider. Libraries raise plain built-in errors then.
        if type(error) not in BUILT_IN or passed_through(error, self.wire.sending):
            call.end(status_of(error), error)

    @quietly
    def _observe(self, call: Call, response: Any) -> None:
        head = self.wire.head(response)
        if 300 <= head.status < 400:
            call.disown()  # sent elsewhere: a request that follows is another
            return
        tap = BodyTap(call, weakref.ref(response), head)
        if head.status >= 400:
            tap.refused(self.wire.status_error)
            return
        content = self.wire.content(response)
        if content is not None:
            tap.feed(content)
            call.first_token_s = None  # all came at once, as far as anybody can tell
            tap.done()
            return
        hold(tap)
        self.wire.watch(response, tap)


def _is_taken(frame: FrameType | None) -> bool:
    """Whether a call that is being watched already is what sends this request: by the frames of ours around it.

    This way SDKs pay nothing for it; only requests to models, and only with a watched HTTP library, take the walk.
    """
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith(_OURS):
            held = frame.f_locals
            call = held.get("call") or getattr(held.get("opening"), "_call", None)
            if isinstance(call, Call) and call.is_open:
                return True
        frame = frame.f_back
    return False


_TEXT: Final = frozenset(b"{[ \t\r\n:deir\xef")
"""How JSON and server-sent events begin (``data``, ``event``, ``id``, ``retry``, a comment, a byte order mark)."""


class BodyTap:
    """Reads the bytes of one answer on their way to the program, and ends its call when no more come.

    The response owns it: whoever drops the response drops this.
    """

    __slots__ = ("__weakref__", "_body", "_head", "_is_lost", "_response", "call", "expand")

    def __init__(self, call: Call, response: weakref.ref[Any], head: Head) -> None:
        self.call = call
        self.expand: Callable[[bytes], bytes] | None = None
        self._response = response
        self._head = head
        self._body: EventDecoder | JsonBody | None = None
        self._is_lost = False

    @quietly
    def feed(self, chunk: bytes) -> None:
        if not chunk or self._is_lost or not self.call.is_open:
            return
        body = self._body
        if body is None or self.expand is not None:
            chunk = self._expanded(chunk)
            if not chunk:
                return
            if body is None:
                body = self._body = self._open(chunk)
        body.feed(chunk)

    def _expanded(self, chunk: bytes) -> bytes:
        """The chunk without its content encoding. The library may have undone it: what reads as text is not compressed."""
        encoding = self._head.content_encoding
        if self.expand is None and encoding in ("gzip", "x-gzip", "deflate") and chunk[0] not in _TEXT:
            self.expand = _inflater()
        try:
            return chunk if self.expand is None else self.expand(chunk)
        except Exception:  # noqa: BLE001 - of any decoder: the program will meet it too, if it looks
            self._is_lost = True
            return b""

    def _open(self, start: bytes) -> EventDecoder | JsonBody:
        kind = self._head.content_type
        call = self.call
        if kind.startswith("text/event-stream") or ("json" not in kind and not start.lstrip().startswith(b"{")):
            call.request = call.request._replace(stream=True)
            return EventDecoder(call)
        return JsonBody(call)

    @quietly
    def refused(self, error_name: str) -> None:
        call = self.call
        if call.is_open:
            call.error_type = error_name
            call.end("error")
            self._carry()

    @quietly
    def done(self) -> None:
        if self._body is not None:
            self._body.end("ok")
        self.call.end()
        self._carry()

    @quietly
    def failed(self, error: BaseException) -> None:
        self.call.end(status_of(error), error)
        self._carry()

    @quietly
    def left(self, failure: BaseException | None, reading: frozenset[str]) -> None:
        error = sys.exception()
        if error is not None and (not isinstance(error, Exception) or passed_through(error, reading)):
            self.failed(error)
        elif failure is not None:
            self.failed(failure)
        else:
            self.drop()

    @quietly
    def drop(self) -> None:
        call = self.call
        if call.is_open:
            if isinstance(self._body, JsonBody):
                self._body.read()
            call.end_early()
            self._carry()

    def _carry(self) -> None:
        response = self._response()
        if response is not None:
            response.__dict__[ATTRIBUTE] = self.call.impacts

    def __del__(self) -> None:
        self.drop()


def _inflater() -> Callable[[bytes], bytes]:
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # by its header, gzip's or zlib's

    def inflate(chunk: bytes) -> bytes:
        data = decompressor.decompress(chunk, BODY_LIMIT_BYTES)
        if decompressor.unconsumed_tail:
            raise ValueError("more than anybody would answer")
        return data

    return inflate
