"""Tests that need an environment of their own: libraries that cannot live beside the newest SDKs, or are too many.

``nox`` makes each environment once and keeps it; ``nox -s litellm`` runs one session.
"""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True


def prepare(session: nox.Session, *packages: str, extras: str) -> None:
    """Install the package with its extras, what its tests need, and the packages that a session is about."""
    session.install("--quiet", "--upgrade", "pip>=25.1")
    session.install("--quiet", "--editable", f".[{extras}]", "--group", "test-core", *packages)


@nox.session
def litellm(session: nox.Session) -> None:
    """LiteLLM, which asks for an older ``openai`` than the newest."""
    prepare(session, "litellm[proxy]", "tenacity", extras="litellm,cost,cli")
    session.run(
        *("python", "-m", "pytest", "tests/litellm_sdk"),
        *("-o", "pythonpath=tests/instrumentation tests/litellm_sdk"),
        *("-W", "ignore::DeprecationWarning"),  # of its own imports
        env={"LITELLM_LOCAL_MODEL_COST_MAP": "True"},  # else it fetches the newest prices from the network
    )


@nox.session
def bedrock_async(session: nox.Session) -> None:
    """Bedrock through aiobotocore, which asks for a botocore of a few releases."""
    sdks = "openai,anthropic,mistral,google,cohere,ollama,huggingface"
    prepare(session, "aiobotocore>=3.8", extras=f"bedrock,{sdks},cost,cli")
    tests = ("tests/instrumentation/test_bedrock.py", "tests/instrumentation/test_conformance.py")
    session.run("python", "-m", "pytest", *tests, "-k", "bedrock and async")


TESTS = "tests/frameworks"
QUIET = {  # what would leave the machine, or look at it
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


def check(session: nox.Session, files: tuple[str, ...], told: tuple[str, ...]) -> None:
    """Run test files, then the one that compares the session's table in docs/frameworks.md; ``-- --write`` writes it."""
    session.run(
        *("python", "-m", "pytest", *(f"{TESTS}/test_{name}.py" for name in (*files, "table"))),
        *("-o", f"pythonpath=tests/instrumentation {TESTS}"),
        *("-W", "default"),  # their warnings are not ours
        *("--disable-warnings", "-p", "no:cacheprovider"),
        env={
            **QUIET,
            "DSPY_CACHEDIR": session.create_tmp(),
            "FRAMEWORKS_SESSION": session.name,
            "FRAMEWORKS_PACKAGES": " ".join(told),
            "FRAMEWORKS_WRITE": "1" if "--write" in session.posargs else "",
        },
    )


@nox.session
def frameworks(session: nox.Session) -> None:
    """Frameworks that live beside the newest SDKs."""
    packages = (
        *("langchain", "langchain-openai", "langchain-anthropic"),
        *("openai-agents", "haystack-ai", "anthropic-haystack"),
    )
    prepare(session, *packages, "pydantic-ai-slim[openai,anthropic]", "smolagents[openai]", extras="openai,anthropic")
    files = ("langchain", "pydantic_ai", "openai_agents", "haystack", "smolagents")
    check(session, files, ("openai", "anthropic", *packages, "pydantic-ai-slim", "smolagents"))


@nox.session
def frameworks_older(session: nox.Session) -> None:
    """Frameworks that need older SDKs: LiteLLM and LlamaIndex openai 2, LlamaIndex and AutoGen an anthropic before 1."""
    packages = (
        *("litellm", "dspy", "llama-index-llms-openai", "llama-index-llms-anthropic"),
        *("instructor", "autogen-agentchat"),
    )
    prepare(session, *packages, "autogen-ext[openai,anthropic]", "anthropic<1", extras="openai,anthropic")
    files = ("llama_index", "instructor", "dspy", "litellm_router", "autogen")
    check(session, files, ("openai", "anthropic", *packages))


@nox.session
def observers(session: nox.Session) -> None:
    """Other tools that observe the same SDKs."""
    packages = (
        *("opentelemetry-instrumentation-openai-v2", "opentelemetry-instrumentation-anthropic"),
        *("openinference-instrumentation-openai", "logfire", "langfuse", "sentry-sdk"),
    )
    # opentelemetry-util-genai 1.2 lacks a module that the instrumentation imports, and it does not name httpx.
    prepare(session, *packages, "opentelemetry-util-genai<1.2", "httpx", extras="openai,anthropic")
    check(session, ("observers",), ("openai", "anthropic", *packages))


@nox.session
def engines(session: nox.Session) -> None:
    """Spark on a cluster of its own, and the recipes of docs/lake/engines.md. Needs a Java runtime, 17 or later."""
    packages = ("pyspark[connect]", "pandas<3", "duckdb>=2", "dask[dataframe]", "distributed", "ray[data]", "deltalake")
    prepare(session, *packages, extras="lake,spark,openai")
    session.run(
        *("python", "-m", "pytest", "tests/engines", "-p", "no:cacheprovider"),
        *("-o", "pythonpath=tests/instrumentation tests/engines"),
    )
