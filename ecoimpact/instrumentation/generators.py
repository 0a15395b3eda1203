"""Streams that are bare generators: what the program gets is a generator too, around the SDK's own.

Rules: those of ``stream``; and the SDK's generator is advanced, sent to, thrown into and closed exactly when the program
does so to ours, so that what is lazy stays lazy. A generator has no place for figures: its final item carries them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Protocol

from ecoimpact.instrumentation.report import quietly
from ecoimpact.instrumentation.stream import AsyncItems, Items


def nobody() -> None:
    """Stands for the reference to a stream object, where there is none."""
    return


class GeneratorItems(Items):
    """The items of a generator, which can also be sent to, thrown into and closed."""

    __slots__ = ()

    def send(self, value: Any) -> Any:
        return self._advance(self._iterator.send, value)

    def throw(self, error: BaseException) -> Any:
        return self._advance(self._iterator.throw, error)

    def close(self) -> None:
        try:
            self._iterator.close()
        finally:
            self.drop()

    def _advance(self, step: Callable[[Any], Any], value: Any) -> Any:
        try:
            item = step(value)
        except StopIteration:
            self._exhausted()
            raise
        except BaseException as error:
            self._failed(error)
            raise
        self.read(item)
        return item

    @quietly
    def read(self, item: Any) -> None:
        self._hidden(item, final=self._feed(item))


class AsyncGeneratorItems(AsyncItems):
    """The same for an asynchronous generator."""

    __slots__ = ()

    async def asend(self, value: Any) -> Any:
        return await self._advance(self._iterator.asend, value)

    async def athrow(self, error: BaseException) -> Any:
        return await self._advance(self._iterator.athrow, error)

    async def aclose(self) -> None:
        try:
            await self._iterator.aclose()
        finally:
            self.drop()

    async def _advance(self, step: Callable[[Any], Any], value: Any) -> Any:
        try:
            item = await step(value)
        except StopAsyncIteration:
            self._exhausted()
            raise
        except BaseException as error:
            self._failed(error)
            raise
        self.read(item)
        return item

    @quietly
    def read(self, item: Any) -> None:
        self._hidden(item, final=self._feed(item))


class Opening(Protocol):
    """What is to be done around the first item of a generator, which may be when its request goes out. Nothing raises."""

    def open(self) -> Any:
        """What gives the first item."""
        ...

    def failed(self, error: BaseException) -> None:
        """It raised instead; the end of an empty stream is an exception too."""
        ...

    def opened(self, first: Any) -> Any:
        """It gave its first item. What gives the others."""
        ...

    def left(self) -> None:
        """It is over, whichever way."""
        ...


def generator(opening: Opening, name: Any) -> Any:
    """A generator over the one that ``opening`` is for, of its name."""
    made: Any = _passed_on(opening)
    made.__name__, made.__qualname__ = name.__name__, name.__qualname__
    return made


def async_generator(opening: Opening, name: Any) -> Any:
    """The same for an asynchronous one."""
    made: Any = _passed_on_async(opening)
    made.__name__, made.__qualname__ = name.__name__, name.__qualname__
    return made


def _passed_on(opening: Opening) -> Generator[Any, Any, Any]:
    inner = opening.open()
    try:
        try:
            item = next(inner)
        except BaseException as error:
            opening.failed(error)
            raise
        inner = opening.opened(item)
        while True:
            try:
                sent = yield item
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as error:  # noqa: BLE001 - the SDK's generator decides
                item = inner.throw(error)
            else:
                item = next(inner) if sent is None else inner.send(sent)
    except StopIteration as stop:
        return stop.value
    finally:
        opening.left()


async def _passed_on_async(opening: Opening) -> AsyncGenerator[Any, Any]:
    inner = opening.open()
    try:
        try:
            item = await inner.__anext__()
        except BaseException as error:
            opening.failed(error)
            raise
        inner = opening.opened(item)
        while True:
            try:
                sent = yield item
            except GeneratorExit:
                await inner.aclose()
                raise
            except BaseException as error:  # noqa: BLE001 - the SDK's generator decides
                item = await inner.athrow(error)
            else:
                item = await (inner.__anext__() if sent is None else inner.asend(sent))
    except StopAsyncIteration:
        return
    finally:
        opening.left()
