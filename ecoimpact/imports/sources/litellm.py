"""LiteLLM's spend logs: rows of the table ``LiteLLM_SpendLogs`` and what ``/spend/logs`` answers.

Fields: LiteLLM 1.106, ``litellm/proxy/schema.prisma`` (``LiteLLM_SpendLogs``), ``proxy/_types.py``
(``SpendLogsPayload``, ``SpendLogsMetadata``) and ``proxy/spend_tracking/spend_tracking_utils.py``, which fills them.
``prompt_tokens`` include what was read from and written to the cache. Zeros in all three counts stand for a usage that
was not sent. An answer from LiteLLM's own cache reached no provider. A batch stands in one row, with the number of its
requests in ``metadata``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from ecoimpact.imports.facts import (
    Facts,
    Reject,
    Row,
    Source,
    cost,
    count,
    duration,
    error_name,
    moment,
    needed,
    part,
    text,
    whole,
)
from ecoimpact.instrumentation.provider import Request
from ecoimpact.providers.litellm import CHAT, Served, locate
from ecoimpact.types import Usage

_ENDPOINTS: Final = {
    "": "request",
    "anthropic_messages": "messages",
    "completion": "chat.completions",
    "embedding": "embeddings",
    "generate_content": "generate_content",
    "pass_through_endpoint": "pass_through",
    "create_interaction": "interactions",
    "responses": "responses",
    "_aresponses_websocket": "responses",
    "retrieve_batch": "batch",
    "text_completion": "completions",
}
"""Calls that reach a model with text, without the ``a`` of their asynchronous forms; all others are none."""


def _endpoint(call_type: str) -> str | None:
    known = _ENDPOINTS.get(call_type)
    return known if known is not None else _ENDPOINTS.get(call_type.removeprefix("a"))


def _read(row: Row) -> Facts | None:
    if "call_type" not in row:
        raise Reject("not-recognised", "call_type")
    endpoint = _endpoint(text(row, "call_type") or "")
    if endpoint is None or str(row.get("cache_hit")).lower() == "true":
        return None
    started_at = needed(moment(row, "startTime"), "startTime")
    first_token_at = moment(row, "completionStartTime")
    ended_at = moment(row, "endTime")
    latency_s, codes = duration(started_at, ended_at)
    first_token_s = None if first_token_at in (None, ended_at) else duration(started_at, first_token_at)[0]
    provider, host = _served(row)
    metadata = part(row, "metadata")
    usage = _usage(row, metadata, generates=endpoint != "embeddings")
    requests = 1
    if endpoint == "batch":
        if usage.output_tokens is None:  # it was only asked how far it is
            return None
        usage, latency_s = replace(usage, service_tier="batch"), None
        requests = count(metadata, "batch_successful_requests") or 1
        codes = ("usage-averaged",) if requests > 1 else ("requests-unknown",)
    return Facts(
        key=text(row, "request_id"),
        started_at=started_at,
        endpoint=endpoint,
        provider=provider,
        host=host,
        request_model=text(row, "model_group", "model"),
        response_model=text(row, "model"),
        usage=usage,
        latency_s=latency_s,
        time_to_first_token_s=first_token_s,
        stream=first_token_s is not None,
        status="error" if text(row, "status") == "failure" else "ok",
        error_type=error_name(part(metadata, "error_information").get("error_class")),
        stated_cost_usd=cost(row, "spend") if requests == 1 else None,
        requests=requests,
        until=ended_at if requests > 1 else None,
        codes=codes,
    )


def _served(row: Row) -> tuple[str, str | None]:
    """As for a request that was watched: LiteLLM's names of providers, and the host where it is one's own."""
    served = Served()
    served.name, served.url = text(row, "custom_llm_provider"), text(row, "api_base")
    return locate(Request(CHAT, text(row, "model"), False, object, served))


def _usage(row: Row, metadata: Row, *, generates: bool) -> Usage:
    counts = [count(row, name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
    if not any(counts):
        return Usage(output_tokens=None if generates else 0, generates=generates)
    more = part(metadata, "additional_usage_values") or part(metadata, "usage_object")
    details, generated = part(more, "prompt_tokens_details"), part(more, "completion_tokens_details")
    read = _first(count(more, "cache_read_input_tokens"), count(details, "cached_tokens"))
    written = _first(count(more, "cache_creation_input_tokens"), count(details, "cache_creation_tokens"))
    return Usage(
        input_tokens=whole(counts[0], read, written),
        output_tokens=counts[1] if generates else 0,
        cached_input_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=count(generated, "reasoning_tokens"),
        generates=generates,
    )


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


SOURCE: Final = Source(
    "litellm",
    _read,
    envelopes=("data",),
    columns=(
        *("request_id", "call_type", "cache_hit", "startTime", "endTime", "completionStartTime", "custom_llm_provider"),
        *(
            "api_base",
            "model",
            "model_group",
            "metadata",
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
            "status",
            "spend",
        ),
    ),
    content=frozenset({"messages", "response", "proxy_server_request", "api_key", "requester_ip_address"}),
)
