"""When a child that died is started again. Pure: times are seconds, the caller looks at the clock."""

from dataclasses import dataclass
from datetime import timedelta

from anb_core.domain.backoff import backoff

FIRST_DELAY = timedelta(seconds=0.5)
"""Long enough not to spin, short enough not to be noticed."""

LONGEST_DELAY = timedelta(seconds=30)
"""A child that cannot live is tried for ever, but costs next to nothing."""

STABLE = 30.0
"""One that lived so long was well: its next death is a first one again."""


@dataclass(frozen=True, slots=True)
class Deaths:
    """How often a child died in a row, each time before it was stable."""

    in_a_row: int = 0

    def after(self, lived: float) -> "Deaths":
        """It died again, having lived so many seconds."""
        return Deaths(1 if lived >= STABLE else self.in_a_row + 1)

    @property
    def delay(self) -> float:
        """How long to wait before it is started again."""
        if not self.in_a_row:
            return 0.0
        return backoff(self.in_a_row, base=FIRST_DELAY, cap=LONGEST_DELAY, jitter=0.0, least=1.0).total_seconds()
