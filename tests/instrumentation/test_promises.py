"""What a program in production relies on: nothing of ours raises, leaks, blocks, double counts or stores content."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import importlib
import json
import logging
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import payloads as p
import pytest
from server import Received, Reply, Server, as_json, sse

import ecoimpact
from ecoimpact import Record, engine
from ecoimpact.instrumentation import background, report
from ecoimpact.instrumentation.call import Call
from ecoimpact.instrumentation.stream import end_held
from ecoimpact.providers.anthropic import MessageReader
from ecoimpact.providers.openai import ChatReader, ResponseReader
from ecoimpact.records.pipeline import Pipeline

ASK: Any = {"model": p.MODEL, "messages": [{"role": "user", "content": "How does water boil?"}]}


@pytest.fixture(autouse=True)
def _bare(server: Server) -> Iterator[None]:
    server.reset(answer)
    report.failures.clear()
    yield
    ecoimpact.uninstrument()
    report.failures.clear()


def answer(request: Received) -> Reply:
    """Whatever is asked for: chat, responses or messages, plain or streamed."""
    stream = bool(request.body.get("stream"))
    if "messages" in request.path:
        return sse(p.message_events(), named=True) if stream else as_json(p.message())
    if "responses" in request.path:
        return sse(p.response_events(), named=True) if stream else as_json(p.response())
    return sse(p.chat_chunks(usage=True), done=True) if stream else as_json(p.chat())


@pytest.fixture
def lost() -> Callable[[], dict[str, int]]:
    """What was lost since the test began: ``drops()`` counts for the whole life of the process."""
    before = ecoimpact.drops()
    return lambda: {reason: n - before.get(reason, 0) for reason, n in ecoimpact.drops().items() if n != before.get(reason)}


def use_every_way(client: openai.OpenAI) -> list[Any]:
    """A plain answer, a stream, a raw one, the helper: what the program gets of each."""
    plain = client.chat.completions.create(**ASK)
    stream = client.chat.completions.create(**ASK, stream=True)
    chunks = [chunk.model_dump() for chunk in stream]
    raw = client.chat.completions.with_raw_response.create(**ASK).parse()
    chat: Any = client.chat.completions
    helped = chat if hasattr(chat, "stream") else client.beta.chat.completions  # where old versions have it
    with helped.stream(**ASK) as helper:
        final = helper.get_final_completion()
    with client.chat.completions.with_streaming_response.create(**ASK, stream=True) as streaming:
        lines = list(streaming.iter_lines())
    response = client.responses.create(model=p.MODEL, input="x")
    return [plain.model_dump(), chunks, raw.model_dump(), final.model_dump(), lines, response.model_dump()]


def broken(*_args: Any, **_kwargs: Any) -> Any:
    raise RuntimeError("ours, not theirs")


INNARDS: list[tuple[Any, str]] = [
    (ChatReader, "feed"),
    (ChatReader, "counts"),
    (ResponseReader, "feed"),
    (Call, "__init__"),
    (Call, "end"),
    (Call, "feed"),
    (Call, "inference"),
    (engine, "assess"),
    (engine, "catalog"),
    (Pipeline, "put"),
    (background.Background, "settle"),
]


@pytest.mark.parametrize(("owner", "name"), INNARDS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_failure_of_ours_never_reaches_the_program(
    client: openai.OpenAI,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: Any,
    name: str,
) -> None:
    bare = use_every_way(client)
    records: list[Record] = []
    ecoimpact.instrument("openai", exporters=[records.append])
    monkeypatch.setattr(owner, name, broken)
    with caplog.at_level(logging.WARNING, "ecoimpact"):
        assert use_every_way(client) == bare
        gc.collect()
        ecoimpact.flush(10)
    monkeypatch.undo()
    assert "ours, not theirs" not in caplog.text, "messages of exceptions may hold content"
    assert len(caplog.records) <= 3, "one line for each kind of failure, not one for each call"
    assert use_every_way(client) == bare


def test_a_failure_is_counted_and_logged_once(
    lost: Callable[[], dict[str, int]],
    client: openai.OpenAI,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ecoimpact.instrument("openai")
    monkeypatch.setattr(ChatReader, "feed", broken)
    for _ in range(3):
        client.chat.completions.create(**ASK)
    assert lost() == {"internal-RuntimeError": 3}
    assert len(caplog.records) == 1


def test_a_logging_handler_of_the_program_that_raises_harms_nothing(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("disk full")

    handler = Raising()
    report.logger.addHandler(handler)
    try:
        ecoimpact.instrument("openai")
        monkeypatch.setattr(ChatReader, "feed", broken)
        assert client.chat.completions.create(**ASK).choices
    finally:
        report.logger.removeHandler(handler)


def test_an_exporter_that_raises_or_hangs_harms_nothing(lost: Callable[[], dict[str, int]], client: openai.OpenAI) -> None:
    import threading

    entered, leave = threading.Event(), threading.Event()
    records: list[Record] = []

    def hangs(_record: Record) -> None:
        entered.set()
        leave.wait(30)

    ecoimpact.instrument("openai", exporters=[broken, hangs, records.append])
    assert len(use_every_way(client)) == 6
    assert entered.wait(10)
    assert not ecoimpact.flush(0.01), "the hanging exporter has not got them all"
    leave.set()
    assert ecoimpact.flush(10)
    assert len(records) == 6
    assert lost() == {"exporter-error": 6}


def test_nothing_of_an_answer_is_kept(client: openai.OpenAI) -> None:
    records: list[Record] = []
    ecoimpact.instrument(exporters=[records.append])
    kept: list[weakref.ref[Any]] = []
    impacts = []
    for streamed in (False, True):
        result: Any = client.chat.completions.create(**ASK, stream=streamed)
        items = list(result) if streamed else [result]
        kept += [weakref.ref(item) for item in (result, *items)]
        impacts.append(items[-1].impacts)
        del result, items
    gc.collect()
    assert [ref() for ref in kept] == [None] * len(kept)
    assert [i.energy.value.min > 0 for i in impacts] == [True, True]
    ecoimpact.flush(10)
    assert len(records) == 2


def test_memory_stays_flat_over_many_calls(lost: Callable[[], dict[str, int]]) -> None:
    client = in_process(openai.OpenAI)
    ecoimpact.instrument(exporters=[lambda _record: None])

    def calls(number: int) -> None:
        for _ in range(number):
            client.chat.completions.create(**ASK)
            for _chunk in client.chat.completions.create(**ASK, stream=True):
                pass
        assert ecoimpact.flush(30)
        gc.collect()

    calls(200)
    tracemalloc.start()
    try:
        calls(50)
        before, _ = tracemalloc.get_traced_memory()
        calls(1000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        client.close()
    assert after - before < 64 * 1024, f"{after - before} bytes more after 2000 calls"
    assert lost() == {}


def sdks_httpx() -> Any:
    """The HTTP client library of the SDK's own generation: both may be installed."""
    base = importlib.import_module("openai._base_client")
    return vars(base).get("httpx2") or vars(base)["httpx"]


def in_process(kind: Callable[..., Any]) -> Any:
    """A client whose requests are answered in this process: httpx's mock transport, of the SDK's own generation."""
    httpx = sdks_httpx()

    def handle(request: Any) -> Any:
        received = Received("POST", request.url.path, {}, json.loads(request.content), b"")
        reply = answer(received)
        content = reply.body if reply.events is None else b"".join(reply.events)
        return httpx.Response(200, headers={"content-type": reply.content_type}, content=content)

    return kind(api_key="test", base_url="http://test/v1", http_client=httpx.Client(transport=httpx.MockTransport(handle)))


def test_threads(client: openai.OpenAI, server: Server) -> None:
    records: list[Record] = []
    ecoimpact.instrument(exporters=[records.append])
    with anthropic.Anthropic(api_key="test", base_url=server.url) as claude:

        def both(number: int) -> tuple[str, str]:
            plain = client.chat.completions.create(**ASK, stream=bool(number % 2))
            list(plain) if number % 2 else None
            message = claude.messages.create(model=p.CLAUDE, max_tokens=9, messages=ASK["messages"])
            return type(plain).__name__, type(message).__name__

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert len(list(pool.map(both, range(64)))) == 64
    assert ecoimpact.flush(10)
    endpoints = sorted((r.inference.endpoint, r.inference.stream) for r in records)
    assert endpoints == [("chat.completions", False)] * 32 + [("chat.completions", True)] * 32 + [("messages", False)] * 64
    assert len({r.id for r in records}) == 128


def test_shutting_down_while_others_call_raises_nothing(client: openai.OpenAI) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    ecoimpact.instrument(exporters=[lambda _record: None])
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(lambda: list(client.chat.completions.create(**ASK, stream=True))) for _ in range(40)]
            while not all(call.done() for call in calls):
                end_held()
            assert all(len(call.result()) > 3 for call in calls)
    finally:
        sys.setswitchinterval(interval)


def test_the_latency_is_the_answers_not_how_long_the_program_keeps_it(client: openai.OpenAI) -> None:
    """An answer that is complete, and let go of much later: the clock is moved on in between."""
    import time

    records: list[Record] = []
    ecoimpact.instrument(exporters=[records.append])
    raw = client.chat.completions.with_raw_response.create(**ASK)
    stream = client.chat.completions.create(**ASK, stream=True)
    for chunk in stream:
        if chunk.choices[0].finish_reason:
            break
    now = time.perf_counter
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ecoimpact.instrumentation.call.time.perf_counter", lambda: now() + 3600)
        del raw, chunk
        stream.close()
    assert ecoimpact.flush(10)
    assert [record.inference.status for record in records] == ["ok", "ok"]
    assert all(record.inference.latency_s is not None and record.inference.latency_s < 60 for record in records)


def test_a_request_that_was_sent_is_recorded_whatever_the_program_raises_in_it(server: Server) -> None:
    records: list[Record] = []
    ecoimpact.instrument(exporters=[records.append])
    httpx = sdks_httpx()

    def hook(_response: Any) -> None:
        raise ValueError("a hook of the program's own")

    http_client = httpx.Client(event_hooks={"response": [hook]})
    with openai.OpenAI(api_key="test", base_url=server.url, max_retries=0, http_client=http_client) as client:
        with pytest.raises((ValueError, openai.APIConnectionError)) as raised:  # old versions wrap it
            client.chat.completions.create(**ASK)
        unsendable: Any = [{"role": "user", "content": object()}]
        with pytest.raises((TypeError, ValueError)):
            client.chat.completions.create(model=p.MODEL, messages=unsendable)
    assert ecoimpact.flush(10)
    assert [(r.inference.status, r.inference.error_type) for r in records] == [("error", raised.type.__name__)]


def test_a_long_line_of_bytes_is_read_in_linear_time() -> None:
    """Counted in bytes that are copied, not in seconds."""
    from ecoimpact.instrumentation.body import EventDecoder

    fed: list[Any] = []

    class FakeCall:
        def feed(self, item: Any) -> None:
            fed.append(item)

    decoder = EventDecoder(FakeCall())  # type: ignore[arg-type]
    event = json.dumps({"content": "x" * 1_000_000}).encode()
    decoder.feed(b"data: ")
    for start in range(0, len(event), 100):
        decoder.feed(event[start : start + 100])
        assert len(decoder._rest) == start // 100 + 2, "parts are kept as they come, not joined each time"
    decoder.feed(b"\n\n")
    assert [len(item["content"]) for item in fed] == [1_000_000]
    decoder.feed(b"data: " + b"x" * (8 * 2**20))
    assert decoder._rest == [], "what is too long to be an event is not kept"


def test_concurrent_tasks(server: Server) -> None:
    records: list[Record] = []
    ecoimpact.instrument(exporters=[records.append])

    async def main() -> None:
        async with openai.AsyncOpenAI(api_key="test", base_url=server.url) as client:

            async def one(number: int) -> Any:
                result: Any = await client.chat.completions.create(**ASK, stream=bool(number % 2))
                return [chunk async for chunk in result][-1] if number % 2 else result

            results = await asyncio.gather(*(one(number) for number in range(40)))
            assert all(isinstance(result.impacts, ecoimpact.Impacts) for result in results)

    asyncio.run(main())
    assert ecoimpact.flush(10)
    assert len(records) == 40


CANARIES = ("canary-prompt-7f3a", "canary-answer-91bc", "canary-key-55de", "canary-tool-c0ff", "canary-error-ab12")


def test_no_content_is_ever_stored(server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prompt, reply, key, tool, error = CANARIES

    def script(request: Received) -> Reply:
        if request.body["model"] == "failing":
            return as_json({"error": {"message": error}}, 400)
        calls = [{"id": "1", "type": "function", "function": {"name": tool, "arguments": json.dumps({"a": tool})}}]
        if request.body.get("stream"):
            return sse(p.chat_chunks(usage=False, words=[reply]))
        return as_json(p.chat(reply, tool_calls=calls))

    server.reset(script)
    records: list[Record] = []
    ecoimpact.instrument(log_dir=tmp_path, exporters=[records.append])
    ask: Any = {"model": p.MODEL, "messages": [{"role": "user", "content": prompt}]}
    with (
        openai.OpenAI(api_key=key, base_url=server.url, max_retries=0) as client,
        caplog.at_level(logging.DEBUG, "ecoimpact"),
    ):
        client.chat.completions.create(**ask)
        list(client.chat.completions.create(**ask, stream=True))
        client.chat.completions.with_raw_response.create(**ask)
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(**{**ask, "model": "failing"})
        gc.collect()
        assert ecoimpact.flush(10)
    assert len(records) == 4
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*.jsonl"))
    assert written.count(b"\n") == 4
    for canary in CANARIES:
        assert canary.encode() not in written
        assert canary not in repr(records)
        assert canary not in caplog.text


PROGRAM = """
import sys
sys.path.insert(0, {here!r})
import gc, os
import openai, ecoimpact
from server import Server, as_json, sse
import payloads as p
ASK = dict(model=p.MODEL, messages=[])
server = Server()
server.reset(lambda r: sse(p.chat_chunks(usage=True), done=True) if r.body.get("stream") else as_json(p.chat()))
ecoimpact.instrument(log_dir={log!r})
client = openai.OpenAI(api_key="test", base_url=server.url)
{body}
"""


def log_of(body: str, log: Path, *, code: int = 0) -> list[dict[str, Any]]:
    program = PROGRAM.format(here=str(Path(__file__).parent), log=str(log), body=body)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for path in sorted(log.rglob("*.jsonl")) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        ("client.chat.completions.create(**ASK)", ["ok"]),
        ("client.chat.completions.create(**ASK); sys.exit(0)", ["ok"]),
        ("stream = client.chat.completions.create(**ASK, stream=True); next(stream); next(stream)", ["abandoned"]),
        ("stream = client.chat.completions.create(**ASK, stream=True)", ["abandoned"]),
        ("raw = client.chat.completions.with_raw_response.create(**ASK)", ["ok"]),
        ("client.chat.completions.create(**ASK); ecoimpact.shutdown(); ecoimpact.shutdown()", ["ok"]),
        ("client.chat.completions.create(**ASK); ecoimpact.uninstrument()", ["ok"]),
        ("client.chat.completions.create(**ASK); ecoimpact.flush(); os._exit(0)", ["ok"]),
    ],
)
def test_the_end_of_a_program_loses_nothing(body: str, statuses: list[str], tmp_path: Path) -> None:
    assert [record["status"] for record in log_of(body, tmp_path)] == statuses


def test_an_uncaught_exception_ends_the_program_as_ever_and_the_log_is_written(tmp_path: Path) -> None:
    records = log_of("client.chat.completions.create(**ASK); raise SystemExit(7)", tmp_path, code=7)
    assert [record["status"] for record in records] == ["ok"]


def test_forked_children_log_for_themselves(tmp_path: Path) -> None:
    records = log_of(
        """
client.chat.completions.create(**ASK)
pid = os.fork()
if pid == 0:
    own = openai.OpenAI(api_key="test", base_url=server.url)
    own.chat.completions.create(model="gpt-4o", messages=[])
    ecoimpact.flush()
    os._exit(0)
os.waitpid(pid, 0)
client.chat.completions.create(**ASK)
""",
        tmp_path,
    )
    assert sorted(record["request_model"] for record in records) == ["gpt-4o", p.MODEL, p.MODEL]
    assert len(list(tmp_path.rglob("*.jsonl"))) == 2


def test_a_stream_that_is_open_at_a_fork_is_counted_by_the_parent_alone(tmp_path: Path) -> None:
    records = log_of(
        """
stream = client.chat.completions.create(**ASK, stream=True)
next(stream)
pid = os.fork()
if pid == 0:
    sys.exit(0)
os.waitpid(pid, 0)
list(stream)
""",
        tmp_path,
    )
    assert [(record["status"], record["output_tokens"]) for record in records] == [("ok", 503)]


def test_children_of_multiprocessing_end_their_calls_too(tmp_path: Path) -> None:
    records = log_of(
        """
import multiprocessing
def child():
    global stream
    own = openai.OpenAI(api_key="test", base_url=server.url)
    stream = own.chat.completions.create(**ASK, stream=True)
    next(stream)
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
assert process.exitcode == 0
""",
        tmp_path,
    )
    assert [record["status"] for record in records] == ["abandoned"]


def test_signal_handlers_are_kept(client: openai.OpenAI, tmp_path: Path) -> None:
    import signal

    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    ecoimpact.instrument(log_dir=tmp_path)
    client.chat.completions.create(**ASK)
    ecoimpact.flush(10)
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before


def test_background_requests_that_nobody_fetches_are_counted_as_lost(
    lost: Callable[[], dict[str, int]], client: openai.OpenAI, server: Server
) -> None:
    server.reset(as_json(p.response(status="queued", background=True)))
    records: list[Record] = []
    ecoimpact.instrument(exporters=[records.append])
    client.responses.create(model=p.MODEL, input="x", extra_body={"background": True})
    assert ecoimpact.shutdown(10)
    assert records == []
    assert lost() == {"background-never-fetched": 1}


def test_background_bookkeeping_is_bounded(
    lost: Callable[[], dict[str, int]], monkeypatch: pytest.MonkeyPatch, client: openai.OpenAI, server: Server
) -> None:
    monkeypatch.setattr(background, "LIMIT", 3)
    numbers = iter(range(100))
    server.reset(lambda _request: as_json({**p.response(status="queued", background=True), "id": f"resp_{next(numbers)}"}))
    ecoimpact.instrument(exporters=[lambda _record: None])
    for _ in range(5):
        client.responses.create(model=p.MODEL, input="x", extra_body={"background": True})
    assert lost() == {"background-evicted": 2}


def test_a_figure_is_the_methodologys_own(client: openai.OpenAI) -> None:
    ecoimpact.instrument()
    response = client.chat.completions.create(**ASK)
    latency_free = ecoimpact.estimate(p.SNAPSHOT, output_tokens=503, provider="openai")
    # Loopback answers in milliseconds: the measured latency bounds the server's and the embodied part, not the GPUs'.
    gpu_only = ecoimpact.estimate(p.SNAPSHOT, output_tokens=503, provider="openai", latency_s=0.0)
    assert gpu_only.energy is not None
    assert latency_free.energy is not None
    assert gpu_only.energy.max <= response.impacts.energy.max < latency_free.energy.max
    assert response.impacts.model.name == p.SNAPSHOT
    assert response.impacts.zone == "USA"


def test_an_unknown_model_is_flagged_never_zero(client: openai.OpenAI, server: Server) -> None:
    server.reset(as_json({**p.chat(), "model": "nobody-knows-this-one"}))
    ecoimpact.instrument()
    response = client.chat.completions.create(model="nobody-knows-this-one", messages=[])
    impacts = response.impacts  # type: ignore[attr-defined]
    assert [error.code for error in impacts.errors] == ["model-not-registered"]
    assert impacts.energy is None
    assert impacts.gwp is None


def test_readers_take_dicts_as_well_as_models() -> None:
    for reader, items, tokens in (
        (ChatReader(), p.chat_chunks(usage=True), 503),
        (ResponseReader(), p.response_events(), 87),
        (MessageReader(), p.message_events(), 317),
    ):
        finals = [reader.feed(item) for item in items]
        assert finals[-1]
        assert reader.usage().output_tokens == tokens
        assert not reader.usage().estimated
