"""The in-memory queue, for tests.

This queue behaves like SQS: it has visibility timeouts, invalid handles, message groups, and a dead-letter queue.
"""

import itertools
import re
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from anb_core.adapters.system import SystemRuntime
from anb_core.domain.errors import AnbError
from anb_core.ports.queue import Delivery, Depth, Outgoing
from anb_core.ports.runtime import Runtime

DEDUPLICATION = timedelta(minutes=5)
"""A FIFO queue drops a message whose deduplication id it has seen within this time, as SQS does."""

POLL_SECONDS = 0.01
"""Seconds between two checks of the queue during a long poll. A test may move the clock during the poll."""


@dataclass(slots=True)
class _Entry:
    message_id: str
    body: str
    group: str
    visible_at: datetime
    first_received: datetime | None = None
    receives: int = 0
    handle: str = ""


@dataclass(slots=True)
class InMemoryQueue:
    """Implements `anb_core.ports.queue.Queue`. The queue is FIFO if its name ends in `.fifo`.

    If `fault` is set to an error, every method raises the error.
    `refuse` returns the reason why the queue refuses a message. None if the queue accepts the message.
    """

    name: str = "https://queue.invalid/000000000000/anb-videos"
    visibility: timedelta = timedelta(seconds=300)
    max_receives: int = 3
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    runtime: Runtime = field(default_factory=SystemRuntime)
    """The runtime whose clock measures how long a long poll waits."""
    delay_of_new: timedelta = timedelta(0)
    """Time for which each new message is hidden."""
    refuse: Callable[[Outgoing], str | None] = lambda _: None
    fault: AnbError | None = None
    sent: list[Outgoing] = field(default_factory=list)
    """All accepted messages, in the order in which they were sent."""
    _dead_letters: "InMemoryQueue | None" = field(default_factory=lambda: None, init=False)
    _entries: list[_Entry] = field(default_factory=list, init=False)
    _seen: dict[str, datetime] = field(default_factory=dict, init=False)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1), init=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)

    @property
    def fifo(self) -> bool:
        """Whether the queue is FIFO: it keeps the order within a group, and drops repeated messages."""
        return self.name.endswith(".fifo")

    @property
    def dead_letters(self) -> "InMemoryQueue":
        """The dead-letter queue, which gets the messages that were received too often. It has no limit of receipts."""
        with self._lock:
            if self._dead_letters is None:
                name = re.sub(r"(\.fifo)?$", r"-dlq\1", self.name, count=1)
                self._dead_letters = InMemoryQueue(
                    name, self.visibility, max_receives=sys.maxsize, now=self.now, runtime=self.runtime
                )
            return self._dead_letters

    def send(self, batch: Sequence[Outgoing]) -> Sequence[str | None]:
        self.ping()
        with self._lock:
            refusals = [self.refuse(message) for message in batch]
            for message, refusal in zip(batch, refusals, strict=True):
                if refusal is None:
                    self._take(message)
            return refusals

    def receive(self, *, wait: timedelta) -> Delivery | None:
        deadline = self.runtime.monotonic() + wait.total_seconds()
        while True:
            self.ping()
            with self._lock:
                delivery = self._hand_out()
            if delivery or self.runtime.monotonic() >= deadline:
                return delivery
            self.runtime.sleep(POLL_SECONDS)

    def delete(self, delivery: Delivery) -> None:
        self.ping()
        with self._lock:
            # If the handle is invalid, SQS may delete the message or do nothing. This queue does nothing.
            self._entries = [entry for entry in self._entries if entry.handle != delivery.handle]

    def give_back(self, delivery: Delivery, *, pause: timedelta = timedelta(0)) -> None:
        self.extend(delivery, visibility=pause)

    def extend(self, delivery: Delivery, *, visibility: timedelta) -> None:
        self.ping()
        with self._lock:
            for entry in self._entries:
                if entry.handle == delivery.handle:
                    entry.visible_at = self.now() + visibility

    def depth(self) -> Depth:
        self.ping()
        with self._lock:
            hidden = [entry for entry in self._entries if entry.visible_at > self.now()]
            delayed = sum(not entry.receives for entry in hidden)
            return Depth(visible=len(self._entries) - len(hidden), in_flight=len(hidden) - delayed, delayed=delayed)

    def retention(self) -> timedelta:
        self.ping()
        return timedelta(days=4)

    def delay(self) -> timedelta:
        self.ping()
        return self.delay_of_new

    def ensure(self) -> None:
        self.ping()

    def ping(self) -> None:
        if self.fault:
            raise self.fault

    def close(self) -> None:
        """Do nothing, because no connection is open."""

    def put(self, body: str) -> None:
        """Send a message with any text, as another program does."""
        number = next(self._numbers)
        self.send([Outgoing(body, group=str(number), owner="somebody", deduplication=f"put-{number}")])

    def bodies(self) -> Sequence[str]:
        """Return the bodies of all messages that were not deleted, including invisible messages."""
        with self._lock:
            return [entry.body for entry in self._entries]

    def accept(self, entry: _Entry) -> None:
        """Add a message that another queue moves to this queue. The message keeps its id."""
        with self._lock:
            self._entries.append(entry)

    def _take(self, message: Outgoing) -> None:
        now = self.now()
        if self.fifo:
            if self._seen.get(message.deduplication, now) > now:
                return
            self._seen[message.deduplication] = now + DEDUPLICATION
        self.sent.append(message)
        self._entries.append(
            _Entry(f"message-{next(self._numbers)}", message.body, message.group, now + self.delay_of_new)
        )

    def _hand_out(self) -> Delivery | None:
        now = self.now()
        busy: set[str] = set()
        for entry in list(self._entries):
            if self.fifo and entry.group in busy:
                continue
            if entry.visible_at > now:
                busy.add(entry.group)
            elif entry.receives >= self.max_receives:
                self._entries.remove(entry)
                self.dead_letters.accept(replace(entry, visible_at=now, receives=0, handle=""))
            else:
                entry.receives += 1
                entry.visible_at = now + self.visibility
                entry.handle = f"handle-{next(self._numbers)}"
                age = None if entry.first_received is None else now - entry.first_received
                entry.first_received = entry.first_received or now
                return Delivery(entry.message_id, entry.body, entry.handle, self.name, age)
        return None
