"""Amazon Bedrock by boto3: ``converse`` and ``invoke_model``, plain and streamed, and aiobotocore's twins of them.

The methods of a client are made when it is; all of them, of all services, go through ``_make_api_call``, which has the name
of the operation. It is watched there, and calls of other operations pass at once.

Token counts: those of Converse leave out what was read from or written to the cache. ``invoke_model`` has bodies of the
models' own, one format for each vendor; the service counts beside them, in HTTP headers and in the last chunk of a stream,
without the cache as well. Where it does not, the counts of the body stand in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ecoimpact.instrumentation.provider import (
    Endpoint,
    Method,
    Provider,
    Reader,
    Request,
    Role,
    Target,
    count,
    field,
    length,
    present,
    text,
    tier,
)
from ecoimpact.providers import cohere
from ecoimpact.providers._methods import Server, instance_of, method_provider
from ecoimpact.providers.anthropic import MessageReader
from ecoimpact.providers.openai import CompletionReader
from ecoimpact.types import Usage

SERVICE: Final = "bedrock-runtime"


class ConverseReader(Reader):
    """The dict of ``converse``, the events of ``converse_stream``, and the bodies of Amazon's Nova, which are alike."""

    _usage: Any = None
    _tier: Any = None

    def feed(self, item: Any) -> bool:
        try:  # what nearly all items are, read without a detour: an event with text
            self.characters += len(item["contentBlockDelta"]["delta"]["text"])
        except (KeyError, TypeError):
            return self._feed(item)
        return False

    def _feed(self, item: Any) -> bool:
        self.response_id = text(field(item, "ResponseMetadata"), "RequestId") or self.response_id
        for event in ("contentBlockStart", "contentBlockDelta"):
            block = field(field(item, event), "start" if event == "contentBlockStart" else "delta")
            self.characters += _block_characters(block)
        if field(item, "messageStop") is not None:
            self.finished = True  # the counts still come
        answer = field(item, "metadata") or item
        if field(answer, "usage") is None and field(item, "output") is None:
            return False
        self._usage, self._tier = field(answer, "usage"), field(field(answer, "serviceTier"), "type")
        self.response_model = text(field(field(answer, "trace"), "promptRouter"), "invokedModelId")
        content = field(field(field(item, "output"), "message"), "content")
        self.characters += sum(map(_block_characters, content)) if isinstance(content, list) else 0
        self.finished = True
        return True

    def counts(self) -> Usage:
        usage = self._usage
        uncached, cached = count(usage, "inputTokens"), _either(usage, "cacheReadInputTokens", "cacheReadInputTokenCount")
        written = _either(usage, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
        details = field(usage, "cacheDetails")
        hourly = [d for d in details if field(d, "ttl") == "1h"] if isinstance(details, list) else []
        return Usage(
            input_tokens=None if uncached is None else uncached + (cached or 0) + (written or 0),
            output_tokens=count(usage, "outputTokens"),
            cached_input_tokens=cached,
            cache_write_tokens=written,
            service_tier=tier(self._tier),
            priced_apart=present(cache_write_1h_tokens=sum(count(d, "inputTokens") or 0 for d in hourly)),
        )


def _either(item: Any, name: str, other: str) -> int | None:
    number = count(item, name)
    return count(item, other) if number is None else number


def _block_characters(block: Any) -> int:
    """What a block of content, or a part of one, generates: text, reasoning, the call of a tool."""
    reasoning, called = field(block, "reasoningContent"), field(block, "toolUse")
    reasoning = field(reasoning, "reasoningText") or reasoning  # in an answer; a part of one has the text itself
    arguments = field(called, "input")
    given = len(arguments) if isinstance(arguments, str) else len(json.dumps(arguments, default=str)) if arguments else 0
    return length(block, "text") + length(reasoning, "text") + length(called, "name") + given


class PlainBodyReader(Reader):
    """Bodies of Amazon's Titan, Meta's Llama, Mistral's text completion and AI21's Jurassic."""

    _input_tokens: int | None = None
    _output_tokens: int | None = None

    def feed(self, item: Any) -> bool:
        results = _listed(item, "results") + _listed(item, "outputs")
        completions = _listed(item, "completions")
        texts = [field(completion, "data") for completion in completions]
        given = _either(item, "prompt_token_count", "inputTextTokenCount")
        generated = _either(item, "generation_token_count", "totalOutputTextTokenCount")
        if results and generated is None:
            generated = _sum([count(result, "tokenCount") for result in results])
        if completions:
            given = _number_of(field(item, "prompt"), "tokens")
            generated = _sum([_number_of(data, "tokens") for data in texts])
        self._input_tokens = self._input_tokens if given is None else given
        self._output_tokens = self._output_tokens if generated is None else generated
        self.characters += length(item, "generation") + length(item, "outputText")
        self.characters += sum(length(part, "text") + length(part, "outputText") for part in (*results, *texts))
        if any(field(part, name) is not None for part in (item, *results, *completions) for name in _REASONS_TO_STOP):
            self.finished = True
        return self.finished

    def counts(self) -> Usage:
        return Usage(input_tokens=self._input_tokens, output_tokens=self._output_tokens)


_REASONS_TO_STOP: Final = ("stop_reason", "completionReason", "finishReason")


def _listed(item: Any, name: str) -> list[Any]:
    value = field(item, name)
    return value if isinstance(value, list) else []


def _number_of(item: Any, name: str) -> int | None:
    value = field(item, name)
    return len(value) if isinstance(value, list) else None


def _sum(numbers: list[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


_FORMATS: Final[tuple[tuple[str, type[Reader]], ...]] = (
    ("choices", CompletionReader),  # OpenAI, DeepSeek, Qwen, newer ones of Mistral and AI21
    ("output", ConverseReader),  # Nova, and what its streams are made of
    *((event, ConverseReader) for event in ("messageStart", "contentBlockStart", "contentBlockDelta", "metadata")),
    *((name, cohere.ChatReader) for name in ("event_type", "generations", "text", "is_finished")),
    ("type", MessageReader),
)
"""Who reads a body, by the first of these fields that it has."""


class BodyReader(Reader):
    """``invoke_model``: its dict with the HTTP headers, the body inside, and the chunks of ``..._with_response_stream``."""

    _headers: Any = None
    _metrics: Any = None
    _tier: Any = None
    _body: Reader | None = None
    """Reads the format that the model answers in."""

    def feed(self, item: Any) -> bool:
        chunk = field(item, "chunk")
        if chunk is not None:
            return self._feed_body(_unpacked(chunk))
        metadata = field(item, "ResponseMetadata")
        if metadata is None:
            return self._feed_body(item)
        self.response_id, self._tier = text(metadata, "RequestId"), field(item, "serviceTier")
        headers = field(metadata, "HTTPHeaders")
        if isinstance(headers, dict):
            self._headers = {name: _number(headers.get(f"x-amzn-bedrock-{name}")) for name in _HEADERS}
            self.finished = self._headers["output-token-count"] is not None
        return self.finished

    def _feed_body(self, item: Any) -> bool:
        if not isinstance(item, dict):
            return False
        body = self._body
        if body is None:
            kind = next((reader for name, reader in _FORMATS if name in item), PlainBodyReader)
            body = self._body = kind()
        final = body.feed(item)
        self.characters, self.response_model = body.characters, body.response_model
        if (metrics := item.get("amazon-bedrock-invocationMetrics")) is not None:
            self._metrics = metrics
        self.finished = self._metrics is not None or body.finished
        return self._metrics is not None or final

    def counts(self) -> Usage:
        usage = self._body.counts() if self._body is not None else Usage()
        counted = _counted(self._headers, _HEADERS)
        if counted is None:
            counted = _counted(self._metrics, _METRICS)
        if counted is not None:
            usage = replace(counted, reasoning_tokens=usage.reasoning_tokens, priced_apart=usage.priced_apart)
        return replace(usage, service_tier=tier(self._tier) or usage.service_tier)


_HEADERS: Final = (
    "input-token-count",
    "output-token-count",
    "cache-read-input-token-count",
    "cache-write-input-token-count",
)
_METRICS: Final = ("inputTokenCount", "outputTokenCount", "cacheReadInputTokenCount", "cacheWriteInputTokenCount")


def _counted(counts: Any, names: tuple[str, str, str, str]) -> Usage | None:
    """What the service counted, if it did."""
    uncached, generated, cached, written = (count(counts, name) for name in names)
    if generated is None:
        return None
    return Usage(
        input_tokens=None if uncached is None else uncached + (cached or 0) + (written or 0),
        output_tokens=generated,
        cached_input_tokens=cached,
        cache_write_tokens=written,
    )


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 12 else None


def _unpacked(chunk: Any) -> Any:
    data = field(chunk, "bytes")
    try:
        return json.loads(data) if isinstance(data, bytes) else None
    except (ValueError, RecursionError):
        return None


CONVERSE: Final = Endpoint("converse", ConverseReader)
INVOKE: Final = Endpoint("invoke_model", BodyReader)

_OPERATIONS: Final = {
    "Converse": (CONVERSE, False),
    "ConverseStream": (CONVERSE, True),
    "InvokeModel": (INVOKE, False),
    "InvokeModelWithResponseStream": (INVOKE, True),
}

_NO_TEXT: Final = ("embed", "rerank", "stability.", "image", "canvas", "reel", "luma.")
"""In the names of models that generate no text, which ``invoke_model`` serves as well."""


def identify(client: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request | None:
    operation = _OPERATIONS.get(args[0] if args else kwargs["operation_name"])
    if operation is None or client.meta.service_model.service_name != SERVICE:
        return None
    endpoint, stream = operation
    model = (args[1] if len(args) > 1 else kwargs["api_params"]).get("modelId")
    if not isinstance(model, str):
        model = None
    elif endpoint is INVOKE and any(kind in model for kind in _NO_TEXT):
        return None
    return Request(endpoint, model, stream, type(client), Server(None, client.meta.endpoint_url))


_is_client = instance_of("botocore.client:BaseClient")


def accepts(client: Any) -> bool:
    return _is_client(client) and client.meta.service_model.service_name == SERVICE


def _target(module: str, client: str, *, asynchronous: bool) -> Target:
    method = Method(identify, asynchronous=asynchronous)
    return Target(module, f"{client}._make_api_call", Role.METHOD, required=not asynchronous, method=method)


PROVIDER: Final[Provider] = replace(
    method_provider(
        id="bedrock",
        package="botocore",
        supported=">=1.37.24,<2",
        calls=[],
        server_of=lambda client, _kwargs: Server(None, client.meta.endpoint_url),
        accepts=accepts,
        sending=["convert_to_response_dict", "parse"],
    ),
    targets=(
        _target("botocore.client", "BaseClient", asynchronous=False),
        _target("aiobotocore.client", "AioBaseClient", asynchronous=True),
        Target("botocore.eventstream", "EventStream.close", Role.CLOSE, required=True),
    ),
    refusals=frozenset({"BotoCoreError"}),
)
