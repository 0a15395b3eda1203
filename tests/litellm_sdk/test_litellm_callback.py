"""The callback for LiteLLM's proxy: in the proxy itself, a process on loopback, and by itself."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import payloads as p
import pytest
from server import Server, as_json, sse

import ecoimpact
from ecoimpact import litellm_callback
from ecoimpact.labels import current_labels, hashed

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.filterwarnings("error:::ecoimpact")]

HASH_KEY = "a secret of the tests"
MESSAGES = [{"role": "user", "content": "How does water boil?"}]
CONFIG = """
model_list:
  - model_name: small
    litellm_params: {{model: openai/{model}, api_base: {url}/v1, api_key: test}}
litellm_settings:
  callbacks: ecoimpact.litellm_callback.callback
general_settings:
  custom_auth: who.user_api_key_auth
"""
AUTH = """
from litellm.proxy._types import UserAPIKeyAuth

async def user_api_key_auth(request, api_key):
    return UserAPIKeyAuth(api_key=api_key, key_alias="chatbot", team_id="t-1", team_alias="search", end_user_id="alice")
"""


class Proxy:
    """LiteLLM's proxy in a process of its own."""

    def __init__(self, folder: Path, upstream: str) -> None:
        self.log = folder / "log"
        (folder / "config.yaml").write_text(CONFIG.format(model=p.MODEL, url=upstream), encoding="utf-8")
        (folder / "who.py").write_text(AUTH, encoding="utf-8")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        settings = {"ECOIMPACT_LOG": str(self.log), "ECOIMPACT_LOG_MODE": "sync"}
        hashing = {"ECOIMPACT_HASH_LABELS": "end_user", "ECOIMPACT_HASH_KEY": HASH_KEY}
        command = [str(Path(sys.executable).with_name("litellm")), "--config", str(folder / "config.yaml")]
        self._process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env={
                **os.environ,
                **settings,
                **hashing,
                "LITELLM_LOG": "INFO",
                "LITELLM_MASTER_KEY": f"sk-{secrets.token_hex(32)}",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: list[str] = []
        self._runs = False
        self._heard = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._heard.wait(300)
        if not self._runs:
            self.close()
        assert self._runs, "".join(self.said)

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            self.said.append(line)
            if "Uvicorn running" in line:
                self._runs = True
                self._heard.set()
        self._heard.set()

    def post(self, path: str, **body: Any) -> tuple[dict[str, str], bytes]:
        headers = {"authorization": "Bearer sk-test", "content-type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            return dict(reply.headers), reply.read()

    def records(self) -> list[dict[str, Any]]:
        lines = [line for file in sorted(self.log.rglob("*.jsonl")) for line in file.read_text("utf-8").splitlines()]
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(60)
        self._listener.join(10)
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture(scope="module")
def proxy(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    proxy = Proxy(tmp_path_factory.mktemp("proxy"), server.url)
    yield proxy
    proxy.close()


LABELS = {"team": "search", "key": "chatbot", "end_user": hashed("alice", HASH_KEY.encode())}


def test_a_plain_request_through_the_proxy(proxy: Proxy, server: Server) -> None:
    server.reset(as_json(p.chat()))
    before = len(proxy.records())
    headers, body = proxy.post("/v1/chat/completions", model="small", messages=MESSAGES, metadata={"tags": ["b", "a"]})
    (record,) = proxy.records()[before:]
    assert (record["endpoint"], record["input_tokens"], record["output_tokens"]) == ("chat.completions", 23, 503)
    assert (record["tokens_estimated"], record["stream"], record["status"]) == (False, False, "ok")
    assert record["labels"] == {**LABELS, "tags": "a,b"}
    middle = (record["energy_kwh_min"] + record["energy_kwh_max"]) / 2
    assert float(headers["x-ecoimpact-energy-kwh"]) == pytest.approx(middle, rel=1e-5)
    assert b"impacts" not in body
    assert [request.path for request in server.received if request.method == "POST"] == ["/v1/chat/completions"]


def test_a_streamed_request_through_the_proxy(proxy: Proxy, server: Server) -> None:
    server.reset(sse(p.chat_chunks(usage=True), done=True))
    before = len(proxy.records())
    usage = {"stream_options": {"include_usage": True}}
    headers, body = proxy.post("/v1/chat/completions", model="small", messages=MESSAGES, stream=True, **usage)
    (record,) = proxy.records()[before:]
    assert (record["output_tokens"], record["tokens_estimated"], record["stream"]) == (503, False, True)
    assert record["labels"] == LABELS
    assert not any(name.startswith("x-ecoimpact") for name in headers)
    assert body.endswith(b"data: [DONE]\n\n")


def test_the_proxy_logs_no_failure_of_ours(proxy: Proxy) -> None:
    assert not [line for line in proxy.said if "ecoimpact could not" in line]


# --- the class by itself


@pytest.fixture
def callback() -> Iterator[Any]:
    yield litellm_callback.EcoImpactCallback()
    ecoimpact.uninstrument()


def labelled(callback: Any, key: Any, data: Any) -> dict[str, str]:
    async def main() -> dict[str, str]:
        await callback.async_pre_call_hook(key, None, data, "completion")
        return dict(current_labels())

    return asyncio.run(main())


def test_it_is_what_the_proxy_takes() -> None:
    from litellm.integrations.custom_logger import CustomLogger

    try:
        assert isinstance(litellm_callback.callback, CustomLogger)
        assert litellm_callback.callback is litellm_callback.callback
    finally:
        ecoimpact.uninstrument()


def test_labels_hold_no_key_and_no_person(callback: Any) -> None:
    key = SimpleNamespace(
        api_key="sk-secret", token="hash", key_alias="chatbot", team_alias=None, team_id="t-1", end_user_id="alice"
    )
    assert labelled(callback, key, {"metadata": {"tags": ["a"]}}) == {"team": "t-1", "key": "chatbot", "tags": "a"}
    assert dict(current_labels()) == {}


@pytest.mark.parametrize("data", [None, {}, {"metadata": None}, {"metadata": {"tags": "a"}}, {"metadata": {"tags": [1]}}])
def test_odd_requests_have_no_labels(callback: Any, data: Any) -> None:
    assert labelled(callback, SimpleNamespace(team_alias=7), data) == {}


def test_an_answer_without_figures_has_no_headers(callback: Any) -> None:
    assert (
        asyncio.run(callback.async_post_call_response_headers_hook(data={}, user_api_key_dict=None, response=None)) is None
    )
