"""Putting wrappers into SDK modules when they are imported, and taking them out again.

Rules: no SDK is imported here; a module is patched right after the program imports it. What another tool wrapped on top of
ours stays: our layer below then only passes through.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any

from ecoimpact.instrumentation.call import Tracer
from ecoimpact.instrumentation.provider import Provider, Role, Target
from ecoimpact.instrumentation.report import note_failure
from ecoimpact.instrumentation.wrapper import Wrappers

_hooked: set[str] = set()
_patchers: list[weakref.ref[Patcher]] = []


class Patcher:
    """Patches one SDK for one tracer: every client of it (``enable``), or single clients (``wrap``)."""

    def __init__(self, provider: Provider, tracer: Tracer) -> None:
        self.provider = provider
        self.enabled = False
        self._wrappers = Wrappers(provider, tracer, self._is_active)
        self._own_wrappers = Wrappers(provider, tracer, lambda _client: True)
        self._patched: dict[Target, tuple[Any, str, Any, Any]] = {}
        self._clients: weakref.WeakSet[Any] = weakref.WeakSet()
        self._has_clients = False
        self._lock = threading.RLock()
        _patchers.append(weakref.ref(self))

    @property
    def patched(self) -> tuple[Target, ...]:
        return tuple(self._patched)

    def enable(self) -> None:
        """Watch every client of the SDK: those that exist, and those made later."""
        with self._lock:
            self.enabled = True
            self._install()

    def wrap(self, client: Any) -> None:
        """Watch one client, and what it is copied into; other clients are left alone."""
        with self._lock:
            self._install()
            if client not in self._clients:
                self._wrap_client(client)

    def disable(self) -> None:
        """Restore every function of the SDK and of wrapped clients."""
        with self._lock:
            self.enabled = False
            for owner, attribute, original, wrapper in self._patched.values():
                if vars(owner).get(attribute) is wrapper:
                    setattr(owner, attribute, original)
            self._patched.clear()
            for client in list(self._clients):
                for name in ("request", *self.provider.copies):
                    vars(client).pop(name, None)
            self._clients.clear()
            self._has_clients = False

    def module_imported(self, module: str) -> None:
        with self._lock:
            if self.enabled or self._clients:
                self._install(module)

    # --- every client

    def _is_active(self, client: Any) -> bool:
        return self.enabled and not (self._has_clients and client in self._clients)

    def _install(self, only: str | None = None) -> None:
        for target in self.provider.targets:
            if target.role is Role.CALL and not self.enabled:
                continue
            if target in self._patched or only not in (None, target.module):
                continue
            _hook(target.module)
            module = sys.modules.get(target.module)
            if module is not None:
                self._patch(target, module)

    def _patch(self, target: Target, module: Any) -> None:
        *path, attribute = target.name.split(".")
        try:
            owner = functools.reduce(getattr, path, module)
            original = vars(owner)[attribute]
        except (AttributeError, KeyError):
            return  # this version of the SDK has no such function
        wrapper = self._wrappers.wrap(target.role, original)
        setattr(owner, attribute, wrapper)
        self._patched[target] = (owner, attribute, original, wrapper)

    # --- one client

    def _wrap_client(self, client: Any) -> None:
        vars(client)["request"] = MethodType(self._own_wrappers.wrap(Role.CALL, type(client).request), client)
        for name in self.provider.copies:
            if hasattr(type(client), name):
                vars(client)[name] = MethodType(self._copying(getattr(type(client), name)), client)
        self._clients.add(client)
        self._has_clients = True

    def _copying(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def copy(client: Any, *args: Any, **kwargs: Any) -> Any:
            copied = original(client, *args, **kwargs)
            try:
                self.wrap(copied)
            except Exception as error:  # noqa: BLE001 - the boundary
                note_failure(error)
            return copied

        return copy


def _hook(module: str) -> None:
    """Have every patcher told when ``module`` is imported. A hook cannot be taken back: it asks who is still there."""
    if module in _hooked:
        return
    _hooked.add(module)
    if module in sys.modules:
        return
    import wrapt

    def imported(_module: Any) -> None:
        for ref in tuple(_patchers):
            patcher = ref()
            if patcher is not None:
                try:
                    patcher.module_imported(module)
                except Exception as error:  # noqa: BLE001 - the host's import must go on
                    note_failure(error)

    wrapt.register_post_import_hook(imported, module)
