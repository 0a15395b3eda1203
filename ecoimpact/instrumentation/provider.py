"""What a provider's file declares: which calls to watch, and how to read usage from what they give.

Rules that hold for every provider: it imports no SDK, does no I/O and keeps no reference to what it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from ecoimpact.types import Usage

CHARACTERS_PER_TOKEN = 4
"""Used only where a provider sent no count, and flagged. English prose; OpenAI, "What are tokens and how to count them"."""


class Reader:
    """Reads usage out of the items of one answer, one at a time; a plain answer is a stream of one item.

    Items are the SDK's objects or plain dicts, and come from outside: any field may be missing or of another type. What
    is no count is left out. Nothing of an item is kept but numbers and identifiers.
    """

    __slots__ = (
        "background",
        "cached_input_tokens",
        "characters",
        "finished",
        "input_tokens",
        "output_tokens",
        "pending",
        "reasoning_tokens",
        "response_id",
        "response_model",
    )

    def __init__(self) -> None:
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.cached_input_tokens: int | None = None
        self.reasoning_tokens: int | None = None
        self.response_model: str | None = None
        self.response_id: str | None = None
        self.characters = 0  # generated so far, for an estimate where the provider sends no count
        self.finished = False  # the answer is complete, whatever the stream still brings
        self.background = False  # the provider works on it without a connection
        self.pending = False  # and is not done: the usage comes with a later call that polls

    def feed(self, item: Any) -> bool:
        """Take in one item. True: the final figures belong on it."""
        raise NotImplementedError

    def is_usage_only(self, item: Any) -> bool:  # noqa: ARG002
        """Whether the item exists only because usage was asked for."""
        return False

    def usage(self) -> Usage:
        estimated = self.output_tokens is None and self.characters > 0
        return Usage(
            input_tokens=self.input_tokens,
            output_tokens=-(-self.characters // CHARACTERS_PER_TOKEN) if estimated else self.output_tokens,
            cached_input_tokens=self.cached_input_tokens,
            reasoning_tokens=self.reasoning_tokens,
            estimated=estimated,
        )


def field(item: Any, name: str) -> Any:
    """A field of an SDK object or of a dict; ``None`` where it is missing."""
    return item.get(name) if isinstance(item, dict) else getattr(item, name, None)


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


def length(item: Any, name: str) -> int:
    """The characters in a text field, 0 where there is none."""
    value = field(item, name)
    return len(value) if isinstance(value, str) else 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One kind of request, by the name that records carry, and who reads its answers.

    ``polls`` marks calls that look again at a request made earlier: they never count by themselves.
    """

    name: str
    reader: Callable[[], Reader]
    polls: bool = False


class Request(NamedTuple):
    """A call that was recognised as a request to a model."""

    endpoint: Endpoint
    provider: str
    host: str | None
    model: str | None
    stream: bool


class Role(Enum):
    """What a patched function is to a request."""

    CALL = "call"  # makes one request: its result is an answer, a stream or a raw response
    PARSE = "parse"  # a raw response's method that makes the answer (or the stream) of it
    CLOSE = "close"  # a stream's method that ends it early
    HELPER = "helper"  # the constructor of an object that consumes a stream for the user
    SNAPSHOT = "snapshot"  # a helper's method that returns the accumulated answer
    REBUILD = "rebuild"  # makes a new object of an answer that is one of its arguments


@dataclass(frozen=True, slots=True)
class Target:
    """A function to wrap, such as ``openai._streaming``, ``Stream.close``. One that this version of the SDK lacks is left;
    if it is ``required``, ``ecoimpact doctor`` says so."""

    module: str
    name: str
    role: Role
    required: bool = False


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
    """Recognise a call from the client and its arguments; ``None`` for what is no request to a model."""
    shape: Callable[[Any], Shape]
    accepts: Callable[[Any], bool]
    """Whether ``wrap()`` can take this object: a client of this SDK."""
    ask_for_usage: Callable[[tuple[Any, ...], Mapping[str, Any]], bool]
    """Add the request for exact usage to a streamed call's arguments; whether it did (and must hide the extra item)."""
    observe_parser: Callable[[tuple[Any, ...], Mapping[str, Any], Reader], None]
    """Let the reader see a plain answer before the SDK's own post-processing, which may raise and lose it."""
    copies: tuple[str, ...] = ()
    """Client methods that return a new client: what they return is wrapped like the client they came from."""
