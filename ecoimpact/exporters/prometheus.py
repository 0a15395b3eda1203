"""Prometheus: the same metrics as OpenTelemetry's exporter has, under the same names, through ``prometheus_client``.

Several processes behind one address, as gunicorn's workers, share their counts where ``PROMETHEUS_MULTIPROC_DIR`` names a
directory before they start.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from ecoimpact.exporters.measures import Measures, prometheus_label
from ecoimpact.exporters.metric_exporter import MetricExporter
from ecoimpact.exporters.metrics import Metric

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import CollectorRegistry, Counter, Histogram

MULTIPROCESS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
DEFAULT_PORT: Final = 9464


class PrometheusExporter(MetricExporter):
    """Counts requests, tokens, energy, impacts and cost; ``docs/metrics.md`` lists the metrics.

    Args:
        registry: default: that of ``prometheus_client``, which a ``/metrics`` that the program has already shows.
        labels: names of labels that become labels of the metrics, ``label_<name>``. None by default: each value is a time
            series, and labels may name people.
        gen_ai: also the two histograms of OpenTelemetry's conventions for generative AI.

    Raises:
        ImportError: ``prometheus_client`` is not installed.
        ValueError: ``labels`` are no names, or the registry has such an exporter already.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, *, labels: Iterable[str] = (), gen_ai: bool = True
    ) -> None:
        try:
            import prometheus_client
        except ImportError as error:
            raise ImportError('PrometheusExporter needs prometheus_client: pip install "ecoimpact[prometheus]"') from error

        super().__init__(Measures(labels=labels, gen_ai=gen_ai))
        self._registry = prometheus_client.REGISTRY if registry is None else registry
        self._metrics: dict[Metric, Counter | Histogram] = {}
        for metric in self._measures.metrics:
            names = [prometheus_label(name) for name in self._measures.attributes_of(metric)]
            arguments: dict[str, Any] = {"labelnames": names, "registry": self._registry}
            self._metrics[metric] = (
                prometheus_client.Histogram(metric.prometheus, metric.description, buckets=metric.buckets, **arguments)
                if metric.buckets
                else prometheus_client.Counter(metric.prometheus, metric.description, **arguments)
            )
        self._begin()

    def _add(self, metric: Metric, value: float, attributes: tuple[str, ...]) -> None:
        child = self._metrics[metric].labels(*attributes)
        if metric.buckets:
            child.observe(value)  # type: ignore[union-attr]
        else:
            child.inc(value)  # type: ignore[union-attr]

    @property
    def registry(self) -> CollectorRegistry:
        """What to show at ``/metrics``, for ``make_asgi_app`` and ``make_wsgi_app``: the counts of all processes that
        share them."""
        if MULTIPROCESS_VARIABLE not in os.environ:
            return self._registry
        from prometheus_client import CollectorRegistry, multiprocess

        shared = CollectorRegistry()
        multiprocess.MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        return shared

    def serve(self, port: int = DEFAULT_PORT, host: str = "127.0.0.1") -> tuple[WSGIServer, threading.Thread]:
        """Answer at ``http://host:port/metrics``, from a thread of its own, for programs that have no web server.

        Loopback by default: metrics tell who runs what models how often, and there is no password. Port 0 takes a free one;
        the server has it as ``server_port``, and a ``shutdown()``.

        Raises:
            OSError: the port is taken.
        """
        from prometheus_client import start_http_server

        return start_http_server(port, host, registry=self.registry)
