"""The SDKs' clients, pointed at the local server."""

from __future__ import annotations

from typing import Any

import shapes_anthropic
import shapes_openai
from harness import Shape

SHAPES: dict[str, list[Shape]] = {"openai": shapes_openai.SHAPES, "anthropic": shapes_anthropic.SHAPES}


def make(provider: str, kind: str, url: str, *, asynchronous: bool) -> Any:
    """A client of a kind, without retries."""
    sync_name, async_name, options = {
        ("openai", "default"): ("OpenAI", "AsyncOpenAI", {"api_key": "test", "base_url": f"{url}/v1"}),
        ("openai", "azure"): (
            "AzureOpenAI",
            "AsyncAzureOpenAI",
            {"api_key": "test", "azure_endpoint": url, "api_version": "2024-10-21"},
        ),
        ("anthropic", "default"): ("Anthropic", "AsyncAnthropic", {"api_key": "test", "base_url": url}),
        ("anthropic", "bedrock"): (
            "AnthropicBedrock",
            "AsyncAnthropicBedrock",
            {"aws_access_key": "test", "aws_secret_key": "test", "aws_region": "eu-west-3", "base_url": url},
        ),
        ("anthropic", "vertex"): (
            "AnthropicVertex",
            "AsyncAnthropicVertex",
            {"access_token": "test", "project_id": "test", "region": "europe-west1", "base_url": url},
        ),
    }[provider, kind]
    module = __import__(provider)
    return getattr(module, async_name if asynchronous else sync_name)(**options, max_retries=0)
