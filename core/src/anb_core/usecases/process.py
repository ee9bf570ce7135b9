"""Handle one delivery in a worker, from the claim of the job to the deletion of the message.

Unless the worker crashes, the outcome is committed in one transaction, and then the message is deleted.
If the database can't commit, the message is returned to the queue.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

import structlog

from anb_core.domain.errors import Busy, Refused, Unavailable, Unreadable, Withheld
from anb_core.domain.keys import UPLOADS
from anb_core.domain.message import Message, UnreadableMessage, decode
from anb_core.domain.model import DeadLetterCause
from anb_core.domain.retry import plan_return
from anb_core.ports.queue import Delivery, QueueReceiver
from anb_core.ports.stop import Stop
from anb_core.ports.store import Claimed, DeadLetters, Dropped, Leases, Unknown
from anb_core.usecases.attempt import AttemptRun, Tools
from anb_core.usecases.patience import patiently
from anb_core.usecases.report import Outcome, Report, Steps

_log = structlog.get_logger(__name__)


class ProcessStore(Leases, DeadLetters, Protocol):
    """The protocols of the store that a delivery needs before an attempt begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Handles the deliveries of one worker, one at a time."""

    store: ProcessStore
    queue: QueueReceiver
    tools: Tools
    worker: str
    """Name of the worker."""
    lease: timedelta
    """Time from the claim until the lease expires, unless the worker renews the lease."""
    new_id: Callable[[], str]
    """Returns a new id for an attempt."""
    adopt: Callable[[str, str], object] | None = None
    """Function that submits the object (key, video id) of an older producer's message. None if that is not allowed."""
    on_step: Callable[[str], None] = lambda _: None
    """Function that gets the name of each step when the step begins. Chaos tests use this callback."""

    def handle(self, delivery: Delivery, stop: Stop) -> Report:
        """Handle a delivery completely, unless another thread requests through `stop` that the attempt ends."""
        steps = Steps(self.on_step, self.tools.runtime)
        try:
            report = self._handle(delivery, stop, steps)
        except Unavailable as error:
            self._give_back(delivery)
            report = Report(Outcome.GIVEN_BACK, delivery.message_id, unavailable=error)
        except Unreadable as error:
            # This version can't read the row, but a worker of a newer version may be able to read it.
            self._give_back(delivery)
            report = Report(Outcome.GIVEN_BACK, delivery.message_id, detail=error.message)
        return replace(report, steps=steps.seconds())

    def _handle(self, delivery: Delivery, stop: Stop, steps: Steps) -> Report:
        steps("claim")
        try:
            message = decode(delivery.body)
        except UnreadableMessage as error:
            return self._record(delivery, DeadLetterCause.UNREADABLE, str(error), steps)
        claim, since = self._claim(message, stop)
        match claim:
            case Claimed():
                return self._attempt(AttemptRun(self.tools, claim, delivery, stop, steps, since))
            case Dropped(reason=reason):
                self._delete(delivery, steps)
                return Report(Outcome.DROPPED, delivery.message_id, video_id=message.video_id, detail=reason.value)
            case Unknown():
                return self._unknown(message, delivery, steps)

    def _claim(self, message: Message, stop: Stop) -> tuple[Claimed | Dropped | Unknown, float]:
        """Claim the job. Return the result of the claim, and the monotonic time (in seconds) before the first try.

        If another transaction has locked the row, the claim is tried again, for a third of the lease's lifetime.
        If the message were returned to the queue instead, SQS would count one more receipt.
        A third of the lease's lifetime is safe, because the message stays invisible for longer than the lease.

        Raises:
            Unavailable: the database could not commit the claim.
        """
        # The first try may have been committed although its response was lost, so the lease may have begun with it.
        since, attempt_id = self.tools.runtime.monotonic(), self.new_id()
        answer = patiently(
            lambda: self.store.claim(
                message.video_id,
                generation=message.generation,
                attempt_id=attempt_id,
                worker=self.worker,
                lease=self.lease,
                policy=self.tools.policy,
            ),
            self.tools.runtime,
            "claiming is tried again",
            worthwhile=lambda error: isinstance(error, Busy) and not stop.asked,
            until=since + self.lease.total_seconds() / 3,
            video_id=message.video_id,
        )
        return answer, since

    def _attempt(self, attempt: AttemptRun) -> Report:
        try:
            report = attempt.run()
            self._delete(attempt.delivery, attempt.steps)
        finally:
            attempt.steps("clean_up")
            self.tools.scratch.clear(attempt.lease.attempt_id)
        return report

    def _unknown(self, message: Message, delivery: Delivery, steps: Steps) -> Report:
        detail = f"there is no video {message.video_id}"
        key = self._adoptable(message)
        if key is not None and self.adopt is not None:
            try:
                self.adopt(key, message.video_id)
            except Withheld as error:
                # The bucket may allow access later. The job has no row yet, so the message must not be deleted.
                raise Unavailable("bucket", error.message) from error
            except Refused as refusal:
                detail = f"{detail}, and it can't be adopted: {refusal.message}"
            else:
                self._delete(delivery, steps)
                return Report(Outcome.ADOPTED, delivery.message_id, video_id=message.video_id)
        return self._record(delivery, DeadLetterCause.UNKNOWN_JOB, detail, steps)

    def _adoptable(self, message: Message) -> str | None:
        """Return the key of the message's object if the object may be submitted as a new video, otherwise None.

        An older producer's message must name the object, and the object must be under `uploads/` in our bucket.
        """
        is_our_bucket = message.bucket in {None, self.tools.objects.bucket}
        if message.generation is None and is_our_bucket and message.key is not None and message.key.startswith(UPLOADS):
            return message.key
        return None

    def _record(self, delivery: Delivery, cause: DeadLetterCause, detail: str, steps: Steps) -> Report:
        self.store.record_dead_letter(cause=cause, message_id=delivery.message_id, body=delivery.body, detail=detail)
        self._delete(delivery, steps)
        return Report(Outcome.RECORDED, delivery.message_id, detail=f"{cause}: {detail}")

    def _delete(self, delivery: Delivery, steps: Steps) -> None:
        """Delete the message. If the deletion fails, the message is received again later, and then dropped."""
        steps("delete")
        try:
            self.queue.delete(delivery)
        except Unavailable as error:
            _log.warning("the message was not deleted", message_id=delivery.message_id, reason=error.message)

    def _give_back(self, delivery: Delivery) -> None:
        try:
            self.queue.give_back(delivery, pause=plan_return(delivery.age))
        except Unavailable as error:
            _log.warning("the message was not given back", message_id=delivery.message_id, reason=error.message)
