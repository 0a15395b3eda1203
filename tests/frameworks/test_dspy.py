"""DSPy: with its LiteLLM engine, and with its own, which speaks HTTP by itself."""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

from typing import Any

import dspy
import pytest
from loopback_model import Model
from matrix import CHAT, QUESTION, STREAMED, Case, Check, cases, listed
from payloads import MODEL, TEXT

ANSWERING = Model(f"[[ ## answer ## ]]\n{TEXT}\n\n[[ ## completed ## ]]")


def predict(engine: str) -> Any:
    def make(url: str) -> Any:
        program = dspy.Predict("question -> answer")
        options = {"cache": False, "num_retries": 0, "engine": engine}
        program.set_lm(dspy.LM(f"openai/{MODEL}", api_base=f"{url}/v1", api_key="test", **options))
        return program

    return make


async def streamed(program: Any) -> Any:
    """The words of the stream, and the prediction that ends it."""
    *chunks, prediction = await listed(dspy.streamify(program)(question=QUESTION))
    return [chunk.choices[0].delta.content for chunk in chunks], prediction


CALLS = {
    "sync": lambda program: program(question=QUESTION),
    "async": lambda program: program.acall(question=QUESTION),
    "async, streamed": streamed,
}
OPTIONS: dict[str, Any] = {"api": CHAT, "model": ANSWERING, "provider": "litellm"}

CASES = [
    *cases("DSPy", 'LM, engine="litellm"', predict("litellm"), CALLS, **OPTIONS, estimated=STREAMED),
    *cases("DSPy", "LM", predict("auto"), CALLS, **OPTIONS, unseen=True),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_dspy(check: Check, case: Case) -> None:
    check(case)
