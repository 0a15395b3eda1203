"""Answers as the providers send them, with token counts that no length could be mistaken for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

MODEL = "gpt-4o-mini"
SNAPSHOT = "gpt-4o-mini-2024-07-18"
CLAUDE = "claude-haiku-4-5"
CLAUDE_SNAPSHOT = "claude-haiku-4-5-20251001"

CHAT_USAGE = {
    "prompt_tokens": 23,
    "completion_tokens": 503,
    "total_tokens": 526,
    "prompt_tokens_details": {"cached_tokens": 16, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 441, "accepted_prediction_tokens": 0},
}
WORDS = ["Water ", "boils ", "at ", "100 ", "degrees."]
TEXT = "".join(WORDS)
ABSENT: Any = object()


def chat(
    content: str | None = TEXT, *, usage: Any = CHAT_USAGE, finish_reason: str = "stop", **message: Any
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1767225600,
        "model": SNAPSHOT,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": None, **message},
                "logprobs": None,
                "finish_reason": finish_reason,
            }
        ],
        "system_fingerprint": "fp_1",
    }
    return body if usage is ABSENT else {**body, "usage": usage}


def chunk(delta: dict[str, Any] | None, finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1767225600,
        "model": SNAPSHOT,
        "choices": choices,
        **fields,
    }


def chat_chunks(*, usage: bool, words: list[str] = WORDS) -> list[dict[str, Any]]:
    events = [chunk({"role": "assistant", "content": ""})]
    events += [chunk({"content": word}) for word in words]
    events.append(chunk({}, "stop"))
    if usage:
        events = [{**event, "usage": None} for event in events]
        events.append(chunk(None, usage=CHAT_USAGE))
    return events


def endless_chunks() -> Iterator[dict[str, Any]]:
    for number in itertools.count():
        yield chunk({"content": f"{number} " + "x" * 4000})


TOOL_ARGUMENTS = '{"city": "Lyon"}'


def tool_chunks(*, usage: bool) -> list[dict[str, Any]]:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    events = [chunk({"role": "assistant", "content": None, "tool_calls": [call]})]
    events += [chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}) for part in ('{"city": ', '"Lyon"}')]
    events.append(chunk({}, "tool_calls"))
    if usage:
        events.append(chunk(None, usage=CHAT_USAGE))
    return events


INSTRUCT = "gpt-3.5-turbo-instruct"


def completion(text: str = TEXT, finish_reason: str | None = "stop", **fields: Any) -> dict[str, Any]:
    """An answer of the older completions API, or a part of one."""
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": INSTRUCT,
        "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}],
        **fields,
    }


COMPLETION_USAGE = {"prompt_tokens": 9, "completion_tokens": 41, "total_tokens": 50}


def completion_chunks(*, usage: bool) -> list[dict[str, Any]]:
    chunks = [completion(word, None) for word in WORDS] + [completion("")]
    return [*chunks, completion(choices=[], usage=COMPLETION_USAGE)] if usage else chunks


EMBEDDER = "text-embedding-3-small"


def embeddings(**fields: Any) -> dict[str, Any]:
    return {
        "object": "list",
        "model": EMBEDDER,
        "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}],
        "usage": {"prompt_tokens": 12, "total_tokens": 12},
        **fields,
    }


RESPONSE_USAGE = {
    "input_tokens": 31,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
    "output_tokens": 87,
    "output_tokens_details": {"reasoning_tokens": 64},
    "total_tokens": 118,
}


def response(
    *, status: str = "completed", usage: Any = RESPONSE_USAGE, text: str = TEXT, background: bool = False
) -> dict[str, Any]:
    done = status in ("completed", "incomplete")
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1767225600,
        "status": status,
        "background": background,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "max_output_tokens": None,
        "model": SNAPSHOT,
        "output": [message] if done else [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage if done else None,
        "user": None,
        "metadata": {},
    }


def response_events(final: str = "completed", *, background: bool = False) -> list[dict[str, Any]]:
    start = response(status="in_progress", background=background)
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    done = {**part, "text": TEXT}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": start},
        {"type": "response.in_progress", "response": start},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": part},
        *({"type": "response.output_text.delta", **place, "delta": word, "logprobs": []} for word in WORDS),
        {"type": "response.output_text.done", **place, "text": TEXT, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": done},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": {**item, "status": "completed", "content": [done]},
        },
        {"type": f"response.{final}", "response": response(status=final, background=background)},
    ]
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


# Anthropic: input_tokens leaves out the cache; thinking is inside output_tokens.
MESSAGE_USAGE = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 2048,
    "output_tokens": 317,
    "output_tokens_details": {"thinking_tokens": 200},
    "service_tier": "standard",
    "server_tool_use": None,
}


def message(content: list[dict[str, Any]] | None = None, *, usage: Any = MESSAGE_USAGE, **fields: Any) -> dict[str, Any]:
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": CLAUDE_SNAPSHOT,
        "content": content if content is not None else [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        **fields,
    }
    return body if usage is ABSENT else {**body, "usage": usage}


def delta_event(stop_reason: str | None, usage: dict[str, Any] | None) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason, "stop_sequence": None}, "usage": usage}


def message_events(words: list[str] = WORDS, *, stop: bool = True, usage: bool = True) -> list[dict[str, Any]]:
    start_usage = {**MESSAGE_USAGE, "output_tokens": 1} if usage else None
    start = {**message([], usage=start_usage), "stop_reason": None}
    deltas = [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": w}} for w in words]
    running = [delta_event(None, {"output_tokens": total}) for total in (100, 250)] if usage else []
    final = delta_event("end_turn", {"output_tokens": 317} if usage else None)
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *deltas,
        *running,
        {"type": "content_block_stop", "index": 0},
    ]
    return [*events, final, {"type": "message_stop"}] if stop else events


def endless_message() -> Iterator[dict[str, Any]]:
    yield from message_events([], stop=False)[:2]
    for number in itertools.count():
        delta = {"type": "text_delta", "text": f"{number} " + "x" * 4000}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}


def tool_use_message() -> dict[str, Any]:
    block = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Lyon"}}
    return {**message([block]), "stop_reason": "tool_use"}
