"""No SDK at all: OpenAI-compatible and Anthropic-compatible requests that a program sends with an HTTP library itself.

Off unless it is asked for, by ``instrument("httpx")`` or ``wrap()``: httpx, httpx2, requests and aiohttp are watched then,
for what else a program may send with them is none of our business. Requests of SDKs that are watched count there.
"""

from __future__ import annotations

from typing import Final

from ecoimpact.instrumentation.provider import Endpoint, Provider, Request, Role, Shape, Target, Wire
from ecoimpact.providers import _http_libraries as libraries
from ecoimpact.providers._hosts import place_of
from ecoimpact.providers._methods import instance_of
from ecoimpact.providers.anthropic import MESSAGES
from ecoimpact.providers.openai import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES

_ENDPOINTS: Final = {
    "/chat/completions": CHAT,
    "/completions": COMPLETIONS,
    "/embeddings": EMBEDDINGS,
    "/responses": RESPONSES,
    "/v1/messages": MESSAGES,
}
_ENDS: Final = tuple(_ENDPOINTS)

_COMPATIBLE: Final = "openai_compatible"


def endpoint_at(path: str) -> Endpoint | None:
    """What is asked for at a path, by its end: what comes before is each server's own.

    >>> endpoint_at("/openai/v1/chat/completions").name, endpoint_at("/v1/models")
    ('chat.completions', None)
    """
    if not path.endswith(_ENDS):
        return None
    return next(endpoint for end, endpoint in _ENDPOINTS.items() if path.endswith(end))


def locate(request: Request) -> tuple[str, str | None]:
    place = place_of(request.url, request.model)
    return place.provider or _COMPATIBLE, place.host


def _targets() -> tuple[Target, ...]:
    functions: list[tuple[str, str, Wire]] = []
    for package in ("httpx", "httpx2"):
        wire = libraries.httpx(endpoint_at)
        functions += [(f"{package}._client", f"{client}.send", wire) for client in ("Client", "AsyncClient")]
    functions.append(("requests.sessions", "Session.send", libraries.requests(endpoint_at)))
    functions.append(("aiohttp.client", "ClientSession._request", libraries.aiohttp(endpoint_at)))
    targets = [Target(module, name, Role.WIRE, wire=wire) for module, name, wire in functions]
    for module, methods in libraries.AROUND.items():
        targets += [Target(module, name, Role.WIRE, around=around) for name, around in methods.items()]
    return tuple(targets)


PROVIDER: Final = Provider(
    id="httpx",
    package="httpx",
    supported=">=0.25,<1",
    opt_in=True,
    targets=_targets(),
    identify=lambda _client, _args, _kwargs: None,
    locate=locate,
    claim=lambda _args, _kwargs: True,
    release=lambda _args, _kwargs: None,
    shape=lambda _result: Shape.ITEM,
    accepts=instance_of(
        *(f"{package}:{client}" for package in ("httpx", "httpx2") for client in ("Client", "AsyncClient")),
        "requests.sessions:Session",
        "aiohttp.client:ClientSession",
    ),
    ask_for_usage=lambda _args, _kwargs: False,
    observe_parser=lambda _args, _kwargs, _reader: None,
)
