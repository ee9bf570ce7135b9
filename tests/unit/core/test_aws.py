from datetime import timedelta

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest

from anb_core.adapters.aws import TRIES, client_config

PATIENCE = timedelta(seconds=20)
LONGEST_PAUSES = 1 + 2
"""Maximum total pause, in seconds, between the three tries of a call in botocore's standard retry mode."""


def test_a_call_with_all_its_tries_ends_within_the_patience_of_its_caller() -> None:
    config = vars(client_config(PATIENCE))

    assert config["retries"] == {"mode": "standard", "total_max_attempts": TRIES}
    assert TRIES * config["read_timeout"] + LONGEST_PAUSES <= PATIENCE.total_seconds()
    assert config["connect_timeout"] <= config["read_timeout"]


def test_a_long_poll_is_not_given_up_while_it_waits_nor_tried_twice() -> None:
    config = vars(client_config(PATIENCE, wait=timedelta(seconds=20)))

    assert config["read_timeout"] > 20
    assert config["retries"]["total_max_attempts"] == 1


def test_requests_carry_the_program_that_aws_sdk_ua_app_id_names(monkeypatch: pytest.MonkeyPatch) -> None:
    # AWS' logs, and the tests that record permissions, tell the programs apart by this.
    monkeypatch.setenv("AWS_SDK_UA_APP_ID", "anb-video-worker")
    session = boto3.session.Session("test", "test", region_name="us-east-1")
    client = session.client("s3", config=client_config(PATIENCE))

    class Sent(Exception):
        """Ends a call before it opens a connection."""

    def stop(request: AWSPreparedRequest, **_: object) -> None:
        raise Sent(request.headers["User-Agent"])

    client.meta.events.register("before-send", stop)
    with pytest.raises(Sent, match=" app/anb-video-worker"):
        client.list_buckets()
