"""How long to wait before the next try of something that failed."""

from datetime import timedelta

MOST_DOUBLINGS = 20
"""Every cap is reached before; more would overflow a timedelta."""


def backoff(failures: int, *, base: timedelta, cap: timedelta, jitter: float, least: float = 0.5) -> timedelta:
    """The wait after `failures` in a row, at least 1: `base` doubled with every further one, at most `cap`, and spread.

    `jitter` is drawn by the caller from [0, 1). It picks a share between `least` and all of the wait: 0 spreads those
    that failed together best, 0.5 makes sure that everybody waits.
    """
    longest = min(cap, base * float(2 ** min(failures - 1, MOST_DOUBLINGS)))
    return longest * (least + (1 - least) * jitter)
