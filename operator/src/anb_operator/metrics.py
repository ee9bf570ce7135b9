"""What the operator counts; the names are told in docs/operator.md."""

from collections.abc import Callable

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

    def show(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """A number that is asked for when somebody reads it."""
        Gauge(f"anb_operator_{name}", help_text, registry=self.registry).set_function(value)
