"""The store's port for messages that have to be sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A message that has to be sent. Only one relay at a time has the right to send the message."""

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


class Outbox(Protocol):
    """Messages that committed transactions have added, and that have to be sent. Each job has at most one entry."""

    def hold_outbox(self, *, limit: int, hold: timedelta) -> Sequence[OutboxEntry]:
        """Take the oldest entries that are due. For the time `hold`, no other relay can take the same entries."""
        ...

    def mark_sent(self, entry: OutboxEntry, *, broker: str) -> None:
        """Remove the entry of a sent message, unless it was replaced. Store the time and the queue with the job."""
        ...

    def mark_unsent(self, entry: OutboxEntry, *, delay: timedelta) -> None:
        """Make an entry due again after `delay`, because the queue refused the message. Adds 1 to `tries`."""
        ...
