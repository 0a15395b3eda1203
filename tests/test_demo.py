"""The demo end to end, and the provider behind it as the real SDKs see it."""

from __future__ import annotations

import http.client
import json
import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from typer.testing import CliRunner

import ecoimpact
from ecoimpact.cli import demo, demo_chat
from ecoimpact.cli.app import app
from ecoimpact.cli.embedded_answers import CONVERSATION, tokens
from ecoimpact.cli.embedded_provider import MODELS, EmbeddedProvider
from ecoimpact.records.reader import read_records

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What does one answer cost?"}]
ANSWER = CONVERSATION[0]
MODEL = "gpt-4o-mini"


@pytest.fixture(scope="module")
def provider() -> Iterator[EmbeddedProvider]:
    with EmbeddedProvider(speed=math.inf) as provider:
        yield provider


@pytest.fixture
def gpt(provider: EmbeddedProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.openai_base_url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(provider: EmbeddedProvider) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=provider.base_url, api_key="none", max_retries=0) as client:
        yield client


def number(text: str) -> int:
    return len(tokens(text))


# --- the embedded provider ----------------------------------------------------------------------------------------------


def test_chat_completions(gpt: openai.OpenAI) -> None:
    answer = gpt.chat.completions.create(model=MODEL, messages=QUESTION)
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == MODEL
    assert answer._request_id
    usage = answer.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (number("What does one answer cost?"), number(ANSWER))
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 0


def test_answers_repeat_and_ids_do_not(gpt: openai.OpenAI) -> None:
    first, second = (gpt.chat.completions.create(model=MODEL, messages=QUESTION) for _ in range(2))
    assert first.choices == second.choices
    assert first.usage == second.usage
    assert first.id != second.id


def test_a_chat_goes_on_and_its_past_comes_from_the_cache(gpt: openai.OpenAI) -> None:
    past: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "Be brief."},
        *QUESTION,
        {"role": "assistant", "content": ANSWER},
    ]
    answer = gpt.chat.completions.create(model=MODEL, messages=[*past, {"role": "user", "content": "And then?"}])
    assert answer.choices[0].message.content == CONVERSATION[1]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    cached = sum(number(str(message["content"])) for message in past)
    assert answer.usage.prompt_tokens_details.cached_tokens == cached
    assert answer.usage.prompt_tokens == cached + number("And then?")


@pytest.mark.parametrize("include_usage", [False, True])
def test_chat_streams(gpt: openai.OpenAI, include_usage: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if include_usage else {}
    chunks = list(gpt.chat.completions.create(model=MODEL, messages=QUESTION, stream=True, **options))  # type: ignore[call-overload]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == ANSWER
    assert len({chunk.id for chunk in chunks}) == 1
    with_usage = [chunk for chunk in chunks if chunk.usage]
    if include_usage:
        assert with_usage == chunks[-1:]
        assert chunks[-1].choices == []
        assert chunks[-1].usage.completion_tokens == number(ANSWER)
    else:
        assert not with_usage
        assert chunks[-1].choices[0].finish_reason == "stop"


def test_reasoning_and_limits_are_counted(gpt: openai.OpenAI) -> None:
    thinking = gpt.chat.completions.create(model="gpt-5-mini", messages=QUESTION, reasoning_effort="low")
    assert thinking.usage is not None
    assert thinking.usage.completion_tokens_details is not None
    reasoning = thinking.usage.completion_tokens_details.reasoning_tokens
    assert reasoning
    assert thinking.usage.completion_tokens == number(ANSWER) + reasoning
    short = gpt.chat.completions.create(model=MODEL, messages=QUESTION, max_completion_tokens=5)
    assert short.choices[0].finish_reason == "length"
    assert short.usage is not None
    assert short.usage.completion_tokens == number(short.choices[0].message.content or "") == 5


def test_responses(gpt: openai.OpenAI) -> None:
    answer = gpt.responses.create(model=MODEL, input="What does one answer cost?", instructions="Be brief.")
    assert answer.output_text == ANSWER
    assert answer.status == "completed"
    assert answer.usage is not None
    assert answer.usage.input_tokens == number("What does one answer cost?") + number("Be brief.")
    assert answer.usage.output_tokens == number(ANSWER)
    short = gpt.responses.create(model=MODEL, input="x", max_output_tokens=5)
    assert short.status == "incomplete"
    assert short.incomplete_details is not None
    assert short.incomplete_details.reason == "max_output_tokens"


def test_responses_stream(gpt: openai.OpenAI) -> None:
    events = list(gpt.responses.create(model=MODEL, input="x", stream=True, reasoning={"effort": "medium"}))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == ANSWER
    assert last.response.usage is not None
    reasoning = last.response.usage.output_tokens_details.reasoning_tokens
    assert reasoning > 0
    assert last.response.usage.output_tokens == number(ANSWER) + reasoning
    with gpt.responses.stream(model=MODEL, input="x") as stream:
        assert stream.get_final_response().output_text == ANSWER


def test_messages(claude: anthropic.Anthropic) -> None:
    answer = claude.messages.create(
        model="claude-haiku-4-5",
        max_tokens=1000,
        system="Be brief.",
        messages=[
            {"role": "user", "content": "What does one answer cost?"},
            {"role": "assistant", "content": ANSWER},
            {"role": "user", "content": [{"type": "text", "text": "And then?"}]},
        ],
    )
    assert isinstance(answer.content[0], anthropic.types.TextBlock)
    assert answer.content[0].text == CONVERSATION[1]
    assert answer.stop_reason == "end_turn"
    assert answer.usage.input_tokens == number("And then?")
    assert answer.usage.cache_read_input_tokens == sum(map(number, ("Be brief.", "What does one answer cost?", ANSWER)))
    assert answer.usage.output_tokens == number(CONVERSATION[1])


def test_messages_stream(claude: anthropic.Anthropic) -> None:
    asked: Any = {"model": "claude-haiku-4-5", "max_tokens": 5, "messages": QUESTION}
    events = list(claude.messages.create(**asked, stream=True))
    kinds = [event.type for event in events]
    assert kinds == [
        "message_start",
        "content_block_start",
        *kinds[2:-3],
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[-2].usage.output_tokens == 5
    assert events[-2].delta.stop_reason == "max_tokens"
    with claude.messages.stream(**asked) as stream:
        assert number(stream.get_final_text()) == 5
        assert stream.get_final_message().usage.output_tokens == 5


def test_models(gpt: openai.OpenAI) -> None:
    assert [model.id for model in gpt.models.list()] == list(MODELS)
    for name in MODELS:
        assert not ecoimpact.estimate(name, output_tokens=1).has_errors


def test_errors_are_those_of_the_sdks(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    with pytest.raises(openai.BadRequestError, match="model"):
        gpt.chat.completions.create(model="", messages=QUESTION)
    with pytest.raises(openai.BadRequestError, match="non-empty list"):
        gpt.chat.completions.create(model=MODEL, messages=[])
    with pytest.raises(openai.NotFoundError, match="no such endpoint"):
        gpt.embeddings.create(model=MODEL, input="x")
    with pytest.raises(anthropic.BadRequestError, match="non-empty list"):
        claude.messages.create(model="claude-haiku-4-5", max_tokens=5, messages=[])


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/chat/completions", b"[" * 50_000, 400),
        ("POST", "/v1/chat/completions", b"[]", 400),
        ("POST", "/v1/chat/completions", b'{"model": 1}', 400),
        ("POST", "/v1/chat/completions", b'{"model": "m", "messages": [1]}', 400),
        ("POST", "/v1/chat/completions", b'{"model": "m", "messages": [{"content": [1, null]}]}', 200),
        ("POST", "/v1/responses", b'{"model": "m", "input": "x", "reasoning": "much", "max_output_tokens": "all"}', 200),
        ("POST", "/v1/messages", b'{"model": "m", "messages": [{}]}', 400),
        ("POST", "/nothing", b"{}", 404),
        ("GET", "/", None, 404),
    ],
)
def test_odd_requests_get_an_answer_in_json(
    provider: EmbeddedProvider, method: str, path: str, body: bytes | None, status: int
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(provider.base_url.rpartition(":")[2]), timeout=30)
    try:
        for _ in range(2):  # the connection lives on
            connection.request(method, path, body)
            response = connection.getresponse()
            assert response.status == status
            assert isinstance(json.loads(response.read()), dict)
    finally:
        connection.close()


def test_bodies_without_a_length_or_too_long_are_refused(provider: EmbeddedProvider) -> None:
    for length in ("-1", "x", str(10**12)):
        connection = http.client.HTTPConnection("127.0.0.1", int(provider.base_url.rpartition(":")[2]), timeout=30)
        connection.putrequest("POST", "/v1/responses")
        connection.putheader("Content-Length", length)
        connection.endheaders()
        assert connection.getresponse().status == 400
        connection.close()


class Pace(threading.Event):
    """Instead of waiting it notes how long that would take."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return False


@pytest.mark.parametrize("stream", [False, True])
def test_it_takes_as_long_as_a_real_one(stream: bool) -> None:
    with EmbeddedProvider(speed=2) as provider:
        pace = provider._server.stopping = Pace()
        with openai.OpenAI(base_url=provider.openai_base_url, api_key="none") as client:
            answer = client.chat.completions.create(model=MODEL, messages=QUESTION, stream=stream)
            if isinstance(answer, openai.Stream):
                list(answer)
    assert pace.waits[0] == pytest.approx(0.3 / 2)
    assert sum(pace.waits) == pytest.approx((0.3 + number(ANSWER) / 80) / 2)
    assert len(pace.waits) == (1 + number(ANSWER) if stream else 2)


def test_tokens_lose_nothing() -> None:
    for text in (*CONVERSATION, "", "  ", "a\n\nb  ", "naïve 🌍 __x__ 12345678!?"):
        assert "".join(tokens(text)) == text


def test_a_speed_of_nothing_is_refused() -> None:
    for speed in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="speed"):
            EmbeddedProvider(speed=speed)


# --- the demo -----------------------------------------------------------------------------------------------------------


def run_demo(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``ecoimpact demo`` in a process and a home of its own, without keys, under a proxy that leads nowhere."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "COLUMNS": "80",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        **environment,
    }
    command = [sys.executable, "-W", "error", "-m", "ecoimpact.cli", "demo", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def rows(output: str) -> list[list[str]]:
    """The rows of the table of calls, cells apart."""
    return [
        re.split(r"\s{2,}", line.strip()) for line in output.splitlines() if re.match(r"(chat|responses|messages)  ?", line)
    ]


def test_the_demo_end_to_end(tmp_path: Path) -> None:
    done = run_demo(tmp_path, "--fast")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    shapes = ["", " stream", " async", " async stream"]
    expected = [(api + shape, turn) for api in ("chat", "responses", "messages") for turn, shape in enumerate(shapes)]
    table = rows(done.stdout)
    assert [row[0] for row in table] == [name for name, _ in expected]
    assert [int(row[2]) for row in table] == [number(CONVERSATION[turn]) for _, turn in expected]
    assert all(float(cell) > 0 for row in table for cell in row[3:6])
    # One record a call, with the tokens of the table, and exact.
    records = list(read_records(tmp_path / "impact-log"))
    assert [record["output_tokens"] for record in records] == [int(row[2]) for row in table]
    assert not any(record["tokens_estimated"] for record in records)
    assert [record["endpoint"] for record in records] == ["chat.completions"] * 4 + ["responses"] * 4 + ["messages"] * 4
    assert [record["stream"] for record in records] == [False, True] * 6
    assert {record["status"] for record in records} == {"ok"}
    assert {record["labels"]["app"] for record in records} == {"demo"}
    # The figures of the table are those of the records.
    for row, record in zip(table, records, strict=True):
        mean_wh = (record["energy_kwh_min"] + record["energy_kwh_max"]) / 2 * 1e3
        assert float(row[3]) == pytest.approx(mean_wh * 1e3, rel=0.01)
    low, high = (sum(record[f"gwp_kgco2eq_{end}"] for record in records) * 1e6 for end in ("min", "max"))
    total = re.search(r"carbon +([\d.]+) \(([\d.]+) to ([\d.]+)\) mgCO2eq", done.stdout)
    assert total is not None
    assert [float(part) for part in total.groups()] == pytest.approx([(low + high) / 2, low, high], rel=0.01)
    # No word of the chat is in the log, and what the demo says to look at is there.
    (segment,) = (tmp_path / "impact-log").glob("*/*.jsonl")
    content = segment.read_text()
    assert not any(text in content for text in (*demo_chat.QUESTIONS, *CONVERSATION, "smallest", "planet"))
    assert "ecoimpact dashboard --log " in done.stdout
    assert "ecoimpact report --log " in done.stdout
    long_lines = [line for line in done.stdout.splitlines() if len(line.rstrip()) > 80]
    assert all(line.startswith("  tail") for line in long_lines)


def test_the_demo_takes_log_and_zone_from_where_it_is_told(tmp_path: Path) -> None:
    done = run_demo(tmp_path, "--fast", "--zone", "fra", ECOIMPACT_LOG="logs/here")
    assert done.returncode == 0, done.stderr
    assert "zone FRA" in done.stdout
    assert {record["zone"] for record in read_records(tmp_path / "logs" / "here")} == {"FRA"}


def test_another_server_is_asked_by_the_openai_sdk_alone(tmp_path: Path, provider: EmbeddedProvider) -> None:
    url = provider.openai_base_url
    done = run_demo(tmp_path, "--base-url", url, "--model", "nobody-knows-1b-ü[/b]", no_proxy="127.0.0.1")
    assert done.returncode == 0, done.stderr
    assert [row[0] for row in rows(done.stdout)] == ["chat", "chat stream", "chat async", "chat async stream"]
    assert all(row[3:6] == ["-", "-", "-"] for row in rows(done.stdout))
    assert "No estimate: The model is not known" in done.stdout
    assert "no estimate for any of them" in done.stdout
    records = list(read_records(tmp_path / "impact-log"))
    assert [record["errors"] for record in records] == [["model-not-registered"]] * 4
    assert {record["energy_kwh_min"] for record in records} == {None}


@pytest.mark.parametrize("path", ["", "/v1"])
def test_a_server_that_refuses_is_reported(tmp_path: Path, provider: EmbeddedProvider, path: str) -> None:
    url = f"{provider.base_url}{path}" if not path else "http://127.0.0.1:9/v1"
    done = run_demo(tmp_path, "--base-url", url, "--model", MODEL, no_proxy="127.0.0.1")
    assert done.returncode == 1
    assert "chat failed." in done.stdout
    assert ("ends with /v1" in done.stdout) is not bool(path)
    assert "Traceback" not in done.stderr


def test_no_key_goes_to_another_server_unless_it_is_named(
    tmp_path: Path, provider: EmbeddedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    answer = provider._server.RequestHandlerClass.do_POST  # type: ignore[attr-defined]

    def noting(handler: Any) -> None:
        seen.append(handler.headers["Authorization"])
        answer(handler)

    monkeypatch.setattr(provider._server.RequestHandlerClass, "do_POST", noting)
    arguments = ("--base-url", provider.openai_base_url, "--model", MODEL)
    keys = {"OPENAI_API_KEY": "CANARY", "MY_KEY": "mine", "no_proxy": "127.0.0.1"}
    assert run_demo(tmp_path, *arguments, **keys).returncode == 0
    assert set(seen) == {"Bearer none"}
    seen.clear()
    assert run_demo(tmp_path, *arguments, "--api-key-env", "MY_KEY", **keys).returncode == 0
    assert set(seen) == {"Bearer mine"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--base-url", "http://x/v1"], "belong together"),
        (["--model", "x"], "belong together"),
        (["--base-url", "localhost:11434", "--model", "x"], "is not an address"),
        (["--zone", "FRX"], "FRA (France)"),
        (
            ["--base-url", "http://x/v1", "--model", "x", "--api-key-env", "NOT_SET_ANYWHERE"],
            "'NOT_SET_ANYWHERE' is not set",
        ),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(app, ["demo", *arguments])
    assert result.exit_code == 2
    assert says in result.stderr


@pytest.mark.parametrize("missing", [["openai"], ["anthropic"], ["openai", "anthropic"]])
def test_missing_sdks_are_named(monkeypatch: pytest.MonkeyPatch, missing: list[str]) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name in missing else object())
    result = CliRunner().invoke(app, ["demo", "--fast"])
    assert result.exit_code == 2
    assert f'pip install "ecoimpact[{",".join(missing)}]"' in result.stderr
