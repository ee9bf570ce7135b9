"""What a delivery of a message means for the job it points at. The row always wins."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from anb_core.domain.model import Job
from anb_core.domain.retry import RetryPolicy, Settlement, plan_loss
from anb_core.domain.status import Status


class Reason(StrEnum):
    """Why a delivery is dropped. Each is backed by committed state, so the message may be deleted."""

    TERMINAL = "terminal"
    OLDER_GENERATION = "older_generation"
    LEASED = "leased"
    NOT_DUE = "not_due"
    UPLOADING = "uploading"
    DELETED = "deleted"
    LOST = "lost"
    """Its lease had expired; the loss was recorded and another send, or the verdict, is on its way."""


@dataclass(frozen=True, slots=True)
class Take:
    """Begin an attempt now; `loss` settles the expired attempt before it, where there was one."""

    loss: Settlement | None = None


@dataclass(frozen=True, slots=True)
class RecordLoss:
    """The lease has expired, but its job must wait or is used up: apply the loss and drop the message."""

    loss: Settlement


@dataclass(frozen=True, slots=True)
class Drop:
    """Nothing to do now; `send_after` is when a new message is owed, None where others are obliged already."""

    reason: Reason
    send_after: datetime | None = None


def judge_claim(  # noqa: PLR0911 - a table of cases, one answer each
    job: Job, generation: int | None, now: datetime, policy: RetryPolicy
) -> Take | RecordLoss | Drop:
    """Decide what a delivery leads to.

    `now` is the database's clock; `generation` None is an older producer's message.
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
            # It was due when its message was sent: the clock was put back, and this may be the last message.
            return Drop(Reason.NOT_DUE, send_after=due)
    return Take()
