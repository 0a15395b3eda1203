"""The server around the application: uvicorn, on loopback unless it is told otherwise."""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import uvicorn

from ecoimpact.budgets import Budget
from ecoimpact.dashboard import guard
from ecoimpact.dashboard.app import Report, create_app
from ecoimpact.dashboard.live import Live

HOST: Final = "127.0.0.1"
PORT: Final = 8377
_START_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a dashboard is to be found. ``token`` is what it asks for beyond loopback."""

    host: str
    port: int
    token: str | None

    @property
    def url(self) -> str:
        """For a browser on this machine, the token with it."""
        name = self.host
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(self.host)
            name = HOST if address.is_unspecified else f"[{address}]" if address.version == 6 else str(address)
        return f"http://{name}:{self.port}/" + (f"?token={quote(self.token)}" if self.token is not None else "")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("example.org")
    (True, True, False, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(
    log_dir: Path,
    *,
    host: str = HOST,
    port: int = PORT,
    token: str | None = None,
    budgets: Iterable[Budget] = (),
    reports: Mapping[str, Report] | None = None,
    ready: Callable[[Address], Any] = lambda _: None,
) -> None:
    """Serve the dashboard of a log until a signal ends it. ``ready`` is called, once, when it answers.

    Beyond loopback a token is asked for: ``token``, or one that is made up; ``ready`` is told.

    Raises:
        FileNotFoundError: there is no such log.
        OSError: the port is taken, or there is no such address.
    """
    server, listening, _ = _made(log_dir, host=host, port=port, token=token, budgets=budgets, reports=reports, ready=ready)
    with listening:
        server.run(sockets=[listening])


@contextlib.contextmanager
def serving(
    log_dir: Path | str,
    *,
    host: str = HOST,
    port: int = 0,
    token: str | None = None,
    budgets: Iterable[Budget] = (),
    reports: Mapping[str, Report] | None = None,
) -> Iterator[Address]:
    """The dashboard of a log while the block runs, on a thread of its own; port 0 is any that is free.

    Raises:
        FileNotFoundError: there is no such log.
        OSError: the port is taken, or there is no such address.
        RuntimeError: it did not start.
    """
    answers = threading.Event()
    server, listening, address = _made(
        Path(log_dir),
        host=host,
        port=port,
        token=token,
        budgets=budgets,
        reports=reports,
        ready=lambda _: answers.set(),
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="ecoimpact-server", daemon=True)
    with listening:
        thread.start()
        try:
            if not answers.wait(_START_S):
                raise RuntimeError("the dashboard did not start")
            yield address
        finally:
            server.should_exit = True
            thread.join(_START_S)


class _Server(uvicorn.Server):
    """Tells when it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], Any]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def _made(
    log_dir: Path,
    *,
    host: str,
    port: int,
    token: str | None,
    budgets: Iterable[Budget],
    reports: Mapping[str, Report] | None,
    ready: Callable[[Address], Any],
) -> tuple[_Server, socket.socket, Address]:
    listening = _socket(host, port)
    try:
        asks = token or (None if is_loopback(host) else secrets.token_urlsafe(24))
        address = Address(host, listening.getsockname()[1], asks)
        live = Live(log_dir)
        live.refresh()
        app = create_app(
            log_dir,
            live=live,
            budgets=budgets,
            reports=reports,
            hosts=(*guard.LOOPBACK, host, *_names(host)),
            addresses=not is_loopback(host),
            token=asks,
        )
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=64,
            timeout_graceful_shutdown=2,
        )
        return _Server(config, lambda: ready(address)), listening, address
    except BaseException:
        listening.close()
        raise


def _names(host: str) -> tuple[str, ...]:
    """What others call this machine, where they can reach it."""
    return () if is_loopback(host) else (socket.gethostname(), socket.getfqdn())


def _socket(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        if hasattr(socket, "SO_REUSEADDR") and not hasattr(
            socket, "SO_EXCLUSIVEADDRUSE"
        ):  # Windows means another thing by it
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
    except BaseException:
        listening.close()
        raise
    return listening
