"""Asks the parts this process needs whether they answer, however often and long that is."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import structlog

from anb_core.domain.errors import AnbError
from anb_core.ports.objects import Objects
from anb_core.ports.queue import Queue
from anb_core.ports.store import Store

PATIENCE_SECONDS: Final = 3.0
"""With a required part: whoever asks gives up soon after."""

GLANCE_SECONDS: Final = 1.0
"""With any other part: it must not make those who ask impatient."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a part said. `detail` None when it is well, else a sentence for anybody to read: the log says more."""

    part: str
    required: bool
    detail: str | None


class PartCheck:
    """One part, asked once at a time: who comes while it is being asked waits for the same answer."""

    def __init__(self, part: str, ping: Callable[[], None], *, required: bool) -> None:
        self.part = part
        self.required = required
        self._ping = ping
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"check-{part}")
        self._lock = threading.Lock()
        self._asked: Future[str | None] | None = None

    async def ask(self) -> Answer:
        """Wait for the answer, but not for long."""
        asked = asyncio.wrap_future(self._ask())
        await asyncio.wait([asked], timeout=PATIENCE_SECONDS if self.required else GLANCE_SECONDS)
        reason = asked.result() if asked.done() else "no answer in time"
        if reason is None:
            return Answer(self.part, self.required, None)
        _log.warning("not ready", part=self.part, reason=reason)
        return Answer(self.part, self.required, f"The {self.part} does not answer.")

    def _ask(self) -> Future[str | None]:
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = self._thread.submit(self._reason)
            return self._asked

    def _reason(self) -> str | None:
        try:
            self._ping()
        except AnbError as error:
            return error.message
        return None

    def close(self) -> None:
        """Wait for nobody: a part that hangs is why one stops."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class Checks:
    """Database and bucket must answer; without the queue work is delayed, but uploads are taken all the same."""

    def __init__(self, store: Store, objects: Objects, queue: Queue) -> None:
        self._checks = (
            PartCheck("database", store.ping, required=True),
            # `ensure`, so that where creating is allowed an emulator that forgot its bucket is reminded of it.
            PartCheck("bucket", objects.ensure, required=True),
            PartCheck("queue", queue.ping, required=False),
        )

    async def ask(self) -> list[Answer]:
        """Ask all parts at once."""
        return await asyncio.gather(*(check.ask() for check in self._checks))

    def close(self) -> None:
        """Ask no more."""
        for check in self._checks:
            check.close()
