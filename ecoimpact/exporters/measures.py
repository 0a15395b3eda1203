"""What live metrics take of a record.

Rules that hold in this file: what nobody knows adds nothing, and is counted as unknown. Attributes are few, short,
printable and bounded in number, and a label becomes one only where the program names it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeGuard

from ecoimpact.exporters.metrics import (
    BY_OPERATION,
    BY_REQUEST,
    COST,
    DURATION,
    FIGURES,
    GEN_AI,
    OPERATIONS,
    OTEL_PROVIDERS,
    OURS,
    REQUESTS,
    TOKEN_USAGE,
    TOKENS,
    UNESTIMATED,
    UNPRICED,
    Metric,
)
from ecoimpact.types import Assessment, Inference, Record

MAX_VALUES: Final = 100
"""Distinct values of an attribute; what comes later counts as ``(other)``."""
MAX_SERIES: Final = 900
"""Distinct combinations of attributes; with both types of tokens still below the 2 000 that OpenTelemetry's SDK keeps."""
MAX_VALUE_CHARS: Final = 128
OTHER: Final = "(other)"
UNKNOWN: Final = "(unknown)"

LABEL_PREFIX: Final = "label."


class Measurement(NamedTuple):
    """What to add to a metric; ``attributes`` in the order of :meth:`Measures.attributes_of`, empty where there is none."""

    metric: Metric
    value: float
    attributes: tuple[str, ...]


class Measures:
    """Turns records into measurements.

    ``labels`` names the labels that become attributes, ``label.<name>``; ``gen_ai`` adds the conventions' histograms.

    Raises:
        ValueError: ``labels`` is no collection of names, or two of them are one name in Prometheus.

    >>> Measures(labels=["feature"]).attributes_of(REQUESTS)
    ('provider', 'model', 'endpoint', 'status', 'label.feature')
    """

    def __init__(self, *, labels: Iterable[str] = (), gen_ai: bool = True) -> None:
        self.labels = _checked(labels)
        self.metrics: tuple[Metric, ...] = (*OURS, *GEN_AI) if gen_ai else OURS
        self._gen_ai = gen_ai
        self._values: dict[str, set[str]] = {}
        self._series: set[tuple[str, ...]] = set()

    def attributes_of(self, metric: Metric) -> tuple[str, ...]:
        """The names of a metric's attributes."""
        if metric.attributes[:4] != BY_REQUEST:
            return metric.attributes
        return (*BY_REQUEST, *(LABEL_PREFIX + name for name in self.labels), *metric.attributes[4:])

    def of(self, record: Record) -> Iterator[Measurement]:
        """All that a record adds."""
        inference, assessment = record.inference, record.assessment
        usage = inference.usage
        request = self._request(record)
        yield Measurement(REQUESTS, 1, request)
        for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if _is_known(tokens):
                yield Measurement(TOKENS, tokens, (*request, kind))
        if assessment.low is None:
            reason = assessment.errors[0].code if assessment.errors else UNKNOWN
            yield Measurement(UNESTIMATED, 1, (*request, self._bounded("reason", reason)))
        for key, factor, *metrics in FIGURES:
            for metric, value in zip(metrics, total(assessment, key) or (), strict=False):
                yield Measurement(metric, value * factor, request)
        if _is_known(record.cost_usd):
            yield Measurement(COST, record.cost_usd, request)
        else:
            yield Measurement(UNPRICED, 1, request)
        if self._gen_ai:
            yield from self._by_convention(inference)

    def _request(self, record: Record) -> tuple[str, ...]:
        """The attributes of a request."""
        inference, model = record.inference, record.assessment.model
        labels = record.labels
        provider = self._bounded("provider", inference.provider)
        name = self._bounded("model", model.name if model else inference.request_model)
        endpoint = self._bounded("endpoint", inference.endpoint)
        values = (self._bounded(LABEL_PREFIX + key, labels[key]) if labels.get(key) else "" for key in self.labels)
        attributes = (provider, name, endpoint, inference.status, *values)
        if self._has_room(attributes):
            return attributes
        return (OTHER, OTHER, OTHER, inference.status, *(OTHER for _ in self.labels))

    def _by_convention(self, inference: Inference) -> Iterator[Measurement]:
        usage, provider = inference.usage, inference.provider
        operation = OPERATIONS.get(inference.endpoint, inference.endpoint)
        models = inference.request_model, inference.response_model
        attributes = (
            self._bounded("operation", operation),
            self._bounded("gen_ai provider", OTEL_PROVIDERS.get(provider, provider)),
            *(self._bounded("named model", model) if model else "" for model in models),
        )
        if not self._has_room(attributes):
            attributes = (OTHER,) * len(BY_OPERATION)
        for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            # The conventions want no estimates of output here: those are in ecoimpact.tokens alone.
            if _is_known(tokens) and not (usage.estimated and kind == "output"):
                yield Measurement(TOKEN_USAGE, tokens, (*attributes, kind))
        if _is_known(inference.latency_s):
            error = self._bounded("error", inference.error_type) if inference.error_type else ""
            yield Measurement(DURATION, inference.latency_s or 0.0, (*attributes, error))

    def _bounded(self, kind: str, text: object) -> str:
        """``text`` as an attribute can hold it, or ``(other)`` where there are too many of the kind."""
        known = self._values.setdefault(kind, set())
        if isinstance(text, str) and text in known:
            return text  # as nearly always
        word = printable(text)
        if word not in known:
            if len(known) >= MAX_VALUES:
                return OTHER
            known.add(word)
        return word

    def _has_room(self, attributes: tuple[str, ...]) -> bool:
        if attributes in self._series:
            return True
        if len(self._series) >= MAX_SERIES:
            return False
        self._series.add(attributes)
        return True


def total(assessment: Assessment, key: str) -> tuple[float, float, float] | None:
    """Low end, central value and high end of a figure in the record's unit, where they are known."""
    found = assessment.total(key)
    if found is None:
        return None
    low, central, high = found
    return found if low >= 0 and central >= 0 and high >= 0 and low + central + high < math.inf else None


def prometheus_label(name: str) -> str:
    """The name of an attribute as Prometheus takes it.

    >>> prometheus_label("gen_ai.provider.name"), prometheus_label("label.http.route")
    ('gen_ai_provider_name', 'label_http_route')
    """
    return re.sub(r"[^a-zA-Z0-9]+", "_", name)


def _checked(labels: Iterable[Any]) -> tuple[str, ...]:
    names = (labels,) if isinstance(labels, str) else tuple(labels)
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"labels must be names of labels, such as ['feature'], not {labels!r}")
    spelt: dict[str, str] = {}
    for name in names:
        other = spelt.setdefault(prometheus_label(name), name)
        if other != name:
            raise ValueError(f"labels: {other!r} and {name!r} are one name in Prometheus, {prometheus_label(name)!r}")
    return tuple(dict.fromkeys(names))


def printable(text: object) -> str:
    """Short and printable, whatever a program or a provider writes.

    >>> printable("gpt-4o\\n\\ud800"), printable(None)
    ('gpt-4o', '(unknown)')
    """
    word = text[: 4 * MAX_VALUE_CHARS] if isinstance(text, str) else ""
    if not word.isprintable():
        word = "".join(character for character in word if character.isprintable())
    word = word.strip()
    return (word if len(word) <= MAX_VALUE_CHARS else word[: MAX_VALUE_CHARS - 1] + "…") or UNKNOWN


def _is_known(value: Any) -> TypeGuard[float]:
    """Whether a counter can take it: one that was given a NaN stays one for ever."""
    return value is not None and math.isfinite(value) and value >= 0
