"""What all tests share: no key, proxy or setting of the machine reaches them, and clients are cheap to make."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from pathlib import Path

import certifi
import openai
import pytest
from hypothesis import settings
from server import Server

_ELSEWHERE = {
    "litellm_sdk": ("litellm",),
    "frameworks": (
        *("agents", "autogen_core", "crewai", "dspy", "haystack", "instructor", "langchain", "litellm", "llama_index"),
        *("pydantic_ai", "semantic_kernel", "smolagents"),
    ),
    "engines": ("pyspark",),
}
"""Tests that run in environments of their own, which ``nox`` makes: by what is installed there and not here."""

collect_ignore = [folder for folder, packages in _ELSEWHERE.items() if not any(map(find_spec, packages))]

FORBID_SKIPS = bool(os.environ.get("ECOIMPACT_FORBID_SKIPS"))

settings.register_profile("untimed", deadline=None)  # a busy machine is no bug
settings.load_profile("untimed")

OURS_OR_THE_SDKS = (
    *("ECOIMPACT_", "OPENAI_", "ANTHROPIC_", "AWS_", "MISTRAL_", "GOOGLE_", "GEMINI_", "CO_", "HF_", "OLLAMA_"),
)
for name in [*os.environ]:
    if name.startswith(OURS_OR_THE_SDKS) or name.lower().endswith("_proxy"):
        del os.environ[name]


@pytest.fixture(scope="session", autouse=True)
def _one_certificate() -> Iterator[None]:
    """Every SDK client reads the list of certificate authorities; a list of one is read a hundred times faster."""
    first, end, _ = Path(certifi.where()).read_text("ascii").partition("-----END CERTIFICATE-----\n")
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as bundle:
        bundle.write(first + end)
        bundle.flush()
        os.environ["SSL_CERT_FILE"] = bundle.name
        yield
        del os.environ["SSL_CERT_FILE"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """An HTTP server on loopback that answers as a test says."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    """A client of it."""
    with openai.OpenAI(api_key="test", base_url=server.url, max_retries=0) as client:
        yield client


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where ``ECOIMPACT_FORBID_SKIPS`` is set, a part that is missing is a failure, not a skip."""
    report = yield
    if report.skipped and FORBID_SKIPS and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report
