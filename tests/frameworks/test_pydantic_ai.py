"""Pydantic AI, which awaits its models also where it is called synchronously."""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

from typing import Any

import pytest
from matrix import CHAT, MESSAGES, QUESTION, RESPONSES, SCHEMA_TOOL, TOOL, Case, Check, Place, cases, listed, weather
from payloads import CLAUDE, MODEL
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider


def chat(url: str) -> Any:
    return OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=f"{url}/v1", api_key="test"))


def responses(url: str) -> Any:
    return OpenAIResponsesModel(MODEL, provider=OpenAIProvider(base_url=f"{url}/v1", api_key="test"))


def anthropic(url: str) -> Any:
    return AnthropicModel(CLAUDE, provider=AnthropicProvider(base_url=url, api_key="test"))


def agent(model: Any, **options: Any) -> Any:
    return lambda url: Agent(model(url), **options)


def outcome(result: Any) -> Any:
    return result.output, result.all_messages(), result.usage


def streamed(agent: Any) -> Any:
    result = agent.run_stream_sync(QUESTION)
    return [*result.stream_text(delta=True)], result.all_messages(), result.usage


async def streamed_async(agent: Any) -> Any:
    async with agent.run_stream(QUESTION) as result:
        return await listed(result.stream_text(delta=True)), result.all_messages(), result.usage


async def ran(agent: Any) -> Any:
    return outcome(await agent.run(QUESTION))


ONCE = {"sync": lambda agent: outcome(agent.run_sync(QUESTION)), "async": ran}
CALLS = {**ONCE, "sync, streamed": streamed, "async, streamed": streamed_async}
NAME = "Pydantic AI"

CASES = [
    *cases(NAME, "OpenAIChatModel", agent(chat), CALLS, api=CHAT),
    *cases(NAME, "OpenAIResponsesModel", agent(responses), CALLS, api=RESPONSES),
    *cases(NAME, "AnthropicModel", agent(anthropic), CALLS, api=MESSAGES),
    *cases(NAME, "OpenAIChatModel", agent(chat, tools=[weather]), CALLS, api=CHAT, task=TOOL),
    *cases(NAME, "OpenAIResponsesModel", agent(responses, tools=[weather]), CALLS, api=RESPONSES, task=TOOL),
    *cases(NAME, "AnthropicModel", agent(anthropic, tools=[weather]), CALLS, api=MESSAGES, task=TOOL),
    *cases(NAME, "OpenAIChatModel", agent(chat, output_type=Place), ONCE, api=CHAT, task=SCHEMA_TOOL),
    *cases(NAME, "AnthropicModel", agent(anthropic, output_type=Place), ONCE, api=MESSAGES, task=SCHEMA_TOOL),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_pydantic_ai(check: Check, case: Case) -> None:
    check(case)
