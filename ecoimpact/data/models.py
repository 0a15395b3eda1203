"""Model sizes by provider and name, and the plain forms of the names that programs write.

Rule of this file: a name is found as it is written, or after parts were taken off it that tell no model from another (a
vendor's prefix, a date, a routing suffix). Nothing is guessed: what is left stands in the table, whatever the case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple

from ecoimpact.data.notices import notice
from ecoimpact.data.providers import OWNERS, SERVES
from ecoimpact.data.tables import number, rows, span
from ecoimpact.types import Deployment, ModelCard, ModelMatch, Notice

MAX_NAME_LENGTH = 256
"""No model is called by a longer name; a longer string is not worth the work."""


class Found(NamedTuple):
    """A model, how its name led to it, and what there is to say about that."""

    card: ModelCard
    match: ModelMatch
    warnings: tuple[Notice, ...]


class _Entry(NamedTuple):
    row: tuple[str, ...]
    step: Literal["exact", "alias"]


@cache
def _index() -> dict[str, dict[str, _Entry]]:
    index: dict[str, dict[str, _Entry]] = {owner: {} for owner in OWNERS}
    for row in rows("models"):
        index[row[0]][row[1].lower()] = _Entry(row, "exact")
    for provider, alias, model, _ in rows("model_aliases"):
        index[provider][alias.lower()] = _Entry(index[provider][model.lower()].row, "alias")
    return index


@cache
def _open_weights() -> dict[str, _Entry]:
    """Models of the Hugging Face hub by their name without the organisation, where only one organisation has it."""
    by_name: dict[str, list[_Entry]] = {}
    for name, entry in _index()["huggingface_hub"].items():
        by_name.setdefault(name.rpartition("/")[2], []).append(entry)
    return {name: entries[0] for name, entries in by_name.items() if len(entries) == 1}


def cards() -> Iterator[ModelCard]:
    """All models of the table."""
    return map(_card, rows("models"))


def aliases() -> dict[tuple[str, str], str]:
    """Second names of models: (provider, alias) to the model's name."""
    return {(provider, alias): model for provider, alias, model, _ in rows("model_aliases")}


def _card(row: tuple[str, ...]) -> ModelCard:
    provider, name, architecture, total, active, tokens_per_s, first_token_s, warnings, key, evidence = row
    deployment = Deployment(number(tokens_per_s), number(first_token_s)) if tokens_per_s or first_token_s else None
    return ModelCard(
        provider=provider,
        name=name,
        active_params_b=span(active),
        total_params_b=span(total),
        deployment=deployment,
        architecture=architecture,
        warnings=tuple(warnings.split()),
        source=f"{key} {evidence}".strip(),
    )


def find(provider: str | None, name: str) -> Found | None:
    """The model that a provider serves under a name; without a provider, the first owner of the name.

    >>> find("openai", "gpt-4o-mini").match.step
    'exact'
    >>> str(find("bedrock", "us.anthropic.claude-haiku-4-5-20251001-v1:0").match)
    'anthropic/claude-haiku-4-5-20251001 (normalised)'
    >>> find("openai", "gpt-4o-maxi")
    """
    if len(name) > MAX_NAME_LENGTH:
        return None
    forms = plain_forms(name)
    for rank, (form, vendor) in enumerate(forms):
        expected = _expected(provider, vendor)
        for owner in dict.fromkeys((*expected, *OWNERS)):
            if entry := _index()[owner].get(form):
                return _found(entry, provider, name, form if rank else None, owner in expected)
    for form, vendor in forms:
        if entry := _open_weights().get(form):
            return _found(entry, provider, name, form, "huggingface_hub" in _expected(provider, vendor))
    return None


def _expected(provider: str | None, vendor: str) -> tuple[str, ...]:
    serves = SERVES.get(provider or "", OWNERS)
    return tuple(owner for owner in (provider, vendor, *serves) if owner in OWNERS)


def _found(entry: _Entry, provider: str | None, name: str, form: str | None, expected: bool) -> Found:
    card = _card(entry.row)
    warnings = []
    if form is not None:
        warnings.append(notice("model-name-normalised", f"{name!r} was read as {form!r}"))
    if provider is not None and not expected:
        warnings.append(notice("model-other-provider", f"{card.name!r} is one of {card.provider!r}, not of {provider!r}"))
    match = ModelMatch(name, card.provider, card.name, "normalised" if form is not None else entry.step)
    return Found(card, match, tuple(warnings))


# --- plain forms of names -----------------------------------------------------------------------------------------------

# The part before a slash, as gateways write it, and whose models it announces (empty: anybody's).
_PREFIXES = {
    "openai": "openai",
    "azure": "openai",
    "azure_ai": "",
    "text-completion-openai": "openai",
    "anthropic": "anthropic",
    "bedrock": "",
    "converse": "",
    "vertex_ai": "",
    "google": "google_genai",
    "google-ai-studio": "google_genai",
    "google-vertex": "google_genai",
    "gemini": "google_genai",
    "mistral": "mistralai",
    "mistralai": "mistralai",
    "codestral": "mistralai",
    "cohere": "cohere",
    "cohere_chat": "cohere",
    "huggingface": "huggingface_hub",
    "litellm": "",
    "litellm_proxy": "",
    "openrouter": "",
    "together_ai": "huggingface_hub",
    "together": "huggingface_hub",
    "fireworks_ai": "huggingface_hub",
    "fireworks": "huggingface_hub",
    "groq": "huggingface_hub",
    "deepinfra": "huggingface_hub",
    "nebius": "huggingface_hub",
    "novita": "huggingface_hub",
    "hyperbolic": "huggingface_hub",
    "sambanova": "huggingface_hub",
    "cerebras": "huggingface_hub",
    "hosted_vllm": "huggingface_hub",
    "vllm": "huggingface_hub",
    "nvidia_nim": "huggingface_hub",
}
_BEDROCK = re.compile(
    r"(?:(?:us|us-gov|eu|apac|ap|jp|au|ca|sa|global)\.)?(anthropic|mistral|cohere|openai|google)\.(?=[a-z])"
)
_BEDROCK_VERSION = re.compile(r"(?:-v\d+(?::\d+)?|-\d+:\d+)(?::\d+k)?$")
# After a colon some hosts put the size of the model ("llama3:8b"): only words that are known to be routes are taken off.
_ROUTE = re.compile(
    r":(?:free|nitro|floor|online|extended|exacto|beta|fastest|cheapest|preferred|thinking|"
    r"cerebras|cohere|fal-ai|featherless-ai|fireworks-ai|groq|hf-inference|hyperbolic|nebius|novita|nscale|ovhcloud|publicai|"
    r"replicate|sambanova|scaleway|together|zai-org)$"
)
_AZURE_FINE_TUNE = re.compile(r"\.ft-[0-9a-f-]+$")
_DATE = re.compile(r"-20\d{2}(?:-[01]\d-[0-3]\d|[01]\d[0-3]\d)$")
_DECIMAL_POINT = re.compile(r"(?<=\d)\.(?=\d)")


def plain_forms(name: str) -> list[tuple[str, str]]:
    """The name as written, then ever plainer; beside each form the provider that a prefix announced.

    >>> [form for form, _ in plain_forms("ft:gpt-4o-mini-2024-07-18:acme::x1")]
    ['ft:gpt-4o-mini-2024-07-18:acme::x1', 'gpt-4o-mini-2024-07-18', 'gpt-4o-mini']
    """
    text, vendor = name.strip().lower(), ""
    forms = [(text, vendor)]

    def keep(form: str) -> str:
        for spelling in (form, _DECIMAL_POINT.sub("-", form)):  # claude-opus-4.5 is claude-opus-4-5
            if (spelling, vendor) not in forms:
                forms.append((spelling, vendor))
        return form

    if text.startswith("arn:"):
        text = keep(text.rpartition("/")[2])
    head, found, tail = text.rpartition("models/")
    if found and (not head or head.endswith("/")):
        text = keep(tail)
    head, slash, tail = text.partition("/")
    while slash and head in _PREFIXES:
        vendor = _PREFIXES[head] or vendor
        text = keep(tail)
        head, slash, tail = text.partition("/")
    if text.startswith("ft:"):
        text = keep(text.split(":")[1])
    if match := _BEDROCK.match(text):
        vendor = {"mistral": "mistralai", "google": "google_genai"}.get(match[1], match[1])
        text = keep(text[match.end() :])
    text = keep(text.replace("@default", "").replace("@", "-"))
    for suffix in (_ROUTE, _BEDROCK_VERSION, _AZURE_FINE_TUNE, _DATE):
        text = keep(suffix.sub("", text))
    keep(text.removesuffix("-latest"))
    return forms
