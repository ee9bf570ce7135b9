"""The sweep: finds what no living process will finish. Every API and worker process tries; one runs at a time."""

from collections import deque
from collections.abc import Callable, Iterator
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
"""What one step does at a time at most, so that no transaction is long. Jobs are sent again by so many a pass."""

EMPTY_READINGS = 3
EMPTY_WINDOW = timedelta(minutes=2)
"""Counts are approximate and lag: the queue is believed to be empty after so many readings over so long a time."""

NEAR_RETENTION = 0.9
"""A message that has waited this share of the queue's retention is sent anew, before the queue forgets it."""

EVENTS_KEPT = timedelta(days=7)
"""No reader of the feed is away for longer; one that was starts over from the rows."""

IN_LINE = 1000
"""Of the jobs that have waited longest so many are judged by the work ahead of them."""

DELETION_HOLD = timedelta(minutes=5)
"""How long a process that died while deleting objects keeps them from the others."""

_log = structlog.get_logger(__name__)


class EmptyWatch:
    """Judges whether the queue has really lost what it should hold. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._last: deque[float] = deque(maxlen=EMPTY_READINGS)

    def observe(self, depth: Depth, now: float) -> timedelta | None:
        """Take one reading. Once the queue is believed empty, return how long a message must have been due in it.

        That is for as long as the last few readings took, and never the whole time of a queue that stays empty: what is
        sent and lost in between would never have waited for so long.
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
    """What one pass did."""

    lost: int = 0
    abandoned: int = 0
    requeued: int = 0
    deleted: int = 0
    purged: int = 0
    skipped: list[str] = field(default_factory=list)
    """The parts that did not answer."""


class Sweep:
    """Ends expired leases and uploads, sends forgotten jobs anew, deletes objects that a row says are to go.

    `hidden` is for how long the queue keeps a message in the hands of whoever received it.
    """

    def __init__(
        self,
        store: Housekeeping,
        objects: Objects,
        queue: QueueAdmin,
        *,
        policy: RetryPolicy,
        interval: timedelta,
        hidden: timedelta,
        wake_relay: Callable[[], None],
        runtime: Runtime,
    ) -> None:
        self._store = store
        self._objects = objects
        self._queue = queue
        self._policy = policy
        self._interval = interval
        self._wake_relay = wake_relay
        self._runtime = runtime
        # With nothing ahead of it, for so long a message may be with a dead worker, or hidden by one that gave it back.
        self._slack = max(hidden, LONGEST_PAUSE) + interval
        self._empty = EmptyWatch()

    def run(self, stop: Event) -> None:
        """Sweep at every interval until `stop` is set."""
        while not stop.wait(self._interval.total_seconds()):
            try:
                self.sweep()
            except Unavailable as error:
                _log.warning("sweep waits", part=error.part, reason=error.message)
            except Exception as error:  # noqa: BLE001 - a thread that ends is noticed by nobody
                self._runtime.on_error("sweep", error)

    def sweep(self) -> Swept | None:
        """One pass, or None while another process is at it. A part that does not answer is skipped, the rest is done.

        Raises:
            Unavailable: the database is away.
        """
        # A dead process is in the way for no longer than a few passes, a slow one is not overtaken.
        with self._store.exclusively("sweep", lifetime=max(6 * self._interval, timedelta(minutes=1))) as ours:
            if not ours:
                return None
            swept = Swept()
            until = self._runtime.monotonic() + self._interval.total_seconds()
            swept.lost = self._keep_up(until, lambda: self._store.end_expired_leases(limit=LIMIT, policy=self._policy))
            swept.abandoned = self._keep_up(until, lambda: self._store.end_expired_uploads(limit=LIMIT))
            with _skipping(swept):
                swept.requeued = self._requeue()
            with _skipping(swept):
                swept.deleted = self._keep_up(until, self._delete)
            swept.purged = self._keep_up(until, lambda: self._store.purge(events_before=EVENTS_KEPT, limit=LIMIT))
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
        """Take a step again while there is as much to do as it may, but not past `until`: others make its work, too."""
        done = last = step()
        while last >= LIMIT and self._runtime.monotonic() < until:
            last = step()
            done += last
        return done

    def _requeue(self) -> int:
        requeued = self._store.requeue_unclaimed(not_on=self._queue.name, limit=LIMIT)
        requeued += self._store.requeue_overdue(slack=self._slack, limit=IN_LINE)
        near = self._queue.retention() * NEAR_RETENTION
        requeued += self._store.requeue_unclaimed(enqueued_before=near, limit=LIMIT)
        lost_after = self._empty.observe(self._queue.depth(), self._runtime.monotonic())
        if lost_after is not None:
            requeued += self._store.requeue_unclaimed(enqueued_before=lost_after, limit=LIMIT)
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
    """The database ends the pass; a bucket or queue that is away ends only its step."""
    try:
        yield
    except Unavailable as error:
        if error.part == "database":
            raise
        swept.skipped.append(error.part)
        _log.warning("sweep skips a step", part=error.part, reason=error.message)
