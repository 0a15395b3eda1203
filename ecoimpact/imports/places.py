"""Who served a request, from what an export names: an address that is known, else a name that the provider was given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ecoimpact.providers._hosts import place_of

OTEL_PROVIDERS: Final = {
    "aws.bedrock": "bedrock",
    "az.ai.inference": "azure_ai",
    "az.ai.openai": "azure_openai",
    "azure": "azure_openai",
    "azure.ai.inference": "azure_ai",
    "azure.ai.openai": "azure_openai",
    "gcp.gemini": "google_genai",
    "gcp.gen_ai": "google_genai",
    "gcp.vertex_ai": "vertex",
    "gemini": "google_genai",
    "google": "google_genai",
    "mistral_ai": "mistralai",
    "vertex_ai": "vertex",
    "x_ai": "xai",
}
"""``gen_ai.provider.name`` and ``gen_ai.system`` (OpenTelemetry, semantic conventions), where our names differ."""

HELICONE_PROVIDERS: Final = {
    "aws": "bedrock",
    "azure": "azure_openai",
    "google": "google_genai",
    "google-ai-studio": "google_genai",
    "mistral": "mistralai",
    "x": "xai",
}
"""Helicone, ``providersNames`` of ``packages/cost``, in small letters, where our names differ."""

_NOBODY: Final = frozenset({"", "custom", "_other", "unknown"})


def served_by(
    address: str | None, name: str | None, names: Mapping[str, str], *, model: str | None = None, port: int | None = None
) -> tuple[str | None, str | None]:
    """The provider's id and the host of its endpoint; ``None`` where the export does not say.

    An address tells more than a name: many speak the language of a provider that they are not.

    >>> served_by("api.groq.com", "openai", OTEL_PROVIDERS), served_by(None, "aws.bedrock", OTEL_PROVIDERS)
    (('groq', 'api.groq.com'), ('bedrock', None))
    """
    place = None
    if address:
        authority = f"[{address}]" if address.count(":") > 1 and "[" not in address and "/" not in address else address
        url = authority if "://" in authority else f"https://{authority}" + ("" if port in (None, 443) else f":{port}")
        place = place_of(url, model)
    asked = (name or "").strip().lower()
    named = None if asked in _NOBODY else names.get(asked, asked)
    if place is None:
        return named, None
    return place.provider or named or place.host, place.host
