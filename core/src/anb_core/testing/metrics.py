"""The in-memory sink for metrics, for tests."""

from collections.abc import Mapping

from anb_core.domain.errors import AnbError


class InMemoryMetrics:
    """Implements `anb_core.ports.metrics.MetricSink`. `published` has the values of each call, in order.

    If `fault` is set to an error, `publish` raises it, as if CloudWatch were unavailable.
    """

    def __init__(self) -> None:
        self.published: list[Mapping[str, float]] = []
        self.fault: AnbError | None = None

    def publish(self, values: Mapping[str, float]) -> None:
        if self.fault:
            raise self.fault
        self.published.append(dict(values))

    def close(self) -> None:
        """Do nothing, because no connection is open."""
