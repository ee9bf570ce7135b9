"""Tests of the SQS adapter with responses that no emulator sends."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ParamValidationError
from botocore.stub import Stubber

from anb_core.adapters.sqs import SqsQueue
from anb_core.domain.errors import Unavailable
from anb_core.ports.queue import Delivery, Outgoing
from tests.support.aws import recorded_clients

URL = "https://sqs.us-east-1.amazonaws.com/123456789012/anb"
BATCH = [Outgoing(body=f"body {n}", group="video", owner="ana", deduplication=str(n)) for n in range(3)]


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[BaseClient]:
    return recorded_clients(monkeypatch)


@pytest.fixture
def queue(clients: list[BaseClient]) -> SqsQueue:  # noqa: ARG001 - the fixture records the new client
    return SqsQueue(
        URL,
        region="us-east-1",
        patience=timedelta(seconds=20),
        visibility=timedelta(minutes=5),
        max_receives=3,
        dlq_url=f"{URL}-dlq",
    )


@pytest.fixture
def stub(queue: SqsQueue, clients: list[BaseClient]) -> Iterator[Stubber]:  # noqa: ARG001
    """Prepared responses of SQS to all calls except long polls. The test fails if a response is not used."""
    with Stubber(clients[0]) as stub:
        yield stub
        stub.assert_no_pending_responses()


def test_a_refused_message_is_told_with_its_reason_and_does_not_keep_the_others(queue: SqsQueue, stub: Stubber) -> None:
    sent = [{"Id": number, "MessageId": f"m-{number}", "MD5OfMessageBody": "0"} for number in ("2", "0")]
    refused = {"Id": "1", "SenderFault": True, "Code": "InvalidMessageContents", "Message": "bad characters"}
    stub.add_response("send_message_batch", {"Successful": sent, "Failed": [refused]})

    assert queue.send(BATCH) == [None, "InvalidMessageContents, bad characters", None]


@pytest.mark.parametrize(
    ("url", "grouped"),
    [
        (URL, [{"MessageGroupId": "ana"}] * 3),
        (f"{URL}.fifo", [{"MessageGroupId": "video", "MessageDeduplicationId": number} for number in ("0", "1", "2")]),
    ],
    ids=["standard", "fifo"],
)
def test_a_message_names_its_group_and_has_no_delay_of_its_own(
    clients: list[BaseClient], url: str, grouped: list[dict[str, str]]
) -> None:
    queue = SqsQueue(url, region="us-east-1", patience=timedelta(seconds=20), visibility=timedelta(minutes=5))
    sent = [{"Id": str(n), "MessageId": f"m-{n}", "MD5OfMessageBody": "0"} for n in range(3)]
    entries = [{"Id": str(n), "MessageBody": f"body {n}", **group} for n, group in enumerate(grouped)]
    with Stubber(clients[0]) as stub:
        stub.add_response(
            "send_message_batch", {"Successful": sent, "Failed": []}, {"QueueUrl": url, "Entries": entries}
        )

        assert queue.send(BATCH) == [None] * 3
    queue.close()


def test_a_message_that_the_answer_does_not_mention_was_not_sent(queue: SqsQueue, stub: Stubber) -> None:
    stub.add_response("send_message_batch", {"Successful": [], "Failed": []})

    assert queue.send(BATCH[:1]) == ["the queue did not say what became of it"]


@pytest.mark.parametrize("owner", ["José Pérez", "two words", "x" * 129, ""])
def test_an_owner_that_sqs_would_not_take_as_a_group_is_told_apart_by_a_hash(
    queue: SqsQueue, stub: Stubber, owner: str
) -> None:
    groups = [hashlib.sha256(owner.encode()).hexdigest(), "ana"]
    entries = [{"Id": str(n), "MessageBody": f"body {n}", "MessageGroupId": group} for n, group in enumerate(groups)]
    stub.add_response("send_message_batch", {"Successful": [], "Failed": []}, {"QueueUrl": URL, "Entries": entries})

    queue.send([replace(BATCH[0], owner=owner), BATCH[1]])


@pytest.mark.parametrize(
    ("first", "date", "age"),
    [
        ("1700000000400", "Tue, 14 Nov 2023 22:13:20 GMT", None),
        ("1700000000999", "Tue, 14 Nov 2023 22:13:21 GMT", None),
        ("1700000000999", "Tue, 14 Nov 2023 22:13:22 GMT", 1.001),
        ("1700000000000", "Tue, 14 Nov 2023 22:15:00 GMT", 100),
        (None, "Tue, 14 Nov 2023 22:15:00 GMT", 0),
        ("1700000000000", None, 0),
    ],
)
def test_the_age_of_a_message_is_told_by_the_clock_of_sqs_alone(
    queue: SqsQueue, clients: list[BaseClient], first: str | None, date: str | None, age: float | None
) -> None:
    message = {
        "MessageId": "m-1",
        "Body": "body",
        "ReceiptHandle": "handle",
        "Attributes": {"ApproximateFirstReceiveTimestamp": first} if first else {},
    }
    headers = {"HTTPHeaders": {"date": date} if date else {}}
    with Stubber(clients[1]) as stub:
        stub.add_response("receive_message", {"Messages": [message], "ResponseMetadata": headers})

        delivery = queue.receive(wait=timedelta(0))

    assert delivery == Delivery("m-1", "body", "handle", queue.name, None if age is None else timedelta(seconds=age))


@pytest.mark.parametrize("code", ["ReceiptHandleIsInvalid", "InvalidParameterValue"])
def test_a_handle_that_sqs_no_longer_takes_is_no_error(queue: SqsQueue, stub: Stubber, code: str) -> None:
    stub.add_client_error("delete_message", code, "The receipt handle has expired.")

    queue.delete(Delivery("m-1", "body", "stale", queue.name))


def test_a_message_can_not_be_extended_that_is_visible_again_and_that_is_no_error(
    queue: SqsQueue, stub: Stubber
) -> None:
    stub.add_client_error("change_message_visibility", "MessageNotInflight", "not in flight")

    queue.extend(Delivery("m-1", "body", "stale", queue.name), visibility=timedelta(minutes=1))


def test_a_refusal_is_told_with_the_words_of_sqs(queue: SqsQueue, stub: Stubber) -> None:
    stub.add_client_error("send_message_batch", "AccessDenied", "not authorized to perform: sqs:sendmessage.")

    with pytest.raises(Unavailable) as error:
        queue.send(BATCH)

    assert error.value.message == (
        f"Queue {URL} (SQS_QUEUE_URL) at http://127.0.0.1:9 refuses SendMessageBatch: AccessDenied,"
        " not authorized to perform: sqs:sendmessage."
    )


def test_a_dead_letter_queue_that_is_forbidden_is_named_with_its_setting(clients: list[BaseClient]) -> None:
    queue = SqsQueue(URL, region="us-east-1", patience=timedelta(seconds=20), visibility=timedelta(seconds=30))
    with Stubber(clients[1]) as stub:
        stub.add_client_error("receive_message", "AccessDenied", "not authorized")
        with pytest.raises(Unavailable, match=rf"^Dead-letter queue {URL} \(SQS_DLQ_URL\) at .* refuses Receive"):
            queue.receive(wait=timedelta(seconds=1))


def test_a_call_that_is_wrong_in_itself_is_a_bug_and_no_outage(queue: SqsQueue) -> None:
    with pytest.raises(ParamValidationError, match="Parameter validation failed"):
        queue.send([Outgoing(body=None, group="video", owner="ana", deduplication="1")])  # type: ignore[arg-type]
