"""The form that ``measured-2026`` gives to energy and GPU time per token, and its coefficients.

One form serves both quantities, over all GPUs of a deployment and per request. A step of the decoder works for a batch of B
requests at once: what it costs whatever the batch (launching kernels, reading weights) is shared by them, the rest is not.

Rules of this file: pure arithmetic on floats and arrays alike. The coefficients are those of the table ``measured_fit``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ecoimpact.methodologies._arrays import known_or, minimum, next_power_of_two, select
from ecoimpact.types import Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """What the terms of the form cost on a H100, in the unit of the quantity (uWh, or us of one GPU).

    ``step``: a step on one GPU, times sqrt(1 + P_active); ``mixture``: how many times that is with a mixture of experts;
    ``memory``: reading 10^9 bytes of weights; ``experts``: requests of a batch that choose their experts independently, per
    request; ``compute``: 10^9 parameters for one token; ``token``: other work for a token, times sqrt(P_active);
    ``attention``: reading 1000 tokens of context, times the width of the cache; ``exchange``: what a token of a mixture
    costs on each GPU for passing it around, times sqrt(1 + P_active).
    """

    step: float
    mixture: float
    memory: float
    experts: float
    compute: float
    token: float
    attention: float
    exchange: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How many times the terms cost what they cost on a H100."""

    step: float = 1.0
    memory: float = 1.0
    compute: float = 1.0
    exchange: float = 1.0


class PerToken(NamedTuple):
    """What a token costs: one generated, one read before, and one of context for each one generated."""

    generated: Number
    read: Number
    context: Number


def gpu_count(*, total_params_b: Number, weight_bytes: Number, gpu_memory_gb: Number) -> Number:
    """GPUs that a model is spread over: the smallest of the measured deployments, as a power of two.

    n = 2^ceil(log2(1.35 P_total b / M_GPU))   [GPUs; P in 10^9 parameters, b in bytes, M in GB]

    >>> gpu_count(total_params_b=70, weight_bytes=2, gpu_memory_gb=80), gpu_count(
    ...     total_params_b=8, weight_bytes=1, gpu_memory_gb=80)
    (4, 1)
    """
    need = MEMORY_OVERHEAD * total_params_b * weight_bytes / gpu_memory_gb
    return next_power_of_two(-minimum(-need, -1.0))


MEMORY_OVERHEAD = 1.35
"""Memory over weights: with it, the count is that of the smallest measured deployment for every measured model."""


CACHE_BYTES_PER_TOKEN = 39_500.0
"""Cache of a token over sqrt(P_active), of models with attention in all layers: the geometric mean of Llama 3.1 8B, 70B,
405B (128 kB, 320 kB, 504 kB) and Qwen3 8B (144 kB), of 16 bits."""

MIXTURE_SHARE = 0.8
"""A model that uses a smaller share of its parameters for a token is a mixture of experts."""


def is_mixture(active_params_b: Number, total_params_b: Number) -> Any:
    """Whether a model is a mixture of experts, element by element.

    >>> is_mixture(22, 235), is_mixture(70, 70)
    (True, False)
    """
    return active_params_b < MIXTURE_SHARE * total_params_b


def touched_share(*, active_params_b: Number, total_params_b: Number, batch_size: Number, experts: Number) -> Number:
    """Share of the weights that a step reads: of a mixture more, the more requests choose their experts.

    max(s, 1 - (1 - s)^(experts B)), s = P_active / P_total

    >>> touched_share(active_params_b=8, total_params_b=8, batch_size=1, experts=0.5)
    1.0
    >>> round(touched_share(active_params_b=3, total_params_b=30, batch_size=64, experts=0.5), 3)
    0.966
    """
    share = active_params_b / total_params_b
    chosen = 1 - (1 - share) ** (experts * batch_size)
    return -minimum(-share, -chosen)


def per_token(
    c: Coefficients,
    gpu: Scale,
    *,
    active_params_b: Number,
    total_params_b: Number,
    weight_bytes: Number,
    gpu_count: Number,
    batch_size: Number,
    cache_bytes_per_token: Number | None = None,
    state_bytes: Number = 0.0,
) -> PerToken:
    """What tokens cost over all GPUs, for one request of a batch.

    generated = (step n d m + memory b P_total touched) / B + compute P_active + token sqrt(P_active) + exchange n d;
    read = compute P_active;  context = attention w / 1000;  d = sqrt(1 + P_active).
    m is ``mixture`` for a mixture of experts, else 1; a dense model exchanges nothing. The width w of the cache is
    sqrt(P_active), or ``cache_bytes_per_token`` / 39 500 where that is known; a state is read and written for every
    token: + attention 2 ``state_bytes`` / 39 500 / 1000.
    """
    mixture = is_mixture(active_params_b, total_params_b)
    depth = (1 + active_params_b) ** 0.5
    touched = touched_share(
        active_params_b=active_params_b, total_params_b=total_params_b, batch_size=batch_size, experts=c.experts
    )
    step = gpu.step * c.step * select(mixture, c.mixture, 1.0) * gpu_count * depth
    weights = gpu.memory * c.memory * weight_bytes * total_params_b * touched
    exchange = gpu.exchange * c.exchange * select(mixture, 1.0, 0.0) * gpu_count * depth
    width = active_params_b**0.5
    read = gpu.compute * c.compute * active_params_b
    cache = width if cache_bytes_per_token is None else known_or(cache_bytes_per_token / CACHE_BYTES_PER_TOKEN, width)
    attention = gpu.memory * c.attention / 1000
    own = gpu.memory * c.token * width + attention * 2 * state_bytes / CACHE_BYTES_PER_TOKEN
    return PerToken((step + weights) / batch_size + read + own + exchange, read, attention * cache)


def per_output_token(token: PerToken, *, input_tokens: Number, output_tokens: Number) -> Number:
    """What an output token costs on average in a request of these lengths, with its part of reading the input."""
    context = input_tokens + output_tokens / 2
    return token.generated + token.read * input_tokens / output_tokens + token.context * context
