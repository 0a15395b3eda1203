"""The real SDKs over a transport in this process: no socket, so that what is left is the SDK's own work."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
from collections.abc import Callable, Iterable
from typing import Any

CHUNKS = 300
httpx: Any = importlib.import_module("httpx2" if importlib.util.find_spec("httpx2") else "httpx")


def _events(events: Iterable[dict[str, Any]], *, named: bool) -> bytes:
    lines = (f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" if named else f"data: {json.dumps(e)}\n\n" for e in events)
    return ("".join(lines) + ("" if named else "data: [DONE]\n\n")).encode()


def _chunk(delta: dict[str, Any] | None, finish_reason: str | None = None, usage: Any = None) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1767225600, "model": "gpt-4o-mini-2024-07-18"}
    return {**head, "choices": choices, "usage": usage}


CHAT_USAGE = {"prompt_tokens": 20, "completion_tokens": CHUNKS, "total_tokens": 20 + CHUNKS}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1767225600,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "word " * 100}, "logprobs": None, "finish_reason": "stop"}
    ],
    "usage": CHAT_USAGE,
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5-20251001",
    "content": [{"type": "text", "text": "word " * 100}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 20, "output_tokens": CHUNKS},
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1767225600,
    "status": "completed",
    "model": "gpt-4o-mini-2024-07-18",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "word " * 100, "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 20,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": CHUNKS,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 20 + CHUNKS,
    },
}


def _chat_stream() -> list[dict[str, Any]]:
    words = [_chunk({"content": "word "}) for _ in range(CHUNKS)]
    return [*words, _chunk({}, "stop"), _chunk(None, usage=CHAT_USAGE)]


def _response_stream() -> list[dict[str, Any]]:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    words = [{"type": "response.output_text.delta", **place, "delta": "word ", "logprobs": []} for _ in range(CHUNKS)]
    events: list[dict[str, Any]] = [*words, {"type": "response.completed", "response": RESPONSE}]
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _message_stream() -> list[dict[str, Any]]:
    word = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word "}}
    start = {**MESSAGE, "content": [], "stop_reason": None}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": MESSAGE["usage"]}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    return [{"type": "message_start", "message": start}, block, *[word] * CHUNKS, end, {"type": "message_stop"}]


BODIES = {
    "chat/completions": (json.dumps(CHAT).encode(), _events(_chat_stream(), named=False)),
    "responses": (json.dumps(RESPONSE).encode(), _events(_response_stream(), named=True)),
    "messages": (json.dumps(MESSAGE).encode(), _events(_message_stream(), named=True)),
}


def _answer(request: Any) -> Any:
    plain, streamed = next(bodies for path, bodies in BODIES.items() if request.url.path.endswith(path))
    stream = json.loads(request.content).get("stream")
    kind = "text/event-stream" if stream else "application/json"
    return httpx.Response(200, headers={"content-type": kind}, content=streamed if stream else plain)


def _client(module: str, name: str, *, asynchronous: bool = False) -> Any:
    transport = httpx.MockTransport(_answer)
    http_client = (httpx.AsyncClient if asynchronous else httpx.Client)(transport=transport)
    kind = getattr(importlib.import_module(module), name)
    return kind(api_key="test", base_url="http://in-process/v1", http_client=http_client, max_retries=0)


_ASK = [{"role": "user", "content": "Why is the sky blue?"}]


def works() -> dict[str, Callable[[], object]]:
    """What is timed, by name: one call or one stream of ``CHUNKS`` chunks each."""
    openai, claude = _client("openai", "OpenAI"), _client("anthropic", "Anthropic")
    later = _client("openai", "AsyncOpenAI", asynchronous=True)
    loop = asyncio.new_event_loop()
    chat = {"model": "gpt-4o-mini", "messages": _ASK}
    messages = {"model": "claude-haiku-4-5", "max_tokens": 1000, "messages": _ASK}
    response = {"model": "gpt-4o-mini", "input": "Why is the sky blue?"}
    usage = {"stream_options": {"include_usage": True}}

    async def chat_async() -> None:
        await later.chat.completions.create(**chat)

    async def chat_stream_async() -> None:
        async for _ in await later.chat.completions.create(**chat, stream=True, **usage):
            pass
        await asyncio.sleep(0)  # the SDK leaves a generator that the loop still has to end

    return {
        "chat": lambda: openai.chat.completions.create(**chat),
        "chat, async": lambda: loop.run_until_complete(chat_async()),
        "responses": lambda: openai.responses.create(**response),
        "messages": lambda: claude.messages.create(**messages),
        "chat stream": lambda: [None for _ in openai.chat.completions.create(**chat, stream=True, **usage)],
        "chat stream, async": lambda: loop.run_until_complete(chat_stream_async()),
        "responses stream": lambda: [None for _ in openai.responses.create(**response, stream=True)],
        "messages stream": lambda: [None for _ in claude.messages.create(**messages, stream=True)],
    }
