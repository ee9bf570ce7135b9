"""Tests that both runtimes must pass: the system runtime of the programs, and the manual runtime of unit tests."""

import threading
import time
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from anb_core.adapters.system import SystemRuntime
from anb_core.ports.runtime import Runtime, join_all
from anb_core.testing.clock import ManualClock
from anb_core.testing.runtime import ManualRuntime

PATIENCE = 30.0


@pytest.fixture(params=["system", "manual"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return SystemRuntime() if request.param == "system" else ManualRuntime(ManualClock())


def test_sleeping_takes_as_long_on_the_clock(runtime: Runtime) -> None:
    began = runtime.monotonic()
    runtime.sleep(0.01)
    assert runtime.monotonic() >= began + 0.01


def test_a_thread_that_was_started_runs_apart_under_its_name_and_can_be_waited_for(runtime: Runtime) -> None:
    seen: list[threading.Thread] = []
    thread = runtime.start("aside", lambda: seen.append(threading.current_thread()))
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert [each.name for each in seen] == ["aside"]
    assert seen != [threading.current_thread()]


def test_the_end_of_the_program_waits_for_no_thread(runtime: Runtime) -> None:
    daemons: list[bool] = []
    runtime.start("aside", lambda: daemons.append(threading.current_thread().daemon)).join(PATIENCE)
    assert daemons == [True]


def test_waiting_for_a_thread_is_over_in_time(runtime: Runtime) -> None:
    release = runtime.event()
    thread = runtime.start("aside", lambda: (release.wait(PATIENCE), None)[1])
    thread.join(0.01)
    assert thread.is_alive()
    release.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_waiting_for_several_threads_takes_no_longer_than_was_said(runtime: Runtime) -> None:
    release, began = runtime.event(), time.monotonic()
    threads = [runtime.start(f"aside {number}", lambda: (release.wait(PATIENCE), None)[1]) for number in range(2)]
    join_all(runtime, threads, within=timedelta(milliseconds=10))
    assert [thread.is_alive() for thread in threads] == [True, True]
    release.set()
    join_all(runtime, threads, within=timedelta(seconds=PATIENCE))
    assert [thread.is_alive() for thread in threads] == [False, False]
    assert time.monotonic() - began < PATIENCE


def test_an_event_wakes_those_that_wait_and_stays_set_until_it_is_cleared(runtime: Runtime) -> None:
    event, woken = runtime.event(), runtime.event()

    def wait() -> None:
        if event.wait(PATIENCE):
            woken.set()

    thread = runtime.start("aside", wait)
    assert not event.is_set()
    assert not event.wait(0)
    event.set()
    assert woken.wait(PATIENCE)
    assert event.wait(0)
    event.clear()
    assert not event.is_set()
    thread.join(PATIENCE)


def test_an_error_that_a_loop_survived_is_logged_with_its_traceback(runtime: Runtime) -> None:
    error = RuntimeError("a defect")
    with capture_logs() as logs:
        runtime.on_error("the relay", error, video_id="v1")
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("the relay failed, goes on", "error")
    assert (line["exc_info"], line["video_id"]) == (error, "v1")


def test_the_manual_runtime_keeps_the_errors_and_moves_only_its_own_clock() -> None:
    clock, error = ManualClock(), RuntimeError("a defect")
    runtime, began = ManualRuntime(clock), time.monotonic()
    runtime.sleep(3600)
    runtime.on_error("the relay", error)
    assert clock.monotonic() == 3600
    assert time.monotonic() - began < PATIENCE
    assert runtime.errors == [("the relay", error)]
