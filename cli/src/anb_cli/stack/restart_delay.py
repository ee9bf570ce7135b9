"""Computes the delay before a child process that ended is started again. The caller measures the time."""

from dataclasses import dataclass
from datetime import timedelta

from anb_core.domain.backoff import backoff

FIRST_DELAY = timedelta(seconds=0.5)
"""Delay after the first crash. The delay avoids a busy loop, and people do not notice such a short delay."""

LONGEST_DELAY = timedelta(seconds=30)
"""Maximum delay. With this delay, the endless restarts of a child that always crashes cost little."""

STABLE = 30.0
"""After a child has run for this many seconds, its next crash counts as the first crash."""


@dataclass(frozen=True, slots=True)
class Crashes:
    """Number of times in a row that a child ended before it had run for `STABLE` seconds."""

    in_a_row: int = 0

    def after(self, ran: float) -> "Crashes":
        """Return the count after one more crash of a child that ran for `ran` seconds."""
        return Crashes(1 if ran >= STABLE else self.in_a_row + 1)

    @property
    def delay(self) -> float:
        """Delay before the next start, in seconds."""
        if not self.in_a_row:
            return 0.0
        return backoff(self.in_a_row, base=FIRST_DELAY, cap=LONGEST_DELAY, jitter=0.0, least=1.0).total_seconds()
