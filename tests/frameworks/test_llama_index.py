"""LlamaIndex: LLMs on their own, and an agent."""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.openai import OpenAI, OpenAIResponses
from matrix import CHAT, MESSAGES, QUESTION, RESPONSES, SCHEMA, STREAMED, TOOL, Case, Check, Place, cases, listed, weather
from payloads import CLAUDE, MODEL


def chat(url: str, **options: Any) -> Any:
    return OpenAI(MODEL, api_base=f"{url}/v1", api_key="test", max_retries=0, **options)


def with_usage(url: str) -> Any:
    return chat(url, additional_kwargs={"stream_options": {"include_usage": True}})


def responses(url: str) -> Any:
    return OpenAIResponses(MODEL, api_base=f"{url}/v1", api_key="test", max_retries=0)


def anthropic(url: str) -> Any:
    return Anthropic(CLAUDE, base_url=url, api_key="test", max_retries=0)


def agent(llm: Any, *, streaming: bool) -> Any:
    return lambda url: FunctionAgent(llm=llm(url), tools=[weather], streaming=streaming)


async def ran(agent: Any) -> Any:
    result = await agent.run(QUESTION)
    return result.response, result.tool_calls


async def streamed(llm: Any) -> Any:
    return await listed(await llm.astream_chat(MESSAGE))


MESSAGE = [ChatMessage(QUESTION)]
CALLS = {
    "sync": lambda llm: llm.chat(MESSAGE),
    "async": lambda llm: llm.achat(MESSAGE),
    "sync, streamed": lambda llm: [*llm.stream_chat(MESSAGE)],
    "async, streamed": streamed,
}
ONCE = {way: CALLS[way] for way in ("sync", "async")}
ONLY_STREAMED = {way: CALLS[way] for way in STREAMED}
RAN, RAN_STREAMED = {"async": ran}, {"async, streamed": ran}


def structured(llm: Any) -> Any:
    return lambda url: llm(url).as_structured_llm(Place)


CASES = [
    *cases("LlamaIndex", "OpenAI", chat, CALLS, api=CHAT, estimated=STREAMED),
    *cases("LlamaIndex", "OpenAI, stream_options", with_usage, ONLY_STREAMED, api=CHAT),
    *cases("LlamaIndex", "OpenAIResponses", responses, CALLS, api=RESPONSES),
    *cases("LlamaIndex", "Anthropic", anthropic, CALLS, api=MESSAGES),
    *cases("LlamaIndex", "OpenAI", structured(chat), ONCE, api=CHAT, task=SCHEMA),
    *cases("LlamaIndex", "OpenAI", agent(chat, streaming=False), RAN, api=CHAT, task=TOOL),
    *cases("LlamaIndex", "OpenAI", agent(chat, streaming=True), RAN_STREAMED, api=CHAT, task=TOOL, estimated=STREAMED),
    *cases("LlamaIndex", "Anthropic", agent(anthropic, streaming=False), RAN, api=MESSAGES, task=TOOL),
    *cases("LlamaIndex", "Anthropic", agent(anthropic, streaming=True), RAN_STREAMED, api=MESSAGES, task=TOOL),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_llama_index(check: Check, case: Case) -> None:
    check(case)
