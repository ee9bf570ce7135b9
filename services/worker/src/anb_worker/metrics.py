"""The Prometheus metrics of a worker."""

import math
from collections.abc import Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from anb_core.domain.retry import INTERRUPTIONS_ALARM
from anb_core.usecases.report import Outcome, Report

STEP_BUCKETS = (0.05, 0.25, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)


class Metrics:
    """The metrics of one worker process. `/metrics` shows all metrics of `registry`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._deliveries = Counter(
            "anb_worker_deliveries", "Deliveries by their outcome.", ["outcome"], registry=self.registry
        )
        self._steps = Histogram(
            "anb_worker_step_seconds",
            "How long each step of a processed job took.",
            ["step"],
            buckets=STEP_BUCKETS,
            registry=self.registry,
        )
        self._alarms = Counter(
            "anb_worker_interruption_alarms",
            f"Interruptions of jobs that had been interrupted {INTERRUPTIONS_ALARM - 1} or more times before.",
            registry=self.registry,
        )
        self._sandbox = Gauge(
            "anb_worker_sandbox",
            "1 when the sandbox of the child processes that read uploads has this protection, else 0.",
            ["protection"],
            registry=self.registry,
        )
        self._old_queue = Gauge(
            "anb_old_queue_messages",
            "Messages in the old queue, waiting or in flight. NaN if there is no old queue, or if it does not answer.",
            registry=self.registry,
        )
        self._old_queue.set(math.nan)
        for outcome in Outcome:
            self._deliveries.labels(outcome)

    def count(self, report: Report) -> None:
        """Count a delivery. If the job was processed, record the duration of each step, too."""
        self._deliveries.labels(report.outcome).inc()
        if report.outcome is Outcome.PROCESSED:
            for step, seconds in report.steps.items():
                self._steps.labels(step).observe(seconds)
        if report.alarming:
            self._alarms.inc()

    def show_old_queue(self, messages: float) -> None:
        """Set the number of messages in the old queue. NaN if the number is unknown."""
        self._old_queue.set(messages)

    def show_protections(self, protections: Mapping[str, bool]) -> None:
        """Set one gauge for each protection of the sandbox: to 1 if this system has the protection, else to 0."""
        for name, holds in protections.items():
            self._sandbox.labels(name).set(holds)
