"""The chat of the demo: one question after the other, through the real SDKs, in every shape of call.

Nothing here knows of impacts: it is the program that somebody has already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

Message: TypeAlias = dict[str, str]
Say: TypeAlias = Callable[[str], None]

QUESTIONS = (
    "What does one answer of a language model cost the planet?",
    "What can I do about it?",
    "Should I measure it?",
    "Thank you!",
)
MAX_TOKENS = 400


class Api(NamedTuple):
    """One way of asking: the method of a client, its arguments, and the text of what comes back."""

    name: str
    sdk: str
    create: Callable[[Any], Callable[..., Any]]
    arguments: Callable[[list[Message]], dict[str, Any]]
    text: Callable[[Any], str]
    piece: Callable[[Any], str]


class Call(NamedTuple):
    """One request of the demo."""

    api: Api
    model: str
    stream: bool
    is_async: bool

    @property
    def name(self) -> str:
        return " ".join([self.api.name, *["async"] * self.is_async, *["stream"] * self.stream])


class Clients(NamedTuple):
    """How to make the clients of an SDK: synchronous and asynchronous."""

    sync: Callable[[], Any]
    asynchronous: Callable[[], Any]


def calls(api: Api, model: str) -> Iterator[Call]:
    """Every shape of a call to one API, one for each of the ``QUESTIONS``."""
    for is_async in (False, True):
        for stream in (False, True):
            yield Call(api, model, stream, is_async)


def ask(call: Call, clients: Clients, history: list[Message], say: Say) -> Any:
    """Make one call; gives back what the SDK gave. ``say`` gets the answer's text, piece by piece."""
    if call.is_async:
        return asyncio.run(_ask_async(call, clients, history, say))
    with clients.sync() as client:
        answer = call.api.create(client)(**_arguments(call, history))
        if not call.stream:
            say(call.api.text(answer))
            return answer
        for item in answer:
            say(call.api.piece(item))
        return answer


async def _ask_async(call: Call, clients: Clients, history: list[Message], say: Say) -> Any:
    async with clients.asynchronous() as client:
        answer = await call.api.create(client)(**_arguments(call, history))
        if not call.stream:
            say(call.api.text(answer))
            return answer
        async for item in answer:
            say(call.api.piece(item))
        return answer


def _arguments(call: Call, history: list[Message]) -> dict[str, Any]:
    return {"model": call.model, **call.api.arguments(history), **({"stream": True} if call.stream else {})}


CHAT = Api(
    name="chat",
    sdk="openai",
    create=lambda client: client.chat.completions.create,
    arguments=lambda history: {"messages": history},
    text=lambda answer: answer.choices[0].message.content or "",
    piece=lambda chunk: (chunk.choices[0].delta.content or "") if chunk.choices else "",
)
RESPONSES = Api(
    name="responses",
    sdk="openai",
    create=lambda client: client.responses.create,
    arguments=lambda history: {"input": history, "max_output_tokens": MAX_TOKENS},
    text=lambda answer: answer.output_text,
    piece=lambda event: event.delta if event.type == "response.output_text.delta" else "",
)
MESSAGES = Api(
    name="messages",
    sdk="anthropic",
    create=lambda client: client.messages.create,
    arguments=lambda history: {"messages": history, "max_tokens": MAX_TOKENS},
    text=lambda answer: "".join(block.text for block in answer.content if block.type == "text"),
    piece=lambda event: getattr(event.delta, "text", "") if event.type == "content_block_delta" else "",
)
