"""What others logged becomes records: each documented form, exact tokens and figures, and every row accounted for.

The rows here are made by hand in the forms that the sources' documents show; LiteLLM's is what its own
``get_logging_payload`` writes (1.106), OpenTelemetry's come out of its SDK.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import signal
import subprocess
import sys
import textwrap
import tracemalloc
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from ecologits.tracers.utils import llm_impacts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from ecoimpact import engine, imports
from ecoimpact.cli.app import app
from ecoimpact.cost import cost_usd
from ecoimpact.imports import all_sources, rows
from ecoimpact.imports.facts import Reject, Source
from ecoimpact.imports.ledger import FILE_NAME, LOCK_NAME, Ledger
from ecoimpact.imports.making import MAX_REQUESTS, SOURCE_LABEL, Maker, share_of
from ecoimpact.imports.mapping import source_of
from ecoimpact.imports.rejects import Rejects
from ecoimpact.imports.rows import Opened
from ecoimpact.imports.run import Imported, import_files
from ecoimpact.records.index import Index
from ecoimpact.records.lock import FileLock
from ecoimpact.records.queries import total
from ecoimpact.records.reader import read_records
from ecoimpact.records.segments import to_json
from ecoimpact.types import Usage

SECRET = "the-secret-recipe"

LITELLM: dict[str, Any] = {
    "request_id": "chatcmpl-1",
    "call_type": "acompletion",
    "api_key": f"sha-{SECRET}",
    "cache_hit": "False",
    "startTime": "2026-09-01 12:00:00+00:00",
    "endTime": "2026-09-01 12:00:02+00:00",
    "completionStartTime": "2026-09-01 12:00:00.500000+00:00",
    "model": "gpt-4o-mini",
    "user": "",
    "metadata": json.dumps(
        {
            "user_api_key_team_alias": "search",
            "additional_usage_values": {
                "completion_tokens_details": {"reasoning_tokens": 16},
                "prompt_tokens_details": {"audio_tokens": None, "cached_tokens": 60, "text_tokens": None},
                "cache_read_input_tokens": 60,
            },
            "error_information": None,
        }
    ),
    "cache_key": "Cache OFF",
    "spend": 0.001,
    "total_tokens": 140,
    "prompt_tokens": 100,
    "completion_tokens": 40,
    "request_tags": '["b", "a"]',
    "end_user": SECRET,
    "api_base": "https://api.openai.com",
    "model_group": "cheap",
    "custom_llm_provider": "openai",
    "messages": json.dumps([{"role": "user", "content": SECRET}]),
    "response": json.dumps({"content": SECRET}),
    "status": "success",
}

LANGFUSE_UI: dict[str, Any] = {
    "id": "0a1b2c3d4e5f6071",
    "traceId": "f0e1d2c3b4a5968778695a4b3c2d1e0f",
    "type": "GENERATION",
    "startTime": "2026-09-01T12:00:00.000Z",
    "endTime": "2026-09-01T12:00:04.000Z",
    "completionStartTime": "2026-09-01T12:00:01.000Z",
    "level": "DEFAULT",
    "model": "claude-sonnet-4-5",
    "input": [{"role": "user", "content": SECRET}],
    "output": SECRET,
    "usageDetails": {"input": 10, "cache_read_input_tokens": 200, "output": 50, "output_reasoning_tokens": 7, "total": 267},
    "totalCost": 0.01,
    "latency": 4000,
}
LANGFUSE_BLOB: dict[str, Any] = {
    "id": LANGFUSE_UI["id"],
    "trace_id": LANGFUSE_UI["traceId"],
    "type": "GENERATION",
    "start_time": "2026-09-01 12:00:00.000000",
    "end_time": "2026-09-01 12:00:04.000000",
    "completion_start_time": "2026-09-01 12:00:01.000000",
    "level": "DEFAULT",
    "provided_model_name": "claude-sonnet-4-5",
    "input": SECRET,
    "output": SECRET,
    "usage_details": LANGFUSE_UI["usageDetails"],
    "total_cost": 0.01,
}

HELICONE: dict[str, Any] = {
    "response_id": "7f3c0f5e-1111-4222-8333-444455556666",
    "response_created_at": "2026-09-01T12:00:03.000Z",
    "response_status": 200,
    "request_id": "0b9d6d0a-1111-4222-8333-444455556666",
    "request_created_at": "2026-09-01T12:00:00.000Z",
    "request_body": {"messages": [SECRET]},
    "response_body": {"choices": [SECRET]},
    "request_path": "https://api.anthropic.com/v1/messages",
    "target_url": f"https://api.anthropic.com/v1/messages?key={SECRET}",
    "request_properties": {"app": "shop"},
    "provider": "ANTHROPIC",
    "delay_ms": 2500,
    "time_to_first_token": 400,
    "request_model": "claude-haiku-4-5",
    "response_model": "claude-haiku-4-5-20251001",
    "prompt_tokens": 12,
    "prompt_cache_read_tokens": 100,
    "prompt_cache_write_tokens": 30,
    "completion_tokens": 25,
    "cost": 0.002,
    "cache_reference_id": "00000000-0000-0000-0000-000000000000",
}

OTLP: dict[str, Any] = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
            "scopeSpans": [
                {
                    "scope": {},
                    "spans": [
                        {
                            "traceId": "5B8EFFF798038103D269B633813FC60C",
                            "spanId": "EEE19B7EC3C1B174",
                            "name": "chat llama",
                            "kind": 3,
                            "startTimeUnixNano": "1788264000000000000",
                            "endTimeUnixNano": "1788264001500000000",
                            "attributes": [
                                {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
                                {"key": "gen_ai.provider.name", "value": {"stringValue": "openai"}},
                                {"key": "server.address", "value": {"stringValue": "api.groq.com"}},
                                {"key": "gen_ai.request.model", "value": {"stringValue": "llama-3.3-70b-versatile"}},
                                {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "300"}},
                                {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "80"}},
                                {"key": "gen_ai.usage.cache_read.input_tokens", "value": {"intValue": "50"}},
                                {"key": "gen_ai.input.messages", "value": {"stringValue": SECRET}},
                            ],
                            "status": {"code": 2},
                        },
                        {
                            "traceId": "5b8efff798038103d269b633813fc60c",
                            "spanId": "00000000000000aa",
                            "name": "invoke_agent helper",
                            "kind": 1,
                            "startTimeUnixNano": "1788264000000000000",
                            "endTimeUnixNano": "1788264009000000000",
                            "attributes": [
                                {"key": "gen_ai.operation.name", "value": {"stringValue": "invoke_agent"}},
                                {"key": "gen_ai.request.model", "value": {"stringValue": "llama-3.3-70b-versatile"}},
                                {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "80"}},
                            ],
                        },
                    ],
                }
            ],
        }
    ]
}

OPENAI_RESULT: dict[str, Any] = {
    "object": "organization.usage.completions.result",
    "input_tokens": 5003,
    "output_tokens": 1001,
    "input_cached_tokens": 4000,
    "num_model_requests": 5,
    "project_id": "proj_abc",
    "user_id": None,
    "api_key_id": None,
    "model": "gpt-4o-mini-2024-07-18",
    "batch": False,
}
OPENAI: dict[str, Any] = {
    "object": "page",
    "data": [
        {"object": "bucket", "start_time": 1788220800, "end_time": 1788307200, "results": [OPENAI_RESULT]},
        {"object": "bucket", "start_time": 1788307200, "end_time": 1788393600, "results": []},
    ],
    "has_more": False,
    "next_page": None,
}

ANTHROPIC: dict[str, Any] = {
    "data": [
        {
            "starting_at": "2026-09-01T00:00:00Z",
            "ending_at": "2026-09-02T00:00:00Z",
            "results": [
                {
                    "uncached_input_tokens": 1500,
                    "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 500},
                    "cache_read_input_tokens": 200,
                    "output_tokens": 500,
                    "server_tool_use": {"web_search_requests": 10},
                    "model": "claude-sonnet-4-20250514",
                    "service_tier": "batch",
                    "context_window": "0-200k",
                    "inference_geo": "us",
                    "workspace_id": "wrkspc_1",
                }
            ],
        }
    ],
    "has_more": False,
    "next_page": None,
}
CONSOLE = (
    "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,"
    "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
    "usage_output_tokens,web_search_count,inference_geo,speed\n"
    "2026-08-05,claude-sonnet-4-20250514,Key,Default,standard,≤ 200k,46981,15969,0,100,16932,0,global,\n"
)

ROWS: dict[str, Any] = {
    "litellm": LITELLM,
    "langfuse": LANGFUSE_UI,
    "helicone": HELICONE,
    "otel": OTLP,
    "openai": OPENAI,
    "anthropic": ANTHROPIC,
}
MAPPED = {"fields": {"time": "at", "model": "m", "output_tokens": "out", "id": "n", "provider": {"value": "groq"}}}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def bring(source: str | Source, file: Path, log: Path, **options: Any) -> Imported:
    found = all_sources()[source] if isinstance(source, str) else source
    keep = options.pop("keep_rows", False)
    form = options.pop("form", None)
    return import_files(found, [file], log, Maker(found, **options), Rejects(_aside(log), keep_rows=keep), format=form)


def _aside(log: Path) -> Path:
    (log / "rejected.jsonl").unlink(missing_ok=True)
    return log / "rejected.jsonl"


def written(path: Path, *values: Any) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def table_of(path: Path, *values: dict[str, Any]) -> Path:
    """CSV as exports write it: objects and lists in JSON, nothing for null."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(values[0]))
        writer.writeheader()
        for value in values:
            cells = {k: json.dumps(v) if isinstance(v, dict | list) else "" if v is None else v for k, v in value.items()}
            writer.writerow(cells)
    return path


def in_log(log: Path) -> list[dict[str, Any]]:
    return sorted(read_records(log), key=lambda record: (record["time"], record["id"]))


def accounted(imported: Imported) -> bool:
    return imported.rows == imported.imported + imported.present + imported.not_requests + imported.rejected.total()


def only(log: Path, **expected: Any) -> dict[str, Any]:
    (record,) = in_log(log)
    assert {name: record[name] for name in expected} == expected
    return record


# --- the sources --------------------------------------------------------------------------------------------------------


def test_litellm(tmp_path: Path, log: Path) -> None:
    cached = {**LITELLM, "request_id": "chatcmpl-1_cache_hit17", "cache_hit": "True"}
    picture = {**LITELLM, "request_id": "2", "call_type": "aimage_generation"}
    imported = bring("litellm", written(tmp_path / "logs.jsonl", LITELLM, cached, picture), log)
    assert (imported.rows, imported.imported, imported.not_requests) == (3, 1, 2)
    record = only(
        log,
        time="2026-09-01T12:00:00.000000Z",
        provider="openai",
        endpoint="chat.completions",
        request_model="cheap",
        response_model="gpt-4o-mini",
        model="gpt-4o-mini",
        input_tokens=100,
        cached_input_tokens=60,
        output_tokens=40,
        reasoning_tokens=16,
        latency_s=2.0,
        time_to_first_token_s=0.5,
        stream=True,
        status="ok",
        zone="USA",
        labels={SOURCE_LABEL: "litellm"},
    )
    usage = Usage(100, 40, cached_input_tokens=60, reasoning_tokens=16)
    at = datetime(2026, 9, 1, 12, tzinfo=UTC).timestamp()
    assert record["cost_usd"] == cost_usd("openai", ("gpt-4o-mini",), usage, started_at=at) != LITELLM["spend"]


def test_figures_are_those_of_the_methodology(tmp_path: Path, log: Path) -> None:
    bring("litellm", written(tmp_path / "logs.jsonl", LITELLM), log, methodology="ecologits-0.11", zone="FRA")
    (record,) = in_log(log)
    reference: Any = llm_impacts("openai", "gpt-4o-mini", 40, 2.0, "FRA")
    assert record["zone"] == "FRA"
    for field, figure in (("energy_kwh", reference.energy), ("gwp_kgco2eq", reference.gwp), ("pe_mj", reference.pe)):
        assert record[f"{field}_min"] == pytest.approx(figure.value.min, rel=1e-9)
        assert record[f"{field}_max"] == pytest.approx(figure.value.max, rel=1e-9)


def test_litellm_failures_and_what_nobody_counted(tmp_path: Path, log: Path) -> None:
    failed = {
        **LITELLM,
        "request_id": "3",
        "status": "failure",
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "metadata": {"error_information": {"error_class": "RateLimitError", "error_message": SECRET}},
    }
    imported = bring("litellm", written(tmp_path / "logs.jsonl", failed), log)
    only(log, status="error", error_type="RateLimitError", input_tokens=None, output_tokens=None, energy_kwh_min=None)
    assert imported.errors == {"output-tokens-unknown": 1}


def test_litellm_batches(tmp_path: Path, log: Path) -> None:
    polled = {**LITELLM, "call_type": "aretrieve_batch", "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    done = {**LITELLM, "request_id": "b", "call_type": "aretrieve_batch", "prompt_tokens": 7, "completion_tokens": 5}
    done["metadata"] = {"batch_successful_requests": 2}
    imported = bring("litellm", written(tmp_path / "logs.jsonl", polled, done), log)
    assert (imported.not_requests, imported.records) == (1, 2)
    assert [(r["input_tokens"], r["output_tokens"], r["service_tier"]) for r in in_log(log)] == [
        (4, 3, "batch"),
        (3, 2, "batch"),
    ]


def test_litellm_goes_by_the_host_and_by_its_names_of_providers(tmp_path: Path, log: Path) -> None:
    named = {**LITELLM, "request_id": "a", "custom_llm_provider": "vertex_ai", "api_base": "", "model": "gemini-2.5-flash"}
    hosted = {
        **LITELLM,
        "request_id": "b",
        "api_base": "https://api.groq.com/openai/v1",
        "model": "llama-3.3-70b-versatile",
    }
    embedding = {**LITELLM, "request_id": "c", "call_type": "aembedding", "model": "text-embedding-3-small"}
    bring("litellm", written(tmp_path / "logs.jsonl", named, hosted, embedding), log)
    found = {record["response_model"]: record for record in in_log(log)}
    assert found["gemini-2.5-flash"]["provider"] == "vertex"
    assert found["llama-3.3-70b-versatile"]["provider"] == "groq"
    assert found["text-embedding-3-small"]["endpoint"] == "embeddings"
    assert found["text-embedding-3-small"]["output_tokens"] == 0


def test_langfuse_is_the_same_from_every_export(tmp_path: Path, log: Path) -> None:
    span = {**LANGFUSE_UI, "id": "ff", "type": "SPAN"}
    imported = bring("langfuse", written(tmp_path / "ui.jsonl", LANGFUSE_UI, span), log)
    assert (imported.imported, imported.not_requests) == (1, 1)
    record = only(
        log,
        provider="anthropic",
        endpoint="generation",
        request_model="claude-sonnet-4-5",
        input_tokens=210,
        cached_input_tokens=200,
        output_tokens=57,
        reasoning_tokens=7,
        latency_s=4.0,
        time_to_first_token_s=1.0,
    )
    assert "provider-from-model" in record["warnings"]
    pages = tmp_path / "page.json"
    pages.write_text(json.dumps({"data": [LANGFUSE_UI], "meta": {"cursor": None}}, indent=2))
    for file in (pages, written(tmp_path / "blob.jsonl", LANGFUSE_BLOB), table_of(tmp_path / "ui.csv", LANGFUSE_UI)):
        assert (bring("langfuse", file, log).present, len(in_log(log))) == (1, 1), file


def test_langfuse_parquet(tmp_path: Path, log: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: [value] for name, value in LANGFUSE_BLOB.items() if name != "usage_details"}
    usage = pa.array([list(LANGFUSE_BLOB["usage_details"].items())], type=pa.map_(pa.string(), pa.int64()))
    pq.write_table(pa.table({**columns, "usage_details": usage}), tmp_path / "blob.parquet")
    assert bring("langfuse", tmp_path / "blob.parquet", log).imported == 1
    only(log, input_tokens=210, output_tokens=57, cached_input_tokens=200, latency_s=4.0)
    (tmp_path / "torn.parquet").write_bytes((tmp_path / "blob.parquet").read_bytes()[:200])
    assert bring("langfuse", tmp_path / "torn.parquet", log).rejected == {"not-parquet": 1}


def test_langfuse_totals_that_hold_their_parts(tmp_path: Path, log: Path) -> None:
    row = {**LANGFUSE_UI, "usageDetails": {"input": 100, "output": 50, "input_cached_tokens": 40, "total": 150}}
    bring("langfuse", written(tmp_path / "ui.jsonl", row), log, provider="bedrock")
    only(log, input_tokens=100, output_tokens=50, cached_input_tokens=40, provider="bedrock")


def test_helicone(tmp_path: Path, log: Path) -> None:
    from_cache = {**HELICONE, "response_id": "x", "cache_reference_id": "0b9d6d0a-1111-4222-8333-444455556666"}
    failed = {**HELICONE, "response_id": None, "request_id": "y", "response_status": 429, "completion_tokens": None}
    failed["request_created_at"] = "2026-09-01T12:00:01.000Z"
    imported = bring("helicone", written(tmp_path / "requests.jsonl", HELICONE, from_cache, failed), log)
    assert (imported.imported, imported.not_requests) == (2, 1)
    first, second = in_log(log)
    expected = {
        "provider": "anthropic",
        "endpoint": "messages",
        "request_model": "claude-haiku-4-5",
        "response_model": "claude-haiku-4-5-20251001",
        "input_tokens": 142,
        "cached_input_tokens": 100,
        "cache_write_tokens": 30,
        "output_tokens": 25,
        "latency_s": 2.5,
        "time_to_first_token_s": 0.4,
        "stream": True,
    }
    assert {name: first[name] for name in expected} == expected
    assert (second["status"], second["output_tokens"]) == ("error", None)
    columns = ("response_id", "response_created_at", "response_status", "request_created_at", "request_body", "model")
    row = {**HELICONE, "model": "claude-haiku-4-5"}
    assert bring("helicone", table_of(tmp_path / "output.csv", {name: row[name] for name in columns}), log).present == 1


def test_otlp_lines(tmp_path: Path, log: Path) -> None:
    imported = bring(
        "otel", written(tmp_path / "spans.jsonl", OTLP), log, labels={"service": "resource.attributes.service.name"}
    )
    assert (imported.rows, imported.imported, imported.not_requests) == (2, 1, 1)
    only(
        log,
        time="2026-09-01T12:00:00.000000Z",
        provider="groq",
        endpoint="chat.completions",
        request_model="llama-3.3-70b-versatile",
        input_tokens=300,
        cached_input_tokens=50,
        output_tokens=80,
        latency_s=1.5,
        status="error",
        labels={SOURCE_LABEL: "otel", "service": "shop"},
    )


@pytest.mark.parametrize("indent", [None, 4])
def test_spans_of_the_sdk(tmp_path: Path, log: Path, indent: int | None) -> None:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.trace import SpanKind

    spans: list[ReadableSpan] = []

    class Kept(SpanExporter):
        def export(self, batch: Any) -> Any:
            spans.extend(batch)
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Kept()))
    tracer = provider.get_tracer("test")
    before = {"gen_ai.system": "anthropic", "gen_ai.request.model": "claude-haiku-4-5", "llm.request.type": "chat"}
    counts = {"gen_ai.usage.prompt_tokens": 11, "gen_ai.usage.completion_tokens": 22}
    with tracer.start_as_current_span("agent", attributes={"gen_ai.operation.name": "invoke_agent"}):
        with tracer.start_as_current_span("chat", kind=SpanKind.CLIENT, attributes={**before, **counts}):
            pass
        with tracer.start_as_current_span("tool", attributes={"gen_ai.operation.name": "execute_tool"}):
            pass
        with tracer.start_as_current_span("serve", kind=SpanKind.SERVER, attributes={**before, **counts}):
            pass
    provider.shutdown()
    file = tmp_path / "spans.txt"
    file.write_text("\n".join(span.to_json(indent=indent) for span in spans) + "\n")
    imported = bring("otel", file, log)
    assert (imported.rows, imported.imported, imported.not_requests) == (4, 1, 3)
    record = only(log, provider="anthropic", endpoint="messages", input_tokens=11, output_tokens=22, status="ok")
    (chat,) = [span for span in spans if span.name == "chat"]
    assert record["latency_s"] == pytest.approx(((chat.end_time or 0) - (chat.start_time or 0)) / 1e9, abs=2e-6)


def test_openai_shares_a_bucket_out(tmp_path: Path, log: Path) -> None:
    imported = bring("openai", written(tmp_path / "page.jsonl", OPENAI), log)
    assert (imported.rows, imported.imported, imported.records) == (1, 1, 5)
    records = in_log(log)
    assert [record["input_tokens"] for record in records] == [1001, 1001, 1001, 1000, 1000]
    assert [record["output_tokens"] for record in records] == [201, 200, 200, 200, 200]
    assert [record["cached_input_tokens"] for record in records] == [800] * 5
    assert [record["time"][11:19] for record in records] == ["02:24:00", "07:12:00", "12:00:00", "16:48:00", "21:36:00"]
    assert all(record["warnings"][-1] == "usage-averaged" and record["provider"] == "openai" for record in records)


def test_openai_dashboard_file_is_the_same_usage(tmp_path: Path, log: Path) -> None:
    bring("openai", written(tmp_path / "page.jsonl", OPENAI), log)
    row = {"start_time": 1788220800, "end_time": 1788307200, "start_time_iso": "2026-09-01T00:00:00+00:00", **OPENAI_RESULT}
    del row["object"]
    row |= {"num_model_requests": "5.0", "batch": "false"}
    empty = {name: value if name.startswith(("start", "end")) else None for name, value in row.items()}
    imported = bring("openai", table_of(tmp_path / "completions_usage.csv", row, empty), log)
    assert (imported.rows, imported.present, imported.not_requests) == (2, 1, 1)


def test_openai_what_is_turned_away(tmp_path: Path, log: Path) -> None:
    ungrouped = {**OPENAI_RESULT, "model": None}
    many = {**OPENAI_RESULT, "num_model_requests": MAX_REQUESTS + 1}
    pictures = {"object": "organization.usage.images.result", "num_model_requests": 3, "images": 3}
    texts = {
        "object": "organization.usage.embeddings.result",
        "input_tokens": 9,
        "num_model_requests": 1,
        "model": "text-embedding-3-small",
    }
    bucket = {**OPENAI["data"][0], "results": [ungrouped, many, pictures, texts]}
    open_bucket = {**bucket, "end_time": datetime.now(UTC).timestamp() + 3600, "results": [OPENAI_RESULT]}
    imported = bring("openai", written(tmp_path / "page.jsonl", {"data": [bucket, open_bucket]}), log)
    assert imported.rejected == {"missing": 1, "too-many-requests": 1, "bucket-not-over": 1}
    assert (imported.not_requests, imported.imported) == (1, 1)
    only(log, endpoint="embeddings", input_tokens=9, output_tokens=0, errors=["model-not-registered"])


def test_anthropic(tmp_path: Path, log: Path) -> None:
    bring("anthropic", written(tmp_path / "report.json", ANTHROPIC), log)
    record = only(
        log,
        time="2026-09-01T12:00:00.000000Z",
        provider="anthropic",
        endpoint="messages",
        input_tokens=3200,
        cached_input_tokens=200,
        cache_write_tokens=1500,
        output_tokens=500,
        service_tier="batch",
    )
    assert "requests-unknown" in record["warnings"]


def test_anthropic_console(tmp_path: Path, log: Path) -> None:
    (tmp_path / "usage.csv").write_text(CONSOLE, encoding="utf-8")
    bring("anthropic", tmp_path / "usage.csv", log)
    only(log, time="2026-08-05T12:00:00.000000Z", input_tokens=63050, cached_input_tokens=100, output_tokens=16932)


def test_more_tokens_than_one_request_can_have(tmp_path: Path, log: Path) -> None:
    report = json.loads(json.dumps(ANTHROPIC))
    report["data"][0]["results"][0]["output_tokens"] = 2 * engine.MAX_TOKENS + 1
    imported = bring("anthropic", written(tmp_path / "report.json", report), log)
    records = in_log(log)
    assert (imported.records, imported.unestimated) == (3, 0)
    assert sum(record["output_tokens"] for record in records) == 2 * engine.MAX_TOKENS + 1
    assert len({record["time"] for record in records}) == 3


@pytest.mark.parametrize(
    ("methodology", "ratio"),
    [("ecologits", 1), ("scope3", 1), ("sci", 1), ("ecologits-0.11", 0.95), ("measured-2026", 1.87)],
)
def test_what_a_sum_taken_as_one_request_does_to_figures(methodology: str, ratio: float) -> None:
    """As the documentation says."""

    def energy_kwh(requests: int) -> float:
        tokens: dict[str, Any] = {"input_tokens": 1000 * requests, "output_tokens": 100 * requests}
        impacts = engine.estimate("gpt-4o-mini", provider="openai", methodology=methodology, **tokens)
        assert impacts.energy is not None
        return float(impacts.energy.value)

    assert energy_kwh(10) / (10 * energy_kwh(1)) == pytest.approx(ratio, abs=1e-9 if ratio == 1 else 0.02)


counts = st.integers(0, 10**12)


@given(parts=st.tuples(counts, counts, counts, counts, counts), of=st.integers(1, 300))
def test_shares_sum_to_the_whole(parts: tuple[int, ...], of: int) -> None:
    plain, cached, wrote, said, thought = parts
    usage = Usage(plain + cached + wrote, said + thought, cached, thought, cache_write_tokens=wrote)
    shares = [share_of(usage, number, of) for number in range(of)]
    for name in ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens"):
        found = [getattr(share, name) for share in shares]
        assert sum(found) == getattr(usage, name)
        assert max(found) - min(found) <= 3
    for share in shares:
        assert (share.cached_input_tokens or 0) + (share.cache_write_tokens or 0) <= (share.input_tokens or 0)
        assert (share.reasoning_tokens or 0) <= (share.output_tokens or 0)


# --- a mapping ----------------------------------------------------------------------------------------------------------


def test_a_mapping_with_all_that_it_can_say(tmp_path: Path, log: Path) -> None:
    source = source_of(
        {
            "name": "gateway",
            "input_excludes_cache": True,
            "fields": {
                "id": "req",
                "time": {"column": "ts", "format": "unix_ms"},
                "model": "request.model",
                "address": "url",
                "endpoint": {"value": "chat.completions"},
                "input_tokens": {"column": "in_k", "scale": 1000},
                "cached_input_tokens": "hit",
                "output_tokens": "out",
                "latency_s": {"column": "ms", "scale": 0.001},
                "status": {"column": "state", "map": {"done": "ok", "broken": "error"}},
                "stream": "sse",
                "cost_usd": {"column": "cents", "scale": 0.01},
            },
        }
    )
    row = {
        "req": 17,
        "ts": 1788264000250,
        "request": {"model": "nobody-knows-1"},
        "url": "https://api.groq.com/v1",
        "in_k": "1.234",
        "hit": 66,
        "out": 20,
        "ms": 1500,
        "state": "broken",
        "sse": True,
        "cents": 3,
    }
    bring(source, written(tmp_path / "rows.jsonl", row), log)
    only(
        log,
        time="2026-09-01T12:00:00.250000Z",
        provider="groq",
        endpoint="chat.completions",
        request_model="nobody-knows-1",
        input_tokens=1300,
        cached_input_tokens=66,
        output_tokens=20,
        latency_s=1.5,
        status="error",
        stream=True,
        energy_kwh_min=None,
        errors=["model-not-registered"],
        cost_usd=0.03,
        price_version="stated by gateway",
        labels={SOURCE_LABEL: "gateway"},
    )


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"field": {}}, "Near: fields"),
        ({"fields": {"tiem": "a"}}, "Near: time"),
        ({"fields": {"time": "a"}}, "needs the field 'model'"),
        ({"fields": {"time": {"colunm": "a"}, "model": "m"}}, "Near: column"),
        ({"fields": {"time": {"column": "a", "value": 1}, "model": "m"}}, "either a column or a value"),
        ({"fields": {"time": "a", "model": {"column": "m", "scale": 2}}}, "scale is"),
        ({"fields": {"time": "a", "model": "m", "output_tokens": {"column": "o", "scale": 0}}}, "scale is"),
        ({"fields": {"time": "a", "model": {"column": "m", "format": "unix"}}}, "format is for"),
        ({"fields": {"time": "a", "model": "m"}, "name": ""}, "short text"),
    ],
)
def test_a_mapping_that_makes_no_sense(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        source_of(mapping)


def test_equal_rows_without_an_id_are_two(tmp_path: Path, log: Path) -> None:
    fields = {name: theirs for name, theirs in MAPPED["fields"].items() if name != "id"}
    row = {"at": "2026-01-01", "m": "llama-3.3-70b", "out": 5}
    file = written(tmp_path / "rows.jsonl", row, row)
    assert bring(source_of({"fields": fields}), file, log).imported == 2
    assert bring(source_of({"fields": fields}), file, log).present == 2
    written(file, row, row, row)
    again = bring(source_of({"fields": fields}), file, log)
    assert (again.present, again.imported, len(in_log(log))) == (2, 1, 3)


# --- once and only once -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROWS)
def test_the_same_file_twice_adds_nothing(name: str, tmp_path: Path, log: Path) -> None:
    file = written(tmp_path / "rows.jsonl", ROWS[name], ROWS[name])
    first = bring(name, file, log)
    assert (first.present, first.imported) == (1, 1)
    before = in_log(log)
    second = bring(name, file, log)
    assert (second.imported, second.records, second.present) == (0, 0, 2)
    assert in_log(log) == before
    with Index(log) as index:
        index.refresh()
        assert total(index).requests == len(before)


def test_only_one_import_at_a_time(tmp_path: Path, log: Path) -> None:
    file = written(tmp_path / "rows.jsonl", LITELLM)
    log.mkdir()
    lock = FileLock(log / LOCK_NAME)
    assert lock.acquire(0)
    with pytest.raises(TimeoutError, match="another import"):
        bring("litellm", file, log)
    lock.release()
    assert bring("litellm", file, log).imported == 1


CHILD = """
import os, signal, sys
from pathlib import Path
from ecoimpact.imports import all_sources, ledger, run
from ecoimpact.imports.making import Maker
from ecoimpact.imports.rejects import Rejects
from ecoimpact.records.segments import LogWriter

run.BATCH = 4
step, file, log = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
done = 0

def dying(function):
    def call(*args):
        global done
        for work in (lambda: None, lambda: function(*args)):
            result = work()
            if done == step:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
        return result
    return call

LogWriter.write_batch = dying(LogWriter.write_batch)
ledger.Ledger.add = dying(ledger.Ledger.add)
source = all_sources()["litellm"]
run.import_files(source, [file], log, Maker(source), Rejects(log / "rejected.jsonl"))
"""


@pytest.mark.parametrize("step", [0, 1, 3, 5, 6, 7, 9])
def test_a_killed_import_goes_on_without_loss_or_duplicates(step: int, tmp_path: Path, log: Path) -> None:
    file = written(tmp_path / "rows.jsonl", *({**LITELLM, "request_id": f"r{number}"} for number in range(14)))
    killed = subprocess.run([sys.executable, "-c", CHILD, str(step), str(file), str(log)], timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    there = len(in_log(log))
    imported = bring("litellm", file, log)
    assert (imported.present, imported.imported) == (there, 14 - there)
    ids = [record["id"] for record in in_log(log)]
    assert len(ids) == len(set(ids)) == 14
    assert bring("litellm", file, log).present == 14


def test_what_was_killed_long_ago_is_found_in_the_whole_log(tmp_path: Path, log: Path) -> None:
    file = written(tmp_path / "rows.jsonl", LITELLM)
    bring("litellm", file, log)
    with Ledger(log) as ledger:
        ledger._connection.execute("DELETE FROM imported")
    connection = ledger._connect(log / FILE_NAME)
    connection.execute("INSERT INTO run VALUES (1, 0.0)")  # a process of another number
    connection.close()
    assert bring("litellm", file, log).present == 1


def test_a_ledger_that_is_none(tmp_path: Path, log: Path) -> None:
    log.mkdir()
    (log / FILE_NAME).write_text("not a database, and longer than the head of one " * 20)
    with pytest.raises(ValueError, match="no ledger"):
        bring("litellm", written(tmp_path / "rows.jsonl", LITELLM), log)


def test_files_are_for_their_owner_only(tmp_path: Path, log: Path) -> None:
    bring("litellm", written(tmp_path / "rows.jsonl", LITELLM, {}), log)
    assert {path.name: path.stat().st_mode & 0o777 for path in log.iterdir() if path.is_file()} == {
        FILE_NAME: 0o600,
        LOCK_NAME: 0o600,
        "rejected.jsonl": 0o600,
    }


# --- files --------------------------------------------------------------------------------------------------------------


def read(file: Path, *envelopes: str) -> list[tuple[int, Any, str | None]]:
    with closing(Opened(file)) as opened:
        return [tuple(each) for each in opened.rows(envelopes)]


ITEMS = [{"a": 'é\n"x"', "n": 12}, {"a": [1, {"b": None}]}, {}]


@pytest.mark.parametrize("piece", [1, 3, 64, 2**18])
@pytest.mark.parametrize(
    "text",
    [
        "\n".join(json.dumps(item) for item in ITEMS),
        json.dumps(ITEMS),
        json.dumps(ITEMS, indent=1),
        json.dumps({"page": 12, "data": ITEMS, "meta": {"data": [1]}}),
        json.dumps({"page": 12, "data": ITEMS, "more": False}, indent=2),
        "\n".join(json.dumps(item, indent=2) for item in ITEMS),
        "\ufeff" + "\n\n".join(json.dumps(item) for item in ITEMS) + "\n\n",
        "  \n" + json.dumps(ITEMS[:2]) + json.dumps(ITEMS[2:]),
    ],
    ids=["lines", "array", "indented array", "page", "indented page", "indented objects", "lines with a mark", "arrays"],
)
def test_json_in_every_form(text: str, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_PIECE", piece)
    file = tmp_path / "rows"
    file.write_text(text, encoding="utf-8")
    assert [(row, problem) for _, row, problem in read(file, "data")] == [(item, None) for item in ITEMS]
    (tmp_path / "rows.gz").write_bytes(gzip.compress(text.encode()))
    assert read(tmp_path / "rows.gz", "data") == read(file, "data")


def test_a_broken_line_costs_itself_only(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"a": 1}\n{"a": \n\xff\xfe\n\n{"a": 2}\n[3]\n"x"\n{"a": 4')
    assert read(file) == [
        (1, {"a": 1}, None),
        (2, None, "not-json"),
        (3, None, "not-json"),
        (5, {"a": 2}, None),
        (6, 3, None),
        (7, "x", None),
        (8, None, "not-json"),
    ]


def test_a_broken_document_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('[{"a": 1}, {"a": 2}, {"a": tru}, {"a": 3}]')
    assert read(tmp_path / "rows.json") == [(1, {"a": 1}, None), (2, {"a": 2}, None), (3, None, "not-json")]


def test_rows_that_are_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_ROW_BYTES", 1000)
    monkeypatch.setattr(rows, "_PIECE", 100)
    items: list[dict[str, Any]] = [{"a": 1}, {"a": "x" * 5000}, {"a": 2}]
    assert read(written(tmp_path / "rows.jsonl", *items)) == [
        (1, {"a": 1}, None),
        (2, None, "row-too-long"),
        (3, {"a": 2}, None),
    ]
    (tmp_path / "rows.json").write_text(json.dumps(items))
    assert read(tmp_path / "rows.json") == [(1, {"a": 1}, None), (2, None, "row-too-long")]
    problems = [problem for _, _, problem in read(table_of(tmp_path / "rows.csv", *items))]
    assert problems.count("not-csv") == 1
    assert problems[0] is None
    assert csv.field_size_limit() == 131_072


def test_csv_with_text_over_lines_and_rows_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('a,b\n1,"two\nlines, and ""quotes"""\n\n2\n3,4,5\n6,7\n8', encoding="utf-8-sig")
    assert read(tmp_path / "rows.csv") == [
        (3, {"a": "1", "b": 'two\nlines, and "quotes"'}, None),
        (5, None, "columns-differ"),
        (6, None, "columns-differ"),
        (7, {"a": "6", "b": "7"}, None),
        (8, None, "columns-differ"),
    ]


def test_gzip_that_ends_too_early(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b'{"a": %d}\n' % number for number in range(50_000)))
    (tmp_path / "rows.gz").write_bytes(whole[: len(whole) // 2])
    found = read(tmp_path / "rows.gz")
    assert found[-1][1:] == (None, "compression-broken")
    assert [row["a"] for _, row, problem in found if problem is None] == list(range(len(found) - 1))


@pytest.mark.parametrize("form", ["jsonl", "json", "csv"])
def test_memory_does_not_grow_with_the_file(form: str, tmp_path: Path) -> None:
    peaks = []
    for number in (2_000, 40_000):
        items = [{"id": each, "text": "x" * 300} for each in range(number)]
        file = tmp_path / f"{number}.{form}"
        if form == "csv":
            table_of(file, *items)
        elif form == "json":
            file.write_text(json.dumps({"data": items}))
        else:
            written(file, *items)
        del items
        with closing(Opened(file, form)) as opened:
            tracemalloc.start()
            assert sum(1 for each in opened.rows(("data",)) if each.problem is None) == number
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2**20


def test_prompts_are_not_kept(tmp_path: Path, log: Path) -> None:
    file = written(
        tmp_path / "rows.jsonl", *({**LITELLM, "request_id": f"{n}", "messages": "x" * 10**6} for n in range(60))
    )
    bring("litellm", written(tmp_path / "first.jsonl", LITELLM), log)  # prices and tables are loaded
    tracemalloc.start()
    assert bring("litellm", file, log).imported == 60
    assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    tracemalloc.stop()


# --- what is turned away, and what is not told ---------------------------------------------------------------------------


def test_rejects_say_where_and_why_and_nothing_else(tmp_path: Path, log: Path) -> None:
    bad = {**LITELLM, "request_id": "4", "completion_tokens": SECRET}
    late = {**LITELLM, "request_id": "5", "startTime": SECRET}
    prompt = {**LITELLM, "request_id": "6", "model": SECRET * 30}
    other = {"text": SECRET}
    file = written(tmp_path / "rows.jsonl", bad, late, prompt, other, [SECRET])
    imported = bring("litellm", file, log)
    told = [json.loads(line) for line in (log / "rejected.jsonl").read_text().splitlines()]
    assert [(each["line"], each["reason"], each["field"]) for each in told] == [
        (1, "number-invalid", "completion_tokens"),
        (2, "time-invalid", "startTime"),
        (3, "text-too-long", "model"),
        (4, "not-recognised", "call_type"),
        (5, "not-an-object", None),
    ]
    assert imported.rejected == Counter(each["reason"] for each in told)
    assert SECRET not in (log / "rejected.jsonl").read_text()
    bring("litellm", file, log, keep_rows=True)
    kept = [json.loads(line)["row"] for line in (log / "rejected.jsonl").read_text().splitlines()]
    assert kept == [bad, late, prompt, other, SECRET]


@pytest.mark.parametrize("name", ROWS)
def test_nothing_that_was_said_is_written(name: str, tmp_path: Path, log: Path) -> None:
    marked = json.loads(json.dumps(ROWS[name]))
    bring(name, written(tmp_path / "rows.jsonl", marked), log)
    for path in log.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path


def test_no_label_is_made_of_what_was_said() -> None:
    for name, path in (
        ("litellm", "messages"),
        ("otel", "attributes.gen_ai.input.messages"),
        ("langfuse", "metadata.prompt"),
    ):
        with pytest.raises(ValueError, match="what was said"):
            Maker(all_sources()[name], labels={"text": path})


# --- hostile files -------------------------------------------------------------------------------------------------------

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["12", "-1", "1e400", "NaN", "2026-01-01", "2026-13-01", "9999-12-31T23:59:59-23:00", "{", "[1", "chat"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
EVERY_NAME = sorted(
    {
        *(name for row in ROWS.values() for name in row),
        *(
            name
            for row in (OPENAI["data"][0], OPENAI_RESULT, ANTHROPIC["data"][0]["results"][0], LANGFUSE_BLOB)
            for name in row
        ),
        *("usage", "attributes", "context", "kind", "scopeSpans", "spans", "results", "at", "m", "out", "n"),
        *(
            "startTimeUnixNano",
            "gen_ai.operation.name",
            "server.address",
            "server.port",
            "traceId",
            "spanId",
            "starting_at",
        ),
    }
)
OTEL_NAMES = [
    "gen_ai.operation.name",
    "gen_ai.request.model",
    "server.address",
    "server.port",
    "gen_ai.usage.output_tokens",
]


@st.composite
def odd_rows(draw: st.DrawFn) -> Any:
    """A documented row with odd values in it, or anything at all."""
    rows = [*ROWS.values(), OPENAI_RESULT, LANGFUSE_BLOB, {"at": "2026-01-01", "m": "gpt-4o", "out": 3}]
    rows += [OTLP["resourceSpans"][0]["scopeSpans"][0]["spans"][0], OPENAI["data"][0], ANTHROPIC["data"][0]]
    changes = draw(st.dictionaries(st.sampled_from(EVERY_NAME), anything, max_size=5))
    row = {**draw(st.sampled_from(rows)), **changes}
    if draw(st.booleans()):
        row["attributes"] = draw(st.dictionaries(st.sampled_from(OTEL_NAMES), anything, max_size=5))
    return draw(st.sampled_from([row, [row, 1], {"data": [row]}])) if draw(st.integers(0, 9)) else draw(anything)


SOURCES = {**all_sources(), "mapping": source_of(MAPPED)}


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(value=odd_rows())
def test_odd_rows_make_records_or_are_turned_away(name: str, value: Any) -> None:
    source = SOURCES[name]
    maker = Maker(source, labels={"a": "attributes", "b": "n.a"})
    for row in source.expand(value):
        if not isinstance(row, dict):
            continue
        facts, ids, refused = None, [], ""
        try:
            facts = source.read(row)
            ids = [] if facts is None else list(islice(maker.ids(facts, 1), 3))
        except Reject as reject:
            refused = f"{reject.reason} {reject.field}"
        assert SECRET not in refused
        for record in maker.records(facts, ids, maker.labels_of(row)) if facts is not None and not refused else ():
            told = json.loads(to_json(record.to_dict()))
            assert told["energy_kwh_min"] is not None or told["errors"] or "request-not-covered" in told["warnings"]
            assert len(to_json(record.to_dict())) < 20_000


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(values=st.lists(odd_rows(), max_size=4), form=st.sampled_from(["jsonl", "json", "csv"]))
def test_odd_rows_are_accounted_for(
    name: str, values: list[Any], form: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    if form == "csv":
        whole = {key: value for row in values if isinstance(row, dict) for key, value in row.items()}
        file = table_of(folder / "rows.csv", {"n": 1, **whole})
    elif form == "json":
        file = folder / "rows.json"
        file.write_text(json.dumps(values))
    else:
        file = written(folder / "rows.jsonl", *values)
    source = SOURCES[name]
    first = bring(source, file, folder / "log", form=form)
    assert accounted(first)
    records = in_log(folder / "log")
    assert len(records) == first.records == len({record["id"] for record in records})
    for record in records:
        assert record["energy_kwh_min"] is not None or record["errors"] or "request-not-covered" in record["warnings"]
    second = bring(source, file, folder / "log", form=form)
    assert (second.records, second.imported, second.present) == (0, 0, first.imported + first.present)
    with Index(folder / "log") as index:
        index.refresh()
        assert total(index).requests == len(records)


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    content=st.binary(max_size=200) | st.text(alphabet='{}[]",:\n\r\0 a1-.', max_size=200).map(lambda text: text.encode()),
    form=st.sampled_from([None, "jsonl", "json", "csv"]),
    packed=st.booleans(),
    head=st.sampled_from([b"", b"{", b"[", b'{"data": [', b"a,b\n", b"\x1f\x8b"]),
)
def test_any_bytes_are_accounted_for(
    *, name: str, content: bytes, form: str | None, packed: bool, head: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "file").write_bytes(gzip.compress(head + content) if packed else head + content)
    assert accounted(bring(SOURCES[name], folder / "file", folder / "log", form=form))


# --- the command ---------------------------------------------------------------------------------------------------------


def run(*args: object, **options: Any) -> Result:
    return CliRunner().invoke(app, ["import", *map(str, args)], env={"COLUMNS": "100"} | options.pop("env", {}), **options)


def test_the_command(tmp_path: Path, log: Path) -> None:
    file = written(tmp_path / "logs.jsonl", LITELLM, {**LITELLM, "request_id": "2", "model": "nobody-knows-1"}, {"x": 1})
    labels = ("--label", "team=metadata.user_api_key_team_alias", "--label", "tags=request_tags")
    done = run("litellm", file, "--log", log, *labels)
    assert done.exit_code == 0, done.output
    assert "model-not-registered" in done.stdout
    assert "turned away: not-recognised" in done.stdout
    (rejected,) = log.glob("rejected-*.jsonl")
    assert rejected.name in done.stderr
    assert {record["labels"]["team"] for record in in_log(log)} == {"search"}
    assert {record["labels"]["tags"] for record in in_log(log)} == {"a,b"}
    again = run("litellm", file, "--log", log, "--json")
    assert json.loads(again.stdout) == {
        "rows": 3,
        "imported": 0,
        "present": 2,
        "not_requests": 0,
        "rejected": {"not-recognised": 1},
        "records": 0,
        "unestimated": 0,
        "errors": {},
    }


def test_no_file_is_written_over(tmp_path: Path, log: Path) -> None:
    file = written(tmp_path / "rows.jsonl", {})
    assert run("litellm", file, "--log", log, "--rejects", file).exit_code == 2
    assert file.read_text() == "{}\n"


def test_a_source_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside_imports.py").write_text(
        "from ecoimpact.imports.facts import Source\nSOURCE = Source('outside', lambda row: None)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    offered = EntryPoint("outside", "outside_imports:SOURCE", imports.ENTRY_POINTS)
    monkeypatch.setattr(imports, "entry_points", lambda group: [offered] if group == imports.ENTRY_POINTS else [])
    all_sources.cache_clear()
    try:
        assert set(all_sources()) == {*ROWS, "outside"}
    finally:
        all_sources.cache_clear()


def test_standard_input(log: Path) -> None:
    packed = gzip.compress((json.dumps(LITELLM) + "\n").encode())
    assert run("litellm", "-", "--log", log, input=packed).exit_code == 0
    only(log, output_tokens=40)


def test_mapping_by_file_and_by_option(tmp_path: Path, log: Path) -> None:
    (tmp_path / "map.toml").write_text(
        textwrap.dedent(
            """
            [fields]
            time = "at"
            model = "m"
            """
        )
    )
    file = table_of(tmp_path / "rows.csv", {"at": "2026-01-01", "m": "gpt-4o", "out": 7})
    done = run("mapping", file, "--log", log, "--mapping", tmp_path / "map.toml", "--field", "output_tokens=out")
    assert done.exit_code == 0, done.output
    only(log, output_tokens=7, provider="openai", labels={SOURCE_LABEL: "map"})


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["litelm", "FILE"], "Near: litellm"),
        (["litellm", "nowhere.jsonl"], "there is no file"),
        (["litellm", "FILE", "--format", "xml"], "Known: jsonl"),
        (["litellm", "FILE", "--zone", "FR"], "FRA (France)"),
        (["litellm", "FILE", "--methodology", "ecologit"], "ecologits"),
        (["litellm", "FILE", "--field", "model=m"], "ecoimpact import mapping"),
        (["litellm", "FILE", "--label", "team"], "is not a label"),
        (["litellm", "FILE", "--label", "text=messages"], "what was said"),
        (["mapping", "FILE"], "--field OURS=THEIRS"),
        (["mapping", "FILE", "--field", "modle=m"], "Near: model"),
    ],
)
def test_wrong_usage(args: list[str], message: str, tmp_path: Path, log: Path) -> None:
    file = written(tmp_path / "rows.jsonl", LITELLM)
    done = run(*(str(file) if arg == "FILE" else arg for arg in args), "--log", log)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert not log.exists()


def test_a_file_of_something_else(tmp_path: Path, log: Path) -> None:
    done = run("anthropic", written(tmp_path / "rows.jsonl", LITELLM), "--log", log)
    assert done.exit_code == 1
    assert "no row is one of anthropic" in done.stderr


def test_labels_are_hashed_as_programs_hash_them(tmp_path: Path, log: Path) -> None:
    file = written(tmp_path / "rows.jsonl", LITELLM)
    env = {"ECOIMPACT_HASH_LABELS": "user", "ECOIMPACT_HASH_KEY": "0123456789abcdef"}
    assert run("litellm", file, "--log", log, "--label", "user=end_user", env=env).exit_code == 0
    (record,) = in_log(log)
    assert len(record["labels"]["user"]) == 32
    assert SECRET not in json.dumps(record)


def test_a_log_that_cannot_be_written(tmp_path: Path, log: Path) -> None:
    log.mkdir()
    (log / f"{datetime.now(UTC):%Y-%m-%d}").write_text("in the way")
    (log / f"{datetime.now(UTC).timestamp() + 86_400:.0f}").write_text("")
    done = run("litellm", written(tmp_path / "rows.jsonl", LITELLM), "--log", log)
    assert done.exit_code == 1
    assert "cannot be written" in done.stderr


def test_no_header_is_no_row(tmp_path: Path, log: Path) -> None:
    for content in ("", "\n\n", "a,b\n", "[]", '{"data": []}'):
        (tmp_path / "empty").write_text(content)
        assert bring("langfuse", tmp_path / "empty", log).rows == 0, content


def test_text_is_read_as_text(tmp_path: Path) -> None:
    file = io.BytesIO()
    file.write('a\n"\xe9"\n'.encode("latin-1"))
    (tmp_path / "rows.csv").write_bytes(file.getvalue())
    assert read(tmp_path / "rows.csv") == [(2, {"a": "\ufffd"}, None)]
