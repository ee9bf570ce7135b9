"""The queue on SQS or a compatible service: implements `anb_core.ports.queue.Queue`."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import boto3
import structlog
from botocore.exceptions import ClientError

from anb_core.adapters.aws import answering, client_config, error_code
from anb_core.domain.errors import Unavailable
from anb_core.ports.queue import Delivery, Depth, Outgoing

if TYPE_CHECKING:
    from mypy_boto3_sqs.literals import MessageSystemAttributeNameType, QueueAttributeNameType
    from mypy_boto3_sqs.type_defs import MessageTypeDef, SendMessageBatchRequestEntryTypeDef

    _Attributes: TypeAlias = dict[QueueAttributeNameType, str]

DLQ_RETENTION = timedelta(days=14)
"""Retention time of the dead-letter queue: the longest that SQS allows."""

LONG_POLL = timedelta(seconds=20)

FIRST_AGE = timedelta(seconds=1)
"""If a message is younger than this, the current receipt counts as its first receipt.
A shorter time can't be measured, because the Date header of SQS has whole seconds.
"""

LEAST_PAUSE = timedelta(seconds=2)
"""A message that was received once and is then returned to the queue stays invisible for at least this time.
Without this pause, the second receipt could be so early that it would count as the first receipt (see FIRST_AGE)."""

_FIRST_RECEIPT: "MessageSystemAttributeNameType" = "ApproximateFirstReceiveTimestamp"

_NO_QUEUE = {"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"}
_STALE = {
    "ReceiptHandleIsInvalid",
    "MessageNotInflight",
    "AWS.SimpleQueueService.MessageNotInflight",
    "InvalidParameterValue",
}
"""Error codes of SQS for an invalid receipt handle. FIFO queues return `InvalidParameterValue`."""

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class SqsQueue:
    """One queue on SQS. It is FIFO if its name ends in `.fifo`. A call and its retries end within about `patience`.

    `dlq_url` is the URL of the queue's dead-letter queue, which gets each message after `max_receives` receipts.
    Without a `dlq_url`, the queue itself is the dead-letter queue, which keeps each message until it is deleted.
    """

    def __init__(
        self,
        url: str,
        *,
        region: str,
        patience: timedelta,
        visibility: timedelta,
        max_receives: int | None = None,
        dlq_url: str | None = None,
        may_create: bool = False,
    ) -> None:
        self.name = url
        self._fifo = url.endswith(".fifo")
        self._visibility = visibility
        self._max_receives = max_receives
        self._dlq_url = dlq_url
        self._may_create = may_create
        session = boto3.session.Session()
        self._sqs = session.client("sqs", region_name=region, config=client_config(patience))
        self._poll = session.client("sqs", region_name=region, config=client_config(patience, wait=LONG_POLL))
        self._setting = "SQS_QUEUE_URL" if dlq_url else "SQS_DLQ_URL"
        kind = "Queue" if dlq_url else "Dead-letter queue"
        self._place = f"{kind} {url} ({self._setting}) at {self._sqs.meta.endpoint_url}"

    def send(self, batch: Sequence[Outgoing]) -> Sequence[str | None]:
        entries = [self._entry(str(number), message) for number, message in enumerate(batch)]
        answer = self._ask(lambda: self._sqs.send_message_batch(QueueUrl=self.name, Entries=entries))
        sent = {entry["Id"] for entry in answer.get("Successful", [])}
        refused = {entry["Id"]: f"{entry['Code']}, {entry.get('Message', '')}" for entry in answer.get("Failed", [])}
        return [
            None if entry["Id"] in sent else refused.get(entry["Id"], "the queue did not say what became of it")
            for entry in entries
        ]

    def receive(self, *, wait: timedelta) -> Delivery | None:
        answer = self._ask(
            lambda: self._poll.receive_message(
                QueueUrl=self.name,
                MaxNumberOfMessages=1,
                WaitTimeSeconds=int(wait.total_seconds()),
                VisibilityTimeout=int(self._visibility.total_seconds()),
                MessageSystemAttributeNames=[_FIRST_RECEIPT],
            )
        )
        for message in answer.get("Messages", []):
            age = _age(message, answer["ResponseMetadata"]["HTTPHeaders"].get("date"))
            return Delivery(message["MessageId"], message["Body"], message["ReceiptHandle"], self.name, age)
        return None

    def delete(self, delivery: Delivery) -> None:
        self._with_handle(lambda: self._sqs.delete_message(QueueUrl=self.name, ReceiptHandle=delivery.handle))

    def give_back(self, delivery: Delivery, *, pause: timedelta = timedelta(0)) -> None:
        self.extend(delivery, visibility=max(LEAST_PAUSE, pause) if delivery.age is None else pause)

    def extend(self, delivery: Delivery, *, visibility: timedelta) -> None:
        self._with_handle(
            lambda: self._sqs.change_message_visibility(
                QueueUrl=self.name,
                ReceiptHandle=delivery.handle,
                VisibilityTimeout=int(visibility.total_seconds()),
            )
        )

    def depth(self) -> Depth:
        counts = self._ask(
            lambda: self._attributes(
                self.name,
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
                "ApproximateNumberOfMessagesDelayed",
            )
        )
        return Depth(
            visible=int(counts["ApproximateNumberOfMessages"]),
            in_flight=int(counts["ApproximateNumberOfMessagesNotVisible"]),
            delayed=int(counts["ApproximateNumberOfMessagesDelayed"]),
        )

    def retention(self) -> timedelta:
        attributes = self._ask(lambda: self._attributes(self.name, "MessageRetentionPeriod"))
        return timedelta(seconds=int(attributes["MessageRetentionPeriod"]))

    def delay(self) -> timedelta:
        attributes = self._ask(lambda: self._attributes(self.name, "DelaySeconds"))
        return timedelta(seconds=int(attributes["DelaySeconds"]))

    def ensure(self) -> None:
        if self._may_create:
            with answering("queue", self._place):
                self._create()
        else:
            self.ping()

    def ping(self) -> None:
        self._ask(lambda: self._attributes(self.name, "QueueArn"))

    def close(self) -> None:
        self._sqs.close()
        self._poll.close()

    def _entry(self, number: str, message: Outgoing) -> "SendMessageBatchRequestEntryTypeDef":
        if self._fifo:
            return {
                "Id": number,
                "MessageBody": message.body,
                "MessageGroupId": message.group,
                "MessageDeduplicationId": message.deduplication,
            }
        return {"Id": number, "MessageBody": message.body, "MessageGroupId": _group_id(message.owner)}

    def _ask(self, call: Callable[[], T]) -> T:
        """Make a call to SQS. If the queue is missing and may be created, create it and repeat the call.

        Emulators lose their queues when they restart.
        """
        with answering("queue", self._place):
            try:
                return call()
            except ClientError as error:
                if error_code(error) not in _NO_QUEUE:
                    raise
                if not self._may_create:
                    raise self._missing() from error
            self.ensure()
            return call()

    def _with_handle(self, call: Callable[[], object]) -> None:
        """Make a call that uses a receipt handle. An invalid handle is no error.

        A receipt handle becomes invalid when its message is received again or deleted.
        """

        def tolerant() -> None:
            try:
                call()
            except ClientError as error:
                if error_code(error) not in _STALE:
                    raise
                _log.debug("stale receipt handle", operation=error.operation_name, queue=self.name)

        self._ask(tolerant)

    def _missing(self) -> Unavailable:
        return Unavailable(
            "queue",
            f"{self._place} does not exist: create it, or set {self._setting} and AWS_ENDPOINT_URL to one that does.",
        )

    def _attributes(self, url: str, *names: "QueueAttributeNameType") -> "_Attributes":
        return self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names).get("Attributes", {})

    def _exists(self, url: str) -> bool:
        try:
            self._attributes(url, "QueueArn")
        except ClientError as error:
            if error_code(error) not in _NO_QUEUE:
                raise
            return False
        return True

    def _create(self) -> None:
        """Create the queue and its dead-letter queue if they do not exist.

        The attributes of an existing queue are not changed, but a missing redrive policy is added.
        """
        dlq_url = self._dlq_url or self.name
        if not self._exists(dlq_url):
            self._create_queue(dlq_url, {"MessageRetentionPeriod": _seconds(DLQ_RETENTION)})
        if dlq_url == self.name:
            return
        arn = self._attributes(dlq_url, "QueueArn")["QueueArn"]
        redrive: _Attributes = {
            "RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": self._max_receives})
        }
        if not self._exists(self.name):
            own: _Attributes = {
                "VisibilityTimeout": _seconds(self._visibility),
                "ReceiveMessageWaitTimeSeconds": _seconds(LONG_POLL),
            }
            self._create_queue(self.name, {**own, **redrive})
        elif "RedrivePolicy" not in self._attributes(self.name, "RedrivePolicy"):
            self._sqs.set_queue_attributes(QueueUrl=self.name, Attributes=redrive)

    def _create_queue(self, url: str, attributes: "_Attributes") -> None:
        fifo: _Attributes = {"FifoQueue": "true"} if self._fifo else {}
        created = self._sqs.create_queue(QueueName=url.rsplit("/", 1)[-1], Attributes={**attributes, **fifo})
        _log.info("queue created", queue=url, url=created["QueueUrl"])


def _age(message: "MessageTypeDef", answered: str | None) -> timedelta | None:
    """Return the time since the message was first received, by the clock of SQS. None if this is the first receipt.

    Returns 0 if the response of SQS lacks the time of the first receipt or the Date header.
    """
    first = message.get("Attributes", {}).get(_FIRST_RECEIPT)
    if first is None or answered is None:
        return timedelta(0)
    age = parsedate_to_datetime(answered) - datetime.fromtimestamp(int(first) / 1000, UTC)
    return None if age < FIRST_AGE else age


def _seconds(duration: timedelta) -> str:
    return str(int(duration.total_seconds()))


def _group_id(owner: str) -> str:
    """Return a valid message group id of SQS for an owner.

    The owner itself is a valid id if it has only printable ASCII characters, no spaces, and at most 128 characters.
    For any other owner, the id is the SHA-256 of the owner.
    """
    return owner if re.fullmatch(r"[!-~]{1,128}", owner) else hashlib.sha256(owner.encode()).hexdigest()
