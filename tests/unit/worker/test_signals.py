import signal
from collections.abc import Iterator
from datetime import timedelta

import pytest

from anb_core.adapters.system import SystemRuntime
from anb_core.ports.stop import Stop
from anb_core.usecases.shutdown import Shutdown
from anb_worker.signals import stop_on_signals
from tests.support import eventually


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Restore pytest's own signal handlers after the test."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_a_stop_and_a_second_one_for_a_quicker_one(number: signal.Signals) -> None:
    shutdown, stop = Shutdown(timedelta(hours=1), SystemRuntime()), Stop()
    stop_on_signals(shutdown)
    with shutdown.interrupting(stop):
        signal.raise_signal(number)
        assert shutdown.wait(30)
        assert not stop.asked
        signal.raise_signal(number)
        eventually(lambda: stop.asked)
