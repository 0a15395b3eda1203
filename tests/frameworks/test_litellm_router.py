"""LiteLLM's Router. What it is over is tested in tests/litellm_sdk."""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

from typing import Any

import pytest
from litellm import Router
from matrix import CHAT, QUESTION, STREAMED, Case, Check, cases, listed
from payloads import MODEL


def router(url: str) -> Any:
    model = {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": "test"}
    return Router([{"model_name": "small", "litellm_params": model}], num_retries=0)


ASK: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": QUESTION}]}


def streaming(**options: Any) -> dict[str, Any]:
    async def streamed(router: Any) -> Any:
        return await listed(await router.acompletion(**ASK, stream=True, **options))

    return {
        "sync, streamed": lambda router: [*router.completion(**ASK, stream=True, **options)],
        "async, streamed": streamed,
    }


CALLS = {
    "sync": lambda router: router.completion(**ASK),
    "async": lambda router: router.acompletion(**ASK),
    **streaming(),
}
WITH_USAGE = streaming(stream_options={"include_usage": True})

CASES = [
    *cases("LiteLLM", "Router", router, CALLS, api=CHAT, provider="litellm", estimated=STREAMED),
    *cases("LiteLLM", "Router, stream_options", router, WITH_USAGE, api=CHAT, provider="litellm"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_litellm_router(check: Check, case: Case) -> None:
    check(case)
