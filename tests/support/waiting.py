import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, within: float = 60.0, every: float = 0.02) -> T:
    """Call `condition` repeatedly, with pauses of `every` seconds, and return its first truthy result.

    Raises:
        AssertionError: `condition` returned no truthy result within `within` seconds.
    """
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {within} s; the last value was {value!r}")
        time.sleep(every)
    return value
