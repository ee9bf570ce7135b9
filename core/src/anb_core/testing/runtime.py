"""A runtime for tests, whose clock moves only when a test or a sleep advances the clock."""

from collections.abc import Callable
from datetime import timedelta

from anb_core.adapters.system import SystemRuntime
from anb_core.ports.runtime import Thread
from anb_core.testing.clock import ManualClock


class ManualRuntime(SystemRuntime):
    """A `Runtime` on a `ManualClock`. Sleeping advances the clock and returns at once.

    Threads and events are real. The timeout of an event is in real seconds.
    `errors` lists the errors that were reported to `on_error`, in order.
    `threads` maps names to started threads.
    `during_sleep` is called in each sleep, after the clock was advanced.
    """

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.errors: list[tuple[str, Exception]] = []
        self.threads: dict[str, Thread] = {}
        self.during_sleep: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        return self.clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))
        self.during_sleep()

    def start(self, name: str, run: Callable[[], None]) -> Thread:
        self.threads[name] = super().start(name, run)
        return self.threads[name]

    def on_error(self, where: str, error: Exception, **about: object) -> None:
        super().on_error(where, error, **about)
        self.errors.append((where, error))
