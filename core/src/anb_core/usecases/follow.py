"""Follow the feed: read its events in order, remember how far they are handled, and tell the lag."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from anb_core.domain.model import JobEvent
from anb_core.ports.runtime import Runtime
from anb_core.ports.store import Feed

BATCH = 500
"""The most events that are read at a time."""

INTERVAL = timedelta(seconds=0.5)
"""Between two looks at the feed. A change waits for half of that on average before it is seen."""

_log = structlog.get_logger(__name__)


class Follower:
    """Reads the feed for one reader, which calls `next` again and again, from one thread at a time.

    A reader with a `name` begins after its cursor, which is stored under that name: after a start, and after every
    error, because the database may come back in an earlier state. Such a reader gets events more than once. A reader
    without a name begins at the end of the feed.

    Where a method takes `pending`, that is the first event that was read and is not handled yet; None: all are handled.
    """

    def __init__(
        self, feed: Feed, runtime: Runtime, *, name: str | None = None, interval: timedelta = INTERVAL
    ) -> None:
        self._feed = feed
        self._runtime = runtime
        self._name = name
        self._interval = interval
        self._woken = runtime.event()
        self._begun = False
        self._more = True
        self._position = 0
        self._cursor: int | None = None
        self._read_at = runtime.monotonic()

    def wake(self) -> None:
        """Let `next` look at the feed now instead of waiting. Never waits."""
        self._woken.set()

    def begin(self) -> None:
        """Go to where this reader begins. `next` does it when it has to.

        Raises:
            Unavailable: the database does not answer.
        """
        self._position = self._feed.last_event_id() if self._name is None else self._after_cursor(self._name)
        self._begun = True

    def next(self, pending: JobEvent | None = None) -> Sequence[JobEvent]:
        """The next events, without a wait if more are there already; none if none came within the interval.

        Moves the cursor to just before `pending`.

        Raises:
            Unavailable: the database does not answer. The next call waits for the interval and tries again.
        """
        if not self._more:
            self._woken.wait(self._interval.total_seconds())
        self._woken.clear()
        self._more = False
        try:
            if not self._begun:
                self.begin()
            elif self._name is not None:
                self._move_cursor(self._name, self._handled(pending))
            events = self._feed.events_after(self._position, limit=BATCH)
        except Exception:
            self._begun = self._begun and self._name is None
            raise
        if events:
            self._position = events[-1].id
        self._more = len(events) == BATCH
        self._read_at = self._runtime.monotonic()
        return events

    def backlog(self, pending: JobEvent | None) -> int:
        """How many events are read and not handled, counted by their ids."""
        return self._position - self._handled(pending) if pending else 0

    def lag(self, pending: JobEvent | None, now: datetime) -> timedelta:
        """For how long the reader may be behind: since `pending` happened, or since the feed was last read."""
        waiting = now - pending.at if pending else timedelta(0)
        return max(waiting, timedelta(seconds=self._runtime.monotonic() - self._read_at))

    def _handled(self, pending: JobEvent | None) -> int:
        return min(self._position, pending.id - 1) if pending else self._position

    def _move_cursor(self, name: str, event_id: int) -> None:
        if event_id != self._cursor:
            self._feed.move_cursor(name, event_id)
            self._cursor = event_id

    def _after_cursor(self, name: str) -> int:
        cursor, last = self._feed.cursor(name), self._feed.last_event_id()
        self._cursor = cursor
        if cursor is not None and cursor > last:
            # The database was put back to an earlier state, and its feed counts from there.
            _log.warning("the feed is behind our cursor, and is read from its beginning", cursor=cursor, last=last)
            cursor = None
        _log.info("following the feed", after=cursor or 0)
        return cursor or 0
