"""The functions put around an SDK's own: one per role, for sync and async alike.

Rules: the wrapped function is called exactly once, with the arguments the caller gave; what it returns or raises is what
the caller gets. Everything of ours around it is guarded.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from ecoimpact.instrumentation.body import watch_body
from ecoimpact.instrumentation.call import ATTRIBUTE, Call, Tracer, attach
from ecoimpact.instrumentation.functions import Functions, WatchedStream, items
from ecoimpact.instrumentation.layers import LAYER
from ecoimpact.instrumentation.methods import BUILT_IN, Calls, passed_through
from ecoimpact.instrumentation.provider import Provider, Role, Shape, Target
from ecoimpact.instrumentation.report import note_failure, quietly
from ecoimpact.instrumentation.stream import TAG, hold, observe_helper, observe_stream, status_of
from ecoimpact.instrumentation.wire import Sends

Function = Callable[..., Any]

_SENDING = frozenset({"send"})
"""Of the HTTP client: what raises below it was a request."""


class RawResponse:
    """Kept by a raw response: ends the call if the program drops the response without parsing it."""

    __slots__ = ("__weakref__", "call", "handed_over", "http_response", "stop_watching")

    def __init__(self, call: Call, http_response: Any, stop_watching: Callable[[], None]) -> None:
        self.call = call
        self.http_response = http_response
        self.stop_watching = stop_watching
        self.handed_over = False  # to the stream that it was parsed into, which now sees the end

    @quietly
    def drop(self) -> None:
        call = self.call
        if not call.is_open:
            return
        self.stop_watching()
        body = getattr(self.http_response, "_content", None)  # httpx: there once the body has been read
        if isinstance(body, bytes) and not call.reader.finished:
            call.feed_body(body)
            call.end()
        else:
            call.end_early()

    def __del__(self) -> None:
        if not self.handed_over:
            self.drop()


class Wrappers:
    """Makes what stands in for a function of an SDK, for one provider.

    Plain functions, which cost a third of a wrapper object: one of them is around every request.
    """

    def __init__(self, provider: Provider, tracer: Tracer, is_active: Callable[[Any], bool]) -> None:
        self.provider = provider
        self.tracer = tracer
        self.is_active = is_active

    def wrap(self, target: Target, function: Function) -> Function:
        """A function that stands in for ``function``, a method: of the same name, kind and documentation."""
        asynchronous, role = inspect.iscoroutinefunction(function), target.role
        if target.method is not None:
            watched = Calls(self.provider, self.tracer, self.is_active, target.method).wrap(function)
        elif target.wire is not None:
            watched = Sends(self.provider, self.tracer, self.is_active, target.wire).wrap(function)
        elif target.around is not None:
            watched = target.around(function)
        elif target.begin is not None:
            watched = Functions(self.provider, self.tracer, self.is_active, target.begin).wrap(function)
        elif role is Role.ITEMS:
            watched = items(function)
        elif role is Role.CALL:
            watched = self._call_async(function) if asynchronous else self._call(function)
        elif role is Role.SHOW:
            watched = _shown(function)
        elif role is Role.PARSE:
            watched = self._parse_async(function) if asynchronous else self._parse(function)
        else:
            after = {
                Role.CLOSE: self._closed,
                Role.HELPER: self._helped,
                Role.SNAPSHOT: self._carry,
                Role.REBUILD: self._hand_on,
            }[role]
            watched = _then_async(function, after) if asynchronous else _then(function, after)
        return functools.wraps(function)(watched)

    # --- CALL: one request

    def _call(self, function: Function) -> Function:
        begin, failed, observe, release = self._begin, self._failed, self._observe, self.provider.release

        def watched(client: Any, *args: Any, **kwargs: Any) -> Any:
            call = begin(client, args, kwargs)
            if call is None:
                return function(client, *args, **kwargs)
            try:
                result = function(client, *args, **kwargs)
            except BaseException as error:
                failed(call, error)
                raise
            finally:
                release(args, kwargs)
            observe(call, result)
            return result

        return watched

    def _call_async(self, function: Function) -> Function:
        begin, failed, observe, release = self._begin, self._failed, self._observe, self.provider.release

        async def watched(client: Any, *args: Any, **kwargs: Any) -> Any:
            call = begin(client, args, kwargs)
            if call is None:
                return await function(client, *args, **kwargs)
            try:
                result = await function(client, *args, **kwargs)
            except BaseException as error:
                failed(call, error)
                raise
            finally:
                release(args, kwargs)
            observe(call, result)
            return result

        return watched

    def _begin(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        try:
            layer = LAYER.get()
            if layer is not None and layer.open:
                return None  # an outer layer has the request
            provider = self.provider
            request = provider.identify(client, args, kwargs) if self.is_active(client) else None
            if request is None or not provider.claim(args, kwargs):
                return None
            call = Call(provider, request, self.tracer)
            if not request.stream:
                provider.observe_parser(args, kwargs, call.reader)
            elif call.context.request_stream_usage:
                call.hides_usage = provider.ask_for_usage(args, kwargs)
        except Exception as error:  # noqa: BLE001 - the boundary
            note_failure(error)
            return None
        return call

    @quietly
    def _failed(self, call: Call, error: BaseException) -> None:
        # A call that failed before it was sent reached no provider. SDKs raise plain built-in errors then.
        if type(error) not in BUILT_IN or call.reader.finished or passed_through(error, _SENDING):
            call.end(status_of(error), error)

    def _observe(self, call: Call, result: Any) -> None:
        try:
            shape = self.provider.shape(result)
            if shape is Shape.ITEM:
                call.answer(result)
            elif shape is Shape.STREAM:
                observe_stream(result, call)
            else:
                self._observe_raw(call, result)
        except Exception as error:  # noqa: BLE001 - the boundary
            note_failure(error)

    def _observe_raw(self, call: Call, raw: Any) -> None:
        http_response = raw.http_response
        if "_content" in http_response.__dict__:
            call.answered()  # it has been read; what the program does with it later takes nothing of the provider's time
        stop_watching = watch_body(http_response, call)
        raw.__dict__[TAG] = response = RawResponse(call, http_response, stop_watching)
        hold(response)

    # --- PARSE: a raw response becomes an answer or a stream. The SDK parses every answer with it: the rest pass at once.

    def _parse(self, function: Function) -> Function:
        def watched(response: Any, *args: Any, **kwargs: Any) -> Any:
            raw = self._raw(response) if TAG in response.__dict__ else None
            if raw is None:
                return function(response, *args, **kwargs)
            try:
                result = function(response, *args, **kwargs)
            except BaseException as error:
                self._failed(raw.call, error)
                raise
            self._parsed(raw, response, result)
            return result

        return watched

    def _parse_async(self, function: Function) -> Function:
        async def watched(response: Any, *args: Any, **kwargs: Any) -> Any:
            raw = self._raw(response) if TAG in response.__dict__ else None
            if raw is None:
                return await function(response, *args, **kwargs)
            try:
                result = await function(response, *args, **kwargs)
            except BaseException as error:
                self._failed(raw.call, error)
                raise
            self._parsed(raw, response, result)
            return result

        return watched

    @quietly
    def _raw(self, response: Any) -> RawResponse | None:
        raw = response.__dict__[TAG]
        if not isinstance(raw, RawResponse):
            return None
        raw.stop_watching()
        return raw

    @quietly
    def _parsed(self, raw: RawResponse, response: Any, result: Any) -> None:
        call = raw.call
        if self.provider.shape(result) is Shape.STREAM:
            raw.handed_over = True
            observe_stream(result, call)
            return
        if call.is_open:
            if not call.reader.finished and not call.reader.feed(result):
                # Parsed into a type of the caller's own: the provider's fields are in the body.
                body = getattr(raw.http_response, "_content", None)
                if isinstance(body, bytes):
                    call.feed_body(body)
            call.end()
        attach(result, call.impacts)
        attach(response, call.impacts)

    # --- what follows the other functions: of an object, its result and its arguments

    @quietly
    def _closed(self, instance: Any, _result: Any, _arguments: Any) -> None:
        """A stream or a raw response ended before its last item."""
        fields = getattr(instance, "__dict__", {})
        tag = fields.get(TAG)
        if isinstance(tag, RawResponse):
            tag.drop()
        elif isinstance(tag, Call):
            tag.end_early()
            fields[ATTRIBUTE] = tag.impacts
        elif isinstance(tag, WatchedStream):
            tag.drop()

    @quietly
    def _helped(self, instance: Any, _result: Any, _arguments: Any) -> None:
        """A helper was made that consumes a stream for the user."""
        observe_helper(instance, instance.__dict__.get("_raw_stream"))

    @quietly
    def _carry(self, instance: Any, result: Any, _arguments: Any) -> None:
        """A helper returned the accumulated answer."""
        call = getattr(instance, "__dict__", {}).get(TAG)
        if isinstance(call, Call) and (call.reader.finished or not call.is_open):
            attach(result, call.impacts)

    @quietly
    def _hand_on(self, instance: Any, result: Any, arguments: Iterable[Any]) -> None:
        """A new object was made of an answer, by a method or by a plain function."""
        for source in (instance, *arguments):
            fields = getattr(source, "__dict__", {})
            impacts, stream = fields.get(ATTRIBUTE), fields.get(TAG)
            if impacts is not None:
                attach(result, impacts)
            elif result is not None and isinstance(stream, WatchedStream):
                stream.also(result)


def _shown(function: Function) -> Function:
    """``function`` of an answer as it is without figures."""

    @quietly
    def without_figures(instance: Any) -> Any:
        twin = copy.copy(instance)
        del twin.__dict__[ATTRIBUTE]
        return twin

    def watched(instance: Any) -> Any:
        twin = without_figures(instance) if ATTRIBUTE in instance.__dict__ else None
        return function(instance if twin is None else twin)

    return watched


After = Callable[[Any, Any, Iterable[Any]], None]


def _then(function: Function, after: After) -> Function:
    """``function``, and ``after`` it, whether it returned or raised."""

    def watched(instance: Any, *args: Any, **kwargs: Any) -> Any:
        result = None
        try:
            result = function(instance, *args, **kwargs)
        finally:
            after(instance, result, (*args, *kwargs.values()))
        return result

    return watched


def _then_async(function: Function, after: After) -> Function:
    async def watched(instance: Any, *args: Any, **kwargs: Any) -> Any:
        result = None
        try:
            result = await function(instance, *args, **kwargs)
        finally:
            after(instance, result, (*args, *kwargs.values()))
        return result

    return watched
