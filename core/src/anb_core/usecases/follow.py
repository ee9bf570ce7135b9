"""A reader of the feed: reads events in order, stores a cursor, and measures the lag."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from anb_core.domain.model import JobEvent
from anb_core.ports.runtime import Runtime
from anb_core.ports.store import Feed

BATCH = 500
"""Maximum number of events that one call reads."""

INTERVAL = timedelta(seconds=0.5)
"""Time between two reads of the feed. On average, an event waits for half of this time until it is read."""

_log = structlog.get_logger(__name__)


class Follower:
    """Reads the feed for one reader. The reader calls `next` repeatedly, from one thread at a time.

    A reader with a `name` starts after its cursor, which the database stores under this name.
    After an error, this reader reads its cursor again, because the database may have been restored to an old state.
    A reader with a name may therefore get an event more than once.
    A reader without a name starts at the end of the feed.

    Some methods have an argument `pending`: the first event that the reader got but has not handled yet.
    `pending` is None if the reader has handled all events that it got.
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
        """Make `next` read the feed now instead of waiting for the interval. Never blocks."""
        self._woken.set()

    def begin(self) -> None:
        """Set the position at which the reader starts. `next` calls `begin` if necessary.

        If another thread calls `next` at the same time, `next` may return events again, but skips none.

        Raises:
            Unavailable: the database does not answer.
        """
        self._position = self._feed.last_event_id() if self._name is None else self._after_cursor(self._name)
        self._begun = True

    def next(self, pending: JobEvent | None = None) -> Sequence[JobEvent]:
        """Move the cursor to the event before `pending`, and return the next events of the feed. The list may be empty.

        If the previous call read all events, `next` first waits until the interval is over or a thread calls `wake`.
        If the previous call left events unread, `next` does not wait.

        Raises:
            Unavailable: the database does not answer. If `next` is called again, it first waits for the interval.
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
        """Return the approximate number of events that were read but not handled yet: a difference of event ids."""
        return self._position - self._handled(pending) if pending else 0

    def lag(self, pending: JobEvent | None, now: datetime) -> timedelta:
        """Return the lag of the reader: the age of `pending` or the time since the last read, whichever is longer."""
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
            # The feed ends before the cursor, because the database was restored to an earlier state.
            _log.warning("the feed is behind our cursor, and is read from its beginning", cursor=cursor, last=last)
            cursor = None
        _log.info("following the feed", after=cursor or 0)
        return cursor or 0
