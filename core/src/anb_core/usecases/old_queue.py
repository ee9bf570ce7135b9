"""The old queue on the Celery broker. Workers empty it, while new messages go to the current queue on SQS.

Both queues are in use during a move from a Celery broker to SQS.
"""

import math
import random
from collections.abc import Callable
from datetime import timedelta

import structlog

from anb_core.domain.backoff import backoff
from anb_core.domain.errors import Unavailable
from anb_core.ports.queue import Delivery, Queue, QueueAdmin, QueueReceiver
from anb_core.ports.runtime import Event, Runtime

OLD_IN_A_ROW = 9
"""After this many messages from the old queue in a row, a worker once asks the current queue first.
So a program that still sends many messages to the old queue can't keep the workers from new work."""

LONGEST_POLL = timedelta(seconds=5)
"""Maximum duration of one long poll of the current queue. An idle worker receives a message from the old queue
after at most this time."""

FIRST_PAUSE = timedelta(seconds=2)
LONGEST_PAUSE = timedelta(minutes=1)
"""Maximum time for which a worker does not ask an old queue that did not answer.
A call to such a queue may take seconds, in which the worker receives no new work."""

WATCH_INTERVAL = timedelta(seconds=10)
"""Time between two readings of the old queue's depth."""

_log = structlog.get_logger(__name__)


class BothQueues:
    """Receives from the old queue first, because its messages are the oldest, then from the current queue.

    Implements `anb_core.ports.queue.QueueReceiver`. Only one thread may call `receive`.
    While one of the queues does not answer, messages of the other queue are still received.
    """

    def __init__(
        self,
        current: QueueReceiver,
        old: Queue,
        *,
        runtime: Runtime,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._current = current
        self._old = old
        self._runtime = runtime
        self._jitter = jitter
        self._old_in_a_row = 0
        self._failures = 0
        self._paused_until = runtime.monotonic()

    def receive(self, *, wait: timedelta) -> Delivery | None:
        """Receive a message. The long poll of the current queue takes at most LONGEST_POLL.

        Raises:
            Unavailable: the current queue does not answer, and the old queue has no message or does not answer.
        """
        delivery = None
        if self._old_in_a_row >= OLD_IN_A_ROW:
            self._old_in_a_row = 0
            delivery = self._receive_current_now()
        if delivery is None:
            delivery = self._receive_old_now()
        return delivery or self._current.receive(wait=min(wait, LONGEST_POLL))

    def delete(self, delivery: Delivery) -> None:
        self._from(delivery).delete(delivery)

    def give_back(self, delivery: Delivery, *, pause: timedelta = timedelta(0)) -> None:
        self._from(delivery).give_back(delivery, pause=pause)

    def extend(self, delivery: Delivery, *, visibility: timedelta) -> None:
        self._from(delivery).extend(delivery, visibility=visibility)

    def _from(self, delivery: Delivery) -> QueueReceiver:
        return self._old if delivery.queue == self._old.name else self._current

    def _receive_current_now(self) -> Delivery | None:
        try:
            return self._current.receive(wait=timedelta(0))
        except Unavailable:
            # Go on with the old queue, which has messages. The next long poll of the current queue reports the outage.
            return None

    def _receive_old_now(self) -> Delivery | None:
        if self._runtime.monotonic() < self._paused_until:
            return None
        try:
            delivery = self._old.receive(wait=timedelta(0))
        except Unavailable as error:
            self._pause(error)
            return None
        if self._failures:
            _log.info("receiving from the old queue again", queue=self._old.name)
        self._failures = 0
        self._old_in_a_row = self._old_in_a_row + 1 if delivery else 0
        return delivery

    def _pause(self, error: Unavailable) -> None:
        self._failures += 1
        pause = backoff(self._failures, base=FIRST_PAUSE, cap=LONGEST_PAUSE, jitter=self._jitter()).total_seconds()
        self._paused_until = self._runtime.monotonic() + pause
        _log.warning("not receiving from the old queue", reason=error.message, again_in=round(pause, 1))


class WatchOldQueue:
    """Counts the messages in the old queue regularly, and logs when the queue becomes empty or gets messages again.

    `show` is called with each count, or with NaN if the queue does not answer.
    """

    def __init__(self, old: QueueAdmin, *, show: Callable[[float], None], runtime: Runtime) -> None:
        self._old = old
        self._show = show
        self._runtime = runtime
        self._was_empty: bool | None = None

    def run(self, stop: Event) -> None:
        """Read the depth once per WATCH_INTERVAL until `stop` is set."""
        while True:
            try:
                self.read()
            except Exception as error:  # noqa: BLE001 - reported; the thread must not end
                self._runtime.on_error("watching the old queue", error)
            if stop.wait(WATCH_INTERVAL.total_seconds()):
                return

    def read(self) -> None:
        """Read the depth once."""
        try:
            depth = self._old.depth()
        except Unavailable:
            # `BothQueues` and the sweep already log the outage.
            self._show(math.nan)
            return
        self._show(depth.visible + depth.in_flight + depth.delayed)
        if depth.empty != self._was_empty:
            self._was_empty = depth.empty
            message = "the old queue is empty" if depth.empty else "the old queue has messages"
            _log.info(message, queue=self._old.name, waiting=depth.visible, in_flight=depth.in_flight)
