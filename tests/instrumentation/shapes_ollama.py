"""Every way to call Ollama's SDK."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from typing import Any

import payloads as p
from harness import Expected, Run, Shape, close, registering
from server import Reply, as_json

MODEL = "meta-llama/Meta-Llama-3.1-8B-Instruct"
ASK: Any = {"model": MODEL, "messages": [{"role": "user", "content": "How does water boil?"}]}
FILL: Any = {"model": MODEL, "prompt": "How does water boil?"}
COUNTS: Any = {"prompt_eval_count": 26, "eval_count": 191, "total_duration": 4_000_000, "eval_duration": 3_000_000}
CHAT = Expected("chat", 191, 26)
STREAM = Expected("chat", 191, 26, stream=True)
GENERATE = Expected("generate", 191, 26)
ESTIMATE = Expected("chat", 7, estimated=True)
ABANDONED = Expected("chat", 2000, estimated=True, stream=True, status="abandoned")

SHAPES: list[Shape] = []


shape = registering(SHAPES)


def chat(text: str = p.TEXT, *, done: bool = True, counts: Any = COUNTS, **message: Any) -> dict[str, Any]:
    body = {
        "model": MODEL,
        "created_at": "2026-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": text, **message},
        "done": done,
    }
    return {**body, **counts, "done_reason": "stop"} if done else body


def generated(text: str = p.TEXT, *, done: bool = True) -> dict[str, Any]:
    body = {"model": MODEL, "created_at": "2026-01-01T00:00:00Z", "response": text, "done": done}
    return {**body, **COUNTS, "done_reason": "stop"} if done else body


def lines(items: Iterable[dict[str, Any]], *, cut: bool = False) -> Reply:
    events = (json.dumps(item).encode() + b"\n" for item in items)
    return Reply(content_type="application/x-ndjson", events=events, cut=cut)


def chat_lines(*, counts: Any = COUNTS) -> Callable[[], Reply]:
    return lambda: lines([*(chat(word, done=False) for word in p.WORDS), chat("", counts=counts)])


def endless() -> Reply:
    return lines(chat(f"{number} " + "x" * 3998, done=False) for number in itertools.count())


# --- chat ---------------------------------------------------------------------------------------------------------------


@shape("chat", as_json(chat()), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.chat(**ASK)))


@shape("chat, positional", as_json(chat()), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.chat(MODEL, ASK["messages"])))


@shape("chat, next turn", as_json(chat()), CHAT, CHAT)
async def _(run: Run) -> None:
    first = await run.wait(run.client.chat(**ASK))
    turn = [*ASK["messages"], first.message, {"role": "user", "content": "And salt?"}]
    run.see(await run.wait(run.client.chat(model=MODEL, messages=turn)))
    run.note(run.server.received[-1].body)


CALL = {"function": {"name": "weather", "arguments": {"city": "Lyon"}}}


@shape("chat, tool call", as_json(chat("", tool_calls=[CALL])), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.chat(**ASK)))


@shape(
    "chat, tool call without counts",
    as_json(chat("", counts={}, tool_calls=[CALL])),
    Expected("chat", 6, estimated=True),  # the name and the arguments: 7 and 16 characters
)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.chat(**ASK)))


@shape("chat stream", chat_lines(), STREAM)
async def _(run: Run) -> None:
    answers = await run.wait(run.client.chat(**ASK, stream=True))
    run.note(len(run.server.received))
    await run.read_generator(answers)


@shape("chat stream, without counts", chat_lines(counts={}), Expected("chat", 7, estimated=True, stream=True))
async def _(run: Run) -> None:
    await run.read_generator(await run.wait(run.client.chat(**ASK, stream=True)))


@shape("chat stream, never advanced", chat_lines())
async def _(run: Run) -> None:
    answers = await run.wait(run.client.chat(**ASK, stream=True))
    await close(answers)
    run.note(len(run.server.received), [item async for item in run.each(answers)])


@shape("chat stream, next() and send()", chat_lines(), STREAM)
async def _(run: Run) -> None:
    answers = await run.wait(run.client.chat(**ASK, stream=True))
    if run.asynchronous:
        items = [await answers.__anext__(), await answers.asend(None), await answers.asend("ignored")]
    else:
        items = [next(answers), answers.send(None), answers.send("ignored")]
    for item in items:
        run.see(item, carries=False)
    await run.read_generator(answers)


@shape("chat stream, send() too early", chat_lines())
async def _(run: Run) -> None:
    answers = await run.wait(run.client.chat(**ASK, stream=True))
    await run.fails(lambda: answers.asend("x") if run.asynchronous else answers.send("x"))
    run.note(len(run.server.received))
    await close(answers)


@shape("chat stream, closed early", endless, ABANDONED)
async def _(run: Run) -> None:
    answers = await run.wait(run.client.chat(**ASK, stream=True))
    await run.take(answers, 2)
    await close(answers)
    run.disconnects()
    run.note([item async for item in run.each(answers)])


@shape("chat stream, dropped", endless, ABANDONED, only="sync")
async def _(run: Run) -> None:
    answers = run.client.chat(**ASK, stream=True)
    for _ in range(2):
        next(answers)
    del answers
    run.disconnects()


@shape(
    "chat stream, an error raised into it",
    endless,
    Expected("chat", 1000, estimated=True, stream=True, status="error", error_type="KeyError"),
)
async def _(run: Run) -> None:
    answers = await run.wait(run.client.chat(**ASK, stream=True))
    await run.take(answers, 1)
    await run.fails(lambda: answers.athrow(KeyError("mine")) if run.asynchronous else answers.throw(KeyError("mine")))
    run.disconnects()


async def fails_inside(run: Run) -> None:
    answers = await run.wait(run.client.chat(**ASK, stream=True))

    async def consume() -> None:
        async for item in run.each(answers):
            run.see(item, carries=False)

    await run.fails(consume)


@shape(
    "chat stream, fault inside",
    lambda: lines([chat("Water ", done=False), {"error": "out of memory"}]),
    Expected("chat", 2, estimated=True, stream=True, status="error", error_type="ResponseError"),
)
async def _(run: Run) -> None:
    await fails_inside(run)


@shape(
    "chat stream, broken connection",
    lambda: lines([chat("Water ", done=False)], cut=True),
    Expected("chat", 2, estimated=True, stream=True, status="error", error_type="RemoteProtocolError"),
)
async def _(run: Run) -> None:
    await fails_inside(run)


# --- generate


@shape("generate", as_json(generated()), GENERATE)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.generate(**FILL)))


@shape(
    "generate stream",
    lambda: lines([*(generated(word, done=False) for word in p.WORDS), generated("")]),
    Expected("generate", 191, 26, stream=True),
)
async def _(run: Run) -> None:
    await run.read_generator(await run.wait(run.client.generate(**FILL, stream=True)))


# --- what is no request to a model that generates


@shape("embeddings", as_json({"model": MODEL, "embeddings": [[0.5]], "prompt_eval_count": 3}))
async def _(run: Run) -> None:
    answer = await run.wait(run.client.embed(MODEL, "water"))
    run.note(vars(answer).get("impacts"))


@shape("models", as_json({"models": []}))
async def _(run: Run) -> None:
    run.note(repr(await run.wait(run.client.list())))


@shape("pull, streamed", lambda: lines([{"status": "pulling"}, {"status": "success"}]))
async def _(run: Run) -> None:
    run.note([repr(item) async for item in run.each(await run.wait(run.client.pull(MODEL, stream=True)))])


# --- faults


def fault(status: int) -> None:
    wanted = Expected("chat", None, status="error", error_type="ResponseError")

    @shape(f"fault, {status}", as_json({"error": "no"}, status), wanted)
    async def _(run: Run) -> None:
        await run.fails(lambda: run.client.chat(**ASK))

    @shape(f"fault, {status}, stream", as_json({"error": "no"}, status), Expected(**{**vars(wanted), "stream": True}))
    async def _(run: Run) -> None:
        await fails_inside(run)


fault(404)
fault(500)


@shape("fault, wrong arguments", as_json(chat()))
async def _(run: Run) -> None:
    await run.fails(lambda: run.client.chat(model=MODEL, messages=7))
    await run.fails(lambda: run.client.chat(model=MODEL, options=7))
    run.note(len(run.server.received))


def odd(name: str, body: Any, wanted: Expected) -> None:
    @shape(f"odd, {name}", as_json(body), wanted)
    async def _(run: Run) -> None:
        run.see(await run.wait(run.client.chat(**ASK)))


odd("counts absent", chat(counts={}), ESTIMATE)
odd("counts null", chat(counts={"eval_count": None}), ESTIMATE)
odd("counts negative", chat(counts={"eval_count": -3}), ESTIMATE)
odd("cached prompt", chat(counts={"eval_count": 9}), Expected("chat", 9))


@shape(
    "odd, counts that are texts",
    as_json(chat(counts={"eval_count": "many"})),
    Expected("chat", None, status="error", error_type="ValidationError"),
)
async def _(run: Run) -> None:
    await run.fails(lambda: run.client.chat(**ASK))


@shape(
    "cancelled",
    Reply(waits=True),
    Expected("chat", None, status="cancelled", error_type="CancelledError"),
    only="async",
)
async def _(run: Run) -> None:
    await run.cancels(run.client.chat(**ASK))
