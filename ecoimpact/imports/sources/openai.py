"""OpenAI's usage: pages of the Usage API for completions and embeddings, and the files of the dashboard's export.

Fields: OpenAI API reference, "Usage", ``GET /v1/organization/usage/completions`` and ``/embeddings``: buckets of
``start_time`` to ``end_time`` with ``results``. The dashboard's CSV has the same fields, with the times of the bucket
in each row; OpenAI's help pages name the export and not its columns, which are as people who use it show them.
``input_tokens`` include what was cached. A result counts ``num_model_requests``: that many records, alike but for the
rest of the division, spread over the bucket. Results without a model (no ``group_by=model``) and buckets that are not
over are turned away: a later export would count them again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ecoimpact.imports.facts import Facts, Reject, Row, Source, count, first, in_time, needed, number, text, whole
from ecoimpact.instrumentation.provider import present, tier
from ecoimpact.types import Usage

_OBJECTS: Final = {
    "": "completions",
    "organization.usage.completions.result": "completions",
    "organization.usage.embeddings.result": "embeddings",
}
_GROUPS: Final = ("model", "project_id", "user_id", "api_key_id", "batch", "service_tier", "api_source")


def _expand(value: Any) -> Iterable[Any]:
    """The results of a bucket, each with its times."""
    results = value.get("results", value.get("result")) if isinstance(value, Mapping) else None
    if not isinstance(results, list):
        yield value
        return
    times = {name: value.get(name) for name in ("start_time", "end_time")}
    for result in results:
        yield {**times, **result} if isinstance(result, Mapping) else result


def _read(row: Row) -> Facts | None:
    if "object" not in row and "output_tokens" not in row and "start_time" not in row:
        raise Reject("not-recognised", "start_time")
    endpoint = _OBJECTS.get(text(row, "object") or "")
    requests = count(row, "num_model_requests")
    if endpoint is None or not requests:  # another kind of usage, or a bucket in which nothing happened
        return None
    if "object" not in row and "output_tokens" not in row:  # the dashboard's files of other kinds count requests as well
        raise Reject("not-recognised", "output_tokens")
    start, end = (in_time(needed(number(row, name), name), name) for name in ("start_time", "end_time"))
    if end <= start:
        raise Reject("time-invalid", "end_time")
    if end > time.time():
        raise Reject("bucket-not-over", "end_time")
    model = text(row, "model")
    if model is None:
        raise Reject("missing", "model")
    is_batch = str(row.get("batch")).lower() == "true"
    return Facts(
        key="/".join([endpoint, f"{start:.0f}", f"{end:.0f}", *(str(first(row, name)).lower() for name in _GROUPS)]),
        started_at=start,
        until=end,
        endpoint=endpoint,
        provider="openai",
        host="api.openai.com",
        request_model=model,
        usage=_usage(row, "batch" if is_batch else tier(row.get("service_tier")), generates=endpoint == "completions"),
        requests=requests,
        codes=("usage-averaged",) if requests > 1 else (),
    )


def _usage(row: Row, service_tier: str | None, *, generates: bool) -> Usage:
    cached, written = count(row, "input_cached_tokens"), count(row, "input_cache_write_tokens")
    return Usage(
        input_tokens=whole(count(row, "input_tokens"), cached, written),
        output_tokens=count(row, "output_tokens") if generates else 0,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        service_tier=service_tier,
        priced_apart=present(
            input_audio_tokens=count(row, "input_audio_tokens"), output_audio_tokens=count(row, "output_audio_tokens")
        ),
        generates=generates,
    )


SOURCE: Final = Source("openai", _read, envelopes=("data",), expand=_expand)
