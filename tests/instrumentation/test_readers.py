"""Readers against what may come from outside: anything that JSON can say, in any order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import payloads as p
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoimpact import engine
from ecoimpact.instrumentation.provider import Reader
from ecoimpact.providers import all_providers, cohere, ollama
from ecoimpact.providers.anthropic import MessageReader
from ecoimpact.providers.bedrock import BodyReader, ConverseReader, PlainBodyReader
from ecoimpact.providers.google_genai import ContentReader
from ecoimpact.providers.huggingface_hub import TextReader
from ecoimpact.providers.mistralai import ConversationReader, MistralChatReader, MistralResponseReader
from ecoimpact.providers.openai import ChatReader, ResponseReader
from ecoimpact.types import Usage

READERS = (
    *(ChatReader, ResponseReader, MessageReader, MistralChatReader, MistralResponseReader, ConversationReader),
    *(ContentReader, cohere.ChatReader, ollama.AnswerReader, TextReader),
    *(ConverseReader, BodyReader, PlainBodyReader),
)
NAMES = sorted(
    {
        *("id", "object", "model", "usage", "choices", "delta", "message", "content", "finish_reason", "type", "response"),
        *("status", "background", "output", "input_tokens", "output_tokens", "prompt_tokens", "completion_tokens"),
        *("prompt_tokens_details", "completion_tokens_details", "cached_tokens", "reasoning_tokens", "tool_calls"),
        *("function", "arguments", "name", "text", "iterations", "stop_reason", "output_tokens_details", "thinking_tokens"),
        *("cache_read_input_tokens", "cache_creation_input_tokens", "refusal", "reasoning_content"),
        *("data", "outputs", "candidates", "usage_metadata", "usageMetadata", "parts", "finishReason", "function_call"),
        *("args", "candidates_token_count", "thoughtsTokenCount", "prompt_tokens_details", "modality", "token_count"),
        *("sdk_http_response", "body", "meta", "tokens", "billed_units", "cached_tokens", "generations", "tool_plan"),
        *("event_type", "done", "eval_count", "prompt_eval_count", "thinking", "details", "generated_tokens", "prefill"),
        *("token", "generated_text", "input_length"),
        *("contentBlockStart", "contentBlockDelta", "start", "metadata", "messageStop", "toolUse", "reasoningContent"),
        *("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheDetails", "ttl", "trace", "promptRouter"),
        *("results", "tokenCount", "completions", "prompt", "outputText", "generation", "chunk", "bytes"),
        *("ResponseMetadata", "HTTPHeaders", "x-amzn-bedrock-output-token-count", "amazon-bedrock-invocationMetrics"),
        *("inputTokenCount", "outputTokenCount"),
    }
)
VALUES = [
    *("message_start", "message_delta", "message_stop", "message", "content_block_delta", "compaction"),
    *("response", "chat.completion", "completed", "in_progress", "queued", "response.completed"),
    *("message-end", "stream-end", "AUDIO", "STOP", '{"usageMetadata": {"candidatesTokenCount": 4}}', "[]", "7"),
]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(VALUES)
    | st.just(float("nan"))
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=12,
)
ITEMS = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=8)


def as_objects(value: Any) -> Any:
    """The same with attributes for keys, as SDKs have it."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: as_objects(inner) for name, inner in value.items()})
    return [as_objects(inner) for inner in value] if isinstance(value, list) else value


@settings(max_examples=150, deadline=None)
@given(items=st.lists(ITEMS | JSON, max_size=5), attributes=st.booleans())
@pytest.mark.parametrize("reader_class", READERS)
def test_nothing_that_json_can_say_raises_or_gives_an_impossible_count(
    reader_class: type[Reader], items: list[Any], attributes: bool
) -> None:
    reader = reader_class()
    for item in map(as_objects, items) if attributes else items:
        assert reader.feed(item) in (True, False)
        reader.is_usage_only(item)
    usage = reader.usage()
    for count in (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, usage.reasoning_tokens):
        assert count is None or (type(count) is int and count >= 0)
    assert reader.response_model is None or isinstance(reader.response_model, str)
    assert reader.response_id is None or isinstance(reader.response_id, str)
    assessment = engine.assess(
        engine.catalog(),
        provider="openai",
        models=(reader.response_model, p.MODEL),
        usage=usage,
        latency_s=1.0,
        methodology="ecologits",
    )
    assert (assessment.low is None) == bool(assessment.errors)


@given(cuts=st.lists(st.integers(min_value=1, max_value=60), max_size=30), ending=st.sampled_from(["\n\n", "\r\n\r\n"]))
@settings(max_examples=100, deadline=None)
def test_events_are_read_however_the_bytes_are_cut(cuts: list[int], ending: str) -> None:
    import json

    from ecoimpact.instrumentation.body import EventDecoder

    fed: list[Any] = []

    class FakeCall:
        def feed(self, item: Any) -> None:
            fed.append(item)

        def end(self, status: str, error: BaseException | None = None) -> None:
            fed.append(status)

    events = p.chat_chunks(usage=True)
    body = (
        ": a comment\n" + "".join(f"event: x\ndata: {json.dumps(event)}{ending}" for event in events) + "data: [DONE]\n\n"
    )
    decoder = EventDecoder(FakeCall())  # type: ignore[arg-type]
    rest = body.encode()
    for cut in cuts:
        decoder.feed(rest[:cut])
        rest = rest[cut:]
    decoder.feed(rest)
    decoder.end("ok")
    assert fed == [*events, "ok"]


@pytest.mark.parametrize(
    ("characters", "tokens"), [(0, None), (1, 1), (4, 1), (5, 2), (4000, 1000)]
)  # four characters a token, rounded up
def test_an_estimate_is_marked(characters: int, tokens: int | None) -> None:
    reader = ChatReader()
    reader.characters = characters
    assert reader.usage() == Usage(output_tokens=tokens, estimated=tokens is not None)


@pytest.mark.parametrize(
    ("message", "characters"),
    [
        ({"content": "", "reasoning": "y" * 40}, 40),
        ({"content": "abc", "reasoning_content": "y" * 5}, 8),
        ({"content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, 3),
        ({"content": None, "tool_calls": [{"custom": {"name": "sql", "input": "select 1"}}]}, 11),
        ({"content": None, "refusal": "no"}, 2),
    ],
)
@pytest.mark.parametrize("place", ["message", "delta"])
def test_all_that_is_generated_counts(message: dict[str, Any], characters: int, place: str) -> None:
    reader = ChatReader()
    reader.feed({"choices": [{place: message, "finish_reason": None}]})
    assert reader.characters == characters


def test_running_totals_are_replaced_not_added() -> None:
    reader = MessageReader()
    for event in p.message_events():
        reader.feed(event)
    assert reader.usage() == Usage(
        input_tokens=2065, output_tokens=317, cached_input_tokens=2048, reasoning_tokens=200, cache_write_tokens=5
    )


def test_what_is_priced_apart_is_kept_apart() -> None:
    chat, responses, messages = ChatReader(), ResponseReader(), MessageReader()
    usage = {
        **p.CHAT_USAGE,
        "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 4},
    }
    chat.feed({**p.chat(usage=usage), "service_tier": "flex"})
    assert chat.usage().service_tier == "flex"
    assert dict(chat.usage().priced_apart) == {"input_audio_tokens": 3, "output_audio_tokens": 4}
    responses.feed({**p.response(), "service_tier": "default"})
    assert responses.usage().service_tier is None
    usage = {
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_creation_input_tokens": 100,
        "cache_creation": {"ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40},
        "server_tool_use": {"web_search_requests": 2},
        "service_tier": "batch",
    }
    messages.feed({"type": "message", "id": "m", "model": "claude", "content": [], "usage": usage})
    assert messages.usage() == Usage(
        input_tokens=110,
        output_tokens=5,
        cache_write_tokens=100,
        service_tier="batch",
        priced_apart=(("cache_write_1h_tokens", 40), ("web_searches", 2)),
    )


def test_what_google_counts_apart_is_added_up() -> None:
    reader = ContentReader()
    audio = [{"modality": "AUDIO", "token_count": 5}, {"modality": "TEXT", "token_count": 65}]
    first = {"candidates_token_count": 10, "thoughts_token_count": 300, "prompt_token_count": 40}
    last = {"candidates_token_count": 70, "candidates_tokens_details": audio, "tool_use_prompt_token_count": 3}
    assert not reader.feed({"usage_metadata": first})
    assert reader.feed({"candidates": [{"finish_reason": "STOP"}], "usage_metadata": last})
    assert reader.usage() == Usage(
        input_tokens=43, output_tokens=370, reasoning_tokens=300, priced_apart=(("output_audio_tokens", 5),)
    )


def test_an_answer_of_googles_that_was_left_unparsed_is_read_from_its_body() -> None:
    body = """{"candidates": [{"finishReason": "STOP", "content": {"parts": [{"text": "x"}]}}], "modelVersion": "gemini-9",
        "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 7, "thoughtsTokenCount": 2}}"""
    reader = ContentReader()
    assert reader.feed({"sdk_http_response": {"body": body}})
    assert reader.usage() == Usage(input_tokens=4, output_tokens=9, reasoning_tokens=2)
    assert reader.response_model == "gemini-9"


def test_cohere_bills_less_than_it_generates() -> None:
    reader = cohere.ChatReader()
    usage = {"billed_units": {"input_tokens": 9.0, "output_tokens": 133.0}, "tokens": {"output_tokens": 140.0}}
    assert reader.feed({"type": "message-end", "delta": {"usage": usage}})
    assert reader.usage() == Usage(input_tokens=9, output_tokens=140)


@pytest.mark.parametrize(
    ("reader_class", "items", "characters"),
    [
        (MistralChatReader, [{"data": {"choices": [{"delta": {"content": [{"type": "text", "text": "abc"}]}}]}}], 3),
        (MistralChatReader, [{"choices": [{"message": {"content": [{"thinking": [{"text": "hmm"}]}]}}]}], 3),
        (ConversationReader, [{"data": {"content": "ab"}}, {"data": {"name": "f", "arguments": "{}"}}], 5),
        (ContentReader, [{"candidates": [{"content": {"parts": [{"function_call": {"name": "f", "args": {}}}]}}]}], 1),
        (cohere.ChatReader, [{"message": {"tool_plan": "look", "tool_calls": [{"function": {"name": "f"}}]}}], 5),
        (cohere.ChatReader, [{"event_type": "text-generation", "text": "abc"}], 3),
        (cohere.ChatReader, [{"generations": [{"text": "abc"}]}], 3),
        (ollama.AnswerReader, [{"message": {"content": "ab", "thinking": "c"}}, {"response": "de"}], 5),
        (TextReader, ["abc", "de"], 5),
        (ConverseReader, [{"contentBlockDelta": {"delta": {"reasoningContent": {"text": "abc"}}}}], 3),
        (BodyReader, [{"chunk": {"bytes": b'{"generation": "ab"}'}}, {"chunk": {"bytes": b'{"generation": "c"}'}}], 3),
        (BodyReader, [{"completions": [{"data": {"text": "abc"}}]}], 3),
        (TextReader, [{"token": {"text": "abc"}}], 3),
    ],
)
def test_every_reader_counts_what_is_generated(reader_class: type[Reader], items: list[Any], characters: int) -> None:
    reader = reader_class()
    for item in items:
        reader.feed(item)
    assert reader.characters == characters


@pytest.mark.parametrize("odd", ["", "a" * 33, "two words", "né", 7, None, ["flex"], "\x1b[31m"])
def test_a_tier_that_is_none_is_left_out(odd: Any) -> None:
    reader = ChatReader()
    reader.feed({**p.chat(), "service_tier": odd})
    assert reader.usage().service_tier is None


def test_every_provider_says_what_it_is() -> None:
    for name, provider in all_providers().items():
        assert provider.id == name
        assert provider.supported.startswith(">=")
        assert provider.opt_in or any(target.required for target in provider.targets)
