"""Langfuse: observations from the UI's export, the public API, and the blob storage export.

Fields: Langfuse documentation, "Blob storage export field reference" (names with underscores); Langfuse's API client,
``ObservationV2`` and ``ObservationsView`` (camel case, as the UI's export writes them); usage types: "Token & cost
tracking". Generations and embeddings are requests, the other types are not. ``usage_details`` holds parts beside each
other whose names say the direction (``input``, ``input_cached_tokens``, ``cache_read_input_tokens``,
``output_reasoning_tokens``), unless ``total`` says that ``input`` and ``output`` are all there is. An export names no
provider. ``latency`` was in milliseconds in some versions and in seconds in others: the times are what counts.
"""

from __future__ import annotations

from typing import Final

from ecoimpact.imports.facts import Facts, Reject, Row, Source, cost, count, duration, moment, needed, part, text
from ecoimpact.types import Usage

_KINDS: Final = {"GENERATION": "generation", "EMBEDDING": "embeddings"}


def _read(row: Row) -> Facts | None:
    if "type" not in row:
        raise Reject("not-recognised", "type")
    endpoint = _KINDS.get((text(row, "type") or "").upper())
    if endpoint is None:
        return None
    started_at = needed(moment(row, "startTime", "start_time"), "start_time")
    latency_s, codes = duration(started_at, moment(row, "endTime", "end_time"))
    first_token_s, _ = duration(started_at, moment(row, "completionStartTime", "completion_start_time"))
    key = text(row, "id")
    return Facts(
        key=None if key is None else f"{text(row, 'traceId', 'trace_id')}/{key}",
        started_at=started_at,
        endpoint=endpoint,
        request_model=text(row, "model", "providedModelName", "provided_model_name"),
        usage=_usage(row, generates=endpoint != "embeddings"),
        latency_s=latency_s,
        time_to_first_token_s=first_token_s,
        stream=first_token_s is not None,
        status="error" if text(row, "level") == "ERROR" else "ok",
        stated_cost_usd=cost(row, "totalCost", "total_cost", "calculatedTotalCost"),
        codes=codes,
    )


def _usage(row: Row, *, generates: bool) -> Usage:
    details = part(row, "usageDetails") or part(row, "usage_details") or part(row, "usage")
    sums: dict[str, int] = {}
    for name in details:
        kind = _kind(name)
        if kind is not None:
            sums[kind] = sums.get(kind, 0) + (count(details, name) or 0)
    total, plain_in, plain_out = (count(details, name) for name in ("total", "input", "output"))
    if not (total and total == (plain_in or 0) + (plain_out or 0)):
        plain_in, plain_out = _sum(sums, "input", "read", "written"), _sum(sums, "output", "reasoned")
    return Usage(
        input_tokens=plain_in,
        output_tokens=plain_out if generates else 0,
        cached_input_tokens=sums.get("read"),
        cache_write_tokens=sums.get("written"),
        reasoning_tokens=sums.get("reasoned"),
        generates=generates,
    )


def _kind(name: str) -> str | None:
    """What a usage type counts, by its name.

    >>> [_kind(name) for name in ("input", "cache_read_input_tokens", "input_cache_creation", "output_reasoning", "total")]
    ['input', 'read', 'written', 'reasoned', None]
    """
    if "input" in name:
        if "creat" in name or "write" in name:
            return "written"
        return "read" if "cache" in name else "input"
    if "output" in name:
        return "reasoned" if "reasoning" in name else "output"
    return None


def _sum(sums: dict[str, int], *kinds: str) -> int | None:
    known = [sums[kind] for kind in kinds if kind in sums]
    return sum(known) if known else None


SOURCE: Final = Source(
    "langfuse",
    _read,
    envelopes=("data",),
    columns=(
        *(
            "id",
            "trace_id",
            "type",
            "start_time",
            "end_time",
            "completion_start_time",
            "provided_model_name",
            "usage_details",
        ),
        *("level", "total_cost"),
    ),
    content=frozenset(
        {"input", "output", "metadata", "statusMessage", "status_message", "toolCalls", "tool_calls", "comments"}
    ),
)
