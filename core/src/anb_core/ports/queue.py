"""The queue, which wakes workers. All methods raise `Unavailable("queue", ...)` when the queue does not answer.

A use case takes only the protocols that it needs: `QueueSender`, `QueueReceiver` or `QueueAdmin`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that will be sent to the queue."""

    body: str
    group: str
    """On FIFO queues, the message group: the id of the video. Messages of one group stay in order."""
    owner: str
    """On standard queues, the message group: the owner of the video.
    Many messages of one owner then do not delay the messages of other owners (fair queues of SQS)."""
    deduplication: str
    """On FIFO queues, the deduplication id: the id of the outbox entry. A FIFO queue drops a repeated id."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One receipt of a message by a worker."""

    message_id: str
    body: str
    handle: str
    """The receipt handle of SQS. The handle becomes invalid when the message is received again."""
    queue: str
    """Name of the queue that delivered the message."""
    age: timedelta | None = None
    """Time since a worker first received the message. None if this is the first receipt."""


@dataclass(frozen=True, slots=True)
class Depth:
    """Numbers of messages in a queue. The numbers are approximate and may be out of date.

    Two depths are equal if their numbers of messages are equal.
    """

    visible: int
    """Number of messages that can be received."""
    in_flight: int
    """Number of messages that have been received and not deleted yet."""
    delayed: int
    """Number of messages that have been sent with a delay and can't be received yet."""
    consumers: int | None = field(default=None, compare=False)
    """Number of other programs that receive from the queue at this moment. None if the broker does not report it."""
    in_flight_complete: bool = field(default=True, compare=False)
    """Whether `in_flight` has the messages of other processes, too. False if the broker does not report them."""

    @property
    def empty(self) -> bool:
        """Whether the queue has no messages of any kind."""
        return not (self.visible or self.in_flight or self.delayed)


class QueueSender(Protocol):
    """Sends messages to one queue."""

    name: str
    """Name of the queue. The name is stored as a job's `enqueued_to`."""

    def send(self, batch: Sequence[Outgoing]) -> Sequence[str | None]:
        """Send up to 10 messages. Returns for each message None, or the reason why the queue refused the message."""
        ...


class QueueReceiver(Protocol):
    """Receives messages, one at a time. A received message is invisible to other receivers for a visibility timeout."""

    def receive(self, *, wait: timedelta) -> Delivery | None:
        """Receive a message. Returns None if no message arrives within `wait` (long polling)."""
        ...

    def delete(self, delivery: Delivery) -> None:
        """Delete a message that was handled. An invalid handle causes no error."""
        ...

    def give_back(self, delivery: Delivery, *, pause: timedelta = timedelta(0)) -> None:
        """Return the message to the queue. The message becomes visible again after `pause`.

        After the first receipt, the message may stay invisible for longer than `pause`.
        Otherwise, the second receipt could count as the first one.
        """
        ...

    def extend(self, delivery: Delivery, *, visibility: timedelta) -> None:
        """Make the message invisible for the duration `visibility`, counted from now."""
        ...


class QueueAdmin(Protocol):
    """Creates a queue and reads its properties."""

    name: str
    """Name of the queue, the same as in `QueueSender`."""

    def depth(self) -> Depth: ...

    def retention(self) -> timedelta:
        """Return how long the queue keeps a message."""
        ...

    def delay(self) -> timedelta:
        """Return how long the queue hides each new message from the receivers."""
        ...

    def ensure(self) -> None:
        """Create the queue, its dead-letter queue and redrive policy if they are missing and the settings allow it."""
        ...

    def ping(self) -> None:
        """Check that the queue answers."""
        ...

    def close(self) -> None: ...


class Queue(QueueSender, QueueReceiver, QueueAdmin, Protocol):
    """A queue with all three protocols, for adapters and the in-memory fake."""
