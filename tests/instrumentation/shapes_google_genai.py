"""Every way to call Google's SDK."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
from collections.abc import Callable
from typing import Any

import payloads as p
import pytest
from harness import Expected, Run, Shape, collect, registering
from pydantic import BaseModel
from server import Received, Reply, Script, as_json, sse

MODEL = "gemini-2.5-flash"
ASK: Any = {"model": MODEL, "contents": "How does water boil?"}
USAGE: Any = {
    "promptTokenCount": 40,
    "toolUsePromptTokenCount": 3,
    "candidatesTokenCount": 70,
    "thoughtsTokenCount": 300,
    "cachedContentTokenCount": 32,
    "totalTokenCount": 413,
}
CONTENT = Expected("generate_content", 370, 43, 32, 300)
STREAM = Expected("generate_content", 370, 43, 32, 300, stream=True)

SHAPES: list[Shape] = []


shape = registering(SHAPES)


def part_of(value: str | dict[str, Any]) -> dict[str, Any]:
    return {"text": value} if isinstance(value, str) else value


def content(
    part: str | dict[str, Any] | None = p.TEXT, *, usage: Any = USAGE, finish: str | None = "STOP", **fields: Any
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": [part_of(part)] if part else []}}
    if finish:
        candidate["finishReason"] = finish
    body = {"candidates": [candidate], "modelVersion": MODEL, "responseId": "resp-1", **fields}
    return body if usage is p.ABSENT else {**body, "usageMetadata": usage}


def running(thoughts: int, shown: int) -> dict[str, Any]:
    return {**USAGE, "thoughtsTokenCount": thoughts, "candidatesTokenCount": shown}


def chunks(*, usage: bool = True) -> list[dict[str, Any]]:
    totals: list[Any] = [running(300, number) for number in (10, 20, 40, 60)]
    totals = totals if usage else [p.ABSENT] * 4
    events = [content(word, usage=total, finish=None) for word, total in zip(p.WORDS, totals, strict=False)]
    return [*events, content(p.WORDS[-1], usage=USAGE if usage else p.ABSENT)]


def stream(*, usage: bool = True) -> Callable[[], Reply]:
    return lambda: sse(chunks(usage=usage))


def endless() -> Reply:
    return sse(content(f"{number} " + "x" * 3998, usage=p.ABSENT, finish=None) for number in itertools.count())


def models(run: Run) -> Any:
    return run.client.models


class Answer(BaseModel):
    boils_at: int


# --- generate_content ---------------------------------------------------------------------------------------------------


@shape("content", as_json(content()), CONTENT)
async def _(run: Run) -> None:
    run.see(await run.wait(models(run).generate_content(**ASK)))


@shape("content, next turn", as_json(content()), CONTENT, CONTENT)
async def _(run: Run) -> None:
    first = await run.wait(models(run).generate_content(**ASK))
    turn = ["How does water boil?", first.candidates[0].content, "And salt?"]
    run.see(await run.wait(models(run).generate_content(model=MODEL, contents=turn)))
    run.note(run.server.received[-1].body)


@shape("content, a tool call", as_json(content({"functionCall": {"name": "weather", "args": {"city": "Lyon"}}})), CONTENT)
async def _(run: Run) -> None:
    declared = {"name": "weather", "description": "The weather", "parameters": {"type": "OBJECT", "properties": {}}}
    run.see(await run.wait(models(run).generate_content(**ASK, config={"tools": [{"function_declarations": [declared]}]})))


@shape("content, parsed", as_json(content('{"boils_at": 100}')), CONTENT)
async def _(run: Run) -> None:
    config = {"response_mime_type": "application/json", "response_schema": Answer}
    answer = await run.wait(models(run).generate_content(**ASK, config=config))
    run.note(answer.parsed)
    run.note(answer.model_dump(mode="json", exclude={"parsed"}, warnings=False))
    run.carriers.append(answer)


@shape("content, with a call of its own options", as_json(content()), CONTENT)
async def _(run: Run) -> None:
    run.see(await run.wait(models(run).generate_content(**ASK, config={"http_options": {"timeout": 9000}})))


@shape(
    "content, blocked",
    as_json({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 8}}),
    Expected("generate_content", None, 8),
)
async def _(run: Run) -> None:
    run.see(await run.wait(models(run).generate_content(**ASK)))


# --- streams


async def open_stream(run: Run, **options: Any) -> Any:
    return await run.wait(models(run).generate_content_stream(**ASK, **options))


async def read(run: Run, answers: Any) -> list[Any]:
    run.note(type(answers), inspect.isgenerator(answers), inspect.isasyncgen(answers), answers.__qualname__)
    items = [item async for item in run.each(answers)]
    for item in items[:-1]:
        run.see(item, carries=False)
    run.see(items[-1])
    return items


@shape("content stream", stream(), STREAM)
async def _(run: Run) -> None:
    await read(run, await open_stream(run))


@shape("content stream, without usage", stream(usage=False), Expected("generate_content", 7, estimated=True, stream=True))
async def _(run: Run) -> None:
    await read(run, await open_stream(run))


@shape("content stream, never read", stream())
async def _(run: Run) -> None:
    answers = await open_stream(run)
    run.note(len(run.server.received))
    await close(answers)
    run.note(len(run.server.received))


ABANDONED = Expected("generate_content", 2000, estimated=True, stream=True, status="abandoned")


@shape("content stream, closed early", endless, ABANDONED)
async def _(run: Run) -> None:
    answers = await open_stream(run)
    await run.take(answers, 2)
    await close(answers)
    run.note([item async for item in run.each(answers)])


@shape("content stream, dropped", endless, ABANDONED, only="sync")
async def _(run: Run) -> None:
    answers = await open_stream(run)
    for _ in range(2):
        next(answers)
    del answers
    collect()


async def close(generator: Any) -> None:
    if hasattr(generator, "aclose"):
        await generator.aclose()
        collect()
        for _ in range(3):  # generators inside are closed by tasks of the event loop
            await asyncio.sleep(0)
    else:
        generator.close()


@shape(
    "content stream, an error raised into it",
    endless,
    Expected("generate_content", 1000, estimated=True, stream=True, status="abandoned"),
)
async def _(run: Run) -> None:
    answers = await open_stream(run)
    await run.take(answers, 1)
    await run.fails(lambda: answers.athrow(KeyError("mine")) if run.asynchronous else answers.throw(KeyError("mine")))
    collect()
    for _ in range(3):
        await asyncio.sleep(0)


@shape(
    "content stream, fault inside",
    lambda: sse([*chunks()[:3], {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}]),
    Expected("generate_content", 340, 43, 32, 300, stream=True, status="error", error_type="ServerError"),
)
async def _(run: Run) -> None:
    from google.genai import errors

    if not hasattr(errors.APIError, "raise_error"):
        pytest.skip("this version of the SDK passes such an event on as an empty chunk")
    await fails_inside(run)


@shape(
    "content stream, broken connection",
    lambda: sse(chunks()[:3], cut=True),
    Expected(
        "generate_content",
        340,
        43,
        32,
        300,
        stream=True,
        status="error",
        error_type="RemoteProtocolError|ClientPayloadError",
    ),
)
async def _(run: Run) -> None:
    await fails_inside(run)


async def fails_inside(run: Run) -> None:
    answers = await open_stream(run)

    async def consume() -> None:
        async for item in run.each(answers):
            run.see(item, carries=False)

    await run.fails(consume)


# --- chats


def last(run: Run) -> None:
    run.note(run.server.received[-1].body)


@shape("chat", as_json(content()), CONTENT, CONTENT)
async def _(run: Run) -> None:
    chat = run.client.chats.create(model=MODEL)
    run.see(await run.wait(chat.send_message("How does water boil?")))
    run.see(await run.wait(chat.send_message("And salt?")))
    last(run)


@shape("chat stream", lambda: lambda _request: sse(chunks()), STREAM, STREAM)
async def _(run: Run) -> None:
    chat = run.client.chats.create(model=MODEL)
    await read(run, await run.wait(chat.send_message_stream("How does water boil?")))
    await read(run, await run.wait(chat.send_message_stream("And salt?")))
    last(run)


# --- automatic function calling: as many requests as the model asks for, each with its own usage


def calling(*, streamed: bool) -> Callable[[], Script]:
    def script(request: Received) -> Reply:
        answered = "functionResponse" in json.dumps(request.body)
        body = (
            content()
            if answered
            else content({"functionCall": {"name": "weather", "args": {"city": "Lyon"}}}, usage=running(100, 7))
        )
        return sse([body]) if streamed else as_json(body)

    return lambda: script


FIRST = Expected("generate_content", 107, 43, 32, 100)


def tools(run: Run) -> Any:
    def weather(city: str) -> str:
        """The weather in a city."""
        run.note("called", city)
        return f"Rain in {city}"

    weather.__annotations__ = {"city": str, "return": str}  # old versions of the SDK cannot read them as texts
    return {"tools": [weather]}


@shape("function calling", calling(streamed=False), FIRST, CONTENT)
async def _(run: Run) -> None:
    answer = await run.wait(models(run).generate_content(**ASK, config=tools(run)))
    run.see(answer)
    run.note(len(answer.automatic_function_calling_history))


@shape("function calling, streamed", calling(streamed=True), Expected(**{**vars(FIRST), "stream": True}), STREAM)
async def _(run: Run) -> None:
    items = [item async for item in run.each(await open_stream(run, config=tools(run)))]
    for item in items:
        run.see(item)


@shape("function calling, chat", calling(streamed=False), FIRST, CONTENT)
async def _(run: Run) -> None:
    chat = run.client.chats.create(model=MODEL, config=tools(run))
    run.see(await run.wait(chat.send_message("How is the weather in Lyon?")))
    last(run)


# --- Vertex AI


VERTEX = Expected("generate_content", 370, 43, 32, 300, provider="vertex")


@shape("vertex", as_json(content()), VERTEX, client="vertex")
async def _(run: Run) -> None:
    run.see(await run.wait(models(run).generate_content(**ASK)))


@shape("vertex stream", stream(), Expected(**{**vars(VERTEX), "stream": True}), client="vertex")
async def _(run: Run) -> None:
    await read(run, await open_stream(run))


# --- the unparsed answer


@shape("content, raw", as_json(content()), CONTENT)
async def _(run: Run) -> None:
    from google.genai import types

    if "should_return_http_response" not in types.GenerateContentConfig.model_fields:
        pytest.skip("this version of the SDK gives no raw answers")
    answer = await run.wait(models(run).generate_content(**ASK, config={"should_return_http_response": True}))
    run.see(answer)
    run.note(answer.sdk_http_response.body)


# --- what is no request to a model


@shape("token counting", as_json({"totalTokens": 12}))
async def _(run: Run) -> None:
    counted = await run.wait(models(run).count_tokens(**ASK))
    run.note(counted.total_tokens, vars(counted).get("impacts"))


# --- faults


def fault(status: int, error_type: str) -> None:
    reply = as_json({"error": {"code": status, "message": "no", "status": "X"}}, status)
    wanted = Expected("generate_content", None, status="error", error_type=error_type)

    @shape(f"fault, {status}", reply, wanted)
    async def _(run: Run) -> None:
        await run.fails(lambda: models(run).generate_content(**ASK))

    @shape(f"fault, {status}, stream", reply, Expected(**{**vars(wanted), "stream": True}))
    async def _(run: Run) -> None:
        answers = await open_stream(run)

        async def consume() -> None:
            async for _ in run.each(answers):
                pass

        await run.fails(consume)


fault(400, "ClientError")
fault(404, "ClientError")


@shape("fault, wrong arguments", as_json(content()))
async def _(run: Run) -> None:
    await run.fails(lambda: models(run).generate_content(model=MODEL))
    await run.fails(lambda: models(run).generate_content(**ASK, config={"no_such_setting": 1}))


def odd(name: str, body: Any, wanted: Expected) -> None:
    @shape(f"odd, {name}", as_json(body), wanted)
    async def _(run: Run) -> None:
        run.see(await run.wait(models(run).generate_content(**ASK)))


ESTIMATE = Expected("generate_content", 7, estimated=True)

odd("usage absent", content(usage=p.ABSENT), ESTIMATE)
odd("usage empty", content(usage={}), ESTIMATE)
odd("usage null", content(usage=None), ESTIMATE)
odd("counts negative", content(usage={"candidatesTokenCount": -7}), ESTIMATE)
odd("thoughts only", content(None, usage={"thoughtsTokenCount": 64}), Expected("generate_content", 64, None, None, 64))
odd("an empty object", {}, Expected("generate_content", None))


@shape(
    "odd, counts that are texts",
    as_json(content(usage={"candidatesTokenCount": "many"})),
    Expected("generate_content", None, status="error", error_type="ValidationError"),
)
async def _(run: Run) -> None:
    await run.fails(lambda: models(run).generate_content(**ASK))


@shape(
    "cancelled",
    Reply(waits=True),
    Expected("generate_content", None, status="cancelled", error_type="CancelledError"),
    only="async",
)
async def _(run: Run) -> None:
    await run.cancels(models(run).generate_content(**ASK))
