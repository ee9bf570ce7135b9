"""The store's port for the outbox: messages that have to be sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """An entry of the outbox: a message that has to be sent. Only the relay that took the entry may send it."""

    id: int
    """Id of the entry. The id is never reused."""
    token: str
    """A value that changes each time a relay takes the entry."""
    video_id: str
    """Id of the video."""
    task_id: str
    """Id of the job."""
    owner: str
    """Owner of the video."""
    generation: int
    """Generation of the job."""
    key: str
    """Key of the uploaded object."""
    created_at: datetime
    """Time at which the entry was added, by the database's clock."""
    tries: int
    """Number of failed tries to send the message."""


@dataclass(frozen=True, slots=True)
class QueueLimit:
    """The limit of a queue that has to stay short. Messages above the limit stay in the outbox."""

    queue: str
    """Name of the queue, as in a job's `enqueued_to`."""
    messages: int
    """The maximum number of messages that wait in the queue."""


class Outbox(Protocol):
    """Messages that have to be sent. The transaction that changes a job adds an entry. A job has at most one entry."""

    def hold_outbox(
        self, *, limit: int, hold: timedelta, queue_limit: QueueLimit | None = None
    ) -> Sequence[OutboxEntry]:
        """Return at most `limit` entries that are due, in the order of `anb_core.domain.fairness`.

        For the duration `hold`, no other relay gets the same entries.

        With a `queue_limit`, return only as many entries as the queue has room for.
        The number of messages in the queue is computed from the jobs. A job counts if its message was sent to this
        queue, no worker has claimed the job, and the message does not have to be sent again. An entry that a relay
        holds counts, too.
        Without a `queue_limit`, the jobs in flight have no effect on the order.
        """
        ...

    def mark_sent(self, entry: OutboxEntry, *, broker: str) -> None:
        """Remove the entry of a sent message, unless a newer entry has replaced it.

        Also store in the job when the message was sent, and to which queue (`broker` is its name).
        """
        ...

    def mark_unsent(self, entry: OutboxEntry, *, delay: timedelta) -> None:
        """Make an entry due again after `delay`, because the queue refused the message. Adds 1 to `tries`."""
        ...
