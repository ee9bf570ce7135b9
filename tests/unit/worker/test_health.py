import threading
from datetime import timedelta
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Counter

from anb_core.adapters.system import SystemRuntime
from anb_core.domain.errors import Unavailable
from anb_core.testing.clock import ManualClock
from anb_core.testing.runtime import ManualRuntime
from anb_worker.health import Pulse, answer, one_at_a_time


def all_there() -> None:
    """A readiness check that always succeeds. The result None means that the check found no error."""


def test_a_worker_is_alive_while_it_beats_and_not_when_it_is_silent() -> None:
    clock, registry = ManualClock(), CollectorRegistry()
    pulse = Pulse(timedelta(seconds=140), ManualRuntime(clock))
    clock.advance(timedelta(seconds=139))
    assert answer("/healthz", pulse, registry, all_there)[0] is HTTPStatus.OK
    clock.advance(timedelta(seconds=1))
    status, _, body = answer("/healthz", pulse, registry, all_there)
    assert (status, body) == (HTTPStatus.SERVICE_UNAVAILABLE, b"no sign of life for 140 s\n")
    pulse.beat()
    assert answer("/healthz?verbose", pulse, registry, all_there)[0] is HTTPStatus.OK


def test_metrics_are_served_and_unknown_paths_are_not_found() -> None:
    registry = CollectorRegistry()
    Counter("anb_things", "Things.", registry=registry).inc()
    pulse = Pulse(timedelta(seconds=1), SystemRuntime())
    status, kind, body = answer("/metrics", pulse, registry, all_there)
    assert status is HTTPStatus.OK
    assert kind.startswith("text/plain")
    assert b"anb_things_total 1.0" in body
    assert answer("/", pulse, registry, all_there)[0] is HTTPStatus.NOT_FOUND


def test_a_worker_is_ready_while_it_may_take_work() -> None:
    pulse, registry = Pulse(timedelta(seconds=1), SystemRuntime()), CollectorRegistry()
    assert answer("/readyz", pulse, registry, all_there)[0] is HTTPStatus.OK
    away = Unavailable("database", "The database at secret.host can only be read.")
    status, _, body = answer("/readyz", pulse, registry, lambda: away)
    assert (status, body) == (HTTPStatus.SERVICE_UNAVAILABLE, b"the database does not answer\n")
    assert answer("/healthz", pulse, registry, lambda: away)[0] is HTTPStatus.OK


def test_requests_for_readiness_check_the_parts_one_at_a_time() -> None:
    met: list[bool] = []
    both = threading.Barrier(2)

    def ask() -> None:
        try:
            both.wait(0.2)
        except threading.BrokenBarrierError:
            met.append(False)
        else:
            met.append(True)

    missing = one_at_a_time(ask)
    threads = [threading.Thread(target=missing) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert met == [False, False]
