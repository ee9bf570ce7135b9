"""The queue of the videos to reconcile. Each video is in the queue only once. Failed videos are retried with backoff.

Changed videos come first, because each resync adds many videos that did not change.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from heapq import heappop, heappush

from anb_core.domain.backoff import backoff
from anb_core.domain.model import JobEvent

LONGEST_DELAY_SECONDS = 60.0
"""Maximum delay before a failed video is tried again."""


@dataclass(frozen=True, slots=True)
class Work:
    """A video to reconcile."""

    video_id: str
    event: JobEvent | None = None
    """The video's oldest feed event not yet handled, or None."""


def plan_delay(failures: int, jitter: float) -> float:
    """Return the seconds to wait after this number of failures in a row (at least 1). `jitter` is random, in [0, 1)."""
    return backoff(
        failures, base=timedelta(seconds=0.5), cap=timedelta(seconds=LONGEST_DELAY_SECONDS), jitter=jitter
    ).total_seconds()


class WorkQueue:
    """A queue of videos for one event loop. `take` returns a video again only after a call of `done` or `failed`.

    While the queue is paused, `take` returns only videos for which `urgent` is True.
    """

    def __init__(
        self,
        *,
        urgent: Callable[[str], bool] = lambda _: False,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._urgent = urgent
        self._monotonic = monotonic
        self._jitter = jitter
        # The waiting videos, in order. First dict: videos that changed. Second dict: videos that only a resync added.
        self._ready: dict[str, None] = {}
        self._compared: dict[str, None] = {}
        # For each video: the oldest event not yet handled. First dict: waiting videos. Second dict: taken videos.
        self._events: dict[str, JobEvent] = {}
        self._taken: dict[str, JobEvent | None] = {}
        # Videos that were added again between `take` and `done`.
        self._again: set[str] = set()
        # For each video: the number of failed reconciles in a row.
        self._failures: dict[str, int] = {}
        # The delayed videos: a heap of pairs (monotonic due time, video), and the valid due time of each video.
        # A heap entry is ignored if `_due` has another due time for the video.
        self._later: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}
        self._paused = False
        self._woken = asyncio.Event()

    def pause(self) -> None:
        """Let `take` return only urgent videos until `resume` is called, because the database is unavailable."""
        self._paused = True

    def resume(self) -> None:
        """End the pause, so that `take` returns any video and not only urgent ones."""
        if self._paused:
            self._paused = False
            self._woken.set()

    def __len__(self) -> int:
        """Return the number of videos that are ready to be reconciled."""
        return len(self._ready) + len(self._compared)

    @property
    def failing(self) -> int:
        """Number of videos whose last reconcile failed."""
        return len(self._failures)

    def add(self, video_id: str, event: JobEvent | None = None) -> None:
        """Add a video that changed. `event` is the feed event of the change, or None if there is no event."""
        if event is not None:
            self._keep(video_id, event)
        if video_id in self._taken:
            self._again.add(video_id)
        else:
            self._compared.pop(video_id, None)
            self._ready[video_id] = None
            self._woken.set()

    def add_to_compare(self, video_id: str) -> None:
        """Add a video without a known change. Such a video is taken only when no changed video is ready."""
        if video_id in self._taken:
            self._again.add(video_id)
        elif video_id not in self._ready:
            self._compared[video_id] = None
            self._woken.set()

    def add_later(self, video_id: str, delay: float) -> None:
        """Add a video after `delay` seconds, unless the video is already due earlier."""
        at = self._monotonic() + max(delay, 0.0)
        if self._due.get(video_id, at + 1) > at:
            self._due[video_id] = at
            heappush(self._later, (at, video_id))
            self._woken.set()

    async def take(self) -> Work:
        """Wait for the next video, and take the video from the queue."""
        while True:
            wait = self._promote()
            if (video_id := self._next()) is not None:
                self._taken[video_id] = event = self._events.pop(video_id, None)
                return Work(video_id, event)
            self._woken.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._woken.wait()
            except TimeoutError:
                continue

    def done(self, video_id: str) -> None:
        """Record that a taken video was reconciled."""
        del self._taken[video_id]
        self._failures.pop(video_id, None)
        self._readd(video_id)

    def failed(self, video_id: str) -> float:
        """Record that the reconcile of a taken video failed. Returns the seconds until the next try."""
        event = self._taken.pop(video_id)
        if event is not None:
            self._keep(video_id, event)
        self._again.discard(video_id)
        self._failures[video_id] = self._failures.get(video_id, 0) + 1
        delay = plan_delay(self._failures[video_id], self._jitter())
        self._due.pop(video_id, None)
        self.add_later(video_id, delay)
        return delay

    def pending(self) -> JobEvent | None:
        """Return the oldest feed event not yet handled, or None when every event is handled."""
        taken = (event for event in self._taken.values() if event is not None)
        return min((*self._events.values(), *taken), key=lambda event: event.id, default=None)

    def _keep(self, video_id: str, event: JobEvent) -> None:
        """Store the event of a video, unless an event with a lower id is stored.

        If the database was restored from a backup, a later event may have a lower id.
        """
        self._events[video_id] = min(event, self._events.get(video_id, event), key=lambda kept: kept.id)

    def _next(self) -> str | None:
        for waiting in (self._ready, self._compared):
            for video_id in waiting:
                if not self._paused or self._urgent(video_id):
                    del waiting[video_id]
                    return video_id
        return None

    def _readd(self, video_id: str) -> None:
        if video_id in self._again:
            self._again.discard(video_id)
            self._ready[video_id] = None
            self._woken.set()

    def _promote(self) -> float | None:
        """Add the delayed videos that are due. Returns the seconds until the next video is due, or None."""
        now = self._monotonic()
        while self._later:
            at, video_id = self._later[0]
            if self._due.get(video_id) == at:
                if at > now:
                    return at - now
                del self._due[video_id]
                self.add(video_id)
            heappop(self._later)
        return None
