"""Helicone: requests as its export tool writes them (JSON Lines, JSON, CSV), and what its query API answers.

Fields: Helicone, ``examples/export/typescript`` (the tool ``@helicone/export`` and its CSV columns),
``HeliconeRequest`` in ``packages/llm-mapper/types.ts`` and the query behind it,
``valhalla/jawn/src/lib/stores/request/request.ts``; counts: ``packages/cost/usage``, where ``prompt_tokens`` leave out
what was read from or written to the cache, and thinking is no part of ``completion_tokens``: where an export does not
give it, it is missing here too. What Helicone answered from its own cache reached no provider. ``delay_ms`` is in
milliseconds, ``time_to_first_token`` too. ``cost`` is in USD.
"""

from __future__ import annotations

from typing import Final

from ecoimpact.imports.facts import Facts, Row, Source, cost, count, duration, moment, needed, number, text
from ecoimpact.imports.places import HELICONE_PROVIDERS, served_by
from ecoimpact.types import Usage

_NO_CACHE: Final = "00000000-0000-0000-0000-000000000000"
_ENDPOINTS: Final = (
    ("/chat/completions", "chat.completions"),
    ("/embeddings", "embeddings"),
    ("/responses", "responses"),
    ("/messages", "messages"),
    ("/completions", "completions"),
    ("generateContent", "generate_content"),
)


def _read(row: Row) -> Facts | None:
    if row.get("cache_reference_id") not in (None, "", _NO_CACHE):
        return None
    started_at = needed(moment(row, "request_created_at"), "request_created_at")
    latency_s, codes = _latency(row, started_at)
    first_token_ms = number(row, "time_to_first_token")
    model = text(row, "model", "response_model", "request_model")
    provider, host = served_by(_host(row), text(row, "provider"), HELICONE_PROVIDERS, model=model)
    endpoint = _endpoint(row)
    status = number(row, "response_status")
    return Facts(
        key=text(row, "response_id", "request_id"),
        started_at=started_at,
        endpoint=endpoint,
        provider=provider,
        host=host,
        request_model=text(row, "request_model", "model"),
        response_model=text(row, "response_model"),
        usage=_usage(row, generates=endpoint != "embeddings"),
        latency_s=latency_s,
        time_to_first_token_s=first_token_ms / 1000 if first_token_ms and first_token_ms > 0 else None,
        stream=bool(first_token_ms and first_token_ms > 0),
        status="ok" if status is None or 200 <= status < 300 else "error",
        stated_cost_usd=cost(row, "cost", "costUSD"),
        codes=codes,
    )


def _latency(row: Row, started_at: float) -> tuple[float | None, tuple[str, ...]]:
    delay_ms = number(row, "delay_ms")
    if delay_ms is not None:
        return duration(0.0, delay_ms / 1000)
    return duration(started_at, moment(row, "response_created_at"))


def _address(row: Row) -> str:
    """Where the request went. It may have a query with keys in it, and be of any length: it is only looked at."""
    return next((value for name in ("target_url", "request_path") if isinstance(value := row.get(name), str) and value), "")


def _host(row: Row) -> str | None:
    address = _address(row).partition("?")[0]
    return address if "://" in address else None


def _endpoint(row: Row) -> str:
    path = _address(row).partition("?")[0]
    return next((endpoint for end, endpoint in _ENDPOINTS if end in path), "request")


def _usage(row: Row, *, generates: bool) -> Usage:
    read, written = count(row, "prompt_cache_read_tokens"), count(row, "prompt_cache_write_tokens")
    prompt, output, thought = (count(row, name) for name in ("prompt_tokens", "completion_tokens", "reasoning_tokens"))
    if not generates:
        output = 0
    return Usage(
        input_tokens=None if prompt is None else prompt + (read or 0) + (written or 0),
        output_tokens=output if output is None else output + (thought or 0),
        cached_input_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=thought,
        generates=generates,
    )


SOURCE: Final = Source(
    "helicone",
    _read,
    envelopes=("data",),
    columns=(
        *("request_id", "response_id", "request_created_at", "response_created_at", "delay_ms", "time_to_first_token"),
        *("model", "request_model", "response_model", "provider", "target_url", "request_path", "response_status", "cost"),
        *(
            "prompt_tokens",
            "completion_tokens",
            "prompt_cache_read_tokens",
            "prompt_cache_write_tokens",
            "cache_reference_id",
        ),
    ),
    content=frozenset(
        {"request_body", "response_body", "signed_body_url", "llmSchema", "assets", "asset_urls", "key_name"}
    ),
)
