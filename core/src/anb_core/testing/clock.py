"""A clock for tests. Only the test moves it."""

import threading
from datetime import UTC, datetime, timedelta

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """A wall clock (`now`) and a monotonic clock. Only `advance` and `put_back` move these clocks.

    Stores take the times that they store from `now`. Use cases measure durations with `monotonic`.
    """

    def __init__(self, start: datetime = BEGINNING) -> None:
        self._start = start
        self._passed = timedelta(0)
        self._put_back = timedelta(0)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        with self._lock:
            return self._start + self._passed - self._put_back

    def monotonic(self) -> float:
        """Return the number of seconds by which the clock was advanced."""
        with self._lock:
            return self._passed.total_seconds()

    def advance(self, by: timedelta) -> None:
        """Move `now` and `monotonic` forward.

        Raises:
            ValueError: the duration is negative.
        """
        if by < timedelta(0):
            raise ValueError(f"time does not run backwards: {by}")
        with self._lock:
            self._passed += by

    def put_back(self, by: timedelta) -> None:
        """Set `now` back, as if another machine with a slower clock took over. `monotonic` does not change."""
        with self._lock:
            self._put_back += by
