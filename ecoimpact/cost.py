"""What a request cost in money, by the offline prices of ``genai-prices`` (extra ``cost``).

Slow beside everything else here (a third of a second to import, a tenth of a millisecond a call): keep it off the
caller's path.
"""

from __future__ import annotations

from ecoimpact.types import Usage

# Where the ids of genai-prices differ from ours. A provider that is missing here goes by its own id.
_PRICE_IDS = {
    "mistralai": "mistral",
    "google_genai": "google",
    "vertex": "google",
    "bedrock": "aws",
    "azure_openai": "azure",
    "azure_ai": "azure",
    "xai": "x-ai",
    "moonshot": "moonshotai",
    "ovh": "ovhcloud",
}


def cost_usd(provider: str, models: tuple[str, ...], usage: Usage) -> float | None:
    """USD for the tokens of a request under the first of its names that has a price; ``None`` where nobody knows."""
    tokens_in, tokens_out, cached = usage.input_tokens, usage.output_tokens, usage.cached_input_tokens
    counts = [count for count in (tokens_in, tokens_out, cached) if count is not None]
    if tokens_in is None or tokens_out is None or not all(type(count) is int and count >= 0 for count in counts):
        return None
    try:
        from genai_prices import Usage as Tokens
        from genai_prices import calc_price
    except ImportError:
        return None
    tokens = Tokens(input_tokens=tokens_in, output_tokens=tokens_out, cache_read_tokens=cached)
    for model in models:
        try:
            return float(calc_price(tokens, model, provider_id=_PRICE_IDS.get(provider, provider)).total_price)
        except (LookupError, ValueError):
            continue
    return None
