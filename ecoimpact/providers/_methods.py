"""The shape shared by SDKs whose methods are watched one by one, since no single function sees all their requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ecoimpact.instrumentation.provider import Endpoint, Method, Provider, Request, Role, Shape, Target
from ecoimpact.providers._hosts import place_of


class Call(NamedTuple):
    """A method that makes one request: ``module:Class.method``."""

    place: str
    endpoint: Endpoint | Callable[[tuple[Any, ...], Mapping[str, Any]], Endpoint | None]
    """What it asks for; where that depends on the arguments, what tells: ``None`` for no request to a model."""
    stream: bool | None = False
    """Whether it streams; ``None``: as its argument ``stream`` says."""
    inside: str = ""
    lazy: bool = False
    required: bool = False


class Server(NamedTuple):
    """Who serves a client's requests: a provider's id where the client is made for one, else as the URL tells."""

    provider: str | None
    url: Any


def method_provider(
    *,
    id: str,  # noqa: A002 - the field's own name
    package: str,
    supported: str,
    distribution: str = "",
    calls: Iterable[Call],
    server_of: Callable[[Any, Mapping[str, Any]], Server],
    accepts: Callable[[Any], bool],
    anchor: Callable[[Any], Any] | None = None,
    model_of: Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Any] = lambda _client, _args, kwargs: kwargs.get("model"),
    closes: Iterable[str] = (),
    rebuilds: Iterable[str] = (),
    shows: Iterable[str] = (),
    sending: Iterable[str] = (),
) -> Provider:
    """Declare an SDK.

    Args:
        server_of: who serves a call, from the object it is made on and its keyword arguments; kept short.
        accepts: whether ``wrap()`` can take an object.
        anchor: the object that a client shares with the parts whose methods are called; default: the client itself.
        model_of: the model that a call names.
        closes: methods that end a stream early.
        rebuilds: functions that make a new object of an answer.
        shows: ``__repr__`` or ``__iter__`` of answers that would show the figures.
        sending: functions that run only once a call's arguments have been accepted.
    """

    def recognise(call: Call) -> Method:
        fixed, stream = call.endpoint, call.stream

        def identify(client: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request | None:
            endpoint = fixed if isinstance(fixed, Endpoint) else fixed(args, kwargs)
            if endpoint is None:
                return None
            model = model_of(client, args, kwargs)
            streams = bool(kwargs.get("stream")) if stream is None else stream
            server = server_of(client, kwargs)
            return Request(endpoint, model if isinstance(model, str) else None, streams, type(client), server)

        return Method(identify, call.inside, call.lazy)

    def locate(request: Request) -> tuple[str, str | None]:
        provider, url = request.url
        place = place_of(url, request.model)
        return provider or place.provider or id, place.host

    targets = [_target(call.place, Role.METHOD, required=call.required, method=recognise(call)) for call in calls]
    targets += [_target(place, Role.CLOSE) for place in closes]
    targets += [_target(place, Role.REBUILD) for place in rebuilds]
    targets += [_target(place, Role.SHOW) for place in shows]
    return Provider(
        id=id,
        package=package,
        supported=supported,
        distribution=distribution,
        targets=tuple(targets),
        identify=lambda _client, _args, _kwargs: None,
        locate=locate,
        claim=lambda _args, _kwargs: True,
        release=lambda _args, _kwargs: None,
        shape=lambda _result: Shape.ITEM,
        accepts=accepts,
        ask_for_usage=lambda _args, _kwargs: False,
        observe_parser=lambda _args, _kwargs, _reader: None,
        anchor=anchor,
        sending=frozenset({"send", *sending}),
    )


def _target(place: str, role: Role, **options: Any) -> Target:
    module, _, name = place.partition(":")
    return Target(module, name, role, **options)


def instance_of(*classes: str) -> Callable[[Any], bool]:
    """Whether an object is of one of these classes (``module:Class``), without importing them."""
    wanted = {tuple(name.split(":")) for name in classes}
    return lambda client: any((kind.__module__, kind.__qualname__) in wanted for kind in type(client).__mro__)
