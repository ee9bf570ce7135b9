import math
from collections.abc import Iterator

import pytest
from greenlet import GreenletExit

from tests.simulation.scheduler import Process, Runtime, Scheduler


class Programs:
    """A scheduler, and what its threads did."""

    def __init__(self) -> None:
        self.scheduler = Scheduler()
        self.done: list[tuple[str, float]] = []

    def note(self, what: str) -> None:
        self.done.append((what, self.scheduler.now))

    def sleeper(self, name: str, *seconds: float, process: Process | None = None) -> Process:
        """Add a process that sleeps several times. It notes each end of a sleep."""
        process = process or Process(name)

        def run() -> None:
            for pause in seconds:
                self.scheduler.wait(pause)
                self.note(name)

        self.scheduler.start(process, name, run)
        return process

    def run(self, until: float = 100.0) -> list[tuple[str, float]]:
        self.scheduler.run(until, lambda: False)
        return self.done


@pytest.fixture
def programs() -> Iterator[Programs]:
    made = Programs()
    yield made
    made.scheduler.close()


def test_time_passes_only_while_all_threads_wait(programs: Programs) -> None:
    programs.sleeper("a", 3, 3)
    programs.sleeper("b", 5)
    assert programs.run() == [("a", 3), ("b", 5), ("a", 6)]


def test_threads_that_are_ready_at_the_same_time_run_in_turn(programs: Programs) -> None:
    programs.sleeper("a", 0, 0)
    programs.sleeper("b", 0, 0)
    assert [name for name, _ in programs.run()] == ["a", "b", "a", "b"]


def test_a_thread_that_a_thread_starts_does_not_end_with_it(programs: Programs) -> None:
    process = Process("a")

    def run() -> None:
        programs.sleeper("b", 1, 1, process=process)

    programs.scheduler.start(process, "a", run)
    assert programs.run() == [("b", 1), ("b", 2)]


def test_a_run_ends_when_it_is_done(programs: Programs) -> None:
    programs.sleeper("a", 1, 1, 1)
    assert programs.scheduler.run(100, lambda: len(programs.done) == 2)
    assert programs.scheduler.now == 2


def test_a_run_ends_at_its_time(programs: Programs) -> None:
    programs.sleeper("a", 1, 50)
    assert not programs.scheduler.run(10, lambda: False)
    assert programs.done == [("a", 1)]
    assert programs.scheduler.now == 10


def test_the_threads_of_a_dead_process_do_nothing_more(programs: Programs) -> None:
    process = programs.sleeper("a", 1, 1, 1)
    programs.sleeper("also a", 1, 1, 1, process=process)

    def kill() -> None:
        programs.scheduler.wait(1.5)
        programs.scheduler.die(process)
        programs.note("killed")

    programs.scheduler.start(Process("killer"), "killer", kill)
    assert programs.run() == [("a", 1), ("also a", 1), ("killed", 1.5)]


def test_a_thread_that_kills_its_own_process_does_not_go_on(programs: Programs) -> None:
    process = Process("a")

    def run() -> None:
        try:
            programs.scheduler.die(process)
            programs.note("goes on")
        finally:
            programs.note("cleans up")

    programs.scheduler.start(process, "a", run)
    assert programs.run() == []


def test_after_the_end_a_thread_can_only_end(programs: Programs) -> None:
    def run() -> None:
        try:
            programs.scheduler.wait(None)
        finally:
            with pytest.raises(GreenletExit):
                programs.scheduler.wait(1.0)
            programs.note("ended")

    programs.scheduler.start(Process("a"), "a", run)
    programs.run()
    programs.scheduler.close()
    assert programs.done == [("ended", 100)]


def test_a_frozen_process_runs_when_it_thaws(programs: Programs) -> None:
    programs.sleeper("a", 1, 1).frozen_until = 10
    programs.sleeper("b", 3)
    assert programs.run() == [("b", 3), ("a", 11), ("a", 12)]


def test_processes_stand_still_while_time_is_skipped(programs: Programs) -> None:
    programs.sleeper("a", 1, 1)
    programs.scheduler.run(1, lambda: False)
    programs.scheduler.skip(50)
    assert programs.run() == [("a", 1), ("a", 51)]


def test_an_event_ends_a_wait_and_a_timeout_too(programs: Programs) -> None:
    process = Process("a")
    runtime = Runtime(programs.scheduler, process, [])
    event = runtime.event()

    def wait() -> None:
        programs.note(f"set: {event.wait(2)}")
        programs.note(f"set: {event.wait(20)}")
        event.clear()
        programs.note(f"set: {event.is_set()}")

    def set_it() -> None:
        runtime.sleep(5)
        event.set()

    def join() -> None:
        thread.join()
        programs.note(f"alive: {thread.is_alive()}")

    thread = runtime.start("wait", wait)
    runtime.start("set", set_it)
    runtime.start("join", join)
    assert programs.run() == [("set: False", 2), ("set: True", 5), ("set: False", 5), ("alive: False", 5)]
    assert runtime.monotonic() == 100


def test_a_thread_may_wait_for_a_time_that_another_thread_changes(programs: Programs) -> None:
    due = math.inf

    def wait() -> None:
        programs.scheduler.wait(None, lambda: due)
        programs.note("due")

    def change() -> None:
        nonlocal due
        programs.scheduler.wait(1)
        due = 7.0

    programs.scheduler.start(Process("a"), "a", wait)
    programs.scheduler.start(Process("b"), "b", change)
    assert programs.run() == [("due", 7)]
