"""What the operator counts; docs/metrics.md says what each number means."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """The numbers of one process; `registry` is what `/metrics` shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter("anb_operator_reconciles", "Turns of a video.", ["outcome"], registry=self.registry)
        self.mirror_seconds = Histogram(
            "anb_operator_mirror_seconds",
            "From a change of a video's row until its VideoJob was seen to.",
            buckets=(0.25, 0.5, 1, 2, 5, 15, 60, 300),
            registry=self.registry,
        )
        self.requests = Counter(
            "anb_operator_api_requests",
            "Requests to the API server, without those of the watch.",
            ["verb", "code"],
            registry=self.registry,
        )
        self.commands = Counter(
            "anb_operator_commands", "What VideoJobs asked for.", ["command", "outcome"], registry=self.registry
        )
        self.videojobs = self._gauge("videojobs", "VideoJobs that are known.")
        self.queue_depth = self._gauge("queue_depth", "Videos that could be looked at now.")
        self.videos_failing = self._gauge("videos_failing", "Videos that failed when they were looked at last.")
        self.watch_silence = self._gauge(
            "watch_silence_seconds", "For how long the watch has not shown what was written."
        )
        self.feed_unanswered = self._gauge("feed_unanswered_events", "Events that were read and are not done.")
        self.feed_lag = self._gauge("feed_lag_seconds", "For how long VideoJobs may be out of date.")

    def _gauge(self, name: str, help_text: str) -> Gauge:
        return Gauge(f"anb_operator_{name}", help_text, registry=self.registry)
