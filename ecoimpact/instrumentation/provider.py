"""What a provider's file declares: which calls to watch, and how to read usage from what they give.

Rules that hold for every provider: it imports no SDK, does no I/O and keeps no reference to what it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, NamedTuple, Protocol

from ecoimpact.types import Usage

CHARACTERS_PER_TOKEN = 4
"""Used only where a provider sent no count, and flagged. English prose; OpenAI, "What are tokens and how to count them"."""


class Reader:
    """Reads usage out of the items of one answer, one at a time; a plain answer is a stream of one item.

    Items are the SDK's objects or plain dicts, and come from outside: any field may be missing or of another type. Nothing
    of an item is kept but identifiers, lengths and its ``usage``, which is made of counts and is looked into later, off the
    caller's path. The attributes below are defaults: most answers set few of them.
    """

    response_model: str | None = None
    response_id: str | None = None
    characters = 0
    """Generated so far: for an estimate where the provider sends no count."""
    finished = False
    """The answer is complete, whatever the stream still brings."""
    background = False
    """The provider works on it without a connection ..."""
    pending = False
    """... and is not done: the usage comes with a later call that polls."""

    def feed(self, item: Any) -> bool:
        """Take in one item. True: the final figures belong on it."""
        raise NotImplementedError

    def over(self) -> None:
        """No more items will come."""

    def is_usage_only(self, item: Any) -> bool:  # noqa: ARG002
        """Whether the item exists only because usage was asked for."""
        return False

    def counts(self) -> Usage:
        """The counts that the provider sent. What is no count is ``None``."""
        raise NotImplementedError

    def usage(self) -> Usage:
        """The counts, with an estimate, marked as such, where the provider sent none."""
        usage = self.counts()
        if usage.output_tokens is None and self.characters:
            return replace(usage, output_tokens=-(-self.characters // CHARACTERS_PER_TOKEN), estimated=True)
        return usage


def field(item: Any, name: str) -> Any:
    """A field of an SDK object or of a dict; ``None`` where it is missing."""
    if isinstance(item, dict):
        return item.get(name)
    # Pydantic models keep their fields in these two places; asking them for one that is missing costs microseconds.
    fields = getattr(item, "__dict__", None)
    if fields is not None and name in fields:
        return fields[name]
    if fields is not None and hasattr(item, "__pydantic_extra__"):
        extra = item.__pydantic_extra__
        return extra.get(name) if extra is not None else None
    return getattr(item, name, None)


def count(item: Any, name: str) -> int | None:
    """A token count, or ``None`` for anything that is none (a string, a negative number, a NaN)."""
    value = field(item, name)
    if type(value) is int:
        return value if value >= 0 else None
    if type(value) is float and value >= 0 and value.is_integer():
        return int(value)
    return None


def text(item: Any, name: str) -> str | None:
    value = field(item, name)
    return value if isinstance(value, str) else None


def kept(usage: Any) -> Any:
    """The counts as they are now, for later: what is in the program's hands may change, as Instructor adds up its retries.

    >>> kept({"output_tokens": 3, "details": {"reasoning_tokens": 1}})
    {'output_tokens': 3, 'details': {'reasoning_tokens': 1}}
    """
    try:
        counts, more = usage.__dict__.copy(), usage.__pydantic_extra__
    except AttributeError:
        if not isinstance(usage, dict):
            return usage
        counts, more = usage.copy(), None
    if more:
        counts.update(more)
    for name, value in counts.items():
        if value.__class__ not in _PLAIN:
            counts[name] = kept(value)
    return counts


_PLAIN: Final = frozenset({int, float, str, bool, type(None)})


def length(item: Any, name: str) -> int:
    """The characters in a text field, 0 where there is none."""
    value = field(item, name)
    return len(value) if isinstance(value, str) else 0


_ORDINARY_TIERS: Final = frozenset({"auto", "default", "standard"})


def tier(value: Any) -> str | None:
    """A service tier that is priced on its own, such as ``flex``; ``None`` for the ordinary one and for what is none."""
    if isinstance(value, str) and value.isascii() and value.isidentifier() and len(value) <= 32:
        return None if value in _ORDINARY_TIERS else value
    return None


def present(**counts: int | None) -> tuple[tuple[str, int], ...]:
    """Those of the counts that there are any of.

    >>> present(input_audio_tokens=3, output_audio_tokens=0, web_searches=None)
    (('input_audio_tokens', 3),)
    """
    return tuple((name, number) for name, number in counts.items() if number)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One kind of request, by the name that records carry, and who reads its answers.

    ``polls`` marks calls that look again at a request made earlier: they never count by themselves.
    """

    name: str
    reader: Callable[[], Reader]
    polls: bool = False


class Request(NamedTuple):
    """A call that was recognised as a request to a model. Who serves it is looked up later, from ``client`` and ``url``."""

    endpoint: Endpoint
    model: str | None
    stream: bool
    client: type
    url: Any


class Role(Enum):
    """What a patched function is to a request."""

    CALL = "call"  # makes one request: its result is an answer, a stream or a raw response
    METHOD = "method"  # makes one request of one kind, in an SDK whose methods are watched one by one
    WIRE = "wire"  # an HTTP library's function that sends one request of any kind, or by which its answer is read
    PARSE = "parse"  # a raw response's method that makes the answer (or the stream) of it
    CLOSE = "close"  # a stream's method that ends it early
    HELPER = "helper"  # the constructor of an object that consumes a stream for the user
    SNAPSHOT = "snapshot"  # a helper's method that returns the accumulated answer
    REBUILD = "rebuild"  # makes a new object of an answer that is one of its arguments
    FUNCTION = "function"  # a module's function that makes requests, through other SDKs as well: they count as one
    ITEMS = "items"  # the ``__next__`` or ``__anext__`` of a stream that such a function gave
    SHOW = "show"  # lists an answer's instance ``__dict__`` (``__repr__``, ``__iter__``): it must not see the figures


@dataclass(frozen=True, slots=True)
class Method:
    """What a method with :attr:`Role.METHOD` asks for, and where it puts the answer."""

    identify: Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Request | None]
    """The same as :attr:`Provider.identify`, for this method alone."""
    inside: str = ""
    """The attribute of the result that holds the answer, or the generator of its items; empty: the result itself."""
    lazy: bool = False
    """A plain function whose generator sends the request when it is first advanced, as generator functions do."""
    asynchronous: bool = False
    """A coroutine function, though a decorator of the SDK's hides that it is one."""


class Attempt(Protocol):
    """What a function with :attr:`Role.FUNCTION` was called for: a request that it may send, or leave to others."""

    request: Request

    def answered(self, result: Any, reader: Reader) -> bool:
        """Whether a provider gave this result; ``reader`` is about to read it."""
        ...

    def failed(self, error: BaseException) -> bool:
        """Whether a request went out before the function raised."""
        ...


class Tap(Protocol):
    """Who is told of the bytes of an answer while they go to the program. Nothing raises."""

    expand: Callable[[bytes], bytes] | None
    """What undoes the content encoding, piece by piece, where the library brings it along."""

    def feed(self, chunk: bytes) -> None: ...

    def done(self) -> None:
        """There are no more."""
        ...

    def failed(self, error: BaseException) -> None: ...

    def drop(self) -> None:
        """The program wants no more."""
        ...

    def left(self, failure: BaseException | None, reading: frozenset[str]) -> None:
        """The same, maybe for a failure of the body, or for the exception being handled, if it came out of ``reading``."""
        ...


class Head(NamedTuple):
    """Of an HTTP response: its status, and the headers that say how to read its body."""

    status: int
    content_type: str
    content_encoding: str


@dataclass(frozen=True, slots=True)
class Wire:
    """An HTTP library: what it sends, and the ways in which a program reads what comes back."""

    identify: Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Request | None]
    """The same as :attr:`Provider.identify`: runs for every request of the program, nearly all of which are others."""
    head: Callable[[Any], Head]
    content: Callable[[Any], bytes | None]
    """The body of a response, if it has been read."""
    watch: Callable[[Any, Tap], None]
    """Tell a tap of the body that the program is going to read. The response owns the tap."""
    sending: frozenset[str]
    """The same as :attr:`Provider.sending`."""
    status_error: str
    """The name of the exception by which the library tells of an error status, where it is asked to."""


@dataclass(frozen=True, slots=True)
class Target:
    """A function to wrap, such as ``openai._streaming``, ``Stream.close``. One that this version of the SDK lacks is left;
    if it is ``required``, ``ecoimpact doctor`` says so."""

    module: str
    name: str
    role: Role
    required: bool = False
    method: Method | None = None
    wire: Wire | None = None
    around: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None
    """Of a function by which a body is read: makes what stands in for it, and does nothing but tell a :class:`Tap`."""
    begin: Callable[[tuple[Any, ...], Mapping[str, Any]], Attempt | None] | None = None
    """Of a function: recognise a call from its arguments; ``None`` for no request, or for one of a function around it."""
    cell: str = ""
    """The variable in which a decorator keeps the function: it is replaced there, for whoever imported it when."""


class Shape(Enum):
    """What a call gave back."""

    ITEM = "item"
    STREAM = "stream"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class Provider:
    """One SDK: its import name, the versions it is known with, the functions to wrap and how to read their calls."""

    id: str
    package: str
    supported: str
    targets: tuple[Target, ...]
    identify: Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Request | None]
    """Recognise a call from the client and its arguments; ``None`` for what is no request to a model. Kept short."""
    locate: Callable[[Request], tuple[str, str | None]]
    """Who serves a request: the provider's id, and the host where the client points to one."""
    claim: Callable[[tuple[Any, ...], Mapping[str, Any]], bool]
    """Take a call, unless an outer layer of ours has it: other tools may come to lie between two of them."""
    release: Callable[[tuple[Any, ...], Mapping[str, Any]], None]
    shape: Callable[[Any], Shape]
    accepts: Callable[[Any], bool]
    """Whether ``wrap()`` can take this object: a client of this SDK."""
    ask_for_usage: Callable[[tuple[Any, ...], Mapping[str, Any]], bool]
    """Add the request for exact usage to a streamed call's arguments; whether it did (and must hide the extra item)."""
    observe_parser: Callable[[tuple[Any, ...], Mapping[str, Any], Reader], None]
    """Let the reader see a plain answer before the SDK's own post-processing, which may raise and lose it."""
    distribution: str = ""
    """What the package index calls it, where that is not the import name."""
    copies: tuple[str, ...] = ()
    """Client methods that return a new client: what they return is wrapped like the client they came from."""
    opt_in: bool = False
    """Watched only where ``instrument()`` names it."""
    anchor: Callable[[Any], Any] | None = None
    """The object that a client shares with its parts, where those make the requests: ``wrap()`` marks it."""
    sending: frozenset[str] = frozenset()
    """Functions of the SDK that run only once a call's arguments have been accepted: an error from below them is one of a
    request. Needed where the SDK checks its arguments with exceptions that answers raise as well."""
    refusals: frozenset[str] = frozenset()
    """Exceptions of the SDK, by the names of their classes or bases, that it raises before anything is sent, too."""
