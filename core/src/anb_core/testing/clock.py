"""A clock that stands still until it is told to go on."""

import threading
from datetime import UTC, datetime, timedelta

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """Time for tests: `now` for what is written down, `monotonic` for what is measured. Both move only by `advance`."""

    def __init__(self, start: datetime = BEGINNING) -> None:
        self._start = start
        self._passed = timedelta(0)
        self._put_back = timedelta(0)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        with self._lock:
            return self._start + self._passed - self._put_back

    def monotonic(self) -> float:
        """Seconds since the beginning."""
        with self._lock:
            return self._passed.total_seconds()

    def advance(self, by: timedelta) -> None:
        """Let time pass; never backwards."""
        if by < timedelta(0):
            raise ValueError(f"time does not run backwards: {by}")
        with self._lock:
            self._passed += by

    def put_back(self, by: timedelta) -> None:
        """What `now` tells jumps back, as when another machine takes over; `monotonic` does not."""
        with self._lock:
            self._put_back += by
