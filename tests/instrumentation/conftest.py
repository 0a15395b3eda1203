"""What the tests through an SDK share: a server on loopback, and a client that asks it."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from server import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="test", base_url=server.url, max_retries=0) as client:
        yield client
