"""SDKs without one function that all requests go through: the methods that make them are watched one by one.

Rules: those of ``wrapper``; a method that calls another watched one of the same client counts once, as the outermost of
them. A generator that sends its request when it is first advanced starts its call then, not before.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from ecoimpact.instrumentation.call import Call, Tracer, attach
from ecoimpact.instrumentation.dict_answers import observe_dict
from ecoimpact.instrumentation.generators import (
    AsyncGeneratorItems,
    GeneratorItems,
    async_generator,
    generator,
    nobody,
)
from ecoimpact.instrumentation.layers import LAYER, Layer
from ecoimpact.instrumentation.provider import Method, Provider, Request
from ecoimpact.instrumentation.report import note_failure, quietly
from ecoimpact.instrumentation.stream import TAG, hold, status_of

Function = Callable[..., Any]

BUILT_IN: Final = (TypeError, ValueError, RuntimeError, AttributeError)
"""What SDKs raise for wrong arguments, before anything is sent."""

_calling: ContextVar[tuple[Any, Any] | None] = ContextVar("ecoimpact_calling", default=None)
"""The clients that are inside a watched method now: the innermost, and those around it. Never kept over a ``yield``."""


class Calls:
    """Makes what stands in for one method."""

    def __init__(self, provider: Provider, tracer: Tracer, is_active: Callable[[Any], bool], method: Method) -> None:
        self.provider = provider
        self.tracer = tracer
        self.is_active = is_active
        self.method = method

    def wrap(self, function: Function) -> Function:
        lazy = self.method.lazy or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        recognise, begin, failed, observe = self._recognise, self.begin, self.failed, self.observe

        def watched(client: Any, *args: Any, **kwargs: Any) -> Any:
            request = recognise(client, args, kwargs)
            if request is not None and lazy and request.stream:
                return self._later(function(client, *args, **kwargs), client, request)
            call = begin(client, request)
            if call is None:
                return function(client, *args, **kwargs)
            try:
                result = function(client, *args, **kwargs)
            except BaseException as error:
                failed(call, error)
                raise
            finally:
                release()
            return observe(call, result)

        async def watched_async(client: Any, *args: Any, **kwargs: Any) -> Any:
            request = recognise(client, args, kwargs)
            if request is not None and lazy and request.stream:
                return self._later(await function(client, *args, **kwargs), client, request)
            call = begin(client, request)
            if call is None:
                return await function(client, *args, **kwargs)
            try:
                result = await function(client, *args, **kwargs)
            except BaseException as error:
                failed(call, error)
                raise
            finally:
                release()
            return observe(call, result)

        return watched_async if self.method.asynchronous or inspect.iscoroutinefunction(function) else watched

    @quietly
    def _recognise(self, client: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request | None:
        return self.method.identify(client, args, kwargs) if self.is_active(client) else None

    def begin(self, client: Any, request: Request | None) -> Call | None:
        """The call of a request, unless there is none, or a method around this one has it."""
        if request is None:
            return None
        try:
            layer = LAYER.get()
            if layer is not None and layer.open:
                return None
            around = _calling.get()
            outer = around
            while outer is not None:
                if outer[0] is client:
                    return None
                outer = outer[1]
            call = Call(self.provider, request, self.tracer)
            _calling.set((client, around))
        except Exception as error:  # noqa: BLE001 - the boundary
            note_failure(error)
            return None
        return call

    @quietly
    def failed(self, call: Call, error: BaseException) -> None:
        early = type(error) in BUILT_IN or _is_validation(error) or _is_one_of(error, self.provider.refusals)
        if not early or call.reader.finished or passed_through(error, self.provider.sending):
            call.end(status_of(error), error)

    def observe(self, call: Call, result: Any) -> Any:
        """Watch what a call gave; what the program gets of it: the same object, or a generator around a bare one."""
        try:
            if type(result) is dict:
                observe_dict(call, result)
                return result
            fields = getattr(result, "__dict__", {})
            content = fields.get(self.method.inside, result) if self.method.inside else result
            if not (inspect.isgenerator(content) or inspect.isasyncgen(content)):
                call.answer(content)
                if content is not result:
                    attach(result, call.impacts)
                return result
            watched = watch_generator(call, content, nobody if content is result else weakref.ref(result))
            if content is result:
                return watched
            fields[TAG], fields[self.method.inside] = call, watched
        except Exception as error:  # noqa: BLE001 - the boundary
            note_failure(error)
        return result

    def _later(self, result: Any, client: Any, request: Request) -> Any:
        """Watch what will send the request when it is advanced: a generator, or a context manager made of one."""
        try:
            if inspect.isgenerator(result):
                return generator(_Lazy(self, result, client, request), result)
            if inspect.isasyncgen(result):
                return async_generator(_Lazy(self, result, client, request), result)
            fields = getattr(result, "__dict__", {})
            inner = fields.get("gen")  # what ``contextlib`` runs to enter and to leave
            if inspect.isgenerator(inner):
                fields["gen"] = generator(_Entered(self, inner, client, request), inner)
            elif inspect.isasyncgen(inner):
                fields["gen"] = async_generator(_Entered(self, inner, client, request), inner)
        except Exception as error:  # noqa: BLE001 - the boundary
            note_failure(error)
        return result


def watch_generator(call: Call, content: Any, holder: Callable[[], Any], *, covered: bool = False) -> Any:
    """A generator over one whose request was sent already: it has to end even if it is never advanced.

    ``covered``: should it be sent only now, the SDKs below pass through.
    """
    kind = _Covered if covered else _Sent
    if inspect.isgenerator(content):
        items: Any = GeneratorItems(content, call, holder)
        watched: Any = generator(kind(items), content)
    else:
        items = AsyncGeneratorItems(content, call, holder)
        watched = async_generator(kind(items), content)
    hold(items)
    return watched


class _Sent:
    """A generator whose request went out when it was made."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def open(self) -> Any:
        return self._items

    def failed(self, _error: BaseException) -> None:
        return

    def opened(self, _first: Any) -> Any:
        return self._items

    def left(self) -> None:
        return


class _Covered(_Sent):
    """The same, of a function that asks other SDKs, when its generator is first advanced."""

    def open(self) -> Any:
        self._layer = Layer.enter()
        return self._items

    def failed(self, _error: BaseException) -> None:
        self._layer.leave()

    def opened(self, _first: Any) -> Any:
        self._layer.leave()
        return self._items


class _Lazy:
    """A generator that sends its request when it is first advanced."""

    _call: Call | None = None

    def __init__(self, calls: Calls, inner: Any, client: Any, request: Request) -> None:
        self._calls = calls
        self._inner = inner
        self._client = client
        self._request = request

    @quietly
    def _begin(self) -> None:
        if self._calls.is_active(self._client):
            self._call = self._calls.begin(self._client, self._request)

    def open(self) -> Any:
        self._begin()
        return self._inner

    @quietly
    def failed(self, error: BaseException) -> None:
        if self._call is not None:
            release()
            if isinstance(error, StopIteration | StopAsyncIteration):
                self._call.end()
            else:
                self._calls.failed(self._call, error)

    def opened(self, first: Any) -> Any:
        if self._call is None:
            return self._inner
        release()
        return self._watched(self._call, first) or self._inner

    @quietly
    def _watched(self, call: Call, first: Any) -> Any:
        kind = GeneratorItems if inspect.isgenerator(self._inner) else AsyncGeneratorItems
        items = kind(self._inner, call, nobody)
        hold(items)
        items.read(first)
        return items

    def left(self) -> None:
        return


class _Entered(_Lazy):
    """A context manager that sends its request when it is entered, and gives a response that holds the items."""

    @quietly
    def _watched(self, call: Call, first: Any) -> Any:
        self._calls.observe(call, first)
        return self._inner

    @quietly
    def left(self) -> None:
        if self._call is not None and self._call.is_open:
            self._call.end_early()


def release() -> None:
    """Leave the watched method that was entered last."""
    calling = _calling.get()
    if calling is not None:
        _calling.set(calling[1])


def passed_through(error: BaseException, names: frozenset[str]) -> bool:
    """Whether an exception came out of one of these functions."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_name in names:
            return True
        trace = trace.tb_next
    return False


def _is_validation(error: BaseException) -> bool:
    kind = type(error)
    return kind.__name__ == "ValidationError" and kind.__module__.partition(".")[0].startswith("pydantic")


def _is_one_of(error: BaseException, names: frozenset[str]) -> bool:
    return bool(names) and any(kind.__name__ in names for kind in type(error).__mro__)
