"""For LiteLLM's proxy: ``callbacks: ecoimpact.litellm_callback.callback`` in its configuration counts what goes through.

Rules: settings come from ``ECOIMPACT_*`` variables; labels are what the proxy itself accounts by, never a key or its hash;
the end user, a person, becomes one only where labels of that name are hashed. LiteLLM is imported when the callback is
first asked for, not by this module.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any, Final

from ecoimpact import config, runtime
from ecoimpact.instrumentation.report import quietly
from ecoimpact.labels import label
from ecoimpact.types import Impacts

END_USER: Final = "end_user"
_FACTS: Final = {
    "team": ("team_alias", "team_id"),
    "key": ("key_alias",),
    "organization": ("organization_alias", "org_id"),
    "project": ("project_alias", "project_id"),
}
"""Labels, each with the places in the proxy's record of a key where its value is looked for."""


class Hooks:
    """What the proxy calls. :func:`__getattr__` below makes it a ``CustomLogger``, which is what the proxy accepts."""

    def __init__(self) -> None:
        super().__init__()
        runtime.instrument()
        self._names_end_user = END_USER in config.from_surroundings().get("hash_labels", ())

    async def async_pre_call_hook(self, user_api_key_dict: Any, cache: Any, data: Any, call_type: Any) -> None:  # noqa: ARG002
        """Label what the proxy is about to ask, in the task that serves the request."""
        self._label(user_api_key_dict, data)

    @quietly
    def _label(self, key: Any, data: Any) -> None:
        labels = {name: _first(key, places) for name, places in _FACTS.items()}
        if self._names_end_user:
            labels[END_USER] = _first(key, ("end_user_id",))
        labels["tags"] = ",".join(sorted(_tags(data))) or None
        label(labels).__enter__()  # it ends with the task

    async def async_post_call_response_headers_hook(
        self,
        response: Any,
        **_request: Any,
    ) -> dict[str, str] | None:
        """The figures of a plain answer; those of a stream are known after its headers have gone."""
        return self._headers(response)

    @quietly
    def _headers(self, response: Any) -> dict[str, str] | None:
        impacts = runtime.impacts_of(response)
        return headers_of(impacts) if impacts is not None else None


def headers_of(impacts: Impacts) -> dict[str, str]:
    """Response headers: the central figures, with their units in the names; none for what is unknown."""
    figures = {
        "x-ecoimpact-energy-kwh": impacts.energy,
        "x-ecoimpact-gwp-kgco2eq": impacts.gwp,
        "x-ecoimpact-wcf-l": impacts.wcf,
    }
    return {name: f"{float(figure.value):.6g}" for name, figure in figures.items() if figure is not None}


def _first(key: Any, places: tuple[str, ...]) -> str | None:
    for place in places:
        value = getattr(key, place, None)
        if isinstance(value, str) and value:
            return value
    return None


def _tags(data: Any) -> set[str]:
    """The tags of a request, from its metadata as the proxy has completed it."""
    tags: set[str] = set()
    for place in ("metadata", "litellm_metadata"):
        metadata = data.get(place) if isinstance(data, Mapping) else None
        found = metadata.get("tags") if isinstance(metadata, Mapping) else None
        if isinstance(found, list):
            tags.update(tag for tag in found if isinstance(tag, str))
    return tags


@functools.cache
def _made(name: str) -> Any:
    if name == "callback":
        return _made("EcoImpactCallback")()
    base: Any = importlib.import_module("litellm.integrations.custom_logger").CustomLogger
    own = {name: value for name, value in vars(Hooks).items() if name.startswith("async_")}  # the proxy looks no further up
    return type("EcoImpactCallback", (Hooks, base), {"__module__": __name__, "__doc__": Hooks.__doc__, **own})


def __getattr__(name: str) -> Any:
    """``EcoImpactCallback``, and ``callback``, one of it: made when they are asked for."""
    if name in ("EcoImpactCallback", "callback"):
        return _made(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
