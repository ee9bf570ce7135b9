"""Decide whether a worker begins an attempt for a message. The decision depends on the job's row in the database."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from anb_core.domain.model import Job
from anb_core.domain.retry import RetryPolicy, Settlement, plan_loss
from anb_core.domain.status import Status


class Reason(StrEnum):
    """Why a message needs no attempt and can be deleted from the queue. The reason was read from committed rows."""

    TERMINAL = "terminal"
    """The job's status is terminal."""
    OLDER_GENERATION = "older_generation"
    """A person has retried the job since the message was sent."""
    LEASED = "leased"
    """Another attempt works on the job."""
    NOT_DUE = "not_due"
    """The backoff before the job's next attempt is not over."""
    UPLOADING = "uploading"
    """The video is still being uploaded."""
    DELETED = "deleted"
    """The video was deleted."""
    LOST = "lost"
    """The lease had expired, so the attempt was recorded as lost. The job waits for its next attempt or has ended."""


@dataclass(frozen=True, slots=True)
class Take:
    """The decision to begin an attempt now."""

    loss: Settlement | None = None
    """Settlement of the previous attempt if it was lost, otherwise None."""


@dataclass(frozen=True, slots=True)
class RecordLoss:
    """The decision to record a loss and to delete the message, without a new attempt.

    The job has to wait for its next attempt, or has reached its limit of losses.
    """

    loss: Settlement


@dataclass(frozen=True, slots=True)
class Drop:
    """The decision to delete the message from the queue, because no attempt can begin now."""

    reason: Reason
    send_after: datetime | None = None
    """Time at which a new message for the job has to be sent. None if no new message is needed."""


def judge_claim(  # noqa: PLR0911 - a table of cases, one answer each
    job: Job, generation: int | None, now: datetime, policy: RetryPolicy
) -> Take | RecordLoss | Drop:
    """Decide whether a worker begins an attempt for a message.

    `now` is the time of the database's clock.
    `generation` is the message's generation. None for a message of an older producer.
    """
    match job:
        case Job(status=status) if status.terminal:
            return Drop(Reason.TERMINAL)
        case Job(status=Status.UPLOADING):
            return Drop(Reason.UPLOADING)
        case Job(generation=current) if generation is not None and generation < current:
            return Drop(Reason.OLDER_GENERATION)
        case Job(lease_expires_at=datetime() as expires) if expires > now:
            return Drop(Reason.LEASED)
        case Job(lease_owner=str()):
            loss = plan_loss(job.counters, policy)
            return Take(loss) if loss.delay is not None and not loss.delay else RecordLoss(loss)
        case Job(not_before=datetime() as due) if due > now:
            # SQS has delivered the message again, or the clock was set back after the message was sent.
            # Perhaps this was the only message of the job, so a new message is sent when the job is due.
            return Drop(Reason.NOT_DUE, send_after=due)
    return Take()
