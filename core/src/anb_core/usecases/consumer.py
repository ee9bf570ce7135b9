"""The loop that receives and handles messages, one at a time. No received message has to wait for another one."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Protocol

import structlog

from anb_core.domain.errors import Unavailable
from anb_core.domain.retry import plan_return
from anb_core.ports.queue import Delivery, QueueReceiver
from anb_core.ports.runtime import Runtime
from anb_core.ports.stop import Stop
from anb_core.usecases.gate import Gate

_log = structlog.get_logger(__name__)

Handler = Callable[[Delivery, Stop], None]
"""Function that handles one delivery, and deletes the message or returns it to the queue.

Another thread can end the function early through its argument `Stop`.
The function raises Unavailable if an outage of the database, bucket or queue prevented the commit of the outcome.
The loop then waits before it receives the next message.
"""


class Stopping(Protocol):
    """Says when the loop has to end. `Shutdown` and `StopOnEvent` implement this protocol."""

    def stopping(self) -> bool: ...

    def wait(self, seconds: float) -> bool: ...

    def interrupting(self, stop: Stop) -> AbstractContextManager[None]: ...


class Consumer:
    """Receives and handles messages until the shutdown. The loop calls `beat` before each message.

    `pause` returns how long a message that came after the signal stays invisible, from the message's age.
    """

    def __init__(
        self,
        queue: QueueReceiver,
        handle: Handler,
        *,
        gate: Gate,
        shutdown: Stopping,
        wait: timedelta,
        runtime: Runtime,
        pause: Callable[[timedelta | None], timedelta] = plan_return,
        beat: Callable[[], None] = lambda: None,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._queue = queue
        self._handle = handle
        self._gate = gate
        self._shutdown = shutdown
        self._wait = wait
        self._runtime = runtime
        self._pause = pause
        self._beat = beat
        self._on_step = on_step

    def run(self) -> None:
        """Run the loop until the shutdown. An error while one message is handled does not end the loop."""
        while not self._shutdown.stopping():
            self._beat()
            try:
                self._turn()
            except Unavailable as error:
                self._gate.back_off(error)
            except Exception as error:  # noqa: BLE001 - reported; one bad turn must not end the program
                # SQS delivers the message again later, or moves it to the dead-letter queue after too many receipts.
                self._runtime.on_error("a turn of the loop", error)
                self._shutdown.wait(1.0)

    def _turn(self) -> None:
        if not self._gate.passes() or self._shutdown.stopping():
            return
        self._on_step("receive")
        delivery = self._queue.receive(wait=self._wait)
        if delivery is not None and self._shutdown.stopping():
            # The shutdown began during the long poll. Return the message, so that another worker receives it soon.
            self._queue.give_back(delivery, pause=self._pause(delivery.age))
            _log.info("a message that came after the signal was given back", message_id=delivery.message_id)
            return
        if delivery is not None:
            stop = Stop()
            with self._shutdown.interrupting(stop):
                self._handle(delivery, stop)
        self._gate.succeeded()
