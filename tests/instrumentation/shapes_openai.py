"""Every way to call OpenAI's SDK."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import payloads as p
from harness import Expected, Run, Shape, collect, registering
from pydantic import BaseModel
from server import Received, Reply, Script, as_json, sse

ASK: Any = {"model": p.MODEL, "messages": [{"role": "user", "content": "How does water boil?"}]}
INPUT: Any = {"model": p.MODEL, "input": "How does water boil?"}
CHAT = Expected("chat.completions", 503, 23, 16, 441)
CHAT_STREAM = Expected("chat.completions", 503, 23, 16, 441, stream=True)
CHAT_ESTIMATE = Expected("chat.completions", 7, estimated=True, stream=True)  # 28 characters
RESPONSE = Expected("responses", 87, 31, 8, 64)
RESPONSE_STREAM = Expected("responses", 87, 31, 8, 64, stream=True)
USAGE = {"stream_options": {"include_usage": True}}
TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "strict": True, "parameters": {"type": "object", "properties": {}}},
}


class Answer(BaseModel):
    boils_at: int


ANSWER = '{"boils_at": 100}'

SHAPES: list[Shape] = []


shape = registering(SHAPES)


def retrying() -> Script:
    attempts = itertools.count()
    busy = as_json({"error": {"message": "busy"}}, 429, **{"retry-after-ms": "1"})
    return lambda _request: busy if next(attempts) < 2 else as_json(p.chat())


def background() -> Script:
    polls = itertools.count()

    def script(request: Received) -> Reply:
        if request.method == "POST":
            return as_json(p.response(status="queued", background=True))
        return as_json(p.response(status="completed" if next(polls) >= 2 else "in_progress", background=True))

    return script


def chat_sse(*, usage: bool) -> Callable[[], Reply]:
    return lambda: sse(p.chat_chunks(usage=usage), done=True)


# --- chat completions ---------------------------------------------------------------------------------------------------


@shape("chat", as_json(p.chat()), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.chat.completions.create(**ASK)))


@shape("chat, next turn", as_json(p.chat()), CHAT, CHAT)
async def _(run: Run) -> None:
    first = await run.wait(run.client.chat.completions.create(**ASK))
    turn = [*ASK["messages"], first.choices[0].message, {"role": "user", "content": "And salt?"}]
    run.see(await run.wait(run.client.chat.completions.create(model=p.MODEL, messages=turn)))
    run.note(run.server.received[-1].body)


CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": p.TOOL_ARGUMENTS}}


@shape("chat, tool call", as_json(p.chat(None, finish_reason="tool_calls", tool_calls=[CALL])), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.chat.completions.create(**ASK, tools=[TOOL])))


@shape("chat, copied client", as_json(p.chat()), CHAT, CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.with_options(timeout=30).chat.completions.create(**ASK)))
    run.see(await run.wait(run.client.copy().chat.completions.create(**ASK)))


@shape("chat, retried", retrying, CHAT)
async def _(run: Run) -> None:
    client = run.client.with_options(max_retries=2)
    run.see(await run.wait(client.chat.completions.create(**ASK)))
    run.note(len(run.server.received))


@shape("chat, posted by hand", as_json(p.chat()), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.post("/chat/completions", body=ASK, cast_to=object)), carries=False)


@shape("chat, parse", as_json(p.chat(ANSWER)), CHAT, needs="chat.completions.parse")
async def _(run: Run) -> None:
    parsed = await run.wait(run.client.chat.completions.parse(**ASK, response_format=Answer))
    run.note(parsed.choices[0].message.parsed)
    run.see(parsed)


@shape("chat, beta parse", as_json(p.chat(ANSWER)), CHAT, needs="beta.chat.completions.parse")
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.beta.chat.completions.parse(**ASK, response_format=Answer)))


@shape(
    "chat, parse cut off by length",
    as_json(p.chat('{"boils', finish_reason="length")),
    Expected("chat.completions", 503, 23, 16, 441, status="error", error_type="LengthFinishReasonError"),
    needs="chat.completions.parse",
)
async def _(run: Run) -> None:
    await run.fails(lambda: run.client.chat.completions.parse(**ASK, response_format=Answer))


@shape(
    "chat, parse invalid",
    as_json(p.chat('{"boils_at": "never"}')),
    Expected("chat.completions", 503, 23, 16, 441, status="error", error_type="ValidationError"),
    needs="chat.completions.parse",
)
async def _(run: Run) -> None:
    await run.fails(lambda: run.client.chat.completions.parse(**ASK, response_format=Answer))


# --- chat streams


async def read_chat_stream(run: Run, **options: Any) -> list[Any]:
    stream = await run.wait(run.client.chat.completions.create(**ASK, stream=True, **options))
    run.note(type(stream), stream.response.status_code, hasattr(stream, "close"))
    items = [item async for item in run.each(stream)]
    for item in items[:-1]:
        run.see(item, carries=False)
    run.see(items[-1])
    run.note(stream.response.is_closed)
    run.carriers.append(stream)
    return items


@shape("chat stream, with usage", chat_sse(usage=True), CHAT_STREAM)
async def _(run: Run) -> None:
    await read_chat_stream(run, **USAGE)


@shape("chat stream, without usage", chat_sse(usage=False), CHAT_ESTIMATE)
async def _(run: Run) -> None:
    await read_chat_stream(run)


@shape("chat stream, tool call", lambda: sse(p.tool_chunks(usage=True), done=True), CHAT_STREAM)
async def _(run: Run) -> None:
    await read_chat_stream(run, **USAGE, tools=[TOOL])


@shape(
    "chat stream, tool call without usage",
    lambda: sse(p.tool_chunks(usage=False), done=True),
    Expected("chat.completions", 6, estimated=True, stream=True),  # the name and the arguments: 23 characters
)
async def _(run: Run) -> None:
    await read_chat_stream(run, tools=[TOOL])


@shape(
    "chat stream, usage asked for us",
    lambda: lambda request: sse(p.chat_chunks(usage="stream_options" in request.body), done=True),
    CHAT_STREAM,
    settings={"request_stream_usage": True},
    same_wire=False,
)
async def _(run: Run) -> None:
    stream = await run.wait(run.client.chat.completions.create(**ASK, stream=True))
    items = [item async for item in run.each(stream)]
    run.note([item.choices[0].delta.content for item in items])
    run.carriers += [items[-1], stream]


@shape("chat stream, context manager", chat_sse(usage=True), CHAT_STREAM)
async def _(run: Run) -> None:
    async with run.entering(await run.wait(run.client.chat.completions.create(**ASK, stream=True, **USAGE))) as stream:
        run.note([item.model_dump() async for item in run.each(stream)])
    run.carriers.append(stream)


@shape("chat stream, next()", chat_sse(usage=True), CHAT_STREAM)
async def _(run: Run) -> None:
    stream = await run.wait(run.client.chat.completions.create(**ASK, stream=True, **USAGE))
    if run.asynchronous:
        first = await stream.__anext__()
    else:
        first = next(stream)
    run.see(first, carries=False)
    run.note([item.model_dump() async for item in run.each(stream)])
    run.carriers.append(stream)


ABANDONED = Expected("chat.completions", 2001, estimated=True, stream=True, status="abandoned")


@shape("chat stream, closed early", lambda: sse(p.endless_chunks()), ABANDONED)
async def _(run: Run) -> None:
    stream = await run.wait(run.client.chat.completions.create(**ASK, stream=True))
    await run.take(stream, 2)
    await run.wait(stream.close())
    run.disconnects()
    run.carriers.append(stream)


@shape("chat stream, left early", lambda: sse(p.endless_chunks()), ABANDONED)
async def _(run: Run) -> None:
    async with run.entering(await run.wait(run.client.chat.completions.create(**ASK, stream=True))) as stream:
        await run.take(stream, 2)
    run.disconnects()
    run.carriers.append(stream)


@shape("chat stream, dropped", lambda: sse(p.endless_chunks()), ABANDONED, only="sync")
async def _(run: Run) -> None:
    stream = run.client.chat.completions.create(**ASK, stream=True)
    for _ in range(2):
        next(stream)
    del stream
    collect()  # the SDK's own stream is part of a cycle
    run.disconnects()


@shape("chat stream, an error raised in the loop", lambda: sse(p.endless_chunks()), ABANDONED)
async def _(run: Run) -> None:
    async def consume() -> None:
        async with run.entering(await run.wait(run.client.chat.completions.create(**ASK, stream=True))) as stream:
            count = 0
            async for _ in run.each(stream):
                count += 1
                if count == 2:
                    raise KeyError("mine")

    await run.fails(consume)
    run.disconnects()


@shape(
    "chat stream, never read",
    lambda: sse(p.endless_chunks()),
    Expected("chat.completions", None, stream=True, status="abandoned"),
)
async def _(run: Run) -> None:
    stream = await run.wait(run.client.chat.completions.create(**ASK, stream=True))
    await run.wait(stream.close())
    run.disconnects()


@shape(
    "chat stream, broken connection",
    lambda: sse(p.chat_chunks(usage=False)[:4], cut=True),
    Expected(
        "chat.completions",
        4,
        estimated=True,
        stream=True,
        status="error",
        error_type="APIConnectionError|RemoteProtocolError",
    ),
)
async def _(run: Run) -> None:
    stream = await run.wait(run.client.chat.completions.create(**ASK, stream=True))

    async def consume() -> None:
        async for item in run.each(stream):
            run.see(item, carries=False)

    await run.fails(consume)
    run.carriers.append(stream)


@shape(
    "chat stream, error event",
    lambda: sse([*p.chat_chunks(usage=False)[:4], {"error": {"message": "overloaded", "type": "server_error"}}]),
    Expected("chat.completions", 4, estimated=True, stream=True, status="error", error_type="APIError"),
)
async def _(run: Run) -> None:
    stream = await run.wait(run.client.chat.completions.create(**ASK, stream=True))

    async def consume() -> None:
        async for item in run.each(stream):
            run.see(item, carries=False)

    await run.fails(consume)


# --- the chat helper


@shape("chat helper", chat_sse(usage=True), CHAT_STREAM, needs="chat.completions.stream")
async def _(run: Run) -> None:
    async with run.entering(run.client.chat.completions.stream(**ASK, **USAGE)) as stream:
        run.note(type(stream))
        events = [event async for event in run.each(stream)]
        final = await run.wait(stream.get_final_completion())
    for event in events[:-1]:
        run.see(event, carries=False)
    run.see(events[-1])
    run.see(final)
    run.carriers.append(stream)


@shape("chat helper, beta", chat_sse(usage=True), CHAT_STREAM, needs="beta.chat.completions.stream")
async def _(run: Run) -> None:
    async with run.entering(run.client.beta.chat.completions.stream(**ASK, **USAGE)) as stream:
        run.see(await run.wait(stream.get_final_completion()))
    run.carriers.append(stream)


@shape(
    "chat helper, parsed",
    lambda: sse(p.chat_chunks(usage=True, words=['{"boils_at"', ": 100}"]), done=True),
    CHAT_STREAM,
    needs="chat.completions.stream",
)
async def _(run: Run) -> None:
    async with run.entering(run.client.chat.completions.stream(**ASK, **USAGE, response_format=Answer)) as stream:
        final = await run.wait(stream.get_final_completion())
    run.note(final.choices[0].message.parsed)
    run.see(final)


@shape(
    "chat helper, left early",
    lambda: sse(p.endless_chunks()),
    Expected("chat.completions", 1001, estimated=True, stream=True, status="abandoned"),
    needs="chat.completions.stream",
)
async def _(run: Run) -> None:
    async with run.entering(run.client.chat.completions.stream(**ASK)) as stream:
        await run.take(stream, 1)
    run.disconnects()
    run.carriers.append(stream)


# --- raw responses


@shape("chat raw, parsed", as_json(p.chat()), CHAT)
async def _(run: Run) -> None:
    raw = await run.wait(run.client.chat.completions.with_raw_response.create(**ASK))
    run.note(type(raw), raw.status_code, raw.headers["x-request-id"], raw.text, raw.retries_taken, repr(raw))
    first, again = raw.parse(), raw.parse()
    run.note(first is again)
    run.see(first)
    run.carriers.append(raw)


@shape("chat raw, not parsed", as_json(p.chat()), CHAT)
async def _(run: Run) -> None:
    raw = await run.wait(run.client.chat.completions.with_raw_response.create(**ASK))
    run.note(raw.http_response.json())


@shape("chat raw stream", chat_sse(usage=True), CHAT_STREAM)
async def _(run: Run) -> None:
    create = run.client.chat.completions.with_raw_response.create
    stream = (await run.wait(create(**ASK, stream=True, **USAGE))).parse()
    run.note(type(stream), [item.model_dump() async for item in run.each(stream)])
    run.carriers.append(stream)


class Cut(BaseModel):
    pass


@shape("chat raw, parsed into another type", as_json(p.chat()), CHAT)
async def _(run: Run) -> None:
    raw = await run.wait(run.client.chat.completions.with_raw_response.create(**ASK))
    run.see(raw.parse(to=dict[str, Any]), carries=False)


@shape("chat streaming response, parsed", as_json(p.chat()), CHAT)
async def _(run: Run) -> None:
    async with run.entering(run.client.chat.completions.with_streaming_response.create(**ASK)) as raw:
        run.note(type(raw), raw.status_code)
        run.see(await run.wait(raw.parse()))
        run.note(await run.wait(raw.json()))


@shape("chat streaming response, json", as_json(p.chat()), CHAT)
async def _(run: Run) -> None:
    async with run.entering(run.client.chat.completions.with_streaming_response.create(**ASK)) as raw:
        run.note(await run.wait(raw.json()))


@shape("chat streaming response, bytes", as_json(p.chat()), CHAT)
async def _(run: Run) -> None:
    async with run.entering(run.client.chat.completions.with_streaming_response.create(**ASK)) as raw:
        run.note(b"".join([part async for part in run.each(raw.iter_bytes(7))]))


@shape("chat streaming response, lines of events", chat_sse(usage=True), CHAT_STREAM)
async def _(run: Run) -> None:
    create = run.client.chat.completions.with_streaming_response.create
    async with run.entering(create(**ASK, stream=True, **USAGE)) as raw:
        run.note([line async for line in run.each(raw.iter_lines())])


@shape("chat streaming response, stream", chat_sse(usage=True), CHAT_STREAM)
async def _(run: Run) -> None:
    create = run.client.chat.completions.with_streaming_response.create
    async with run.entering(create(**ASK, stream=True, **USAGE)) as raw:
        stream = await run.wait(raw.parse())
        run.note(type(stream), [item.model_dump() async for item in run.each(stream)])
    run.carriers.append(stream)


@shape(
    "chat streaming response, left early",
    lambda: sse(p.endless_chunks()),
    Expected("chat.completions", 1001, estimated=True, stream=True, status="abandoned"),
)
async def _(run: Run) -> None:
    create = run.client.chat.completions.with_streaming_response.create
    async with run.entering(create(**ASK, stream=True)) as raw:
        stream = await run.wait(raw.parse())
        await run.take(stream, 1)
    run.disconnects()


# --- responses


@shape("responses", as_json(p.response()), RESPONSE)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.responses.create(**INPUT)))


@shape("responses, beta", as_json(p.response()), RESPONSE, needs="beta.responses.create")
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.beta.responses.create(**INPUT)))


@shape("responses, incomplete", as_json(p.response(status="incomplete")), RESPONSE)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.responses.create(**INPUT)))


@shape("responses, next turn", as_json(p.response()), RESPONSE, RESPONSE)
async def _(run: Run) -> None:
    first = await run.wait(run.client.responses.create(**INPUT))
    turn = [*first.output, {"role": "user", "content": "And salt?"}]
    run.see(await run.wait(run.client.responses.create(model=p.MODEL, input=turn)))
    run.note(run.server.received[-1].body)


@shape("responses, parse", as_json(p.response(text=ANSWER)), RESPONSE, needs="responses.parse")
async def _(run: Run) -> None:
    parsed = await run.wait(run.client.responses.parse(**INPUT, text_format=Answer))
    run.note(parsed.output_parsed)
    run.see(parsed)


@shape(
    "responses, parse invalid",
    as_json(p.response(text='{"boils_at": "never"}')),
    Expected("responses", 87, 31, 8, 64, status="error", error_type="ValidationError"),
    needs="responses.parse",
)
async def _(run: Run) -> None:
    await run.fails(lambda: run.client.responses.parse(**INPUT, text_format=Answer))


@shape("responses raw", as_json(p.response()), RESPONSE)
async def _(run: Run) -> None:
    raw = await run.wait(run.client.responses.with_raw_response.create(**INPUT))
    run.see(raw.parse())


def response_sse(final: str = "completed") -> Callable[[], Reply]:
    return lambda: sse(p.response_events(final), named=True)


async def read_response_stream(run: Run) -> None:
    stream = await run.wait(run.client.responses.create(**INPUT, stream=True))
    run.note(type(stream))
    events = [event async for event in run.each(stream)]
    for event in events[:-1]:
        run.see(event, carries=False)
    run.see(events[-1])
    run.carriers += [events[-1].response, stream]


@shape("responses stream", response_sse(), RESPONSE_STREAM)
async def _(run: Run) -> None:
    await read_response_stream(run)


@shape("responses stream, incomplete", response_sse("incomplete"), RESPONSE_STREAM)
async def _(run: Run) -> None:
    await read_response_stream(run)


@shape(
    "responses stream, failed",
    response_sse("failed"),
    Expected("responses", 7, estimated=True, stream=True),
)
async def _(run: Run) -> None:
    await read_response_stream(run)


@shape(
    "responses stream, left early",
    response_sse(),
    Expected("responses", 4, estimated=True, stream=True, status="abandoned"),
)
async def _(run: Run) -> None:
    async with run.entering(await run.wait(run.client.responses.create(**INPUT, stream=True))) as stream:
        await run.take(stream, 7)


@shape("responses helper", response_sse(), RESPONSE_STREAM, needs="responses.stream")
async def _(run: Run) -> None:
    async with run.entering(run.client.responses.stream(**INPUT)) as stream:
        events = [event async for event in run.each(stream)]
        final = await run.wait(stream.get_final_response())
    run.note(type(stream), [event.type for event in events])
    run.see(events[-1])
    run.see(final)
    run.carriers += [events[-1].response, stream]


@shape("responses in the background", background, RESPONSE)
async def _(run: Run) -> None:
    response = run.see(await run.wait(run.client.responses.create(**INPUT, extra_body={"background": True})))
    for _ in range(4):  # two of them after it was done
        response = run.see(await run.wait(run.client.responses.retrieve(response.id)))


@shape("responses, a stored one fetched", as_json(p.response()))
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.responses.retrieve("resp_1")))


# --- what is no request to a model


@shape("models", as_json({"object": "list", "data": []}))
async def _(run: Run) -> None:
    page = await run.wait(run.client.models.list())
    run.note(type(page), page.data, vars(page).get("impacts"))


# --- other clients


@shape("azure", as_json(p.chat()), Expected("chat.completions", 503, 23, 16, 441, provider="azure_openai"), client="azure")
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.chat.completions.create(**ASK)))
    run.note(run.server.received[-1].path)


@shape(
    "azure stream",
    lambda: sse([p.chunk(None, prompt_filter_results=[]), *p.chat_chunks(usage=True)], done=True),
    Expected("chat.completions", 503, 23, 16, 441, stream=True, provider="azure_openai"),
    client="azure",
)
async def _(run: Run) -> None:
    await read_chat_stream(run, **USAGE)


# --- faults

FAILED = Expected("chat.completions", None, status="error")


def fault(reply: Reply, error_type: str) -> None:
    name = f"fault, {error_type}"

    @shape(name, reply, Expected("chat.completions", None, status="error", error_type=error_type))
    async def _(run: Run) -> None:
        await run.fails(lambda: run.client.chat.completions.create(**ASK))

    @shape(f"{name}, stream", reply, Expected("chat.completions", None, status="error", error_type=error_type, stream=True))
    async def _(run: Run) -> None:
        await run.fails(lambda: run.client.chat.completions.create(**ASK, stream=True))

    @shape(f"{name}, raw", reply, Expected("chat.completions", None, status="error", error_type=error_type))
    async def _(run: Run) -> None:
        await run.fails(lambda: run.client.chat.completions.with_raw_response.create(**ASK))


for status, error_type in (
    (400, "BadRequestError"),
    (401, "AuthenticationError"),
    (404, "NotFoundError"),
    (429, "RateLimitError"),
    (500, "InternalServerError"),
):
    fault(as_json({"error": {"message": "no", "type": "x", "code": "y"}}, status), error_type)


@shape(
    "fault, malformed JSON",
    Reply(body=b'{"id": "chatcmpl-1", "choices": ['),
    Expected("chat.completions", None, status="error", error_type="JSONDecodeError"),
)
async def _(run: Run) -> None:
    await run.fails(lambda: run.client.chat.completions.create(**ASK))


@shape(
    "fault, an HTML page", Reply(body=b"<html>gateway</html>", content_type="text/html"), Expected("chat.completions", None)
)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.chat.completions.create(**ASK)), carries=False)


@shape("fault, wrong arguments", as_json(p.chat()))
async def _(run: Run) -> None:
    await run.fails(lambda: run.client.chat.completions.create(model=p.MODEL))


def odd(name: str, body: Any, expected: Expected) -> None:
    @shape(f"odd, {name}", as_json(body), expected)
    async def _(run: Run) -> None:
        run.see(await run.wait(run.client.chat.completions.create(**ASK)), carries=isinstance(body, dict))


odd("usage null", p.chat(usage=None), Expected("chat.completions", 7, estimated=True))
odd("usage absent", p.chat(usage=p.ABSENT), Expected("chat.completions", 7, estimated=True))
odd("usage empty", p.chat(usage={}), Expected("chat.completions", 7, estimated=True))
odd("usage a text", p.chat(usage="many"), Expected("chat.completions", 7, estimated=True))
odd("usage a list", p.chat(usage=[1, 2]), Expected("chat.completions", 7, estimated=True))
odd(
    "counts as text",
    p.chat(usage={"completion_tokens": "12", "prompt_tokens": None}),
    Expected("chat.completions", 7, estimated=True),
)
odd(
    "counts negative",
    p.chat(usage={"completion_tokens": -5, "prompt_tokens": -1}),
    Expected("chat.completions", 7, estimated=True),
)
odd("counts fractional", p.chat(usage={"completion_tokens": 12.0, "prompt_tokens": 3.5}), Expected("chat.completions", 12))
odd("choices null", {**p.chat(), "choices": None}, CHAT)
odd("choices empty", {**p.chat(), "choices": []}, CHAT)
odd("model absent", {k: v for k, v in p.chat().items() if k != "model"}, CHAT)
odd("model a number", {**p.chat(), "model": 4}, CHAT)
odd("unknown fields", {**p.chat(), "service_tier": "on_demand", "x_groq": {"id": "1"}}, CHAT)
odd("an empty object", {}, Expected("chat.completions", None))
odd("a list", [], Expected("chat.completions", None))
odd("null", None, Expected("chat.completions", None))


CANCELLED = Expected("chat.completions", None, status="cancelled", error_type="CancelledError")


@shape("cancelled", Reply(waits=True), CANCELLED, only="async")
async def _(run: Run) -> None:
    await run.cancels(run.client.chat.completions.create(**ASK))


@shape(
    "cancelled in a stream",
    lambda: sse([*p.chat_chunks(usage=False)[:4], None]),
    Expected("chat.completions", 4, estimated=True, stream=True, status="cancelled", error_type="CancelledError"),
    only="async",
)
async def _(run: Run) -> None:
    started = asyncio.Event()

    async def consume() -> None:
        number = 0
        async for _ in await run.client.chat.completions.create(**ASK, stream=True):
            number += 1
            if number == 4:
                started.set()  # and wait for an item that does not come

    task = asyncio.ensure_future(consume())
    await started.wait()
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError as error:
        run.note(type(error))
    run.server.release.set()


# --- completions, the older API -----------------------------------------------------------------------------------------

FILL: Any = {"model": p.INSTRUCT, "prompt": "Water boils at"}
COMPLETION = Expected("completions", 41, 9)
COMPLETION_STREAM = Expected("completions", 41, 9, stream=True)


@shape("completion", as_json(p.completion(usage=p.COMPLETION_USAGE)), COMPLETION)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.completions.create(**FILL)))


@shape("completion without usage", as_json(p.completion()), Expected("completions", 7, estimated=True))
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.completions.create(**FILL)))


@shape("completion, raw response", as_json(p.completion(usage=p.COMPLETION_USAGE)), COMPLETION)
async def _(run: Run) -> None:
    run.see((await run.wait(run.client.completions.with_raw_response.create(**FILL))).parse())


async def read_completion_stream(run: Run, **options: Any) -> None:
    stream = await run.wait(run.client.completions.create(**FILL, stream=True, **options))
    items = [item async for item in run.each(stream)]
    for item in items[:-1]:
        run.see(item, carries=False)
    run.see(items[-1])
    run.carriers.append(stream)


@shape("completion, stream with usage", lambda: sse(p.completion_chunks(usage=True), done=True), COMPLETION_STREAM)
async def _(run: Run) -> None:
    await read_completion_stream(run, **USAGE)


@shape(
    "completion, stream without usage",
    lambda: sse(p.completion_chunks(usage=False), done=True),
    Expected("completions", 7, estimated=True, stream=True),
)
async def _(run: Run) -> None:
    await read_completion_stream(run)


@shape(
    "completion, stream, usage asked for by us",
    lambda: sse(p.completion_chunks(usage=True), done=True),
    COMPLETION_STREAM,
    settings={"request_stream_usage": True},
    same_wire=False,
)
async def _(run: Run) -> None:
    stream = await run.wait(run.client.completions.create(**FILL, stream=True))
    run.note([item.choices[0].text async for item in run.each(stream) if item.choices])
    run.carriers.append(stream)


# --- embeddings: read, and nothing generated ----------------------------------------------------------------------------

EMBED: Any = {"model": p.EMBEDDER, "input": "Water boils at 100 degrees."}
EMBEDDING = Expected("embeddings", 0, 12, covered=False)


@shape("embedding", as_json(p.embeddings()), EMBEDDING)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.embeddings.create(**EMBED)))


@shape("embedding, floats", as_json(p.embeddings()), EMBEDDING)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.embeddings.create(**EMBED, encoding_format="float")))


@shape("embedding, raw response", as_json(p.embeddings()), EMBEDDING)
async def _(run: Run) -> None:
    run.see((await run.wait(run.client.embeddings.with_raw_response.create(**EMBED))).parse())


@shape("embedding, raw response that nobody parses", as_json(p.embeddings()), EMBEDDING)
async def _(run: Run) -> None:
    await run.wait(run.client.embeddings.with_raw_response.create(**EMBED))


@shape(
    "embedding, refused",
    as_json({"error": {"message": "no"}}, 400),
    Expected("embeddings", 0, status="error", error_type="BadRequestError", covered=False),
)
async def _(run: Run) -> None:
    await run.fails(lambda: run.client.embeddings.create(**EMBED))


@shape(
    "embedding, azure",
    as_json(p.embeddings()),
    Expected("embeddings", 0, 12, covered=False, provider="azure_openai"),
    client="azure",
)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.embeddings.create(**EMBED)))
