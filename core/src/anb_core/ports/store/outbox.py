"""The store's port for messages that have to be sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A message that has to be sent. Only one relay at a time holds the entry."""

    id: int
    token: str
    """This value changes each time a relay takes the entry, and each time the job needs a newer message."""
    video_id: str
    task_id: str
    owner: str
    generation: int
    key: str
    created_at: datetime
    tries: int
    """Number of failed tries to send the message."""


class Outbox(Protocol):
    """Messages that have to be sent because a committed transaction added them. Each job has at most one."""

    def hold_outbox(self, *, limit: int, hold: timedelta) -> Sequence[OutboxEntry]:
        """Take entries that are due, oldest first. No other relay can take them for the time `hold`."""
        ...

    def mark_sent(self, entry: OutboxEntry, *, broker: str) -> None:
        """Remove the entry of a sent message, unless the entry was replaced. Store time and queue with the job."""
        ...

    def mark_unsent(self, entry: OutboxEntry, *, delay: timedelta) -> None:
        """Make an entry due again after `delay`, because the queue refused its message. Count the failed try."""
        ...
