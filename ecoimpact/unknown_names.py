"""Messages about names that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """A sentence that says what is unknown, what comes near, and what there is.

    >>> unknown("methodology", "ecologit", ["ecologits", "scope3"])
    "unknown methodology 'ecologit': did you mean 'ecologits'? Known: ecologits, scope3"
    >>> unknown("server_type", "on_premise", ["autoscaling", "on-premise"])
    "unknown server_type 'on_premise': did you mean 'on-premise'? Known: autoscaling, on-premise"
    """
    from difflib import get_close_matches

    known = list(known)
    near = get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = f": did you mean {' or '.join(map(repr, near))}?" if near else "."
    return f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}"
