"""Time, threads, and errors that a loop survives. The program decides what stands behind them.

The use cases take them from here alone, so that all of them can also run on one thread, one step at a time.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Protocol


class Event(Protocol):
    """A flag that threads can wait for, such as `threading.Event`."""

    def is_set(self) -> bool: ...

    def set(self) -> None: ...

    def clear(self) -> None: ...

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is set, for at most `timeout` seconds (None: without limit); True if it is set."""
        ...


class Thread(Protocol):
    """A thread that was started, such as `threading.Thread`."""

    def is_alive(self) -> bool: ...

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, for at most `timeout` seconds (None: without limit)."""
        ...


class Runtime(Protocol):
    """What a use case needs from the program that runs it."""

    def monotonic(self) -> float:
        """Seconds on a clock that never steps back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let only the calling thread wait."""
        ...

    def event(self) -> Event:
        """A new flag, not set."""
        ...

    def start(self, name: str, run: Callable[[], None]) -> Thread:
        """Call `run` in a new thread. The end of the program does not wait for it."""
        ...

    def on_error(self, where: str, error: Exception, **about: object) -> None:
        """Report an unexpected error that a loop survived. `where` names the loop, `about` is what it worked on.

        Every loop that goes on after any error calls this, in the `except` block. It may raise, which ends the loop.
        """
        ...


def join_all(runtime: Runtime, threads: Iterable[Thread], *, within: timedelta) -> None:
    """Wait until all have ended, or the time is over."""
    until = runtime.monotonic() + within.total_seconds()
    for thread in threads:
        thread.join(max(0.0, until - runtime.monotonic()))
