"""OpenTelemetry: what a reader collects equals the log, spans carry the figures, and the program never notices."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import payloads as p
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import Span, TracerProvider
from server import Received, Reply, Server, as_json, sse

import ecoimpact
from ecoimpact import Record
from ecoimpact.data.providers import PROVIDERS
from ecoimpact.exporters import metrics
from ecoimpact.exporters.otel import EcoImpactInstrumentor, OTelExporter
from ecoimpact.instrumentation import report
from ecoimpact.records.reader import read_records

ASK: Any = {"model": p.MODEL, "messages": [{"role": "user", "content": "How does water boil?"}]}


def answer(request: Received) -> Reply:
    """Chat, plain or streamed, by whatever model is asked for; the model ``failing`` fails."""
    model = request.body["model"]
    if model == "failing":
        return as_json({"error": {"message": "no"}}, 400)
    named = {} if model == p.MODEL else {"model": model}
    if request.body.get("stream"):
        usage = "stream_options" in request.body
        return sse([{**chunk, **named} for chunk in p.chat_chunks(usage=usage)], done=True)
    return as_json({**p.chat(), **named})


@pytest.fixture(autouse=True)
def _bare(server: Server) -> Iterator[None]:
    server.reset(answer)
    report.failures.clear()
    yield
    ecoimpact.uninstrument()
    report.failures.clear()


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    yield reader
    reader.shutdown()


@pytest.fixture
def provider(reader: InMemoryMetricReader) -> MeterProvider:
    return MeterProvider([reader], shutdown_on_exit=False)


@pytest.fixture
def tracer() -> trace.Tracer:
    return TracerProvider(shutdown_on_exit=False).get_tracer("test")


def lost() -> Callable[[], dict[str, int]]:
    before = ecoimpact.drops()
    return lambda: {reason: n - before.get(reason, 0) for reason, n in ecoimpact.drops().items() if n != before.get(reason)}


def collected(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """The data points of every metric of ours by its name; of a metric without any, none."""
    data = reader.get_metrics_data()
    scopes = [scope for resource in (data.resource_metrics if data else ()) for scope in resource.scope_metrics]
    return {
        metric.name: list(metric.data.data_points)
        for scope in scopes
        if scope.scope.name == "ecoimpact"
        for metric in scope.metrics
    }


def total(points: list[Any], **attributes: str) -> float:
    chosen = [point for point in points if attributes.items() <= dict(point.attributes).items()]
    return math.fsum(point.sum if hasattr(point, "sum") else point.value for point in chosen)


def use(client: openai.OpenAI) -> None:
    """Requests of every kind that the metrics tell apart."""
    with ecoimpact.label(user="alice@example.org", feature="search"):
        for _ in range(3):
            client.chat.completions.create(**ASK)
    client.chat.completions.create(**{**ASK, "model": "gpt-4o"})
    list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
    list(client.chat.completions.create(**ASK, stream=True))  # its tokens are estimated
    with client.chat.completions.create(**ASK, stream=True) as stream:
        next(stream)  # and leave
    client.chat.completions.create(**{**ASK, "model": "nobody-knows-this-one"})
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**{**ASK, "model": "failing"})


def test_what_is_collected_equals_the_log(
    client: openai.OpenAI, provider: MeterProvider, reader: InMemoryMetricReader, tmp_path: Path
) -> None:
    ecoimpact.instrument(log_dir=tmp_path, exporters=[OTelExporter(provider, labels=["feature"])])
    use(client)
    assert ecoimpact.flush(10)
    found, records = collected(reader), list(read_records(tmp_path))
    assert len(records) == 9

    def logged(field: str, factor: float = 1.0, **which: Any) -> float:
        chosen = (record for record in records if which.items() <= record.items())
        return math.fsum(record[field] * factor for record in chosen if record[field] is not None)

    assert total(found["ecoimpact.requests"]) == 9
    for status in ("ok", "error", "abandoned"):
        expected = sum(record["status"] == status for record in records)
        assert total(found["ecoimpact.requests"], status=status) == expected > 0
    assert total(found["ecoimpact.requests"], **{"label.feature": "search"}) == 3
    for ends in metrics.FIGURES:
        field = next(c.suffix for c in ecoimpact.types.CRITERIA if c.key == ends.key)
        for metric, end in ((ends.low, "min"), (ends.central, "central"), (ends.high, "max")):
            expected = logged(f"{field}_{end}", ends.factor)
            assert expected > 0
            assert total(found[metric.name]) == pytest.approx(expected, rel=1e-9)
            by_model = total(found[metric.name], model=p.SNAPSHOT)
            assert by_model == pytest.approx(logged(f"{field}_{end}", ends.factor, model=p.SNAPSHOT), rel=1e-9)
    for kind in ("input", "output"):
        assert total(found["ecoimpact.tokens"], type=kind) == logged(f"{kind}_tokens") > 0
        exact = logged(f"{kind}_tokens", tokens_estimated=False)
        assert total(found["gen_ai.client.token.usage"], **{"gen_ai.token.type": kind}) == exact
    assert total(found["ecoimpact.cost.usd"]) == pytest.approx(logged("cost_usd"), rel=1e-9)
    unpriced = sum(record["cost_usd"] is None for record in records)
    assert total(found["ecoimpact.requests.unpriced"]) == unpriced > 0
    assert total(found["ecoimpact.requests.unestimated"], status="ok", reason="model-not-registered") == 1
    assert total(found["gen_ai.client.operation.duration"]) == pytest.approx(logged("latency_s"), rel=1e-9)


def test_the_conventions_names_attributes_and_buckets(
    client: openai.OpenAI, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    ecoimpact.instrument(exporters=[OTelExporter(provider)])
    use(client)
    assert ecoimpact.flush(10)
    found = collected(reader)
    usage, duration = found["gen_ai.client.token.usage"], found["gen_ai.client.operation.duration"]
    # As the conventions give them, "Generative AI client metrics".
    assert usage[0].explicit_bounds == (
        *(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864),
    )
    assert duration[0].explicit_bounds == pytest.approx(
        [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
    )
    asked = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": p.MODEL,
        "gen_ai.response.model": p.SNAPSHOT,
    }
    assert any(dict(point.attributes) == {**asked, "gen_ai.token.type": "output"} for point in usage)
    assert any(dict(point.attributes) == asked for point in duration)
    assert {point.attributes.get("error.type") for point in duration} == {None, "BadRequestError"}


# OpenTelemetry, semantic conventions for generative AI: gen_ai.provider.name and gen_ai.operation.name, November 2026.
KNOWN_PROVIDERS = {
    *(
        "openai",
        "gcp.gen_ai",
        "gcp.vertex_ai",
        "gcp.gemini",
        "anthropic",
        "cohere",
        "azure.ai.inference",
        "azure.ai.openai",
    ),
    *("ibm.watsonx.ai", "aws.bedrock", "perplexity", "x_ai", "deepseek", "groq", "mistral_ai"),
}
KNOWN_OPERATIONS = {"chat", "generate_content", "text_completion", "embeddings"}


def test_names_of_providers_and_operations_are_the_conventions() -> None:
    assert set(metrics.OTEL_PROVIDERS.values()) <= KNOWN_PROVIDERS
    assert set(metrics.OPERATIONS.values()) <= KNOWN_OPERATIONS
    same = KNOWN_PROVIDERS & set(PROVIDERS)
    others = {"gcp.gen_ai", "ibm.watsonx.ai"}  # which no provider of ours is
    assert same | set(metrics.OTEL_PROVIDERS.values()) | others == KNOWN_PROVIDERS


def test_the_global_provider_serves_where_none_is_given(tmp_path: Path) -> None:
    """One that is set after the exporter was made, too."""
    program = """
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from ecoimpact.exporters.otel import OTelExporter
    ecoimpact.instrument(exporters=[OTelExporter()])
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    client.chat.completions.create(**ASK)
    assert ecoimpact.flush(10)
    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    print(scope.scope.name, scope.scope.version == ecoimpact.__version__, len(scope.metrics))
    """
    assert run(program, tmp_path).split() == ["ecoimpact", "True", "20"]


# --- spans --------------------------------------------------------------------------------------------------------------


def attributes_of(span: trace.Span) -> dict[str, Any]:
    assert isinstance(span, Span)
    return {name: value for name, value in (span.attributes or {}).items() if name.startswith(("ecoimpact.", "gen_ai."))}


def test_the_span_that_a_call_is_made_in_gets_its_figures(
    client: openai.OpenAI, provider: MeterProvider, tracer: trace.Tracer
) -> None:
    ecoimpact.instrument(exporters=[OTelExporter(provider)], zone="FRA")
    with tracer.start_as_current_span("outer") as outer, tracer.start_as_current_span("inner") as span:
        impacts = ecoimpact.impacts_of(client.chat.completions.create(**ASK))
        found = attributes_of(span)  # while it is recording, and without a flush
    assert impacts is not None
    figures = impacts.to_dict()
    assert found == {
        "ecoimpact.requests": 1,
        "ecoimpact.input_tokens": 23,
        "ecoimpact.output_tokens": 503,
        "gen_ai.usage.input_tokens": 23,
        "gen_ai.usage.output_tokens": 503,
        **{
            f"ecoimpact.{criterion.suffix}_{end}": figures[f"{criterion.suffix}_{end}"]
            for criterion in ecoimpact.types.CRITERIA
            for end in ("min", "central", "max")
        },
        "ecoimpact.estimated": True,
        "ecoimpact.methodology": "ecologits-2025-09",
        "ecoimpact.zone": "FRA",
    }
    assert attributes_of(outer) == {}


def test_calls_in_one_span_add_up(client: openai.OpenAI, provider: MeterProvider, tracer: trace.Tracer) -> None:
    ecoimpact.instrument(exporters=[OTelExporter(provider)])
    with tracer.start_as_current_span("a chat") as span:
        parts = [
            client.chat.completions.create(**ASK),
            list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))[-1],
        ]
        client.chat.completions.create(**{**ASK, "model": "nobody-knows-this-one"})
        found = attributes_of(span)
    energies = [impacts.energy for impacts in map(ecoimpact.impacts_of, parts) if impacts is not None]
    assert len(energies) == 2
    assert found["ecoimpact.energy_kwh_max"] == pytest.approx(
        math.fsum(energy.max for energy in energies if energy), rel=1e-9
    )
    assert found["ecoimpact.requests"] == 3
    assert found["gen_ai.usage.output_tokens"] == 3 * 503
    assert found["ecoimpact.errors"] == ("model-not-registered",)


def test_tokens_that_another_instrumentation_noted_are_not_counted_again(
    client: openai.OpenAI, provider: MeterProvider, tracer: trace.Tracer
) -> None:
    ecoimpact.instrument(exporters=[OTelExporter(provider)])
    with tracer.start_as_current_span("chat gpt-4o-mini", attributes={"gen_ai.usage.output_tokens": 503}) as span:
        client.chat.completions.create(**ASK)
        assert attributes_of(span)["gen_ai.usage.output_tokens"] == 503


def test_tasks_have_their_own_spans(server: Server, provider: MeterProvider, tracer: trace.Tracer) -> None:
    ecoimpact.instrument(exporters=[OTelExporter(provider)])

    async def main() -> list[dict[str, Any]]:
        async with openai.AsyncOpenAI(api_key="test", base_url=server.url) as client:

            async def one(calls: int) -> dict[str, Any]:
                with tracer.start_as_current_span("task") as span:
                    for _ in range(calls):
                        await client.chat.completions.create(**ASK)
                    return attributes_of(span)

            return await asyncio.gather(*(one(calls) for calls in (1, 2, 3)))

    assert [found["ecoimpact.requests"] for found in asyncio.run(main())] == [1, 2, 3]


def test_a_span_that_has_ended_is_left_alone(
    client: openai.OpenAI, provider: MeterProvider, tracer: trace.Tracer, caplog: pytest.LogCaptureFixture
) -> None:
    ecoimpact.instrument(exporters=[OTelExporter(provider)])
    with tracer.start_as_current_span("short") as span:
        stream = client.chat.completions.create(**ASK, stream=True)
    list(stream)
    assert ecoimpact.flush(10)
    assert attributes_of(span) == {}
    assert "ended span" not in caplog.text


def test_a_span_whose_lock_is_held_is_added_to_later(
    client: openai.OpenAI, provider: MeterProvider, tracer: trace.Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream may be let go of by the garbage collector while this very thread is inside the span."""
    monkeypatch.setattr("ecoimpact.exporters.otel.BACKGROUND_PATIENCE_S", 30)
    ecoimpact.instrument(exporters=[OTelExporter(provider)])
    span: Any
    with tracer.start_as_current_span("held") as span:
        stream: Any = client.chat.completions.create(**ASK, stream=True)
        next(stream)
        with span._lock:
            del stream
            gc.collect()
        assert ecoimpact.flush(10)
        assert attributes_of(span)["ecoimpact.requests"] == 1
        stream = client.chat.completions.create(**ASK, stream=True)
        with span._attributes._lock:
            stream.close()
        assert ecoimpact.flush(10)
        assert attributes_of(span)["ecoimpact.requests"] == 2


def test_spans_can_be_left_out_and_nothing_is_asked_of_them(
    client: openai.OpenAI, provider: MeterProvider, tracer: trace.Tracer
) -> None:
    ecoimpact.instrument(exporters=[OTelExporter(provider, spans=False)])
    with tracer.start_as_current_span("a") as span:
        client.chat.completions.create(**ASK)
        assert ecoimpact.flush(10)
        assert attributes_of(span) == {}


def test_without_the_exporter_nothing_is_asked_of_opentelemetry(tmp_path: Path) -> None:
    program = """
    records = []
    ecoimpact.instrument(exporters=[records.append])
    client.chat.completions.create(**ASK)
    assert ecoimpact.flush(10) and records
    print([name for name in sys.modules if name.startswith(("opentelemetry", "prometheus_client"))])
    """
    assert run(program, tmp_path) == "[]\n"


def test_a_call_without_a_span_is_a_call(
    client: openai.OpenAI, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    ecoimpact.instrument(exporters=[OTelExporter(provider)])
    client.chat.completions.create(**ASK)
    assert ecoimpact.flush(10)
    assert total(collected(reader)["ecoimpact.requests"]) == 1


def test_no_span_is_kept_by_an_answer(client: openai.OpenAI, provider: MeterProvider, tracer: trace.Tracer) -> None:
    ecoimpact.instrument(exporters=[OTelExporter(provider)])
    with tracer.start_as_current_span("a") as span:
        kept = client.chat.completions.create(**ASK)
    assert ecoimpact.flush(10)
    gone = weakref.ref(span)
    del span
    gc.collect()
    assert gone() is None
    assert ecoimpact.impacts_of(kept) is not None


# --- what goes wrong stays inside ---------------------------------------------------------------------------------------


class Unwell(OTelExporter):
    """Does ``what`` for each measurement."""

    def __init__(self, provider: MeterProvider, what: Callable[[], object]) -> None:
        self.what: Callable[[], object] = str
        super().__init__(provider)
        self.what = what

    def _add(self, metric: metrics.Metric, value: float, attributes: tuple[str, ...]) -> None:
        self.what()


def test_an_exporter_that_raises_loses_its_own_records_alone(
    client: openai.OpenAI, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    def raises() -> None:
        raise RuntimeError("ours, not theirs")

    since, others = lost(), list[Record]()
    ecoimpact.instrument(exporters=[Unwell(provider, raises), others.append])
    for _ in range(3):
        assert client.chat.completions.create(**ASK).choices[0].message.content == p.TEXT
    assert ecoimpact.flush(10)
    assert len(others) == 3
    assert since() == {"exporter-error": 3}
    # And the next exporter tells of what was lost from then on.
    ecoimpact.instrument(exporters=[Unwell(provider, raises), OTelExporter(provider)])
    for _ in range(5):
        client.chat.completions.create(**ASK)
        assert ecoimpact.flush(10)
    dropped = total(collected(reader)["ecoimpact.records.dropped"], reason="exporter-error")
    assert 4 <= dropped <= 5, "the loss of the last record may be noticed with the next one"


def test_an_exporter_that_hangs_holds_up_nobody(
    client: openai.OpenAI, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    release, others = threading.Event(), list[Record]()
    ecoimpact.instrument(exporters=[Unwell(provider, release.wait), OTelExporter(provider), others.append])
    for _ in range(3):
        client.chat.completions.create(**ASK)
    assert not ecoimpact.flush(0.3), "the one that hangs has not got it"
    assert len(others) == 3
    assert total(collected(reader)["ecoimpact.requests"]) == 3
    release.set()
    assert ecoimpact.flush(10)


@pytest.mark.parametrize("moment", ["begin", "end"])
def test_what_raises_on_the_callers_path_reaches_nobody(
    client: openai.OpenAI, provider: MeterProvider, reader: InMemoryMetricReader, moment: str
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("ours, not theirs")

    exporter = OTelExporter(provider)
    exporter.on_call = broken if moment == "begin" else lambda: broken  # type: ignore[method-assign]
    ecoimpact.instrument(exporters=[exporter])
    assert client.chat.completions.create(**ASK).choices[0].message.content == p.TEXT
    assert ecoimpact.flush(10)
    assert total(collected(reader)["ecoimpact.requests"]) == 1, "and its record is exported all the same"
    assert report.failures["RuntimeError"] > 0


# --- processes ----------------------------------------------------------------------------------------------------------

PROGRAM = """
import os, sys
sys.path.insert(0, {here!r})
import openai, ecoimpact
import payloads as p
from server import Server, as_json
server = Server()
server.reset(as_json(p.chat()))
ASK = dict(model=p.MODEL, messages=[])
client = openai.OpenAI(api_key="test", base_url=server.url)
"""
HELPERS = str(Path(__file__).parent / "instrumentation")


def run(body: str, folder: Path, *prefix: str, **variables: str) -> str:
    path = folder / "program.py"
    path.write_text(PROGRAM.format(here=HELPERS) + textwrap.dedent(body))
    scripts = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": scripts, "NO_PROXY": "127.0.0.1", **variables}
    done = subprocess.run(
        [*(prefix or (sys.executable,)), str(path)],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_counts_for_itself(tmp_path: Path) -> None:
    program = """
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from ecoimpact.exporters.otel import OTelExporter

    def requests():
        points = [
            point.value
            for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
            if metric.name == "ecoimpact.requests"
            for point in metric.data.data_points
        ]
        return int(sum(points))

    reader = InMemoryMetricReader()
    ecoimpact.instrument(exporters=[OTelExporter(MeterProvider([reader]))])
    client.chat.completions.create(**ASK)
    assert ecoimpact.flush(10)
    if os.fork() == 0:
        own = openai.OpenAI(api_key="test", base_url=server.url)
        own.chat.completions.create(**ASK)
        own.chat.completions.create(**ASK)
        assert ecoimpact.flush(10)
        print("child", requests() - 1, ecoimpact.drops(), flush=True)  # less what the SDK inherits
        os._exit(0)
    os.wait()
    client.chat.completions.create(**ASK)
    assert ecoimpact.flush(10)
    print("parent", requests(), ecoimpact.drops())
    """
    assert run(program, tmp_path).splitlines() == ["child 2 {}", "parent 2 {}"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_waits_for_the_record_in_hand(tmp_path: Path) -> None:
    """Else the child inherits the locks of the library's instruments as they are held by a thread that it does not have."""
    program = """
    import threading
    from opentelemetry.sdk.metrics import MeterProvider
    from ecoimpact.exporters import metric_exporter
    from ecoimpact.exporters.otel import OTelExporter

    metric_exporter.PATIENCE_S = 30
    inside, go, done = threading.Event(), threading.Event(), []

    class Slow(OTelExporter):
        def _add(self, *_):
            if not done:
                inside.set()
                go.wait(30)
                done.append(True)

    done.append("the beginning")
    exporter = Slow(MeterProvider())
    done.clear()
    ecoimpact.instrument(exporters=[exporter])
    client.chat.completions.create(**ASK)
    assert inside.wait(30)
    os.register_at_fork(before=go.set)  # runs ahead of the exporter's own
    pid = os.fork()
    if pid == 0:
        print(done, exporter._at_work.acquire(blocking=False), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    assert exporter._at_work.acquire(timeout=30)
    """
    assert run(program, tmp_path) == "[True] True\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_an_exporter_that_hangs_holds_up_no_fork(tmp_path: Path) -> None:
    program = """
    import threading
    from opentelemetry.sdk.metrics import MeterProvider
    from ecoimpact.exporters.otel import OTelExporter

    inside, go = threading.Event(), threading.Event()
    go.set()

    class Hanging(OTelExporter):
        def _add(self, *_):
            if not go.is_set():
                inside.set()
            go.wait()

    exporter = Hanging(MeterProvider())
    go.clear()
    ecoimpact.instrument(exporters=[exporter])
    client.chat.completions.create(**ASK)
    assert inside.wait(30)
    if os.fork() == 0:
        print("child", exporter._at_work.locked(), flush=True)
        os._exit(0)
    os.wait()
    print("parent", exporter._at_work.locked())
    go.set()
    """
    assert run(program, tmp_path).splitlines() == ["child False", "parent True"]


def test_opentelemetry_instrument_starts_a_program_with_metrics_and_figures(tmp_path: Path) -> None:
    program = """
    from opentelemetry import trace
    with ecoimpact.label(feature="search", user="alice@example.org"):
        with trace.get_tracer("app").start_as_current_span("request"):
            answer = client.chat.completions.create(**ASK)
    assert answer.impacts.energy is not None
    """
    exporters = ["--metrics_exporter", "console", "--traces_exporter", "console", "--logs_exporter", "none"]
    printed = run(
        program,
        tmp_path,
        *("opentelemetry-instrument", *exporters, "python"),
        ECOIMPACT_METRIC_LABELS="feature, team",
        OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="openai",  # where it is installed, its span is the current one
    )
    assert "alice" not in printed
    values, rest = [], printed
    while rest := rest.lstrip():
        value, end = json.JSONDecoder().raw_decode(rest)
        values.append(value)
        rest = rest[end:]
    metrics = {
        metric["name"]: metric["data"]["data_points"]
        for value in values
        for resource in value.get("resource_metrics", ())
        for scope in resource["scope_metrics"]
        if scope["scope"]["name"] == "ecoimpact"
        for metric in scope["metrics"]
    }
    (requests,) = metrics["ecoimpact.requests"]
    assert requests["value"] == 1
    assert requests["attributes"]["label.feature"] == "search"
    (energy,) = metrics["ecoimpact.energy.high"]
    (span,) = [value for value in values if value.get("name") == "request"]
    assert span["attributes"]["ecoimpact.energy_kwh_max"] * 3.6e6 == pytest.approx(energy["value"], rel=1e-9)


def test_the_instrumentor_instruments_and_takes_it_back(
    client: openai.OpenAI, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    instrumentor = EcoImpactInstrumentor()
    instrumentor.instrument(meter_provider=provider, labels=["feature"])
    try:
        with ecoimpact.label(feature="search"):
            assert ecoimpact.impacts_of(client.chat.completions.create(**ASK)) is not None
        assert ecoimpact.flush(10)
    finally:
        instrumentor.uninstrument()
    assert ecoimpact.impacts_of(client.chat.completions.create(**ASK)) is None
    assert total(collected(reader)["ecoimpact.requests"], **{"label.feature": "search"}) == 1


# --- no content ---------------------------------------------------------------------------------------------------------

CANARIES = (
    "canary-prompt-7f3a",
    "canary-answer-91bc",
    "canary-key-55de",
    "canary-tool-c0ff",
    "canary-error-ab12",
    "canary-user",
)


def test_no_content_comes_out(
    server: Server, provider: MeterProvider, reader: InMemoryMetricReader, tracer: trace.Tracer
) -> None:
    prompt, reply, key, tool, error, user = CANARIES

    def script(request: Received) -> Reply:
        if request.body["model"] == "failing":
            return as_json({"error": {"message": error}}, 400)
        calls = [{"id": "1", "type": "function", "function": {"name": tool, "arguments": json.dumps({"a": tool})}}]
        if request.body.get("stream"):
            return sse(p.chat_chunks(usage=False, words=[reply]))
        return as_json(p.chat(reply, tool_calls=calls))

    server.reset(script)
    ecoimpact.instrument(exporters=[OTelExporter(provider, labels=["feature"])])
    ask: Any = {"model": p.MODEL, "messages": [{"role": "user", "content": prompt}], "user": user}
    with (
        openai.OpenAI(api_key=key, base_url=f"{server.url}/{prompt}", max_retries=0) as client,
        tracer.start_as_current_span("request") as span,
        ecoimpact.label(user=user, feature="search"),
    ):
        client.chat.completions.create(**ask)
        list(client.chat.completions.create(**ask, stream=True))
        with pytest.raises(openai.BadRequestError, match=error):
            client.chat.completions.create(**{**ask, "model": "failing"})
        assert ecoimpact.flush(10)
        data = reader.get_metrics_data()
        assert data is not None
        printed = data.to_json() + json.dumps(dict(attributes_of(span)))
    assert "ecoimpact.energy.high" in printed
    assert attributes_of(span)["ecoimpact.requests"] == 3
    for canary in (*CANARIES, "canary"):
        assert canary not in printed
