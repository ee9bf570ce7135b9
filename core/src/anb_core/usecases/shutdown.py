"""The order of a stop: first no more jobs, then an end to the one at hand."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog

from anb_core.domain.errors import Interrupted
from anb_core.ports.runtime import Runtime
from anb_core.ports.stop import Stop

_log = structlog.get_logger(__name__)


class Shutdown:
    """The first request stops receiving; the second one, or the end of the drain budget, hands the job at hand on."""

    def __init__(self, drain: timedelta, runtime: Runtime) -> None:
        self._drain = drain
        self._runtime = runtime
        self._stopping = runtime.event()
        self._hurried = runtime.event()
        self._lock = threading.Lock()
        self._at_hand: Stop | None = None
        self._drains = True

    def request(self, why: str) -> None:
        """Ask for a stop, or for a quicker one. Never waits. Not safe in a signal handler: it takes locks."""
        with self._lock:
            first = not self._stopping.is_set()
            if first:
                _log.info("stopping: no more jobs are begun", signal=why, drain_seconds=self._drain.total_seconds())
            (self._stopping if first else self._hurried).set()
            self._interrupt()
        if first:
            self._runtime.start("drain", self._end_the_drain)

    def stopping(self) -> bool:
        """Whether no more jobs may be begun."""
        return self._stopping.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for the stop, at most so long; True when it was asked for."""
        return self._stopping.wait(seconds)

    @contextmanager
    def interrupting(self, stop: Stop, *, drains: bool = True) -> Iterator[None]:
        """While the block runs, the end of the drain asks `stop` to end it.

        The first request to stop does already if the work need not finish (`drains` is false).
        """
        with self._lock:
            self._at_hand, self._drains = stop, drains
            self._interrupt()
        try:
            yield
        finally:
            with self._lock:
                self._at_hand = None

    def _end_the_drain(self) -> None:
        if not self._hurried.wait(self._drain.total_seconds()):
            self.request("the drain budget is used up")

    def _interrupt(self) -> None:
        over = self._hurried.is_set() or (self._stopping.is_set() and not self._drains)
        if over and self._at_hand is not None and not self._at_hand.asked:
            _log.warning("what is at hand is interrupted")
            self._at_hand.ask(Interrupted())
