"""Every way to call Cohere's SDK."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import payloads as p
from harness import Expected, Run, Shape, collect, registering
from server import Reply, as_json, sse

MODEL = "command-a-03-2025"
ASK: Any = {"model": MODEL, "messages": [{"role": "user", "content": "How does water boil?"}]}
SAY: Any = {"model": MODEL, "message": "How does water boil?"}
USAGE: Any = {
    "billed_units": {"input_tokens": 9.0, "output_tokens": 133.0},
    "tokens": {"input_tokens": 512.0, "output_tokens": 140.0},
    "cached_tokens": 64.0,
}
CHAT = Expected("chat", 140, 512, 64)
STREAM = Expected("chat", 140, 512, 64, stream=True)
ESTIMATE = Expected("chat", 7, estimated=True)
ABANDONED = Expected("chat", 2000, estimated=True, stream=True, status="abandoned")

SHAPES: list[Shape] = []


shape = registering(SHAPES)


def chat(text: Any = p.TEXT, *, usage: Any = USAGE) -> dict[str, Any]:
    message = {"role": "assistant", "content": [{"type": "text", "text": text}]}
    body = {"id": "c1", "finish_reason": "COMPLETE", "message": message}
    return body if usage is p.ABSENT else {**body, "usage": usage}


def piece(text: str) -> dict[str, Any]:
    return {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": text}}}}


def events(*, usage: Any = USAGE) -> Iterator[dict[str, Any]]:
    yield {"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant", "content": []}}}
    yield {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}}
    yield from map(piece, p.WORDS)
    yield {"type": "content-end", "index": 0}
    yield {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}}


def chat_sse(*, usage: Any = USAGE) -> Callable[[], Reply]:
    return lambda: sse(events(usage=usage), named=True)


def endless() -> Reply:
    return sse((piece(f"{number} " + "x" * 3998) for number in itertools.count()), named=True)


# --- v2: chat -----------------------------------------------------------------------------------------------------------


@shape("chat", as_json(chat()), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.chat(**ASK)))


@shape("chat, next turn", as_json(chat()), CHAT, CHAT)
async def _(run: Run) -> None:
    first = await run.wait(run.client.chat(**ASK))
    turn = [*ASK["messages"], first.message, {"role": "user", "content": "And salt?"}]
    run.see(await run.wait(run.client.chat(model=MODEL, messages=turn)))
    run.note(run.server.received[-1].body)


@shape("chat, raw", as_json(chat()), CHAT)
async def _(run: Run) -> None:
    raw = await run.wait(run.client.with_raw_response.chat(**ASK))
    run.note(type(raw), raw.headers)
    run.see(raw.data)
    run.carriers.append(raw)


@shape("chat, the older client's v2", as_json(chat()), CHAT, client="v1", needs="v2")
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.v2.chat(**ASK)))


# --- v2: streams


@shape("chat stream", chat_sse(), STREAM)
async def _(run: Run) -> None:
    answers = run.client.chat_stream(**ASK)
    run.note(len(run.server.received))
    await run.read_generator(answers)


@shape("chat stream, without usage", chat_sse(usage=None), Expected("chat", 7, estimated=True, stream=True))
async def _(run: Run) -> None:
    await run.read_generator(run.client.chat_stream(**ASK))


@shape("chat stream, tools", lambda: sse(tool_events(), named=True), STREAM)
async def _(run: Run) -> None:
    await run.read_generator(run.client.chat_stream(**ASK))


@shape(
    "chat stream, tools without usage",
    lambda: sse(tool_events(usage=None), named=True),
    Expected("chat", 12, estimated=True, stream=True),  # the plan, the name and the arguments: 24, 7 and 16 characters
)
async def _(run: Run) -> None:
    await run.read_generator(run.client.chat_stream(**ASK))


def tool_events(*, usage: Any = USAGE) -> Iterator[dict[str, Any]]:
    called = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    yield {"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant", "content": []}}}
    yield {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I will look at the sky. "}}}
    yield {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": called}}}
    for part in ('{"city": ', '"Lyon"}'):
        arguments = {"function": {"arguments": part}}
        yield {"type": "tool-call-delta", "index": 0, "delta": {"message": {"tool_calls": arguments}}}
    yield {"type": "tool-call-end", "index": 0}
    yield {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": usage}}


@shape("chat stream, raw", chat_sse(), STREAM)
async def _(run: Run) -> None:
    manager = run.client.with_raw_response.chat_stream(**ASK)
    run.note(type(manager), len(run.server.received))
    async with run.entering(manager) as raw:
        run.note(type(raw), raw.headers, len(run.server.received))
        await run.read_generator(raw.data)
    run.carriers.append(raw)


@shape("chat stream, raw, left early", endless, ABANDONED)
async def _(run: Run) -> None:
    async with run.entering(run.client.with_raw_response.chat_stream(**ASK)) as raw:
        await run.take(raw.data, 2)
    run.disconnects()


@shape("chat stream, raw, never read", endless, Expected("chat", None, stream=True, status="abandoned"))
async def _(run: Run) -> None:
    async with run.entering(run.client.with_raw_response.chat_stream(**ASK)):
        pass
    run.disconnects()


@shape("chat stream, raw, an error raised in it", endless, ABANDONED)
async def _(run: Run) -> None:
    async def consume() -> None:
        async with run.entering(run.client.with_raw_response.chat_stream(**ASK)) as raw:
            await run.take(raw.data, 2)
            raise KeyError("mine")

    await run.fails(consume)
    run.disconnects()


@shape("chat stream, raw, never entered", chat_sse())
async def _(run: Run) -> None:
    run.note(type(run.client.with_raw_response.chat_stream(**ASK)), len(run.server.received))


@shape("chat stream, never advanced", chat_sse())
async def _(run: Run) -> None:
    answers = run.client.chat_stream(**ASK)
    await close(answers)
    run.note(len(run.server.received), [item async for item in run.each(answers)])


async def close(generator: Any) -> None:
    if hasattr(generator, "aclose"):
        await generator.aclose()
        collect()
        for _ in range(5):  # generators inside are closed by tasks of the event loop
            await asyncio.sleep(0)
    else:
        generator.close()


@shape("chat stream, closed early", endless, ABANDONED)
async def _(run: Run) -> None:
    answers = run.client.chat_stream(**ASK)
    await run.take(answers, 2)
    await close(answers)
    run.disconnects()
    run.note([item async for item in run.each(answers)])


@shape("chat stream, dropped", endless, ABANDONED, only="sync")
async def _(run: Run) -> None:
    answers = run.client.chat_stream(**ASK)
    for _ in range(2):
        next(answers)
    del answers
    collect()
    run.disconnects()


@shape(
    "chat stream, broken connection",
    lambda: sse(itertools.islice(events(), 4), named=True, cut=True),
    Expected("chat", 3, estimated=True, stream=True, status="error", error_type="RemoteProtocolError"),
)
async def _(run: Run) -> None:
    answers = run.client.chat_stream(**ASK)

    async def consume() -> None:
        async for item in run.each(answers):
            run.see(item, carries=False)

    await run.fails(consume)


# --- v1


def said(**fields: Any) -> dict[str, Any]:
    return {"text": p.TEXT, "generation_id": "g1", "finish_reason": "COMPLETE", "meta": USAGE, **fields}


def lines(items: Iterable[dict[str, Any]]) -> Reply:
    return Reply(content_type="application/stream+json", events=(json.dumps(item).encode() + b"\n" for item in items))


def said_events() -> Iterator[dict[str, Any]]:
    yield {"event_type": "stream-start", "generation_id": "g1", "is_finished": False}
    for word in p.WORDS:
        yield {"event_type": "text-generation", "text": word, "is_finished": False}
    yield {"event_type": "stream-end", "finish_reason": "COMPLETE", "response": said(), "is_finished": True}


@shape("v1 chat", as_json(said()), CHAT, client="v1")
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.chat(**SAY)))


@shape("v1 chat, raw", as_json(said()), CHAT, client="v1")
async def _(run: Run) -> None:
    raw = await run.wait(run.client.with_raw_response.chat(**SAY))
    run.see(raw.data)


@shape("v1 chat, without usage", as_json(said(meta=None)), ESTIMATE, client="v1")
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.chat(**SAY)))


@shape("v1 chat stream", lambda: lines(said_events()), STREAM, client="v1")
async def _(run: Run) -> None:
    await run.read_generator(run.client.chat_stream(**SAY))


def endless_said() -> Reply:
    return lines({"event_type": "text-generation", "text": f"{n} " + "x" * 3998} for n in itertools.count())


@shape("v1 chat stream, closed early", endless_said, ABANDONED, client="v1")
async def _(run: Run) -> None:
    answers = run.client.chat_stream(**SAY)
    await run.take(answers, 2)
    await close(answers)
    run.disconnects()


GENERATED: Any = {"id": "g1", "generations": [{"id": "1", "text": p.TEXT}], "meta": USAGE}


@shape("v1 generate", as_json(GENERATED), Expected("generate", 140, 512, 64), client="v1", needs="generate")
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.generate(model=MODEL, prompt="Water")))


# --- what is no request to a model


@shape("embeddings", as_json({"id": "e", "embeddings": {"float": [[0.5]]}, "texts": ["water"]}))
async def _(run: Run) -> None:
    wanted: Any = {"model": "embed-v4.0", "input_type": "search_query", "embedding_types": ["float"], "texts": ["water"]}
    answer = await run.wait(run.client.v2.embed(**wanted) if hasattr(run.client, "v2") else run.client.embed(**wanted))
    run.note(vars(answer).get("impacts"))


# --- faults


def fault(status: int, error_type: str) -> None:
    wanted = Expected("chat", None, status="error", error_type=error_type)

    @shape(f"fault, {status}", as_json({"message": "no"}, status), wanted)
    async def _(run: Run) -> None:
        await run.fails(lambda: run.client.chat(**ASK))

    @shape(f"fault, {status}, stream", as_json({"message": "no"}, status), Expected(**{**vars(wanted), "stream": True}))
    async def _(run: Run) -> None:
        async def consume() -> None:
            async for _ in run.each(run.client.chat_stream(**ASK)):
                pass

        await run.fails(consume)


fault(400, "BadRequestError")
fault(401, "UnauthorizedError")
fault(404, "NotFoundError")


@shape("fault, wrong arguments", as_json(chat()))
async def _(run: Run) -> None:
    await run.fails(lambda: run.client.chat(model=MODEL))
    await run.fails(lambda: run.client.chat(**ASK, stream=True))
    run.note(len(run.server.received))


def odd(name: str, body: Any, wanted: Expected) -> None:
    @shape(f"odd, {name}", as_json(body), wanted)
    async def _(run: Run) -> None:
        answer = await run.wait(run.client.chat(**ASK))
        run.note(repr(answer))  # the SDK's own serialiser warns of such values
        run.carriers.append(answer)


odd("usage null", chat(usage=None), ESTIMATE)
odd("usage absent", chat(usage=p.ABSENT), ESTIMATE)
odd("usage a text", chat(usage="many"), ESTIMATE)
odd("billed only", chat(usage={"billed_units": USAGE["billed_units"]}), Expected("chat", 133, 9))
odd("counts negative", chat(usage={"tokens": {"output_tokens": -3}}), ESTIMATE)
odd("counts that are texts", chat(usage={"tokens": {"output_tokens": "many"}}), ESTIMATE)
odd("an empty object", {}, Expected("chat", None))


@shape(
    "cancelled",
    Reply(waits=True),
    Expected("chat", None, status="cancelled", error_type="CancelledError"),
    only="async",
)
async def _(run: Run) -> None:
    await run.cancels(run.client.chat(**ASK))
