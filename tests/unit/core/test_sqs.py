"""What SQS may answer and no emulator does."""

from datetime import timedelta

import pytest
from botocore.exceptions import ParamValidationError
from botocore.stub import Stubber

from anb_core.adapters.sqs import SqsQueue
from anb_core.domain.errors import Unavailable
from anb_core.ports.queue import Outgoing

URL = "https://sqs.us-east-1.amazonaws.com/123456789012/anb"
BATCH = [Outgoing(body=f"body {n}", group="video", owner="ana", deduplication=str(n)) for n in range(3)]


@pytest.fixture
def queue() -> SqsQueue:
    return SqsQueue(
        URL,
        region="us-east-1",
        patience=timedelta(seconds=20),
        visibility=timedelta(minutes=5),
        max_receives=3,
        dlq_url=f"{URL}-dlq",
    )


def test_a_refused_message_is_told_with_its_reason_and_does_not_keep_the_others(queue: SqsQueue) -> None:
    sent = [{"Id": number, "MessageId": f"m-{number}", "MD5OfMessageBody": "0"} for number in ("2", "0")]
    refused = {"Id": "1", "SenderFault": True, "Code": "InvalidMessageContents", "Message": "bad characters"}
    with Stubber(queue._sqs) as stub:
        stub.add_response("send_message_batch", {"Successful": sent, "Failed": [refused]})

        assert queue.send(BATCH) == [None, "InvalidMessageContents, bad characters", None]


def test_a_message_that_the_answer_does_not_mention_was_not_sent(queue: SqsQueue) -> None:
    with Stubber(queue._sqs) as stub:
        stub.add_response("send_message_batch", {"Successful": [], "Failed": []})

        assert queue.send(BATCH[:1]) == ["the queue did not say what became of it"]


def test_a_refusal_is_told_with_the_words_of_sqs(queue: SqsQueue) -> None:
    with Stubber(queue._sqs) as stub:
        stub.add_client_error("send_message_batch", "AccessDenied", "not authorized to perform: sqs:sendmessage.")

        with pytest.raises(Unavailable) as error:
            queue.send(BATCH)

    assert error.value.message == (
        f"Queue {URL} at http://127.0.0.1:9 refuses SendMessageBatch: AccessDenied,"
        " not authorized to perform: sqs:sendmessage."
    )


def test_a_call_that_is_wrong_in_itself_is_a_bug_and_no_outage(queue: SqsQueue) -> None:
    with pytest.raises(ParamValidationError, match="Parameter validation failed"):
        queue.send([Outgoing(body=None, group="video", owner="ana", deduplication="1")])  # type: ignore[arg-type]
