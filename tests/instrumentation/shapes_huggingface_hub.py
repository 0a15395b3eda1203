"""Every way to call Hugging Face's inference clients."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import payloads as p
from harness import Expected, Run, Shape, close, registering
from server import Received, Reply, Script, as_json, sse

MODEL = "meta-llama/Meta-Llama-3.1-8B-Instruct"
MESSAGES: Any = [{"role": "user", "content": "How does water boil?"}]
ASK: Any = {"model": MODEL, "messages": MESSAGES}
USAGE: Any = {"prompt_tokens": 23, "completion_tokens": 503, "total_tokens": 526}
CHAT = Expected("chat.completions", 503, 23)
STREAM = Expected("chat.completions", 503, 23, stream=True)
ESTIMATE = Expected("chat.completions", 7, estimated=True)
ABANDONED = Expected("chat.completions", 2001, estimated=True, stream=True, status="abandoned")

SHAPES: list[Shape] = []


shape = registering(SHAPES)


def chat(content: str | None = p.TEXT, **options: Any) -> dict[str, Any]:
    return {**p.chat(content, usage=options.pop("usage", USAGE), **options), "model": MODEL}


def chunks(*, usage: bool) -> list[dict[str, Any]]:
    events = [{**event, "model": MODEL} for event in p.chat_chunks(usage=usage)]
    return [*events[:-1], {**events[-1], "usage": USAGE}] if usage else events


def chat_sse(*, usage: bool = True) -> Callable[[], Reply]:
    return lambda: sse(chunks(usage=usage), done=True)


def endless() -> Reply:
    return sse({**event, "model": MODEL} for event in p.endless_chunks())


# --- chat completions ---------------------------------------------------------------------------------------------------


@shape("chat", as_json(chat()), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.chat_completion(**ASK)))


@shape("chat, as OpenAI spells it", as_json(chat()), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.chat.completions.create(**ASK)))


@shape("chat, positional", as_json(chat()), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.chat_completion(MESSAGES, model=MODEL)))


@shape("chat, next turn", as_json(chat()), CHAT, CHAT)
async def _(run: Run) -> None:
    first = await run.wait(run.client.chat_completion(**ASK))
    turn = [*MESSAGES, first.choices[0].message, {"role": "user", "content": "And salt?"}]
    run.see(await run.wait(run.client.chat_completion(turn, model=MODEL)))
    run.note(run.server.received[-1].body)


@shape("chat, an endpoint of one's own", as_json(chat()), CHAT, client="endpoint")
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.chat_completion(MESSAGES)))


CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": p.TOOL_ARGUMENTS}}


@shape("chat, tool call", as_json(chat(None, finish_reason="tool_calls", tool_calls=[CALL])), CHAT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.chat_completion(**ASK)))


# --- chat streams


@shape("chat stream", chat_sse(), STREAM)
async def _(run: Run) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    answers = await run.wait(run.client.chat_completion(**ASK, **options))
    run.note(len(run.server.received))
    await run.read_generator(answers)


@shape("chat stream, as OpenAI spells it", chat_sse(), STREAM)
async def _(run: Run) -> None:
    await run.read_generator(await run.wait(run.client.chat.completions.create(**ASK, stream=True)))


@shape("chat stream, without usage", chat_sse(usage=False), Expected("chat.completions", 7, estimated=True, stream=True))
async def _(run: Run) -> None:
    await run.read_generator(await run.wait(run.client.chat_completion(**ASK, stream=True)))


@shape("chat stream, closed early", endless, ABANDONED)
async def _(run: Run) -> None:
    answers = await run.wait(run.client.chat_completion(**ASK, stream=True))
    await run.take(answers, 2)
    await close(answers)
    run.note([item async for item in run.each(answers)])


@shape("chat stream, dropped", endless, ABANDONED, only="sync")
async def _(run: Run) -> None:
    answers = run.client.chat_completion(**ASK, stream=True)
    for _ in range(2):
        next(answers)
    del answers


@shape("chat stream, never read", endless, Expected("chat.completions", None, stream=True, status="abandoned"))
async def _(run: Run) -> None:
    answers = await run.wait(run.client.chat_completion(**ASK, stream=True))
    await close(answers)


@shape(
    "chat stream, an error raised into it",
    endless,
    Expected("chat.completions", 2001, estimated=True, stream=True, status="error", error_type="KeyError"),
    needs="exit_stack",  # without it, old versions leave the connection open
)
async def _(run: Run) -> None:
    answers = await run.wait(run.client.chat_completion(**ASK, stream=True))
    await run.take(answers, 2)
    await run.fails(lambda: answers.athrow(KeyError("mine")) if run.asynchronous else answers.throw(KeyError("mine")))


@shape(
    "chat stream, broken connection",
    lambda: sse(chunks(usage=False)[:4], cut=True),
    Expected(
        "chat.completions",
        4,
        estimated=True,
        stream=True,
        status="error",
        error_type="RemoteProtocolError|ChunkedEncodingError|ClientPayloadError",
    ),
)
async def _(run: Run) -> None:
    answers = await run.wait(run.client.chat_completion(**ASK, stream=True))

    async def consume() -> None:
        async for item in run.each(answers):
            run.see(item, carries=False)

    await run.fails(consume)


# --- text generation


DETAILS: Any = {"finish_reason": "length", "generated_tokens": 77, "prefill": [], "tokens": []}
TEXT = Expected("text_generation", 7, estimated=True, unknown_model=True)


@shape("text", as_json([{"generated_text": p.TEXT}]), TEXT)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.text_generation("Water")), carries=False)


@shape(
    "text, with details",
    as_json([{"generated_text": p.TEXT, "details": DETAILS}]),
    Expected("text_generation", 77, unknown_model=True),
)
async def _(run: Run) -> None:
    run.see(await run.wait(run.client.text_generation("Water", details=True)))


def text_events(*, details: bool) -> Script:
    def events() -> Any:
        for number, word in enumerate(p.WORDS):
            last = number + 1 == len(p.WORDS)
            token = {"id": number, "text": word, "logprob": -0.5, "special": False}
            counted = {"finish_reason": "length", "generated_tokens": 77, "input_length": 6}
            final = {"generated_text": p.TEXT if last else None, "details": counted if last and details else None}
            yield {"index": number, "token": token, **final}

    return lambda _request: sse(events())


@shape(
    "text stream",
    lambda: text_events(details=False),
    Expected("text_generation", 7, estimated=True, stream=True, unknown_model=True),
)
async def _(run: Run) -> None:
    answers = await run.wait(run.client.text_generation("Water", stream=True))
    run.note(type(answers), [item async for item in run.each(answers)])


@shape(
    "text stream, with details",
    lambda: text_events(details=True),
    Expected("text_generation", 77, 6, stream=True, unknown_model=True),
)
async def _(run: Run) -> None:
    await run.read_generator(await run.wait(run.client.text_generation("Water", stream=True, details=True)))


def refusing() -> Script:
    message = "The following `model_kwargs` are not used by the model: ['watermark'] (note: typos in the arguments)"

    def script(request: Received) -> Reply:
        if "watermark" in json.dumps(request.body):
            return as_json({"error": message}, 400)
        return as_json([{"generated_text": p.TEXT}])

    return script


@shape("text, asked again without what the model refuses", refusing, TEXT)
async def _(run: Run) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        answer = await run.wait(run.client.text_generation("Water", watermark=True))
    run.note(answer, len(run.server.received))
    forget(run)


def forget(run: Run) -> None:
    """The SDK remembers for the whole process what a model refused."""
    from huggingface_hub.inference import _common

    _common._UNSUPPORTED_TEXT_GENERATION_KWARGS.clear()


# --- what is no request to a model that generates


@shape("classification", as_json([{"label": "wet", "score": 0.5}]))
async def _(run: Run) -> None:
    run.note(repr(await run.wait(run.client.text_classification("water"))))


# --- faults


def fault(status: int, error_type: str) -> None:
    wanted = Expected("chat.completions", None, status="error", error_type=error_type)

    @shape(f"fault, {status}", as_json({"error": "no"}, status), wanted)
    async def _(run: Run) -> None:
        await fails(run)

    @shape(f"fault, {status}, stream", as_json({"error": "no"}, status), Expected(**{**vars(wanted), "stream": True}))
    async def _(run: Run) -> None:
        await fails(run, stream=True)


async def fails(run: Run, **options: Any) -> None:
    try:
        await run.wait(run.client.chat_completion(**ASK, **options))
    except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
        run.note(type(error), type(error.__cause__), type(error.__context__))
        return
    raise AssertionError("the call was expected to fail")


fault(400, "BadRequestError|ClientResponseError")
fault(401, "HfHubHTTPError|ClientResponseError")
fault(404, "HfHubHTTPError|ClientResponseError")


@shape("fault, wrong arguments", as_json(chat()))
async def _(run: Run) -> None:
    await run.fails(lambda: run.client.chat_completion(model=MODEL))
    await run.fails(lambda: run.client.chat_completion(**ASK, no_such_argument=1))
    run.note(len(run.server.received))


def odd(name: str, body: Any, wanted: Expected) -> None:
    @shape(f"odd, {name}", as_json(body), wanted)
    async def _(run: Run) -> None:
        run.see(await run.wait(run.client.chat_completion(**ASK)))


odd("usage null", chat(usage=None), ESTIMATE)
odd("usage absent", chat(usage=p.ABSENT), ESTIMATE)
odd("usage a text", chat(usage="many"), ESTIMATE)
odd("counts negative", chat(usage={"completion_tokens": -2}), ESTIMATE)
odd("an empty object", {}, Expected("chat.completions", None))


@shape(
    "odd, a list",
    as_json([]),
    Expected("chat.completions", None, status="error", error_type="ValueError"),
)
async def _(run: Run) -> None:
    await run.fails(lambda: run.client.chat_completion(**ASK))


@shape(
    "cancelled",
    Reply(waits=True),
    Expected("chat.completions", None, status="cancelled", error_type="CancelledError"),
    only="async",
)
async def _(run: Run) -> None:
    await run.cancels(run.client.chat_completion(**ASK))
