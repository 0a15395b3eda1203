"""Every way to call Amazon Bedrock by boto3, and by aiobotocore where that is installed."""

from __future__ import annotations

import base64
import itertools
import json
import struct
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import Any
from zlib import crc32

import payloads as p
from harness import Expected, Run, Shape, registering
from server import Received, Reply, Script

DIRECTIONS = "" if find_spec("aiobotocore") else "sync"
"""aiobotocore asks for one botocore exactly, which is seldom the newest: it has an environment of its own."""

NOVA = "eu.amazon.nova-lite-v1:0"
CLAUDE = "eu.anthropic.claude-haiku-4-5-20251001-v1:0"
LLAMA = "meta.llama3-1-70b-instruct-v1:0"
QUESTION = "How does water boil?"
ASK: Any = {"modelId": NOVA, "messages": [{"role": "user", "content": [{"text": QUESTION}]}]}

# As the service counts: without the cache. 18 + 2048 + 5 were read, 503 generated.
USAGE = {
    "inputTokens": 18,
    "outputTokens": 503,
    "totalTokens": 2574,
    "cacheReadInputTokens": 2048,
    "cacheWriteInputTokens": 5,
    "cacheDetails": [{"ttl": "5m", "inputTokens": 5}],
}
HEADERS = {
    "x-amzn-bedrock-input-token-count": "18",
    "x-amzn-bedrock-output-token-count": "317",
    "x-amzn-bedrock-cache-read-input-token-count": "2048",
    "x-amzn-bedrock-cache-write-input-token-count": "5",
}
METRICS = {
    "inputTokenCount": 18,
    "outputTokenCount": 317,
    "cacheReadInputTokenCount": 2048,
    "cacheWriteInputTokenCount": 5,
    "invocationLatency": 900,
    "firstByteLatency": 80,
}
CONVERSE = Expected("converse", 503, 2071, 2048)
CONVERSE_STREAM = Expected("converse", 503, 2071, 2048, stream=True)
ESTIMATE = Expected("converse", 7, estimated=True)
INVOKE = Expected("invoke_model", 317, 2071, 2048)
INVOKE_STREAM = Expected("invoke_model", 317, 2071, 2048, stream=True)

SHAPES: list[Shape] = []

_shape = registering(SHAPES)


def shape(name: str, script: Any, *expected: Expected, **options: Any) -> Callable[[Any], Any]:
    return _shape(name, script, *expected, **{"only": DIRECTIONS, **options})


def disconnects(run: Run) -> None:
    """boto3 lets go of the connection at once; aiobotocore leaves that to a collection, at a time of its own."""
    if not run.asynchronous:
        run.disconnects()


# --- what the service answers -------------------------------------------------------------------------------------------


def answer(value: Any, status: int = 200, headers: Any = None) -> Callable[[], Script]:
    """JSON, or bytes as they are; every request of a run has an id of its own."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()

    def made() -> Script:
        numbers = itertools.count(1)
        return lambda _request: Reply(status, body, headers={"x-amzn-requestid": f"r-{next(numbers)}", **(headers or {})})

    return made


def frame(kind: str, payload: Any, message: str = "event") -> bytes:
    """One message of an event stream: Smithy, "application/vnd.amazon.eventstream", lengths and checksums included."""
    names = {":message-type": message, f":{message}-type": kind, ":content-type": "application/json"}
    head = b""
    for name, value in names.items():
        head += struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
    body = json.dumps(payload).encode()
    prelude = struct.pack("!II", 16 + len(head) + len(body), len(head))
    checked = prelude + struct.pack("!I", crc32(prelude)) + head + body
    return checked + struct.pack("!I", crc32(checked))


def events(frames: Callable[[], Iterable[bytes]], *, cut: bool = False) -> Callable[[], Reply]:
    return lambda: Reply(
        content_type="application/vnd.amazon.eventstream",
        headers={"x-amzn-requestid": "r-1", "x-amzn-bedrock-content-type": "application/json"},
        events=frames(),
        cut=cut,
    )


def converse(*blocks: Any, usage: Any = USAGE, **fields: Any) -> dict[str, Any]:
    content = list(blocks) or [{"text": p.TEXT}]
    message = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "end_turn"}
    counts = {} if usage is p.ABSENT else {"usage": usage}
    return {**message, **counts, "metrics": {"latencyMs": 900}, **fields}


def delta(**content: Any) -> bytes:
    return frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": content})


def converse_frames(*deltas: bytes, metadata: bool = True) -> Callable[[], Iterator[bytes]]:
    def made() -> Iterator[bytes]:
        yield frame("messageStart", {"role": "assistant"})
        yield from deltas or (delta(text=word) for word in p.WORDS)
        yield frame("contentBlockStop", {"contentBlockIndex": 0})
        yield frame("messageStop", {"stopReason": "end_turn"})
        if metadata:
            yield frame("metadata", {"usage": USAGE, "metrics": {"latencyMs": 900}})

    return made


def endless() -> Iterator[bytes]:
    for number in itertools.count():
        yield delta(text=f"{number} " + "x" * 3998)


def chunk(body: Any) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return frame("chunk", {"bytes": base64.b64encode(data).decode()})


def chunks(*bodies: Any, metrics: bool = True) -> Callable[[], Iterator[bytes]]:
    def made() -> Iterator[bytes]:
        *others, last = bodies
        yield from map(chunk, others)
        yield chunk({**last, "amazon-bedrock-invocationMetrics": METRICS} if metrics else last)

    return made


# --- converse -----------------------------------------------------------------------------------------------------------


async def asks(run: Run, **changes: Any) -> Any:
    return run.see(await run.wait(run.client.converse(**{**ASK, **changes})))


def conversed(name: str, body: Any, *expected: Expected, **changes: Any) -> None:
    @shape(f"converse{name}", answer(body), *expected)
    async def _(run: Run) -> None:
        await asks(run, **changes)


TOOL = {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Lyon"}}}
THOUGHT = {"reasoningContent": {"reasoningText": {"text": "x" * 40, "signature": "s" * 99}}}
ROUTED = {"promptRouter": {"invokedModelId": f"arn:aws:bedrock:eu-west-3:123456789012:inference-profile/{CLAUDE}"}}
PLAIN_USAGE = {"inputTokens": 7, "outputTokens": 41, "totalTokens": 48}
PLAIN = Expected("converse", 41, 7)

conversed("", converse(), CONVERSE)
conversed(", no cache", converse(usage=PLAIN_USAGE), PLAIN)
conversed(", a tool is called", converse(TOOL), CONVERSE)
conversed(", without usage", converse(usage=p.ABSENT), ESTIMATE)
conversed(", usage null", converse(usage=None), ESTIMATE)
conversed(", counts negative", converse(usage={"inputTokens": -1, "outputTokens": -3, "totalTokens": 0}), ESTIMATE)
conversed(", a tool without usage", converse(TOOL, usage=p.ABSENT), Expected("converse", 6, estimated=True))  # 7 + 16
conversed(", thought without usage", converse(THOUGHT, usage=p.ABSENT), Expected("converse", 10, estimated=True))
conversed(", a tier of its own", converse(usage=PLAIN_USAGE, serviceTier={"type": "flex"}), PLAIN)
conversed(", nothing generated", converse({"text": ""}, usage=p.ABSENT), Expected("converse", None))
conversed(", a prompt router", converse(trace=ROUTED), CONVERSE, modelId="arn:aws:bedrock:eu-west-3:123:prompt-router/abc")
for place in ("foundation-model", "inference-profile"):
    conversed(f", {place} by ARN", converse(), CONVERSE, modelId=f"arn:aws:bedrock:eu-west-3:123456789012:{place}/{CLAUDE}")
conversed(", no JSON", b"<html>", Expected("converse", None))
conversed(
    ", a profile of one's own",
    converse(),
    Expected("converse", 503, 2071, 2048, unknown_model=True),
    modelId="arn:aws:bedrock:eu-west-3:123456789012:application-inference-profile/abcdefgh1234",
)


@shape("converse, next turn", answer(converse()), CONVERSE, CONVERSE)
async def _(run: Run) -> None:
    first = await asks(run)
    turn = [*ASK["messages"], first["output"]["message"], {"role": "user", "content": [{"text": "And salt?"}]}]
    await asks(run, messages=turn)
    run.note(run.server.received[-1].body)


@shape("converse, without an id", lambda: Reply(body=json.dumps(converse()).encode()), CONVERSE)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.converse(**ASK)), carries=False)


# --- streams of converse


async def streams(run: Run, **changes: Any) -> Any:
    """Ask for a stream: the dict, and what is in it, look as they do and carry the figures when it is over."""
    response = await run.wait(run.client.converse_stream(**{**ASK, **changes}))
    run.note(len(run.server.received))
    run.see(response)
    return run.see(response["stream"])


async def reads(run: Run, stream: Any) -> None:
    async for event in run.each(stream):
        run.see(event, carries=False)


def streamed(name: str, frames: Callable[[], Iterable[bytes]], *expected: Expected, **options: Any) -> None:
    @shape(f"converse stream{name}", events(frames), *expected, **options)
    async def _(run: Run) -> None:
        await reads(run, await streams(run))


TOOL_FRAMES = (
    frame("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "t1", "name": "weather"}}}),
    delta(toolUse={"input": '{"city": '}),
    delta(toolUse={"input": '"Lyon"}'}),
)
THOUGHT_FRAMES = (delta(reasoningContent={"text": "x" * 40}), delta(reasoningContent={"signature": "s" * 99}))


def estimated_stream(output_tokens: int | None, **fields: Any) -> Expected:
    return Expected("converse", output_tokens, estimated=output_tokens is not None, stream=True, **fields)


streamed("", converse_frames(), CONVERSE_STREAM)
streamed(", a tool is called", converse_frames(*TOOL_FRAMES), CONVERSE_STREAM)
streamed(", without counts", converse_frames(metadata=False), estimated_stream(7))
streamed(", a tool without counts", converse_frames(*TOOL_FRAMES, metadata=False), estimated_stream(6))
streamed(", thought without counts", converse_frames(*THOUGHT_FRAMES, metadata=False), estimated_stream(10))
streamed(", empty", list, estimated_stream(None))


@shape("converse stream, read in two goes", events(converse_frames()), CONVERSE_STREAM)
async def _(run: Run) -> None:
    stream = await streams(run)
    await run.take(stream, 3)
    await reads(run, stream)


def hang_up(stream: Any) -> None:
    """Close what a stream or a body reads from, behind its back: dropped ones leave it to the interpreter, which warns."""
    stream._raw_stream.close()


@shape("converse stream, left at its last event", events(converse_frames()), CONVERSE_STREAM)
async def _(run: Run) -> None:
    stream = await streams(run)
    async for event in run.each(stream):
        if "metadata" in event:
            break
    hang_up(stream)


@shape("converse stream, closed early", events(endless), estimated_stream(2000, status="abandoned"))
async def _(run: Run) -> None:
    stream = await streams(run)
    await run.take(stream, 2)
    stream.close()
    disconnects(run)


@shape("converse stream, closed at once", events(endless), estimated_stream(None, status="abandoned"))
async def _(run: Run) -> None:
    (await run.wait(run.client.converse_stream(**ASK)))["stream"].close()
    disconnects(run)


@shape("converse stream, dropped", events(endless), estimated_stream(2000, status="abandoned"))
async def _(run: Run) -> None:
    stream = (await run.wait(run.client.converse_stream(**ASK)))["stream"]
    await run.take(stream, 2)
    hang_up(stream)


def fails_inside(name: str, reply: Callable[[], Reply], *expected: Expected, **options: Any) -> None:
    @shape(f"converse stream, {name}", reply, *expected, **options)
    async def _(run: Run) -> None:
        stream = await streams(run)

        async def consume() -> None:
            await reads(run, stream)

        await run.fails(consume)
        hang_up(stream)


fails_inside(
    "fault inside",
    events(lambda: [delta(text="Water "), frame("throttlingException", {"message": "slow down"}, "exception")]),
    estimated_stream(2, status="error", error_type="EventStreamError"),
)
fails_inside(
    "broken connection",
    events(lambda: [delta(text="Water ")], cut=True),
    estimated_stream(2, status="error", error_type="ProtocolError|ResponseStreamingError"),
    only="sync",
)
fails_inside(
    "broken frame",
    events(lambda: [delta(text="Water "), delta(text="boils ")[:-1] + b"x"]),
    estimated_stream(2, status="error", error_type="ChecksumMismatch"),
)


# --- invoke_model -------------------------------------------------------------------------------------------------------


async def invokes(run: Run, model: str = CLAUDE) -> Any:
    response = run.see(await run.wait(run.client.invoke_model(modelId=model, body=json.dumps({"prompt": QUESTION}))))
    return run.see(response["body"])


def invoked(name: str, body: Any, *expected: Expected, model: str = CLAUDE, headers: Any = None) -> None:
    @shape(f"invoke, {name}", answer(body, headers=headers), *expected)
    async def _(run: Run) -> None:
        run.note(await run.wait((await invokes(run, model)).read()))


def by_body(output_tokens: int | None, input_tokens: int | None = None, **fields: Any) -> Expected:
    return Expected("invoke_model", output_tokens, input_tokens, **fields)


MESSAGE = p.message(usage={"input_tokens": 12, "output_tokens": 90})
THE_SAME = {"prompt_tokens": 31, "completion_tokens": 87, "total_tokens": 118}
INVOKED = {"text": p.TEXT, "stop_reason": "stop"}

invoked("the service counts", MESSAGE, INVOKE, headers=HEADERS)
invoked("the service counts an unknown body", b"\x00\x01 no JSON", INVOKE, headers=HEADERS)
invoked("Anthropic", p.message(), by_body(317, 2065, cached_input_tokens=2048, reasoning_tokens=200))
invoked("Titan", {"inputTextTokenCount": 5, "results": [{"tokenCount": 39, "outputText": p.TEXT}]}, by_body(39, 5))
invoked("Nova", converse(), Expected("invoke_model", 503, 2071, 2048), model=NOVA)
invoked("Llama", {"generation": p.TEXT, "prompt_token_count": 9, "generation_token_count": 42}, by_body(42, 9), model=LLAMA)
invoked("Mistral", {"outputs": [INVOKED]}, by_body(7, estimated=True))
invoked("Mistral, chat", p.chat(usage=THE_SAME), by_body(87, 31))
invoked("Cohere", {"generations": [{"text": p.TEXT}], "id": "c"}, by_body(7, estimated=True))
invoked(
    "Cohere, R",
    {"text": p.TEXT, "meta": {"billed_units": {"input_tokens": 4, "output_tokens": 15}}, "finish_reason": "COMPLETE"},
    by_body(15, 4),
)
invoked("AI21, Jamba", p.chat(usage=THE_SAME), by_body(87, 31))
invoked(
    "AI21, Jurassic",
    {"prompt": {"tokens": [{}] * 6}, "completions": [{"data": {"text": p.TEXT, "tokens": [{}] * 8}}]},
    by_body(8, 6),
)
invoked("DeepSeek", {"choices": [INVOKED]}, by_body(7, estimated=True), model="us.deepseek.r1-v1:0")
invoked(
    "gpt-oss",
    {**p.chat(), "model": "openai.gpt-oss-20b-1:0"},
    by_body(503, 23, cached_input_tokens=16, reasoning_tokens=441),
    model="openai.gpt-oss-20b-1:0",
)
invoked("unknown body", {"answer": p.TEXT}, by_body(None))
invoked("no JSON", b"\x00\x01", by_body(None))
invoked("odd headers", MESSAGE, by_body(90, 12), headers=dict.fromkeys(HEADERS, "many"))


@shape("invoke, the body is never read", answer(MESSAGE, headers=HEADERS), INVOKE)
async def _(run: Run) -> None:
    hang_up(await invokes(run))


@shape("invoke, the body is read at once", answer(MESSAGE), by_body(90, 12))
async def _(run: Run) -> None:
    response = run.client.invoke_model(modelId=CLAUDE, body="{}")
    run.note(await run.wait((await run.wait(response))["body"].read()))


@shape("invoke, the body is read in pieces", answer(MESSAGE), by_body(90, 12))
async def _(run: Run) -> None:
    body = await invokes(run)
    pieces = [await run.wait(body.read(7)), await run.wait(body.read(amt=11))]
    run.note(pieces, [piece async for piece in run.each(body.iter_chunks(64))], await run.wait(body.read()))


@shape("invoke, the body is read by lines", answer(json.dumps(MESSAGE, indent=1).encode()), by_body(90, 12))
async def _(run: Run) -> None:
    body = await invokes(run)
    run.note([line async for line in run.each(body.iter_lines())])


@shape("invoke, the body is iterated", answer(MESSAGE), by_body(90, 12))
async def _(run: Run) -> None:
    run.note([piece async for piece in run.each(await invokes(run))])


@shape("invoke, the body is dropped", answer(MESSAGE), by_body(None, status="abandoned"))
async def _(run: Run) -> None:
    hang_up((await run.wait(run.client.invoke_model(modelId=CLAUDE, body="{}")))["body"])


# --- streams of invoke_model


def invoked_stream(name: str, frames: Callable[[], Iterable[bytes]], *expected: Expected, model: str = CLAUDE) -> None:
    @shape(f"invoke stream, {name}", events(frames), *expected)
    async def _(run: Run) -> None:
        response = await run.wait(run.client.invoke_model_with_response_stream(modelId=model, body="{}"))
        run.see(response)
        await reads(run, run.see(response["body"]))


def stream_by_body(output_tokens: int | None, input_tokens: int | None = None, **fields: Any) -> Expected:
    return by_body(output_tokens, input_tokens, stream=True, **fields)


CUT_OFF = {"event_type": "stream-end", "is_finished": True, "finish_reason": "COMPLETE"}

invoked_stream("Anthropic", chunks(*p.message_events()), Expected("invoke_model", 317, 2071, 2048, 200, stream=True))
invoked_stream(
    "Anthropic, metrics absent",
    chunks(*p.message_events(), metrics=False),
    stream_by_body(317, 2065, cached_input_tokens=2048, reasoning_tokens=200),
)
invoked_stream("Titan", chunks(*({"outputText": word, "index": 0} for word in p.WORDS)), INVOKE_STREAM)
invoked_stream(
    "Titan, metrics absent",
    chunks({"outputText": p.TEXT, "inputTextTokenCount": 5, "totalOutputTextTokenCount": 39}, metrics=False),
    stream_by_body(39, 5),
)
invoked_stream(
    "Llama, metrics absent",
    chunks(
        {"generation": "Water ", "prompt_token_count": 9, "generation_token_count": 1, "stop_reason": None},
        {"generation": "boils.", "prompt_token_count": None, "generation_token_count": 42, "stop_reason": "stop"},
        metrics=False,
    ),
    stream_by_body(42, 9),
    model=LLAMA,
)
invoked_stream(
    "Nova, metrics absent",
    chunks(
        {"messageStart": {"role": "assistant"}},
        *({"contentBlockDelta": {"delta": {"text": word}}} for word in p.WORDS),
        {"metadata": {"usage": USAGE}},
        metrics=False,
    ),
    stream_by_body(503, 2071, cached_input_tokens=2048),
    model=NOVA,
)
invoked_stream("Mistral", chunks(*({"outputs": [{"text": word, "stop_reason": None}]} for word in p.WORDS)), INVOKE_STREAM)
invoked_stream(
    "Cohere, metrics absent",
    chunks(*({"event_type": "text-generation", "text": word} for word in p.WORDS), CUT_OFF, metrics=False),
    stream_by_body(7, estimated=True),
)
invoked_stream("gpt-oss", chunks(*p.chat_chunks(usage=False)), INVOKE_STREAM, model="openai.gpt-oss-120b-1:0")
invoked_stream(
    "gpt-oss, metrics absent",
    chunks(*p.chat_chunks(usage=False), metrics=False),
    stream_by_body(7, estimated=True),
    model="openai.gpt-oss-120b-1:0",
)
invoked_stream("no JSON", lambda: [chunk(b"\x00\x01")], stream_by_body(None))


@shape(
    "invoke stream, closed early",
    events(lambda: map(chunk, p.endless_message())),
    stream_by_body(2001, 2065, cached_input_tokens=2048, reasoning_tokens=200, status="abandoned", estimated=True),
)
async def _(run: Run) -> None:
    response = await run.wait(run.client.invoke_model_with_response_stream(modelId=CLAUDE, body="{}"))
    await run.take(response["body"], 4)
    response["body"].close()
    disconnects(run)


# --- what is no request to a model that generates


@shape("embeddings", answer({"embedding": [0.5], "inputTextTokenCount": 3}))
async def _(run: Run) -> None:
    response = await run.wait(run.client.invoke_model(modelId="amazon.titan-embed-text-v2:0", body="{}"))
    run.note(await run.wait(response["body"].read()), "impacts" in vars(response["body"]))


@shape("an image", answer({"images": ["aGk="]}))
async def _(run: Run) -> None:
    response = await run.wait(run.client.invoke_model(modelId="stability.sd3-5-large-v1:0", body="{}"))
    run.note(await run.wait(response["body"].read()))


@shape("a guardrail", answer({"usage": {}, "action": "NONE", "outputs": [], "assessments": []}))
async def _(run: Run) -> None:
    content = [{"text": {"text": QUESTION}}]
    ask = {"guardrailIdentifier": "abc", "guardrailVersion": "1", "source": "INPUT", "content": content}
    run.see(await run.wait(run.client.apply_guardrail(**ask)), carries=False)


# --- faults


def fault(status: int, name: str) -> None:
    refused = answer({"message": "no"}, status, {"x-amzn-errortype": name})

    def wanted(endpoint: str, *, stream: bool = False) -> Expected:
        return Expected(endpoint, None, status="error", error_type=name, stream=stream)

    @shape(f"fault, {status}", refused, wanted("converse"), wanted("invoke_model"))
    async def _(run: Run) -> None:
        await run.fails(lambda: run.client.converse(**ASK))
        await run.fails(lambda: run.client.invoke_model(modelId=CLAUDE, body="{}"))

    @shape(f"fault, {status}, stream", refused, wanted("converse", stream=True))
    async def _(run: Run) -> None:
        await run.fails(lambda: run.client.converse_stream(**ASK))


fault(400, "ValidationException")
fault(403, "AccessDeniedException")
fault(429, "ThrottlingException")
fault(500, "InternalServerException")


@shape("fault, wrong arguments", answer(converse()))
async def _(run: Run) -> None:
    await run.fails(lambda: run.client.converse(modelId=NOVA, messages=7))
    await run.fails(lambda: run.client.converse(messages=[]))
    await run.fails(lambda: run.client.invoke_model(modelId=CLAUDE, prompt=QUESTION))
    run.note(len(run.server.received))


if not DIRECTIONS:

    @shape(
        "cancelled",
        Reply(waits=True),
        Expected("converse", None, status="cancelled", error_type="CancelledError"),
        only="async",
    )
    async def _(run: Run) -> None:
        await run.cancels(run.client.converse(**ASK))


def retried() -> Script:
    """The service is busy once."""
    numbers = itertools.count(1)

    def script(_request: Received) -> Reply:
        if next(numbers) == 1:
            return Reply(429, b'{"message": "busy"}', headers={"x-amzn-errortype": "ThrottlingException"})
        return Reply(body=json.dumps(converse()).encode(), headers={"x-amzn-requestid": "r-2"})

    return script


@shape("retried by the SDK", retried, CONVERSE, client="retrying")
async def _(run: Run) -> None:
    await asks(run)
    run.note(len(run.server.received))
