"""How long to wait before a child that ended is started again. Pure: the caller looks at the clock."""

from dataclasses import dataclass
from datetime import timedelta

from anb_core.domain.backoff import backoff

FIRST_DELAY = timedelta(seconds=0.5)
"""Long enough not to spin, short enough not to be noticed."""

LONGEST_DELAY = timedelta(seconds=30)
"""A child that always ends is started again for ever, but costs next to nothing."""

STABLE = 30.0
"""Seconds. A child that ran for so long was well: its next crash counts as the first one."""


@dataclass(frozen=True, slots=True)
class Crashes:
    """How often in a row a child ended before it was stable."""

    in_a_row: int = 0

    def after(self, ran: float) -> "Crashes":
        """The count after one more, of a child that ran for `ran` seconds."""
        return Crashes(1 if ran >= STABLE else self.in_a_row + 1)

    @property
    def delay(self) -> float:
        """Seconds to wait before the next start."""
        if not self.in_a_row:
            return 0.0
        return backoff(self.in_a_row, base=FIRST_DELAY, cap=LONGEST_DELAY, jitter=0.0, least=1.0).total_seconds()
