"""Putting wrappers into SDK modules when they are imported, and taking them out again.

Rules: no SDK is imported here; a module is patched right after the program imports it. What another tool wrapped on top of
ours stays: our layer below then only passes through.
"""

from __future__ import annotations

import functools
import inspect
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

    def module_imported(self, module: str) -> None:
        with self._lock:
            if self.enabled or self._clients:
                self._install(module)

    # --- every client

    def _is_active(self, client: Any) -> bool:
        return self.enabled and not (self._clients and client in self._clients)

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
        import wrapt

        *path, attribute = target.name.split(".")
        try:
            owner = functools.reduce(getattr, path, module)
            original = vars(owner)[attribute]
        except (AttributeError, KeyError):
            return  # this version of the SDK has no such function
        wrapper = wrapt.FunctionWrapper(original, self._wrappers.for_role(target.role, original))
        setattr(owner, attribute, wrapper)
        self._patched[target] = (owner, attribute, original, wrapper)

    # --- one client

    def _wrap_client(self, client: Any) -> None:
        watched = self._own_wrappers.for_role(Role.CALL, type(client).request)

        def request(owner: Any, *args: Any, **kwargs: Any) -> Any:
            return watched(functools.partial(type(owner).request, owner), owner, args, kwargs)

        vars(client)["request"] = MethodType(_like(type(client).request, request), client)
        for name in self.provider.copies:
            if hasattr(type(client), name):
                vars(client)[name] = MethodType(_like(getattr(type(client), name), self._copying(name)), client)
        self._clients.add(client)

    def _copying(self, name: str) -> Callable[..., Any]:
        def copy(client: Any, *args: Any, **kwargs: Any) -> Any:
            copied = getattr(type(client), name)(client, *args, **kwargs)
            try:
                self.wrap(copied)
            except Exception as error:  # noqa: BLE001 - the boundary
                note_failure(error)
            return copied

        return copy


def _like(original: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with the name, documentation and (asynchronous) kind of the method it stands for."""
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs)

        return asynchronous
    return functools.wraps(original)(function)


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
