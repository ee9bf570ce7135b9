"""Follows the feed of the database, from where it was left before the last stop or failure."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime

import structlog

from anb_core.domain.model import EventKind, JobEvent
from anb_core.ports.store import Feed
from anb_operator.workqueue import WorkQueue

READER = "operator"
"""The name of our cursor."""

INTERVAL_SECONDS = 0.5
"""Between two looks: a change waits for half of that on average, before anything is done for it."""

BATCH = 500

_log = structlog.get_logger(__name__)


class FeedReader:
    """Adds each video that the feed tells of. The cursor moves past an event only when its video was seen to.

    While the feed can't be read the queue pauses: the rows of the videos can't be either.
    """

    def __init__(
        self,
        store: Feed,
        queue: WorkQueue,
        *,
        threads: Executor,
        on_attempt: Callable[[], None],
        beat: Callable[[], None],
        report: Callable[[Exception | None], None],
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._store = store
        self._queue = queue
        self._threads = threads
        self._on_attempt = on_attempt
        self._beat = beat
        self._report = report
        self._interval = interval
        self._position: int | None = None
        self._follows = False
        self._saved: int | None = None
        self._read_at = time.monotonic()

    def unanswered(self) -> int:
        """How many events were read that nothing is done for yet."""
        return 0 if self._position is None else self._position - self._queue.answered(self._position)

    def lag(self) -> float:
        """For how many seconds VideoJobs may be out of date: since an event, or since the feed was read at all."""
        oldest = self._queue.oldest()
        waiting = (datetime.now(UTC) - oldest).total_seconds() if oldest else 0.0
        return max(waiting, time.monotonic() - self._read_at)

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                known = self._position if self._follows else None
                answered = None if known is None else self._queue.answered(known)
                read = asyncio.get_running_loop().run_in_executor(self._threads, self._read, known, answered)
                events, self._position = await read
                self._follows = True
                for event in events:
                    self._queue.add(event.video_id, event)
                if any(event.kind is not EventKind.PROGRESS for event in events):
                    self._on_attempt()
                self._read_at = time.monotonic()
                self._queue.resume()
                self._report(None)
            except Exception as error:  # noqa: BLE001 - reported, and the mirror is better late than dead
                # What comes back may be an earlier state of the database, where our position means nothing.
                self._follows = False
                self._queue.pause()
                self._report(error)
                events = []
            self._beat()
            if len(events) < BATCH:
                await asyncio.sleep(self._interval)

    def _read(self, position: int | None, answered: int | None) -> tuple[list[JobEvent], int]:
        begins = position is None
        if position is None:
            position = self._begin()
        elif answered is not None and answered != self._saved:
            self._store.move_cursor(READER, answered)
            self._saved = answered
        events = list(self._store.events_after(position, limit=BATCH))
        if begins:
            _log.info("following the feed", after=position)
        return events, events[-1].id if events else position

    def _begin(self) -> int:
        self._saved = cursor = self._store.cursor(READER)
        last = self._store.last_event_id()
        if cursor is not None and cursor > last:
            # The database was put back to an earlier state, and its feed counts from there.
            _log.warning("the feed is behind our cursor, and is read from its beginning", cursor=cursor, last=last)
            cursor = None
        return cursor or 0
