"""LangChain: chat models on their own, and an agent."""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from matrix import CHAT, MESSAGES, QUESTION, RESPONSES, SCHEMA, STREAMED, TOOL, Case, Check, Place, cases, listed, weather
from payloads import CLAUDE, MODEL


def openai(url: str, **options: Any) -> Any:
    return ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key="test", max_retries=0, **options)


def responses(url: str) -> Any:
    return openai(url, use_responses_api=True)


def anthropic(url: str) -> Any:
    return ChatAnthropic(model=CLAUDE, base_url=url, api_key="test", max_retries=0)


def agent(model: Any) -> Any:
    return lambda url: create_agent(model(url), tools=[weather])


CALLS = {
    "sync": lambda model: model.invoke(QUESTION),
    "async": lambda model: model.ainvoke(QUESTION),
    "sync, streamed": lambda model: [*model.stream(QUESTION)],
    "async, streamed": lambda model: listed(model.astream(QUESTION)),
}
MESSAGE = {"messages": [("user", QUESTION)]}
AGENT_CALLS = {
    "sync": lambda agent: agent.invoke(MESSAGE),
    "async": lambda agent: agent.ainvoke(MESSAGE),
    "sync, streamed": lambda agent: [*agent.stream(MESSAGE, stream_mode="messages")],
    "async, streamed": lambda agent: listed(agent.astream(MESSAGE, stream_mode="messages")),
}
ONCE = {way: CALLS[way] for way in ("sync", "async")}

CASES = [
    *cases("LangChain", "ChatOpenAI", openai, CALLS, api=CHAT, estimated=STREAMED),
    *cases("LangChain", "ChatOpenAI, stream_usage", lambda url: openai(url, stream_usage=True), CALLS, api=CHAT),
    *cases("LangChain", "ChatOpenAI, use_responses_api", responses, CALLS, api=RESPONSES),
    *cases("LangChain", "ChatAnthropic", anthropic, CALLS, api=MESSAGES),
    *cases("LangChain", "ChatOpenAI", lambda url: openai(url).with_structured_output(Place), ONCE, api=CHAT, task=SCHEMA),
    *cases("LangChain", "ChatOpenAI", agent(openai), AGENT_CALLS, api=CHAT, task=TOOL, estimated=STREAMED),
    *cases("LangChain", "ChatOpenAI, use_responses_api", agent(responses), AGENT_CALLS, api=RESPONSES, task=TOOL),
    *cases("LangChain", "ChatAnthropic", agent(anthropic), AGENT_CALLS, api=MESSAGES, task=TOOL),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_langchain(check: Check, case: Case) -> None:
    check(case)
