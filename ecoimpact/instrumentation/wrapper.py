"""The functions put around an SDK's own: one per role, for sync and async alike.

Rules: the wrapped function is called exactly once, with the arguments the caller gave; what it returns or raises is what
the caller gets. Everything of ours around it is guarded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ecoimpact.instrumentation.body import watch_body
from ecoimpact.instrumentation.call import ATTRIBUTE, Call, Tracer, attach
from ecoimpact.instrumentation.provider import Provider, Role, Shape
from ecoimpact.instrumentation.report import note_failure, quietly
from ecoimpact.instrumentation.stream import TAG, hold, observe_helper, observe_stream, status_of

Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]


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
    """Makes the wrapper of each role for one provider."""

    def __init__(self, provider: Provider, tracer: Tracer, is_active: Callable[[Any], bool]) -> None:
        self.provider = provider
        self.tracer = tracer
        self.is_active = is_active

    def for_role(self, role: Role, function: Callable[..., Any]) -> Wrapper:
        asynchronous = inspect.iscoroutinefunction(function)
        return {
            Role.CALL: self._call_async if asynchronous else self._call,
            Role.PARSE: self._parse_async if asynchronous else self._parse,
            Role.CLOSE: self._close_async if asynchronous else self._close,
            Role.SNAPSHOT: self._snapshot_async if asynchronous else self._snapshot,
            Role.HELPER: self._helper,
            Role.REBUILD: self._rebuild,
        }[role]

    # --- CALL: one request

    def _call(self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = self._begin(instance, args, kwargs)
        if call is None:
            return wrapped(*args, **kwargs)
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            self._failed(call, error)
            raise
        self._observe(call, result)
        return result

    async def _call_async(
        self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        call = self._begin(instance, args, kwargs)
        if call is None:
            return await wrapped(*args, **kwargs)
        try:
            result = await wrapped(*args, **kwargs)
        except BaseException as error:
            self._failed(call, error)
            raise
        self._observe(call, result)
        return result

    def _begin(self, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        try:
            provider = self.provider
            request = provider.identify(instance, args, kwargs) if self.is_active(instance) else None
            if request is None:
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
        if type(error) in (TypeError, ValueError, RuntimeError, AttributeError) and not call.reader.finished:
            return
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
        stop_watching = watch_body(http_response, call)
        raw.__dict__[TAG] = response = RawResponse(call, http_response, stop_watching)
        hold(response)

    # --- PARSE: a raw response becomes an answer or a stream

    def _parse(self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        raw = self._before_parse(instance)
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            if raw is not None:
                self._failed(raw.call, error)
            raise
        if raw is not None:
            self._parsed(raw, instance, result)
        return result

    async def _parse_async(
        self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        raw = self._before_parse(instance)
        try:
            result = await wrapped(*args, **kwargs)
        except BaseException as error:
            if raw is not None:
                self._failed(raw.call, error)
            raise
        if raw is not None:
            self._parsed(raw, instance, result)
        return result

    def _before_parse(self, instance: Any) -> RawResponse | None:
        raw = getattr(instance, "__dict__", {}).get(TAG)
        if not isinstance(raw, RawResponse) or not raw.call.is_open:
            return None
        raw.stop_watching()
        return raw

    @quietly
    def _parsed(self, raw: RawResponse, instance: Any, result: Any) -> None:
        call = raw.call
        if not call.is_open:
            return
        if self.provider.shape(result) is Shape.STREAM:
            raw.handed_over = True
            observe_stream(result, call)
            return
        if not call.reader.finished and not call.reader.feed(result):
            # Parsed into a type of the caller's own: the provider's fields are in the body.
            body = getattr(raw.http_response, "_content", None)
            if isinstance(body, bytes):
                call.feed_body(body)
        call.end()
        attach(result, call.impacts)
        attach(instance, call.impacts)

    # --- CLOSE: a stream ends before its last item

    def _close(self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            return wrapped(*args, **kwargs)
        finally:
            self._closed(instance)

    async def _close_async(
        self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            return await wrapped(*args, **kwargs)
        finally:
            self._closed(instance)

    @quietly
    def _closed(self, instance: Any) -> None:
        fields = getattr(instance, "__dict__", {})
        tag = fields.get(TAG)
        if isinstance(tag, RawResponse):
            tag.drop()
        elif isinstance(tag, Call):
            tag.end_early()
            fields[ATTRIBUTE] = tag.impacts

    # --- HELPER, SNAPSHOT, REBUILD: objects that the SDK makes of a stream or an answer

    def _helper(self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = wrapped(*args, **kwargs)
        self._helped(instance)
        return result

    @quietly
    def _helped(self, instance: Any) -> None:
        observe_helper(instance, instance.__dict__.get("_raw_stream"))

    def _snapshot(self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = wrapped(*args, **kwargs)
        self._carry(instance, result)
        return result

    async def _snapshot_async(
        self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        result = await wrapped(*args, **kwargs)
        self._carry(instance, result)
        return result

    def _rebuild(self, wrapped: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = wrapped(*args, **kwargs)
        self._hand_on((*args, *kwargs.values()), result)
        return result

    @quietly
    def _hand_on(self, sources: tuple[Any, ...], result: Any) -> None:
        for source in sources:
            impacts = getattr(source, "__dict__", {}).get(ATTRIBUTE)
            if impacts is not None:
                attach(result, impacts)

    @quietly
    def _carry(self, instance: Any, result: Any) -> None:
        call = getattr(instance, "__dict__", {}).get(TAG)
        if isinstance(call, Call) and (call.reader.finished or not call.is_open):
            attach(result, call.impacts)
