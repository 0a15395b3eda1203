"""Who answers at a host, for SDKs that can be pointed at others than their own provider.

A host that is not listed (a proxy, a gateway, one's own machine) leaves the request with the SDK's own provider.
"""

from __future__ import annotations

HOSTS = {
    "api.anthropic.com": "anthropic",
    "api.cerebras.ai": "cerebras",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistralai",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.scaleway.ai": "scaleway",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.x.ai": "xai",
    "generativelanguage.googleapis.com": "google_genai",
    "models.github.ai": "github_models",
    "openrouter.ai": "openrouter",
    "router.huggingface.co": "huggingface_hub",
    # whole domains
    "aiplatform.googleapis.com": "vertex",
    "amazonaws.com": "bedrock",
    "cognitiveservices.azure.com": "azure_openai",
    "endpoints.huggingface.cloud": "huggingface_hub",
    "kepler.ai.cloud.ovh.net": "ovh",
    "openai.azure.com": "azure_openai",
    "openai.com": "openai",
    "services.ai.azure.com": "azure_ai",
}


def provider_at(host: str) -> str | None:
    """The provider at a host, or at the domain it is in.

    >>> provider_at("api.groq.com"), provider_at("my-unit.openai.azure.com"), provider_at("localhost")
    ('groq', 'azure_openai', None)
    """
    name = host
    while name:
        if (provider := HOSTS.get(name)) is not None:
            return provider
        name = name.partition(".")[2]
    return None
