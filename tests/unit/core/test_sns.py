"""Tests of the SNS adapter with responses that no emulator sends."""

from datetime import timedelta

import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber

from anb_core.adapters.sns import SnsAlerts
from anb_core.domain.errors import Unavailable
from tests.support.aws import recorded_clients

TOPIC = "arn:aws-cn:sns:cn-north-1:123456789012:anb-alerts"


def test_the_region_of_the_topic_is_asked_and_no_longer_than_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = recorded_clients(monkeypatch)
    SnsAlerts(TOPIC, patience=timedelta(seconds=8))
    [client] = clients
    assert client.meta.region_name == "cn-north-1"
    assert vars(client.meta.config)["read_timeout"] == 2


def test_a_refused_alert_is_told_with_the_topic_and_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = recorded_clients(monkeypatch)
    alerts = SnsAlerts(TOPIC, patience=timedelta(seconds=8))
    with Stubber(clients[0]) as stub:
        stub.add_client_error("publish", "AuthorizationError", "not allowed", http_status_code=403)
        with pytest.raises(Unavailable, match=rf"{TOPIC} in ANB_SNS_TOPIC_ARN, .* AuthorizationError, not allowed\.$"):
            alerts.publish("subject", "text")


def test_a_topic_that_does_not_answer_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = recorded_clients(monkeypatch)
    alerts = SnsAlerts(TOPIC, patience=timedelta(seconds=8))

    def fail(**_: object) -> None:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:9")

    clients[0].meta.events.register("before-send", fail)
    with pytest.raises(Unavailable, match=r"ANB_SNS_TOPIC_ARN, at http://127\.0\.0\.1:9, does not answer: ") as away:
        alerts.publish("subject", "text")
    assert away.value.part == "alerts"
