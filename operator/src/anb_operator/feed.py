"""Follows the database's feed and adds the video of each event to the work queue."""

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
"""Name of the operator's cursor in the database."""


class FeedReader:
    """Adds the video of each feed event to the queue. The cursor moves past the event after the video was reconciled.

    While the database can't be read, the queue is paused.
    `on_attempt` is called when an attempt may have begun or ended.
    After each read of the feed, `beat` is called, and `report` is called with the read's error or None.
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
        """Return the number of feed events that were read but not handled yet."""
        return self._follower.backlog(self._queue.pending())

    def lag(self) -> float:
        """Return by how many seconds the VideoJobs lag behind the database, in the worst case.

        The lag is the longer of two times:
        the age of the oldest event not yet handled, and the time since the last read of the feed.
        """
        return self._follower.lag(self._queue.pending(), datetime.now(UTC)).total_seconds()

    async def run(self) -> None:
        """Read the feed until cancelled."""
        # Create a new follower. If an earlier run was cancelled, a thread may still read events with the old follower.
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
