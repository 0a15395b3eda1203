"""Answers that are plain dicts, as botocore gives them: a dict has no place for figures, and nothing is put into one.

Rules: those of ``stream``; what brings the answer later, an event stream or an unread body inside the dict, keeps its type
and carries the figures. A dict without such a part is found again by the id that the service gave its request: the last
figures are kept for that, never the dict.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any, Final

from ecoimpact.instrumentation.body import JsonBody
from ecoimpact.instrumentation.call import ATTRIBUTE, Call
from ecoimpact.instrumentation.report import quietly
from ecoimpact.instrumentation.stream import TAG, AsyncItems, Items, hold, status_of

LIMIT: Final = 1000
"""Dicts that figures are kept for."""

_figures: dict[str, Any] = {}  # by the ids of requests; no lock: single dict operations are atomic


def observe_dict(call: Call, answer: dict[str, Any]) -> None:
    """Watch an answer, or what will bring it. The reader sees the dict first: the counts may be in its HTTP headers."""
    part = _part(answer)
    if part is None:
        call.answer(answer)
        _remember(call)
        return
    call.reader.feed(answer)
    if "_event_generator" in part.__dict__:
        _observe_events(part, call)
    else:
        _observe_body(part, call)


def figures_of(answer: dict[str, Any]) -> Any:
    """The figures of an answer, ``None`` where it has none, or none any more."""
    part = _part(answer)
    if part is not None:
        return part.__dict__.get(ATTRIBUTE)
    metadata = answer.get("ResponseMetadata")
    request_id = metadata.get("RequestId") if isinstance(metadata, dict) else None
    return _figures.get(request_id) if isinstance(request_id, str) else None


def forget() -> None:
    """Let go of all figures that are kept for dicts."""
    _figures.clear()


def _part(answer: dict[str, Any]) -> Any:
    """The stream or the body in an answer: the one value that is neither text, number nor a container of them."""
    return next((value for value in answer.values() if hasattr(value, "__dict__")), None)


def _remember(call: Call) -> None:
    request_id = call.reader.response_id
    if request_id is None:
        return
    if len(_figures) >= LIMIT:
        _figures.pop(next(iter(_figures), ""), None)
    _figures[request_id] = call.impacts


# --- an event stream: its iteration makes a generator each time, of frames that it parses one by one. Both are watched.


def _observe_events(stream: Any, call: Call) -> None:
    stream = getattr(stream, "__wrapped__", stream)  # below another tool's proxy, which may be gone before it
    fields = stream.__dict__
    if TAG in fields:
        return
    frames, ref = fields["_event_generator"], weakref.ref(stream)
    asynchronous = hasattr(frames, "__anext__")
    items: Any = (AsyncItems if asynchronous else Items)(frames, call, ref)
    items._feed, items._attentive = _passed_on, False
    fields[TAG], fields["_event_generator"] = call, items
    # The stream is being iterated while it parses: the reference holds then.
    fields["_parse_event"] = functools.partial(_parsed_async if asynchronous else _parsed, ref, items)
    hold(items)


def _passed_on(_frame: Any) -> bool:
    return False


def _parsed(ref: weakref.ref[Any], items: Any, frame: Any) -> Any:
    stream: Any = ref()
    try:
        event = stream.__class__._parse_event(stream, frame)
    except BaseException as error:
        items._failed(error)
        raise
    _read(items, event)
    return event


async def _parsed_async(ref: weakref.ref[Any], items: Any, frame: Any) -> Any:
    stream: Any = ref()
    try:
        event = await stream.__class__._parse_event(stream, frame)
    except BaseException as error:
        items._failed(error)
        raise
    _read(items, event)
    return event


@quietly
def _read(items: Any, event: Any) -> None:
    call: Call = items.call
    final = call.reader.feed(event)
    if final or call.first_token_s is None:
        call.note(event, final=final)
    if final:
        items._carry()


# --- a body that the program reads by itself


class UnreadBody:
    """Kept by a body whose counts are in its bytes: ends the call if the program drops it before it has read them."""

    __slots__ = ("__weakref__", "call", "decoder")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.decoder = JsonBody(call)

    @quietly
    def drop(self) -> None:
        self.call.end_early()

    def __del__(self) -> None:
        self.drop()


def _observe_body(body: Any, call: Call) -> None:
    fields = body.__dict__
    if call.reader.finished or "_raw_stream" not in fields:  # another library's proxy: what it reads cannot be seen
        call.end()
        fields[ATTRIBUTE] = call.impacts
        return
    call.answered()  # how fast the program reads says nothing about the generation
    fields[TAG] = unread = UnreadBody(call)
    # Until the last byte a body refers to itself: in ``client.invoke_model(...)["body"].read()`` nothing else holds it.
    fields["read"] = functools.partial(_read_async if hasattr(body, "__aiter__") else _read_body, body, unread)
    hold(unread)


def _read_body(body: Any, unread: UnreadBody, amt: int | None = None) -> Any:
    try:
        chunk = body.__class__.read(body, amt)
    except BaseException as error:
        _broken(body, unread, error)
        raise
    _fed(body, unread, chunk, amt)
    return chunk


async def _read_async(body: Any, unread: UnreadBody, amt: int | None = None) -> Any:
    try:
        chunk = await body.__class__.read(body, amt)
    except BaseException as error:
        _broken(body, unread, error)
        raise
    _fed(body, unread, chunk, amt)
    return chunk


@quietly
def _fed(body: Any, unread: UnreadBody, chunk: bytes, amt: int | None) -> None:
    unread.decoder.feed(chunk)
    fields = body.__dict__
    length, so_far = fields.get("_content_length"), fields.get("_amount_read", 0)
    if amt is None or amt < 0 or (amt and not chunk) or (length is not None and so_far >= int(length)):
        unread.decoder.end("ok")
        _left(body, unread)


@quietly
def _broken(body: Any, unread: UnreadBody, error: BaseException) -> None:
    unread.decoder.end(status_of(error), error)
    _left(body, unread)


def _left(body: Any, unread: UnreadBody) -> None:
    body.__dict__.pop("read", None)
    body.__dict__[ATTRIBUTE] = unread.call.impacts
