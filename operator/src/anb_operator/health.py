"""The operator's HTTP endpoints: liveness (/healthz), readiness (/readyz) and metrics (/metrics)."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from anb_core.domain.errors import AnbError
from anb_operator.kube import KubeRefused

CHECK_SECONDS = 3.0
"""Timeout of a ping, shorter than the timeout of the readiness probe in the chart."""

FEED_PATIENCE = 90.0
"""Maximum time between two tries to read the feed, in seconds. After a longer time, the liveness probe fails."""

WATCH_PATIENCE = 120.0
"""Maximum time until the watch shows a write of the operator, in seconds.
This is longer than the 70 s after which kopf restarts a silent watch."""

_log = structlog.get_logger(__name__)


class Health:
    """Checks whether the operator is alive and ready.

    The operator is alive while the feed is read and the watch shows the operator's writes.
    The operator is ready when all pings in `parts` succeed, such as the pings of the database and the bucket.
    `watch_silence` returns the seconds since the operator's oldest write that the watch has not shown.
    `outages` returns sentences about optional parts that are unavailable, such as the dead-letter queue.
    """

    def __init__(
        self,
        *,
        watch_silence: Callable[[], float],
        parts: Mapping[str, Callable[[], Awaitable[None]]],
        registry: CollectorRegistry,
        outages: Callable[[], list[str]] = list,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watch_silence = watch_silence
        self._parts = parts
        self._registry = registry
        self._outages = outages
        self._monotonic = monotonic
        self._beat_at = monotonic()
        self._errors: dict[str, str | None] = {}

    def beat(self) -> None:
        """Record that the feed reader is alive.

        At startup, the feed reader does not run yet. Then each try to list the VideoJobs calls `beat`.
        """
        self._beat_at = self._monotonic()

    def report(self, what: str, error: Exception | None) -> None:
        """Record the result of a read: the error, or None after a success. `what` is the name of the source.

        An error that repeats is logged only once.
        """
        before, now = self._errors.get(what), _first_line(error)
        self._errors[what] = now
        if now is not None and now != before:
            # An AnbError has a clear message. Any other error is unexpected, so the traceback is logged too.
            _log.warning("can't be read", what=what, reason=now, exc_info=not isinstance(error, AnbError) and error)

    def stuck(self) -> str | None:
        """Return a sentence if the feed reader or the watch hangs, else None."""
        silence = self._monotonic() - self._beat_at
        if silence > FEED_PATIENCE:
            return f"the feed was not read for {silence:.0f} s"
        silence = self._watch_silence()
        if silence > WATCH_PATIENCE:
            return f"the watch has not shown what was written {silence:.0f} s ago"
        return None

    async def missing(self) -> list[str]:
        """Return the reasons why the operator is not ready. The list is empty if the operator is ready.

        The list has one sentence for each ping that failed.
        If all pings succeeded, the list has one sentence for each source whose last read failed.
        """
        problems = await asyncio.gather(*(self._check(part, ping) for part, ping in self._parts.items()))
        unanswered = [problem for problem in problems if problem]
        return unanswered or [f"the {what} can't be read: {error}" for what, error in self._errors.items() if error]

    async def _check(self, part: str, ping: Callable[[], Awaitable[None]]) -> str | None:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await ping()
        except KubeRefused as error:
            _log.warning("not ready", part=part, reason=error.message)
            return error.message
        except (AnbError, TimeoutError) as error:
            reason = str(error) or f"no answer within {CHECK_SECONDS} s"
            _log.warning("not ready", part=part, reason=reason)
            return f"the {part} does not answer"
        return None

    async def healthz(self, _: web.Request) -> web.Response:
        """Respond to the liveness probe: 200, or 503 with the reason."""
        return _answer([stuck] if (stuck := self.stuck()) else [])

    async def readyz(self, _: web.Request) -> web.Response:
        """Respond to the readiness probe: 200, or 503 with the reasons.

        An outage of an optional part is reported in the response, but does not change the status.
        """
        return _answer(await self.missing(), self._outages())

    async def metrics(self, _: web.Request) -> web.Response:
        """Respond to Prometheus with the metrics of the process."""
        # Use a thread, because one metric counts rows in the database, and must not block the event loop.
        body = await asyncio.to_thread(generate_latest, self._registry)
        return _closing(web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST}))


@asynccontextmanager
async def serving(listen: str, health: Health) -> AsyncIterator[None]:
    """Serve the endpoints at `listen` (`HOST:PORT`) during the `with` block."""
    host, _, port = listen.rpartition(":")
    app = web.Application()
    app.add_routes(
        [
            web.get("/healthz", health.healthz),
            web.get("/readyz", health.readyz),
            web.get("/metrics", health.metrics),
        ]
    )
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, int(port)).start()
        yield
    finally:
        await runner.cleanup()


def _first_line(error: Exception | None) -> str | None:
    return None if error is None else str(error).partition("\n")[0] or type(error).__name__


def _answer(problems: list[str], outages: Sequence[str] = ()) -> web.Response:
    status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
    lines = [*(problems or ["ok"]), *(f"not required: {outage}" for outage in outages)]
    return _closing(web.Response(status=status, text="".join(f"{line}\n" for line in lines)))


def _closing(response: web.Response) -> web.Response:
    """Close the connection after the response, because a stop of the server waits until idle connections close."""
    response.force_close()
    return response
