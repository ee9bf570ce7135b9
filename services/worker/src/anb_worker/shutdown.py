"""The order of a stop: first no more jobs, then an end to the one at hand."""

import contextlib
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog

from anb_core.domain.errors import Interrupted
from anb_core.ports.stop import Stop

_log = structlog.get_logger(__name__)


class Shutdown:
    """The first signal stops receiving; the second one, or the end of the drain budget, hands the job at hand on."""

    def __init__(self, drain: timedelta) -> None:
        self._drain = drain
        # A handler may interrupt its own thread while that holds a lock of an Event or Queue: SimpleQueue has none.
        self._signals: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._hurried = False
        self._at_hand: Stop | None = None
        self._drains = True

    def install(self) -> None:
        """Take SIGTERM and SIGINT for this process. Main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _frame: self.request(signal.Signals(number).name))
        threading.Thread(target=self.run, name="shutdown", daemon=True).start()

    def request(self, why: str) -> None:
        """Ask for a stop, or for a quicker one. Safe in a signal handler."""
        self._signals.put(why)

    def stopping(self) -> bool:
        """Whether no more jobs may be begun."""
        return self._stopping.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for the stop, at most so long; True when it was asked for."""
        return self._stopping.wait(seconds)

    @contextmanager
    def interrupting(self, stop: Stop, *, drains: bool = True) -> Iterator[None]:
        """While the block runs, the end of the drain asks `stop`; the first signal does if the work need not finish."""
        with self._lock:
            self._at_hand, self._drains = stop, drains
            self._interrupt()
        try:
            yield
        finally:
            with self._lock:
                self._at_hand = None

    def run(self) -> None:
        """Wait for a signal, then see the stop through; returns once the job at hand was told to end."""
        why = self._signals.get()
        _log.info("stopping: no more jobs are begun", signal=why, drain_seconds=self._drain.total_seconds())
        with self._lock:
            self._stopping.set()
            self._interrupt()
        with contextlib.suppress(queue.Empty):
            self._signals.get(timeout=self._drain.total_seconds())
        with self._lock:
            self._hurried = True
            self._interrupt()

    def _interrupt(self) -> None:
        over = self._hurried or (self._stopping.is_set() and not self._drains)
        if over and self._at_hand is not None:
            _log.warning("what is at hand is interrupted")
            self._at_hand.ask(Interrupted())
