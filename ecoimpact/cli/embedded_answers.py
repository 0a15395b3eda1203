"""What the embedded provider answers: pure functions from a request's body to the bodies and events of its APIs.

Rules: no I/O and no clock in here. Every count in ``usage`` follows from text that is really there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote

Body: TypeAlias = dict[str, Any]

CONVERSATION = (
    "A single answer of a language model takes somewhere between a few hundredths of a watt-hour and a whole one. "
    "Most of it goes into the accelerators that generate the tokens one after the other, so a longer answer costs more. "
    "The size of the model, the data centre and the electricity that feeds it decide the rest.",
    "Three things help the most. Pick the smallest model that does the job well. Ask for short answers, because every "
    "generated token is paid for. And run what can wait where the grid is clean at that hour.",
    "Yes: measure first. A figure for each request shows which feature and which model carry the weight, and a range "
    "around it says how much of that is certain.",
    "You are welcome. This answer was short on purpose.",
)
"""The answers, one for each turn of a chat, over and over."""

_REASONING_TOKENS = {"none": 0, "minimal": 16, "low": 64, "medium": 128, "high": 256}


@dataclass(frozen=True, slots=True)
class Reply:
    """One generated answer: the pieces of its text, one token each, and the counts around it."""

    id: str
    created: int
    model: str
    pieces: tuple[str, ...]
    input_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cut_off: bool

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def output_tokens(self) -> int:
        return self.reasoning_tokens + len(self.pieces)


class Event(NamedTuple):
    """One server-sent event. ``tokens`` is how many were generated for it: what the wait before it follows from."""

    data: Body | str
    name: str | None = None
    tokens: int = 0


class Turn(NamedTuple):
    role: str
    text: str


class Api(NamedTuple):
    """One endpoint: how its body is read, what it answers plainly, what it streams."""

    turns: Callable[[Body], list[Turn]]
    limit: Callable[[Body], int | None]
    effort: Callable[[Body], str]
    id_prefix: str
    body: Callable[[Body, Reply], Body]
    events: Callable[[Body, Reply], Iterator[Event]] | None
    """``None`` where only plain answers are given."""


class BadRequestError(Exception):
    """The body is not what the endpoint takes."""


def tokens(text: str) -> tuple[str, ...]:
    """Split into pieces about as large as those of real tokenisers; joined they give the text again.

    >>> tokens("Pick the smallest model.")
    ('Pick', ' the', ' small', 'est', ' model', '.')
    """
    return tuple(re.findall(r"\s*\w{1,5}|\s*[^\w\s]|\s+$", text))


def reply(api: Api, request: Body, *, number: str, created: int) -> Reply:
    """The answer to ``request``.

    Raises:
        BadRequestError: a field that the endpoint needs is missing or of the wrong kind.
    """
    model = request.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequestError("you must provide a model parameter")
    if request.get("stream") is True and api.events is None:
        raise BadRequestError("the embedded provider gives plain answers alone here")
    turns = api.turns(request)
    counts = [len(tokens(turn.text)) for turn in turns]
    answered = sum(turn.role == "assistant" for turn in turns)
    pieces = tokens(CONVERSATION[answered % len(CONVERSATION)])
    reasoning = _REASONING_TOKENS.get(api.effort(request), 0)
    limit = api.limit(request)
    room = len(pieces) if limit is None else max(limit - reasoning, 0)
    return Reply(
        id=f"{api.id_prefix}{number}",
        created=created,
        model=model,
        pieces=pieces[:room],
        input_tokens=sum(counts),
        cached_tokens=sum(counts[:-1]) if answered else 0,  # what the turn before had sent already
        reasoning_tokens=reasoning if limit is None else min(reasoning, limit),
        cut_off=room < len(pieces),
    )


# --- reading requests ---------------------------------------------------------------------------------------------------


def _texts(content: Any) -> str:
    """The text of a message's content: a string, or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(str(part.get("text", "")) for part in parts if isinstance(part, Mapping))


def _turns(request: Body, key: str, preamble: str) -> list[Turn]:
    """The conversation under ``key``, after the system prompt that may stand under ``preamble``."""
    given = request.get(key)
    if not isinstance(given, list) or not given or not all(isinstance(message, Mapping) for message in given):
        raise BadRequestError(f"'{key}' must be a non-empty list of messages")
    system = _texts(request.get(preamble))
    turns = [Turn(str(message.get("role")), _texts(message.get("content"))) for message in given]
    return [Turn("system", system), *turns] if system else turns


def _responses_turns(request: Body) -> list[Turn]:
    given = request.get("input")
    if isinstance(given, str) and given:
        request = {**request, "input": [{"role": "user", "content": given}]}
    return _turns(request, "input", "instructions")


def _responses_effort(request: Body) -> str:
    reasoning = request.get("reasoning")
    return str(reasoning.get("effort")) if isinstance(reasoning, Mapping) else "none"


def _number(request: Body, *keys: str) -> int | None:
    return next((value for key in keys if isinstance(value := request.get(key), int) and value > 0), None)


def _messages_limit(request: Body) -> int:
    limit = _number(request, "max_tokens")
    if limit is None:
        raise BadRequestError("max_tokens: Field required")
    return limit


# --- chat completions ---------------------------------------------------------------------------------------------------


def _chat_usage(answer: Reply) -> Body:
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": answer.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _chat_head(answer: Reply, kind: str) -> Body:
    return {
        "id": answer.id,
        "object": kind,
        "created": answer.created,
        "model": answer.model,
        "service_tier": "default",
        "system_fingerprint": "fp_embedded",
    }


def _chat_finish(answer: Reply) -> str:
    return "length" if answer.cut_off else "stop"


def _chat_body(_request: Body, answer: Reply) -> Body:
    message: Body = {"role": "assistant", "content": answer.text, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _chat_finish(answer)}
    return {**_chat_head(answer, "chat.completion"), "choices": [choice], "usage": _chat_usage(answer)}


def _chat_events(request: Body, answer: Reply) -> Iterator[Event]:
    options = request.get("stream_options")
    include_usage = isinstance(options, Mapping) and options.get("include_usage") is True
    head = _chat_head(answer, "chat.completion.chunk")
    if include_usage:
        head["usage"] = None

    def chunk(delta: Body, generated: int, finish: str | None = None) -> Event:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return Event({**head, "choices": [choice]}, tokens=generated)

    yield chunk({"role": "assistant", "content": "", "refusal": None}, answer.reasoning_tokens)
    for piece in answer.pieces:
        yield chunk({"content": piece}, 1)
    yield chunk({}, 0, _chat_finish(answer))
    if include_usage:
        yield Event({**head, "choices": [], "usage": _chat_usage(answer)})
    yield Event("[DONE]")


# --- responses ----------------------------------------------------------------------------------------------------------


def _response(request: Body, answer: Reply, status: str) -> Body:
    done = status != "in_progress"
    usage = {
        "input_tokens": answer.input_tokens,
        "input_tokens_details": {"cached_tokens": answer.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": answer.output_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }
    return {
        "id": answer.id,
        "object": "response",
        "created_at": answer.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
        "model": answer.model,
        "output": [_response_item(answer, status)] if done else [],
        "parallel_tool_calls": True,
        "previous_response_id": request.get("previous_response_id"),
        "reasoning": request.get("reasoning") or {"effort": None, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage if done else None,
        "metadata": request.get("metadata") or {},
    }


def _response_part(text: str) -> Body:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response_item(answer: Reply, status: str) -> Body:
    content = [] if status == "in_progress" else [_response_part(answer.text)]
    return {"id": f"msg_{answer.id}", "type": "message", "role": "assistant", "status": status, "content": content}


def _response_end(answer: Reply) -> str:
    return "incomplete" if answer.cut_off else "completed"


def _response_body(request: Body, answer: Reply) -> Body:
    return _response(request, answer, _response_end(answer))


def _response_events(request: Body, answer: Reply) -> Iterator[Event]:
    number = iter(range(len(answer.pieces) + 8))

    def event(name: str, generated: int = 0, **fields: Any) -> Event:
        return Event({"type": name, "sequence_number": next(number), **fields}, name, generated)

    end = _response_end(answer)
    item: Body = {"item_id": f"msg_{answer.id}", "output_index": 0, "content_index": 0}
    yield event("response.created", response=_response(request, answer, "in_progress"))
    yield event("response.in_progress", response=_response(request, answer, "in_progress"))
    started = _response_item(answer, "in_progress")
    yield event("response.output_item.added", answer.reasoning_tokens, output_index=0, item=started)
    yield event("response.content_part.added", **item, part=_response_part(""))
    for piece in answer.pieces:
        yield event("response.output_text.delta", 1, **item, delta=piece, logprobs=[])
    yield event("response.output_text.done", **item, text=answer.text, logprobs=[])
    yield event("response.content_part.done", **item, part=_response_part(answer.text))
    yield event("response.output_item.done", output_index=0, item=_response_item(answer, end))
    yield event(f"response.{end}", response=_response(request, answer, end))


# --- messages -----------------------------------------------------------------------------------------------------------


def _message(answer: Reply, *, content: list[Body], output_tokens: int, stop_reason: str | None) -> Body:
    return {
        "id": answer.id,
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": answer.input_tokens - answer.cached_tokens,  # this API counts what it read from its cache apart
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": answer.cached_tokens,
            "output_tokens": output_tokens,
            "service_tier": "standard",
        },
    }


def _message_stop(answer: Reply) -> str:
    return "max_tokens" if answer.cut_off else "end_turn"


def _message_body(_request: Body, answer: Reply) -> Body:
    content = [{"type": "text", "text": answer.text}]
    return _message(answer, content=content, output_tokens=answer.output_tokens, stop_reason=_message_stop(answer))


def _message_events(_request: Body, answer: Reply) -> Iterator[Event]:
    def event(name: str, generated: int = 0, **fields: Any) -> Event:
        return Event({"type": name, **fields}, name, generated)

    started = _message(answer, content=[], output_tokens=min(1, answer.output_tokens), stop_reason=None)
    yield event("message_start", message=started)
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    yield event("ping")
    for piece in answer.pieces:
        yield event("content_block_delta", 1, index=0, delta={"type": "text_delta", "text": piece})
    yield event("content_block_stop", index=0)
    delta = {"stop_reason": _message_stop(answer), "stop_sequence": None}
    yield event("message_delta", delta=delta, usage={"output_tokens": answer.output_tokens})
    yield event("message_stop")


# --- the plain answers of others, for the examples of their pages -------------------------------------------------------


def _cohere_body(_request: Body, answer: Reply) -> Body:
    counts = {"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens}
    return {
        "id": answer.id,
        "finish_reason": "MAX_TOKENS" if answer.cut_off else "COMPLETE",
        "message": {"role": "assistant", "content": [{"type": "text", "text": answer.text}]},
        "usage": {"billed_units": counts, "tokens": counts, "cached_tokens": answer.cached_tokens},
    }


def _ollama_body(_request: Body, answer: Reply) -> Body:
    return {
        "model": answer.model,
        "message": {"role": "assistant", "content": answer.text},
        "done": True,
        "done_reason": _chat_finish(answer),
        "prompt_eval_count": answer.input_tokens,
        "eval_count": answer.output_tokens,
    }


def _gemini_turns(request: Body) -> list[Turn]:
    contents = request.get("contents")
    given = contents if isinstance(contents, list) else []
    messages = [{"role": c.get("role"), "content": c.get("parts")} for c in given if isinstance(c, Mapping)]
    turns = _turns({"contents": messages}, "contents", preamble="")
    return [Turn("assistant" if turn.role == "model" else turn.role, turn.text) for turn in turns]


def _gemini_body(_request: Body, answer: Reply) -> Body:
    candidate = {
        "index": 0,
        "content": {"role": "model", "parts": [{"text": answer.text}]},
        "finishReason": "MAX_TOKENS" if answer.cut_off else "STOP",
    }
    usage = {
        "promptTokenCount": answer.input_tokens,
        "cachedContentTokenCount": answer.cached_tokens,
        "candidatesTokenCount": len(answer.pieces),  # this API counts what a model thinks apart
        "thoughtsTokenCount": answer.reasoning_tokens,
        "totalTokenCount": answer.input_tokens + answer.output_tokens,
    }
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": answer.model, "responseId": answer.id}


def _converse_limit(request: Body) -> int | None:
    settings = request.get("inferenceConfig")
    return _number(settings, "maxTokens") if isinstance(settings, dict) else None


def _converse_body(_request: Body, answer: Reply) -> Body:
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": answer.text}]}},
        "stopReason": "max_tokens" if answer.cut_off else "end_turn",
        "usage": {
            "inputTokens": answer.input_tokens - answer.cached_tokens,  # this API counts what it read from its cache apart
            "outputTokens": answer.output_tokens,
            "totalTokens": answer.input_tokens + answer.output_tokens,
            "cacheReadInputTokens": answer.cached_tokens,
            "cacheWriteInputTokens": 0,
        },
        "metrics": {"latencyMs": 0},
    }


def find_api(path: str, request: Body) -> tuple[Api | None, Body]:
    """The API at a path, and the request with the model that some paths name: ``/v1beta/models/NAME:generateContent``."""
    for api, pattern in _NAMING_THE_MODEL.items():
        if (named := re.fullmatch(pattern, path)) is not None:
            return api, {**request, "model": unquote(named[1])}
    return APIS.get(path), request


_GEMINI = Api(
    turns=_gemini_turns,
    limit=lambda _request: None,
    effort=lambda _request: "none",
    id_prefix="gemini-",
    body=_gemini_body,
    events=None,
)

_CONVERSE = Api(
    turns=lambda request: _turns(request, "messages", "system"),
    limit=_converse_limit,
    effort=lambda _request: "none",
    id_prefix="converse-",
    body=_converse_body,
    events=None,
)

_NAMING_THE_MODEL = {
    _GEMINI: r"/v1(?:beta)?/models/([\w.-]+):generateContent",
    _CONVERSE: r"/model/([\w.%:-]+)/converse",
}

APIS: Mapping[str, Api] = {
    "/v1/chat/completions": Api(
        turns=lambda request: _turns(request, "messages", preamble=""),
        limit=lambda request: _number(request, "max_completion_tokens", "max_tokens"),
        effort=lambda request: str(request.get("reasoning_effort")),
        id_prefix="chatcmpl-",
        body=_chat_body,
        events=_chat_events,
    ),
    "/v1/responses": Api(
        turns=_responses_turns,
        limit=lambda request: _number(request, "max_output_tokens"),
        effort=_responses_effort,
        id_prefix="resp_",
        body=_response_body,
        events=_response_events,
    ),
    "/v1/messages": Api(
        turns=lambda request: _turns(request, "messages", "system"),
        limit=_messages_limit,
        effort=lambda _request: "none",
        id_prefix="msg_",
        body=_message_body,
        events=_message_events,
    ),
    "/v2/chat": Api(
        turns=lambda request: _turns(request, "messages", preamble=""),
        limit=lambda request: _number(request, "max_tokens"),
        effort=lambda _request: "none",
        id_prefix="cohere-",
        body=_cohere_body,
        events=None,
    ),
    "/api/chat": Api(
        turns=lambda request: _turns(request, "messages", preamble=""),
        limit=lambda _request: None,
        effort=lambda _request: "none",
        id_prefix="ollama-",
        body=_ollama_body,
        events=None,
    ),
}
