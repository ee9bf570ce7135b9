"""The loop: a message is taken only when its job can begin at once, one job at a time."""

from collections.abc import Callable
from datetime import timedelta

import structlog

from anb_core.domain.errors import Unavailable
from anb_core.domain.retry import plan_return
from anb_core.ports.queue import Delivery, QueueReceiver
from anb_core.ports.stop import Stop
from anb_core.usecases.report import Report
from anb_worker.gate import Gate
from anb_worker.shutdown import Shutdown

_log = structlog.get_logger(__name__)


class Consumer:
    """Receives and handles until the shutdown. `on_report` hears of every delivery, `beat` of every turn."""

    def __init__(
        self,
        queue: QueueReceiver,
        handle: Callable[[Delivery, Stop], Report],
        *,
        gate: Gate,
        shutdown: Shutdown,
        wait: timedelta,
        on_report: Callable[[Report], None],
        beat: Callable[[], None] = lambda: None,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._queue = queue
        self._handle = handle
        self._gate = gate
        self._shutdown = shutdown
        self._wait = wait
        self._on_report = on_report
        self._beat = beat
        self._on_step = on_step

    def run(self) -> None:
        """Turn until the shutdown; what goes wrong in one turn does not end the loop."""
        while not self._shutdown.stopping():
            self._beat()
            try:
                self._turn()
            except Unavailable as error:
                self._gate.away(error)
            except Exception:  # noqa: BLE001 - logged; one bad turn must not end the worker
                # Its message comes again after the visibility timeout, and is a dead letter if it is to blame.
                _log.exception("a turn of the loop failed, goes on")
                self._shutdown.wait(1.0)

    def _turn(self) -> None:
        if not self._gate.passes() or self._shutdown.stopping():
            return
        self._on_step("receive")
        delivery = self._queue.receive(wait=self._wait)
        if delivery is None:
            self._gate.all_well()
            return
        if self._shutdown.stopping():
            # A long poll may return after the signal; kept, its message would be stranded until the visibility timeout.
            self._queue.give_back(delivery, pause=plan_return(delivery.age))
            _log.info("a message that came after the signal was given back", message_id=delivery.message_id)
            return
        stop = Stop()
        with self._shutdown.interrupting(stop):
            report = self._handle(delivery, stop)
        self._on_report(report)
        if report.unavailable is not None:
            self._gate.away(report.unavailable)
        else:
            self._gate.all_well()
