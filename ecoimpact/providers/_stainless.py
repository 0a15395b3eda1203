"""The shape shared by SDKs that Stainless generates (openai, anthropic, ...): one ``request`` method per client kind.

Every call shape (``create``, ``parse``, ``stream``, raw responses, Azure, Bedrock and Vertex clients, tool runners) goes
through ``SyncAPIClient.request`` or ``AsyncAPIClient.request``, once per request whatever the retries: it is watched there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from ecoimpact.instrumentation.provider import Endpoint, Provider, Reader, Request, Role, Shape, Target
from ecoimpact.providers._hosts import place_of

RAW_HEADER = "X-Stainless-Raw-Response"


def stainless_provider(
    *,
    id: str,  # noqa: A002 - the field's own name
    package: str,
    supported: str,
    endpoint_of: Callable[[str, str], Endpoint | None],
    clients: Mapping[str, str],
    helpers: Mapping[str, tuple[str, ...]],
    rebuilds: tuple[str, ...] = (),
    asks_for_usage: tuple[Endpoint, ...] = (),
) -> Provider:
    """Declare an SDK.

    Args:
        endpoint_of: the endpoint of a method (``post``) and a path (``/responses``, ``/v1/messages?beta=true``).
        clients: provider ids of clients that are not the SDK's own provider, by the name of a class they inherit from.
        helpers: classes that consume a stream for the user, ``module:Class``, with the methods that return the answer.
        rebuilds: functions that make a new object of an answer, ``module:Class.method``.
        asks_for_usage: the endpoints whose streams send usage only when asked (``stream_options.include_usage``).
    """

    def identify(client: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request | None:
        options = _options(args, kwargs)
        endpoint = endpoint_of(options.method, options.url)
        if endpoint is None and options.url[:1] != "/":  # posted by hand, spelt another way
            endpoint = endpoint_of(options.method, f"/{options.url}")
        if endpoint is None:
            return None
        body = options.json_data
        model = body.get("model") if isinstance(body, dict) else None
        stream = bool(kwargs.get("stream"))
        return Request(endpoint, model if isinstance(model, str) else None, stream, type(client), client._base_url)

    def locate(request: Request) -> tuple[str, str | None]:
        place = place_of(request.url, request.model)
        return _by_class(request.client, clients) or place.provider or id, place.host

    def ask_for_usage(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        options = _options(args, kwargs)
        body = options.json_data
        if endpoint_of(options.method, options.url) not in asks_for_usage or not isinstance(body, dict):
            return False
        headers = options.headers if isinstance(options.headers, Mapping) else {}
        stream_options = body.get("stream_options")
        asked = stream_options if isinstance(stream_options, dict) else {}
        if "include_usage" in asked or headers.get(RAW_HEADER) == "stream":
            return False
        # New dicts: the caller may hold the ones that are there.
        options.json_data = {**body, "stream_options": {**asked, "include_usage": True}}
        return True

    return Provider(
        id=id,
        package=package,
        supported=supported,
        targets=_targets(package, helpers, rebuilds),
        identify=identify,
        locate=locate,
        claim=_claim,
        release=_release,
        shape=_shape,
        accepts=lambda client: (
            any(c.__module__.partition(".")[0] == package for c in type(client).__mro__)
            and hasattr(client, "request")
            and hasattr(client, "base_url")
        ),
        ask_for_usage=ask_for_usage if asks_for_usage else lambda _args, _kwargs: False,
        observe_parser=_observe_parser,
        copies=("copy", "with_options"),
    )


def _targets(package: str, helpers: Mapping[str, tuple[str, ...]], rebuilds: tuple[str, ...]) -> tuple[Target, ...]:
    targets = [
        Target(f"{package}._base_client", "SyncAPIClient.request", Role.CALL, required=True),
        Target(f"{package}._base_client", "AsyncAPIClient.request", Role.CALL, required=True),
        Target(f"{package}._streaming", "Stream.close", Role.CLOSE, required=True),
        Target(f"{package}._streaming", "AsyncStream.close", Role.CLOSE, required=True),
        Target(f"{package}._legacy_response", "LegacyAPIResponse.parse", Role.PARSE),
        Target(f"{package}._models", "BaseModel.__iter__", Role.SHOW),  # what dict(answer) calls
    ]
    for response in ("APIResponse", "AsyncAPIResponse"):
        targets += [
            Target(f"{package}._response", f"{response}.parse", Role.PARSE, required=True),
            Target(f"{package}._response", f"{response}.close", Role.CLOSE, required=True),
        ]
    for helper, snapshots in helpers.items():
        module, _, name = helper.partition(":")
        targets += [
            Target(module, f"{name}.__init__", Role.HELPER),
            Target(module, f"{name}.close", Role.CLOSE),
            *(Target(module, f"{name}.{method}", Role.SNAPSHOT) for method in snapshots),
        ]
    for rebuild in rebuilds:
        module, _, name = rebuild.partition(":")
        targets.append(Target(module, name, Role.REBUILD))
    return tuple(targets)


def _options(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return kwargs["options"] if "options" in kwargs else args[1]


_CLAIM = "_ecoimpact_claimed"


def _claim(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    fields = _options(args, kwargs).__dict__
    if _CLAIM in fields:
        return False
    fields[_CLAIM] = True
    return True


def _release(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    _options(args, kwargs).__dict__.pop(_CLAIM, None)


def _by_class(client_class: type, clients: Mapping[str, str]) -> str | None:
    for base in client_class.__mro__:
        if (provider := clients.get(base.__name__)) is not None:
            return provider
    return None


def _shape(result: Any) -> Shape:
    fields = getattr(result, "__dict__", {})
    if "_cast_to" not in fields:  # what both streams and raw responses keep, and no model does
        return Shape.ITEM
    return Shape.RAW if "http_response" in fields else Shape.STREAM


def _observe_parser(args: tuple[Any, ...], kwargs: Mapping[str, Any], reader: Reader) -> None:
    options = _options(args, kwargs)
    parser = getattr(options, "post_parser", None)
    if not callable(parser):
        return

    def observed(answer: Any) -> Any:
        with contextlib.suppress(Exception):  # it is read again, guarded, when the call returns
            reader.feed(answer)
        return parser(answer)

    options.post_parser = observed
