"""Follows the feed of the database, and has the videos looked at that it tells of."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from functools import partial

from anb_core.domain.model import EventKind
from anb_core.ports.runtime import Runtime
from anb_core.ports.store import Feed
from anb_core.usecases.follow import INTERVAL, Follower
from anb_operator.workqueue import WorkQueue

READER = "operator"
"""The name of our cursor."""


class FeedReader:
    """Adds each video that the feed tells of. The cursor moves past an event only when its video was seen to.

    While the feed can't be read the queue pauses: the rows of the videos can't be either.
    """

    def __init__(
        self,
        store: Feed,
        queue: WorkQueue,
        runtime: Runtime,
        *,
        threads: Executor,
        on_attempt: Callable[[], None],
        beat: Callable[[], None],
        report: Callable[[Exception | None], None],
        interval: timedelta = INTERVAL,
    ) -> None:
        self._make_follower = partial(Follower, store, runtime, name=READER, interval=interval)
        self._follower = self._make_follower()
        self._queue = queue
        self._threads = threads
        self._on_attempt = on_attempt
        self._beat = beat
        self._report = report

    def unanswered(self) -> int:
        """How many events were read that nothing is done for yet."""
        return self._follower.backlog(self._queue.pending())

    def lag(self) -> float:
        """For how many seconds VideoJobs may be out of date: since an event, or since the feed was read at all."""
        return self._follower.lag(self._queue.pending(), datetime.now(UTC)).total_seconds()

    async def run(self) -> None:
        """Read until cancelled."""
        # A thread that an earlier run left behind may still read on with its own follower, and nobody gets its events.
        follower = self._follower = self._make_follower()
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    events = await loop.run_in_executor(self._threads, follower.next, self._queue.pending())
                    for event in events:
                        self._queue.add(event.video_id, event)
                    if any(event.kind is not EventKind.PROGRESS for event in events):
                        self._on_attempt()
                    self._queue.resume()
                    self._report(None)
                except Exception as error:  # noqa: BLE001 - reported, and the mirror is better late than dead
                    self._queue.pause()
                    self._report(error)
                self._beat()
        finally:
            follower.wake()
