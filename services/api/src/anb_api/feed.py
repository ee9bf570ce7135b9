"""Distributes feed events to event streams. One reader per process serves all streams."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.concurrency import run_in_threadpool

from anb_core.domain.errors import Unavailable
from anb_core.domain.model import JobEvent
from anb_core.ports.runtime import Runtime
from anb_core.ports.store import Feed
from anb_core.usecases.follow import INTERVAL, Follower

KEPT = 256
"""Maximum number of buffered events for a slow client. When the buffer is full, the oldest event is dropped.

A slow client still gets the latest state, because each event has the status and progress of the job.
"""

_log = structlog.get_logger(__name__)


class Subscription:
    """The events of one video since the start of the subscription."""

    def __init__(self, leave: Callable[["Subscription"], None]) -> None:
        self._leave = leave
        self._events: deque[JobEvent] = deque(maxlen=KEPT)
        self._woken = asyncio.Event()
        self.ended = False
        """Whether the subscription has ended because the server is stopping."""

    def put(self, event: JobEvent) -> None:
        """Add an event and wake the reader."""
        self._events.append(event)
        self._woken.set()

    def end(self) -> None:
        """Mark the subscription as ended and wake the reader."""
        self.ended = True
        self._woken.set()

    async def next(self, timeout: float) -> JobEvent | None:  # noqa: ASYNC109 - a timeout returns None, and is no error
        """Return the next event, or None if the subscription ends or no event arrives within `timeout` seconds."""
        if not self._events and not self.ended:
            self._woken.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._woken.wait()
            except TimeoutError:
                return None
        return self._events.popleft() if self._events else None

    def close(self) -> None:
        """Remove the subscription from the hub."""
        self._leave(self)


class Hub:
    """Reads the feed while subscriptions exist, and gives each event to the subscriptions of its video."""

    def __init__(self, store: Feed, runtime: Runtime, *, interval: timedelta = INTERVAL) -> None:
        self._follower = Follower(store, runtime, interval=interval)
        self._runtime = runtime
        self._subscriptions: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._wanted = asyncio.Event()
        self._beginning = asyncio.Lock()
        self._closed = False

    @property
    def watched(self) -> int:
        """Number of subscriptions."""
        return sum(map(len, self._subscriptions.values()))

    async def subscribe(self, video_id: str) -> Subscription:
        """Return a subscription to every later event of the video. The caller must close the subscription.

        Raises:
            Unavailable: the database does not respond.
        """
        subscription = Subscription(lambda left: self._remove(video_id, left))
        async with self._beginning:
            if not self._subscriptions:
                await run_in_threadpool(self._follower.begin)
            self._subscriptions[video_id].add(subscription)
        self._follower.wake()
        self._wanted.set()
        if self._closed:
            subscription.end()
        return subscription

    async def run(self) -> None:
        """Read the feed until `close` is called."""
        # Use a separate thread, because a read can wait a long time, and requests need the shared threads.
        threads = CapacityLimiter(1)
        while not self._closed:
            await self._wanted.wait()
            if not self._subscriptions:
                self._wanted.clear()
                continue
            try:
                self._deliver(await run_sync(self._follower.next, limiter=threads))
            except Unavailable as error:
                _log.warning("feed is not available", reason=error.message)
            except Exception as error:  # noqa: BLE001 - it is reported, and the streams must go on
                self._runtime.on_error("feed", error)

    def close(self) -> None:
        """End all subscriptions and the loop of `run`, so that the server can stop."""
        self._closed = True
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.end()
        self._follower.wake()
        self._wanted.set()

    def _deliver(self, events: Sequence[JobEvent]) -> None:
        for event in events:
            for subscription in self._subscriptions.get(event.video_id, ()):
                subscription.put(event)

    def _remove(self, video_id: str, subscription: Subscription) -> None:
        subscriptions = self._subscriptions.get(video_id, set())
        subscriptions.discard(subscription)
        if not subscriptions:
            self._subscriptions.pop(video_id, None)
