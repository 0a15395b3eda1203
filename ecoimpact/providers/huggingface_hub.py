"""Hugging Face's SDK: chat completions and text generation of its inference clients, on its router and elsewhere.

``chat.completions.create`` is ``chat_completion`` under another name. Retries with other arguments are calls of the same
method, and count as the one request that they make together.

Token counts: a chat stream sends usage in an extra last chunk, only when asked; text generation only with ``details``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ecoimpact.instrumentation.provider import Endpoint, Reader, count, field, length
from ecoimpact.providers._methods import Call, Server, instance_of, method_provider
from ecoimpact.providers.openai import ChatReader
from ecoimpact.types import Usage


class TextReader(Reader):
    """``TextGenerationOutput``, the items of its stream, and the bare texts that both are without ``details``."""

    _details: Any = None

    def feed(self, item: Any) -> bool:
        if isinstance(item, str):
            self.characters += len(item)
            return False
        self.characters += length(field(item, "token"), "text")
        details = field(item, "details")
        if details is not None:
            self._details = Counted(details)
            self.finished = True
        if field(item, "token") is None:  # an answer, not a part of one
            self.characters += length(item, "generated_text")
            self.finished = True
        return self.finished

    def counts(self) -> Usage:
        details = self._details
        return Usage() if details is None else Usage(details.input_tokens, details.output_tokens)


class Counted:
    """The counts among the details, which hold every token's text besides."""

    def __init__(self, details: Any) -> None:
        prefill = field(details, "prefill")
        read = len(prefill) if isinstance(prefill, list) and prefill else None
        self.input_tokens = count(details, "input_length") or read
        self.output_tokens = count(details, "generated_tokens")


CHAT: Final = Endpoint("chat.completions", ChatReader)
TEXT: Final = Endpoint("text_generation", TextReader)

_SERVED_BY: Final = {
    "cerebras": "cerebras",
    "cohere": "cohere",
    "deepinfra": "deepinfra",
    "fireworks-ai": "fireworks",
    "groq": "groq",
    "hyperbolic": "hyperbolic",
    "nebius": "nebius",
    "novita": "novita",
    "nvidia": "nvidia",
    "openai": "openai",
    "ovhcloud": "ovh",
    "sambanova": "sambanova",
    "scaleway": "scaleway",
    "together": "together",
    "zai-org": "zai",
}
"""Whom the SDK's argument ``provider`` means."""


def _is_url(model: Any) -> bool:
    return isinstance(model, str) and model.startswith(("http://", "https://"))


def server_of(client: Any, kwargs: Mapping[str, Any]) -> Server:
    for model in (client.model, kwargs.get("model")):
        if _is_url(model):
            return Server(None, model)
    return Server(_SERVED_BY.get(client.provider or ""), None)


def model_of(client: Any, _args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    model = kwargs.get("model") or client.model
    return None if _is_url(model) else model


PROVIDER: Final = method_provider(
    id="huggingface_hub",
    package="huggingface_hub",
    supported=">=0.30,<3",
    calls=[
        Call(f"huggingface_hub.inference.{client}.{method}", endpoint, stream=None, required=True)
        for client in ("_client:InferenceClient", "_generated._async_client:AsyncInferenceClient")
        for method, endpoint in (("chat_completion", CHAT), ("text_generation", TEXT))
    ],
    server_of=server_of,
    model_of=model_of,
    accepts=instance_of(
        "huggingface_hub.inference._client:InferenceClient",
        "huggingface_hub.inference._generated._async_client:AsyncInferenceClient",
    ),
    shows=[
        f"huggingface_hub.inference._generated.types.{module}:{name}.__repr__"
        for module, names in (
            ("chat_completion", ("ChatCompletionOutput", "ChatCompletionStreamOutput")),
            ("text_generation", ("TextGenerationOutput", "TextGenerationStreamOutput")),
        )
        for name in names
    ],
    sending=["_inner_post", "parse_obj_as_instance", "_bytes_to_dict", "get_response"],
)
