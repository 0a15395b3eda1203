"""Every way to call LiteLLM's SDK. Its providers' SDKs lie below it: what is counted there, too, would be counted twice."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import litellm
import payloads as p
from harness import Expected, Run, Shape, collect, registering
from litellm.caching.caching import Cache
from pydantic import BaseModel
from server import Reply, Script, as_json, sse

MESSAGES: Any = [{"role": "user", "content": "How does water boil?"}]
ASK: Any = {"model": f"openai/{p.MODEL}", "messages": MESSAGES}
CLAUDE: Any = {"model": f"anthropic/{p.CLAUDE}", "messages": MESSAGES}
INPUT: Any = {"model": f"openai/{p.MODEL}", "input": "How does water boil?"}
USAGE = {"stream_options": {"include_usage": True}}
CHAT = Expected("chat.completions", 503, 23, 16, 441)
CHAT_STREAM = Expected("chat.completions", 503, 23, 16, 441, stream=True)
CHAT_ESTIMATE = Expected("chat.completions", 7, estimated=True, stream=True)  # 28 characters
MESSAGE = Expected("chat.completions", 317, 2065, 2048, 200, provider="anthropic")
MESSAGE_STREAM = Expected("chat.completions", 317, 2065, 2048, 200, provider="anthropic", stream=True)
RESPONSE = Expected("responses", 87, 31, 8, 64)
RESPONSE_STREAM = Expected("responses", 87, 31, 8, 64, stream=True)
ABANDONED = Expected("chat.completions", 2001, estimated=True, stream=True, status="abandoned")


def failed(error: str, **fields: Any) -> Expected:
    return Expected("chat.completions", None, status="error", error_type=error, **fields)


class Client:
    """LiteLLM's functions, or a router's, pointed at the local server; the asynchronous ones under the same names."""

    def __init__(self, functions: Any, asynchronous: bool, **options: Any) -> None:
        self._functions = functions
        self._asynchronous = asynchronous
        self._options = options

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._functions, f"a{name}" if self._asynchronous else name)
        return lambda *args, **kwargs: function(*args, **{**self._options, **kwargs})


def make(_provider: str, kind: str, url: str, *, asynchronous: bool) -> Client:
    options: dict[str, Any] = {"api_key": "test", "api_base": f"{url}/v1", "max_retries": 0}
    if kind == "anthropic":
        return Client(litellm, asynchronous, **{**options, "api_base": url})
    if kind == "router":
        names = (("main", "openai/gpt-4o"), ("other", f"openai/{p.MODEL}"))
        models = [{"model_name": name, "litellm_params": {"model": model, **options}} for name, model in names]
        return Client(litellm.Router(model_list=models, num_retries=0, fallbacks=[{"main": ["other"]}]), asynchronous)
    return Client(litellm, asynchronous, **options)


SHAPES: list[Shape] = []
shape = registering(SHAPES)


class Answer(BaseModel):
    boils_at: int


TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": p.TOOL_ARGUMENTS}}


def chat_sse(*, usage: bool) -> Any:
    return lambda: sse(p.chat_chunks(usage=usage), done=True)


def message_sse() -> Reply:
    """Without running totals in between, which LiteLLM takes for the end."""
    running = [e for e in p.message_events() if e["type"] == "message_delta"][:-1]
    return sse([e for e in p.message_events() if e not in running], named=True)


def busy_at_first(good: Any, status: int = 500) -> Any:
    """The first request fails; ``good`` makes the answer to the others."""

    def script() -> Script:
        attempts = itertools.count()
        error = as_json({"error": {"message": "busy", "type": "server_error"}}, status)
        return lambda _request: good() if next(attempts) else error

    return script


# --- completions, plain -------------------------------------------------------------------------------------------------


@shape("completion", as_json(p.chat()), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.completion(**ASK)))


@shape("completion, by position", as_json(p.chat()), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.completion(ASK["model"], MESSAGES)))


@shape("completion, next turn", as_json(p.chat()), CHAT, CHAT)
async def _(run: Run) -> None:
    first = await run.wait(run.client.completion(**ASK))
    turn = [*MESSAGES, first.choices[0].message, {"role": "user", "content": "And salt?"}]
    run.see(await run.wait(run.client.completion(model=ASK["model"], messages=turn)))
    run.note(run.server.received[-1].body)


@shape("completion, tool call", as_json(p.chat(None, finish_reason="tool_calls", tool_calls=[CALL])), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.completion(**ASK, tools=[TOOL])))


@shape("completion, a class as format", as_json(p.chat('{"boils_at": 100}')), CHAT)
async def _(run: Run) -> None:
    answer = run.see(await run.wait(run.client.completion(**ASK, response_format=Answer)))
    run.note(Answer.model_validate_json(answer.choices[0].message.content).boils_at)


@shape("completion, without usage", as_json(p.chat(usage=p.ABSENT)), Expected("chat.completions", 7, estimated=True))
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.completion(**ASK)))


@shape("completion, read as a dict", as_json(p.chat()), CHAT)
async def _(run: Run) -> None:
    answer = await run.wait(run.client.completion(**ASK))
    run.note(answer.json(), answer.to_dict(), answer["choices"][0]["message"]["content"])
    run.carriers.append(answer)


@shape("completion, many at once", as_json(p.chat()), CHAT, CHAT, CHAT, only="async")
async def _(run: Run) -> None:
    for answer in await asyncio.gather(*(run.client.completion(**ASK) for _ in range(3))):
        run.see(answer)


@shape("completion, a batch", as_json(p.chat()), CHAT, CHAT, only="sync")
async def _(run: Run) -> None:
    for answer in run.client.batch_completion(ASK["model"], [MESSAGES, MESSAGES]):
        run.see(answer)


# --- completions, streamed


async def read_stream(run: Run, stream: Any) -> None:
    run.note(type(stream))
    items = [item async for item in run.each(stream)]
    for item in items[:-1]:
        run.see(item, carries=False)
    run.see(items[-1])
    run.carriers.append(stream)


@shape("stream, with usage", chat_sse(usage=True), CHAT_STREAM)
async def _(run: Run) -> None:
    await read_stream(run, await run.wait(run.client.completion(**ASK, stream=True, **USAGE)))


@shape("stream, without usage", chat_sse(usage=False), CHAT_ESTIMATE)
async def _(run: Run) -> None:
    await read_stream(run, await run.wait(run.client.completion(**ASK, stream=True)))


@shape("stream, usage asked for and not sent", chat_sse(usage=False), CHAT_ESTIMATE)
async def _(run: Run) -> None:
    await read_stream(run, await run.wait(run.client.completion(**ASK, stream=True, **USAGE)))


@shape("stream, tool call", lambda: sse(p.tool_chunks(usage=True), done=True), CHAT_STREAM)
async def _(run: Run) -> None:
    await read_stream(run, await run.wait(run.client.completion(**ASK, stream=True, tools=[TOOL], **USAGE)))


@shape("stream, built into an answer", chat_sse(usage=True), CHAT_STREAM)
async def _(run: Run) -> None:
    stream = await run.wait(run.client.completion(**ASK, stream=True, **USAGE))
    chunks = [item async for item in run.each(stream)]
    run.see(litellm.stream_chunk_builder(chunks, messages=MESSAGES), carries=False)
    run.carriers.append(stream)


@shape("stream, closed early", lambda: sse(p.endless_chunks()), ABANDONED, only="async")
async def _(run: Run) -> None:
    stream = await run.wait(run.client.completion(**ASK, stream=True))
    await run.take(stream, 2)
    await stream.aclose()
    run.carriers.append(stream)


@shape("stream, dropped", lambda: sse(p.endless_chunks()), ABANDONED, only="sync")
async def _(run: Run) -> None:
    stream = run.client.completion(**ASK, stream=True)
    for _ in range(2):
        next(stream)
    del stream
    collect()


@shape(
    "stream, never read",
    lambda: sse(p.endless_chunks()),
    Expected("chat.completions", None, stream=True, status="abandoned"),
    only="async",
)
async def _(run: Run) -> None:
    stream = await run.client.completion(**ASK, stream=True)
    await stream.aclose()


@shape(
    "stream, broken connection",
    lambda: sse(p.chat_chunks(usage=False)[:4], cut=True),
    Expected(
        "chat.completions",
        4,
        estimated=True,
        stream=True,
        status="error",
        error_type="MidStreamFallbackError|APIConnectionError|InternalServerError|APIError",
    ),
)
async def _(run: Run) -> None:
    stream = await run.wait(run.client.completion(**ASK, stream=True))

    async def consume() -> None:
        async for item in run.each(stream):
            run.see(item, carries=False)

    await run.fails(consume)
    run.carriers.append(stream)


# --- errors


@shape("refused", as_json({"error": {"message": "no", "type": "invalid"}}, 401), failed("AuthenticationError"))
async def _(run: Run) -> None:
    await run.fails(lambda: run.client.completion(**ASK))


@shape(
    "refused stream",
    as_json({"error": {"message": "no", "type": "invalid"}}, 401),
    failed("AuthenticationError", stream=True),
)
async def _(run: Run) -> None:
    await run.fails(lambda: run.client.completion(**ASK, stream=True))


@shape("unknown provider: no request", as_json(p.chat()))
async def _(run: Run) -> None:
    await run.fails(lambda: run.client.completion(model="no-such-model", messages=MESSAGES, api_base=None))


@shape("unsupported argument: no request", as_json(p.message()), client="anthropic")
async def _(run: Run) -> None:
    await run.fails(lambda: run.client.completion(**CLAUDE, logit_bias={"1": 2}))


@shape(
    "cancelled",
    Reply(waits=True),
    Expected("chat.completions", None, status="cancelled", error_type="CancelledError"),
    only="async",
)
async def _(run: Run) -> None:
    await run.cancels(run.client.completion(**ASK))


@shape("tried again by the SDK below", busy_at_first(lambda: as_json(p.chat())), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.completion(**ASK, num_retries=1)))
    run.note(len(run.server.received))


@shape(
    "tried again",
    busy_at_first(lambda: as_json(p.message())),
    failed("InternalServerError", provider="anthropic"),
    MESSAGE,
    client="anthropic",
)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.completion(**CLAUDE, num_retries=1)))
    run.note(len(run.server.received))


@shape("another model in its place", busy_at_first(lambda: as_json(p.chat())), failed("InternalServerError"), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.completion(**{**ASK, "model": "openai/gpt-4o"}, fallbacks=[ASK["model"]])))
    run.note([request.body["model"] for request in run.server.received])


# --- other providers, which LiteLLM asks without their SDKs


@shape("Claude", as_json(p.message()), MESSAGE, client="anthropic")
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.completion(**CLAUDE)))


@shape("Claude, streamed", message_sse, MESSAGE_STREAM, client="anthropic")
async def _(run: Run) -> None:
    await read_stream(run, await run.wait(run.client.completion(**CLAUDE, stream=True)))


@shape("Claude, by a compatible endpoint", as_json({**p.chat(), "model": p.CLAUDE}), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.completion(model=f"openai/{p.CLAUDE}", messages=MESSAGES)))


@shape(
    "Groq",
    as_json({**p.chat(), "model": "llama-3.3-70b-versatile", "service_tier": None}),
    Expected("chat.completions", 503, 23, 16, 441, provider="groq"),
)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.completion(model="groq/llama-3.3-70b-versatile", messages=MESSAGES)))


# --- text completions


TEXT_BODY = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1767225600,
    "model": "gpt-3.5-turbo-instruct",
    "choices": [{"index": 0, "text": p.TEXT, "logprobs": None, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 23, "completion_tokens": 503, "total_tokens": 526},
}
PROMPT: Any = {"model": "text-completion-openai/gpt-3.5-turbo-instruct", "prompt": "How does water boil?"}


def text_sse() -> Reply:
    parts = [{"index": 0, "text": word, "logprobs": None, "finish_reason": None} for word in p.WORDS]
    parts[-1]["finish_reason"] = "stop"
    events = [{**TEXT_BODY, "choices": [part], "usage": None} for part in parts]
    return sse([*events, {**TEXT_BODY, "choices": []}], done=True)


@shape("text completion", as_json(TEXT_BODY), Expected("completions", 503, 23))
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.text_completion(**PROMPT)))


@shape("text completion, streamed", text_sse, Expected("completions", 7, estimated=True, stream=True))
async def _(run: Run) -> None:
    await read_stream(run, await run.wait(run.client.text_completion(**PROMPT, stream=True)))


@shape(
    "text completion of a chat model",
    as_json(p.message()),
    MESSAGE_TEXT := Expected("completions", 317, 2065, 2048, 200, provider="anthropic"),
    client="anthropic",
)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.text_completion(model=CLAUDE["model"], prompt="How does water boil?")))


# --- responses


@shape("responses", as_json(p.response()), RESPONSE)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.responses(**INPUT)))


@shape("responses, streamed", lambda: sse(p.response_events(), named=True), RESPONSE_STREAM)
async def _(run: Run) -> None:
    await read_stream(run, await run.wait(run.client.responses(**INPUT, stream=True)))


@shape(
    "responses, refused",
    as_json({"error": {"message": "no"}}, 401),
    Expected("responses", None, status="error", error_type="AuthenticationError"),
)
async def _(run: Run) -> None:
    await run.fails(lambda: run.client.responses(**INPUT))


@shape("responses by way of chat", as_json(p.message()), MESSAGE, client="anthropic")
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.responses(model=CLAUDE["model"], input="How does water boil?")))


@shape("responses by way of chat, streamed", message_sse, MESSAGE_STREAM, client="anthropic")
async def _(run: Run) -> None:
    stream = await run.wait(run.client.responses(model=CLAUDE["model"], input="How does water boil?", stream=True))
    items = [item async for item in run.each(stream)]
    run.note([item.type for item in items])
    run.carriers += [items[-1], items[-1].response, stream]


@shape(
    "responses, in the background",
    lambda: (
        lambda request: as_json(p.response(status="queued" if request.method == "POST" else "completed", background=True))
    ),
    RESPONSE,
)
async def _(run: Run) -> None:
    started = await run.wait(run.client.responses(**INPUT, background=True))
    for _ in range(2):
        run.see(await run.wait(run.client.get_responses(response_id=started.id)))


# --- embeddings


EMBEDDED = {
    "object": "list",
    "model": "text-embedding-3-small",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
    "usage": {"prompt_tokens": 9, "total_tokens": 9},
}


@shape("embedding", as_json(EMBEDDED), Expected("embeddings", 0, 9, unknown_model=True))
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.embedding(model="openai/text-embedding-3-small", input=["water"])))


# --- the router


ROUTED: Any = {"model": "main", "messages": MESSAGES}


@shape("router", as_json(p.chat()), CHAT, client="router")
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.completion(**ROUTED)))


@shape("router, streamed", chat_sse(usage=True), CHAT_STREAM, client="router")
async def _(run: Run) -> None:
    await read_stream(run, await run.wait(run.client.completion(**ROUTED, stream=True, **USAGE)))


@shape(
    "router, another model in its place",
    busy_at_first(lambda: as_json(p.chat())),
    failed("InternalServerError"),
    CHAT,
    client="router",
)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.completion(**ROUTED)))
    run.note([request.body["model"] for request in run.server.received])


@shape(
    "router, another model in its place, streamed",
    busy_at_first(chat_sse(usage=True), 429),
    failed("RateLimitError", stream=True),
    CHAT_STREAM,
    client="router",
)
async def _(run: Run) -> None:
    await read_stream(run, await run.wait(run.client.completion(**ROUTED, stream=True, **USAGE)))


@shape(
    "router, tried again", busy_at_first(lambda: as_json(p.chat())), failed("InternalServerError"), CHAT, client="router"
)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.completion(**{**ROUTED, "model": "other"}, num_retries=1)))
    run.note(len(run.server.received))


# --- what reaches no provider


@shape("mocked: no request", as_json(p.chat()))
async def _(run: Run) -> None:
    answer = await run.wait(run.client.completion(**ASK, mock_response="Water boils."))
    run.note(answer.choices[0].message.content, hasattr(answer, "impacts"))


@shape("cached: one request", as_json(p.chat()), CHAT)
async def _(run: Run) -> None:
    litellm.cache = Cache(type="local")
    try:
        run.see(await run.wait(run.client.completion(**ASK, caching=True)))
        while not litellm.cache.cache.cache_dict:  # filled by a task of its own
            await asyncio.sleep(0.001)
        again = await run.wait(run.client.completion(**ASK, caching=True))
    finally:
        litellm.cache = None
    run.see(again, carries=False)
    run.note(hasattr(again, "impacts"), len(run.server.received))
