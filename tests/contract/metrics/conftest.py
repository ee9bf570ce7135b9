"""The sinks for metrics under test: the in-memory sink, and CloudWatch of moto."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import boto3
import pytest

from anb_core.adapters.cloudwatch import CloudWatchMetrics
from anb_core.ports.metrics import MetricSink
from anb_core.testing.metrics import InMemoryMetrics

REGION = "eu-west-1"
"""An AWS region that differs from the default region of the tests."""

PATIENCE = timedelta(seconds=20)


@dataclass(frozen=True)
class Stand:
    """The sink under test. `stored` returns the sum of the stored values of each metric of the release."""

    metrics: MetricSink
    stored: Callable[[], Mapping[str, float]]


@pytest.fixture(params=["memory", "moto_url"])
def stand(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Stand:
    """The sink under test. One sink is in memory, the other one sends to moto."""
    if request.param == "memory":
        sink = InMemoryMetrics()
        return Stand(sink, lambda: _sums(sink.published))
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue(request.param))
    namespace, release = f"ANBVideo{uuid4()}", "video/anb"
    # A second release in the same namespace of CloudWatch must not change the values that alarms of the first one see.
    other = CloudWatchMetrics(namespace, release="video/other", region=REGION, patience=PATIENCE)
    other.publish({"Workers": 1000})
    other.close()
    metrics = CloudWatchMetrics(namespace, release=release, region=REGION, patience=PATIENCE)
    return Stand(metrics, lambda: _stored(namespace, release))


def _sums(published: list[Mapping[str, float]]) -> Mapping[str, float]:
    names = {name for values in published for name in values}
    return {name: sum(values.get(name, 0) for values in published) for name in names}


def _stored(namespace: str, release: str) -> Mapping[str, float]:
    """Return the sums, read as an alarm reads them: by the namespace and the dimension `Release`."""
    cloudwatch: Any = boto3.session.Session(region_name=REGION).client("cloudwatch")
    by_release = [{"Name": "Release", "Value": release}]
    now = datetime.now(UTC)

    def total(name: str) -> float:
        statistics = cloudwatch.get_metric_statistics(
            Namespace=namespace,
            MetricName=name,
            Dimensions=by_release,
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(hours=1),
            Period=7200,
            Statistics=["Sum"],
        )
        return float(sum(point["Sum"] for point in statistics["Datapoints"]))

    listed = cloudwatch.list_metrics(Namespace=namespace, Dimensions=by_release)["Metrics"]
    return {metric["MetricName"]: total(metric["MetricName"]) for metric in listed}
