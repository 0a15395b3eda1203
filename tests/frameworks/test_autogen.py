"""AutoGen, which is asynchronous."""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import UserMessage
from autogen_ext.models.anthropic import AnthropicChatCompletionClient
from autogen_ext.models.openai import OpenAIChatCompletionClient
from matrix import CHAT, MESSAGES, QUESTION, STREAMED, TOOL, Case, Check, cases, listed, weather
from payloads import MODEL


def openai(url: str, **options: Any) -> Any:
    return OpenAIChatCompletionClient(model=MODEL, base_url=f"{url}/v1", api_key="test", max_retries=0, **options)


def anthropic(url: str) -> Any:
    return AnthropicChatCompletionClient(model="claude-sonnet-4-20250514", base_url=url, api_key="test", max_retries=0)


def agent(client: Any) -> Any:
    return lambda url: AssistantAgent("guide", client(url), tools=[weather], reflect_on_tool_use=True)


MESSAGE = [UserMessage(content=QUESTION, source="user")]
CALLS = {
    "async": lambda client: client.create(MESSAGE),
    "async, streamed": lambda client: listed(client.create_stream(MESSAGE)),
}
WITH_USAGE = {"async, streamed": lambda client: listed(client.create_stream(MESSAGE, include_usage=True))}
AGENT_CALLS = {"async": lambda agent: agent.run(task=QUESTION)}

CASES = [
    *cases("AutoGen", "OpenAIChatCompletionClient", openai, CALLS, api=CHAT, estimated=STREAMED),
    *cases("AutoGen", "OpenAIChatCompletionClient, include_usage", openai, WITH_USAGE, api=CHAT),
    *cases("AutoGen", "AnthropicChatCompletionClient", anthropic, CALLS, api=MESSAGES),
    *cases("AutoGen", "OpenAIChatCompletionClient", agent(openai), AGENT_CALLS, api=CHAT, task=TOOL),
    *cases("AutoGen", "AnthropicChatCompletionClient", agent(anthropic), AGENT_CALLS, api=MESSAGES, task=TOOL),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_autogen(check: Check, case: Case) -> None:
    check(case)
