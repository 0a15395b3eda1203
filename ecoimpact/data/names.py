"""The plain forms of the names that programs write for models.

Rules of this file: what is taken off a name tells no model from another (a vendor's prefix, a route, a region, the path of
a file); a date is taken off last and marked, since it tells one snapshot from another. No form is invented, and every
pattern takes time in proportion to the length of the name.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

MAX_NAME_LENGTH = 256
"""No model is called by a longer name; a longer string is not worth the work."""


class Form(NamedTuple):
    """One way to write a name; ``vendor`` is the owner of names that a prefix announced, or empty."""

    text: str
    vendor: str
    kind: Literal["plain", "spelling", "dated"]


# The part before a slash, as gateways write it, and whose models it announces (empty: anybody's).
_PREFIXES = {
    "openai": "openai",
    "azure": "openai",
    "azure_ai": "",
    "azureml": "",
    "text-completion-openai": "openai",
    "responses": "",
    "chat": "",
    "anthropic": "anthropic",
    "bedrock": "",
    "converse": "",
    "invoke": "",
    "vertex_ai": "",
    "vertex_ai_beta": "",
    "google": "google_genai",
    "google-ai-studio": "google_genai",
    "google-vertex": "google_genai",
    "gemini": "google_genai",
    "mistral": "mistralai",
    "mistralai": "mistralai",
    "codestral": "mistralai",
    "text-completion-codestral": "mistralai",
    "cohere": "cohere",
    "cohere_chat": "cohere",
    "amazon": "bedrock",
    "xai": "xai",
    "x-ai": "xai",
    "perplexity": "perplexity",
    "deepseek": "huggingface_hub",
    "moonshot": "huggingface_hub",
    "zai": "huggingface_hub",
    "minimax": "huggingface_hub",
    "huggingface": "huggingface_hub",
    "hf.co": "huggingface_hub",
    "huggingface.co": "huggingface_hub",
    "litellm": "",
    "litellm_proxy": "",
    "openrouter": "",
    "github": "",
    "github_copilot": "",
    "databricks": "",
    "vercel_ai_gateway": "",
    "together_ai": "huggingface_hub",
    "together": "huggingface_hub",
    "fireworks_ai": "huggingface_hub",
    "fireworks": "huggingface_hub",
    "groq": "huggingface_hub",
    "deepinfra": "huggingface_hub",
    "nebius": "huggingface_hub",
    "novita": "huggingface_hub",
    "nscale": "huggingface_hub",
    "hyperbolic": "huggingface_hub",
    "sambanova": "huggingface_hub",
    "cerebras": "huggingface_hub",
    "cloudflare": "huggingface_hub",
    "ovhcloud": "huggingface_hub",
    "scaleway": "huggingface_hub",
    "hosted_vllm": "huggingface_hub",
    "vllm": "huggingface_hub",
    "lm_studio": "huggingface_hub",
    "nvidia_nim": "huggingface_hub",
    "featherless_ai": "huggingface_hub",
    "ollama": "ollama",
    "ollama_chat": "ollama",
    "registry.ollama.ai": "ollama",
    "library": "ollama",
}
_MAX_PREFIXES = 8
_REGION = re.compile(r"[a-z]{2,12}(?:-gov)?-(?:north|south|central|east|west)(?:east|west)?-?\d{1,2}")
_BEDROCK_VENDORS = {
    "anthropic": "anthropic",
    "mistral": "mistralai",
    "cohere": "cohere",
    "openai": "openai",
    "google": "google_genai",
    "amazon": "bedrock",
    "xai": "xai",
}
_BEDROCK_PROFILE = re.compile(r"(?:us|us-gov|eu|apac|ap|jp|au|ca|sa|uk|mx|in|global|regional)\.(?=[a-z])")
_BEDROCK = re.compile(
    r"(anthropic|mistral|cohere|openai|google|amazon|meta|deepseek|qwen|nvidia|writer|ai21|moonshotai|moonshot|minimax|zai|xai)"
    r"\.(?=[a-z])"
)
_BEDROCK_VERSION = re.compile(r"(?:-v\d{1,2}(?::\d{1,2})?|-\d{1,2}:\d{1,2}|(?<=-v\d):\d{1,2}|(?<=b):0)(?::\d{1,4}k|:mm)?$")
# After a colon some hosts put the size of the model ("llama3:8b"): only words that are known to be routes are taken off.
ROUTE = re.compile(
    r":(?:free|nitro|floor|online|extended|exacto|beta|batch|flex|fastest|cheapest|preferred|thinking|latest|cloud|"
    r"cerebras|cohere|fal-ai|featherless-ai|fireworks-ai|groq|hf-inference|hyperbolic|nebius|novita|nscale|ovhcloud|publicai|"
    r"replicate|sambanova|scaleway|together|zai-org)$"
)
_HOSTED = re.compile(r"(?<=[a-z0-9])(?:-maas|-cloud)$")
_AZURE_FINE_TUNE = re.compile(r"\.ft-[0-9a-f-]*$")
_CACHED_REPOSITORY = re.compile(r"models--[^/]{1,100}?--([^/]{1,150})")
_GGUF = re.compile(r"(?:-\d{5}-of-\d{5})?\.gguf$")
_DATE = re.compile(r"-(?:20\d{2}-[01]\d-[0-3]\d|20\d{2}[01]\d[0-3]\d|[01]\d-20\d{2}|[01]\d-[0-3]\d)$")
_SHORT_DATE = re.compile(r"-(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])$")
_DECIMAL_POINT = re.compile(r"(?<=\d)\.(?=\d)")
_POINT = re.compile(r"(?<=\d)p(?=\d)")


def spelling(text: str) -> str:
    """The name with one sign for all that hosts write between its parts.

    >>> spelling("Claude-Opus-4.5"), spelling("glm-5p2"), spelling("gpt-oss:120b")
    ('claude-opus-4-5', 'glm-5-2', 'gpt-oss-120b')
    """
    return _POINT.sub("-", text.lower()).translate(_SEPARATORS)


def base_spelling(name: str) -> str:
    """The same of a name without the organisation before it.

    >>> base_spelling("meta-llama/Llama-3.1-8B")
    'llama-3-1-8b'
    """
    return spelling(name.rpartition("/")[2])


_SEPARATORS = str.maketrans("._: @", "-----")


def plain_forms(name: str) -> list[tuple[str, str]]:
    """The name as written, then ever plainer; beside each form the owner that a prefix announced.

    >>> [form for form, _ in plain_forms("ft:gpt-4o-mini-2024-07-18:acme::x1")]
    ['ft:gpt-4o-mini-2024-07-18:acme::x1', 'gpt-4o-mini-2024-07-18', 'gpt-4o-mini']
    """
    return [(form.text, form.vendor) for form in forms(name)]


def forms(name: str) -> list[Form]:
    """The plain forms of a name with what is known of each, the dated ones after the others."""
    vendor = ""
    found: list[Form] = []

    def keep(text: str, kind: Literal["plain", "dated"] = "plain") -> str:
        text = text.strip("/ ") if found else text
        if not found or (text and all(text != form.text or vendor != form.vendor for form in found)):
            found.append(Form(text, vendor, kind))
            written = _DECIMAL_POINT.sub("-", text)  # claude-opus-4.5 is claude-opus-4-5
            if written != text:
                found.append(Form(written, vendor, "spelling" if kind == "plain" else kind))
        return text

    text = keep(name.strip().lower())
    text = keep(_local(text))
    text = keep(_resource(text))
    text = keep(text.lstrip("~"))
    for _ in range(_MAX_PREFIXES):
        if parts := _without_a_prefix(text):
            vendor = parts[1] or vendor
            text = keep(parts[0])
    if text.startswith("ft:"):
        text = keep(text.split(":")[1].rstrip("-"))
    elif ":ft-" in text:
        text = keep(text.partition(":ft-")[0])
    text = keep(_BEDROCK_PROFILE.sub("", text, count=1) if _BEDROCK_PROFILE.match(text) else text)
    if match := _BEDROCK.match(text):
        vendor = _BEDROCK_VENDORS.get(match[1], "huggingface_hub")
        text = keep(text[match.end() :])
    text = keep(text.replace("@default", "").replace("@latest", "").replace("@", "-"))
    for suffix in (ROUTE, _BEDROCK_VERSION, _AZURE_FINE_TUNE, _HOSTED):
        text = keep(suffix.sub("", text))
    text = keep(text.removeprefix("databricks-").removeprefix("system.ai."))
    text = keep(text.removesuffix("-latest"))
    undated = _DATE.sub("", text)
    keep(undated, "dated")
    keep(_SHORT_DATE.sub("", undated), "dated")
    return found


def _local(text: str) -> str:
    """The name in the path of a local file or folder."""
    if match := _CACHED_REPOSITORY.search(text):
        return match[1]
    if text.startswith(("/", "./", "../", "~/", "file:")) or "\\" in text or text.endswith(".gguf"):
        text = text.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return _GGUF.sub("", text)


def _resource(text: str) -> str:
    """The name in the address of a cloud's resource."""
    text = text.partition("#")[0]
    if text.startswith("arn:"):
        parts = text.split(":", 5)[-1].split("/")
        return parts[1] if len(parts) > 1 else parts[0]
    head, found, tail = text.rpartition("models/")
    if found and (not head or head.endswith("/")):
        return tail.partition("/versions/")[0]
    return text


def copied(text: str) -> str:
    """The name without the organisation whose copy it is; with it, where that is no organisation but a gateway.

    >>> copied("unsloth/DeepSeek-R1"), copied("ollama_chat/deepseek-r1")
    ('DeepSeek-R1', 'ollama_chat/deepseek-r1')
    """
    head, _, tail = text.partition("/")
    return text if not tail or head.lower() in _PREFIXES else text.rpartition("/")[2]


def _without_a_prefix(text: str) -> tuple[str, str] | None:
    """The rest of a name after what a gateway writes before its first slash, and whose models that announces."""
    head, slash, tail = text.partition("/")
    head = head.lstrip("~@")
    if not slash or not tail:
        return None
    if head in _PREFIXES:
        return tail, _PREFIXES[head]
    return (tail, "") if head == "cf" or _REGION.fullmatch(head) else None
