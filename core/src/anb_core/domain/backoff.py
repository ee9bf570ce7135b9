"""Exponential backoff with jitter: how long to wait before the next try."""

from datetime import timedelta

MOST_DOUBLINGS = 20
"""Maximum exponent. A larger exponent would overflow a timedelta, and every cap is reached with a smaller exponent."""


def backoff(failures: int, *, base: timedelta, cap: timedelta, jitter: float, least: float = 0.5) -> timedelta:
    """Return the delay after `failures` failures in a row. `failures` is at least 1.

    The longest delay is `base` after one failure. It doubles with every further failure, up to `cap`.
    The shortest delay is `least` times the longest delay.
    `jitter`, a random number from [0, 1), picks a delay between the shortest delay and the longest delay.
    With `least` = 0, callers that failed at the same time try again at widely different times.
    With `least` = 0.5, every caller waits at least half of the longest delay.
    """
    longest = min(cap, base * float(2 ** min(failures - 1, MOST_DOUBLINGS)))
    return longest * (least + (1 - least) * jitter)
