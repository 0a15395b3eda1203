"""A source that somebody describes: our facts by the names of their columns.

A mapping is an object, from a TOML or a JSON file::

    name = "gateway"                     # ids and the label are made with it
    input_excludes_cache = false         # true: cached and written tokens stand beside the input, not in it

    [fields]
    time = "ts"                          # ISO 8601; without a zone it is UTC
    model = "request.model"              # a path, where columns hold objects
    provider = { value = "groq" }        # the same for all rows
    output_tokens = { column = "out_ktok", scale = 1000 }
    latency_s = { column = "ms", scale = 0.001 }
    status = { column = "state", map = { done = "ok", failed = "error" } }
    end_time = { column = "until", format = "unix_ms" }

Rule of this file: a mapping that makes no sense is a ``ValueError`` that names near keys, before any row is read.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NamedTuple

from ecoimpact.imports.facts import (
    Facts,
    Reject,
    Row,
    Source,
    count,
    duration,
    error_name,
    in_time,
    is_empty,
    moment,
    needed,
    number,
    text,
)
from ecoimpact.imports.making import found_at
from ecoimpact.imports.places import OTEL_PROVIDERS, served_by
from ecoimpact.instrumentation.provider import tier
from ecoimpact.types import Usage

TEXTS: Final = ("id", "provider", "address", "endpoint", "model", "response_model", "service_tier", "status", "error_type")
COUNTS: Final = (
    *("input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "requests"),
)
NUMBERS: Final = ("latency_s", "time_to_first_token_s", "cost_usd")
TIMES: Final = ("time", "end_time")
FIELDS: Final = (*TIMES, *TEXTS, *COUNTS, *NUMBERS, "stream")
NEEDED: Final = ("time", "model")
STATUSES: Final = ("ok", "error", "cancelled", "abandoned")

_KEYS: Final = ("column", "value", "scale", "format", "map")
_UNIX: Final = {"unix": 1.0, "unix_ms": 1e-3, "unix_us": 1e-6, "unix_ns": 1e-9}
_TRUE: Final = frozenset({"true", "1", "yes", "t", "y"})


class Where(NamedTuple):
    """Where a fact stands: in a column, as it is or after a change, or nowhere, being the same for all rows."""

    column: str | None = None
    value: Any = None
    scale: Decimal | None = None
    format: str | None = None
    map: Mapping[str, Any] | None = None

    def of(self, row: Row) -> Any:
        value = self.value if self.column is None else found_at(row, self.column)
        if self.map is not None and not is_empty(value):
            return self.map.get(str(value), value)
        return value


def source_of(mapping: Mapping[str, Any], *, name: str = "mapping") -> Source:
    """The source that a mapping describes; ``name`` is what it is called where it does not say.

    Raises:
        ValueError: an unknown key or field, or one that is missing; near names are listed.

    >>> source = source_of({"fields": {"time": "at", "model": "m", "output_tokens": "out"}})
    >>> source.read({"at": "2026-01-01", "m": "gpt-4o", "out": "12"}).usage.output_tokens
    12
    """
    _known(mapping, ("name", "fields", "input_excludes_cache"), "a mapping has no key")
    called = mapping.get("name", name)
    if not isinstance(called, str) or not called.strip() or len(called) > 64:
        raise ValueError(f"name is a short text, got {called!r}")
    fields = mapping.get("fields")
    if not isinstance(fields, Mapping):
        raise ValueError(f"a mapping has a table 'fields', our names to their columns; got {fields!r}")  # noqa: TRY004
    _known(fields, FIELDS, "there is no field")
    wheres = {ours: _where(ours, theirs) for ours, theirs in fields.items()}
    for field in NEEDED:
        if field not in wheres:
            raise ValueError(f"a mapping needs the field {field!r}. Fields: {', '.join(FIELDS)}")
    reader = _Reader(wheres, excludes_cache=mapping.get("input_excludes_cache") is True)
    columns = tuple(where.column.partition(".")[0] for where in wheres.values() if where.column is not None)
    columns += tuple(where.column for where in wheres.values() if where.column is not None)
    return Source(called.strip(), reader.read, envelopes=("data",), columns=columns)


def read_mapping(path: Path) -> dict[str, Any]:
    """What is in a mapping file: JSON by its name, else TOML.

    Raises:
        OSError: it cannot be read.
        ValueError: it is neither.
    """
    content = path.read_text(encoding="utf-8")
    found = json.loads(content) if path.suffix == ".json" else tomllib.loads(content)
    if not isinstance(found, dict):
        raise ValueError("a mapping is an object")  # noqa: TRY004 - as the errors of both parsers
    return found


def _known(given: Mapping[str, Any], known: tuple[str, ...], problem: str) -> None:
    for key in given:
        if key not in known:
            near = get_close_matches(str(key), known, n=3)
            hint = f"Near: {', '.join(near)}." if near else f"Known: {', '.join(known)}."
            raise ValueError(f"{problem} {key!r}. {hint}")


def _where(ours: str, theirs: Any) -> Where:
    given: Any = {"column": theirs} if isinstance(theirs, str) else theirs
    if not isinstance(given, Mapping):
        raise ValueError(f"{ours} is the name of a column, or a table with one of: {', '.join(_KEYS)}")  # noqa: TRY004
    _known(given, _KEYS, f"{ours} has no key")
    if ("column" in given) == ("value" in given) or not isinstance(given.get("column", ""), str):
        raise ValueError(f"{ours} has either a column or a value")
    _check(ours, given)
    column, scale = given.get("column"), given.get("scale")
    return Where(
        column,
        given.get("value"),
        None if scale is None else Decimal(str(scale)),
        given.get("format"),
        given.get("map"),
    )


def _check(ours: str, given: Mapping[str, Any]) -> None:
    scale, form, table = given.get("scale"), given.get("format"), given.get("map")
    if scale is not None and (ours not in (*COUNTS, *NUMBERS) or type(scale) not in (int, float) or not 0 < scale < 1e12):
        raise ValueError(f"scale is a number above 0, for counts, durations and costs; {ours} has {scale!r}")
    if form is not None and (ours not in TIMES or not isinstance(form, str)):
        raise ValueError(
            f"format is for {' and '.join(TIMES)}: {', '.join(_UNIX)}, or a pattern such as %d/%m/%Y; got {form!r}"
        )
    if table is not None and not isinstance(table, Mapping):
        raise ValueError(f"map is a table, their values to ours; {ours} has {table!r}")


class _Reader:
    """Reads rows by a mapping that was found to make sense."""

    def __init__(self, wheres: Mapping[str, Where], *, excludes_cache: bool) -> None:
        self._wheres = wheres
        self._excludes_cache = excludes_cache

    def read(self, row: Row) -> Facts:
        found = {ours: where.of(row) for ours, where in self._wheres.items()}
        started_at = needed(self._moment(found, "time"), "time")
        ended_at = self._moment(found, "end_time")
        requests = self._count(found, "requests")
        if requests == 0 or (requests is not None and requests > 1 and ended_at is not None and ended_at <= started_at):
            raise Reject("count-invalid" if requests == 0 else "time-invalid", "requests" if requests == 0 else "end_time")
        latency_s, codes = self._number(found, "latency_s"), ()
        if latency_s is None and requests is None:
            latency_s, codes = duration(started_at, ended_at)  # type: ignore[assignment] # one code or none
        model = text(found, "model")
        provider, host = served_by(text(found, "address"), text(found, "provider"), OTEL_PROVIDERS, model=model)
        endpoint = text(found, "endpoint") or "request"
        return Facts(
            key=self._key(found),
            started_at=started_at,
            endpoint=endpoint,
            provider=provider,
            host=host,
            request_model=model,
            response_model=text(found, "response_model"),
            usage=self._usage(found, generates=endpoint != "embeddings"),
            latency_s=latency_s,
            time_to_first_token_s=self._number(found, "time_to_first_token_s"),
            stream=str(found.get("stream")).strip().lower() in _TRUE,
            status=self._status(found),
            error_type=error_name(found.get("error_type")),
            stated_cost_usd=self._number(found, "cost_usd") or None,
            requests=requests or 1,
            until=ended_at if requests is not None and requests > 1 else None,
            codes=("usage-averaged",) if requests is not None and requests > 1 else codes,
        )

    def _usage(self, found: Row, *, generates: bool) -> Usage:
        tokens = {name: self._count(found, name) for name in COUNTS}
        tokens_in, cached, written = (
            tokens[name] for name in ("input_tokens", "cached_input_tokens", "cache_write_tokens")
        )
        if self._excludes_cache and tokens_in is not None:
            tokens_in += (cached or 0) + (written or 0)
        return Usage(
            input_tokens=tokens_in,
            output_tokens=tokens["output_tokens"] if generates else 0,
            cached_input_tokens=cached,
            cache_write_tokens=written,
            reasoning_tokens=tokens["reasoning_tokens"],
            service_tier=tier(found.get("service_tier")),
            generates=generates,
        )

    def _key(self, found: Row) -> str | None:
        id = found.get("id")  # noqa: A001 - what it is
        return text({"id": str(id) if type(id) is int else id}, "id")

    def _status(self, found: Row) -> Any:
        status = (text(found, "status") or "ok").lower()
        if status not in STATUSES:
            raise Reject("status-invalid", "status")
        return status

    def _number(self, found: Row, name: str) -> float | None:
        value = number(found, name)
        where = self._wheres.get(name)
        if value is not None and where is not None and where.scale is not None:
            value = float(Decimal(str(value)) * where.scale)
        if value is not None and value < 0:
            raise Reject("number-invalid", name)
        return value

    def _count(self, found: Row, name: str) -> int | None:
        where = self._wheres.get(name)
        if where is None or where.scale is None:
            return count(found, name)
        value = number(found, name)
        if value is None:
            return None
        scaled = Decimal(str(value)) * where.scale
        return count({name: int(scaled) if scaled == int(scaled) else float(scaled)}, name)

    def _moment(self, found: Row, name: str) -> float | None:
        form = self._wheres[name].format if name in self._wheres else None
        if form is None or is_empty(found.get(name)):
            return moment(found, name)
        if form in _UNIX:
            return in_time(float(number(found, name) or 0) * _UNIX[form], name)
        try:
            at = datetime.strptime(str(found[name]).strip(), form)
            return in_time((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp(), name)
        except (ValueError, OverflowError):
            raise Reject("time-invalid", name) from None
