"""The gate before the queue: a message is received only while what a job needs is there."""

import random
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from anb_core.domain.backoff import backoff
from anb_core.domain.errors import Busy, Unavailable

FIRST_WAIT = timedelta(seconds=2)
LONGEST_WAIT = timedelta(seconds=15)
"""After an outage no worker stands idle for longer."""

_log = structlog.get_logger(__name__)


def plan_wait(tries: int, jitter: float) -> timedelta:
    """How long to wait after `tries` failures in a row, at least 1; `jitter` is drawn from [0, 1)."""
    return backoff(tries, base=FIRST_WAIT, cap=LONGEST_WAIT, jitter=jitter)


class Gate:
    """Asks each part whether it answers, in order. `wait` gets seconds, and may return early when the worker stops."""

    def __init__(
        self,
        pings: Sequence[Callable[[], None]],
        *,
        wait: Callable[[float], object],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._pings = pings
        self._wait = wait
        self._jitter = jitter
        self._tries = 0

    def passes(self) -> bool:
        """True when every part answers; else False, after having waited a while."""
        error = self.missing()
        if error is not None:
            self.away(error)
        return error is None

    def missing(self) -> Unavailable | None:
        """Why nothing would be received now: the first part that does not answer. Whoever wants to know may ask."""
        for ping in self._pings:
            try:
                ping()
            except Unavailable as error:
                return error
        return None

    def away(self, error: Unavailable) -> None:
        """A part did not answer: say so, and wait, longer with each time in a row."""
        self._tries += 1
        delay = plan_wait(self._tries, self._jitter()).total_seconds()
        state = "busy" if isinstance(error, Busy) else "away"
        _log.warning(f"not receiving: the {error.part} is {state}", reason=error.message, again_in=round(delay, 1))
        self._wait(delay)

    def all_well(self) -> None:
        """Receiving and committing worked: the next failure is the first one in a row."""
        if self._tries:
            _log.info("receiving again: all parts answer")
        self._tries = 0
