"""Tests of the SQS adapter only: creating queues, missing queues, and an SQS server that fails or does not respond."""

import json
import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from anb_core.adapters.sqs import SqsQueue
from anb_core.domain.errors import Unavailable
from anb_core.ports.queue import Depth, Outgoing
from tests.contract.queue.conftest import Server

NOW = timedelta(0)
MESSAGE = Outgoing(body="body", group="video", owner="ana", deduplication="1")


def attributes(server: Server, url: str) -> dict[str, Any]:
    attributes: dict[str, Any] = server.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return attributes


@pytest.fixture
def silent_url() -> Iterator[str]:
    """A server that accepts connections but never responds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "fifo"])
def test_a_missing_queue_is_made_with_its_dead_letter_queue(server: Server, *, fifo: bool) -> None:
    url = server.queue_url(fifo=fifo)
    dead = url.replace("/anb-", "/dead-anb-")

    server.queue(url, visibility=timedelta(seconds=120), max_receives=4).ensure()

    made = attributes(server, url)
    assert (made["VisibilityTimeout"], made["ReceiveMessageWaitTimeSeconds"]) == ("120", "20")
    redrive = json.loads(made["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"] == attributes(server, dead)["QueueArn"]
    assert int(redrive["maxReceiveCount"]) == 4
    assert attributes(server, dead)["MessageRetentionPeriod"] == str(14 * 24 * 3600)
    assert [attributes(server, each).get("FifoQueue", "false") for each in (url, dead)] == [str(fifo).lower()] * 2


def test_a_queue_that_is_there_keeps_its_attributes_and_gets_the_redrive_policy_it_lacks(server: Server) -> None:
    url = server.queue_url()
    server.sqs.create_queue(QueueName=url.rsplit("/", 1)[-1], Attributes={"VisibilityTimeout": "77"})

    server.queue(url).ensure()

    assert attributes(server, url)["VisibilityTimeout"] == "77"
    assert "dead-anb-" in attributes(server, url)["RedrivePolicy"]


@pytest.mark.parametrize("seconds", [30, 900])
@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "fifo"])
def test_a_new_message_is_delayed_for_as_long_as_the_queue_says(server: Server, seconds: int, *, fifo: bool) -> None:
    url = server.queue_url(fifo=fifo)
    made = {"DelaySeconds": str(seconds), **({"FifoQueue": "true"} if fifo else {})}
    server.sqs.create_queue(QueueName=url.rsplit("/", 1)[-1], Attributes=made)
    queue = server.queue(url)
    queue.ensure()

    assert queue.send([MESSAGE]) == [None]

    assert queue.delay() == timedelta(seconds=seconds)
    assert queue.receive(wait=NOW) is None
    assert queue.depth() == Depth(visible=0, in_flight=0, delayed=1)


def test_messages_are_hidden_for_as_long_as_the_settings_say_whatever_the_queue_says(server: Server) -> None:
    url = server.queue_url()
    server.sqs.create_queue(QueueName=url.rsplit("/", 1)[-1], Attributes={"VisibilityTimeout": "0"})
    queue = server.queue(url, visibility=timedelta(minutes=5))
    queue.send([MESSAGE])

    assert queue.receive(wait=timedelta(seconds=5)) is not None
    assert queue.receive(wait=NOW) is None


def test_a_redrive_policy_that_is_there_is_left_alone(server: Server) -> None:
    url = server.queue_url()
    server.queue(url, max_receives=7).ensure()

    server.queue(url, max_receives=3).ensure()

    assert int(json.loads(attributes(server, url)["RedrivePolicy"])["maxReceiveCount"]) == 7


def test_a_forgotten_dead_letter_queue_is_made_anew(server: Server) -> None:
    url = server.queue_url()
    queue = server.queue(url)
    queue.ensure()
    dead = url.replace("/anb-", "/dead-anb-")
    server.sqs.delete_queue(QueueUrl=dead)

    queue.ensure()

    assert attributes(server, dead)["MessageRetentionPeriod"] == str(14 * 24 * 3600)


def test_a_queue_that_the_server_forgot_is_made_anew_by_whoever_needs_it_first(server: Server) -> None:
    url = server.queue_url()
    queue = server.queue(url)

    assert queue.receive(wait=NOW) is None
    server.sqs.delete_queue(QueueUrl=url)
    assert queue.send([MESSAGE]) == [None]
    server.sqs.delete_queue(QueueUrl=url)
    queue.ping()
    server.sqs.delete_queue(QueueUrl=url)
    assert queue.depth().empty
    assert "RedrivePolicy" in attributes(server, url)


def test_a_missing_queue_is_named_with_its_endpoint_and_what_to_do(server: Server) -> None:
    url = server.queue_url()
    queue = server.queue(url, may_create=False)

    message = rf"Queue {url} \(SQS_QUEUE_URL\) at {server.url} does not exist: create it, or set SQS_QUEUE_URL"
    calls = (queue.ping, queue.ensure, queue.depth, lambda: queue.send([MESSAGE]), lambda: queue.receive(wait=NOW))
    for call in calls:
        with pytest.raises(Unavailable, match=message) as error:
            call()
        assert error.value.part == "queue"


@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "fifo"])
def test_a_missing_dead_letter_queue_is_made_alone_by_the_program_that_receives_from_it(
    server: Server, *, fifo: bool
) -> None:
    url = server.queue_url(fifo=fifo)
    dead = url.replace("/anb-", "/dead-anb-")

    assert server.queue(dead, dlq_url=None).receive(wait=NOW) is None

    assert attributes(server, dead)["MessageRetentionPeriod"] == str(14 * 24 * 3600)
    assert attributes(server, dead).get("FifoQueue", "false") == str(fifo).lower()
    with pytest.raises(server.sqs.exceptions.QueueDoesNotExist):
        attributes(server, url)
    server.queue(url).ensure()
    redrive = json.loads(attributes(server, url)["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"] == attributes(server, dead)["QueueArn"]


def test_a_missing_dead_letter_queue_is_named_with_its_setting(server: Server) -> None:
    url = server.queue_url()
    with pytest.raises(Unavailable, match=rf"^Dead-letter queue {url} .* create it, or set SQS_DLQ_URL and AWS_END"):
        server.queue(url, dlq_url=None, may_create=False).receive(wait=NOW)


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    queue = dead_queue()

    with pytest.raises(Unavailable, match=r" at http://127\.0\.0\.1:9 does not answer: Could not connect") as error:
        queue.receive(wait=timedelta(seconds=20))
    assert error.value.code == "queue_unavailable"


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, silent_url: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", silent_url)

    with pytest.raises(Unavailable, match="does not answer: Read timeout"):
        dead_queue(patience=timedelta(seconds=0.4)).send([MESSAGE])


def dead_queue(*, patience: timedelta = timedelta(seconds=20)) -> SqsQueue:
    return SqsQueue(
        "https://sqs.us-east-1.amazonaws.com/123456789012/anb",
        region="us-east-1",
        patience=patience,
        visibility=timedelta(minutes=5),
        max_receives=3,
        dlq_url="https://sqs.us-east-1.amazonaws.com/123456789012/anb-dlq",
    )
