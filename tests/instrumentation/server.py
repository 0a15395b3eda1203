"""A local HTTP server that plays back what a test scripts: JSON bodies, server-sent events, faults."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    raw: bytes


@dataclass(frozen=True)
class Reply:
    """What to answer. ``events`` make a chunked stream; ``cut`` breaks the connection after them; ``waits`` holds the reply
    back, and an empty event the next ones, until the test releases the server."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    events: Iterable[bytes] | None = None
    cut: bool = False
    waits: bool = False


def as_json(value: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status=status, body=json.dumps(value).encode(), headers=headers)


def sse(events: Iterable[dict[str, Any] | None], *, named: bool = False, done: bool = False, cut: bool = False) -> Reply:
    """Server-sent events: ``named`` gives each its ``type`` as event name, ``done`` ends with OpenAI's marker."""

    def encoded() -> Iterator[bytes]:
        for event in events:
            if event is None:
                yield b""
                continue
            name = f"event: {event['type']}\n" if named else ""
            yield f"{name}data: {json.dumps(event)}\n\n".encode()
        if done:
            yield b"data: [DONE]\n\n"

    return Reply(content_type="text/event-stream; charset=utf-8", events=encoded(), cut=cut)


Script = Callable[[Received], Reply]


class Server(ThreadingHTTPServer):
    """Listens on loopback. ``script`` decides each reply; ``received`` and ``disconnected`` are for assertions."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.received: list[Received] = []
        self.reset(Reply(status=404))
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def reset(self, script: Script | Reply) -> None:
        self.script: Script = script if callable(script) else lambda _request: script
        self.received.clear()
        self.disconnected = threading.Event()
        self.release = threading.Event()

    def close(self) -> None:
        self.release.set()
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients hang up on purpose


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = None
        request = Received(
            self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body, raw
        )
        self.server.received.append(request)
        reply = self.server.script(request)
        if reply.waits:
            self.server.release.wait(10)
        try:
            self._send(reply)
        except OSError:
            self.close_connection = True
            self.server.disconnected.set()

    do_GET = do_POST  # noqa: N815 - the name is the protocol's

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("content-type", reply.content_type)
        for name, value in {"x-request-id": "req_1", "request-id": "req_1", **reply.headers}.items():
            self.send_header(name, value)
        if reply.events is None:
            self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)
            return
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in reply.events:
            if not event:
                self.server.release.wait(10)
                continue
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
        if reply.cut:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def date_time_string(self, timestamp: float | None = None) -> str:
        return "Thu, 01 Jan 2026 00:00:00 GMT"  # some SDKs put the headers on their answers

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass
