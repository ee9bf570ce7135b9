"""Computes the delay before the supervisor restarts a child process that has ended."""

from dataclasses import dataclass
from datetime import timedelta

from anb_core.domain.backoff import backoff

FIRST_DELAY = timedelta(seconds=0.5)
"""Delay before the restart after the first crash. The delay avoids a busy loop, and people do not notice it."""

LONGEST_DELAY = timedelta(seconds=30)
"""Maximum delay before a restart. With this delay, even a child that always crashes uses little CPU time."""

STABLE = 30.0
"""If a child ran for at least this many seconds before a crash, its earlier crashes are no longer counted."""


@dataclass(frozen=True, slots=True)
class Crashes:
    """Number of times in a row that a child ended before it had run for `STABLE` seconds."""

    in_a_row: int = 0

    def after(self, ran: float) -> "Crashes":
        """Return the number of consecutive crashes, including the new crash of a child that ran for `ran` seconds."""
        return Crashes(1 if ran >= STABLE else self.in_a_row + 1)

    @property
    def delay(self) -> float:
        """Delay before the next start, in seconds."""
        if not self.in_a_row:
            return 0.0
        return backoff(self.in_a_row, base=FIRST_DELAY, cap=LONGEST_DELAY, jitter=0.0, least=1.0).total_seconds()
