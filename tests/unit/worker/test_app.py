import errno
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from anb_core.adapters.system import SystemRuntime
from anb_core.domain.errors import Transient, Unavailable
from anb_core.ports.queue import Delivery
from anb_core.ports.stop import Stop
from anb_core.testing.clock import ManualClock
from anb_core.testing.runtime import ManualRuntime
from anb_core.usecases.report import Outcome, Report
from anb_core.usecases.shutdown import Shutdown
from anb_worker.app import prepare_first, reported
from anb_worker.health import Pulse
from anb_worker.metrics import Metrics


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def pulse(clock: ManualClock) -> Pulse:
    return Pulse(timedelta(seconds=140), ManualRuntime(clock))


@pytest.fixture
def shutdown() -> Shutdown:
    return Shutdown(timedelta(seconds=120), SystemRuntime())


def test_a_worker_lives_while_it_prepares_however_long_that_takes(
    clock: ManualClock, pulse: Pulse, shutdown: Shutdown
) -> None:
    alive = []

    def prepare(stop: Stop) -> None:
        for _ in range(10):
            clock.advance(timedelta(seconds=100))
            stop.check()
            alive.append(pulse.alive())

    prepare_first(prepare, shutdown, pulse.beat)
    assert alive == [True] * 10


def test_a_preparation_that_hangs_is_no_sign_of_life(clock: ManualClock, pulse: Pulse, shutdown: Shutdown) -> None:
    prepare_first(lambda _: clock.advance(timedelta(seconds=140)), shutdown, pulse.beat)
    assert not pulse.alive()


@pytest.mark.parametrize(
    "error", [Transient("child_failed", "The cards can't be composed."), OSError(errno.ENOSPC, "no space left")]
)
def test_a_preparation_may_fail_and_the_log_says_why(pulse: Pulse, shutdown: Shutdown, error: Exception) -> None:
    def fail(_: Stop) -> None:
        raise error

    with capture_logs() as logs:
        prepare_first(fail, shutdown, pulse.beat)
    assert [(line["event"], line["log_level"], line["reason"]) for line in logs] == [
        ("the preparation for the first job failed", "warning", str(error))
    ]
    assert not shutdown.stopping()


def test_a_preparation_ends_when_it_is_asked_to(pulse: Pulse, shutdown: Shutdown) -> None:
    checked = []

    def prepare(stop: Stop) -> None:
        stop.check()
        checked.append(stop)

    shutdown.request("SIGTERM")
    prepare_first(prepare, shutdown, pulse.beat)
    assert not checked


def test_each_delivery_is_counted_and_logged_and_only_an_outage_is_raised_to_the_loop() -> None:
    metrics, delivery, away = Metrics(), Delivery("m", "{}", "handle", "queue"), Unavailable("database", "It is away.")
    reports = [Report(Outcome.PROCESSED, "m"), Report(Outcome.GIVEN_BACK, "m", unavailable=away)]
    handle = reported(lambda _delivery, _stop: reports.pop(0), metrics)

    with capture_logs() as logs:
        handle(delivery, Stop())
        with pytest.raises(Unavailable) as raised:
            handle(delivery, Stop())

    assert raised.value is away
    assert [line["outcome"] for line in logs] == ["processed", "given_back"]
    counted = [
        metrics.registry.get_sample_value("anb_worker_deliveries_total", {"outcome": outcome})
        for outcome in (Outcome.PROCESSED, Outcome.GIVEN_BACK)
    ]
    assert counted == [1, 1]
