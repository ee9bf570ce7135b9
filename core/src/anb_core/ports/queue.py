"""The queue only wakes. All methods raise `Unavailable("queue", ...)` when it does not answer.

A use case asks for what it does with a queue: send, receive or administer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send.

    On FIFO queues `group` (video id) orders and `deduplication` (outbox entry) drops repeats; on standard queues
    `owner` keeps one person's burst from delaying the others (fair queues).
    """

    body: str
    group: str
    owner: str
    deduplication: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One receipt of a message. `handle` goes stale when it is received again.

    `age` is the time since the first receipt, whoever had it; None if this is the first one.
    """

    message_id: str
    body: str
    handle: str
    age: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Depth:
    """Approximate counts; they lag."""

    visible: int
    in_flight: int
    delayed: int

    @property
    def empty(self) -> bool:
        """Nothing anywhere."""
        return not (self.visible or self.in_flight or self.delayed)


class QueueSender(Protocol):
    """Takes messages. `name` is what a job's `enqueued_to` says."""

    name: str

    def send(self, batch: Sequence[Outgoing]) -> Sequence[str | None]:
        """Send up to 10; for each, None or why it was refused."""
        ...


class QueueReceiver(Protocol):
    """Gives messages, one at a time, each to one receiver at a time. Any broker's consumer can stand behind it."""

    def receive(self, *, wait: timedelta) -> Delivery | None:
        """Long-poll for one message, invisible to others for the queue's visibility timeout."""
        ...

    def delete(self, delivery: Delivery) -> None:
        """Done with it. A stale handle is no error."""
        ...

    def give_back(self, delivery: Delivery, *, pause: timedelta = timedelta(0)) -> None:
        """Make it visible after `pause`, but not before the next receipt can be told from the first one by its age."""
        ...

    def extend(self, delivery: Delivery, *, visibility: timedelta) -> None:
        """Keep it invisible for `visibility` from now."""
        ...


class QueueAdmin(Protocol):
    """Answers questions about a queue as a whole, and creates it. `name` is the sender's."""

    name: str

    def depth(self) -> Depth: ...

    def retention(self) -> timedelta:
        """How long the queue keeps a message."""
        ...

    def ensure(self) -> None:
        """Create queue, dead-letter queue and redrive policy if missing, where the settings allow it."""
        ...

    def ping(self) -> None:
        """Return when the queue answers."""
        ...

    def close(self) -> None: ...


class Queue(QueueSender, QueueReceiver, QueueAdmin, Protocol):
    """All of it, as the adapters and the fake implement it."""
