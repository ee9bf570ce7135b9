"""Handle one delivery in a worker, from the claim of the job to the deletion of the message.

The outcome is committed in one transaction, and then the message is deleted.
If the outcome can't be committed, the message is returned to the queue.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

import structlog

from anb_core.domain.errors import Busy, Unavailable, Unreadable
from anb_core.domain.message import Message, UnreadableMessage, decode
from anb_core.domain.model import DeadLetterCause
from anb_core.domain.retry import plan_return
from anb_core.domain.s3_notifications import created_objects
from anb_core.ports.queue import Delivery, QueueReceiver
from anb_core.ports.stop import Stop
from anb_core.ports.store import Claimed, DeadLetters, Dropped, Leases, Unknown
from anb_core.usecases.adopt import Adopt, Adopted, Adoption, Ignored, NotAdopted
from anb_core.usecases.attempt import AttemptRun, Tools
from anb_core.usecases.patience import patiently
from anb_core.usecases.report import Outcome, Report, Steps

MOST_LISTED = 5
"""A report about a message with many objects contains at most this number of videos or reasons."""

_log = structlog.get_logger(__name__)


class ProcessStore(Leases, DeadLetters, Protocol):
    """The protocols of the store that this use case needs. The attempt itself uses `AttemptStore`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Handles the deliveries of one worker, one at a time."""

    store: ProcessStore
    queue: QueueReceiver
    tools: Tools
    worker: str
    """Name of the worker."""
    version: str
    """Version of the worker's program."""
    lease: timedelta
    """Time from the claim until the lease expires, unless the worker renews the lease."""
    new_id: Callable[[], str]
    """Returns a new id for an attempt."""
    adopt: Adopt
    """Submits objects of other programs that messages name."""
    on_step: Callable[[str], None] = lambda _: None
    """Function that gets the name of each step when the step begins. Chaos tests use this callback."""

    def handle(self, delivery: Delivery, stop: Stop) -> Report:
        """Handle a delivery, from the claim to the deletion of the message. `stop` ends the attempt early."""
        steps = Steps(self.on_step, self.tools.runtime)
        try:
            report = self._handle(delivery, stop, steps)
        except Unavailable as error:
            self._give_back(delivery)
            report = Report(Outcome.GIVEN_BACK, delivery.message_id, unavailable=error)
        except Unreadable as error:
            # A worker of a newer version may be able to read the row.
            self._give_back(delivery)
            report = Report(Outcome.GIVEN_BACK, delivery.message_id, detail=error.message)
        return replace(report, steps=steps.seconds())

    def _handle(self, delivery: Delivery, stop: Stop, steps: Steps) -> Report:
        steps("claim")
        try:
            created = created_objects(delivery.body)
            if created is not None:
                return self._conclude([self.adopt.created(event) for event in created], delivery, steps)
            message = decode(delivery.body)
        except UnreadableMessage as error:
            return self._record(delivery, DeadLetterCause.UNREADABLE, str(error), steps)
        claim, since = self._claim(message, stop)
        match claim:
            case Claimed():
                self.tools.relay.wake_for_room()
                return self._attempt(AttemptRun(self.tools, claim, delivery, stop, steps, since))
            case Dropped(reason=reason):
                self._delete(delivery, steps)
                return Report(Outcome.DROPPED, delivery.message_id, video_id=message.video_id, detail=reason.value)
            case Unknown():
                return self._conclude([self.adopt.named(message)], delivery, steps)

    def _claim(self, message: Message, stop: Stop) -> tuple[Claimed | Dropped | Unknown, float]:
        """Claim the job. Return the result of the claim, and the monotonic time just before the first try, in seconds.

        If another transaction has locked the row, repeat the claim until a third of the lease's duration has passed.
        The message stays invisible during this time, because its visibility timeout is longer than the lease.
        The message is not returned to the queue instead, because SQS would then count one more receipt.

        Raises:
            Unavailable: the database could not commit the claim.
        """
        # The lease may have begun with the first try, even if the response to this try was lost.
        since, attempt_id = self.tools.runtime.monotonic(), self.new_id()
        answer = patiently(
            lambda: self.store.claim(
                message.video_id,
                generation=message.generation,
                attempt_id=attempt_id,
                worker=self.worker,
                version=self.version,
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

    def _conclude(self, adoptions: Sequence[Adoption], delivery: Delivery, steps: Steps) -> Report:
        """Delete a message about objects of other programs. Record a dead letter if an object could not be adopted."""
        refusals = _listed([adoption.reason for adoption in adoptions if isinstance(adoption, NotAdopted)])
        if refusals:
            return self._record(delivery, DeadLetterCause.UNKNOWN_JOB, refusals, steps)
        self._delete(delivery, steps)
        videos = [adoption.video_id for adoption in adoptions if isinstance(adoption, Adopted)]
        if videos:
            video_id = videos[0] if len(videos) == 1 else None
            return Report(Outcome.ADOPTED, delivery.message_id, video_id=video_id, detail=_listed(videos))
        reasons = _listed([adoption.reason for adoption in adoptions if isinstance(adoption, Ignored)])
        return Report(Outcome.IGNORED, delivery.message_id, detail=reasons or "no object was created")

    def _record(self, delivery: Delivery, cause: DeadLetterCause, detail: str, steps: Steps) -> Report:
        self.store.record_dead_letter(cause=cause, message_id=delivery.message_id, body=delivery.body, detail=detail)
        self._delete(delivery, steps)
        return Report(Outcome.RECORDED, delivery.message_id, detail=f"{cause}: {detail}")

    def _delete(self, delivery: Delivery, steps: Steps) -> None:
        """Delete the message. If this fails, the message is received again later and deleted then."""
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


def _listed(texts: Sequence[str]) -> str:
    """Join the texts without duplicates. Texts beyond MOST_LISTED are only counted."""
    different = list(dict.fromkeys(texts))
    more = [f"{len(different) - MOST_LISTED} more"] if len(different) > MOST_LISTED else []
    return "; ".join(different[:MOST_LISTED] + more)
