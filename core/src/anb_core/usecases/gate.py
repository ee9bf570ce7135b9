"""Stops a worker from receiving messages while the database, bucket or queue does not answer."""

import logging
import random
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from anb_core.domain.backoff import backoff
from anb_core.domain.errors import Busy, Unavailable
from anb_core.ports.runtime import Runtime

FIRST_WAIT = timedelta(seconds=2)
LONGEST_WAIT = timedelta(seconds=15)
"""Maximum time between two checks. After an outage, every worker receives messages again within this time."""

FRESH = timedelta(seconds=1)
"""If all dependencies have answered, they are not checked again for this time. A long poll takes longer than this."""

_log = structlog.get_logger(__name__)


def plan_wait(tries: int, jitter: float) -> timedelta:
    """Return how long to wait after `tries` consecutive failures (at least 1).

    `jitter` is a random number from [0, 1).
    """
    return backoff(tries, base=FIRST_WAIT, cap=LONGEST_WAIT, jitter=jitter)


class Gate:
    """Checks whether the dependencies (database, bucket, queue) answer, one after another.

    Each function in `pings` raises Unavailable if its dependency does not answer.
    While jobs follow each other at once, not every job pays for a check (see FRESH).
    `wait` sleeps for the given number of seconds. It may return earlier when the worker stops.
    """

    def __init__(
        self,
        pings: Sequence[Callable[[], None]],
        *,
        wait: Callable[[float], object],
        runtime: Runtime,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._pings = pings
        self._wait = wait
        self._runtime = runtime
        self._jitter = jitter
        self._tries = 0
        self._fresh_until = runtime.monotonic()
        self.outage: Unavailable | None = None
        """The error of the current outage. None if no outage is known."""

    def passes(self) -> bool:
        """Return True if the database, bucket and queue answer. Otherwise wait, and then return False."""
        now = self._runtime.monotonic()
        if now < self._fresh_until:
            return True
        error = self.missing()
        if error is not None:
            self.back_off(error)
            return False
        self._fresh_until = now + FRESH.total_seconds()
        return True

    def missing(self) -> Unavailable | None:
        """Return the error of the first dependency that does not answer. None if all answer."""
        for ping in self._pings:
            try:
                ping()
            except Unavailable as error:
                return error
        return None

    def back_off(self, error: Unavailable) -> None:
        """Log that the database, bucket or queue does not answer, and wait. Consecutive failures make the wait longer.

        The same failure is logged as a warning only once, so that a long outage does not hide other log lines.
        """
        self._tries += 1
        self._fresh_until = self._runtime.monotonic()
        delay = plan_wait(self._tries, self._jitter()).total_seconds()
        state = "busy" if isinstance(error, Busy) else "away"
        is_known = self.outage is not None and self.outage.message == error.message
        self.outage = error
        level = logging.DEBUG if is_known else logging.WARNING
        _log.log(level, f"not receiving: the {error.part} is {state}", reason=error.message, again_in=round(delay, 1))
        self._wait(delay)

    def succeeded(self) -> None:
        """Set the number of consecutive failures to 0. Call this after a message was handled without an outage."""
        if self._tries:
            _log.info("receiving again: all parts answer")
        self._tries, self.outage = 0, None
