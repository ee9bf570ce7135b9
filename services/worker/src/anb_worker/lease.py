"""Renews the lease of a running attempt in the background, and stops the attempt when the lease may have expired.

Each attempt has three threads: one renews the lease, one writes progress, and the third is a watchdog.
The watchdog never calls the database or the queue. So it can stop the attempt even if a call of another thread hangs.

After a stop request, the lease is not renewed any more. The attempt must end before the lease expires.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Self

import structlog

from anb_core.domain.errors import LeaseLost, Transient, Unavailable
from anb_core.domain.model import Lease
from anb_core.domain.overdue import ATTEMPT_LIMIT
from anb_core.ports.queue import Delivery, QueueReceiver
from anb_core.ports.runtime import Runtime, Thread, join_all
from anb_core.ports.stop import Stop
from anb_core.ports.store import Leases

PROGRESS_INTERVAL = timedelta(seconds=1)
"""Time between two writes of progress. Each write also detects whether the job was cancelled.
A cancelled render ends within 2 s."""

TRIES_A_HEARTBEAT = 4
"""If a renewal fails, the next try follows after the heartbeat interval divided by this number."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """The durations that a lease keeper needs."""

    duration: timedelta
    """Time from a renewal to the expiry of the lease."""
    heartbeat: timedelta
    """Time between two renewals of the lease."""
    visibility: timedelta
    """Each renewal makes the job's message invisible in the queue for this time."""
    attempt_limit: timedelta = ATTEMPT_LIMIT
    """Maximum duration of an attempt."""


class LeaseKeeper:
    """Renews a lease during the `with` block. Implements anb_core.ports.keeper.Keeper.

    `since` is the monotonic time in seconds, read just before the claim.
    `beat` is called once per second until a stop request, to show that the worker does not hang.
    """

    def __init__(
        self,
        lease: Lease,
        delivery: Delivery,
        stop: Stop,
        since: float,
        *,
        store: Leases,
        queue: QueueReceiver,
        terms: Terms,
        runtime: Runtime,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._lease = lease
        self._delivery = delivery
        self._stop = stop
        self._store = store
        self._queue = queue
        self._terms = terms
        self._beat = beat
        self._runtime = runtime
        self._deadline = since + terms.duration.total_seconds()
        self._limit = since + terms.attempt_limit.total_seconds()
        self._progress = 0.0
        self._over = runtime.event()
        self._threads: list[Thread] = []

    @property
    def deadline(self) -> float:
        """Monotonic time in seconds. Before this time the lease can't expire."""
        return self._deadline

    def progress(self, value: float) -> None:
        """Keep the progress (0 to 1) in memory until the next write."""
        self._progress = value

    def __enter__(self) -> Self:
        for name, step, first in (
            ("heartbeat", self.heartbeat, self._terms.heartbeat.total_seconds()),
            ("progress", self.write_progress, PROGRESS_INTERVAL.total_seconds()),
            ("watchdog", self.watch, 0.0),
        ):
            self._threads.append(self._runtime.start(f"lease-{name}", partial(self._repeat, step, first)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        # Wait for a running heartbeat. Otherwise the heartbeat could hide the message after its return to the queue.
        join_all(self._runtime, self._threads)

    def heartbeat(self) -> float:
        """Renew the lease, and keep the message invisible. Return the seconds until the next heartbeat."""
        interval = self._terms.heartbeat.total_seconds()
        sent = self._runtime.monotonic()
        try:
            if not self._store.renew(self._lease, duration=self._terms.duration):
                self._stop.ask(LeaseLost())
                return interval
        except Unavailable as error:
            _log.warning("the lease was not renewed", video_id=self._lease.video_id, reason=error.message)
            return interval / TRIES_A_HEARTBEAT
        self._deadline = sent + self._terms.duration.total_seconds()
        try:
            self._queue.extend(self._delivery, visibility=self._terms.visibility)
        except Unavailable as error:
            # The attempt continues. Another worker that receives the message drops it, because the job is leased.
            _log.warning("the message was not kept hidden", video_id=self._lease.video_id, reason=error.message)
        return interval

    def write_progress(self) -> float:
        """Write the progress, and return the seconds until the next write.

        Unchanged progress is written too, because the write also detects whether the job was cancelled.
        """
        self._beat()
        try:
            if not self._store.report_progress(self._lease, self._progress):
                self._stop.ask(LeaseLost())
        except Unavailable as error:
            _log.debug("progress was not written", video_id=self._lease.video_id, reason=error.message)
        return PROGRESS_INTERVAL.total_seconds()

    def watch(self) -> float:
        """Stop the attempt if the lease may have expired, or if the attempt takes too long.

        Returns the seconds until the next check.
        """
        now = self._runtime.monotonic()
        if now >= self._deadline:
            self._stop.ask(Unavailable("database", "The lease could not be renewed in time."))
        elif now >= self._limit:
            limit = self._terms.attempt_limit.total_seconds()
            self._stop.ask(Transient("attempt_too_long", f"The attempt was not done after {limit:.0f} seconds."))
        return min(self._deadline, self._limit) - now

    def _repeat(self, step: Callable[[], float], seconds: float) -> None:
        while not self._over.wait(seconds) and not self._stop.asked:
            try:
                seconds = step()
            except Exception as error:  # noqa: BLE001 - reported; the watchdog ends the attempt if the lease expires
                self._runtime.on_error("keeping the lease", error, video_id=self._lease.video_id)
                seconds = PROGRESS_INTERVAL.total_seconds()
