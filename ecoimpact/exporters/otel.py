"""OpenTelemetry: metrics of every request, and what a call took on the span that it was made in.

Rules that hold in this file: OpenTelemetry is imported when an exporter is made. A span belongs to the program: it is only
added to, while it is recording. What runs on the caller's path (``on_call`` and what it gives) reads no price, does no
I/O and never enters a span whose lock is held: a finaliser may have interrupted the very thread that holds it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ecoimpact.exporters.measures import Measures, total
from ecoimpact.exporters.metric_exporter import MetricExporter
from ecoimpact.exporters.metrics import Metric
from ecoimpact.types import CRITERIA, Assessment, Inference

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span

try:
    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined] # it is untyped
except ImportError:  # only those who start programs by opentelemetry-instrument need it
    BaseInstrumentor = object

LABELS_VARIABLE: Final = "ECOIMPACT_METRIC_LABELS"
"""Names of labels, separated by commas, for programs that are started by ``opentelemetry-instrument``."""

BACKGROUND_PATIENCE_S: Final = 0.5

OnEnd = Callable[[Inference, Assessment], None]


class OTelExporter(MetricExporter):
    """Counts requests, tokens, energy, impacts and cost by OpenTelemetry; ``docs/metrics.md`` lists the metrics.

    Args:
        meter_provider: default: the global one.
        labels: names of labels that become attributes, ``label.<name>``. None by default: each value is a time series, and
            labels may name people.
        gen_ai: also the two histograms of the conventions for generative AI. False where another instrumentation has them.
        spans: put tokens and figures on the span that is current when a call begins.

    Raises:
        ImportError: OpenTelemetry is not installed.
        ValueError: ``labels`` are no names.
    """

    def __init__(
        self,
        meter_provider: MeterProvider | None = None,
        *,
        labels: Iterable[str] = (),
        gen_ai: bool = True,
        spans: bool = True,
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise ImportError('OTelExporter needs OpenTelemetry: pip install "ecoimpact[otel]"') from error
        from ecoimpact import __version__

        super().__init__(Measures(labels=labels, gen_ai=gen_ai))
        provider = metrics.get_meter_provider() if meter_provider is None else meter_provider
        meter = provider.get_meter("ecoimpact", __version__)
        self._adders: dict[Metric, tuple[Callable[..., None], tuple[str, ...]]] = {}
        for metric in self._measures.metrics:
            name, unit, description = metric.name, metric.unit, metric.description
            add = (
                meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=metric.buckets).record
                if metric.buckets
                else meter.create_counter(name, unit, description).add
            )
            self._adders[metric] = add, self._measures.attributes_of(metric)
        self._begin()
        self._current_span = trace.get_current_span if spans else None

    def _add(self, metric: Metric, value: float, attributes: tuple[str, ...]) -> None:
        add, names = self._adders[metric]
        add(value, {name: text for name, text in zip(names, attributes, strict=True) if text})

    def on_call(self) -> OnEnd | None:
        """On the caller's path, as a call begins: what is to be told of its end, where a span is recording."""
        span = self._current_span() if self._current_span is not None else None
        return SpanOfCall(span) if span is not None and span.is_recording() else None


class SpanOfCall:
    """Adds the figures of one call, once, to the span that it was made in: a span may see many calls.

    Called at the end of the call; and again from the background, in case the span could not be entered the first time.
    """

    __slots__ = ("_spans", "_tried_by")

    def __init__(self, span: Span) -> None:
        self._spans = [span]  # popped by whoever comes first
        self._tried_by: int | None = None

    def __call__(self, inference: Inference, assessment: Assessment) -> None:
        try:
            span = self._spans.pop()
        except IndexError:
            return
        thread = threading.get_ident()
        patience_s = 0.0 if self._tried_by in (None, thread) else BACKGROUND_PATIENCE_S
        if not _can_be_entered(span, patience_s):
            self._tried_by = thread
            self._spans.append(span)
            return
        with _adding:
            if span.is_recording():
                span.set_attributes(_added(getattr(span, "attributes", None) or {}, inference, assessment))


def _can_be_entered(span: Any, patience_s: float) -> bool:
    """Whether no lock of the SDK's span is held, which might be by this very thread."""
    for part in (span, getattr(span, "_attributes", None)):
        lock: Any = getattr(part, "_lock", None)
        if hasattr(lock, "acquire"):
            if not lock.acquire(timeout=patience_s):
                return False
            lock.release()
    return True


_FIGURES: Final = tuple(
    (c.key, tuple(f"ecoimpact.{c.suffix}_{end}" for end in ("min", "central", "max"))) for c in CRITERIA
)


def _added(before: Mapping[str, Any], inference: Inference, assessment: Assessment) -> dict[str, Any]:
    """The attributes of a span after one more call."""
    so_far = before.get
    attributes: dict[str, Any] = {"ecoimpact.requests": so_far("ecoimpact.requests", 0) + 1}
    usage = inference.usage
    for name, count in (("input_tokens", usage.input_tokens), ("output_tokens", usage.output_tokens)):
        if count is not None:
            # The convention's names are set by other instrumentations as well.
            sum_ = so_far(f"ecoimpact.{name}", 0) + count
            attributes[f"ecoimpact.{name}"] = attributes[f"gen_ai.usage.{name}"] = sum_
    for key, names in _FIGURES:
        for name, value in zip(names, total(assessment, key) or (), strict=False):
            attributes[name] = so_far(name, 0) + value
    if assessment.errors:
        codes = (*before.get("ecoimpact.errors", ()), *(error.code for error in assessment.errors))
        attributes["ecoimpact.errors"] = tuple(dict.fromkeys(codes))
    if assessment.low is not None:
        attributes["ecoimpact.estimated"] = True
    attributes["ecoimpact.methodology"] = assessment.methodology
    if assessment.zone is not None:
        attributes["ecoimpact.zone"] = assessment.zone
    return attributes


_adding = threading.RLock()
"""Held while a span is read and added to."""


def _renew_lock() -> None:
    global _adding  # noqa: PLW0603 - the parent's may be held by a thread that the child does not have
    _adding = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class EcoImpactInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """What ``opentelemetry-instrument`` calls: every provider SDK is watched, the global meter provider gets the metrics.

    Settings come from ``ECOIMPACT_*`` variables and ``pyproject.toml`` as ever.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: SDKs that are not installed are left alone, and those imported later are watched."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        import ecoimpact

        names = (name.strip() for name in os.environ.get(LABELS_VARIABLE, "").split(","))
        labels = kwargs.get("labels") or tuple(filter(None, names))
        ecoimpact.instrument(exporters=[OTelExporter(kwargs.get("meter_provider"), labels=labels)])

    def _uninstrument(self, **_: Any) -> None:
        import ecoimpact

        ecoimpact.uninstrument()
