"""The sweep, which cleans up after crashed processes. Every API and worker process sweeps, but only one at a time."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from anb_core.domain.errors import Unavailable
from anb_core.domain.retry import LONGEST_PAUSE, RetryPolicy
from anb_core.ports.objects import Objects
from anb_core.ports.queue import Depth, QueueAdmin
from anb_core.ports.runtime import Event, Runtime
from anb_core.ports.store import Housekeeping

LIMIT = 100
"""Maximum number of rows that one call to the store handles, so that transactions stay short.
There are several ways to find lost messages. For each, a pass of the sweep sends at most LIMIT messages again.
"""

EMPTY_READINGS = 3
EMPTY_WINDOW = timedelta(minutes=2)
"""The queue counts as empty after EMPTY_READINGS consecutive readings of 0 that span at least EMPTY_WINDOW.
A single reading is not reliable, because the queue's numbers are approximate and may be out of date.
"""

NEAR_RETENTION = 0.9
"""A waiting message is sent again at this fraction of the queue's retention time, before SQS deletes it."""

EVENTS_KEPT = timedelta(days=7)
"""How long events are kept. After a longer stop, a reader of the feed has missed events and must read all jobs."""

DEAD_LETTERS_KEPT = timedelta(days=90)
"""Resolved dead letters are removed after this time. The body of an open dead letter is shortened after this time."""

IN_LINE = 1000
"""In one pass, the sweep examines at most this number of waiting jobs to find lost messages."""

DELETION_HOLD = timedelta(minutes=5)
"""Time for which a process reserves due deletions. If the process crashes, another one takes them after this time."""

_log = structlog.get_logger(__name__)


class EmptyWatch:
    """Decides from several readings whether one queue is empty. `now` is a monotonic time in seconds."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._last: deque[float] = deque(maxlen=EMPTY_READINGS)

    def observe(self, depth: Depth, now: float) -> timedelta | None:
        """Add a reading of the queue's depth. Return None unless all recent readings say that the queue is empty.

        If the queue is empty, return an age. If a waiting job's message was sent longer ago, the message is lost.
        The age is the time since the oldest of the last EMPTY_READINGS readings, but at least EMPTY_WINDOW.
        Earlier readings do not count. Otherwise the age would grow for as long as the queue is empty, and no message
        would ever be older.
        """
        if not depth.empty:
            self._since = None
            self._last.clear()
            return None
        if self._since is None:
            self._since = now
        self._last.append(now)
        if len(self._last) < EMPTY_READINGS or now - self._since < EMPTY_WINDOW.total_seconds():
            return None
        return max(EMPTY_WINDOW, timedelta(seconds=now - self._last[0]))


@dataclass(slots=True)
class Swept:
    """What one pass of the sweep did."""

    lost: int = 0
    """Number of attempts that were settled as lost, because their lease had expired."""
    abandoned: int = 0
    """Number of uploads that were abandoned, because they were not renewed in time."""
    requeued: int = 0
    """Number of jobs whose message may be lost and is sent again."""
    deleted: int = 0
    """Number of objects that were deleted."""
    purged: int = 0
    """Number of old rows that were removed."""
    skipped: list[str] = field(default_factory=list)
    """Names of the dependencies (bucket or queue) that did not answer. The steps that need them were skipped."""


class Sweep:
    """Ends expired leases and uploads, sends lost messages again, deletes objects that are due, and removes old rows.

    `queues` are all configured queues. A message that was sent to any other queue is sent again.
    `hidden` is the queues' visibility timeout: the time for which a received message is invisible.
    """

    def __init__(
        self,
        store: Housekeeping,
        objects: Objects,
        queues: Sequence[QueueAdmin],
        *,
        policy: RetryPolicy,
        interval: timedelta,
        hidden: timedelta,
        wake_relay: Callable[[], None],
        runtime: Runtime,
    ) -> None:
        self._store = store
        self._objects = objects
        self._queues = [(queue, EmptyWatch()) for queue in queues]
        self._policy = policy
        self._interval = interval
        self._wake_relay = wake_relay
        self._runtime = runtime
        # If a worker receives a message and crashes, the message stays invisible for up to `_slack`.
        self._slack = max(hidden, LONGEST_PAUSE) + interval
        self._delays: dict[str, timedelta] = {}
        """Maps the name of each queue that has answered to the time for which the queue hides a new message."""

    def run(self, stop: Event) -> None:
        """Sweep once per interval until `stop` is set."""
        while not stop.wait(self._interval.total_seconds()):
            try:
                self.sweep()
            except Unavailable as error:
                _log.warning("sweep waits", part=error.part, reason=error.message)
            except Exception as error:  # noqa: BLE001 - reported; the thread must not end
                self._runtime.on_error("sweep", error)

    def sweep(self) -> Swept | None:
        """Sweep once. Returns None if another process sweeps now.

        A step is skipped if the bucket or queue that it needs does not answer.

        Raises:
            Unavailable: the database does not answer.
        """
        # The lock lasts longer than a slow pass. If this process crashes, the lock expires by itself.
        with self._store.exclusively("sweep", lifetime=max(6 * self._interval, timedelta(minutes=1))) as is_ours:
            if not is_ours:
                return None
            swept = Swept()
            until = self._runtime.monotonic() + self._interval.total_seconds()
            swept.lost = self._keep_up(until, lambda: self._store.end_expired_leases(limit=LIMIT, policy=self._policy))
            swept.abandoned = self._keep_up(until, lambda: self._store.end_expired_uploads(limit=LIMIT))
            for queue, empty in self._queues:
                with _skipping(swept):
                    swept.requeued += self._requeue_by_queue(queue, empty)
            swept.requeued += self._requeue_by_rows()
            with _skipping(swept):
                swept.deleted = self._keep_up(until, self._delete)
            swept.purged = self._keep_up(
                until,
                lambda: self._store.purge(
                    events_before=EVENTS_KEPT, dead_letters_before=DEAD_LETTERS_KEPT, limit=LIMIT
                ),
            )
        if swept.lost or swept.requeued:
            self._wake_relay()
        if swept != Swept():
            _log.info(
                "swept",
                lost=swept.lost,
                abandoned=swept.abandoned,
                requeued=swept.requeued,
                deleted=swept.deleted,
                purged=swept.purged,
                skipped=swept.skipped,
            )
        return swept

    def _keep_up(self, until: float, step: Callable[[], int]) -> int:
        """Repeat a step until it handles fewer than LIMIT rows. Return the number of all handled rows.

        Other processes may add rows faster than the step handles them. So no repetition begins after the time `until`.
        """
        done = last = step()
        while last >= LIMIT and self._runtime.monotonic() < until:
            last = step()
            done += last
        return done

    def _requeue_by_rows(self) -> int:
        configured = [queue.name for queue, _ in self._queues]
        requeued = self._store.requeue_unclaimed(not_on=configured, limit=LIMIT)
        slack = self._slack + max(self._delays.values(), default=timedelta(0))
        return requeued + self._store.requeue_overdue(slack=slack, limit=IN_LINE)

    def _requeue_by_queue(self, queue: QueueAdmin, empty: EmptyWatch) -> int:
        self._delays[queue.name] = queue.delay()
        near = queue.retention() * NEAR_RETENTION
        requeued = self._store.requeue_unclaimed(enqueued_before=near, on=queue.name, limit=LIMIT)
        lost_after = empty.observe(queue.depth(), self._runtime.monotonic())
        if lost_after is not None:
            requeued += self._store.requeue_unclaimed(enqueued_before=lost_after, on=queue.name, limit=LIMIT)
        return requeued

    def _delete(self) -> int:
        due = self._store.hold_deletions(limit=LIMIT, hold=DELETION_HOLD)
        if not due:
            return 0
        kept = self._objects.delete([deletion.key for deletion in due])
        done = [deletion for deletion in due if deletion.key not in kept]
        self._store.deletion_done(done)
        return len(done)


@contextmanager
def _skipping(swept: Swept) -> Iterator[None]:
    """Skip the block if the bucket or the queue does not answer. If the database does not answer, raise the error."""
    try:
        yield
    except Unavailable as error:
        if error.part == "database":
            raise
        swept.skipped.append(error.part)
        _log.warning("sweep skips a step", part=error.part, reason=error.message)
