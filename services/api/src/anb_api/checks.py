"""Readiness checks: pings the database, the bucket and the queue. Each dependency has at most one running ping."""

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
"""Maximum wait for a required dependency, in seconds. It must be less than the timeout of a Kubernetes probe."""

OPTIONAL_PATIENCE_SECONDS: Final = 1.0
"""Maximum wait for the queue, in seconds. The wait is short, because the API is ready even without the queue."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one check."""

    part: str
    """Name of the dependency, such as `database`."""
    required: bool
    """True if the API is not ready without the dependency."""
    detail: str | None
    """Error message without internal names, or None if the dependency responded. The log gives the exact reason."""


class PartCheck:
    """The check of one dependency (database, bucket or queue). Concurrent callers share the result of one ping."""

    def __init__(self, part: str, ping: Callable[[], None], *, required: bool) -> None:
        self.part = part
        self.required = required
        self._ping = ping
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"check-{part}")
        self._lock = threading.Lock()
        self._running: Future[str | None] | None = None

    async def ask(self) -> Answer:
        """Return the result of a ping, or an error if the ping takes too long."""
        ping = asyncio.wrap_future(self._start_or_join())
        await asyncio.wait([ping], timeout=PATIENCE_SECONDS if self.required else OPTIONAL_PATIENCE_SECONDS)
        reason = ping.result() if ping.done() else "no answer in time"
        if reason is None:
            return Answer(self.part, self.required, None)
        _log.warning("part is not ready", part=self.part, reason=reason)
        return Answer(self.part, self.required, f"The {self.part} does not answer.")

    def _start_or_join(self) -> Future[str | None]:
        with self._lock:
            if self._running is None or self._running.done():
                self._running = self._thread.submit(self._ping_error)
            return self._running

    def _ping_error(self) -> str | None:
        try:
            self._ping()
        except AnbError as error:
            return error.message
        return None

    def close(self) -> None:
        """Stop the thread without waiting for a ping that hangs."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class Checks:
    """The checks of all dependencies. The queue is not required, because uploads can wait in the database.

    `dead_letter_outage` returns the error of the dead-letter queue, or None if the queue responds.
    The argument itself is None if this process does not receive from the dead-letter queue.
    """

    def __init__(
        self,
        store: Store,
        objects: Objects,
        queue: Queue,
        dead_letter_outage: Callable[[], AnbError | None] | None = None,
    ) -> None:
        self._dead_letter_outage = dead_letter_outage
        self._checks = (
            PartCheck("database", store.ping, required=True),
            # `ensure` also creates a missing bucket, if the settings allow this. An emulator may lose its bucket.
            PartCheck("bucket", objects.ensure, required=True),
            PartCheck("queue", queue.ping, required=False),
        )

    async def ask(self) -> list[Answer]:
        """Check all dependencies at the same time."""
        answers = await asyncio.gather(*(check.ask() for check in self._checks))
        if self._dead_letter_outage is not None:
            # The loop that receives the messages polls this queue anyway, so the check needs no ping of its own.
            detail = "The dead-letter queue (SQS_DLQ_URL) does not answer." if self._dead_letter_outage() else None
            answers.append(Answer("dead-letter queue", required=False, detail=detail))
        return answers

    def close(self) -> None:
        """Stop the threads of all checks."""
        for check in self._checks:
            check.close()
