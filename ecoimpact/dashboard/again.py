"""The same requests estimated again: under the other methodologies, by another model, and one of them step by step.

The index keeps sums, not requests. So each combination of provider, model and zone is estimated once, with the mean of
its tokens and of its latency, and taken as many times as it has requests. That is exact where a methodology is
proportional to tokens, and close where it is not. Requests whose tokens nobody knows are left out and counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from ecoimpact import engine, methodologies
from ecoimpact.dashboard.plain import ends
from ecoimpact.records.folding import figure_in
from ecoimpact.records.queries import Combination, Totals
from ecoimpact.types import CRITERIA, Impacts, Methodology, Range, Usage

READS_ONLY: Final = frozenset({"embeddings"})
"""Endpoints that generate nothing."""
UNKNOWN: Final = ("(unknown)", "(other)")
MODELS: Final = 8
"""Models of the log that all requests are thought to have gone to."""


class Work(NamedTuple):
    """Requests that have all names in common, and the mean of what they asked for."""

    provider: str | None
    model: str
    zone: str | None
    generates: bool
    requests: int
    input_tokens: float
    output_tokens: float | None
    latency_s: float | None

    def usage(self) -> Usage:
        return Usage(self.input_tokens, self.output_tokens if self.generates else 0, generates=self.generates)


def work_of(combinations: Iterable[Combination]) -> list[Work]:
    """The combinations without the methodology, and those with unknown tokens without the requests that have none."""
    merged: dict[tuple[str, str, str, bool], Totals] = {}
    for each in combinations:
        key = (each.provider, each.model, each.zone, each.endpoint not in READS_ONLY)
        merged[key] = merged[key] + each.totals if key in merged else each.totals
    found = []
    for (provider, model, zone, generates), totals in merged.items():
        number = totals.requests - (totals.tokens_unknown if generates else 0)
        if number:
            found.append(
                Work(
                    _name(provider),
                    model,
                    _name(zone),
                    generates,
                    number,
                    totals.input_tokens / totals.requests,
                    totals.output_tokens / number,
                    totals.mean_latency_s,
                )
            )
    return found


def _name(text: str) -> str | None:
    return None if text in UNKNOWN else text


def by_methodology(combinations: Iterable[Combination]) -> list[dict[str, Any]]:
    """What each methodology makes of the same requests."""
    work = work_of(combinations)
    names = (name for name in methodologies.names() if name not in methodologies.ALIASES)
    return [
        {
            "methodology": name,
            **_sum(work, partial(_impacts, methodology=methodologies.get(name))),
            "includes": list(methodologies.about(name).includes),
            "leaves_out": list(methodologies.about(name).leaves_out),
        }
        for name in names
    ]


def by_model(combinations: Iterable[Combination], models: Iterable[str]) -> list[dict[str, Any]]:
    """What the same tokens would have taken, had they all gone to one model, where its provider runs it; the price too."""
    work = [each for each in work_of(combinations) if each.generates]
    return [{"model": model, **_sum(work, partial(_elsewhere, model=model)), **_priced(work, model)} for model in models]


def largest_models(combinations: Iterable[Combination]) -> list[str]:
    """The models of the log with the most output tokens."""
    tokens: dict[str, int] = {}
    for each in combinations:
        if _name(each.model) is not None and each.endpoint not in READS_ONLY:
            tokens[each.model] = tokens.get(each.model, 0) + each.totals.output_tokens
    return sorted(tokens, key=lambda model: (-tokens[model], model))[:MODELS]


def _sum(work: Iterable[Work], impacts_of: Callable[[Work], Impacts]) -> dict[str, Any]:
    parts: dict[str, list[Range]] = {criterion.key: [] for criterion in CRITERIA}
    requests = estimated = 0
    for each in work:
        requests += each.requests
        impacts = impacts_of(each)
        if impacts.energy is not None:
            estimated += each.requests
        for criterion in CRITERIA:
            figure = getattr(impacts, criterion.key)
            if figure is not None:
                parts[criterion.key].append(figure.value * each.requests)
    found: dict[str, Any] = {"requests": requests, "estimated": estimated}
    for criterion in CRITERIA:
        found |= ends(criterion.suffix, sum(parts[criterion.key], Range(0.0, 0.0)) if parts[criterion.key] else None)
    return found


def _priced(work: Iterable[Work], model: str) -> dict[str, Any]:
    """Prices are of whole tokens."""
    costs: list[float] = []
    priced = 0
    for each in work:
        tokens = Usage(round(each.input_tokens), round(each.output_tokens or 0))
        cost = Impacts(engine.assess(engine.catalog(), provider=None, models=(model,), usage=tokens)).cost
        if cost is not None:
            priced += each.requests
            costs.append(cost * each.requests)
    return {"priced": priced, "cost_usd": math.fsum(costs) if costs else None}


def _impacts(each: Work, methodology: Methodology) -> Impacts:
    return estimated_again(
        provider=each.provider,
        models=(each.model,),
        usage=each.usage(),
        latency_s=each.latency_s,
        zone=each.zone,
        methodology=methodology,
    )


def _elsewhere(each: Work, model: str) -> Impacts:
    return Impacts(engine.assess(engine.catalog(), provider=None, models=(model,), usage=each.usage()))


def estimated_again(*, zone: str | None, **request: Any) -> Impacts:
    """The impacts of a request in the zone of its record: by the provider's own site, unless that lies elsewhere."""
    known = engine.catalog()
    impacts = Impacts(engine.assess(known, **request))
    if zone is None or impacts.zone in (None, zone):
        return impacts
    elsewhere = Impacts(engine.assess(known, **request, zone=zone))
    return impacts if elsewhere.has_errors else elsewhere


# --- one request --------------------------------------------------------------------------------------------------------


def explained(record: Mapping[str, Any]) -> dict[str, Any]:
    """The steps from a record to its figures, by its own methodology where that still exists."""
    recorded = record.get("methodology")
    try:
        methodology = engine.validate_methodology(recorded if isinstance(recorded, str) else engine.DEFAULT_METHODOLOGY)
    except ValueError:
        methodology = engine.validate_methodology(engine.DEFAULT_METHODOLOGY)
    names = [record.get(name) for name in ("response_model", "request_model", "model")]
    impacts = estimated_again(
        provider=_text(record.get("provider")),
        models=tuple(dict.fromkeys(name for name in map(_text, names) if name is not None)),
        usage=Usage(
            record.get("input_tokens"),
            record.get("output_tokens"),
            estimated=record.get("tokens_estimated") is True,
            generates=record.get("endpoint") not in READS_ONLY,
        ),
        latency_s=record.get("latency_s"),
        zone=_text(record.get("zone")),
        methodology=methodology,
    )
    again = {c.suffix: getattr(impacts, c.key) for c in CRITERIA}
    return {
        "methodology": methodology.name,
        "data_version": impacts.data_version,
        "recorded_methodology": _text(recorded),
        "recorded_data_version": _text(record.get("data_version")),
        "steps": [
            {"symbol": s.symbol, "formula": s.formula, "low": s.low, "high": s.high, "unit": s.unit, "source": s.source}
            for s in (impacts.explain() if impacts.energy is not None else ())
        ],
        "figures": {
            name: None if figure is None else {end: getattr(figure, end) for end in ("min", "central", "max")}
            for name, figure in again.items()
        },
        "is_as_recorded": all(_same(figure, record, name) for name, figure in again.items()),
        "notices": [str(notice) for notice in (*impacts.errors, *impacts.warnings)],
    }


def _same(figure: Any, record: Mapping[str, Any], name: str) -> bool:
    recorded = figure_in(record, name)
    if figure is None or recorded is None:
        return figure is recorded is None
    # Older records have no central value: then there is nothing to compare.
    compared = ("min", "central", "max") if record.get(f"{name}_central") is not None else ("min", "max")
    return all(math.isclose(getattr(figure, end), getattr(recorded, end), rel_tol=1e-9) for end in compared)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
