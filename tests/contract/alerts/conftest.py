"""The implementations of alerts under test: the in-memory alerts, and SNS topics of moto and of MiniStack."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import boto3
import pytest

from anb_core.adapters.sns import SnsAlerts
from anb_core.ports.alerts import Alerts
from anb_core.testing.alerts import InMemoryAlerts

REGION = "eu-west-1"
"""An AWS region that differs from the default region of the tests."""


@dataclass(frozen=True)
class Stand:
    """The alerts under test. `received` returns the subject and the text of each alert that a subscriber received."""

    alerts: Alerts
    received: Callable[[], list[tuple[str, str]]]


@pytest.fixture(params=["memory", "moto_url", "ministack_url"])
def stand(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Stand:
    if request.param == "memory":
        kept = InMemoryAlerts()
        return Stand(kept, lambda: kept.published)
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue(request.param))
    session, name = boto3.session.Session(region_name=REGION), f"anb-alerts-{uuid4()}"
    sns, sqs = session.client("sns"), session.client("sqs")
    topic = sns.create_topic(Name=name)["TopicArn"]
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

    def received() -> list[tuple[str, str]]:
        messages: list[Any] = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        bodies = [json.loads(message["Body"]) for message in messages]
        return [(body["Subject"], body["Message"]) for body in bodies]

    return Stand(SnsAlerts(topic, patience=timedelta(seconds=20)), received)
