"""Other tools that observe the same SDKs, put in before ecoimpact and after it: each sees what it sees alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matrix
import pytest
from loopback_model import Model
from server import Server

TOOLS = {
    "opentelemetry": ("chat", "messages"),
    "openinference": ("chat", "responses"),
    "logfire": ("chat", "responses", "messages"),
    "langfuse": ("chat", "responses"),
    "sentry": ("chat", "responses", "messages"),
}
"""The APIs that each tool watches."""
NEVER_LEAVES = ("logfire", "langfuse", "sentry")
PROVIDERS = {"chat": "openai", "responses": "openai", "messages": "anthropic"}
ENDPOINTS = {"chat": matrix.CHAT, "responses": matrix.RESPONSES, "messages": matrix.MESSAGES}

# Who is there, phase by phase: ours, theirs.
PHASES = {
    "theirs first": {"first": (0, 1), "both": (1, 1), "one left": (1, 0), "none left": (0, 0)},
    "ours first": {"first": (1, 0), "both": (1, 1), "one left": (0, 1), "none left": (0, 0)},
}


@pytest.mark.parametrize("order", PHASES)
@pytest.mark.parametrize("tool", TOOLS)
def test_each_sees_what_it_sees_alone(server: Server, tool: str, order: str) -> None:
    server.reset(Model())
    command = [sys.executable, str(Path(__file__).with_name("observing.py")), tool, order, server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["drops"] == {}
    phases = told["phases"]

    here = {name: who for name, who in PHASES[order].items() if name in phases}
    if tool in NEVER_LEAVES:
        here = {name: (ours, name != "first" or order == "theirs first") for name, (ours, _) in here.items()}
    (alone, *_) = (phases[name] for name, (ours, theirs) in here.items() if theirs and not ours)
    for name, (ours, theirs) in here.items():
        for call, saw in phases[name].items():
            reference = alone if theirs else phases["bare"]
            assert saw["program"] == reference[call]["program"], (name, call)
            assert saw["observer"] == reference[call]["observer"], (name, call)
            assert saw["impacts"] is bool(ours), (name, call)
            assert saw["records"] == ([record(call)] if ours else []), (name, call)
    for call, saw in alone.items():
        assert bool(saw["observer"]) is (call.partition(",")[0] in TOOLS[tool]), call
    matrix.OBSERVED.append((tool, order, tuple(here)))


def record(call: str) -> list[Any]:
    api, streamed = call.partition(",")[0], "streamed" in call
    endpoint = ENDPOINTS[api]
    return [PROVIDERS[api], endpoint, "ok", streamed, False, list(matrix.ANSWER[endpoint])]
