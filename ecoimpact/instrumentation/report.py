"""The caller's boundary: what goes wrong on our side is logged once and counted, and goes no further."""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar, cast

logger = logging.getLogger("ecoimpact")

failures: Counter[str] = Counter()
"""Failures of our own by the name of the exception's class, for ``ecoimpact.drops()``."""

_F = TypeVar("_F", bound=Callable[..., Any])


def note_failure(error: Exception) -> None:
    """Count a failure; the first of each kind is logged, without its message, which could hold content."""
    kind = type(error).__name__
    failures[kind] += 1
    if failures[kind] == 1:
        try:
            trace, place = error.__traceback__, ""
            while trace is not None:
                place, trace = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}", trace.tb_next
            logger.warning("ecoimpact could not observe a call (%s at %s); the call itself is untouched", kind, place)
        except Exception:  # noqa: BLE001, S110 - a logging handler of the host may raise; it must not reach the caller
            pass


def quietly(function: _F) -> _F:
    """Guard a function of ours that runs inside a call of the host: no exception leaves it, ``None`` stands for failure."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the boundary itself
            note_failure(error)
            return None

    return cast("_F", guarded)
