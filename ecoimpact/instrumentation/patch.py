"""Putting wrappers into SDK modules when they are imported, and taking them out again.

Rules: no SDK is imported here; a module is patched right after the program imports it. What another tool wrapped on top of
ours stays: our layer below then only passes through.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import CellType
from typing import Any, Final, NamedTuple

from ecoimpact.instrumentation.call import Tracer
from ecoimpact.instrumentation.provider import Provider, Role, Target
from ecoimpact.instrumentation.report import note_failure, quietly
from ecoimpact.instrumentation.wrapper import Function, Wrappers

MARK: Final = "_ecoimpact_wrapped"
"""Where a client that is watched by itself says so, in its ``__dict__``: so that ``copy.copy`` hands it on."""

INHERITED: Final = object()
"""In place of an original that the owner does not hold itself."""

_hooked: set[str] = set()
_patchers: list[weakref.ref[Patcher]] = []


class Patched(NamedTuple):
    """A function in its place, to be restored."""

    owner: Any
    attribute: str
    original: Any
    wrapper: Any

    def restore(self) -> None:
        if _own(self.owner, self.attribute) is not self.wrapper:
            return
        if self.original is INHERITED:
            delattr(self.owner, self.attribute)
        else:
            setattr(self.owner, self.attribute, self.original)


class Patcher:
    """Patches one SDK for one tracer: every client of it (``enable``), or single clients (``wrap``)."""

    def __init__(self, provider: Provider, tracer: Tracer) -> None:
        self.provider = provider
        self.enabled = False
        self._wrappers = Wrappers(provider, tracer, self._is_active)
        self._patched: dict[Target, list[Patched]] = {}
        self._copies: list[Patched] = []
        self._token: object | None = None  # the value of marks that hold
        self._clients: list[weakref.ref[Any]] = []
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
        """Watch one client, and what it is copied into; the others pass through."""
        with self._lock:
            self._token = self._token or object()
            self._install()
            for owner in type(client).__mro__:
                for name in self.provider.copies:
                    self._patch_copy(owner, name)
            self._mark(self._anchor(client))

    def disable(self) -> None:
        """Restore every function of the SDK, and forget the clients."""
        with self._lock:
            self.enabled, self._token = False, None
            for patched in (*self._copies, *(p for patches in self._patched.values() for p in patches)):
                patched.restore()
            self._patched.clear()
            self._copies.clear()
            for ref in self._clients:
                if (client := ref()) is not None:
                    vars(client).pop(MARK, None)
            self._clients.clear()

    def module_imported(self, module: str) -> None:
        with self._lock:
            if self.enabled or self._token is not None:
                self._install(module)

    def _is_active(self, client: Any) -> bool:
        return self.enabled or (self._token is not None and vars(self._anchor(client)).get(MARK) is self._token)

    def _anchor(self, client: Any) -> Any:
        anchor = self.provider.anchor
        return client if anchor is None else anchor(client)

    def _install(self, only: str | None = None) -> None:
        for target in self.provider.targets:
            if only in (None, target.module):
                _hook(target.module)
                module = sys.modules.get(target.module)
                if module is not None:
                    self._patch(target, module)

    def _patch(self, target: Target, module: Any) -> None:
        for owner, attribute in self._places(target, module):
            own = _own(owner, attribute)
            inherits = own is None and target.role is Role.SHOW and hasattr(owner, attribute)
            if (own is None and not inherits) or self._is_covered(target, owner, own):
                continue
            # As callers would get it: another tool's wrapper on a class learns from this whose method it is.
            wrapper = self._wrappers.wrap(target, getattr(owner, attribute))
            setattr(owner, attribute, wrapper)
            patched = Patched(owner, attribute, INHERITED if inherits else own, wrapper)
            self._patched.setdefault(target, []).append(patched)

    def _places(self, target: Target, module: Any) -> Iterator[tuple[Any, str]]:
        """What holds the function, and under which name. None where this version of the SDK has no such class."""
        *path, attribute = target.name.split(".")
        try:
            owner = functools.reduce(getattr, path, module)
        except AttributeError:
            return
        if target.cell:
            yield _cell(owner, attribute, target.cell), "cell_contents"
            return
        yield owner, attribute
        if target.role in (Role.CALL, Role.METHOD):  # another tool may have covered it, in a class below
            for below in _below(owner):
                if f"{below.__module__}.".startswith(f"{self.provider.package}."):
                    yield below, attribute

    def _is_covered(self, target: Target, owner: Any, own: Any) -> bool:
        """Whether ours is there, at the top or below another tool; one that left put back what it had found."""
        patches = self._patched.get(target, ())
        ours = any(p.owner is owner for p in patches)
        is_top = any(p.owner is owner and p.wrapper is own for p in patches)
        return is_top or (ours and not any(p.original is own for p in patches))

    # --- single clients

    def _mark(self, client: Any) -> None:
        vars(client)[MARK] = self._token
        self._clients = [ref for ref in self._clients if ref() is not None]
        self._clients.append(weakref.ref(client))

    def _patch_copy(self, owner: type, name: str) -> None:
        original = vars(owner).get(name)
        if original is None or any((p.owner, p.attribute) == (owner, name) for p in self._copies):
            return
        wrapper = self._copying(original)
        setattr(owner, name, wrapper)
        self._copies.append(Patched(owner, name, original, wrapper))

    def _copying(self, original: Function) -> Function:
        @functools.wraps(original)
        def copy(client: Any, *args: Any, **kwargs: Any) -> Any:
            copied = original(client, *args, **kwargs)
            self._mark_copy(client, copied)
            return copied

        return copy

    @quietly
    def _mark_copy(self, client: Any, copied: Any) -> None:
        if self._token is not None and vars(client).get(MARK) is self._token:
            with self._lock:
                self._mark(copied)


def _own(owner: Any, attribute: str) -> Any:
    """What a class, a module or a decorator's variable itself holds, not what it inherits."""
    if isinstance(owner, CellType):
        return owner.cell_contents
    return getattr(owner, "__dict__", {}).get(attribute)


def _cell(module: Any, name: str, variable: str) -> CellType | None:
    """The variable of the decorator around a function, which may lie under other decorators."""
    function = vars(module).get(name)
    while function is not None:
        names = getattr(getattr(function, "__code__", None), "co_freevars", ())
        if variable in names:
            cell: CellType = function.__closure__[names.index(variable)]
            return cell
        function = getattr(function, "__wrapped__", None)
    return None


def _below(owner: type) -> Iterator[type]:
    subclasses: list[type] = owner.__subclasses__()
    for subclass in subclasses:
        yield subclass
        yield from _below(subclass)


def _hook(module: str) -> None:
    """Have every patcher told when ``module`` is imported. A hook cannot be taken back: it asks who is still there."""
    if module in _hooked:
        return
    _hooked.add(module)
    if module in sys.modules:
        return
    import wrapt

    wrapt.register_post_import_hook(_imported(module), module)


def _imported(module: str) -> Callable[[Any], None]:
    def imported(_module: Any) -> None:
        for ref in tuple(_patchers):
            patcher = ref()
            if patcher is not None:
                try:
                    patcher.module_imported(module)
                except Exception as error:  # noqa: BLE001 - the host's import must go on
                    note_failure(error)

    return imported
