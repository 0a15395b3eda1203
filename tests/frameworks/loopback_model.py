"""A model on loopback: answers in each API's own dialect, plain or streamed, with usage where the provider would send it.

Offered tools, it asks for the first one once, with the same arguments always; asked for a schema, it answers with those;
else it says its text. A request for a tool and an answer have different counts, so that records tell them apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import payloads
from payloads import TOOL_ARGUMENTS
from server import Received, Reply, as_json, sse

ARGUMENTS: Final = json.loads(TOOL_ARGUMENTS)
TOOL_CHAT_USAGE: Final = {"prompt_tokens": 61, "completion_tokens": 19, "total_tokens": 80}
TOOL_RESPONSE_USAGE: Final = {
    "input_tokens": 67,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 21,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 88,
}
TOOL_MESSAGE_USAGE: Final = {"input_tokens": 71, "output_tokens": 29}


@dataclass(frozen=True)
class Model:
    """Answers requests; ``text`` is what it says, once it has asked for tools as often as it does. ``last_tool``, where it
    is offered, is asked for instead."""

    text: str = payloads.TEXT
    asks: int = 1
    last_tool: str = "final_answer"

    def __call__(self, request: Received) -> Reply:
        body = request.body if isinstance(request.body, dict) else {}
        path = request.path.partition("?")[0]
        answer = {"/v1/chat/completions": self._chat, "/v1/responses": self._response, "/v1/messages": self._message}
        return answer[path](body) if path in answer else as_json({"error": {"message": "no such path"}}, 404)

    def _tool(self, body: dict[str, Any], asked: int) -> tuple[str, str] | None:
        """The name and the arguments of the tool to ask for now."""
        names = [tool.get("function", tool)["name"] for tool in body.get("tools") or ()]
        if names and asked < self.asks:
            return names[0], TOOL_ARGUMENTS
        return (self.last_tool, json.dumps({"answer": self.text})) if self.last_tool in names else None

    def _say(self, schema: Any) -> str:
        return TOOL_ARGUMENTS if schema else self.text

    def _chat(self, body: dict[str, Any]) -> Reply:
        tool = self._tool(body, sum(message["role"] == "assistant" for message in body["messages"]))
        usage = payloads.CHAT_USAGE if tool is None else TOOL_CHAT_USAGE
        text = self._say(body.get("response_format"))
        call = None
        if tool is not None:
            call = {"id": "call_1", "type": "function", "function": {"name": tool[0], "arguments": tool[1]}}
        if not body.get("stream"):
            calls = {} if call is None else {"tool_calls": [call]}
            reason = "stop" if call is None else "tool_calls"
            return as_json(payloads.chat(text if call is None else None, usage=usage, finish_reason=reason, **calls))
        if call is None:
            events = payloads.chat_chunks(usage=False, words=words(text))
        else:
            start = {"role": "assistant", "content": None, "tool_calls": [{"index": 0, **call}]}
            events = [payloads.chunk(start), payloads.chunk({}, "tool_calls")]
        if (body.get("stream_options") or {}).get("include_usage"):
            events.append(payloads.chunk(None, usage=usage))
        return sse(events, done=True)

    def _response(self, body: dict[str, Any]) -> Reply:
        given = body["input"]
        items = given if isinstance(given, list) else []
        tool = self._tool(body, sum(item.get("type") == "function_call_output" for item in items))
        text = self._say((body.get("text") or {}).get("format", {}).get("type") == "json_schema")
        if tool is None:
            final = payloads.response(text=text)
            return sse(payloads.response_events(), named=True) if body.get("stream") else as_json(final)
        call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": tool[0], "arguments": tool[1]}
        call["status"] = "completed"
        final = {**payloads.response(usage=TOOL_RESPONSE_USAGE), "output": [call]}
        return sse(_call_events(call, final), named=True) if body.get("stream") else as_json(final)

    def _message(self, body: dict[str, Any]) -> Reply:
        tool = self._tool(body, sum(message["role"] == "assistant" for message in body["messages"]))
        stream = body.get("stream")
        if tool is None:
            text = self._say((body.get("output_config") or {}).get("format"))
            block = {"type": "text", "text": text}
            return sse(payloads.message_events(words(text)), named=True) if stream else as_json(payloads.message([block]))
        block = {"type": "tool_use", "id": "toolu_1", "name": tool[0], "input": json.loads(tool[1])}
        final = {**payloads.message([block], usage=TOOL_MESSAGE_USAGE), "stop_reason": "tool_use"}
        return sse(_tool_events(tool), named=True) if stream else as_json(final)


def words(text: str) -> list[str]:
    return [f"{word} " for word in text.split(" ")[:-1]] + text.split(" ")[-1:]


def _call_events(call: dict[str, Any], final: dict[str, Any]) -> Iterator[dict[str, Any]]:
    place, unfinished = {"item_id": call["id"], "output_index": 0}, {"arguments": "", "status": "in_progress"}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": payloads.response(status="in_progress")},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**call, **unfinished},
        },
        {"type": "response.function_call_arguments.delta", **place, "delta": call["arguments"]},
        {"type": "response.function_call_arguments.done", **place, "arguments": call["arguments"], "name": call["name"]},
        {"type": "response.output_item.done", "output_index": 0, "item": call},
        {"type": "response.completed", "response": final},
    ]
    return ({**event, "sequence_number": number} for number, event in enumerate(events))


def _tool_events(tool: tuple[str, str]) -> list[dict[str, Any]]:
    name, arguments = tool
    start = {**payloads.message([], usage={**TOOL_MESSAGE_USAGE, "output_tokens": 1}), "stop_reason": None}
    block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": arguments}},
        {"type": "content_block_stop", "index": 0},
        payloads.delta_event("tool_use", {"output_tokens": TOOL_MESSAGE_USAGE["output_tokens"]}),
        {"type": "message_stop"},
    ]
