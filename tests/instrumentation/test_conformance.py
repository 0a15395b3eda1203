"""Every call shape of every SDK, once bare and once instrumented: the program must see no difference but ``.impacts``.

And exactly one record per request must come out, with exact tokens. This is the suite that a new provider has to pass.
"""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import clients
import pytest
from harness import Expected, Run, Shape, collect, has
from server import Server

import ecoimpact
from ecoimpact import Record
from ecoimpact.types import Impacts


def cases() -> Iterator[Any]:
    for provider, shapes in clients.SHAPES.items():
        for shape in shapes:
            for direction in ("sync", "async"):
                if shape.only in ("", direction):
                    yield pytest.param(provider, shape, direction == "async", id=f"{provider}-{shape.name}-{direction}")


@pytest.fixture(scope="module", autouse=True)
def _collections_are_quick() -> Iterator[None]:
    """Every test collects garbage; what the SDKs brought with them need not be looked at each time."""
    for provider in clients.SHAPES:
        asyncio.run(clients.close(clients.make(provider, "default", "http://127.0.0.1", asynchronous=False)))
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.mark.parametrize(("provider", "shape", "asynchronous"), list(cases()))
@pytest.mark.parametrize("by", ["instrument", "wrap"])
def test_shape(server: Server, provider: str, shape: Shape, asynchronous: bool, by: str) -> None:
    bare = play(server, provider, shape, asynchronous, lambda client: client)
    wire = [(request.method, request.path, request.body) for request in server.received]
    assert not any(ecoimpact.impacts_of(carrier) for carrier in bare.carriers)

    records: list[Record] = []
    settings = {"exporters": [records.append], **shape.settings}
    if by == "instrument":
        ecoimpact.instrument(provider, **settings)
    else:
        ecoimpact.instrument("anthropic" if provider == "openai" else "openai", **settings)
    try:
        watched = play(server, provider, shape, asynchronous, ecoimpact.wrap if by == "wrap" else lambda client: client)
        carried = [(type(carrier), carried_by(carrier)) for carrier in watched.carriers]
        del watched.carriers
        collect()
        assert ecoimpact.flush(10)
        assert ecoimpact.drops() == {}
    finally:
        ecoimpact.uninstrument()

    assert watched.seen == bare.seen
    if shape.same_wire:
        assert [(request.method, request.path, request.body) for request in server.received] == wire
    for kind, impacts in carried:
        assert isinstance(impacts, Impacts), f"{kind} carries no impacts"
    assert [told(record) for record in records] == [expected(e, provider) for e in shape.expected]
    for record, wanted in zip(records, shape.expected, strict=True):
        assert str(record.inference.error_type) in str(wanted.error_type).split("|")


def play(
    server: Server,
    provider: str,
    shape: Shape,
    asynchronous: bool,
    prepare: Callable[[Any], Any],
    *,
    make: Callable[..., Any] = clients.make,
    finish: Callable[[Coroutine[Any, Any, Run]], Run] = asyncio.run,
) -> Run:
    server.reset(shape.script())

    async def main() -> Run:
        client = make(provider, shape.client, server.url, asynchronous=asynchronous)
        if not has(client, shape.needs):
            pytest.skip(f"this version of the SDK has no {shape.needs}")
        run = Run(prepare(client), server, asynchronous)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # the SDK's own notices on models and beta calls
                await shape.run(run)
        finally:
            run.client = None
            await clients.close(client)
        return run

    return finish(main())


def carried_by(carrier: Any) -> Any:
    """The figures on what a program got: an attribute, for which a plain dict alone has no place."""
    return ecoimpact.impacts_of(carrier) if type(carrier) is dict else getattr(carrier, "impacts", None)


def told(record: Record) -> dict[str, Any]:
    inference, usage = record.inference, record.inference.usage
    assert inference.latency_s is None or 0 <= inference.latency_s < 60
    if inference.time_to_first_token_s is not None:
        assert inference.stream
        assert inference.latency_s is None or inference.time_to_first_token_s <= inference.latency_s
    return {
        "provider": inference.provider,
        "endpoint": inference.endpoint,
        "output_tokens": usage.output_tokens,
        "input_tokens": usage.input_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "estimated": usage.estimated,
        "status": inference.status,
        "stream": inference.stream,
        "figures": record.assessment.low is not None,
    }


def expected(record: Expected, provider: str) -> dict[str, Any]:
    return {
        "provider": record.provider or provider,
        "endpoint": record.endpoint,
        "output_tokens": record.output_tokens,
        "input_tokens": record.input_tokens,
        "cached_input_tokens": record.cached_input_tokens,
        "reasoning_tokens": record.reasoning_tokens,
        "estimated": record.estimated,
        "status": record.status,
        "stream": record.stream,
        "figures": record.output_tokens is not None and record.covered and not record.unknown_model,
    }
