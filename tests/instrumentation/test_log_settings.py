"""What a program's settings put on its records: labels, hashes, prices, and records written before the call returns."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import payloads as p
import pytest
from server import Server, as_json, sse

import ecoimpact
from ecoimpact import Record
from ecoimpact.labels import hashed
from ecoimpact.records.reader import read_records

ASK: Any = {"model": p.MODEL, "messages": [{"role": "user", "content": "How does water boil?"}]}
SECRET = "a secret of the team"


@pytest.fixture(autouse=True)
def _bare(server: Server) -> Iterator[None]:
    server.reset(as_json(p.chat()))
    yield
    ecoimpact.uninstrument()


@pytest.fixture
def records() -> list[Record]:
    return []


def labels_of(records: list[Record]) -> list[dict[str, str]]:
    assert ecoimpact.flush(10)
    return [dict(record.labels) for record in records]


# --- labels -------------------------------------------------------------------------------------------------------------


def test_a_request_has_the_labels_of_where_it_began(client: openai.OpenAI, server: Server, records: list[Record]) -> None:
    ecoimpact.instrument("openai", exporters=[records.append], labels={"app": "chat", "team": "a"})
    client.chat.completions.create(**ASK)
    with ecoimpact.label(user="u1", team="b"):
        client.chat.completions.create(**ASK)
        server.reset(sse(p.chat_chunks(usage=True)))
        stream = client.chat.completions.create(**ASK, stream=True)
    with ecoimpact.label(user="another"):
        list(stream)
    assert labels_of(records) == [
        {"app": "chat", "team": "a"},
        {"app": "chat", "team": "b", "user": "u1"},
        {"app": "chat", "team": "b", "user": "u1"},
    ]


def test_concurrent_tasks_keep_their_labels_apart(server: Server, records: list[Record]) -> None:
    ecoimpact.instrument("openai", exporters=[records.append])

    async def ask(client: openai.AsyncOpenAI, number: int) -> None:
        with ecoimpact.label(user=number):
            await client.chat.completions.create(**{**ASK, "model": f"model-{number}"})

    async def main() -> None:
        async with openai.AsyncOpenAI(api_key="test", base_url=server.url, max_retries=0) as client:
            await asyncio.gather(*(ask(client, number) for number in range(8)))

    asyncio.run(main())
    assert ecoimpact.flush(10)
    assert {(record.inference.request_model, record.labels["user"]) for record in records} == {
        (f"model-{number}", str(number)) for number in range(8)
    }


def test_labels_come_from_the_file_the_environment_the_program_and_the_scope_in_this_order(
    client: openai.OpenAI, records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.ecoimpact.labels]\na = "file"\nb = "file"\nc = "file"\nd = "file"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ECOIMPACT_LABELS", "b=environment,c=environment,d=environment")
    ecoimpact.instrument("openai", exporters=[records.append], labels={"c": "program", "d": "program"})
    with ecoimpact.label(d="scope"):
        client.chat.completions.create(**ASK)
    ecoimpact.instrument("openai", labels={"e": "program"})
    client.chat.completions.create(**ASK)
    ecoimpact.instrument("openai", labels=None)
    client.chat.completions.create(**ASK)
    assert labels_of(records) == [
        {"a": "file", "b": "environment", "c": "program", "d": "scope"},
        {"a": "file", "b": "environment", "c": "environment", "d": "environment", "e": "program"},
        {},
    ]


def test_hashed_labels_never_appear_in_plain(client: openai.OpenAI, records: list[Record], tmp_path: Path) -> None:
    log = tmp_path / "log"
    ecoimpact.instrument(
        "openai",
        exporters=[records.append],
        log_dir=log,
        labels={"tenant": "acme"},
        hash_labels=["user", "tenant"],
        hash_key=SECRET,
    )
    with ecoimpact.label(user="alice@example.org", feature="search"):
        client.chat.completions.create(**ASK)
    key = SECRET.encode()
    expected = {"tenant": hashed("acme", key), "user": hashed("alice@example.org", key), "feature": "search"}
    assert labels_of(records) == [expected]
    (line,) = read_records(log)
    assert line["labels"] == expected
    written = b"".join(path.read_bytes() for path in log.rglob("*.jsonl"))
    assert b"alice" not in written
    assert b"acme" not in written


# --- prices -------------------------------------------------------------------------------------------------------------


def test_a_record_has_its_price_and_says_whose(client: openai.OpenAI, records: list[Record]) -> None:
    """By hand: 7 fresh and 16 cached input tokens, 503 generated ones, at 0.15, 0.075 and 0.60 USD a million."""
    ecoimpact.instrument("openai", exporters=[records.append])
    answer = client.chat.completions.create(**ASK)
    client.chat.completions.create(**{**ASK, "model": "nobody-knows"})
    assert ecoimpact.flush(10)
    record = records[0]
    assert record.cost_usd == pytest.approx((7 * 0.15 + 16 * 0.075 + 503 * 0.60) / 1e6, rel=1e-12)
    assert record.cost_usd == answer.impacts.cost
    assert record.price_version is not None
    assert record.price_version.startswith("genai-prices ")


def test_what_has_no_price_is_null(client: openai.OpenAI, server: Server, records: list[Record]) -> None:
    server.reset(as_json({**p.chat(), "model": "nobody-knows"}))
    ecoimpact.instrument("openai", exporters=[records.append])
    client.chat.completions.create(**{**ASK, "model": "nobody-knows"})
    assert ecoimpact.flush(10)
    line = records[0].to_dict()
    assert (line["cost_usd"], line["price_version"]) == (None, None)


# --- written before the call returns ------------------------------------------------------------------------------------


def test_synchronous_mode_writes_before_the_call_returns(client: openai.OpenAI, tmp_path: Path) -> None:
    ecoimpact.instrument("openai", log_dir=tmp_path, log_mode="sync", log_fsync="batch")
    for number in range(1, 4):
        client.chat.completions.create(**ASK)
        assert len(list(read_records(tmp_path))) == number
    ecoimpact.instrument("openai", log_mode="background")
    client.chat.completions.create(**ASK)
    assert ecoimpact.flush(10)
    assert len(list(read_records(tmp_path))) == 4


def test_a_child_that_leaves_by_the_back_door_keeps_its_records(server: Server, tmp_path: Path) -> None:
    program = """
        import os, sys, openai, ecoimpact
        client = openai.OpenAI(api_key="test", base_url=sys.argv[1], max_retries=0)
        ask = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "How does water boil?"}]}
        ecoimpact.instrument("openai", log_dir=sys.argv[2], log_mode="sync")
        client.chat.completions.create(**ask)
        child = os.fork()
        if child == 0:
            client.chat.completions.create(**ask)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        os.kill(os.getpid(), 9)
    """
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", textwrap.dedent(program), server.url, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -9, done.stderr
    lines = list(read_records(tmp_path))
    assert len({line["id"] for line in lines}) == 2


@pytest.mark.parametrize(
    ("name", "wrong", "hint"),
    [
        ("log_mode", "synchronous", "background, sync"),
        ("log_fsync", True, "never, batch"),
        ("hash_labels", 7, "names of labels"),
        ("hash_key", "short", "16"),
    ],
)
def test_a_wrong_setting_is_an_error_at_once(name: str, wrong: Any, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        ecoimpact.instrument("openai", **{name: wrong})


def test_settings_from_the_environment(client: openai.OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ECOIMPACT_LOG": str(tmp_path),
        "ECOIMPACT_LOG_MODE": "sync",
        "ECOIMPACT_LOG_FSYNC": "batch",
        "ECOIMPACT_HASH_LABELS": "user, tenant",
        "ECOIMPACT_HASH_KEY": SECRET,
        "ECOIMPACT_LABELS": "user=alice",
    }.items():
        monkeypatch.setenv(name, value)
    ecoimpact.instrument("openai")
    client.chat.completions.create(**ASK)
    (line,) = [json.loads(text) for path in tmp_path.rglob("*.jsonl") for text in path.read_text().splitlines()]
    assert line["labels"] == {"user": hashed("alice", SECRET.encode())}
