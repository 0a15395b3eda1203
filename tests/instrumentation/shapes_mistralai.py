"""Every way to call Mistral's SDK."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import payloads as p
from harness import Expected, Run, Shape, collect, registering
from pydantic import BaseModel
from server import Reply, Script, as_json, sse

MODEL = "mistral-small-latest"
ASK: Any = {"model": MODEL, "messages": [{"role": "user", "content": "How does water boil?"}]}
AGENT: Any = {"agent_id": "ag_1", "messages": ASK["messages"]}
FILL: Any = {"model": "codestral-latest", "prompt": "def boil(", "suffix": "return 100"}
CHAT = Expected("chat.completions", 211, 31, 16)
STREAM = Expected("chat.completions", 211, 31, 16, stream=True)
ESTIMATE = Expected("chat.completions", 7, estimated=True)
USAGE: Any = {
    "prompt_tokens": 31,
    "completion_tokens": 211,
    "total_tokens": 242,
    "prompt_tokens_details": {"cached_tokens": 16},
}

SHAPES: list[Shape] = []


shape = registering(SHAPES)


def chat(content: Any = p.TEXT, *, usage: Any = USAGE, **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "tool_calls": None, "prefix": False}
    body = {
        "id": "cmpl-1",
        "object": "chat.completion",
        "created": 1767225600,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        **fields,
    }
    return body if usage is p.ABSENT else {**body, "usage": usage}


def chunk(content: Any, finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish_reason}
    return {"id": "cmpl-1", "object": "chat.completion.chunk", "model": MODEL, "choices": [choice], **fields}


def chunks(*, usage: bool = True) -> list[dict[str, Any]]:
    events = [chunk(word) for word in ("", *p.WORDS)]
    return [*events, chunk("", "stop", usage=USAGE) if usage else chunk("", "stop")]


def chat_sse(*, usage: bool = True) -> Callable[[], Reply]:
    return lambda: sse(chunks(usage=usage), done=True)


def endless() -> Reply:
    return sse(chunk(f"{number} " + "x" * 3998) for number in itertools.count())


class Answer(BaseModel):
    boils_at: int


def call(run: Run, path: str, **arguments: Any) -> Any:
    """The method of a client, of the direction that is tested."""
    method = run.client
    for name in path.split("."):
        method = getattr(method, f"{name}_async" if run.asynchronous and name == path.rpartition(".")[2] else name)
    return method(**arguments)


# --- chat ---------------------------------------------------------------------------------------------------------------


@shape("chat", as_json(chat()), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(call(run, "chat.complete", **ASK)))


@shape("chat, next turn", as_json(chat()), CHAT, CHAT)
async def _(run: Run) -> None:
    first = await run.wait(call(run, "chat.complete", **ASK))
    turn = [*ASK["messages"], first.choices[0].message, {"role": "user", "content": "And salt?"}]
    run.see(await run.wait(call(run, "chat.complete", model=MODEL, messages=turn)))
    run.note(run.server.received[-1].body)


@shape("chat, thinking", as_json(chat([{"type": "thinking", "thinking": [{"type": "text", "text": "x"}]}])), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(call(run, "chat.complete", **ASK)))


@shape("chat, parse", as_json(chat('{"boils_at": 100}')), CHAT)
async def _(run: Run) -> None:
    parsed = await run.wait(call(run, "chat.parse", **ASK, response_format=Answer))
    run.note(parsed.choices[0].message.parsed)
    run.note(parsed.model_dump(mode="json", warnings=False), repr(parsed))
    run.carriers.append(parsed)


@shape("chat, parse invalid", as_json(chat('{"boils_at": "never"}')), CHAT)
async def _(run: Run) -> None:
    await run.fails(lambda: call(run, "chat.parse", **ASK, response_format=Answer))


def retrying() -> Script:
    attempts = itertools.count()
    return lambda _request: as_json({}, 503) if next(attempts) < 2 else as_json(chat())


@shape("chat, retried", retrying, CHAT)
async def _(run: Run) -> None:
    from mistralai.client.utils import BackoffStrategy, RetryConfig

    retries = RetryConfig("backoff", BackoffStrategy(1, 2, 1, 10_000), False)
    run.see(await run.wait(call(run, "chat.complete", **ASK, retries=retries)))
    run.note(len(run.server.received))


@shape("chat, another server", as_json(chat()), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(call(run, "chat.complete", **ASK, server_url=f"{run.server.url}/gateway")))


# --- streams


async def read(run: Run, stream: Any) -> None:
    run.note(type(stream), stream.response.status_code, inspect_generator(stream.generator))
    items = [item async for item in run.each(stream)]
    for item in items[:-1]:
        run.see(item, carries=False)
    run.see(items[-1])
    run.note(stream.response.is_closed)
    run.carriers.append(stream)


def inspect_generator(generator: Any) -> Any:
    return type(generator), generator.__name__, generator.__qualname__


@shape("chat stream", chat_sse(), STREAM)
async def _(run: Run) -> None:
    await read(run, await run.wait(call(run, "chat.stream", **ASK)))


@shape("chat stream, without usage", chat_sse(usage=False), Expected("chat.completions", 7, estimated=True, stream=True))
async def _(run: Run) -> None:
    await read(run, await run.wait(call(run, "chat.stream", **ASK)))


@shape("chat stream, parse", chat_sse(), STREAM)
async def _(run: Run) -> None:
    await read(run, await run.wait(call(run, "chat.parse_stream", **ASK, response_format=Answer)))


@shape("chat stream, context manager", chat_sse(), STREAM)
async def _(run: Run) -> None:
    async with run.entering(await run.wait(call(run, "chat.stream", **ASK))) as stream:
        await read(run, stream)


ABANDONED = Expected("chat.completions", 2000, estimated=True, stream=True, status="abandoned")


@shape("chat stream, left early", endless, ABANDONED)
async def _(run: Run) -> None:
    async with run.entering(await run.wait(call(run, "chat.stream", **ASK))) as stream:
        await run.take(stream, 2)
    run.disconnects()
    run.carriers.append(stream)
    run.note([item async for item in run.each(stream)])


@shape("chat stream, closed early", endless, ABANDONED)
async def _(run: Run) -> None:
    stream = await run.wait(call(run, "chat.stream", **ASK))
    await run.take(stream, 2)
    if hasattr(stream, "close"):
        await run.wait(stream.close())
    else:
        await run.entering(stream).__aexit__(None, None, None)
    run.disconnects()
    run.carriers.append(stream)


@shape("chat stream, dropped", endless, ABANDONED, only="sync")
async def _(run: Run) -> None:
    stream = run.client.chat.stream(**ASK)
    for _ in range(2):
        next(stream)
    del stream
    collect()
    run.disconnects()


@shape("chat stream, never read", endless, Expected("chat.completions", None, stream=True, status="abandoned"))
async def _(run: Run) -> None:
    async with run.entering(await run.wait(call(run, "chat.stream", **ASK))):
        pass
    run.disconnects()


@shape(
    "chat stream, broken connection",
    lambda: sse(chunks()[:4], cut=True),
    Expected("chat.completions", 4, estimated=True, stream=True, status="error", error_type="RemoteProtocolError"),
)
async def _(run: Run) -> None:
    stream = await run.wait(call(run, "chat.stream", **ASK))

    async def consume() -> None:
        async for item in run.each(stream):
            run.see(item, carries=False)

    await run.fails(consume)


# --- agents, fill-in-the-middle, responses


@shape("agents", as_json(chat()), Expected("agents.completions", 211, 31, 16))
async def _(run: Run) -> None:
    run.see(await run.wait(call(run, "agents.complete", **AGENT)))


@shape("agents stream", chat_sse(), Expected("agents.completions", 211, 31, 16, stream=True))
async def _(run: Run) -> None:
    await read(run, await run.wait(call(run, "agents.stream", **AGENT)))


@shape("fim", as_json(chat()), Expected("fim.completions", 211, 31, 16))
async def _(run: Run) -> None:
    run.see(await run.wait(call(run, "fim.complete", **FILL)))


@shape("fim stream", chat_sse(), Expected("fim.completions", 211, 31, 16, stream=True))
async def _(run: Run) -> None:
    await read(run, await run.wait(call(run, "fim.stream", **FILL)))


RESPONSE: Any = {"model": MODEL, "input": "How does water boil?"}


@shape("responses", as_json(p.response()), Expected("responses", 87, 31, 8, 64), needs="responses.create")
async def _(run: Run) -> None:
    run.see(await run.wait(call(run, "responses.create", **RESPONSE)))


@shape(
    "responses stream",
    lambda: sse(p.response_events(), named=True),
    Expected("responses", 87, 31, 8, 64, stream=True),
    needs="responses.create",
)
async def _(run: Run) -> None:
    await read(run, await run.wait(call(run, "responses.create", **RESPONSE, stream=True)))


# --- conversations


CONVERSED: Any = {"prompt_tokens": 41, "completion_tokens": 97, "total_tokens": 138}
CONVERSATION = Expected("conversations", 97, 41)
CONVERSATION_STREAM = Expected("conversations", 97, 41, stream=True)
START: Any = {"model": MODEL, "inputs": "How does water boil?"}


def conversation() -> dict[str, Any]:
    output = {
        "object": "entry",
        "type": "message.output",
        "id": "msg_1",
        "role": "assistant",
        "model": MODEL,
        "content": p.TEXT,
    }
    return {"object": "conversation.response", "conversation_id": "conv_1", "outputs": [output], "usage": CONVERSED}


def conversation_events() -> Iterator[dict[str, Any]]:
    yield {"type": "conversation.response.started", "conversation_id": "conv_1"}
    for word in p.WORDS:
        yield {"type": "message.output.delta", "id": "msg_1", "content": word, "model": MODEL, "role": "assistant"}
    yield {"type": "conversation.response.done", "usage": CONVERSED}


@shape("conversation", as_json(conversation()), CONVERSATION, CONVERSATION, CONVERSATION)
async def _(run: Run) -> None:
    run.see(await run.wait(call(run, "beta.conversations.start", **START)))
    run.see(await run.wait(call(run, "beta.conversations.append", conversation_id="conv_1", inputs="And salt?")))
    again = {"conversation_id": "conv_1", "from_entry_id": "msg_1", "inputs": "And sugar?"}
    run.see(await run.wait(call(run, "beta.conversations.restart", **again)))


@shape(
    "conversation stream",
    lambda: lambda _request: sse(conversation_events(), named=True),
    CONVERSATION_STREAM,
    CONVERSATION_STREAM,
)
async def _(run: Run) -> None:
    await read(run, await run.wait(call(run, "beta.conversations.start_stream", **START)))
    await read(
        run, await run.wait(call(run, "beta.conversations.append_stream", conversation_id="conv_1", inputs="And salt?"))
    )


# --- other clients


@shape("azure", as_json(chat()), Expected("chat.completions", 211, 31, 16, provider="azure_ai"), client="azure")
async def _(run: Run) -> None:
    run.see(await run.wait(call(run, "chat.complete", **ASK)))


@shape(
    "azure stream", chat_sse(), Expected("chat.completions", 211, 31, 16, stream=True, provider="azure_ai"), client="azure"
)
async def _(run: Run) -> None:
    await read(run, await run.wait(call(run, "chat.stream", **ASK)))


@shape("gcp", as_json(chat()), Expected("chat.completions", 211, 31, 16, provider="vertex"), client="gcp")
async def _(run: Run) -> None:
    run.see(await run.wait(call(run, "chat.complete", **ASK)))


@shape("gcp stream", chat_sse(), Expected("chat.completions", 211, 31, 16, stream=True, provider="vertex"), client="gcp")
async def _(run: Run) -> None:
    await read(run, await run.wait(call(run, "chat.stream", **ASK)))


# --- what is no request to a model


@shape("embeddings", as_json({"id": "e", "object": "list", "data": [], "model": "mistral-embed", "usage": USAGE}))
async def _(run: Run) -> None:
    answer = await run.wait(call(run, "embeddings.create", model="mistral-embed", inputs=["water"]))
    run.note(vars(answer).get("impacts"))


# --- faults


def fault(status: int, body: Any, error_type: str) -> None:
    wanted = Expected("chat.completions", None, status="error", error_type=error_type)

    @shape(f"fault, {status}", as_json(body, status), wanted)
    async def _(run: Run) -> None:
        await run.fails(lambda: call(run, "chat.complete", **ASK))

    @shape(f"fault, {status}, stream", as_json(body, status), Expected(**{**vars(wanted), "stream": True}))
    async def _(run: Run) -> None:
        await run.fails(lambda: call(run, "chat.stream", **ASK))


fault(401, {"detail": "no"}, "SDKError")
fault(429, {"message": "busy"}, "SDKError")
fault(422, {"detail": []}, "HTTPValidationError")


@shape("fault, wrong arguments", as_json(chat()))
async def _(run: Run) -> None:
    await run.fails(lambda: call(run, "chat.complete", model=MODEL))
    await run.fails(lambda: call(run, "chat.complete", model=MODEL, messages=7))


def odd(name: str, body: Any, expected: Expected, **options: Any) -> None:
    @shape(f"odd, {name}", as_json(body), expected, **options)
    async def _(run: Run) -> None:
        run.see(await run.wait(call(run, "chat.complete", **ASK)))


odd("counts negative", chat(usage={"prompt_tokens": -1, "completion_tokens": -2, "total_tokens": -3}), ESTIMATE)
odd("counts absent", chat(usage={}), ESTIMATE)
odd("no choices", chat(choices=[]), CHAT)


@shape(
    "odd, usage absent",
    as_json(chat(usage=p.ABSENT)),
    Expected("chat.completions", None, status="error", error_type="ResponseValidationError"),
)
async def _(run: Run) -> None:
    await run.fails(lambda: call(run, "chat.complete", **ASK))


@shape(
    "cancelled",
    Reply(waits=True),
    Expected("chat.completions", None, status="cancelled", error_type="CancelledError"),
    only="async",
)
async def _(run: Run) -> None:
    await run.cancels(run.client.chat.complete_async(**ASK))
