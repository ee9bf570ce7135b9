"""The operator's Prometheus metrics. docs/metrics.md explains each metric."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from anb_core.ports.store import DeadLetters
from anb_core.telemetry import DeadLetterMetrics


class Metrics:
    """The metrics of one process. `/metrics` shows everything in `registry`."""

    def __init__(self, store: DeadLetters) -> None:
        self.registry = CollectorRegistry()
        self.dead_letters = DeadLetterMetrics(store, self.registry)
        self.reconciles = Counter(
            "anb_operator_reconciles", "Reconciles of a video, by outcome.", ["outcome"], registry=self.registry
        )
        self.mirror_seconds = Histogram(
            "anb_operator_mirror_seconds",
            "Seconds from a change of a video's row until its VideoJob was reconciled.",
            buckets=(0.25, 0.5, 1, 2, 5, 15, 60, 300),
            registry=self.registry,
        )
        self.requests = Counter(
            "anb_operator_api_requests",
            "Requests to the API server, except those of the watch.",
            ["verb", "code"],
            registry=self.registry,
        )
        self.commands = Counter(
            "anb_operator_commands",
            "Commands of VideoJobs' specs, by outcome.",
            ["command", "outcome"],
            registry=self.registry,
        )
        self.videojobs = self._gauge("videojobs", "VideoJobs in the cache.")
        self.queue_depth = self._gauge("queue_depth", "Videos that are ready to be reconciled.")
        self.videos_failing = self._gauge("videos_failing", "Videos whose last reconcile failed.")
        self.watch_silence = self._gauge(
            "watch_silence_seconds", "Seconds for which the watch has not shown a write of the operator."
        )
        self.feed_unanswered = self._gauge("feed_unanswered_events", "Feed events that were read but not handled yet.")
        self.feed_lag = self._gauge("feed_lag_seconds", "Seconds for which VideoJobs may be out of date.")

    def _gauge(self, name: str, help_text: str) -> Gauge:
        return Gauge(f"anb_operator_{name}", help_text, registry=self.registry)
