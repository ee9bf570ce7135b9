"""Decides how long to wait before a child process that ended is started again. Pure: the caller measures the time."""

from dataclasses import dataclass
from datetime import timedelta

from anb_core.domain.backoff import backoff

FIRST_DELAY = timedelta(seconds=0.5)
"""Delay after the first crash: long enough to avoid a busy loop, too short for people to notice."""

LONGEST_DELAY = timedelta(seconds=30)
"""Maximum delay. A child that always crashes is restarted forever, at little cost."""

STABLE = 30.0
"""If a child ran for this many seconds, its next crash counts as the first one."""


@dataclass(frozen=True, slots=True)
class Crashes:
    """Counts how often in a row a child ended before the child had run for `STABLE` seconds."""

    in_a_row: int = 0

    def after(self, ran: float) -> "Crashes":
        """Return the count after one more crash of a child that ran for `ran` seconds."""
        return Crashes(1 if ran >= STABLE else self.in_a_row + 1)

    @property
    def delay(self) -> float:
        """Seconds to wait before the next start."""
        if not self.in_a_row:
            return 0.0
        return backoff(self.in_a_row, base=FIRST_DELAY, cap=LONGEST_DELAY, jitter=0.0, least=1.0).total_seconds()
