"""The shutdown of a worker. At first the worker begins no new job. After the drain time its job is interrupted."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta

import structlog

from anb_core.domain.errors import Interrupted
from anb_core.ports.runtime import Event, Runtime
from anb_core.ports.stop import Stop

_log = structlog.get_logger(__name__)


class Shutdown:
    """Stops a worker. After the first request, the worker receives no more messages, but may finish its current job.

    A second request, or the end of the drain time, interrupts the current job. Another worker then tries the job again.
    """

    def __init__(self, drain: timedelta, runtime: Runtime) -> None:
        self._drain = drain
        self._runtime = runtime
        self._stopping = runtime.event()
        self._hurried = runtime.event()
        self._lock = threading.Lock()
        self._current: Stop | None = None
        self._drains = True

    def request(self, why: str) -> None:
        """Request a shutdown. The second call interrupts the current job. Never blocks for long.

        Do not call this method in a signal handler, because the method takes a lock.
        """
        with self._lock:
            first = not self._stopping.is_set()
            if first:
                _log.info("stopping: no more jobs are begun", signal=why, drain_seconds=self._drain.total_seconds())
            (self._stopping if first else self._hurried).set()
            self._interrupt()
        if first:
            self._runtime.start("drain", self._end_the_drain)

    def stopping(self) -> bool:
        """Return whether a shutdown was requested. After a request, the worker must not begin a new job."""
        return self._stopping.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for a shutdown request. Returns whether a shutdown was requested."""
        return self._stopping.wait(seconds)

    @contextmanager
    def interrupting(self, stop: Stop, *, drains: bool = True) -> Iterator[None]:
        """Let a shutdown interrupt the work in the `with` block. The shutdown calls `stop.ask`.

        If `drains` is True, the work is interrupted at the end of the drain time, or at the second shutdown request.
        If `drains` is False, the work is interrupted at the first shutdown request.
        """
        with self._lock:
            self._current, self._drains = stop, drains
            self._interrupt()
        try:
            yield
        finally:
            with self._lock:
                self._current = None

    def _end_the_drain(self) -> None:
        if not self._hurried.wait(self._drain.total_seconds()):
            self.request("the drain budget is used up")

    def _interrupt(self) -> None:
        is_over = self._hurried.is_set() or (self._stopping.is_set() and not self._drains)
        if is_over and self._current is not None and not self._current.asked:
            _log.warning("the current work is interrupted")
            self._current.ask(Interrupted())


class StopOnEvent:
    """Stops a background loop after `event` is set. The work of the loop is short, so it is never interrupted."""

    def __init__(self, event: Event) -> None:
        self._event = event

    def stopping(self) -> bool:
        """Return whether the event is set."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for the event. Returns whether the event is set."""
        return self._event.wait(seconds)

    def interrupting(self, _stop: Stop) -> AbstractContextManager[None]:
        """Do not interrupt the block. A background loop always finishes its work."""
        return nullcontext()
