"""What a request cost in money, by the offline prices of ``genai-prices`` (extra ``cost``).

Slow beside everything else here (a third of a second to import, some ten microseconds for a price): keep it off the
caller's path.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from ecoimpact.price_library import installed_version, price_library
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
_TIER_NAMES: Final = ("service_tier", "speed", "processing")
"""How the providers name what asks for another price than the ordinary one."""


def cost_usd(
    provider: str | None, models: tuple[str | None, ...], usage: Usage, *, started_at: float | None = None
) -> float | None:
    """USD for the tokens of a request under the first of its names that has a price; ``None`` where nobody knows.

    Prices are those of the day of ``started_at`` (Unix time; default: now), of the service tier in ``usage``, for tokens
    that were read from the cache, written to it, thought unseen or spoken as the provider bills each of them.
    """
    counts = _counts(usage)
    library = price_library()
    if counts is None or library is None or provider is None:
        return None
    moment = datetime.now(UTC) if started_at is None else datetime.fromtimestamp(started_at, UTC)
    tier = usage.service_tier
    context = dict.fromkeys(_TIER_NAMES, tier) if tier is not None else None
    for model in models:
        if not isinstance(model, str):
            continue
        try:
            snapshot = library.data_snapshot.get_snapshot()
            info = _model_info(snapshot, _PRICE_IDS.get(provider, provider), model)
            if info is None:
                continue
            price = info.get_prices(moment, context)
            # What is billed by the second, the character or the picture has no price in tokens: unknown is not zero.
            if any(usd is not None and unit.endswith("_mtok") for unit, usd in vars(price).items()):
                return _total(price, counts, library)
        except Exception:  # noqa: BLE001, S112 - unknown, or odd data: no price, and never a lost record
            continue
    return None


def price_version() -> str | None:
    """Which price table holds: ``genai-prices 0.2.3``, or the day on which the program updated it; ``None`` without one."""
    library = price_library()
    try:
        snapshot = library.data_snapshot.get_snapshot()
    except AttributeError:  # not there, or of another make than we know
        return None
    return f"genai-prices of {snapshot.timestamp:%Y-%m-%d}" if snapshot.from_auto_update else installed_version()


_MAX_NAMES: Final = 2_000
_infos: dict[tuple[str, str], tuple[Any, Any]] = {}


def _model_info(snapshot: Any, provider: str, model: str) -> Any:
    """What the library knows of a model, asked once for a table of prices: it goes through all names by rules."""
    known = _infos.get((provider, model))
    if known is None or known[0] is not snapshot:
        try:
            _, info = snapshot.find_provider_model(model, None, provider, None)
        except LookupError:
            info = None
        if len(_infos) >= _MAX_NAMES:
            _infos.clear()
        known = _infos[provider, model] = (snapshot, info)
    return known[1]


def _counts(usage: Usage) -> dict[str, int] | None:
    """The counts by the names of genai-prices; ``None`` where one that is needed is missing or none at all."""
    counts: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cached_input_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "output_reasoning_tokens": usage.reasoning_tokens,
        **dict(usage.priced_apart),
    }
    known = {name: count for name, count in counts.items() if count or name in ("input_tokens", "output_tokens")}
    return known if all(type(count) is int and count >= 0 for count in known.values()) else None


_SIMPLE: Final = {
    "input_tokens": ("input_tokens",),
    "cache_read_tokens": ("input_tokens", "cache_read_tokens"),
    "cache_write_tokens": ("input_tokens", "cache_write_tokens"),
    "output_tokens": ("output_tokens",),
    "output_reasoning_tokens": ("output_tokens", "output_reasoning_tokens"),
}
"""Counts that nearly all requests have alone, each with the counts that it is a part of."""
_A_MILLION: Final = 10**6
_MAX_RATES: Final = 2_000
_REQUEST: Final = ""
_rates: dict[int, tuple[Any, dict[str, Decimal] | None]] = {}


def _total(price: Any, counts: dict[str, int], library: Any) -> float:
    if counts.keys() <= _SIMPLE.keys() and _fits(counts):
        known = _rates.get(id(price))
        if known is None or known[0] is not price:
            if len(_rates) >= _MAX_RATES:
                _rates.clear()
            known = _rates[id(price)] = (price, _usd_per_token(price, library))
        rates = known[1]
        if rates is not None:
            return float(rates[_REQUEST] + sum(rates[name] * count for name, count in counts.items()))
    return float(_asked(price, counts, library))


def _asked(price: Any, counts: dict[str, int], library: Any) -> Decimal:
    total: Decimal = price.calc_price(library.Usage(**counts))["total_price"]
    return total


def _fits(counts: dict[str, int]) -> bool:
    cached = counts.get("cache_read_tokens", 0) + counts.get("cache_write_tokens", 0)
    return cached <= counts["input_tokens"] and counts.get("output_reasoning_tokens", 0) <= counts["output_tokens"]


def _usd_per_token(price: Any, library: Any) -> dict[str, Decimal] | None:
    """What the request itself and one token of each kind add, asked once of the library, which takes its time to answer.

    ``None`` where prices go by tiers of size, and so are not proportional.
    """
    if any(type(value).__name__ == "TieredPrices" for value in vars(price).values()):
        return None
    nothing = {"input_tokens": 0, "output_tokens": 0}
    usd = {_REQUEST: _asked(price, nothing, library)}
    for name, part_of in _SIMPLE.items():
        whole = _asked(price, nothing | dict.fromkeys(part_of[:-1], _A_MILLION), library)
        usd[name] = (_asked(price, nothing | dict.fromkeys(part_of, _A_MILLION), library) - whole) / _A_MILLION
    return usd
