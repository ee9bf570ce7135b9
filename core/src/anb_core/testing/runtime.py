"""A runtime for tests. Only tests and sleeps advance its clock."""

from collections.abc import Callable
from datetime import timedelta

from anb_core.adapters.system import SystemRuntime
from anb_core.ports.runtime import Thread
from anb_core.testing.clock import ManualClock


class ManualRuntime(SystemRuntime):
    """A `Runtime` on a `ManualClock`. `sleep` advances the clock and returns at once.

    Threads and events are real. A timeout of an event is measured in real time.
    `errors` lists the errors that `on_error` got, in order.
    `threads` maps the name of each started thread to the thread.
    Each call of `sleep` calls `during_sleep` after it has advanced the clock.
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
