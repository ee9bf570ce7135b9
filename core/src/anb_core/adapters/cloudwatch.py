"""Metrics in CloudWatch: implements `anb_core.ports.metrics.MetricSink`."""

from collections.abc import Mapping
from datetime import timedelta

import boto3

from anb_core.adapters.aws import answering, client_config

RELEASE = "Release"
"""Name of the dimension that tells the metrics of several releases apart. Alarms name this dimension, too."""


class CloudWatchMetrics:
    """The metrics of one release in a namespace of CloudWatch. A call and its retries end within about `patience`."""

    def __init__(self, namespace: str, *, release: str, region: str | None, patience: timedelta) -> None:
        self._namespace = namespace
        self._release = release
        self._cloudwatch = boto3.session.Session().client(
            "cloudwatch", region_name=region, config=client_config(patience)
        )
        self._place = f"CloudWatch at {self._cloudwatch.meta.endpoint_url}"

    def publish(self, values: Mapping[str, float]) -> None:
        with answering("metrics", self._place):
            self._cloudwatch.put_metric_data(
                Namespace=self._namespace,
                MetricData=[
                    {"MetricName": name, "Dimensions": [{"Name": RELEASE, "Value": self._release}], "Value": value}
                    for name, value in values.items()
                ],
            )

    def close(self) -> None:
        self._cloudwatch.close()
