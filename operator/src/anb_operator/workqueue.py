"""Which videos have to be looked at: each once, however often it is added; again after a failure; or at a time.

What somebody told of goes before what is only compared: after a start that is everything, and takes a while.
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
"""After failures in a row no video waits longer for the next try."""


@dataclass(frozen=True, slots=True)
class Work:
    """A video to be looked at. `event`: the first that the feed told of it since it was last done."""

    video_id: str
    event: JobEvent | None = None


def plan_delay(failures: int, jitter: float) -> float:
    """Seconds to wait after `failures` in a row, at least 1; `jitter` is drawn from [0, 1)."""
    return backoff(
        failures, base=timedelta(seconds=0.5), cap=timedelta(seconds=LONGEST_DELAY_SECONDS), jitter=jitter
    ).total_seconds()


class WorkQueue:
    """For one event loop. `take` work, then say `done` or `failed`; nobody else gets the same video meanwhile."""

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
        self._ready: dict[str, None] = {}
        self._compared: dict[str, None] = {}
        self._events: dict[str, JobEvent] = {}
        self._taken: dict[str, JobEvent | None] = {}
        self._again: set[str] = set()
        self._failures: dict[str, int] = {}
        self._later: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}
        self._paused = False
        self._woken = asyncio.Event()

    def pause(self) -> None:
        """Give out only what is urgent until `resume`: what the rest needs is away."""
        self._paused = True

    def resume(self) -> None:
        """Give out everything again."""
        if self._paused:
            self._paused = False
            self._woken.set()

    def __len__(self) -> int:
        """How many videos could be looked at now."""
        return len(self._ready) + len(self._compared)

    @property
    def failing(self) -> int:
        """How many videos failed when they were looked at last."""
        return len(self._failures)

    def add(self, video_id: str, event: JobEvent | None = None) -> None:
        """Look at this video; `event` where the feed told of it."""
        if event is not None:
            self._keep(video_id, event)
        if video_id in self._taken:
            self._again.add(video_id)
        else:
            self._compared.pop(video_id, None)
            self._ready[video_id] = None
            self._woken.set()

    def add_to_compare(self, video_id: str) -> None:
        """Look at this video once nothing else is ready: nobody told of a change."""
        if video_id in self._taken:
            self._again.add(video_id)
        elif video_id not in self._ready:
            self._compared[video_id] = None
            self._woken.set()

    def add_later(self, video_id: str, delay: float) -> None:
        """Look at this video in so many seconds, at the latest."""
        at = self._monotonic() + max(delay, 0.0)
        if self._due.get(video_id, at + 1) > at:
            self._due[video_id] = at
            heappush(self._later, (at, video_id))
            self._woken.set()

    async def take(self) -> Work:
        """The next video; waits for one."""
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
        """It was looked at."""
        del self._taken[video_id]
        self._failures.pop(video_id, None)
        self._readd(video_id)

    def failed(self, video_id: str) -> float:
        """It was not; in how many seconds it is tried again."""
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
        """The first event that was added and for whose video nothing is done yet; None: all is."""
        taken = (event for event in self._taken.values() if event is not None)
        return min((*self._events.values(), *taken), key=lambda event: event.id, default=None)

    def _keep(self, video_id: str, event: JobEvent) -> None:
        """The first by its id: after a database was put back, earlier ones come again."""
        self._events[video_id] = min(event, self._events.get(video_id, event), key=lambda known: known.id)

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
        """Add what is due; seconds until the next one is, None if there is none."""
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
