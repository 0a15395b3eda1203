"""Bits of a weight: what the name of a model with open weights states, else what its maker published.

Rules of this file: what is served under a name is taken to be what the name says. A row for that very name comes first,
then the precision in the name, then the rows for the model and for its line. A name that hints at a version of a host's own
("turbo", "gguf") and does not say how it is rounded leaves the precision unknown, and so does a local runner, whose library
rounds most models in its own way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from ecoimpact.data.names import Form, base_spelling, spelling
from ecoimpact.data.tables import rows

__all__ = ["Precision", "find", "weight_bits", "without_quantisation"]


class Precision(NamedTuple):
    """Bits of a weight, and where they are from."""

    weight_bits: float
    source: str


IN_THE_NAME = "the name of the model"

_PART = re.compile(r"[-:_@+ /]+|\.(?!\d)|(?<!\d)\.")
# Blocks of 32 weights share a scale of eight bits (OCP Microscaling Formats 1.0), those of 16 in NVIDIA's format.
_MX, _NV = 8 / 32, 8 / 16
_WEIGHT_BITS = {
    **{f"q{bits}": float(bits) for bits in (2, 3, 4, 5, 6, 8)},
    **{f"iq{bits}": float(bits) for bits in (1, 2, 3, 4)},
    **dict.fromkeys(("fp8", "int8", "8bit", "w8a8", "w8a16"), 8.0),
    **dict.fromkeys(("fp4", "nf4", "int4", "4bit", "w4a16", "awq"), 4.0),
    **dict.fromkeys(("fp16", "bf16", "f16", "16bit"), 16.0),
    "mxfp8": 8 + _MX,
    "mxfp4": 4 + _MX,
    "nvfp4": 4 + _NV,
}
_QUANTISED = re.compile(
    r"[-:.@_](?:ud-)?(?:i?q[1-8](?:_[a-z0-9]{1,3}){0,3}|(?:mx)?fp8|bf16|f?f?p?16|(?:nv|mx)?fp4|nf4|int[48]|[48]bit|16bit|"
    r"w[48]a(?:8|16)|awq|gptq|bnb|gguf|mlx|exl[23]|dynamic|block|quantized)$"
)
_MAX_SUFFIXES = 4
_OF_A_HOST = re.compile(
    r"turbo|lite|(?:ultra)?fast|instant|versatile|highspeed|lightning|specdec|flashx|sonar|gptq|gguf|ggml|exl[23]|mlx|bnb|"
    r"quant(?:ized)?|qat|onnx|keras|tflite|cpp|flax|lora"
)
_LOCAL_RUNNERS = ("ollama", "lm_studio", "llama_cpp")


def without_quantisation(name: str) -> str:
    """The name of the model whose weights were rounded.

    >>> without_quantisation("llama-3.1-8b-instruct-q4_k_m"), without_quantisation("phi-4-bnb-4bit")
    ('llama-3.1-8b-instruct', 'phi-4')
    """
    for _ in range(_MAX_SUFFIXES):
        name, count = _QUANTISED.subn("", name)
        if not count:
            break
    return name


def weight_bits(name: str) -> float | None:
    """Bits of a weight where the name says so for certain: ``gguf`` and ``gptq`` alone do not.

    >>> weight_bits("llama3.1:8b-instruct-q4_K_M"), weight_bits("glm-5.2-fp8"), weight_bits("phi-3-gguf")
    (4.0, 8.0, None)
    >>> weight_bits("Qwen2.5-72B-Instruct-GPTQ-Int4"), weight_bits("gpt-oss-20b-mxfp4")
    (4.0, 4.25)
    """
    found = {_WEIGHT_BITS[part] for part in _PART.split(name.lower()) if part in _WEIGHT_BITS}
    return found.pop() if len(found) == 1 else None


def find(model: str, written: Iterable[Form], provider: str | None, *, is_open: bool) -> Precision | None:
    """The precision of a model that was found under the forms of a name.

    >>> from ecoimpact.data.names import forms
    >>> find("openai/gpt-oss-120b", forms("gpt-oss-120b"), "vllm", is_open=True).weight_bits
    4.25
    >>> find("meta-llama/Llama-3.1-8B", forms("llama-3.1-8b-fp8"), "vllm", is_open=True)
    Precision(weight_bits=8.0, source='the name of the model')
    """
    forms = tuple(written)
    is_local = provider in _LOCAL_RUNNERS or any(form.vendor == "ollama" for form in forms)
    is_published = is_open and not is_local
    names, _ = _published()
    if is_published:
        for form in forms:
            if own := names.get(base_spelling(form.text)):
                return own
    bits = weight_bits(forms[0].text) or weight_bits(model)
    if bits is not None:
        return Precision(bits, IN_THE_NAME)
    if not is_published or any(map(_OF_A_HOST.fullmatch, _PART.split(forms[0].text))):
        return None
    return _of_the_maker(base_spelling(model))


def _of_the_maker(base: str) -> Precision | None:
    names, lines = _published()
    return names.get(base) or next((found for start, found in lines if base.startswith(start)), None)


@cache
def _published() -> tuple[dict[str, Precision], tuple[tuple[str, Precision], ...]]:
    """The table: whole names, and the beginnings of those of a line, the longest first."""
    found = {
        spelling(model): Precision(float(bits), f"{source} {evidence}")
        for model, bits, _, source, evidence in rows("weight_precision")
    }
    lines = {name.removesuffix("*"): known for name, known in found.items() if name.endswith("*")}
    names = {name: known for name, known in found.items() if not name.endswith("*")}
    return names, tuple(sorted(lines.items(), key=lambda line: -len(line[0])))
