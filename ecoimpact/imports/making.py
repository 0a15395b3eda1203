"""From facts to records: the same engine, prices and fields as for a request that was watched.

Rules that hold in this file: an id follows from the source and from what the row goes by there, so that the same row
gives the same ids on every machine; the integer tokens of what was averaged sum to those of the row, part by part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from ecoimpact import engine
from ecoimpact.cost import price_version
from ecoimpact.data import notice
from ecoimpact.imports.facts import Facts, Reject, Row, Source, part
from ecoimpact.labels import capped, clean
from ecoimpact.types import Inference, Methodology, Record, Usage

MAX_REQUESTS: Final = 10_000_000
"""A row that counts more of them is turned away: no bucket of a minute, an hour or a day has had as many."""

SOURCE_LABEL: Final = "imported_from"
"""The label that says of a record that it was imported, and by which source."""

UNKNOWN: Final = "unknown"
_ID_CHARS: Final = 32


class Maker:
    """Makes the records of a source's facts.

    ``labels`` names the label for a path in the row, such as ``{"team": "metadata.team"}``; ``hashed`` replaces values of
    some labels. ``provider`` serves rows that name none.

    Raises:
        ValueError: an unknown zone or methodology, or a label from a column that holds what was said.
    """

    def __init__(
        self,
        source: Source,
        *,
        methodology: str | Methodology = engine.DEFAULT_METHODOLOGY,
        zone: str | None = None,
        provider: str | None = None,
        labels: Mapping[str, str] | None = None,
        hashed: Callable[[str, str], str] = lambda _name, value: value,
    ) -> None:
        self._source = source
        self._methodology = engine.validate_methodology(methodology)
        self._zone = None if zone is None else engine.validate_zone(zone)
        self._provider = provider
        self._labels = dict(labels or {})
        self._hashed = hashed
        self._catalog = engine.catalog()
        for name, path in self._labels.items():
            said = next((c for c in source.content if path == c or path.startswith((f"{c}.", f"attributes.{c}"))), None)
            if said is not None:
                raise ValueError(f"{said} holds what was said, or who said it: no label {name!r} can be made of it")

    def ids(self, facts: Facts, line: int) -> Iterator[tuple[int, str]]:
        """The ids of the records that the facts make, each with its number among them.

        Raises:
            Reject: more requests than there can have been.
        """
        if facts.requests > MAX_REQUESTS:
            raise Reject("too-many-requests")
        key = facts.key if facts.key is not None else f"{line}:{_digest(facts)}"
        base = hashlib.sha256(f"ecoimpact import\0{self._source.name}\0{key}".encode("utf-8", "surrogatepass"))
        return _ids(base, facts.requests)

    def records(self, facts: Facts, ids: Iterable[tuple[int, str]], labels: Mapping[str, str]) -> Iterator[Record]:
        """One record for each id, which stands with its number among those of the row."""
        width = 0.0 if facts.until is None else facts.until - facts.started_at
        for number, id in ids:  # noqa: A001 - what it is
            share = facts if facts.requests == 1 else replace(facts, usage=share_of(facts.usage, number, facts.requests))
            started_at = facts.started_at + (number + 0.5) * width / facts.requests
            yield self._record(id, share, started_at, labels)

    def _record(self, id: str, facts: Facts, started_at: float, labels: Mapping[str, str]) -> Record:  # noqa: A002
        provider = facts.provider or self._provider
        assessment = engine.assess(
            self._catalog,
            provider=provider,
            models=(facts.response_model, facts.request_model),
            usage=facts.usage,
            latency_s=facts.latency_s,
            zone=self._zone,
            methodology=self._methodology,
            host=facts.host,
            started_at=started_at,
        )
        codes = facts.codes if provider is not None else (*facts.codes, "provider-from-model")
        if codes:
            assessment = replace(assessment, warnings=(*assessment.warnings, *map(notice, codes)))
        cost_usd = assessment.cost() if assessment.cost is not None else None
        version = price_version() if cost_usd is not None else None
        if cost_usd is None and facts.stated_cost_usd is not None:
            cost_usd, version = facts.stated_cost_usd, f"stated by {self._source.name}"
        inference = Inference(
            provider=provider or (assessment.model.provider if assessment.model else UNKNOWN),
            endpoint=facts.endpoint,
            request_model=facts.request_model,
            response_model=facts.response_model,
            usage=facts.usage,
            latency_s=facts.latency_s,
            time_to_first_token_s=facts.time_to_first_token_s,
            started_at=started_at,
            stream=facts.stream,
            status=facts.status,
            error_type=facts.error_type,
        )
        return Record(id, inference, assessment, labels, cost_usd, version)

    def labels_of(self, row: Row) -> Mapping[str, str]:
        """The labels of a row's records."""
        asked = clean({name: _label(found_at(row, path)) for name, path in self._labels.items()})
        return capped({SOURCE_LABEL: self._source.name, **{name: self._hashed(name, text) for name, text in asked.items()}})


def share_of(usage: Usage, number: int, of: int) -> Usage:
    """The tokens of one among several requests that share a sum: parts that lie beside each other are shared out each.

    >>> [share_of(Usage(10, 7, cached_input_tokens=4), n, 3).input_tokens for n in range(3)]
    [4, 3, 3]
    """
    cached, written = _part(usage.cached_input_tokens, number, of), _part(usage.cache_write_tokens, number, of)
    reasoned = _part(usage.reasoning_tokens, number, of)
    return replace(
        usage,
        input_tokens=_total(
            usage.input_tokens, (usage.cached_input_tokens, usage.cache_write_tokens), (cached, written), number, of
        ),
        output_tokens=_total(usage.output_tokens, (usage.reasoning_tokens,), (reasoned,), number, of),
        cached_input_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoned,
        priced_apart=tuple((name, share) for name, n in usage.priced_apart if (share := _part(n, number, of))),
    )


def _part(tokens: Any, number: int, of: int) -> int | None:
    return None if tokens is None else tokens // of + (number < tokens % of)


def _total(tokens: Any, parts: tuple[Any, ...], shares: tuple[int | None, ...], number: int, of: int) -> int | None:
    if tokens is None:
        return None
    rest = tokens - sum(known for known in parts if known is not None)
    if rest < 0:  # parts that are more than the whole
        return _part(tokens, number, of)
    return (_part(rest, number, of) or 0) + sum(share for share in shares if share is not None)


def found_at(row: Row, path: str) -> Any:
    """What stands at a path: the whole of it is a key, or its beginning is and the rest is a path in there.

    >>> row = {"attributes": {"service.name": "shop"}, "a": '{"b": 1}'}
    >>> found_at(row, "attributes.service.name"), found_at(row, "a.b")
    ('shop', 1)
    """
    if path in row:
        return row[path]
    for name in row:
        if path.startswith(f"{name}.") and (inner := part(row, name)):
            return found_at(inner, path[len(name) + 1 :])
    return None


def _label(value: Any) -> str | None:
    """A value as a label: a text, a number, or the list of such, which may be one in JSON."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return value  # type: ignore[no-any-return] # the text that it is
    if isinstance(value, list):
        return ",".join(sorted(str(item) for item in value if isinstance(item, str | int | float))) or None
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) and value != "" else None


def _ids(base: Any, requests: int) -> Iterator[tuple[int, str]]:
    for number in range(requests):
        one = base
        if requests > 1:
            one = base.copy()
            one.update(f"\0{number}".encode())
        yield number, one.hexdigest()[:_ID_CHARS]


def _digest(facts: Facts) -> str:
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogatepass")).hexdigest()
