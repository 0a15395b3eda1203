"""Haystack: generators on their own, and an agent."""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

from typing import Any

import pytest
from anthropic import Anthropic, AsyncAnthropic
from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import create_tool_from_function
from haystack.utils import Secret
from haystack_integrations.components.generators.anthropic import AnthropicChatGenerator
from matrix import CHAT, MESSAGES, QUESTION, RESPONSES, STREAMED, TOOL, Case, Check, cases, weather
from payloads import CLAUDE, MODEL

KEY = Secret.from_token("test")


def chat(url: str, **options: Any) -> Any:
    return OpenAIChatGenerator(KEY, MODEL, api_base_url=f"{url}/v1", max_retries=0, generation_kwargs=options)


def chat_with_usage(url: str) -> Any:
    return chat(url, stream_options={"include_usage": True})


def responses(url: str) -> Any:
    return OpenAIResponsesChatGenerator(api_key=KEY, model=MODEL, api_base_url=f"{url}/v1", max_retries=0)


def anthropic(url: str) -> Any:
    generator = AnthropicChatGenerator(KEY, CLAUDE)
    generator.client = Anthropic(base_url=url, api_key="test", max_retries=0)
    generator.async_client = AsyncAnthropic(base_url=url, api_key="test", max_retries=0)
    return generator


def agent(generator: Any) -> Any:
    return lambda url: Agent(chat_generator=generator(url), tools=[create_tool_from_function(weather)])


def streamed(component: Any) -> Any:
    chunks: list[Any] = []
    return component.run(messages=MESSAGE, streaming_callback=chunks.append), chunks


async def streamed_async(component: Any) -> Any:
    chunks: list[Any] = []

    async def take(chunk: Any) -> None:
        chunks.append(chunk)

    return await component.run_async(messages=MESSAGE, streaming_callback=take), chunks


MESSAGE = [ChatMessage.from_user(QUESTION)]
CALLS = {
    "sync": lambda component: component.run(messages=MESSAGE),
    "async": lambda component: component.run_async(messages=MESSAGE),
    "sync, streamed": streamed,
    "async, streamed": streamed_async,
}
USAGE_ASKED = "OpenAIChatGenerator, stream_options"

CASES = [
    *cases("Haystack", "OpenAIChatGenerator", chat, CALLS, api=CHAT, estimated=STREAMED),
    *cases("Haystack", USAGE_ASKED, chat_with_usage, {way: CALLS[way] for way in STREAMED}, api=CHAT),
    *cases("Haystack", "OpenAIResponsesChatGenerator", responses, CALLS, api=RESPONSES),
    *cases("Haystack", "AnthropicChatGenerator", anthropic, CALLS, api=MESSAGES),
    *cases("Haystack", "OpenAIChatGenerator", agent(chat), CALLS, api=CHAT, task=TOOL, estimated=STREAMED),
    *cases("Haystack", "AnthropicChatGenerator", agent(anthropic), CALLS, api=MESSAGES, task=TOOL),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_haystack(check: Check, case: Case) -> None:
    check(case)
