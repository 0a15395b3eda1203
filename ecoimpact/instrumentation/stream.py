"""Streams: the SDK's own object keeps its type and its methods; only the iterator inside is observed.

Rules: an item is passed on at once, whatever we think of it; ends are noted where they happen (exhausted, error, closed,
dropped); a dropped stream must close its connection when it did before, so nothing here refers back to the stream.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

from ecoimpact.instrumentation.call import ATTRIBUTE, Call, attach
from ecoimpact.instrumentation.report import note_failure, quietly

TAG = "_ecoimpact_call"
"""Where a stream, a helper or a raw response keeps its call, in its instance ``__dict__``."""

_held: weakref.WeakSet[Any] = weakref.WeakSet()


def hold(carrier: Any) -> None:
    """Remember what a program still holds of a call that has not ended; ``carrier.drop()`` ends it."""
    _held.add(carrier)


def end_held() -> None:
    """End the calls of streams and raw responses that were never read to their end, when the program ends."""
    for carrier in _snapshot():
        carrier.drop()


def _snapshot() -> list[Any]:
    """What is held now. Other threads go on making streams meanwhile, which can break an iteration: it starts again."""
    for _ in range(1000):
        try:
            return list(_held)
        except RuntimeError:
            continue
    return []


def _disown() -> None:
    """In a forked child: what it inherited half read belongs to the parent, which will count it."""
    for carrier in _snapshot():
        carrier.call.disown()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown)


def observe_stream(stream: Any, call: Call) -> None:
    """Watch an SDK stream object whose items come from its ``_iterator``."""
    fields = stream.__dict__
    if TAG in fields:
        return
    iterator = fields["_iterator"] if "_iterator" in fields else _Unmade(weakref.ref(stream))
    fields[TAG] = call
    kind = AsyncItems if hasattr(stream.__class__, "__anext__") else Items  # not of a proxy around it, which may have both
    items = kind(iterator, call, weakref.ref(stream))
    fields["_iterator"] = items
    hold(items)


class _Unmade:
    """The iterator of a stream whose SDK makes it on first use. Other tools wait for that too: it is not made before."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Callable[[], Any]) -> None:
        self._stream = stream  # a weak reference

    def __next__(self) -> Any:
        return self._made().__next__()

    async def __anext__(self) -> Any:
        return await self._made().__anext__()

    def _made(self) -> Any:
        """Made of the stream as it is without us: some SDKs copy it, and the copy lives as long as the iterator."""
        fields = self._stream().__dict__
        items, call = fields.pop("_iterator"), fields.pop(TAG)
        try:
            iterator = self._stream()._iterator
        finally:
            fields["_iterator"], fields[TAG] = items, call
        items._iterator = iterator
        return iterator


def observe_helper(helper: Any, stream: Any) -> None:
    """Let a helper that consumes a stream for the user carry the figures too, on itself and on its last events."""
    call = getattr(stream, "__dict__", {}).get(TAG)
    if call is None:
        return
    iterator = helper.__dict__["_iterator"]
    helper.__dict__[TAG] = call
    carrier = AsyncCarrier if hasattr(iterator, "__anext__") else Carrier
    helper.__dict__["_iterator"] = carrier(iterator, call, weakref.ref(helper))


class Observed:
    """What both directions of iteration share."""

    __slots__ = ("__weakref__", "_attentive", "_feed", "_iterator", "_stream", "call")

    def __init__(self, iterator: Any, call: Call, stream: Callable[[], Any]) -> None:
        self._iterator = iterator
        self._stream = stream  # a weak reference
        self.call = call
        self._feed = call.reader.feed
        self._attentive = True  # until the first token has come; throughout where an item has to be hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)

    def _hidden(self, item: Any, *, final: bool) -> bool:
        """Look closer at an item; true for one that the program did not ask for and must not see."""
        call = self.call
        call.note(item, final=final)
        self._attentive = call.first_token_s is None or call.hides_usage
        return call.hides_usage and call.reader.is_usage_only(item)

    @quietly
    def _exhausted(self) -> None:
        self.call.end()
        self._carry()

    @quietly
    def _failed(self, error: BaseException) -> None:
        self.call.end(status_of(error), error)
        self._carry()

    @quietly
    def drop(self) -> None:
        if self.call.is_open and self.call.end_early():
            self._carry()

    def _carry(self) -> None:
        stream = self._stream()
        if stream is not None:
            stream.__dict__[ATTRIBUTE] = self.call.impacts

    def __del__(self) -> None:
        self.drop()


class Items(Observed):
    """The iterator inside a stream. What runs for every item is kept to one reading, here and in its twin below."""

    __slots__ = ()

    def __iter__(self) -> Items:
        return self

    def __next__(self) -> Any:
        while True:
            try:
                item = self._iterator.__next__()
            except StopIteration:
                self._exhausted()
                raise
            except BaseException as error:
                self._failed(error)
                raise
            try:
                final = self._feed(item)
                if (final or self._attentive) and self._hidden(item, final=final):
                    continue
            except Exception as error:  # noqa: BLE001 - the boundary
                note_failure(error)
            return item


class AsyncItems(Observed):
    """The iterator inside an asynchronous stream."""

    __slots__ = ()

    def __aiter__(self) -> AsyncItems:
        return self

    async def __anext__(self) -> Any:
        while True:
            try:
                item = await self._iterator.__anext__()
            except StopAsyncIteration:
                self._exhausted()
                raise
            except BaseException as error:
                self._failed(error)
                raise
            try:
                final = self._feed(item)
                if (final or self._attentive) and self._hidden(item, final=final):
                    continue
            except Exception as error:  # noqa: BLE001 - the boundary
                note_failure(error)
            return item


class _Carried:
    """The iterator inside a helper: nothing is counted here, the last events get the figures."""

    __slots__ = ("_call", "_helper", "_iterator")

    def __init__(self, iterator: Any, call: Call, helper: weakref.ref[Any]) -> None:
        self._iterator = iterator
        self._call = call
        self._helper = helper

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)

    @quietly
    def _carry(self, event: Any = None) -> None:
        call = self._call
        if not call.reader.finished and call.is_open:
            return
        if event is not None:
            attach(event, call.impacts)
        helper = self._helper()
        if helper is not None:
            helper.__dict__[ATTRIBUTE] = call.impacts


class Carrier(_Carried):
    __slots__ = ()

    def __iter__(self) -> Carrier:
        return self

    def __next__(self) -> Any:
        try:
            event = self._iterator.__next__()
        except BaseException:
            self._carry()
            raise
        self._carry(event)
        return event


class AsyncCarrier(_Carried):
    __slots__ = ()

    def __aiter__(self) -> AsyncCarrier:
        return self

    async def __anext__(self) -> Any:
        try:
            event = await self._iterator.__anext__()
        except BaseException:
            self._carry()
            raise
        self._carry(event)
        return event


def status_of(error: BaseException) -> Any:
    """``error`` for exceptions, ``cancelled`` for what stops a task or program from outside, ``abandoned`` when closed."""
    if isinstance(error, GeneratorExit):
        return "abandoned"
    return "error" if isinstance(error, Exception) else "cancelled"
