"""One request in flight. Exactly one of the ways it can end is heard; the others are ignored.

Everything here runs on the caller's path: it only notes numbers. The figures are worked out by whoever reads them first.
"""

from __future__ import annotations

import json
import time
import weakref
from typing import Any, Protocol

from ecoimpact.instrumentation.provider import Provider, Reader, Request
from ecoimpact.types import Inference, Status

ATTRIBUTE = "impacts"
_NESTED = ("response", "message")  # events that carry the final answer inside


class Tracer(Protocol):
    """Who is told of calls: the composition root."""

    def context(self) -> Any:
        """What holds at the moment of a call: settings, labels, data. Kept with the call, never read here."""
        ...

    def impacts(self, call: Call) -> Any:
        """The (lazy) figures of a call."""
        ...

    def finished(self, call: Call) -> None:
        """A call ended; it ends once."""
        ...


class Call:
    """A request from its start to its end."""

    first_token_s: float | None = None
    answered_s: float | None = None
    """When the answer was complete, which may be long before the program lets go of it."""
    ended_s: float | None = None
    status: Status = "ok"
    error_type: str | None = None
    hides_usage = False
    """The program did not ask for the item that brings the usage, and must not see it."""
    _impacts: weakref.ref[Any] | None = None
    _provisional = False
    _body: bytes | None = None

    def __init__(self, provider: Provider, request: Request, tracer: Tracer) -> None:
        self.provider = provider
        self.request = request
        self.tracer = tracer
        self.context = tracer.context()
        self.reader: Reader = request.endpoint.reader()
        self._open = [True]  # popped by the one end that counts: atomic without a lock
        self.started_at = time.time()
        self._started = time.perf_counter()

    @property
    def is_open(self) -> bool:
        return bool(self._open)

    @property
    def impacts(self) -> Any:
        """The figures: one object for all carriers, unless somebody read it before the end, when it was an estimate."""
        impacts = self._impacts() if self._impacts is not None else None
        if impacts is not None and self._provisional:
            if impacts.is_resolved:
                impacts = None
            elif not self._open:
                self._provisional = False
        if impacts is None:
            impacts = self.tracer.impacts(self)
            self._impacts = weakref.ref(impacts)  # figures refer to their call: the other way would make a cycle
            self._provisional = bool(self._open)
        return impacts

    def answer(self, item: Any) -> None:
        """Read a plain answer, finish, and put the figures on it."""
        if not self.reader.finished:  # else it was read before the SDK's own post-processing
            self.reader.feed(item)
        self.end()
        fields = getattr(item, "__dict__", None)
        if fields is not None:
            fields[ATTRIBUTE] = self.tracer.impacts(self)

    def note(self, item: Any, *, final: bool) -> None:
        """Take note of the first item with content, and put the figures on the final one."""
        if self.first_token_s is None and self.reader.characters:
            self.first_token_s = time.perf_counter() - self._started
        if final:
            self.answered()
            attach(item, self.impacts)

    def feed(self, item: Any) -> None:
        """Read one item of a stream."""
        self.note(item, final=self.reader.feed(item))

    def answered(self) -> None:
        self.answered_s = time.perf_counter() - self._started

    def feed_body(self, body: bytes) -> None:
        """Keep the body of an answer that the program never parsed, to be read off the caller's path."""
        self._body = body

    def end(self, status: Status = "ok", error: BaseException | None = None) -> bool:
        """Finish, unless something else did before; whether this was the end."""
        try:
            self._open.pop()
        except IndexError:
            return False
        if status != "ok":
            self.status = status
        if status != "ok" or self.answered_s is None:
            self.answered()
        self.ended_s = self.answered_s
        if error is not None:
            self.error_type = type(error).__name__
        self.tracer.finished(self)
        return True

    def end_early(self) -> bool:
        """The program stopped reading. If the answer was complete by then, nothing was lost."""
        return self.end("ok" if self.reader.finished else "abandoned")

    def disown(self) -> None:
        """Leave the end to another process."""
        self._open.clear()

    def adopt(self, poll: Call) -> None:
        """Take the outcome from the call that polled for it."""
        self.reader = poll.reader
        self._impacts = None  # what was known when it started was no figure
        self.ended_s = time.perf_counter() - self._started
        self.status, self.error_type = poll.status, poll.error_type

    @property
    def host(self) -> str | None:
        return self.provider.locate(self.request)[1]

    def inference(self) -> Inference:
        """What is known now. Called before the end, it is a view of the request so far."""
        body = self._body
        if body is not None:
            feed_json(self.reader, body)  # first: another thread may ask at the same time
            self._body = None
        reader, request = self.reader, self.request
        latency_s = self.ended_s
        if latency_s is None:
            latency_s = time.perf_counter() - self._started
        if request.endpoint.polls:
            latency_s = None  # how long the polling took says nothing about the generation
        return Inference(
            provider=self.provider.locate(request)[0],
            endpoint=request.endpoint.name,
            request_model=request.model,
            response_model=reader.response_model,
            usage=reader.usage(),
            latency_s=latency_s,
            time_to_first_token_s=self.first_token_s if request.stream else None,
            started_at=self.started_at,
            stream=request.stream,
            status=self.status,
            error_type=self.error_type,
            response_id=reader.response_id,
        )


def feed_json(reader: Reader, body: bytes) -> None:
    try:
        item = json.loads(body)
    except (ValueError, RecursionError):  # not JSON: an answer that nobody can read has no usage
        return
    if isinstance(item, dict):
        reader.feed(item)


def attach(item: Any, impacts: Any) -> None:
    """Put the figures on an SDK object, past its model fields: invisible to dumps, comparison and the next turn's body."""
    fields = getattr(item, "__dict__", None)
    if fields is None:
        return
    fields[ATTRIBUTE] = impacts
    for name in _NESTED:
        nested = fields.get(name)
        if nested is not None and hasattr(nested, "model_fields_set"):
            nested.__dict__[ATTRIBUTE] = impacts
