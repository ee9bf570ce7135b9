import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, within: float = 60.0, every: float = 0.02) -> T:
    """Call `condition` every `every` seconds until its result is truthy, and return that result.

    Raises:
        AssertionError: the result is still not truthy after `within` seconds.
    """
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {within} s; the last value was {value!r}")
        time.sleep(every)
    return value
