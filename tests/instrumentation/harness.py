"""Runs one call shape against the local server, bare and instrumented, and notes all that a program could see.

Shapes are written once for both directions: as coroutines that await what can be awaited.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import json
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from server import Reply, Script, Server


@dataclass(frozen=True)
class Expected:
    """The one record that a request must give."""

    endpoint: str
    output_tokens: int | None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimated: bool = False
    status: str = "ok"
    stream: bool = False
    provider: str | None = None
    error_type: str | None = None  # alternatives, over the versions of the SDK, are joined by "|"
    unknown_model: bool = False  # the program named none, nor did the answer: there are no figures
    covered: bool = True  # by the default methodology; else there are no figures either


@dataclass
class Run:
    """What one run of a shape saw: ``seen`` is equal bare and instrumented, ``carriers`` get impacts when instrumented."""

    client: Any
    server: Server
    asynchronous: bool
    seen: list[Any] = field(default_factory=list)
    carriers: list[Any] = field(default_factory=list)

    async def wait(self, value: Any) -> Any:
        return await value if inspect.isawaitable(value) else value

    async def each(self, stream: Any) -> AsyncIterator[Any]:
        if hasattr(stream, "__aiter__") and (
            self.asynchronous or not hasattr(stream, "__iter__")
        ):  # some are of both kinds
            async for item in stream:
                yield item
        else:
            for item in stream:
                yield item

    async def take(self, stream: Any, number: int) -> None:
        """Read some items and leave."""
        async for _ in self.each(stream):
            number -= 1
            if not number:
                return

    def entering(self, manager: Any) -> _Entering:
        return _Entering(manager)

    def see(self, value: Any, *, carries: bool = True) -> Any:
        self.seen.append(describe(value))
        if carries:
            self.carriers.append(value)
        return value

    def note(self, *values: Any) -> None:
        self.seen.append(values)

    async def fails(self, call: Callable[[], Any]) -> BaseException:
        try:
            await self.wait(call())
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
            self.seen.append((type(error), str(error), type(error.__cause__), type(error.__context__)))
            return error
        raise AssertionError("the call was expected to fail")

    async def cancels(self, call: Any) -> None:
        """Cancel an asynchronous call once the server has its request."""
        task = asyncio.ensure_future(call)
        while not self.server.received:
            await asyncio.sleep(0.001)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            self.note(type(error), task.cancelled())
        self.server.release.set()

    async def read_generator(self, answers: Any) -> None:
        """Read a stream that is a bare generator; its last item carries the figures."""
        self.note(type(answers), inspect.isgenerator(answers), inspect.isasyncgen(answers), answers.__qualname__)
        items = [item async for item in self.each(answers)]
        for item in items[:-1]:
            self.see(item, carries=False)
        self.see(items[-1])

    def disconnects(self) -> None:
        """The server must see the connection go, soon, without a collection of cycles."""
        self.note("disconnected", self.server.disconnected.wait(10))


async def close(generator: Any) -> None:
    """Close a generator of either kind."""
    if hasattr(generator, "aclose"):
        await generator.aclose()
    else:
        generator.close()


class _Entering:
    """``async with`` for both kinds of context managers."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager

    async def __aenter__(self) -> Any:
        if hasattr(self.manager, "__aenter__"):
            return await self.manager.__aenter__()
        return self.manager.__enter__()

    async def __aexit__(self, *details: Any) -> Any:
        if hasattr(self.manager, "__aexit__"):
            return await self.manager.__aexit__(*details)
        return self.manager.__exit__(*details)


def describe(value: Any) -> Any:
    """All that a program can see of an SDK object without looking into its ``__dict__``."""
    kind = (type(value).__module__, type(value).__qualname__)
    if type(value) is dict:
        return {name: describe(inner) for name, inner in value.items()}
    if isinstance(value, dict):
        return {
            "type": kind,
            "dict": dict(value),
            "json": json.dumps(value),
            "repr": repr(value),
            "equal to its copies": (copy.copy(value) == value, copy.deepcopy(value) == value),
            "equal to its pickle": pickled(value) == value,
        }
    if not hasattr(value, "model_dump"):
        return (kind, repr(value) if isinstance(value, str | bytes | int | float | list | dict | type(None)) else None)
    return {
        "type": kind,
        "dump": value.model_dump(mode="json", warnings=False),
        "set": value.model_dump(exclude_unset=True, warnings=False),
        "json": value.model_dump_json(warnings=False),
        "repr": repr(value),
        "extra": value.model_extra,
        "request_id": getattr(value, "_request_id", None),
        "equal to its copies": (copy.copy(value) == value, copy.deepcopy(value) == value, value.model_copy() == value),
        "equal to its pickle": pickled(value) == value,
        "fields": sorted(type(value).model_fields),
        "dict": list(dict(value)),
    }


def pickled(value: Any) -> Any:
    try:
        data = pickle.dumps(value)
    except (pickle.PicklingError, AttributeError):  # the SDK's own generic models are not picklable
        return None
    return pickle.loads(data)


@dataclass(frozen=True)
class Shape:
    """A way to call an SDK: how the server answers, what the program does, and the records it must give."""

    name: str
    script: Callable[[], Script | Reply]
    run: Callable[[Run], Awaitable[None]]
    expected: tuple[Expected, ...]
    needs: str = ""  # an attribute path on the client, absent in SDK versions that lack the shape
    client: str = "default"
    only: str = ""  # "sync" or "async"
    settings: dict[str, Any] = field(default_factory=dict)
    same_wire: bool = True  # the requests are the same bare and instrumented


def registering(shapes: list[Shape]) -> Callable[..., Callable[[Any], Any]]:
    """A decorator that adds a shape: name, the server's reply (or what makes one for each run), expected records."""

    def shape(name: str, script: Reply | Callable[[], Script | Reply], *expected: Expected, **options: Any) -> Any:
        def register(run: Callable[[Run], Awaitable[None]]) -> None:
            make = script if callable(script) else lambda: script
            shapes.append(Shape(name, make, run, expected, **options))

        return register

    return shape


def has(client: Any, path: str) -> bool:
    for name in filter(None, path.split(".")):
        if not hasattr(client, name):
            return False
        client = getattr(client, name)
    return True


def collect() -> None:
    gc.collect()
