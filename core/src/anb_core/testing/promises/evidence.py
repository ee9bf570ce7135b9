"""The state of a system: rows, objects, messages, responses to clients, and VideoJobs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from anb_core.domain.dead_letters import DeadLetter
from anb_core.domain.effect import ScheduledDeletion
from anb_core.domain.model import Attempt, JobEvent, Record


class Shown(NamedTuple):
    """The part of a VideoJob's status that the checker compares with the job."""

    phase: str | None
    attempts: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All data that the rules of the promises need. A field is None if its data can't be read in this run."""

    now: datetime
    """Time of the database's clock when the rows were read."""
    records: Sequence[Record]
    """All videos and their jobs, including deleted videos whose rows still exist."""
    deleted: Collection[str] = ()
    """Ids of the videos of `records` that were deleted."""
    attempts: Sequence[Attempt] = ()
    outbox: Sequence[str] = ()
    """The ids of the jobs that the outbox entries belong to, one id per entry."""
    events: Sequence[JobEvent] = ()
    """The feed, in the order of ids."""
    dead_letters: Sequence[DeadLetter] = ()
    deletions: Sequence[ScheduledDeletion] = ()
    """The scheduled deletions of objects. While a process holds a deletion, its due time is the end of the hold."""
    cursors: Mapping[str, int] | None = None
    """For each named reader of the feed, the id of the last event that the reader has handled."""
    objects: Mapping[str, int] | None = None
    """For each key in the bucket, the size of the object in bytes."""
    messages: Sequence[str] | None = None
    """The bodies of all messages of the queue and of its dead-letter queue, including invisible messages."""
    message_count: int | None = None
    """The number of messages in all queues and dead-letter queues together.
    Given instead of `messages` if the bodies can't be read."""
    sent: Collection[str] = ()
    """Bodies of messages that were certainly sent, by our programs or by others."""
    receipts: Collection[str] = ()
    """Ids of the videos whose upload the API answered with HTTP 202, without videos deleted over a week ago."""
    videojobs: Mapping[str, Shown] | None = None
    """Maps the id of each video to its VideoJob. VideoJobs must be read while no video changes."""
