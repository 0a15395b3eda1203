"""Instructor, which wraps a client of the SDK."""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

from typing import Any, ClassVar

import instructor
import pytest
from anthropic import Anthropic, AsyncAnthropic
from loopback_model import Model
from matrix import CHAT, MESSAGES, QUESTION, RETRY, SCHEMA, SCHEMA_TOOL, STREAMED, Case, Check, Place, cases, listed
from openai import AsyncOpenAI, OpenAI
from payloads import CLAUDE, MODEL
from pydantic import field_validator


def openai(mode: instructor.Mode) -> Any:
    def make(url: str) -> Any:
        options: dict[str, Any] = {"base_url": f"{url}/v1", "api_key": "test", "max_retries": 0}
        return [instructor.from_openai(client(**options), mode=mode) for client in (OpenAI, AsyncOpenAI)]

    return make


def anthropic(url: str) -> Any:
    options: dict[str, Any] = {"base_url": url, "api_key": "test", "max_retries": 0}
    return [instructor.from_anthropic(client(**options)) for client in (Anthropic, AsyncAnthropic)]


def asking(model: str, **options: Any) -> dict[str, Any]:
    question = {"role": "user", "content": QUESTION}
    ask: dict[str, Any] = {"model": model, "messages": [question], "response_model": Place, "max_retries": 0, **options}
    return {
        "sync": lambda clients: clients[0].create(**ask),
        "async": lambda clients: clients[1].create(**ask),
        "sync, streamed": lambda clients: [*clients[0].create_partial(**ask)],
        "async, streamed": lambda clients: listed(clients[1].create_partial(**ask)),
    }


class Elsewhere(Place):
    """A place that is refused when it is first named."""

    refused: ClassVar[list[str]] = []

    @field_validator("city")
    @classmethod
    def second_time(cls, city: str) -> str:
        cls.refused.append(city)
        if len(cls.refused) % 2:
            raise ValueError("name it again")
        return city


def insisting(model: str, **options: Any) -> dict[str, Any]:
    calls = asking(model, response_model=Elsewhere, max_retries=1, **options)
    return {way: calls[way] for way in ("sync", "async")}


TOOLS, SCHEMAS = openai(instructor.Mode.TOOLS), openai(instructor.Mode.JSON_SCHEMA)
OF_OPENAI, OF_ANTHROPIC = asking(MODEL), asking(CLAUDE, max_tokens=100)
AGAIN, TWICE = insisting(CLAUDE, max_tokens=100), Model(asks=2)

CASES = [
    *cases("Instructor", "from_openai, TOOLS", TOOLS, OF_OPENAI, api=CHAT, task=SCHEMA_TOOL, estimated=STREAMED),
    *cases("Instructor", "from_openai, JSON_SCHEMA", SCHEMAS, OF_OPENAI, api=CHAT, task=SCHEMA, estimated=STREAMED),
    *cases("Instructor", "from_anthropic", anthropic, OF_ANTHROPIC, api=MESSAGES, task=SCHEMA_TOOL),
    *cases("Instructor", "from_openai, TOOLS", TOOLS, insisting(MODEL), api=CHAT, task=RETRY, model=TWICE),
    *cases("Instructor", "from_anthropic", anthropic, AGAIN, api=MESSAGES, task=RETRY, model=TWICE),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_instructor(check: Check, case: Case) -> None:
    check(case)
