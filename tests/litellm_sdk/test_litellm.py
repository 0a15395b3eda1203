"""What holds around the shapes: who is caught, who is counted, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import contextvars
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import litellm
import openai
import payloads as p
import pytest
from litellm import acompletion, completion  # before instrument(), as programs do it
from server import Server, as_json, sse

import ecoimpact
from ecoimpact import Record
from ecoimpact.price_library import price_library
from ecoimpact.providers.litellm import Served, locate
from ecoimpact.runtime import _runtime

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.filterwarnings("error:::ecoimpact")]

MESSAGES: Any = [{"role": "user", "content": "How does water boil?"}]


@pytest.fixture
def records() -> Iterator[list[Record]]:
    price_library()  # see test_litellm_shapes
    records: list[Record] = []
    ecoimpact.instrument(exporters=[records.append])
    yield records
    ecoimpact.uninstrument()


@pytest.fixture
def options(server: Server) -> dict[str, Any]:
    server.reset(as_json(p.chat()))
    return {
        "model": f"openai/{p.MODEL}",
        "messages": MESSAGES,
        "api_key": "test",
        "api_base": f"{server.url}/v1",
        "max_retries": 0,
    }


def counted(records: list[Record]) -> list[tuple[str, str]]:
    assert ecoimpact.flush(10)
    return [(record.inference.endpoint, record.inference.status) for record in records]


CHAT = ("chat.completions", "ok")


def test_functions_imported_before(records: list[Record], options: dict[str, Any]) -> None:
    assert ecoimpact.impacts_of(completion(**options)) is not None
    assert ecoimpact.impacts_of(asyncio.run(acompletion(**options))) is not None
    assert counted(records) == [CHAT, CHAT]


def test_everything_is_as_before_after_uninstrument(options: dict[str, Any]) -> None:
    def places() -> dict[str, Any]:
        found = {}
        for name in ("completion", "acompletion", "text_completion", "atext_completion"):
            function = getattr(litellm.main, name)
            found[name] = inner = function.__wrapped__
            found[f"{name}, in its decorator"] = function.__closure__[
                function.__code__.co_freevars.index("original_function")
            ].cell_contents
            assert inner is found[f"{name}, in its decorator"] or hasattr(inner, "__wrapped__") is False
        found["stream"] = litellm.CustomStreamWrapper.__dict__["__next__"]
        return found

    before = places()
    ecoimpact.instrument("litellm")
    try:
        assert places()["completion, in its decorator"] is not before["completion, in its decorator"]
        stream = completion(**options, mock_response="Water boils.", stream=True)
    finally:
        ecoimpact.uninstrument()
    assert places() == before
    assert not hasattr(completion(**options), "impacts")
    assert not any(hasattr(item, "impacts") for item in stream)


def test_every_target_of_this_version_is_patched() -> None:
    ecoimpact.instrument("litellm")
    try:
        status = _runtime.status()["providers"]["litellm"]
    finally:
        ecoimpact.uninstrument()
    assert status["missing"] == []
    assert "litellm.litellm_core_utils.streaming_handler:CustomStreamWrapper.__anext__" in status["patched"]


def test_calls_beside_litellm_count(records: list[Record], options: dict[str, Any], server: Server) -> None:
    with openai.OpenAI(api_key="test", base_url=f"{server.url}/v1", max_retries=0) as client:
        completion(**options)
        client.chat.completions.create(model=p.MODEL, messages=MESSAGES)
    assert counted(records) == [CHAT, CHAT]
    assert [record.inference.provider for record in records] == ["litellm", "openai"]


def test_what_is_asked_later_in_the_context_of_a_call_counts(
    records: list[Record], options: dict[str, Any], server: Server
) -> None:
    """LiteLLM runs callbacks in copies of a call's context: what those ask of a model is a request of their own."""
    kept: list[contextvars.Context] = []

    class Client(httpx.Client):  # openai 2 takes httpx's, openai 3 another
        def send(self, *args: Any, **kwargs: Any) -> httpx.Response:
            kept.append(contextvars.copy_context())
            return super().send(*args, **kwargs)

    transport: Any = Client()
    with (
        transport,
        openai.OpenAI(api_key="test", base_url=options["api_base"], http_client=transport) as inner,
        openai.OpenAI(api_key="test", base_url=options["api_base"]) as other,
    ):
        completion(**options, client=inner)
        ask = kept[0].run
        thread = threading.Thread(target=ask, args=(lambda: other.chat.completions.create(model="x", messages=MESSAGES),))
        thread.start()
        thread.join()
    assert counted(records) == [CHAT, CHAT]


def test_labels_reach_calls_that_run_in_other_threads(records: list[Record], options: dict[str, Any]) -> None:
    with ecoimpact.label(user="u1"):
        asyncio.run(acompletion(**options))
    assert counted(records) == [CHAT]
    assert dict(records[0].labels) == {"user": "u1"}


def test_a_function_of_the_programs_own_is_a_provider_too(records: list[Record], options: dict[str, Any]) -> None:
    """A custom provider that asks OpenAI's SDK: the request is LiteLLM's, once."""

    class Own(litellm.CustomLLM):  # type: ignore[misc, unused-ignore]
        def completion(self, *args: Any, **kwargs: Any) -> Any:
            with openai.OpenAI(api_key="test", base_url=options["api_base"], max_retries=0) as client:
                answer = client.chat.completions.create(model=p.MODEL, messages=MESSAGES)
            return litellm.ModelResponse(**answer.model_dump())

    litellm.custom_provider_map = [{"provider": "own", "custom_handler": Own()}]
    try:
        completion(model="own/model", messages=MESSAGES)
    finally:
        litellm.custom_provider_map = []
    assert counted(records) == [CHAT]
    assert records[0].inference.usage.output_tokens == 503


@pytest.mark.parametrize(
    ("model", "name", "url", "provider"),
    [
        ("openai/gpt-4o", "openai", None, "openai"),
        ("openai/gpt-4o", "openai", "https://api.openai.com/v1/", "openai"),
        ("openai/gpt-4o", "openai", "https://gateway.example.com/v1/", "litellm"),
        ("openai/gpt-4o", "openai", "http://localhost:8000/v1", "litellm"),
        ("openai/Qwen/Qwen3-8B", "openai", "http://localhost:8000/v1", "vllm"),
        ("openai/llama-3.3-70b", "openai", "https://api.groq.com/openai/v1", "groq"),
        ("groq/llama-3.3-70b-versatile", "groq", None, "groq"),
        ("azure/mine", "azure", "https://mine.openai.azure.com", "azure_openai"),
        ("anthropic/claude-haiku-4-5", "anthropic", "https://mine.services.ai.azure.com/anthropic", "azure_ai"),
        ("bedrock/anthropic.claude-haiku-4-5-20251001-v1:0", "bedrock", None, "bedrock"),
        ("vertex_ai/gemini-2.5-flash", "vertex_ai", None, "vertex"),
        ("gemini/gemini-2.5-flash", "gemini", None, "google_genai"),
        ("no-such-house/model", "no-such-house", None, "litellm"),
        ("litellm_proxy/gpt-4o", "litellm_proxy", "https://gateway.example.com", "litellm"),
        ("gpt-4o", None, None, "litellm"),
    ],
)
def test_who_serves(model: str, name: str | None, url: str | None, provider: str) -> None:
    from ecoimpact.instrumentation.provider import Request
    from ecoimpact.providers.litellm import CHAT as CHAT_ENDPOINT

    served = Served()
    served.note({"custom_llm_provider": name, "additional_args": {"api_base": url}})
    assert locate(Request(CHAT_ENDPOINT, model, False, object, served))[0] == provider


def test_names_of_litellm_are_known() -> None:
    """A provider that LiteLLM has renamed would be taken for an unknown place."""
    from ecoimpact.data.providers import PROVIDERS
    from ecoimpact.providers.litellm import _SERVED_BY

    names = {str(getattr(name, "value", name)) for name in litellm.provider_list}
    assert set(_SERVED_BY.values()) <= set(PROVIDERS)
    assert set(_SERVED_BY) - names <= {"bedrock_converse", "bedrock_mantle", "scaleway", "zai", "ollama_chat"}


def test_the_documentation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    price_library()
    document = Path(__file__).parents[2] / "docs" / "providers" / "litellm.md"
    (code,) = re.findall(r"```python skip=.*?\n(.*?)```", document.read_text("utf-8"), flags=re.DOTALL)
    try:
        exec(compile(code, str(document), "exec"), {})  # noqa: S102 - it is ours
    finally:
        ecoimpact.uninstrument()
    plain, streamed = capsys.readouterr().out.splitlines()
    assert plain.endswith("kWh")
    assert "kWh" in streamed


@pytest.mark.parametrize("stream", [False, True])
def test_where_claude_was_served_comes_through(records: list[Record], server: Server, stream: bool) -> None:
    usage = {**p.MESSAGE_USAGE, "inference_geo": "us"}
    events = p.message_events()
    events[0]["message"]["usage"]["inference_geo"] = "us"
    server.reset(sse(events, named=True) if stream else as_json(p.message(usage=usage)))
    answer = completion(
        model=f"anthropic/{p.CLAUDE}", messages=MESSAGES, api_key="test", api_base=server.url, max_retries=0, stream=stream
    )
    if stream:
        for _ in answer:
            pass
    assert ecoimpact.flush(10)
    (record,) = records
    assert (record.inference.usage.region, record.assessment.zone) == ("us", "USA")
