"""Anthropic's usage: pages of the Admin API's usage report for messages, and the CSV of the console's usage page.

Fields: Anthropic API reference, "Get Messages Usage Report", ``/v1/organizations/usage_report/messages``: buckets of
``starting_at`` to ``ending_at`` with ``results``; the console's export (``usage_date_utc``, ``model_version``,
``usage_input_tokens_no_cache``, ...) is named by Anthropic's help pages without its columns, which are as people who
use it show them. The counts of input leave out the cache, whose parts stand beside them. Nobody says how many requests
there were: a row becomes one record, or as many as keep each below what one request can have. Rows without a model and
buckets that are not over are turned away: a later export would count them again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ecoimpact.engine import MAX_TOKENS
from ecoimpact.imports.facts import Facts, Reject, Row, Source, count, first, moment, needed, part, text
from ecoimpact.instrumentation.provider import tier
from ecoimpact.types import Usage

_DAY_S: Final = 86_400.0
_GROUPS: Final = (
    *("model", "model_version", "api_key_id", "api_key", "workspace_id", "workspace", "account_id", "service_account_id"),
    *("service_tier", "usage_type", "context_window", "inference_geo", "speed"),
)


def _expand(value: Any) -> Iterable[Any]:
    """The results of a bucket, each with its times."""
    results = value.get("results") if isinstance(value, Mapping) else None
    if not isinstance(results, list):
        yield value
        return
    times = {name: value.get(name) for name in ("starting_at", "ending_at")}
    for result in results:
        yield {**times, **result} if isinstance(result, Mapping) else result


def _read(row: Row) -> Facts | None:
    start = needed(moment(row, "starting_at", "usage_date_utc"), "starting_at")
    end = moment(row, "ending_at") or start + _DAY_S  # the console counts by day
    if end <= start:
        raise Reject("time-invalid", "ending_at")
    if end > time.time():
        raise Reject("bucket-not-over", "ending_at")
    usage = _usage(row)
    if not (usage.input_tokens or usage.output_tokens):
        return None
    model = text(row, "model", "model_version")
    if model is None:
        raise Reject("missing", "model")
    most = max(usage.input_tokens or 0, usage.output_tokens or 0)
    return Facts(
        key="/".join([f"{start:.0f}", f"{end:.0f}", *(str(first(row, name)) for name in _GROUPS)]),
        started_at=start,
        until=end,
        endpoint="messages",
        provider="anthropic",
        host="api.anthropic.com",
        request_model=model,
        usage=usage,
        requests=max(1, -(-int(most) // MAX_TOKENS)),
        codes=("requests-unknown",),
    )


def _usage(row: Row) -> Usage:
    written = part(row, "cache_creation")
    writes = [
        count(written, "ephemeral_5m_input_tokens"),
        count(written, "ephemeral_1h_input_tokens"),
        count(row, "usage_input_tokens_cache_write_5m"),
        count(row, "usage_input_tokens_cache_write_1h"),
    ]
    write = sum(known for known in writes if known is not None) if any(known is not None for known in writes) else None
    read = count(row, "cache_read_input_tokens", "usage_input_tokens_cache_read")
    plain = count(row, "uncached_input_tokens", "usage_input_tokens_no_cache")
    return Usage(
        input_tokens=None if plain is None else plain + (read or 0) + (write or 0),
        output_tokens=count(row, "output_tokens", "usage_output_tokens"),
        cached_input_tokens=read,
        cache_write_tokens=write,
        service_tier=tier(first(row, "service_tier", "usage_type")),
        region=text(row, "inference_geo"),
    )


SOURCE: Final = Source("anthropic", _read, envelopes=("data",), expand=_expand)
