"""Receive the messages of the dead-letter queue. SQS moves a message to this queue after too many receipts.

The job of such a message may have ended, or a worker may be working on it. Then the message needs no action.
The store decides what happens and records the message, in one transaction. Then the message is deleted.
Several processes may run this loop at the same time, because each message is recorded only once.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

import structlog

from anb_core.domain.dead_letters import DeadLetter, Resolution
from anb_core.domain.errors import Unavailable, Unreadable
from anb_core.domain.message import UnreadableMessage, decode
from anb_core.domain.model import DeadLetterCause
from anb_core.domain.retry import RetryPolicy, plan_return
from anb_core.domain.s3_notifications import CreatedObject, created_objects
from anb_core.ports.queue import Delivery, QueueReceiver
from anb_core.ports.runtime import Event, Runtime
from anb_core.ports.stop import Stop
from anb_core.ports.store import DeadLetters
from anb_core.usecases.consumer import Consumer
from anb_core.usecases.gate import Gate
from anb_core.usecases.shutdown import StopOnEvent

WAIT = timedelta(seconds=1)
"""Duration of a long poll. It is short, because a program that shuts down waits for the end of the poll."""

VISIBILITY = timedelta(seconds=30)
"""Time for which a received message is invisible to other processes.

If a process dies, or the database does not answer, another process gets the message within a minute.
"""

_log = structlog.get_logger(__name__)


class Receipt(StrEnum):
    """What happened to a message from the dead-letter queue. Logs and metrics show this value."""

    STALE = "stale"
    """The message needed no action, because no attempt could begin: for example, the job had ended."""
    REQUEUED = "requeued"
    """The message was counted as a loss of its job. The job gets a new message."""
    DEAD_LETTERED = "dead_lettered"
    """The message was counted as a loss, and the job reached its limit of losses. The job became a dead letter."""
    UNKNOWN_JOB = "unknown_job"
    """The message belongs to no job. It was recorded as an open dead letter."""
    UNREADABLE = "unreadable"
    """The message has none of the accepted formats. It was recorded as an open dead letter."""
    REPEATED = "repeated"
    """The message was recorded at an earlier receipt, but could not be deleted then. It is not recorded again."""
    KEPT = "kept"
    """This version can't read the job. The message stays in the queue for a newer version."""


_LEVELS: Mapping[Receipt, int] = {
    Receipt.REQUEUED: logging.WARNING,
    Receipt.DEAD_LETTERED: logging.ERROR,
    Receipt.UNKNOWN_JOB: logging.WARNING,
    Receipt.UNREADABLE: logging.WARNING,
    Receipt.KEPT: logging.WARNING,
}

_OF_RESOLUTION: Mapping[Resolution | None, Receipt] = {
    Resolution.STALE: Receipt.STALE,
    Resolution.REQUEUED: Receipt.REQUEUED,
    None: Receipt.DEAD_LETTERED,
}


class ReceivingStore(DeadLetters, Protocol):
    """The methods of the store that this use case needs."""

    def ping(self) -> None: ...


class ReceiveDeadLetters:
    """Receives the messages of one dead-letter queue. For each message, `on_receipt` is called with the outcome."""

    def __init__(
        self,
        store: ReceivingStore,
        queue: QueueReceiver,
        *,
        policy: RetryPolicy,
        runtime: Runtime,
        on_receipt: Callable[[Receipt], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._queue = queue
        self._policy = policy
        self._runtime = runtime
        self._on_receipt = on_receipt
        self._gate: Gate | None = None

    def run(self, stop: Event) -> None:
        """Receive messages until `stop` is set."""
        self._gate = Gate([self._store.ping], wait=stop.wait, runtime=self._runtime)
        shutdown = StopOnEvent(stop)
        Consumer(
            self._queue,
            self.handle,
            gate=self._gate,
            shutdown=shutdown,
            wait=WAIT,
            runtime=self._runtime,
            # After SIGTERM, return a message without a pause. SQS does not limit the receipts in a dead-letter queue.
            pause=lambda _age: timedelta(0),
        ).run()

    def outage(self) -> Unavailable | None:
        """Return the error of the last call if the dead-letter queue did not answer. None otherwise."""
        error = self._gate.outage if self._gate else None
        return error if error and error.part == "queue" else None

    def handle(self, delivery: Delivery, _stop: Stop) -> None:
        """Record a message, and then delete it.

        Raises:
            Unavailable: an outage. The message stays in the queue, and becomes visible after its visibility timeout.
        """
        try:
            receipt, video_id = self._commit(delivery)
        except Unreadable:
            # Only a newer version of this program can read the row. It may be installed days later, so receive the
            # message less and less often: the pause before the next receipt grows with the message's age.
            self._report(Receipt.KEPT, delivery)
            self._queue.give_back(delivery, pause=plan_return(delivery.age))
            return
        self._report(receipt, delivery, video_id)
        self._queue.delete(delivery)

    def _commit(self, delivery: Delivery) -> tuple[Receipt, str | None]:
        """Record the message in one transaction. Return the outcome, and the video's id if the video exists."""
        try:
            created = created_objects(delivery.body)
            if created is not None:
                return self._record(delivery, DeadLetterCause.UNKNOWN_JOB, about(created)), None
            message = decode(delivery.body)
        except UnreadableMessage as error:
            return self._record(delivery, DeadLetterCause.UNREADABLE, str(error)), None
        letter = self._store.receive_dead_letter(
            message_id=delivery.message_id,
            body=delivery.body,
            video_id=message.video_id,
            generation=message.generation,
            policy=self._policy,
        )
        match letter:
            case None:
                return Receipt.REPEATED, None
            case DeadLetter():
                return _OF_RESOLUTION[letter.resolution], letter.video_id
        return self._record(delivery, DeadLetterCause.UNKNOWN_JOB, f"there is no video {message.video_id}"), None

    def _record(self, delivery: Delivery, cause: DeadLetterCause, detail: str) -> Receipt:
        is_new = self._store.record_dead_letter(
            cause=cause, message_id=delivery.message_id, body=delivery.body, detail=detail
        )
        return Receipt(cause) if is_new else Receipt.REPEATED

    def _report(self, receipt: Receipt, delivery: Delivery, video_id: str | None = None) -> None:
        # Do not log the body, because any program may have written it.
        size = len(delivery.body.encode(errors="replace"))
        _log.log(
            _LEVELS.get(receipt, logging.INFO),
            f"a message from the dead-letter queue: {receipt.replace('_', ' ')}",
            outcome=receipt.value,
            message_id=delivery.message_id,
            video_id=video_id,
            bytes=size,
        )
        self._on_receipt(receipt)


def about(created: Sequence[CreatedObject]) -> str:
    """Describe an event notification of S3 that no worker handled, for the person who examines the dead letter."""
    if not created:
        return "This is an event notification of S3 that reports no new object. You can discard it."
    first, others = created[0], len(created) - 1
    more = f" and {others} more" if others else ""
    return (
        f"This is an event notification of S3: {f's3://{first.bucket}/{first.key}'!r}{more} was created, and workers"
        f" received the notification too often. If there is no video {first.video_id}, submit the object again."
    )
