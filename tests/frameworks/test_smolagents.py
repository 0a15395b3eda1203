"""smolagents, which is synchronous."""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

from typing import Any

import pytest
from matrix import CHAT, QUESTION, TOOLS, Case, Check, cases, weather
from payloads import MODEL
from smolagents import ChatMessage, MessageRole, OpenAIModel, ToolCallingAgent, tool

MESSAGE = [ChatMessage(role=MessageRole.USER, content=QUESTION)]


def model(url: str) -> Any:
    return OpenAIModel(MODEL, api_base=f"{url}/v1", api_key="test", client_kwargs={"max_retries": 0})


def agent(**options: Any) -> Any:
    return lambda url: ToolCallingAgent([tool(weather)], model(url), verbosity_level=-1, **options)


CALLS = {
    "sync": lambda model: model.generate(MESSAGE),
    "sync, streamed": lambda model: [*model.generate_stream(MESSAGE)],
}

CASES = [
    *cases("smolagents", "OpenAIModel", model, CALLS, api=CHAT),
    *cases("smolagents", "OpenAIModel", agent(), {"sync": lambda agent: agent.run(QUESTION)}, api=CHAT, task=TOOLS),
    *cases(
        "smolagents",
        "OpenAIModel",
        agent(stream_outputs=True),
        {"sync, streamed": lambda agent: [*agent.run(QUESTION, stream=True)]},
        api=CHAT,
        task=TOOLS,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_smolagents(check: Check, case: Case) -> None:
    check(case)
