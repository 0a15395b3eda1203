"""Requests that an outer layer has: a library that asks other SDKs below is counted once, as the outer one knows it.

Rules: a layer belongs to the context (``contextvars``) that opened it: tasks, and threads that were given the context,
inherit it. It is closed where it was opened, for all who hold it: what they ask later, in the background, is theirs.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from ecoimpact.instrumentation.call import Call


class Layer:
    """A function that is at work on a request, and what was counted inside it."""

    __slots__ = ("around", "inner", "open")

    def __init__(self, around: Layer | None) -> None:
        self.open = True
        self.inner: Call | None = None
        """The last request of a function below that counts by itself."""
        self.around = around

    @classmethod
    def enter(cls) -> Layer:
        """Have the SDKs below pass through."""
        layer = Layer(LAYER.get())
        LAYER.set(layer)
        return layer

    def tell(self, call: Call) -> None:
        """Let the functions around know that a request was counted."""
        layer = self.around
        while layer is not None and layer.open:
            layer.inner = call
            layer = layer.around

    def leave(self) -> None:
        self.open = False
        if LAYER.get() is self:
            LAYER.set(self.around)


LAYER: Final[ContextVar[Layer | None]] = ContextVar("ecoimpact_layer", default=None)
"""The innermost one. SDKs below ask it themselves: a function call less on every request. Never kept over a ``yield``."""
