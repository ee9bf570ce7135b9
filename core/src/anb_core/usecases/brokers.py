"""The state of the queues of all brokers, for people who move from one broker to another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Literal

from anb_core.domain.errors import Unavailable
from anb_core.ports.queue import Depth, QueueAdmin
from anb_core.ports.store import QueueJobs, Reading
from anb_core.usecases.visibility import Caller, check_operator

NO_JOBS = QueueJobs(0, 0, None)


class Role(StrEnum):
    """What a queue is to this deployment."""

    CURRENT = "current"
    """New work goes to this queue."""
    OLD = "old"
    """Workers empty this queue. New work goes to the current queue."""
    REMOVED = "removed"
    """The settings do not name this queue any more, but unfinished jobs do."""


@dataclass(frozen=True, slots=True)
class BrokerState:
    """The state of one queue."""

    name: str
    role: Role
    depth: Depth | None
    """Numbers of messages. None if the queue can't be read."""
    outage: str | None
    """The reason why the queue can't be read. None if it could be read."""
    jobs: QueueJobs
    """The unfinished jobs whose message was last sent to this queue."""

    @property
    def kind(self) -> Literal["sqs", "celery"]:
        """The kind of the broker: `sqs` or `celery`."""
        return "sqs" if self.name.startswith("http") else "celery"

    @property
    def reasons(self) -> Sequence[str]:
        """Sentences that say why the broker must not be switched off yet. Empty if it may be switched off."""
        return list(self._reasons())

    def _reasons(self) -> Iterator[str]:
        if self.role is Role.CURRENT:
            yield "New work goes to this queue."
        if self.role is Role.OLD and self.outage is not None:
            yield "The messages in this queue can't be counted, because it does not answer."
        if self.role is Role.OLD and self.depth is not None:
            yield from _reasons_of_depth(self.depth)
        unfinished = self.jobs.waiting + self.jobs.running
        if unfinished:
            yield f"Unfinished jobs whose message was sent to this queue: {unfinished}."
        if self.role is Role.REMOVED:
            yield "The sweep sends the messages of waiting jobs again, to the current queue."


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of all queues."""

    brokers: Sequence[BrokerState]
    """The current queue, the old queue if there is one, and then the removed queues by their names."""
    unsent: int
    """Number of unfinished jobs whose message was not sent to any queue yet."""


def overview(store: Reading, queues: Sequence[QueueAdmin], caller: Caller) -> Overview:
    """Read the state of all queues. `queues` are the current queue and, if there is one, the old queue.

    Raises:
        Forbidden: `scope_missing` if the caller's token does not have the scope `ops`.
        Unavailable: the database does not answer. A queue that does not answer raises no error.
    """
    check_operator(caller, "The queues")
    jobs = dict(store.count_by_queue())
    unsent = jobs.pop(None, NO_JOBS)
    configured = [
        _read(queue, role, jobs.pop(queue.name, NO_JOBS))
        for queue, role in zip(queues, (Role.CURRENT, Role.OLD), strict=False)
    ]
    removed = [BrokerState(name, Role.REMOVED, None, None, counted) for name, counted in jobs.items() if name]
    return Overview([*configured, *sorted(removed, key=attrgetter("name"))], unsent.waiting + unsent.running)


def _read(queue: QueueAdmin, role: Role, jobs: QueueJobs) -> BrokerState:
    try:
        return BrokerState(queue.name, role, queue.depth(), None, jobs)
    except Unavailable as error:
        return BrokerState(queue.name, role, None, error.message, jobs)


def _reasons_of_depth(depth: Depth) -> Iterator[str]:
    for number, state in (
        (depth.visible, "wait in this queue"),
        (depth.in_flight, "were received from this queue and not deleted yet"),
        (depth.delayed, "are delayed in this queue"),
    ):
        if number:
            yield f"Messages that {state}: {number}."
    if depth.consumers:
        yield f"Other programs that receive from this queue, such as workers of Celery: {depth.consumers}. Stop them."
