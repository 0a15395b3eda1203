"""How many of the current model ids are resolved to a size, by provider and by step. ``python -m benchmarks.coverage``.

The ids are those that the price lists of ``genai-prices`` name, and those of ``data/current_ids.csv``, which the SDKs and
LiteLLM list besides. Ids of models that generate no text are counted apart.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ecoimpact import data

STEPS = ("exact", "alias", "normalised", "family", "size", "price")

# The lists of genai-prices by our provider ids; those of the hosts behind Hugging Face's router are taken together.
LISTS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "mistral": "mistralai",
    "cohere": "cohere",
    "google": "google_genai",
    "azure": "azure_openai",
    "aws": "bedrock",
    "groq": "groq",
    "together": "together",
    "fireworks": "fireworks",
    "deepseek": "deepseek",
    "x-ai": "xai",
    "perplexity": "perplexity",
    "cerebras": "cerebras",
    "openrouter": "openrouter",
    "cloudflare": "cloudflare",
    "databricks": "databricks",
    "moonshotai": "moonshot",
    "zai": "zai",
    "novita": "novita",
    "ovhcloud": "ovh",
    "github-copilot": "github_models",
}

# Embeddings, rerankers, classifiers, images, sound, moderation: no text is generated, or not from text.
NO_TEXT = re.compile(
    r"embed|whisper|tts|transcribe|image|banana|realtime|moderation|rerank|ocr|voice|live|sonic|lyria|orpheus|guard|safety|"
    r"(?:^|[/-])(?:bge|gte|distilbert|indictrans2|m2m100|plamo|clef|clairic|decider|jev|extract|moderation)(?:$|[-.])"
)


class Coverage(NamedTuple):
    """The ids of a provider: those that generate no text, those that do by the step that found them, the unknown."""

    provider: str
    no_text: int
    steps: Counter[str]
    unknown: tuple[str, ...]

    @property
    def text(self) -> int:
        return self.steps.total() + len(self.unknown)

    @property
    def share(self) -> float:
        return self.steps.total() / self.text if self.text else 1.0


def ids() -> dict[str, set[str]]:
    """Current ids by provider."""
    from genai_prices.data import providers

    found: dict[str, set[str]] = {}
    for listing in providers:
        provider = "huggingface_hub" if listing.id.startswith("huggingface_") else LISTS.get(listing.id)
        if provider is not None:
            found.setdefault(provider, set()).update(model.id for model in listing.models)
    with (Path(__file__).with_name("data") / "current_ids.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["provider"], set()).add(row["model"])
    return found


def coverage() -> Iterator[Coverage]:
    """What becomes of the ids of each provider."""
    for provider, names in ids().items():
        text = sorted(name for name in names if not NO_TEXT.search(name.lower()))
        found = {name: data.find(provider, name) for name in text}
        steps: Counter[str] = Counter(known.match.step for known in found.values() if known)
        unknown = tuple(name for name, known in found.items() if known is None)
        yield Coverage(provider, len(names) - len(text), steps, unknown)


def table() -> str:
    """The counts as a Markdown table, and the ids that are unknown."""
    rows = sorted(coverage(), key=lambda row: -row.text)
    lines = [
        f"| provider | text ids | resolved | {' | '.join(STEPS)} | unknown | no text |",
        f"|---|{'---|' * (len(STEPS) + 4)}",
    ]
    total = Coverage("all", sum(r.no_text for r in rows), Counter(), tuple(name for r in rows for name in r.unknown))
    for row in rows:
        total.steps.update(row.steps)
    for row in (*rows, total):
        counts = " | ".join(str(row.steps[step]) for step in STEPS)
        lines.append(f"| {row.provider} | {row.text} | {row.share:.1%} | {counts} | {len(row.unknown)} | {row.no_text} |")
    unknown = [f"{row.provider}: {', '.join(row.unknown)}" for row in rows if row.unknown]
    return "\n".join([*lines, "", "Unknown:", *(f"- {line}" for line in unknown)] if unknown else lines)


if __name__ == "__main__":
    print(table())
