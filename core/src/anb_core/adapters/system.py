"""The runtime of a real program, with the system's clock, threads and events, and new ids."""

import threading
import time
from collections.abc import Callable
from uuid import uuid4

import structlog

from anb_core.ports.runtime import Event, Thread

_log = structlog.get_logger(__name__)


class SystemRuntime:
    """Implements `anb_core.ports.runtime.Runtime`. Tests use `anb_core.testing.runtime` instead."""

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def event(self) -> Event:
        return threading.Event()

    def start(self, name: str, run: Callable[[], None]) -> Thread:
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    def on_error(self, where: str, error: Exception, **about: object) -> None:
        """Log the error with its traceback."""
        _log.error(f"{where} failed, goes on", exc_info=error, **about)


def new_id() -> str:
    """Return a new unique id: a random UUID (version 4)."""
    return str(uuid4())
