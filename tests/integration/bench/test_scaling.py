"""Tests of the simulated worker of bench.scaling, with an emulator of SQS."""

import json
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import boto3
import pytest

from tests.support import eventually, scaling_worker
from tests.support.aws import running_moto

VIDEO = {"case": "step", "video": 7, "sent": 1.5}


@pytest.fixture(scope="module")
def sqs() -> Iterator[Any]:
    with running_moto() as url:
        yield boto3.client(
            "sqs",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )


@pytest.fixture
def queues(sqs: Any) -> tuple[str, str]:
    """The URLs of a new queue of jobs, with one message, and of a new queue of reports."""
    queue, reports = (sqs.create_queue(QueueName=str(uuid4()))["QueueUrl"] for _ in range(2))
    sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(VIDEO))
    return queue, reports


def working(queues: tuple[str, str], stop: Event, *, job_seconds: float, drain_seconds: float) -> Thread:
    queue, reports = queues
    times = {"job_seconds": job_seconds, "drain_seconds": drain_seconds}
    thread = Thread(
        target=scaling_worker.work, args=(stop,), kwargs={"queue": queue, "reports": reports, **times, "wait": 0}
    )
    thread.start()
    return thread


def report(sqs: Any, queues: tuple[str, str]) -> dict[str, Any]:
    """Wait for the worker's report on its only attempt, which names the video."""
    [message] = eventually(lambda: sqs.receive_message(QueueUrl=queues[1]).get("Messages"))
    found: dict[str, Any] = json.loads(message["Body"])
    assert VIDEO.items() <= found.items()
    return found


def left(sqs: Any, queues: tuple[str, str]) -> int:
    """The number of messages that another worker can receive."""
    return len(sqs.receive_message(QueueUrl=queues[0]).get("Messages", []))


def test_a_job_lasts_as_long_as_asked_and_its_message_is_deleted(sqs: Any, queues: tuple[str, str]) -> None:
    stop = Event()
    worker = working(queues, stop, job_seconds=0.2, drain_seconds=60)

    attempt = report(sqs, queues)

    stop.set()
    worker.join()
    assert attempt["ended"] - attempt["began"] >= 0.2
    assert (attempt["done"], attempt["stopped"]) == (True, False)
    assert left(sqs, queues) == 0


def test_a_removed_worker_finishes_a_job_that_ends_within_the_drain(sqs: Any, queues: tuple[str, str]) -> None:
    stop = Event()
    worker = working(queues, stop, job_seconds=1, drain_seconds=60)
    eventually(lambda: in_flight(sqs, queues))
    stop.set()
    worker.join()

    attempt = report(sqs, queues)

    assert attempt["ended"] - attempt["began"] >= 1
    assert (attempt["done"], attempt["stopped"]) == (True, True)
    assert left(sqs, queues) == 0


def test_a_removed_worker_hands_on_a_job_that_takes_longer(sqs: Any, queues: tuple[str, str]) -> None:
    stop = Event()
    worker = working(queues, stop, job_seconds=600, drain_seconds=0.1)
    eventually(lambda: in_flight(sqs, queues))
    stop.set()
    worker.join()

    attempt = report(sqs, queues)

    assert (attempt["done"], attempt["stopped"]) == (False, True)
    assert left(sqs, queues) == 1


def in_flight(sqs: Any, queues: tuple[str, str]) -> int:
    answer = sqs.get_queue_attributes(QueueUrl=queues[0], AttributeNames=["All"])
    return int(answer["Attributes"]["ApproximateNumberOfMessagesNotVisible"])
