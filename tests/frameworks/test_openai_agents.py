"""The OpenAI Agents SDK."""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent, ModelSettings, OpenAIProvider, RunConfig, Runner, function_tool
from matrix import CHAT, QUESTION, RESPONSES, SCHEMA, STREAMED, TOOL, Case, Check, Place, cases, listed, weather
from payloads import MODEL


def agent(*, use_responses: bool, **options: Any) -> Any:
    def make(url: str) -> Any:
        provider = OpenAIProvider(base_url=f"{url}/v1", api_key="test", use_responses=use_responses)
        run = RunConfig(model_provider=provider, tracing_disabled=True)
        return {"starting_agent": Agent(name="guide", model=MODEL, **options), "input": QUESTION, "run_config": run}

    return make


def outcome(result: Any) -> Any:
    return result.final_output, result.to_input_list(), result.raw_responses


async def ran(run: Any) -> Any:
    return outcome(await Runner.run(**run))


async def streamed(run: Any) -> Any:
    result = Runner.run_streamed(**run)
    events = await listed(result.stream_events())
    return [event.type for event in events], outcome(result)


CALLS = {"sync": lambda run: outcome(Runner.run_sync(**run)), "async": ran, "async, streamed": streamed}
ONCE = {way: CALLS[way] for way in ("sync", "async")}
USAGE = ModelSettings(include_usage=True)
TOOLS = [function_tool(weather)]
NAME, RESPONSES_MODEL, CHAT_MODEL = "OpenAI Agents SDK", "responses", "chat completions"

CASES = [
    *cases(NAME, RESPONSES_MODEL, agent(use_responses=True), CALLS, api=RESPONSES),
    *cases(NAME, RESPONSES_MODEL, agent(use_responses=True, tools=TOOLS), CALLS, api=RESPONSES, task=TOOL),
    *cases(NAME, RESPONSES_MODEL, agent(use_responses=True, output_type=Place), ONCE, api=RESPONSES, task=SCHEMA),
    *cases(NAME, CHAT_MODEL, agent(use_responses=False), CALLS, api=CHAT, estimated=STREAMED),
    *cases(NAME, f"{CHAT_MODEL}, include_usage", agent(use_responses=False, model_settings=USAGE), CALLS, api=CHAT),
    *cases(NAME, CHAT_MODEL, agent(use_responses=False, tools=TOOLS), CALLS, api=CHAT, task=TOOL, estimated=STREAMED),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_openai_agents(check: Check, case: Case) -> None:
    check(case)
