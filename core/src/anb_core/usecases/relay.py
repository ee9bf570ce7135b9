"""The relay: sends what committed transactions promised to send. A thread of every API and worker process runs one."""

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
from anb_core.ports.store import Outbox, OutboxEntry

BATCH = 10
"""SQS takes no more in one call."""

HOLD = timedelta(seconds=30)
"""How long a relay that died keeps its entries from the others; longer than a send with its retries takes."""

IDLE = timedelta(seconds=1)
"""How long an entry waits when its wake-up went to another process."""

RESEND_BASE = timedelta(seconds=1)
RESEND_CAP = timedelta(seconds=30)
"""After an outage of the queue no message waits longer than this."""

_log = structlog.get_logger(__name__)


def plan_resend(tries: int, jitter: float) -> timedelta:
    """How long an entry waits after it was refused `tries` times before; `jitter` is drawn from [0, 1)."""
    return backoff(tries + 1, base=RESEND_BASE, cap=RESEND_CAP, jitter=jitter)


@dataclass(frozen=True, slots=True)
class Passed:
    """What one pass of the relay did."""

    sent: int
    refused: int


class Relay:
    """Moves outbox entries to the queue: held in one transaction, sent outside of any, marked in another.

    A relay that dies in between sends again, or another does: a message more is harmless, a message less is not.
    """

    def __init__(
        self,
        store: Outbox,
        queue: QueueSender,
        *,
        bucket: str,
        runtime: Runtime,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._queue = queue
        self._bucket = bucket
        self._runtime = runtime
        self._jitter = jitter
        self._woken = runtime.event()

    def wake(self) -> None:
        """There is something to send, or to stop for. Never waits."""
        self._woken.set()

    def run(self, stop: Event) -> None:
        """Send until `stop` is set (then `wake`)."""
        while not stop.is_set():
            self._woken.wait(IDLE.total_seconds())
            self._woken.clear()
            try:
                while not stop.is_set() and self.send_due().sent:
                    pass
            except Unavailable as error:
                _log.warning("relay waits", part=error.part, reason=error.message)
            except Exception as error:  # noqa: BLE001 - a thread that ends is noticed by nobody
                self._runtime.on_error("relay", error)

    def send_due(self) -> Passed:
        """Send what is due now, up to a batch.

        Raises:
            Unavailable: the database is away. An unreachable queue is no error here: the entries are due again later.
        """
        entries = self._store.hold_outbox(limit=BATCH, hold=HOLD)
        if not entries:
            return Passed(0, 0)
        refusals = self._send(entries)
        for entry, refusal in zip(entries, refusals, strict=True):
            try:
                self._note(entry, refusal)
            except Busy as error:
                # It is due again after its hold; the others are not to wait for this one row.
                done = "sent" if refusal is None else "not sent"
                _log.warning(f"message {done}, but not noted", video_id=entry.video_id, reason=error.message)
        refused = sum(refusal is not None for refusal in refusals)
        return Passed(len(entries) - refused, refused)

    def _note(self, entry: OutboxEntry, refusal: str | None) -> None:
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
