"""What every framework's tests share: nothing leaves the machine, whatever a framework would like to send home."""

from __future__ import annotations

import asyncio
import functools
import gc
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from server import Server

pytest.register_assert_rewrite("matrix")

import matrix  # noqa: E402 - its assertions are the tests'


@pytest.fixture(scope="module", autouse=True)
def _collections_are_quick() -> Iterator[None]:
    """Every test collects garbage; what the frameworks brought with them need not be looked at each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for all: frameworks keep clients, and those belong to the loop that they were first used in."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def check(server: Server, runner: asyncio.Runner) -> Callable[[matrix.Case], None]:
    """Runs a case bare and instrumented, and compares."""
    return functools.partial(matrix.check, server, runner)


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Connections to anywhere else fail, and the test that made one with them."""
    elsewhere: list[Any] = []
    look_up = socket.getaddrinfo

    def on_loopback(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in ("127.0.0.1", "localhost", b"127.0.0.1", None):
            elsewhere.append(host)
            raise OSError("only loopback is reached from tests")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", on_loopback)
    yield
    assert not elsewhere
