"""Tests that the operator sends to AWS what its alarms need, with the values that `make aws-values` sets."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from anb_cli.client import Api
from tests.support.release import QUICK, Release
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(600)

NAMESPACE = "ANBVideo"
PAUSED = "autoscaling.keda.sh/paused-replicas"


@pytest.fixture
def aws(release: Release) -> Callable[[Any], Any]:
    """A function that returns a client of a service."""
    return lambda service: boto3.client(service, endpoint_url=release.storage)


@pytest.fixture
def topic(release: Release, aws: Callable[[Any], Any]) -> Iterator[str]:
    """The ARN of the topic that the operator tells about dead letters. The operator also publishes metrics."""
    topic = aws("sns").create_topic(Name="anb-video-alerts")["TopicArn"]
    release.up(f"alerts.snsTopicArn={topic}", f"metrics.cloudwatch.namespace={NAMESPACE}")
    try:
        yield topic
    finally:
        release.up()


@pytest.fixture
def _no_workers(release: Release, topic: str) -> Iterator[None]:  # noqa: ARG001 - `up` must not change workers later
    release.namespace.kubectl("annotate", "scaledobject", "anb-worker", f"{PAUSED}=0")
    try:
        eventually(lambda: release.workers() == 0, within=120, every=0.5)
        yield
    finally:
        release.namespace.kubectl("annotate", "scaledobject", "anb-worker", f"{PAUSED}-")


@pytest.mark.usefixtures("_no_workers")
def test_the_operator_publishes_all_four_metrics_and_tells_the_topic_about_a_dead_letter(
    release: Release, aws: Callable[[Any], Any], topic: str, *, api: Api, upload: Callable[..., str], blink: Path
) -> None:
    sqs, cloudwatch = aws("sqs"), aws("cloudwatch")
    inbox = sqs.create_queue(QueueName="alerts")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=inbox, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    aws("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    release.send(["nobody can read this"], to=release.dead_letter_queue)

    def told() -> bool:
        messages = sqs.receive_message(QueueUrl=inbox, WaitTimeSeconds=1).get("Messages", [])
        return any("unreadable" in json.loads(message["Body"])["Message"] for message in messages)

    eventually(told, within=60)
    open_letters = len(list(api.dead_letters({"state": "open"}, limit=1000)))
    # From now on a job waits. Until now, OldestWaitingSeconds was 0.
    uploading_at = time.monotonic()
    upload(blink, edit=QUICK)
    dimensions = [{"Name": "Release", "Value": f"{release.namespace.name}/anb"}]

    def latest(metric: str) -> float | None:
        """Return the value of the last minute."""
        now = datetime.now(UTC)
        points = cloudwatch.get_metric_statistics(
            Namespace=NAMESPACE,
            MetricName=metric,
            Dimensions=dimensions,
            StartTime=now - timedelta(minutes=5),
            EndTime=now + timedelta(minutes=1),
            Period=1,
            Statistics=["Maximum"],
        )["Datapoints"]
        return max(points, key=lambda point: point["Timestamp"])["Maximum"] if points else None

    # The operator measures at the beginning of each minute.
    waited = eventually(lambda: latest("OldestWaitingSeconds"), within=90, every=0.5)
    assert 0 < (waited or 0) <= time.monotonic() - uploading_at
    assert latest("OpenDeadLetters") == open_letters
    assert (latest("Workers"), latest("WorkersMax")) == (0, 3)
    names = {found["MetricName"] for found in cloudwatch.list_metrics(Namespace=NAMESPACE)["Metrics"]}
    assert names == {"OldestWaitingSeconds", "OpenDeadLetters", "Workers", "WorkersMax"}
