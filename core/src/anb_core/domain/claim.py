"""Decide what a worker does with a delivered message. The row of the job decides, not the message."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from anb_core.domain.model import Job
from anb_core.domain.retry import RetryPolicy, Settlement, plan_loss
from anb_core.domain.status import Status


class Reason(StrEnum):
    """Why a delivery is dropped. Each reason is read from committed rows, so the message may be deleted."""

    TERMINAL = "terminal"
    """The job's status is terminal."""
    OLDER_GENERATION = "older_generation"
    """A person has retried the job since the message was sent."""
    LEASED = "leased"
    """Another attempt works on the job."""
    NOT_DUE = "not_due"
    """The next attempt must not begin yet."""
    UPLOADING = "uploading"
    """The upload is not finished."""
    DELETED = "deleted"
    """The video was deleted."""
    LOST = "lost"
    """The lease had expired, and the attempt was recorded as lost. The job waits for its next attempt or has ended."""


@dataclass(frozen=True, slots=True)
class Take:
    """Begin an attempt now."""

    loss: Settlement | None = None
    """Settlement of the previous attempt if its lease has expired, otherwise None."""


@dataclass(frozen=True, slots=True)
class RecordLoss:
    """Record that the lease expired, and drop the message: the job has to wait, or it has used up its losses."""

    loss: Settlement


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop the message, because no attempt can begin now."""

    reason: Reason
    send_after: datetime | None = None
    """Time from which the job needs a new message. None if the job needs no new message."""


def judge_claim(  # noqa: PLR0911 - a table of cases, one answer each
    job: Job, generation: int | None, now: datetime, policy: RetryPolicy
) -> Take | RecordLoss | Drop:
    """Decide what a worker does with a message.

    `now` is the database's clock. `generation` is the message's generation, or None for messages of older producers.
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
            # A message is sent only when the job is due, so the clock was set back after the message was sent.
            # This may be the job's last message, so the job needs a new message.
            return Drop(Reason.NOT_DUE, send_after=due)
    return Take()
