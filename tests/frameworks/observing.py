"""A program that another tool observes too: ``python observing.py TOOL ORDER URL`` prints what each saw, phase by phase.

A process of its own for each, since most tools cannot be taken out of one again.
"""

# mypy: disable-error-code="import-not-found,import-untyped,no-untyped-call"

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import operator
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "instrumentation"))

import anthropic
import openai
from payloads import CLAUDE, MODEL

import ecoimpact
from ecoimpact import Record

QUESTION: Any = [{"role": "user", "content": "When does water boil?"}]


class Observer:
    """Another tool: put in, taken out where it can be, and asked what it saw since it was last asked."""

    def install(self) -> None:
        raise NotImplementedError

    def remove(self) -> bool:
        """Whether it can be taken out."""
        return False

    def told(self) -> list[Any]:
        raise NotImplementedError

    def around(self) -> contextlib.AbstractContextManager[Any]:
        """What a program has around its requests, for the tool's sake."""
        return contextlib.nullcontext()


class Spans(Observer):
    """What tools on OpenTelemetry tell: the names of their spans and the counts on them."""

    def __init__(self) -> None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.processor = SimpleSpanProcessor(self.exporter)
        self.provider.add_span_processor(self.processor)

    def told(self) -> list[Any]:
        spans = self.exporter.get_finished_spans()
        self.exporter.clear()
        return [[span.name, span.status.status_code.name, counts(span.attributes or {})] for span in spans]


def counts(attributes: Any) -> dict[str, Any]:
    """The attributes that tell of tokens or of models, but for times."""
    words = ("token", "usage", "model")
    told = {name: value for name, value in sorted(attributes.items()) if any(word in name for word in words)}
    return {name: value for name, value in told.items() if "time" not in name}


class Instrumentors(Spans):
    """Tools that follow OpenTelemetry's ``BaseInstrumentor``."""

    def __init__(self, *instrumentors: Any) -> None:
        super().__init__()
        self.instrumentors = instrumentors

    def install(self) -> None:
        for instrumentor in self.instrumentors:
            instrumentor.instrument(tracer_provider=self.provider)

    def remove(self) -> bool:
        for instrumentor in self.instrumentors:
            instrumentor.uninstrument()
        return True


def opentelemetry() -> Observer:
    from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

    return Instrumentors(OpenAIInstrumentor(), AnthropicInstrumentor())


def openinference() -> Observer:
    from openinference.instrumentation.openai import OpenAIInstrumentor

    return Instrumentors(OpenAIInstrumentor())


class Logfire(Spans):
    def install(self) -> None:
        import logfire

        ways_out = {"send_to_logfire": False, "console": False, "metrics": False}
        logfire.configure(**ways_out, additional_span_processors=[self.processor], inspect_arguments=False)
        logfire.instrument_openai()
        logfire.instrument_anthropic()


class Langfuse(Spans):
    """Its replacement for OpenAI's SDK, which patches that one when it is imported."""

    def install(self) -> None:
        import langfuse

        keys = {"public_key": "pk-test", "secret_key": "sk-test", "base_url": "http://127.0.0.1:9"}
        self.langfuse = langfuse.Langfuse(**keys, tracer_provider=self.provider, span_exporter=self.exporter)
        import langfuse.openai

    def told(self) -> list[Any]:
        self.provider.force_flush()
        return super().told()


class Sentry(Observer):
    """Its spans, which go to a transport that keeps them."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    def install(self) -> None:
        import sentry_sdk
        from sentry_sdk.integrations.anthropic import AnthropicIntegration
        from sentry_sdk.integrations.openai import OpenAIIntegration
        from sentry_sdk.transport import Transport

        spans = self.spans

        class Kept(Transport):
            def capture_envelope(self, envelope: Any) -> None:
                for item in envelope.items:
                    spans.extend([s["name"], counts(s["attributes"])] for s in (item.payload.json or {}).get("items", ()))

        sentry_sdk.init(
            dsn="http://key@127.0.0.1:9/1",
            transport=Kept,
            traces_sample_rate=1.0,
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[OpenAIIntegration(), AnthropicIntegration()],
        )

    def around(self) -> contextlib.AbstractContextManager[Any]:
        import sentry_sdk

        return sentry_sdk.start_transaction(name="a request of the program")

    def told(self) -> list[Any]:
        import sentry_sdk

        sentry_sdk.flush(10)
        spans, self.spans[:] = [*self.spans], []
        return spans


OBSERVERS: dict[str, Callable[[], Observer]] = {
    "opentelemetry": opentelemetry,
    "openinference": openinference,
    "logfire": Logfire,
    "langfuse": Langfuse,
    "sentry": Sentry,
}


# --- the program

CHAT: Any = {"model": MODEL, "messages": QUESTION}
RESPONSE: Any = {"model": MODEL, "input": "When does water boil?"}
MESSAGE: Any = {**CHAT, "model": CLAUDE, "max_tokens": 9}
STREAMED: Any = {"stream": True}
CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "chat": ("openai", "chat.completions", CHAT),
    "chat, streamed": ("openai", "chat.completions", {**CHAT, **STREAMED, "stream_options": {"include_usage": True}}),
    "responses": ("openai", "responses", RESPONSE),
    "responses, streamed": ("openai", "responses", {**RESPONSE, **STREAMED}),
    "messages": ("anthropic", "messages", MESSAGE),
    "messages, streamed": ("anthropic", "messages", {**MESSAGE, **STREAMED}),
}


@contextlib.asynccontextmanager
async def clients(url: str) -> AsyncIterator[dict[str, list[Any]]]:
    """A client of each kind, synchronous and asynchronous."""
    options: dict[str, Any] = {"api_key": "test", "max_retries": 0}
    made: dict[str, list[Any]] = {
        "openai": [kind(base_url=f"{url}/v1", **options) for kind in (openai.OpenAI, openai.AsyncOpenAI)],
        "anthropic": [kind(base_url=url, **options) for kind in (anthropic.Anthropic, anthropic.AsyncAnthropic)],
    }
    yield made
    for client, asynchronous_client in made.values():
        client.close()
        await asynchronous_client.close()


def ask(client: Any, resource: str, arguments: dict[str, Any]) -> list[Any]:
    """What the program gets: the answer, or the items of the stream."""
    result = operator.attrgetter(resource)(client).create(**arguments)
    return [*result] if "stream" in arguments else [result]


async def ask_async(client: Any, resource: str, arguments: dict[str, Any]) -> list[Any]:
    result = await operator.attrgetter(resource)(client).create(**arguments)
    return [item async for item in result] if "stream" in arguments else [result]


async def phase(observer: Observer, url: str, records: list[Record]) -> dict[str, Any]:
    """Every call once, and what each of the three saw of it."""
    told = {}
    async with clients(url) as made:
        for name, (sdk, resource, arguments) in CALLS.items():
            client, asynchronous_client = made[sdk]
            for way in ("sync", "async"):
                with observer.around():
                    if way == "sync":
                        items = ask(client, resource, arguments)
                    else:
                        items = await ask_async(asynchronous_client, resource, arguments)
                assert ecoimpact.flush(10)
                told[f"{name}, {way}"] = {
                    "program": [f"{type(item).__name__} {item.to_json()}" for item in items],
                    "impacts": any(isinstance(vars(item).get("impacts"), ecoimpact.Impacts) for item in items),
                    "records": [counted(record) for record in records],
                    "observer": observer.told(),
                }
                records.clear()
    return told


def counted(record: Record) -> list[Any]:
    inference, usage = record.inference, record.inference.usage
    tokens = [usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, usage.reasoning_tokens]
    return [inference.provider, inference.endpoint, inference.status, inference.stream, usage.estimated, tokens]


def main(name: str, order: str, url: str) -> None:
    observer = OBSERVERS[name]()
    records: list[Record] = []
    instrument = functools.partial(ecoimpact.instrument, "openai", "anthropic", exporters=[records.append])

    def run() -> dict[str, Any]:
        return asyncio.run(phase(observer, url, records))

    told = {"bare": run()}
    first, second = (observer.install, instrument) if order == "theirs first" else (instrument, observer.install)
    first()
    told["first"] = run()
    second()
    told["both"] = run()
    leave = [observer.remove, ecoimpact.uninstrument]
    if order == "ours first":
        leave.reverse()
    if leave[0]() is not False:
        if order == "theirs first":
            instrument()  # what a tool puts back when it leaves is what it had found
        told["one left"] = run()
    if leave[1]() is not False:
        told["none left"] = run()
    print(json.dumps({"phases": told, "drops": ecoimpact.drops()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
