"""``genai-prices`` (extra ``cost``): the one place that imports it, when the first price is asked for.

Rule of this file: the import takes a third of a second and may run on any thread. A child that is forked in the middle of
it finds the module locked by a thread that it does not have: a fork waits for the import, but not for ever.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from typing import Any

_importing = threading.Lock()
_held: list[bool] = []
_imported: list[Any] = []
_version: str | None = None


def price_library() -> Any:
    """The module ``genai_prices`` with its table of prices; ``None`` where it is not installed. Never raises."""
    if not _imported:
        with _importing:
            if not _imported:
                _imported.append(_import())
    return _imported[0]


def prepare() -> None:
    """Import the HTTP library that ``genai-prices`` brings along, on the thread of the caller.

    SDKs look for it among the loaded modules, and must not find one that another thread is in the middle of loading.
    """
    from importlib import import_module, metadata

    with contextlib.suppress(ImportError):  # no prices will be had, or none of these
        for requirement in metadata.requires("genai-prices") or ():
            name = _NAME.match(requirement)
            if name is not None and name.group() in ("httpx", "httpx2"):
                import_module(name.group())


_NAME = re.compile(r"\w+")


def installed_version() -> str | None:
    """``genai-prices 0.2.3``, once it is imported."""
    return _version


def _import() -> Any:
    global _version  # noqa: PLW0603 - goes with the module that it is the version of
    try:
        from importlib import metadata

        import genai_prices

        genai_prices.data_snapshot.get_snapshot()  # imports the table
        # A first price imports what the functions need; under the lock, or a fork in the middle of that locks the child.
        genai_prices.calc_price(genai_prices.Usage(input_tokens=1), model_ref="gpt-4o", provider_id="openai")
    except (ImportError, AttributeError, LookupError):
        return None
    _version = f"genai-prices {metadata.version('genai-prices')}"
    return genai_prices


def _before_fork() -> None:
    _held.append(_importing.acquire(timeout=2))


def _after_fork() -> None:
    if _held.pop():
        _importing.release()


def _after_fork_in_child() -> None:
    global _importing  # noqa: PLW0603 - the parent's may be held by a thread that the child does not have
    _importing = threading.Lock()
    if not _held.pop():
        _imported.append(None)  # no prices here rather than a wait for ever


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
