from datetime import timedelta
from pathlib import Path

import pytest

from anb_core.ports.queue import Outgoing
from tests.support.parts import opened_parts


def test_database_bucket_and_queue_that_the_environment_names_are_opened_and_work(
    tmp_path: Path, ministack_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/anb.db",
        "S3_BUCKET": "anb-bootstrap",
        "SQS_QUEUE_URL": f"{ministack_url}/000000000000/anb-bootstrap",
        "AWS_ENDPOINT_URL": ministack_url,
        "AWS_REGION": "eu-west-1",
        "ANB_CREATE_RESOURCES": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with opened_parts() as parts:
        parts.queue.ensure()
        for part in (parts.store, parts.objects, parts.queue):
            part.ping()
        parts.queue.send([Outgoing(body="hello", group="video", owner="ana", deduplication="1")])
        delivery = parts.queue.receive(wait=timedelta(seconds=5))

    assert delivery is not None
    assert delivery.body == "hello"
