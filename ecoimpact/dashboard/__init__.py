"""The log as a page: ``ecoimpact dashboard``, or ``serving()`` in a program. Needs the extra ``dashboard``.

Rules that hold in this package: it only reads, and what it shows comes from ``records.queries``; names and labels are
hostile text; a parameter of a request is one of an enumeration, or bound in the statement; the page loads nothing from
elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecoimpact.dashboard.app import create_app
    from ecoimpact.dashboard.server import serve, serving

__all__ = ["create_app", "serve", "serving"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'app' if name == 'create_app' else 'server'}"), name)
