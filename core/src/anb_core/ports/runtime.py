"""Time, threads, and reports of errors that do not end a loop. Each program provides an implementation.

The use cases use only these protocols, so that tests can run all of them in one thread, step by step.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Protocol

LONGEST_CALL = timedelta(seconds=10)
"""Maximum wait for the calls in progress of threads that were asked to end."""


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
        """Return the time of a monotonic clock, in seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let the calling thread sleep."""
        ...

    def event(self) -> Event:
        """Return a new flag that is not set."""
        ...

    def start(self, name: str, run: Callable[[], None]) -> Thread:
        """Call `run` in a new daemon thread with the given name."""
        ...

    def on_error(self, where: str, error: Exception, **about: object) -> None:
        """Report an unexpected error after which a loop continues.

        `where` names the loop. `about` has fields for the log, such as the id of a video.
        Every loop of a thread that continues after any error calls this method in its `except` block.
        The method may raise an error, which ends the loop.
        The asyncio loops of the operator do not use this method: they report errors to the operator's health and log.
        """
        ...


def join_all(runtime: Runtime, threads: Iterable[Thread], *, within: timedelta = LONGEST_CALL) -> None:
    """Wait until all threads have ended. `within` is the maximum time for all threads together."""
    until = runtime.monotonic() + within.total_seconds()
    for thread in threads:
        thread.join(max(0.0, until - runtime.monotonic()))
