"""The live metrics by name, unit and attributes: those of our own, and those of OpenTelemetry's conventions.

Rule that holds in this file: a metric may be summed over all of its attributes, so the central value and both ends are
metrics apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Metric(NamedTuple):
    """A metric by its OpenTelemetry name, with its unit in UCUM; a histogram where it has ``buckets``, else a counter.

    ``prometheus`` is the name that the translation of OpenTelemetry metrics makes of it, without ``_total``.
    """

    name: str
    unit: str
    prometheus: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


BY_REQUEST: Final = ("provider", "model", "endpoint", "status")
BY_OPERATION: Final = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
)

REQUESTS: Final = Metric(
    "ecoimpact.requests", "{request}", "ecoimpact_requests", "Requests that were finished.", BY_REQUEST
)
UNESTIMATED: Final = Metric(
    "ecoimpact.requests.unestimated",
    "{request}",
    "ecoimpact_requests_unestimated",
    "Requests without figures, by the first reason.",
    (*BY_REQUEST, "reason"),
)
UNPRICED: Final = Metric(
    "ecoimpact.requests.unpriced",
    "{request}",
    "ecoimpact_requests_unpriced",
    "Requests without a price.",
    BY_REQUEST,
)
TOKENS: Final = Metric(
    "ecoimpact.tokens",
    "{token}",
    "ecoimpact_tokens",
    "Tokens read (cached ones included) and generated (reasoning included), estimated ones too.",
    (*BY_REQUEST, "type"),
)
COST: Final = Metric("ecoimpact.cost.usd", "{USD}", "ecoimpact_cost_usd", "List price of the requests.", BY_REQUEST)
DROPPED: Final = Metric(
    "ecoimpact.records.dropped",
    "{record}",
    "ecoimpact_records_dropped",
    "Records that this process lost, as ecoimpact.drops() counts them.",
    ("reason",),
)


class Ends(NamedTuple):
    """The metrics of a criterion; ``factor`` leads from the record's unit to theirs."""

    key: str
    factor: float
    low: Metric
    central: Metric
    high: Metric


def _ends(key: str, factor: float, unit: str, suffix: str, what: str) -> Ends:
    # An annotated unit is no unit to Prometheus: it stands in the name.
    named = f".{suffix}" if unit.startswith("{") else ""

    def metric(name: str, which: str) -> Metric:
        prometheus = f"ecoimpact_{key}_{name}_{suffix}"
        return Metric(f"ecoimpact.{key}.{name}{named}", unit, prometheus, f"{what}, estimated, {which}.", BY_REQUEST)

    low, central, high = metric("low", "low end"), metric("central", "central value"), metric("high", "high end")
    return Ends(key, factor, low, central, high)


FIGURES: Final = (
    _ends("energy", 3.6e6, "J", "joules", "Energy"),
    _ends("gwp", 1e3, "g", "grams", "Global Warming Potential in CO2 equivalents"),
    _ends("adpe", 1e3, "g", "grams", "Abiotic Depletion Potential (elements) in Sb equivalents"),
    _ends("pe", 1e6, "J", "joules", "Primary Energy"),
    # No translation to Prometheus has a word for UCUM's L.
    _ends("wcf", 1.0, "{liter}", "liters", "Water Consumption Footprint"),
)

# OpenTelemetry, semantic conventions for generative AI metrics: names, attributes and buckets.
TOKEN_USAGE: Final = Metric(
    "gen_ai.client.token.usage",
    "{token}",
    "gen_ai_client_token_usage",
    "Number of input and output tokens used.",
    (*BY_OPERATION, "gen_ai.token.type"),
    tuple(float(4**power) for power in range(14)),
)
DURATION: Final = Metric(
    "gen_ai.client.operation.duration",
    "s",
    "gen_ai_client_operation_duration_seconds",
    "GenAI operation duration.",
    (*BY_OPERATION, "error.type"),
    tuple(0.01 * 2**power for power in range(14)),
)

OURS: Final = (
    *(REQUESTS, UNESTIMATED, UNPRICED, TOKENS, COST, DROPPED),
    *(metric for ends in FIGURES for metric in (ends.low, ends.central, ends.high)),
)
GEN_AI: Final = (TOKEN_USAGE, DURATION)

# The conventions' names of providers that we call otherwise (gen_ai.provider.name).
OTEL_PROVIDERS: Final[Mapping[str, str]] = {
    "azure_ai": "azure.ai.inference",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "google_genai": "gcp.gemini",
    "mistralai": "mistral_ai",
    "vertex": "gcp.vertex_ai",
    "xai": "x_ai",
}
# The conventions' names of operations (gen_ai.operation.name); an endpoint that is not listed goes by its own.
OPERATIONS: Final[Mapping[str, str]] = {
    "agents.completions": "chat",
    "chat.completions": "chat",
    "completions": "text_completion",
    "conversations": "chat",
    "converse": "chat",
    "fim.completions": "text_completion",
    "generate": "text_completion",
    "messages": "chat",
    "responses": "chat",
    "text_generation": "text_completion",
}
