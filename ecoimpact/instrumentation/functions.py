"""SDKs whose requests are made by functions of a module, and by other SDKs below them.

Rules: those of ``wrapper``; while such a function runs, the SDKs below pass through. Of functions that call each other, the
innermost one that sent a request has it: what the outer ones make of its answer carries its figures.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from ecoimpact.instrumentation.call import ATTRIBUTE, Call, Tracer, attach
from ecoimpact.instrumentation.generators import nobody
from ecoimpact.instrumentation.layers import LAYER, Layer
from ecoimpact.instrumentation.methods import watch_generator
from ecoimpact.instrumentation.provider import Attempt, Provider
from ecoimpact.instrumentation.report import note_failure, quietly
from ecoimpact.instrumentation.stream import TAG, Observed, hold, status_of

Function = Callable[..., Any]
Begin = Callable[[tuple[Any, ...], Mapping[str, Any]], Attempt | None]


class Running(Layer):
    """A function at work, with the call that it may turn out to be."""

    __slots__ = ("attempt", "call")

    def __init__(self, attempt: Attempt, call: Call, around: Layer | None) -> None:
        super().__init__(around)
        self.attempt = attempt
        self.call = call

    @quietly
    def failed(self, error: BaseException) -> None:
        if self.inner is None and self.attempt.failed(error):
            self.call.end(status_of(error), error)
            self.tell(self.call)
        else:
            self.call.disown()

    def gave(self, result: Any) -> Any:
        """Watch what the function gave; what the program gets of it: the same object, or a generator around a bare one."""
        try:
            call, streams = self.call, _is_stream(result)
            if self.inner is not None:
                call.disown()
                self._carry(self.inner, result, streams=streams)
                return result
            if not self.attempt.answered(result, call.reader):
                call.disown()
                return result
            self.tell(call)
            if not streams:
                call.answer(result)
                return result
            if not call.request.stream:
                call.request = call.request._replace(stream=True)
            if inspect.isgenerator(result) or inspect.isasyncgen(result):
                return watch_generator(call, result, nobody, covered=True)
            result.__dict__[TAG] = watched = WatchedStream(call, result)
            hold(watched)
        except Exception as error:  # noqa: BLE001 - the boundary
            note_failure(error)
        return result

    @staticmethod
    def _carry(inner: Call, result: Any, *, streams: bool) -> None:
        if not streams:
            attach(result, inner.impacts)
        elif (fields := getattr(result, "__dict__", None)) is not None and TAG not in fields:
            fields[TAG] = Carried(inner, result)


class Functions:
    """Makes what stands in for one function."""

    def __init__(self, provider: Provider, tracer: Tracer, is_active: Callable[[Any], bool], begin: Begin) -> None:
        self.provider = provider
        self.tracer = tracer
        self.is_active = is_active
        self.begin = begin

    def wrap(self, function: Function) -> Function:
        enter = self._enter

        def watched(*args: Any, **kwargs: Any) -> Any:
            running = enter(args, kwargs)
            if running is None:
                return function(*args, **kwargs)
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                running.failed(error)
                raise
            finally:
                running.leave()
            return running.gave(result)

        async def watched_async(*args: Any, **kwargs: Any) -> Any:
            running = enter(args, kwargs)
            if running is None:
                return await function(*args, **kwargs)
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                running.failed(error)
                raise
            finally:
                running.leave()
            return running.gave(result)

        return watched_async if inspect.iscoroutinefunction(function) else watched

    def _enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Running | None:
        try:
            attempt = self.begin(args, kwargs) if self.is_active(None) else None
            if attempt is None:
                return None
            running = Running(attempt, Call(self.provider, attempt.request, self.tracer), LAYER.get())
            LAYER.set(running)
        except Exception as error:  # noqa: BLE001 - the boundary
            note_failure(error)
            return None
        return running


def _is_stream(result: Any) -> bool:
    kind = type(result)
    return hasattr(kind, "__next__") or hasattr(kind, "__anext__")


# --- streams whose items come from a method of their class


class WatchedStream(Observed):
    """What such a stream keeps of its call. It does not refer back to the stream."""

    __slots__ = ("_others", "begun")

    def __init__(self, call: Call, stream: Any) -> None:
        super().__init__(None, call, weakref.ref(stream))
        self._others: list[weakref.ref[Any]] = []
        self.begun = False

    def also(self, stream: Any) -> None:
        """Another stream passes the items on, and is to carry the figures as well."""
        self._others.append(weakref.ref(stream))

    @quietly
    def read(self, item: Any) -> None:
        self.begun = True
        self._hidden(item, final=self._feed(item))

    @quietly
    def exhausted(self) -> None:
        self.call.reader.over()
        self._exhausted()

    @quietly
    def failed(self, error: BaseException) -> None:
        self.call.reader.over()
        self._failed(error)

    @quietly
    def drop(self) -> None:
        self.call.reader.over()
        super().drop()

    def _carry(self) -> None:
        super()._carry()
        for ref in self._others:
            if (stream := ref()) is not None:
                stream.__dict__[ATTRIBUTE] = self.call.impacts


class Carried:
    """What a stream keeps that makes items of its own from another's: the last ones get the figures."""

    __slots__ = ("_call", "_stream")

    begun = True  # the other stream sends the request

    def __init__(self, call: Call, stream: Any) -> None:
        self._call = call
        self._stream = weakref.ref(stream)

    @quietly
    def read(self, item: Any) -> None:
        if self._call.reader.finished or not self._call.is_open:
            attach(item, self._call.impacts)
            self.exhausted()

    @quietly
    def exhausted(self) -> None:
        if (stream := self._stream()) is not None:
            stream.__dict__[ATTRIBUTE] = self._call.impacts

    def failed(self, _error: BaseException) -> None:
        self.exhausted()


def items(function: Function) -> Function:
    """``__next__`` or ``__anext__`` of such a stream."""

    def watched(stream: Any) -> Any:
        watching = stream.__dict__.get(TAG)
        if watching is None:
            return function(stream)
        layer = None if watching.begun else Layer.enter()  # the request may go out now
        try:
            item = function(stream)
        except StopIteration:
            watching.exhausted()
            raise
        except BaseException as error:
            watching.failed(error)
            raise
        finally:
            if layer is not None:
                layer.leave()
        watching.read(item)
        return item

    async def watched_async(stream: Any) -> Any:
        watching = stream.__dict__.get(TAG)
        if watching is None:
            return await function(stream)
        layer = None if watching.begun else Layer.enter()
        try:
            item = await function(stream)
        except StopAsyncIteration:
            watching.exhausted()
            raise
        except BaseException as error:
            watching.failed(error)
            raise
        finally:
            if layer is not None:
                layer.leave()
        watching.read(item)
        return item

    return watched_async if inspect.iscoroutinefunction(function) else watched
