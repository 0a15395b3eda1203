"""The provider ids of the package, and whose models a provider serves besides its own."""

from __future__ import annotations

OWNERS = ("openai", "anthropic", "mistralai", "cohere", "google_genai", "huggingface_hub")
"""Providers that own names in the model tables, in the order in which a bare name is looked for."""

SERVES: dict[str, tuple[str, ...]] = {
    "openai": (),
    "anthropic": (),
    "mistralai": (),
    "cohere": (),
    "google_genai": (),
    "huggingface_hub": (),
    "litellm": OWNERS,
    "azure_openai": ("openai",),
    "azure_ai": OWNERS,
    "bedrock": ("anthropic", "mistralai", "cohere", "openai", "huggingface_hub"),
    "vertex": ("google_genai", "anthropic", "mistralai", "huggingface_hub"),
    "cerebras": ("huggingface_hub", "openai"),
    "cloudflare": ("huggingface_hub",),
    "databricks": OWNERS,
    "deepinfra": ("huggingface_hub",),
    "deepseek": ("huggingface_hub",),
    "fireworks": ("huggingface_hub",),
    "github_models": OWNERS,
    "groq": ("huggingface_hub",),
    "hyperbolic": ("huggingface_hub",),
    "llama_cpp": ("huggingface_hub",),
    "lm_studio": ("huggingface_hub",),
    "moonshot": ("huggingface_hub",),
    "nebius": ("huggingface_hub",),
    "novita": ("huggingface_hub",),
    "nvidia": ("huggingface_hub",),
    "ollama": ("huggingface_hub", "mistralai"),
    "openai_compatible": OWNERS,
    "openrouter": OWNERS,
    "ovh": ("huggingface_hub", "mistralai"),
    "perplexity": ("huggingface_hub",),
    "sambanova": ("huggingface_hub",),
    "scaleway": ("huggingface_hub", "mistralai"),
    "together": ("huggingface_hub",),
    "vllm": ("huggingface_hub",),
    "xai": (),
    "zai": ("huggingface_hub",),
}

PROVIDERS = tuple(SERVES)
"""All provider ids."""
