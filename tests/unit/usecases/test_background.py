from collections.abc import Callable
from datetime import timedelta

import pytest

from anb_core.ports.runtime import LONGEST_CALL, Event
from anb_core.testing.clock import ManualClock
from anb_core.testing.runtime import ManualRuntime
from anb_core.usecases.background import background

PATIENCE = 30.0


class HangingThread:
    """A thread that never ends. `join` returns at once, and advances the clock by `timeout`."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def is_alive(self) -> bool:
        return True

    def join(self, timeout: float | None = None) -> None:
        assert timeout is not None, "this wait would never end"
        self._clock.advance(timedelta(seconds=timeout))


class HangingRuntime(ManualRuntime):
    """A runtime whose threads never end."""

    def start(self, name: str, run: Callable[[], None]) -> HangingThread:  # noqa: ARG002 - the loop is not run
        return HangingThread(self.clock)


@pytest.fixture
def runtime() -> ManualRuntime:
    return ManualRuntime(ManualClock())


def test_each_loop_runs_under_its_name_until_the_block_ends(runtime: ManualRuntime) -> None:
    stops: list[Event] = []

    def loop(stop: Event) -> None:
        stops.append(stop)
        stop.wait(PATIENCE)

    with background(runtime, {"relay": loop, "sweep": loop, "dead letters": loop}, wake=lambda: None):
        assert list(runtime.threads) == ["relay", "sweep", "dead letters"]
        assert all(thread.is_alive() for thread in runtime.threads.values())
        assert not any(stop.is_set() for stop in stops)
    assert not any(thread.is_alive() for thread in runtime.threads.values())


def test_a_loop_that_waits_for_something_else_is_woken_after_the_event_is_set(runtime: ManualRuntime) -> None:
    woken = runtime.event()
    stopped: list[bool] = []

    def loop(stop: Event) -> None:
        woken.wait(PATIENCE)
        stopped.append(stop.is_set())

    with background(runtime, {"relay": loop}, wake=woken.set):
        pass
    assert stopped == [True]


def test_an_error_in_the_block_also_ends_the_loops(runtime: ManualRuntime) -> None:
    def fail() -> None:
        with background(runtime, {"sweep": lambda stop: (stop.wait(PATIENCE), None)[1]}, wake=lambda: None):
            raise OSError("the port is taken")

    with pytest.raises(OSError, match="the port is taken"):
        fail()
    assert not runtime.threads["sweep"].is_alive()


def test_loops_that_hang_are_left_behind_after_ten_seconds_together() -> None:
    runtime = HangingRuntime(ManualClock())
    with background(runtime, {"relay": lambda _: None, "sweep": lambda _: None}, wake=lambda: None):
        assert runtime.monotonic() == 0
    assert runtime.monotonic() == LONGEST_CALL.total_seconds() == 10
