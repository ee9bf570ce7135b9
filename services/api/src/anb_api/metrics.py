"""The API's Prometheus metrics."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from anb_core.domain.errors import LimitReached
from anb_core.ports.store import Store
from anb_core.telemetry import DeadLetterMetrics, JobsCollector

UNKNOWN_ROUTE: Final = "unknown"
"""The `route` label of all paths without a route. One shared label keeps scanners from creating many time series."""


class Metrics:
    """The metrics of one process. The route `/metrics` returns the metrics of `registry`."""

    def __init__(self, store: Store) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(JobsCollector(store))
        self.dead_letters = DeadLetterMetrics(store, self.registry)
        self.requests = Counter(
            "anb_http_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "anb_http_request_seconds",
            "Time until a request was answered completely; event streams are left out.",
            ["method", "route"],
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300, 1800),
            registry=self.registry,
        )
        self.uploads = Gauge("anb_uploads_running", "Uploads that are being received.", registry=self.registry)
        self.refused_uploads = Counter(
            "anb_uploads_refused", "Uploads refused because of a limit.", ["code"], registry=self.registry
        )
        self.streams = Gauge("anb_event_streams", "Event streams that are open.", registry=self.registry)

    @contextmanager
    def counting_refused_uploads(self) -> Iterator[None]:
        """Count an upload if the `with` block raises LimitReached."""
        try:
            yield
        except LimitReached as error:
            self.refused_uploads.labels(error.code).inc()
            raise
