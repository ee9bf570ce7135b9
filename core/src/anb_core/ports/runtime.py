"""Time, threads and error reports, as protocols. Each program provides an implementation.

The use cases use time and threads only through protocols, so that tests can run use cases in one thread.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Protocol

LONGEST_CALL = timedelta(seconds=10)
"""When threads have to end, they get at most this time to finish their current calls."""


class Event(Protocol):
    """A flag that threads can wait for, like `threading.Event`."""

    def is_set(self) -> bool: ...

    def set(self) -> None: ...

    def clear(self) -> None: ...

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is set, for at most `timeout` seconds (None for no limit). Returns whether it is set."""
        ...


class Thread(Protocol):
    """A thread that was started, like `threading.Thread`."""

    def is_alive(self) -> bool: ...

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended, for at most `timeout` seconds (None for no limit)."""
        ...


class Runtime(Protocol):
    """Time, threads and error reports of the program that runs a use case."""

    def monotonic(self) -> float:
        """Return the time of a clock that never goes back, in seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block the calling thread for `seconds` seconds."""
        ...

    def event(self) -> Event:
        """Return a new flag that is not set."""
        ...

    def start(self, name: str, run: Callable[[], None]) -> Thread:
        """Call `run` in a new daemon thread with the given name."""
        ...

    def on_error(self, where: str, error: Exception, **about: object) -> None:
        """Report an unexpected error in a thread's loop. The loop continues, unless `on_error` raises an error.

        `where` is the name of the loop. `about` has fields for the log line, such as the id of a video.
        The asyncio loops of the Kubernetes operator do not use this method. The operator's health shows their errors.
        """
        ...


def join_all(runtime: Runtime, threads: Iterable[Thread], *, within: timedelta = LONGEST_CALL) -> None:
    """Wait until all threads have ended. `within` is the maximum time for all threads together."""
    until = runtime.monotonic() + within.total_seconds()
    for thread in threads:
        thread.join(max(0.0, until - runtime.monotonic()))
