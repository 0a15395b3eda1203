"""The size of a model as its name states it: ``llama-3.3-70b``, ``qwen3-235b-a22b``, ``mixtral-8x7b``, ``gemma-3n-e4b``.

Rules of this file: only names of models whose weights are open are read, since theirs state sizes; a number is a size only
with its unit and nothing else beside it, so that versions, dates and context lengths (``128k``) are none; two different
sizes in a name are none; a size lies between 0.01 and 5 000 billion parameters.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ecoimpact.types import Range

MIN_PARAMS_B, MAX_PARAMS_B = 0.01, 5_000.0

# Makers whose names state no size; what begins like them and is open does.
_CLOSED = re.compile(
    r"(?:claude|chatgpt|gpt-(?!oss|j-|jt-|neo|sw3)|gpt\d|gemini(?!-gemma)|o\d|command|grok(?!-1)|nova-|titan|sonar|palm|text-|codex|chat-)"
)
# Makers whose weights are open: such a name is an open model's wherever it is asked for.
_OPEN = re.compile(
    r"llama|alpaca|vicuna|qwen|qwq|mistral|mixtral|ministral|codestral|devstral|magistral|mathstral|pixtral|voxtral|gemma|"
    r"phi-?\d|deepseek|falcon|olmo|granite|hermes|wizard|zephyr|bloom|pythia|gpt-(?:oss|j|jt|neo)|stablelm|smollm|internlm|"
    r"internvl|glm|kimi|moonlight|minimax|nemotron|exaone|solar|jamba|lfm|ernie|hunyuan|starcoder|dolphin|apertus|eurollm|"
    r"apriel|bielik|salamandra|cogito|molmo|llava|moondream|baichuan|dbrx|dolly|redpajama|openchat|mimo-|(?:^|[/-])yi-|aya-"
)
_PART = re.compile(r"[-:_@+ /]+|\.(?!\d)|(?<!\d)\.")
_POINT = re.compile(r"(?<=\d)p(?=\d)")
_ZERO = re.compile(r"(?<=[-_])0[-_](?=\d)")  # no version is 0: "0-6b" is 0.6 billion
_NUMBER = r"(\d{1,4}(?:\.\d{1,3})?)"
_TOTAL = re.compile(_NUMBER + r"([bt])")
_MILLIONS = re.compile(r"(\d{2,4})m")
_ACTIVE = re.compile("a" + _NUMBER + "b")
_EFFECTIVE = re.compile("e" + _NUMBER + "b")
_EXPERTS = re.compile(r"([2-9]|[1-9]\d)x" + _NUMBER + "b")
_EXPERT_COUNT = re.compile(r"\d{1,3}e")

# Of a total above this without an active count, most are mixtures of experts that leave it out.
_OFTEN_MIXTURES_FROM_B = 100.0
_LEAST_ACTIVE_SHARE = 0.03
_DENSE = re.compile(r"llama|hermes")
# The total of "8x7b" is below 8 x 7, since the experts share the rest of the model; two experts serve a token.
_MIXTRAL_B = {(8, 7.0): (46.7, 12.9), (8, 22.0): (140.6, 39.1)}
_EFFECTIVE_TOTAL = 2.7


class Size(NamedTuple):
    """What a name states, in billions of parameters, and what had to be assumed besides."""

    total_params_b: Range
    active_params_b: Range
    assumed: str


def is_open(name: str) -> bool:
    """Whether a model is one with open weights by its name alone.

    >>> is_open("deepseek-r1-distill-qwen-32b"), is_open("acme-7b")
    (True, False)
    """
    return _OPEN.search(name.lower()) is not None


def size(name: str) -> Size | None:
    """The size that the name of an open model states, or ``None``.

    >>> size("qwen3-235b-a22b").active_params_b.mean
    22.0
    >>> size("llama-3.3-70b-instruct").total_params_b.mean
    70.0
    >>> size("phi-3-mini-128k-instruct"), size("gpt-5-70b")
    (None, None)
    """
    base = name.lower().rpartition("/")[2]
    if _CLOSED.match(base):
        return None
    parts = [_POINT.sub(".", part) for part in _PART.split(_ZERO.sub("0.", base))]
    if any(map(_EXPERT_COUNT.fullmatch, parts)):
        return None  # "17b-128e": the size is that of one token's path, and the total is not stated
    stated = _stated(parts)
    if stated is None:
        return None
    total, active, assumed = stated
    ends = (total.min, active.min, total.max, active.max)
    if not all(MIN_PARAMS_B <= end <= MAX_PARAMS_B for end in ends) or active.min > total.min or active.max > total.max:
        return None
    if not assumed and total == active and total.min >= _OFTEN_MIXTURES_FROM_B and not _DENSE.search(base):
        active, assumed = Range(_LEAST_ACTIVE_SHARE * total.min, total.max), "how much of it is active is not"
    return Size(total, active, assumed)


def _stated(parts: list[str]) -> tuple[Range, Range, str] | None:
    totals = {_billions(m) for m in map(_TOTAL.fullmatch, parts) if m}
    totals |= {float(m[1]) / 1_000 for m in map(_MILLIONS.fullmatch, parts) if m}
    actives = {float(m[1]) for m in map(_ACTIVE.fullmatch, parts) if m}
    effective = {float(m[1]) for m in map(_EFFECTIVE.fullmatch, parts) if m}
    experts = {(int(m[1]), float(m[2])) for m in map(_EXPERTS.fullmatch, parts) if m}
    if len(totals | effective | experts) != 1 or len(actives) > 1:  # nothing, or more than one
        return None
    if experts:
        return _mixture(*experts.pop())
    if effective:
        share = effective.pop()
        return Range(share, share * _EFFECTIVE_TOTAL), Range(share, share), "only the effective size is"
    total = totals.pop()
    active = actives.pop() if actives else total
    return Range(total, total), Range(active, active), ""


def _billions(match: re.Match[str]) -> float:
    return float(match[1]) * (1_000 if match[2] == "t" else 1)


def _mixture(count: int, one_b: float) -> tuple[Range, Range, str]:
    if known := _MIXTRAL_B.get((count, one_b)):
        return Range(known[0], known[0]), Range(known[1], known[1]), ""
    whole = count * one_b
    return Range(0.7 * whole, whole), Range(one_b, min(2 * one_b, whole)), "what the experts share is not"
