import threading

import pytest

from anb_core.domain.errors import Interrupted, LeaseLost, Transient
from anb_core.ports.stop import Stop
from anb_worker.render.beside import Beside
from tests.support.waiting import eventually


def test_work_runs_in_another_thread_while_the_caller_goes_on() -> None:
    go_on, threads = threading.Event(), []

    def work(_: Stop) -> None:
        assert go_on.wait(10)
        threads.append(threading.current_thread())

    with Beside(Stop(), alone=False) as beside:
        finish = beside.start(work)
        go_on.set()
        finish()

    assert threads != [threading.current_thread()]
    assert not threads[0].is_alive()


def test_works_run_one_after_another() -> None:
    order: list[str] = []
    first_runs, second_is_there = threading.Event(), threading.Event()

    def first(_: Stop) -> None:
        first_runs.set()
        assert second_is_there.wait(10)
        order.append("first")

    with Beside(Stop(), alone=False) as beside:
        beside.start(first)
        assert first_runs.wait(10)
        finish = beside.start(lambda _: order.append("second"))
        second_is_there.set()
        finish()

    assert order == ["first", "second"]


def test_with_one_processor_the_work_waits_until_its_result_is_needed() -> None:
    threads: list[threading.Thread] = []

    with Beside(Stop(), alone=True) as beside:
        finish = beside.start(lambda _: threads.append(threading.current_thread()))
        assert threads == []
        finish()

    assert threads == [threading.current_thread()]


@pytest.mark.parametrize("alone", [True, False])
def test_the_error_of_the_work_is_raised_where_its_result_is_needed(*, alone: bool) -> None:
    def work(_: Stop) -> None:
        raise Transient("killed", "the child was killed")

    with Beside(Stop(), alone=alone) as beside:
        finish = beside.start(work)
        with pytest.raises(Transient, match="the child was killed"):
            finish()


def wait_for_stop(stop: Stop, running: threading.Event) -> None:
    running.set()
    eventually(lambda: stop.asked, within=10)
    stop.check()


def test_a_stop_request_ends_the_work_with_the_requested_error() -> None:
    stop, running = Stop(), threading.Event()

    with Beside(stop, alone=False) as beside:
        finish = beside.start(lambda own: wait_for_stop(own, running))
        assert running.wait(10)
        stop.ask(LeaseLost())
        with pytest.raises(LeaseLost):
            finish()


def test_an_error_of_the_caller_ends_running_work_and_starts_no_other() -> None:
    running, begun, errors = threading.Event(), [], []

    def work(own: Stop) -> None:
        try:
            wait_for_stop(own, running)
        except Interrupted as error:
            errors.append(error)

    def fail() -> None:
        with Beside(Stop(), alone=False) as beside:
            beside.start(work)
            beside.start(lambda _: begun.append("second"))
            assert running.wait(10)
            raise LookupError("the caller's own")

    with pytest.raises(LookupError, match="the caller's own"):
        fail()
    assert len(errors) == 1
    assert begun == []
