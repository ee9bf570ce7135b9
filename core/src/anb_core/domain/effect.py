"""The effects of one change of a job. `anb_core.domain.lifecycle` computes the effects, and a store writes them."""

from dataclasses import dataclass
from datetime import datetime

from anb_core.domain.dead_letters import Resolution
from anb_core.domain.model import Attempt, DeadLetterCause, DeletionReason, Ending, EventKind, Problem, Record


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended. `error` is None if the attempt ended without an error."""

    attempt_id: str
    ending: Ending
    error: Problem | None = None


@dataclass(frozen=True, slots=True)
class ScheduledDeletion:
    """An object that has to be deleted at the time `due`."""

    key: str
    reason: DeletionReason
    due: datetime


@dataclass(frozen=True, slots=True)
class Effect:
    """All effects of one change of a job. The store writes these effects in one transaction."""

    record: Record
    """The video and its job after the change. The job's version is 1 higher than before."""
    event: EventKind
    """Kind of the event that is added to the feed."""
    send_after: datetime | None = None
    """Due time of the job's new outbox entry, which replaces the old entry.
    None if the job gets no new outbox entry. The old outbox entry is removed in both cases."""
    started: Attempt | None = None
    """The attempt that begins with the change, or that is added afterwards and has ended. None if there is none."""
    ended: Ended | None = None
    """How an attempt ends with the change. None if no attempt ends."""
    deletions: tuple[ScheduledDeletion, ...] = ()
    """Objects that have to be deleted."""
    dead_letter: DeadLetterCause | None = None
    """Why the job becomes a dead letter. None if the job does not become a dead letter."""
    resolution: Resolution | None = None
    """How the video's open dead letters are resolved. None if they stay open."""
    by: str | None = None
    """The person or program that resolves the dead letters."""
    release_key: bool = False
    """Whether the upload's Idempotency-Key becomes free, so that a new upload can use the key."""
    purge_after: datetime | None = None
    """Earliest time at which the video's rows are removed. None unless the change deletes the video."""

    @property
    def error(self) -> Problem | None:
        """The error that the event reports: the error that ended the attempt, else the error of the job, else None."""
        return (self.ended and self.ended.error) or self.record.job.error
