"""The relay: a thread that sends the messages in the outbox. Every API and worker process runs a relay."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from anb_core.domain.backoff import backoff
from anb_core.domain.errors import Busy, Unavailable
from anb_core.domain.message import encode
from anb_core.ports.queue import Outgoing, QueueSender
from anb_core.ports.runtime import Event, Runtime
from anb_core.ports.store import Outbox, OutboxEntry, QueueLimit

BATCH = 10
"""Maximum number of messages in one call to the queue. SQS has the same limit."""

HOLD = timedelta(seconds=30)
"""Time for which a relay reserves outbox entries. One call to the queue, including its retries, takes less time.
If the relay crashes, another relay takes the entries after this time.
"""

IDLE = timedelta(seconds=1)
"""Time after which the relay reads the outbox even without a call of `wake`. Another process may have added entries."""

RESEND_BASE = timedelta(seconds=1)
RESEND_CAP = timedelta(seconds=30)
"""Maximum delay before a refused message is sent again, even after many refusals."""

_log = structlog.get_logger(__name__)


def plan_resend(tries: int, jitter: float) -> timedelta:
    """Return the delay before a refused message is sent again. The queue has refused it `tries` times before.

    `jitter` is a random number from [0, 1).
    """
    return backoff(tries + 1, base=RESEND_BASE, cap=RESEND_CAP, jitter=jitter)


@dataclass(frozen=True, slots=True)
class Passed:
    """What happened to one batch: how many messages were sent, and how many the queue refused."""

    sent: int
    refused: int


class Relay:
    """Sends the messages of the outbox to the queue.

    First, one transaction reserves some entries for this relay. Then the relay sends their messages.
    If a message was sent, its entry is removed, in a transaction of its own.
    If the queue refused a message, its entry gets a new due time, in a transaction of its own.
    If the relay crashes before the entry is removed, the message is sent a second time, which is harmless.

    `queue_limit` is the maximum number of messages that wait in the queue. None means no limit. At the limit, the relay
    sends the next message when a worker has claimed a job, or when the sweep has found that a message was lost.
    """

    def __init__(
        self,
        store: Outbox,
        queue: QueueSender,
        *,
        bucket: str,
        runtime: Runtime,
        queue_limit: int | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._queue = queue
        self._bucket = bucket
        self._runtime = runtime
        self._queue_limit = QueueLimit(queue.name, queue_limit) if queue_limit else None
        self._jitter = jitter
        self._woken = runtime.event()

    def wake(self) -> None:
        """Make `run` read the outbox now, or return now if its `stop` flag is set. Never blocks."""
        self._woken.set()

    def wake_for_room(self) -> None:
        """Wake the relay because the queue has room for another message. Without a limit it always had room."""
        if self._queue_limit:
            self.wake()

    def run(self, stop: Event) -> None:
        """Send messages until `stop` is set. To make `run` return at once, set `stop` and then call `wake`."""
        while not stop.is_set():
            self._woken.wait(IDLE.total_seconds())
            self._woken.clear()
            try:
                while not stop.is_set() and self.send_due().sent:
                    pass
            except Unavailable as error:
                _log.warning("relay waits", part=error.part, reason=error.message)
            except Exception as error:  # noqa: BLE001 - reported; the thread must not end
                self._runtime.on_error("relay", error)

    def send_due(self) -> Passed:
        """Send one batch of messages that are due, as far as the queue has room for them.

        Raises:
            Unavailable: the database does not answer. An outage of the queue raises no error, but delays the messages.
        """
        entries = self._store.hold_outbox(limit=BATCH, hold=HOLD, queue_limit=self._queue_limit)
        if not entries:
            return Passed(0, 0)
        refusals = self._send(entries)
        for entry, refusal in zip(entries, refusals, strict=True):
            try:
                self._mark(entry, refusal)
            except Busy as error:
                # Another transaction has locked the job's row. The entry becomes due again after HOLD.
                done = "sent" if refusal is None else "not sent"
                _log.warning(
                    f"message {done}, but its entry was not marked", video_id=entry.video_id, reason=error.message
                )
        refused = sum(refusal is not None for refusal in refusals)
        return Passed(len(entries) - refused, refused)

    def _mark(self, entry: OutboxEntry, refusal: str | None) -> None:
        if refusal is None:
            self._store.mark_sent(entry, broker=self._queue.name)
            return
        delay = plan_resend(entry.tries, self._jitter())
        self._store.mark_unsent(entry, delay=delay)
        again_in = round(delay.total_seconds(), 1)
        _log.warning("message not sent", video_id=entry.video_id, reason=refusal, again_in=again_in)

    def _send(self, entries: Sequence[OutboxEntry]) -> Sequence[str | None]:
        try:
            return self._queue.send([self._outgoing(entry) for entry in entries])
        except Unavailable as error:
            return [error.message] * len(entries)

    def _outgoing(self, entry: OutboxEntry) -> Outgoing:
        body = encode(
            video_id=entry.video_id,
            task_id=entry.task_id,
            generation=entry.generation,
            bucket=self._bucket,
            key=entry.key,
            created_at=entry.created_at,
        )
        return Outgoing(body=body, group=entry.video_id, owner=entry.owner, deduplication=str(entry.id))
