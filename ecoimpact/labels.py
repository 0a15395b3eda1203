"""Labels: names and values that a program puts on its requests, such as a user, a feature, a team.

Rules that hold in this file: the standard library only. Labels are known to the context (``contextvars``), so that every
thread and every task has its own; entering and leaving a scope raises nothing into the host, in whatever order it is done.
What is too long or unprintable is cut down, once it is entered: a label is no place for content.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextvars import ContextVar
from types import MappingProxyType, TracebackType
from typing import Any, Final, NamedTuple, TypeVar

logger = logging.getLogger("ecoimpact")

Function = TypeVar("Function", bound=Callable[..., Any])

MAX_LABELS: Final = 32
MAX_KEY_CHARS: Final = 64
MAX_VALUE_CHARS: Final = 256
NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})

# Characters that a label may not hold: they could end a line, move a cursor or turn the direction of what follows.
_UNWANTED_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_DIRECTION_CHANGES: Final = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class _Scope(NamedTuple):
    """A ``with`` block that is open in this context: all labels that hold in it, who opened it, and the one around it."""

    labels: Mapping[str, str]
    owner: Label
    outer: _Scope | None


_scope: ContextVar[_Scope | None] = ContextVar("ecoimpact_labels", default=None)


def current_labels() -> Mapping[str, str]:
    """The labels that hold here and now, those of inner scopes over those of outer ones."""
    scope = _scope.get()
    return NO_LABELS if scope is None else scope.labels


def label(labels: Mapping[str, object] | None = None, /, **named: object) -> Label:
    """Labels for all requests that begin inside: ``with``, ``async with``, or a decorator of any kind of function.

    Scopes nest, the inner one wins. They belong to the thread or task that opened them, as all context variables do:
    ``asyncio`` tasks and ``asyncio.to_thread`` inherit them, a new ``threading.Thread`` does not (before Python 3.14).
    A stream keeps the labels under which it was begun. Values become text; ``None`` and the empty text mean no label; what
    is too long is cut to ``MAX_KEY_CHARS`` and ``MAX_VALUE_CHARS`` and ends with an ellipsis; control characters go.

    Args:
        labels: for names that are no Python names, such as ``{"http.route": "/chat"}``.
        named: the labels.

    Raises:
        TypeError: ``labels`` is no mapping.

    >>> with label(feature="search"), label(user=42):
    ...     dict(current_labels())
    {'feature': 'search', 'user': '42'}
    >>> dict(current_labels())
    {}
    """
    return Label(named if labels is None else {**labels, **named})


class Label:
    """What :func:`label` gives. One object may be entered many times, in many threads and tasks, recursively too."""

    __slots__ = ("_labels",)

    def __init__(self, labels: Mapping[str, object]) -> None:
        self._labels = clean(labels)

    def __enter__(self) -> Label:
        outer = _scope.get()
        labels = self._labels if outer is None else {**outer.labels, **self._labels}
        _scope.set(_Scope(labels, self, outer))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        scope = _scope.get()
        if scope is not None:
            _scope.set(scope.outer if scope.owner is self else _without(scope, self))

    async def __aenter__(self) -> Label:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: Function) -> Function:
        """Decorate a function, a coroutine function, a generator or an asynchronous generator.

        Generators carry the labels while they run, and not while they wait for whoever reads them.

        Raises:
            TypeError: a class, or nothing that can be called.
        """
        if inspect.isclass(function) or not callable(function):
            raise TypeError(f"label() decorates functions, not {function!r}")
        if inspect.isasyncgenfunction(function):
            watched = self._around_async_generator(function)
        elif inspect.isgeneratorfunction(function):
            watched = self._around_generator(function)
        elif inspect.iscoroutinefunction(function):
            watched = self._around_coroutine(function)
        else:
            watched = self._around(function)
        return functools.wraps(function)(watched)  # type: ignore[return-value]

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def labelled(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return labelled

    def _around_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def labelled(*args: Any, **kwargs: Any) -> Any:
            with self:
                return await function(*args, **kwargs)

        return labelled

    def _around_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def labelled(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            generator = function(*args, **kwargs)
            step: Callable[[Any], Any] = generator.send
            argument: Any = None
            while True:
                with self:
                    try:
                        item = step(argument)
                    except StopIteration as stop:
                        return stop.value
                try:
                    argument, step = (yield item), generator.send
                except GeneratorExit:
                    with self:
                        generator.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - it belongs to the generator
                    argument, step = error, generator.throw

        return labelled

    def _around_async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def labelled(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            generator = function(*args, **kwargs)
            step: Callable[[Any], Any] = generator.asend
            argument: Any = None
            while True:
                with self:
                    try:
                        item = await step(argument)
                    except StopAsyncIteration:
                        return
                try:
                    argument, step = (yield item), generator.asend
                except GeneratorExit:
                    with self:
                        await generator.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - it belongs to the generator
                    argument, step = error, generator.athrow

        return labelled


def _without(scope: _Scope, owner: Label) -> _Scope | None:
    """The scopes that stay open when ``owner`` leaves out of turn, as generators do that are closed late or elsewhere."""
    open_scopes: list[_Scope] = []
    walk: _Scope | None = scope
    while walk is not None and walk.owner is not owner:
        open_scopes.append(walk)
        walk = walk.outer
    if walk is None:
        return scope  # it was opened in another context, which is not ours to change
    rest = walk.outer
    for inner in reversed(open_scopes):
        labels = inner.owner._labels if rest is None else {**rest.labels, **inner.owner._labels}
        rest = _Scope(labels, inner.owner, rest)
    return rest


# --- what a label may be ------------------------------------------------------------------------------------------------


def clean(labels: Mapping[str, object]) -> dict[str, str]:
    """Labels as a record can hold them. Never raises for a value, whatever it is; warns once of each kind of fault.

    >>> clean({"user": 7, "team": None, "note": "two\\nlines"})
    {'user': '7', 'note': 'twolines'}
    """
    cleaned: dict[str, str] = {}
    for name, value in labels.items():
        if value is None:
            continue
        try:
            key, text = str(name), str(value)
        except Exception as error:  # noqa: BLE001 - the text of a foreign object
            _warn_once("a label was left out: its text raised %s", type(error).__name__)
            continue
        key, text = _cut(key, MAX_KEY_CHARS), _cut(text, MAX_VALUE_CHARS)
        if key and text:
            cleaned[key] = text
    return cleaned


def capped(labels: Mapping[str, str]) -> Mapping[str, str]:
    """At most ``MAX_LABELS`` of them, the first ones."""
    if len(labels) <= MAX_LABELS:
        return labels
    _warn_once("a request has more than %s labels: the later ones are left out", MAX_LABELS)
    return dict(list(labels.items())[:MAX_LABELS])


def hashed(value: str, key: bytes) -> str:
    """What stands in for ``value`` in a record: the first 128 bits of HMAC-SHA-256 under a secret key, in hexadecimal.

    >>> hashed("alice", b"0123456789abcdef") == hashed("alice", b"0123456789abcdef") != hashed("bob", b"0123456789abcdef")
    True
    """
    import hashlib
    import hmac

    return hmac.new(key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]


def _cut(text: str, limit: int) -> str:
    if len(text) > 4 * limit:
        text = text[: 4 * limit]  # long enough to be cut below as well
    if not text.isprintable():
        import unicodedata

        text = "".join(
            c for c in text if unicodedata.category(c) not in _UNWANTED_CATEGORIES and c not in _DIRECTION_CHANGES
        )
    if len(text) <= limit:
        return text
    _warn_once("a label was cut: it had more than %s characters", limit)
    return text[: limit - 1] + "…"


_warned: set[tuple[str, object]] = set()


def _warn_once(message: str, detail: object) -> None:
    """Never the label itself, which may be what should not be in a log."""
    if (message, detail) not in _warned:
        _warned.add((message, detail))
        with contextlib.suppress(Exception):  # a logging handler of the host may raise
            logger.warning("ecoimpact: " + message, detail)
