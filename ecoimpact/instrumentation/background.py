"""Requests that a provider answers later: accepted by one call, fetched by others, counted once.

Rules: bounded; no lock, because calls may end inside the garbage collector, in any thread: single dict operations are
atomic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ecoimpact.instrumentation.call import Call

LIMIT: Final = 10_000


class Background:
    """Pairs the call that started a background response with the one that first saw it done."""

    def __init__(self, on_drop: Callable[[str, int], None]) -> None:
        self._held: dict[str, Call] = {}
        self._counted: dict[str, None] = {}
        self._on_drop = on_drop

    def settle(self, call: Call) -> Call | None:
        """The call to record now, or ``None``: not done yet, or counted before."""
        reader = call.reader
        response_id = reader.response_id
        if reader.pending and response_id is not None:
            if not call.request.endpoint.polls:
                self._put(self._held, response_id, call, "background-evicted")
            return None
        if not call.request.endpoint.polls:
            return call
        if response_id is None or not reader.finished:
            return None
        started = self._held.pop(response_id, None)
        if started is not None:
            self._put(self._counted, response_id, None)
            started.adopt(call)
            return started
        if not reader.background or response_id in self._counted:
            return None  # a stored answer that was counted when it was made
        self._put(self._counted, response_id, None)
        return call

    def close(self) -> None:
        """Count the requests whose answer nobody fetched."""
        if unseen := len(self._held):
            self._on_drop("background-never-fetched", unseen)
        self._held.clear()

    def _put(self, table: dict[str, Any], key: str, value: Any, reason: str | None = None) -> None:
        if len(table) >= LIMIT:
            table.pop(next(iter(table), ""), None)
            if reason is not None:
                self._on_drop(reason, 1)
        table[key] = value
