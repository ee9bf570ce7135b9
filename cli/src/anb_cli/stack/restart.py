"""When a child that died is started again. Pure: times are seconds, the caller looks at the clock."""

from dataclasses import dataclass

FIRST_DELAY = 0.5
"""Long enough not to spin, short enough not to be noticed."""

LONGEST_DELAY = 30.0
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
        # Beyond 2^10 the cap holds anyway.
        return 0.0 if not self.in_a_row else min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self.in_a_row - 1, 10))
