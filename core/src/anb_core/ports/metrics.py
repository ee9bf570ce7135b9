"""Metrics that a program sends to a service, which stores them and raises alarms."""

from collections.abc import Mapping
from typing import Protocol


class MetricSink(Protocol):
    """Stores the metrics of one release, for example in CloudWatch."""

    def publish(self, values: Mapping[str, float]) -> None:
        """Send the current value of each metric, by the metric's name. At least one metric is given.

        The values may have been stored even if this method raises an error.

        Raises:
            Unavailable: the service refused the values or did not answer. The error's `part` is `metrics`.
        """
        ...

    def close(self) -> None: ...
