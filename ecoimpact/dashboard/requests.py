"""Single requests: the newest of a view, for its list and for its explanations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from ecoimpact.dashboard.asked import Refused
from ecoimpact.dashboard.plain import ends
from ecoimpact.records import queries
from ecoimpact.records.folding import figure_in
from ecoimpact.records.index import Index
from ecoimpact.records.names import MAX_TEXT_CHARS, NONE, clean_text
from ecoimpact.records.queries import Where
from ecoimpact.records.reader import moment_of
from ecoimpact.types import CRITERIA

NEWEST: Final = 5_000
"""As many as the index points to."""
MAX_LISTED: Final = 500

_SHOWN: Final = (
    *("id", "time", "provider", "endpoint", "request_model", "response_model", "model", "status", "error_type", "zone"),
    *("methodology", "data_version"),
)
_NUMBERS: Final = ("input_tokens", "output_tokens", "reasoning_tokens", "latency_s", "time_to_first_token_s", "cost_usd")


def listed(index: Index, where: Where, number: int) -> list[dict[str, Any]]:
    """The newest records that ``where`` lets through, among the newest of the log."""
    everything = where == Where()
    records = queries.recent(index, number if everything else NEWEST)
    return [_plain(record) for record in records if everything or passes(record, where)][:number]


def found(index: Index, id: str) -> dict[str, Any]:  # noqa: A002 - the name of the field
    """The record with an id, among the newest of the log.

    Raises:
        Refused: it is not among them.
    """
    for record in queries.recent(index, NEWEST):
        if record.get("id") == id:
            return record
    raise Refused(f"no such request among the newest {NEWEST:,}")


def passes(record: Mapping[str, Any], where: Where) -> bool:
    """Whether the index counts a record under ``where``, whose times are whole hours."""
    moment = moment_of(dict(record))
    if moment is None or not _within(moment, where):
        return False
    model = record.get("model")
    names = {
        "model": model if isinstance(model, str) and model else record.get("request_model"),
        "provider": record.get("provider"),
        "endpoint": record.get("endpoint"),
    }
    for name, value in names.items():
        wanted = getattr(where, name)
        if wanted is not None and (clean_text(value) if value and isinstance(value, str) else "(unknown)") != wanted:
            return False
    return where.label is None or _label(record, where.label[0]) == clean_text(where.label[1])


def _within(moment: datetime, where: Where) -> bool:
    return (where.since is None or moment >= where.since) and (where.until is None or moment < where.until)


def _label(record: Mapping[str, Any], key: str) -> str:
    labels = record.get("labels")
    for name, value in labels.items() if isinstance(labels, dict) else ():
        if isinstance(value, str) and clean_text(name) == clean_text(key):
            return clean_text(value)
    return NONE


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the list shows, of the type that it should be."""
    texts = {name: _text(record.get(name)) for name in _SHOWN}
    numbers = {name: _number(record.get(name)) for name in _NUMBERS}
    figures = {name: value for c in CRITERIA for name, value in ends(c.suffix, figure_in(record, c.suffix)).items()}
    labels = record.get("labels")
    own = {str(k): v for k, v in labels.items() if isinstance(v, str)} if isinstance(labels, dict) else {}
    codes = {name: [c for c in _list(record.get(name)) if isinstance(c, str)] for name in ("errors", "warnings")}
    flags = {name: record.get(name) is True for name in ("tokens_estimated", "stream")}
    return {
        **texts,
        **numbers,
        **figures,
        **codes,
        **flags,
        "labels": {clean_text(k): clean_text(v) for k, v in own.items()},
    }


def _text(value: Any) -> str | None:
    return clean_text(value)[:MAX_TEXT_CHARS] if isinstance(value, str) else None


def _number(value: Any) -> float | int | None:
    return value if type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e15 else None


def _list(value: Any) -> list[Any]:
    return value[:50] if isinstance(value, list) else []
