"""OpenTelemetry spans of generative AI: OTLP/JSON as the collector's file exporter writes it, and spans one by one.

Forms: OpenTelemetry specification, "OpenTelemetry Protocol File Exporter" (a ``TracesData`` object a line); the Python
SDK's ``ReadableSpan.to_json``; spans with ``attributes`` as an object. Attributes: OpenTelemetry, semantic conventions
for generative AI client spans, those of today (``gen_ai.provider.name``, ``gen_ai.usage.input_tokens``) and those
before (``gen_ai.system``, ``gen_ai.usage.prompt_tokens``; ``llm.request.type`` of OpenLLMetry). Input tokens include
those of the cache. Agents, tools, workflows and retrievals are no requests, nor is what a server, producer or consumer
recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ecoimpact.imports.facts import (
    Facts,
    Reject,
    Row,
    Source,
    count,
    duration,
    error_name,
    first,
    in_time,
    is_empty,
    moment,
    needed,
    number,
    text,
    whole,
)
from ecoimpact.imports.places import OTEL_PROVIDERS, served_by
from ecoimpact.instrumentation.provider import tier
from ecoimpact.types import Usage

_ENDPOINTS: Final = {
    "chat": "chat.completions",
    "completion": "completions",
    "embedding": "embeddings",
    "embeddings": "embeddings",
    "generate_content": "generate_content",
    "text_completion": "completions",
}
"""By ``gen_ai.operation.name``, or ``llm.request.type`` before; other operations are no requests to a model."""
_KINDS: Final = frozenset({"", "0", "1", "3", "UNSPECIFIED", "INTERNAL", "CLIENT"})


def _expand(value: Any) -> Iterable[Any]:
    """The spans in what one line holds, each with the attributes of its resource."""
    if not isinstance(value, Mapping) or not ("scopeSpans" in value or "instrumentationLibrarySpans" in value):
        yield value
        return
    resource = value.get("resource")
    about = _attributes(resource.get("attributes")) if isinstance(resource, Mapping) else {}
    scopes = value.get("scopeSpans", value.get("instrumentationLibrarySpans"))
    for scope in scopes if isinstance(scopes, list) else [scopes]:
        spans = scope.get("spans", []) if isinstance(scope, Mapping) else [scope]
        for span in spans if isinstance(spans, list) else [spans]:
            yield {**span, "resource": {"attributes": about}} if isinstance(span, Mapping) else span


def _attributes(found: Any) -> dict[str, Any]:
    """Attributes by name, of an object or of OTLP's list of keys and typed values."""
    if isinstance(found, Mapping):
        return {str(key): value for key, value in found.items()}
    plain = {}
    for item in found if isinstance(found, list) else ():
        if isinstance(item, Mapping) and isinstance(item.get("key"), str):
            plain[item["key"]] = _plain(item.get("value"))
    return plain


def _plain(value: Any) -> Any:
    """The value in OTLP's wrapping; of lists and objects nothing is needed."""
    if not isinstance(value, Mapping):
        return value
    return next((value[kind] for kind in ("stringValue", "intValue", "doubleValue", "boolValue") if kind in value), None)


def _read(row: Row) -> Facts | None:
    about = _attributes(row.get("attributes"))
    if not about and not row.keys() & {"spanId", "span_id", "context"}:
        raise Reject("not-recognised", "spanId")
    endpoint = _operation(row, about)
    if endpoint is None:
        return None
    started_at = needed(_moment(row, "startTimeUnixNano", "start_time"), "start time")
    latency_s, codes = duration(started_at, _moment(row, "endTimeUnixNano", "end_time"))
    request_model = text(about, "gen_ai.request.model")
    provider, host = served_by(
        text(about, "server.address"),
        text(about, "gen_ai.provider.name", "gen_ai.system"),
        OTEL_PROVIDERS,
        model=request_model,
        port=count(about, "server.port"),
    )
    error = error_name(about.get("error.type"))
    first_chunk_s = number(about, "gen_ai.response.time_to_first_chunk")
    return Facts(
        key=_key(row),
        started_at=started_at,
        endpoint="messages" if provider == "anthropic" and endpoint == "chat.completions" else endpoint,
        provider=provider,
        host=host,
        request_model=request_model,
        response_model=text(about, "gen_ai.response.model"),
        usage=_usage(about, generates=endpoint != "embeddings"),
        latency_s=latency_s,
        time_to_first_token_s=first_chunk_s,
        stream=about.get("gen_ai.request.stream") is True or first_chunk_s is not None,
        status="error" if error or _failed(row.get("status")) else "ok",
        error_type=error,
        codes=codes,
    )


def _operation(row: Row, about: Row) -> str | None:
    operation = first(about, "gen_ai.operation.name", "llm.request.type")
    kind = str(row.get("kind") or "").upper().removeprefix("SPANKIND.").removeprefix("SPAN_KIND_")
    if kind not in _KINDS:
        return None
    if operation is None:  # the first conventions had no name for it
        has_model = not is_empty(about.get("gen_ai.request.model")) or not is_empty(about.get("gen_ai.response.model"))
        counted = any(name.startswith("gen_ai.usage.") for name in about)
        return "chat.completions" if has_model and counted else None
    return _ENDPOINTS.get(operation) if isinstance(operation, str) else None


def _moment(row: Row, nanoseconds: str, written: str) -> float | None:
    nanos = number(row, nanoseconds)
    return in_time(nanos / 1e9, nanoseconds) if nanos is not None else moment(row, written)


def _key(row: Row) -> str | None:
    context = row.get("context")
    ids = context if isinstance(context, Mapping) else row
    trace, span = (text(ids, name, other) for name, other in (("traceId", "trace_id"), ("spanId", "span_id")))
    return f"{_hexadecimal(trace)}/{_hexadecimal(span)}" if trace and span else None


def _hexadecimal(text: str) -> str:
    return text.lower().removeprefix("0x")


def _failed(status: Any) -> bool:
    code = status.get("code", status.get("status_code")) if isinstance(status, Mapping) else status
    return code == 2 or str(code).upper().endswith("ERROR")


def _usage(about: Row, *, generates: bool) -> Usage:
    read = count(about, "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens")
    written = count(
        about,
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
    )
    tokens_in = count(about, "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
    return Usage(
        input_tokens=whole(tokens_in, read, written),
        output_tokens=count(about, "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens") if generates else 0,
        cached_input_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=count(about, "gen_ai.usage.reasoning.output_tokens"),
        service_tier=tier(first(about, "openai.response.service_tier", "gen_ai.openai.response.service_tier")),
        generates=generates,
    )


SOURCE: Final = Source(
    "otel",
    _read,
    envelopes=("resourceSpans",),
    expand=_expand,
    content=frozenset(
        {
            "gen_ai.input.messages",
            "gen_ai.output.messages",
            "gen_ai.system_instructions",
            "gen_ai.prompt",
            "gen_ai.completion",
            "gen_ai.tool.call.arguments",
            "gen_ai.tool.call.result",
            "events",
        }
    ),
)
