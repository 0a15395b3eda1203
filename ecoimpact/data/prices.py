"""The size of a model from its list price: the last resort, with the interval that a prediction of one model has.

Rules of this file: only the price of that very name at that very provider counts, found without searching for similar
names; a price of nothing says nothing; the interval is that of a new model around the fit, not that of the fit. The prices
are those of ``genai-prices`` (extra ``cost``) on the day of our own tables, so that the same data give the same size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

from ecoimpact.data.names import ROUTE, spelling
from ecoimpact.data.sizes import MAX_PARAMS_B
from ecoimpact.data.tables import DATA_VERSION, rows
from ecoimpact.price_library import price_library
from ecoimpact.types import Range

_LISTS: dict[str, tuple[str, ...]] = {
    "openai": ("openai",),
    "azure_openai": ("azure", "openai"),
    "azure_ai": ("azure", "openai", "anthropic", "deepseek", "x-ai", "moonshotai"),
    "anthropic": ("anthropic",),
    "mistralai": ("mistral",),
    "cohere": ("cohere",),
    "google_genai": ("google",),
    "vertex": ("google", "anthropic"),
    "bedrock": ("aws",),
    "xai": ("x-ai",),
    "deepseek": ("deepseek",),
    "perplexity": ("perplexity",),
    "groq": ("groq",),
    "cerebras": ("cerebras",),
    "together": ("together",),
    "fireworks": ("fireworks",),
    "moonshot": ("moonshotai",),
    "zai": ("zai", "zhipuai"),
    "minimax": ("minimax",),
    "meta": ("meta",),
    "novita": ("novita", "huggingface_novita"),
    "nebius": ("huggingface_nebius",),
    "hyperbolic": ("huggingface_hyperbolic",),
    "sambanova": ("huggingface_sambanova",),
    "cloudflare": ("cloudflare",),
    "databricks": ("databricks",),
    "ovh": ("ovhcloud", "huggingface_ovhcloud"),
    "openrouter": ("openrouter",),
    "github_models": ("github-copilot",),
    "huggingface_hub": (
        "huggingface_together",
        "huggingface_novita",
        "huggingface_fireworks-ai",
        "huggingface_nebius",
        "huggingface_nscale",
        "huggingface_hyperbolic",
        "huggingface_sambanova",
        "huggingface_groq",
        "huggingface_cerebras",
        "huggingface_ovhcloud",
        "huggingface_publicai",
    ),
}
_MAKERS = ("openai", "anthropic", "google_genai", "mistralai", "cohere", "xai", "deepseek", "perplexity", "moonshot", "zai",
           "minimax", "meta", "bedrock")  # fmt: skip
# Gateways and bare names: the makers' own prices first, then those of the largest lists.
_ANYWHERE = (*_MAKERS, "openrouter", "together", "fireworks", "groq", "huggingface_hub")
_GATEWAYS = ("litellm",)
_MANY_MAKERS = ("azure_ai", "vertex", "bedrock", "databricks", "github_models", "openrouter", "fireworks", "together")
# What is billed by other measures than tokens of text, or makes something else of them: its price says nothing here.
_OTHER_OUTPUT = re.compile(
    r"(?:^|[^a-z])(?:embed(?:ding)?s?|image|banana|tts|voice|speech|audio|realtime|live|sonic|transcribe|whisper|ocr|paddleocr|"
    r"rerank(?:er)?|moderation|lyria|video|guard|safety|decider|router)(?:$|[^a-z])"
)
# A list that tells regions apart does it before the name.
_REGION = re.compile(r"(?:global|regional)\.")


_T_QUANTILE = 1.9636
"""Of Student's distribution, for 95 % and the 645 degrees of freedom of the fit."""


class Priced(NamedTuple):
    """A model by its price: whose list, the name there, USD per million tokens (3 read for 1 generated), sizes in 10⁹."""

    provider: str
    name: str
    usd_per_mtok: float
    total_params_b: Range
    active_params_b: Range


def priced(provider: str | None, candidates: list[tuple[str, str]]) -> Priced | None:
    """The plainest of the names (each with the owner that its prefix announced) that has a list price at the provider."""
    if any(_OTHER_OUTPUT.search(name) for name, _ in candidates):
        return None
    for place in _places(provider, next((vendor for _, vendor in reversed(candidates) if vendor), "")):
        lists = _listed(place)
        for name, _ in reversed(candidates):
            # A route such as ":batch" has a price of its own, which says less.
            if listed := lists.get(spelling(ROUTE.sub("", name))) or lists.get(spelling(name)):
                usd = listed[1]
                active = _predicted("active", usd)
                total = _predicted("total", usd)
                # No model has less in memory than it works with.
                total = Range(max(total.min, active.min), max(total.max, active.max), max(total.central, active.central))
                return Priced(place, listed[0], usd, total, active)
    return None


def _places(provider: str | None, vendor: str) -> tuple[str, ...]:
    if provider is None or provider in _GATEWAYS:
        return () if vendor == "ollama" else tuple(dict.fromkeys((vendor, *_ANYWHERE) if vendor in _MAKERS else _ANYWHERE))
    if provider in _MANY_MAKERS:
        return tuple(dict.fromkeys((provider, *_ANYWHERE)))
    return (provider,) if provider in _LISTS else ()


@cache
def _fits() -> dict[str, tuple[float, ...]]:
    return {row[0]: tuple(map(float, row[1:7])) for row in rows("price_fit")}


def _predicted(quantity: str, usd_per_mtok: float) -> Range:
    """[10⁹] ``ln P = b0 + b1 ln c`` with the 95 % interval of one further model.

    >>> f"{_predicted('active', (3 * 2.5 + 10) / 4):.0f}"
    '78 [14 - 419]'
    """
    b0, b1, residual_sd, count, mean_ln_price, spread = _fits()[quantity]
    x = math.log(usd_per_mtok)
    error = _T_QUANTILE * residual_sd * math.sqrt(1 + 1 / count + (x - mean_ln_price) ** 2 / spread)
    low, middle, high = (min(math.exp(b0 + b1 * x + end), MAX_PARAMS_B) for end in (-error, 0, error))
    return Range(low, high, middle)


# --- the list prices ----------------------------------------------------------------------------------------------------


def price_lists() -> Any:
    """The providers of ``genai-prices``, imported when the first price is asked for; ``None`` without the library.

    Tests put another function in its place.
    """
    library = price_library()
    return None if library is None else library.data_snapshot.get_snapshot().providers


@cache
def _listed(provider: str) -> dict[str, tuple[str, float]]:
    """Names and USD per million tokens of a provider's lists, by their spelling."""
    found: dict[str, tuple[str, float]] = {}
    known = {listing.id: listing for listing in price_lists() or ()}
    day = datetime.fromisoformat(DATA_VERSION).replace(tzinfo=UTC)
    for key in _LISTS[provider]:
        for model in known[key].models if key in known else ():
            usd = _usd_per_mtok(model, day)
            if usd is not None:
                for name in (model.id, *_equal_names(model.match)):
                    found.setdefault(spelling(_plain(name)), (_plain(model.id), usd))
    return found


def _plain(name: str) -> str:
    return _REGION.sub("", name.lower(), count=1)


def _usd_per_mtok(model: Any, day: datetime) -> float | None:
    try:
        prices = model.get_prices(day)
        read, generated = _base(prices.input_mtok), _base(prices.output_mtok)
    except (AttributeError, TypeError, ValueError):  # a price that is missing, or of another make than we know
        return None
    usd = (3 * read + generated) / 4
    return usd if 0 < usd < math.inf else None


def _base(price: Any) -> float:
    """A price per million tokens, of the lowest tier where there are several."""
    return float(getattr(price, "base", price))


def _equal_names(clause: Any) -> Iterator[str]:
    """The names that a listing states in full; patterns and beginnings are left alone."""
    equals = getattr(clause, "equals", None)
    if isinstance(equals, str):
        yield equals
    for part in getattr(clause, "or_", ()):
        yield from _equal_names(part)
