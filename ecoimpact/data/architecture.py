"""What a model keeps of a request, where not all of its layers have attention: a table by the beginnings of names.

Rules of this file: a row is for a line of models of one architecture; what no row names is taken to have attention in all
layers.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from ecoimpact.data.names import base_spelling, spelling
from ecoimpact.data.tables import rows
from ecoimpact.types import Memory


def memory(names: Iterable[str]) -> Memory | None:
    """The memory of a model by its names, with or without their organisation.

    >>> memory(["nvidia/NVIDIA-Nemotron-Nano-12B-v2"]).cache_bytes_per_token
    24576.0
    >>> memory(["meta-llama/Llama-3.1-8B"])
    """
    bases = [base_spelling(name) for name in names]
    for start, found in _lines():
        if any(base.startswith(start) for base in bases):
            return found
    return None


@cache
def _lines() -> tuple[tuple[str, Memory], ...]:
    return tuple(
        (spelling(model.removesuffix("*")), Memory(float(cache_bytes), float(state_bytes), f"{source} {evidence}"))
        for model, cache_bytes, state_bytes, _, source, evidence in rows("request_memory")
    )
