"""A small provider on loopback that speaks the APIs of OpenAI and Anthropic: for the demo, the docs and the tests.

It needs no key and no network, answers the same to the same question, and takes about as long as a real one.
"""

from __future__ import annotations

import json
import math
import threading
import time
import uuid
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from ecoimpact.cli.embedded_answers import BadRequestError, Body, Event, find_api, reply

TIME_TO_FIRST_TOKEN_S = 0.3
TOKENS_PER_S = 80.0
MODELS = ("gpt-4o-mini", "gpt-4o", "gpt-4.1-nano", "claude-haiku-4-5", "claude-sonnet-4-5")
_MAX_BODY_BYTES = 4 * 2**20


class EmbeddedProvider:
    """Serves ``POST /v1/chat/completions``, ``/v1/responses``, ``/v1/messages`` and ``GET /v1/models`` on 127.0.0.1.

    Besides, plain answers alone, at ``/v2/chat`` (Cohere), ``/api/chat`` (Ollama), ``:generateContent`` (Gemini) and
    ``/model/NAME/converse`` (Bedrock).

    ``speed`` divides the waiting times: ``math.inf`` answers at once.

    >>> import urllib.request
    >>> with EmbeddedProvider(speed=math.inf) as provider:
    ...     urllib.request.urlopen(provider.openai_base_url + "/models").status
    200
    """

    def __init__(self, *, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be above 0, got {speed!r}")
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.speed = speed
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="ecoimpact-provider", daemon=True
        )

    @property
    def base_url(self) -> str:
        """What ``Anthropic(base_url=...)`` takes: scheme, host and port."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def openai_base_url(self) -> str:
        """What ``OpenAI(base_url=...)`` takes: the same with ``/v1``."""
        return f"{self.base_url}/v1"

    def __enter__(self) -> EmbeddedProvider:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    speed: float

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.stopping = threading.Event()

    def server_bind(self) -> None:
        # HTTPServer.server_bind asks the resolver for the host's name, which can take seconds where there is no network.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.socket.getsockname()[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hangs up in the middle of an answer is part of the game


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "ecoimpact-embedded"
    sys_version = ""
    disable_nagle_algorithm = True
    timeout = 60
    server: _Server

    def do_GET(self) -> None:
        if self._path() == "/v1/models":
            models = [{"id": name, "object": "model", "created": 0, "owned_by": "embedded"} for name in MODELS]
            self._json(200, {"object": "list", "data": models})
        else:
            self._error(404, "not_found_error", f"no such endpoint: GET {self._path()}")

    def do_POST(self) -> None:
        try:
            api, request = find_api(self._path(), self._request())
            if api is None:
                self._error(404, "not_found_error", f"no such endpoint: POST {self._path()}")
                return
            answer = reply(api, request, number=uuid.uuid4().hex, created=int(time.time()))
        except BadRequestError as error:
            self._error(400, "invalid_request_error", str(error))
            return
        self._generate(TIME_TO_FIRST_TOKEN_S * TOKENS_PER_S)
        if api.events is not None and request.get("stream") is True:
            self._stream(api.events(request, answer))
        else:
            self._generate(answer.output_tokens)
            self._json(200, api.body(request, answer))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        pass

    def _path(self) -> str:
        return self.path.partition("?")[0].rstrip("/")

    def _request(self) -> Body:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY_BYTES:
            self.close_connection = True  # the body is left unread
            raise BadRequestError(f"a Content-Length of at most {_MAX_BODY_BYTES} bytes is needed")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise BadRequestError("the body is not JSON") from None
        if not isinstance(body, dict):
            raise BadRequestError("the body must be a JSON object")
        return body

    def _generate(self, number: float) -> None:
        """Take the time that generating ``number`` tokens takes."""
        seconds = number / TOKENS_PER_S / self.server.speed
        if seconds > 0 and math.isfinite(seconds):
            self.server.stopping.wait(seconds)

    def _json(self, status: int, body: Body) -> None:
        data = json.dumps(body).encode()
        self._head(status, "application/json", ("Content-Length", str(len(data))))
        self.wfile.write(data)

    def _error(self, status: int, kind: str, message: str) -> None:
        # One shape that both SDKs read: OpenAI looks into "error", Anthropic wants the outer "type" as well.
        self._json(status, {"type": "error", "error": {"type": kind, "message": message, "param": None, "code": None}})

    def _stream(self, events: Iterable[Event]) -> None:
        self._head(200, "text/event-stream; charset=utf-8", ("Transfer-Encoding", "chunked"))
        for event in events:
            self._generate(event.tokens)
            data = _encode(event)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def _head(self, status: int, content_type: str, length: tuple[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header(*length)
        request_id = f"req_{uuid.uuid4().hex}"
        for name in ("x-request-id", "request-id", "x-amzn-requestid"):
            self.send_header(name, request_id)
        self.end_headers()


def _encode(event: Event) -> bytes:
    data = event.data if isinstance(event.data, str) else json.dumps(event.data)
    name = f"event: {event.name}\n" if event.name else ""
    return f"{name}data: {data}\n\n".encode()
