"""Every way to call Anthropic's SDK."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import payloads as p
from harness import Expected, Run, Shape, collect, registering
from pydantic import BaseModel
from server import Received, Reply, Script, as_json, sse

ASK: Any = {"model": p.CLAUDE, "max_tokens": 1000, "messages": [{"role": "user", "content": "How does water boil?"}]}
MESSAGE = Expected("messages", 317, 2065, 2048, 200)
STREAM = Expected("messages", 317, 2065, 2048, 200, stream=True)

SHAPES: list[Shape] = []


class Answer(BaseModel):
    boils_at: int


ANSWER = '{"boils_at": 100}'


shape = registering(SHAPES)


def retrying() -> Script:
    attempts = itertools.count()
    busy = as_json(
        {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, 529, **{"retry-after-ms": "1"}
    )
    return lambda _request: busy if next(attempts) < 2 else as_json(p.message())


def conversation() -> Script:
    turns = itertools.count()
    return lambda _request: as_json(p.tool_use_message() if next(turns) == 0 else p.message())


def streamed_conversation() -> Script:
    turns = itertools.count()

    def script(_request: Received) -> Reply:
        if next(turns):
            return sse(p.message_events(), named=True)
        block = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
        events = p.message_events([])
        events[1] = {"type": "content_block_start", "index": 0, "content_block": block}
        delta = {"type": "input_json_delta", "partial_json": p.TOOL_ARGUMENTS}
        events.insert(3, {"type": "content_block_delta", "index": 0, "delta": delta})
        events[-2]["delta"]["stop_reason"] = "tool_use"
        return sse(events, named=True)

    return script


def message_sse(**options: Any) -> Callable[[], Reply]:
    return lambda: sse(p.message_events(**options), named=True)


def endless() -> Reply:
    return sse(p.endless_message(), named=True)


# --- messages


@shape("messages", as_json(p.message()), MESSAGE)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.messages.create(**ASK)))


@shape("messages, next turn", as_json(p.message()), MESSAGE, MESSAGE)
async def _(run: Run) -> None:
    first = await run.wait(run.client.messages.create(**ASK))
    turn = [*ASK["messages"], {"role": "assistant", "content": first.content}, {"role": "user", "content": "And salt?"}]
    run.see(await run.wait(run.client.messages.create(**{**ASK, "messages": turn})))
    run.note(run.server.received[-1].body)


@shape("messages, tool use", as_json(p.tool_use_message()), MESSAGE)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.messages.create(**ASK)))


@shape("messages, copied client", as_json(p.message()), MESSAGE)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.with_options(timeout=30).messages.create(**ASK)))


@shape("messages, retried", retrying, MESSAGE)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.with_options(max_retries=2).messages.create(**ASK)))
    run.note(len(run.server.received))


@shape("messages, beta", as_json(p.message()), MESSAGE)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.beta.messages.create(**ASK)))


@shape("messages, parse", as_json(p.message([{"type": "text", "text": ANSWER}])), MESSAGE, needs="messages.parse")
async def _(run: Run) -> None:
    parsed = await run.wait(run.client.messages.parse(**ASK, output_format=Answer))
    run.note(parsed.parsed_output)
    run.see(parsed)


@shape("messages, beta parse", as_json(p.message([{"type": "text", "text": ANSWER}])), MESSAGE, needs="beta.messages.parse")
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.beta.messages.parse(**ASK, output_format=Answer)))


@shape(
    "messages, parse invalid",
    as_json(p.message([{"type": "text", "text": '{"boils_at": "never"}'}])),
    Expected("messages", 317, 2065, 2048, 200, status="error", error_type="ValidationError"),
    needs="messages.parse",
)
async def _(run: Run) -> None:
    await run.fails(lambda: run.client.messages.parse(**ASK, output_format=Answer))


NO_CACHE = {"cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
COMPACTED = {
    **p.MESSAGE_USAGE,
    "iterations": [
        {"type": "compaction", "input_tokens": 1000, "output_tokens": 40, **NO_CACHE},
        {"type": "message", "input_tokens": 12, "output_tokens": 317, **NO_CACHE},
    ],
}


@shape(
    "messages, compaction on the server", as_json(p.message(usage=COMPACTED)), Expected("messages", 357, 3065, 2048, 200)
)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.beta.messages.create(**ASK)))


# --- raw responses


@shape("messages raw, parsed", as_json(p.message()), MESSAGE)
async def _(run: Run) -> None:
    raw = await run.wait(run.client.messages.with_raw_response.create(**ASK))
    run.note(type(raw), raw.status_code, raw.headers["request-id"], repr(raw))
    first = await run.wait(raw.parse())
    run.note(first is await run.wait(raw.parse()))
    run.see(first)
    run.carriers.append(raw)


@shape("messages raw, not parsed", as_json(p.message()), MESSAGE)
async def _(run: Run) -> None:
    raw = await run.wait(run.client.messages.with_raw_response.create(**ASK))
    run.note(raw.http_response.json())


@shape("messages raw stream", message_sse(), STREAM)
async def _(run: Run) -> None:
    raw = await run.wait(run.client.messages.with_raw_response.create(**ASK, stream=True))
    stream = await run.wait(raw.parse())
    run.note(type(stream), [event.model_dump() async for event in run.each(stream)])
    run.carriers.append(stream)


@shape("messages streaming response", as_json(p.message()), MESSAGE)
async def _(run: Run) -> None:
    async with run.entering(run.client.messages.with_streaming_response.create(**ASK)) as raw:
        run.note(type(raw))
        run.see(await run.wait(raw.parse()))


@shape("messages streaming response, lines of events", message_sse(), STREAM)
async def _(run: Run) -> None:
    async with run.entering(run.client.messages.with_streaming_response.create(**ASK, stream=True)) as raw:
        run.note([line async for line in run.each(raw.iter_lines())])


# --- streams


@shape("messages stream", message_sse(), STREAM)
async def _(run: Run) -> None:
    stream = await run.wait(run.client.messages.create(**ASK, stream=True))
    run.note(type(stream), stream.response.status_code)
    events = [event async for event in run.each(stream)]
    for event in events[:-1]:
        run.see(event, carries=False)
    run.see(events[-1])
    run.note(stream.response.is_closed)
    run.carriers.append(stream)


@shape("messages stream, beta", message_sse(), STREAM)
async def _(run: Run) -> None:
    async with run.entering(await run.wait(run.client.beta.messages.create(**ASK, stream=True))) as stream:
        run.note([event.model_dump() async for event in run.each(stream)])
    run.carriers.append(stream)


@shape(
    "messages stream, without usage",
    message_sse(usage=False),
    Expected("messages", 7, estimated=True, stream=True),  # 28 characters
)
async def _(run: Run) -> None:
    stream = await run.wait(run.client.messages.create(**ASK, stream=True))
    run.note([event.type async for event in run.each(stream)])
    run.carriers.append(stream)


ABANDONED = Expected("messages", 1001, 2065, 2048, 200, estimated=True, stream=True, status="abandoned")


@shape("messages stream, closed early", endless, ABANDONED)
async def _(run: Run) -> None:
    stream = await run.wait(run.client.messages.create(**ASK, stream=True))
    await run.take(stream, 3)
    await run.wait(stream.close())
    run.disconnects()
    run.carriers.append(stream)


@shape("messages stream, dropped", endless, ABANDONED, only="sync")
async def _(run: Run) -> None:
    stream = run.client.messages.create(**ASK, stream=True)
    for _ in range(3):
        next(stream)
    del stream
    collect()
    run.disconnects()


@shape(
    "messages stream, broken connection",
    lambda: sse(p.message_events(stop=False)[:5], named=True, cut=True),
    Expected(
        "messages",
        3,
        2065,
        2048,
        200,
        estimated=True,
        stream=True,
        status="error",
        error_type="RemoteProtocolError|APIConnectionError",
    ),
)
async def _(run: Run) -> None:
    stream = await run.wait(run.client.messages.create(**ASK, stream=True))

    async def consume() -> None:
        async for event in run.each(stream):
            run.see(event, carries=False)

    await run.fails(consume)


OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}


@shape(
    "messages stream, error event",
    lambda: sse([*p.message_events(stop=False)[:5], OVERLOADED], named=True),
    Expected("messages", 3, 2065, 2048, 200, estimated=True, stream=True, status="error", error_type="APIStatusError"),
)
async def _(run: Run) -> None:
    stream = await run.wait(run.client.messages.create(**ASK, stream=True))

    async def consume() -> None:
        async for event in run.each(stream):
            run.see(event, carries=False)

    await run.fails(consume)


# --- the helper


@shape("messages helper", message_sse(), STREAM)
async def _(run: Run) -> None:
    async with run.entering(run.client.messages.stream(**ASK)) as stream:
        run.note(type(stream))
        events = [event async for event in run.each(stream)]
        final = await run.wait(stream.get_final_message())
    for event in events[:-1]:
        run.see(event, carries=False)
    run.see(events[-1])
    run.see(final)
    run.carriers += [events[-1].message, stream]


@shape("messages helper, text only", message_sse(), STREAM)
async def _(run: Run) -> None:
    async with run.entering(run.client.messages.stream(**ASK)) as stream:
        run.note([text async for text in run.each(stream.text_stream)])
    run.carriers.append(stream)


@shape("messages helper, final message only", message_sse(), STREAM)
async def _(run: Run) -> None:
    async with run.entering(run.client.messages.stream(**ASK)) as stream:
        run.see(await run.wait(stream.get_final_message()))


@shape("messages helper, final text only", message_sse(), STREAM)
async def _(run: Run) -> None:
    async with run.entering(run.client.messages.stream(**ASK)) as stream:
        run.note(await run.wait(stream.get_final_text()))


@shape("messages helper, beta", message_sse(), STREAM)
async def _(run: Run) -> None:
    async with run.entering(run.client.beta.messages.stream(**ASK)) as stream:
        events = [event.type async for event in run.each(stream)]
        run.see(await run.wait(stream.get_final_message()))
    run.note(events)
    run.carriers.append(stream)


@shape("messages helper, left early", endless, ABANDONED)
async def _(run: Run) -> None:
    async with run.entering(run.client.messages.stream(**ASK)) as stream:
        await run.take(stream, 3)
    run.disconnects()
    run.carriers.append(stream)


# --- the tool runner


@shape("tool runner", conversation, MESSAGE, MESSAGE, needs="beta.messages.tool_runner")
async def _(run: Run) -> None:
    runner = run.client.beta.messages.tool_runner(**ASK, tools=[weather(run)])
    async for message in run.each(runner):
        run.see(message)
    run.note([request.body for request in run.server.received])


@shape("tool runner, until done", conversation, MESSAGE, MESSAGE, needs="beta.messages.tool_runner")
async def _(run: Run) -> None:
    runner = run.client.beta.messages.tool_runner(**ASK, tools=[weather(run)])
    run.see(await run.wait(runner.until_done()))


@shape("tool runner, streamed", streamed_conversation, STREAM, STREAM, needs="beta.messages.tool_runner")
async def _(run: Run) -> None:
    runner = run.client.beta.messages.tool_runner(**ASK, tools=[weather(run)], stream=True)
    async for stream in run.each(runner):
        run.note([event.type async for event in run.each(stream)])
        run.see(await run.wait(stream.get_final_message()))


def weather(run: Run) -> Any:
    from anthropic import beta_async_tool, beta_tool

    def weather(city: str) -> str:
        """The weather in a city."""
        return f"Rain in {city}"

    async def weather_async(city: str) -> str:
        """The weather in a city."""
        return weather(city)

    if run.asynchronous:
        return beta_async_tool(weather_async, name="weather")
    return beta_tool(weather, name="weather")


# --- other clients


BEDROCK = Expected("messages", 317, 2065, 2048, 200, provider="bedrock")


@shape("bedrock", as_json(p.message()), BEDROCK, BEDROCK, client="bedrock")
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.messages.create(**ASK)))
    run.note(run.server.received[-1].path)
    run.see(await run.wait(run.client.beta.messages.create(**ASK)))


@shape("vertex", as_json(p.message()), Expected("messages", 317, 2065, 2048, 200, provider="vertex"), client="vertex")
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.messages.create(**ASK)))


@shape("vertex, beta", as_json(p.message()), Expected("messages", 317, 2065, 2048, 200, provider="vertex"), client="vertex")
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.beta.messages.create(**ASK)))


@shape(
    "vertex, stream",
    message_sse(),
    Expected("messages", 317, 2065, 2048, 200, stream=True, provider="vertex"),
    client="vertex",
)
async def _(run: Run) -> None:
    async with run.entering(run.client.messages.stream(**ASK)) as stream:
        run.see(await run.wait(stream.get_final_message()))


# --- what is no request to a model


@shape("token counting", as_json({"input_tokens": 12}), needs="messages.count_tokens")
async def _(run: Run) -> None:
    counted = await run.wait(run.client.messages.count_tokens(model=p.CLAUDE, messages=ASK["messages"]))
    run.note(counted.input_tokens, vars(counted).get("impacts"))


# --- faults


def fault(status: int, error_type: str) -> None:
    reply = as_json({"type": "error", "error": {"type": "x", "message": "no"}}, status)

    @shape(f"fault, {error_type}", reply, Expected("messages", None, status="error", error_type=error_type))
    async def _(run: Run) -> None:
        await run.fails(lambda: run.client.messages.create(**ASK))

    @shape(
        f"fault, {error_type}, helper",
        reply,
        Expected("messages", None, status="error", error_type=error_type, stream=True),
    )
    async def _(run: Run) -> None:
        async def enter() -> None:
            async with run.entering(run.client.messages.stream(**ASK)):
                pass

        await run.fails(enter)


for code, error in (
    (400, "BadRequestError"),
    (401, "AuthenticationError"),
    (429, "RateLimitError"),
    (529, "OverloadedError|InternalServerError"),
):
    fault(code, error)


def odd(name: str, body: Any, expected: Expected) -> None:
    @shape(f"odd, {name}", as_json(body), expected)
    async def _(run: Run) -> None:
        run.see(await run.wait(run.client.messages.create(**ASK)), carries=isinstance(body, dict))


ESTIMATE = Expected("messages", 7, estimated=True)

odd("usage null", p.message(usage=None), ESTIMATE)
odd("usage absent", p.message(usage=p.ABSENT), ESTIMATE)
odd("usage a text", p.message(usage="many"), ESTIMATE)
odd("counts null", p.message(usage={"input_tokens": None, "output_tokens": None}), ESTIMATE)
odd("counts negative", p.message(usage={"input_tokens": -1, "output_tokens": -2}), ESTIMATE)
odd(
    "iterations odd",
    p.message(usage={"output_tokens": 9, "iterations": [None, 4, {"type": "compaction"}]}),
    Expected("messages", 9),
)
odd("content null", {**p.message(), "content": None}, MESSAGE)
odd("unknown block", p.message([{"type": "hologram", "data": 1}]), MESSAGE)
odd("an empty object", {}, Expected("messages", None))
odd("a list", [], Expected("messages", None))


@shape(
    "cancelled",
    Reply(waits=True),
    Expected("messages", None, status="cancelled", error_type="CancelledError"),
    only="async",
)
async def _(run: Run) -> None:
    await run.cancels(run.client.messages.create(**ASK))
