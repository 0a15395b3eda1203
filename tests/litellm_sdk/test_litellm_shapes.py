"""The conformance suite through LiteLLM's SDK: see ``tests/instrumentation/test_conformance.py``.

LiteLLM makes some identities and times of its own: they are the only ones that may differ between two runs.
"""

from __future__ import annotations

import asyncio
import gc
import re
import threading
from collections.abc import Iterator
from typing import Any

import litellm
import pytest
import shape_matrix
import shapes_litellm
from harness import Shape, collect
from server import Server
from test_conformance import expected, play, told

import ecoimpact
from ecoimpact import Record
from ecoimpact.price_library import price_library
from ecoimpact.types import Impacts

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # LiteLLM and what it needs have many of their own
    pytest.mark.filterwarnings("error:::ecoimpact"),
]

MADE_ANEW = re.compile(
    r"""resp_[\w=-]{40,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=created['"=: ]{1})\d{10}|\b17\d{8}\b"""
)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for all: LiteLLM keeps clients, and those belong to the loop that they were first used in."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module", autouse=True)
def _collections_are_quick() -> Iterator[None]:
    """Every test collects garbage; what LiteLLM brought with it need not be looked at each time."""
    litellm.completion(model="openai/gpt-4o", messages=[], mock_response="Loads what is loaded late.")
    price_library()  # a thread of ours would load it while openai looks into what it loads
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def cases() -> Iterator[Any]:
    for shape in shapes_litellm.SHAPES:
        for direction in ("sync", "async"):
            if shape.only in ("", direction):
                yield pytest.param(shape, direction == "async", id=f"{shape.name}-{direction}")


class Records(list[Record]):
    """An exporter that says when a number of them has come."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number
        self.complete = threading.Event()
        if not number:
            self.complete.set()

    def __call__(self, record: Record) -> None:
        self.append(record)
        if len(self) >= self._number:
            self.complete.set()


@pytest.mark.parametrize(("shape", "asynchronous"), list(cases()))
@pytest.mark.parametrize("watched_sdks", [(), ("litellm",)], ids=["all SDKs", "LiteLLM alone"])
def test_shape(
    server: Server, runner: asyncio.Runner, shape: Shape, asynchronous: bool, watched_sdks: tuple[str, ...]
) -> None:
    bare = play(server, "litellm", shape, asynchronous, lambda c: c, make=shapes_litellm.make, finish=runner.run)
    wire = [(request.method, request.path, request.body) for request in server.received]
    assert not any(ecoimpact.impacts_of(carrier) for carrier in bare.carriers)

    records = Records(len(shape.expected))
    ecoimpact.instrument(*watched_sdks, exporters=[records], **shape.settings)
    try:
        watched = play(server, "litellm", shape, asynchronous, lambda c: c, make=shapes_litellm.make, finish=runner.run)
        carried = [(type(carrier), getattr(carrier, "impacts", None)) for carrier in watched.carriers]
        del watched.carriers
        for _ in range(500):  # LiteLLM's threads may still hold a stream that the program has dropped
            collect()
            if records.complete.wait(0.02):
                break
        assert ecoimpact.flush(10)
        assert ecoimpact.drops() == {}
    finally:
        ecoimpact.uninstrument()

    assert masked(watched.seen) == masked(bare.seen)
    assert [(request.method, request.path, request.body) for request in server.received] == wire
    for kind, impacts in carried:
        assert isinstance(impacts, Impacts), f"{kind} carries no impacts"
    assert [told(record) for record in records] == [expected(e, "litellm") for e in shape.expected]
    for record, wanted in zip(records, shape.expected, strict=True):
        assert str(record.inference.error_type) in str(wanted.error_type).split("|")


def masked(seen: list[Any]) -> list[str]:
    return [MADE_ANEW.sub("*", repr(value)) for value in seen]


def test_the_table_is_of_these_shapes() -> None:
    """That of docs/shapes.md."""
    assert shape_matrix.written("litellm") == shape_matrix.table({"litellm": shapes_litellm.SHAPES})
