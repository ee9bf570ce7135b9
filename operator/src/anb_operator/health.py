"""What the operator shows of itself over HTTP: whether its loops turn and its parts answer, and its metrics."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from anb_core.domain.errors import AnbError
from anb_operator.kube import KubeRefused

CHECK_SECONDS = 3.0
"""Of a readiness check: whoever asks gives up soon after."""

FEED_PATIENCE = 90.0
"""Seconds in which the feed is asked at least once, if only to hear that the database is away."""

WATCH_PATIENCE = 120.0
"""Seconds in which the watch shows what we wrote: kopf renews a silent one after 70."""

_log = structlog.get_logger(__name__)


class Health:
    """Alive while feed and watch get on; ready while every part answers. An outage of a part restarts nothing."""

    def __init__(
        self,
        *,
        watch_silence: Callable[[], float],
        parts: Mapping[str, Callable[[], Awaitable[None]]],
        registry: CollectorRegistry,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watch_silence = watch_silence
        self._parts = parts
        self._registry = registry
        self._monotonic = monotonic
        self._beat = monotonic()
        self._errors: dict[str, str | None] = {}

    def beat(self) -> None:
        """The feed was asked, or can't be followed yet."""
        self._beat = self._monotonic()

    def report(self, what: str, error: Exception | None) -> None:
        """How reading something went. While an error stays the same it is worth one line in the log."""
        before, now = self._errors.get(what), _first_line(error)
        self._errors[what] = now
        if now is not None and now != before:
            # An outage is known by its sentence; what else can be wrong is not.
            _log.warning("can't be read", what=what, reason=now, exc_info=not isinstance(error, AnbError) and error)

    def stuck(self) -> str | None:
        """What does not get on, in a sentence; None: all does."""
        silence = self._monotonic() - self._beat
        if silence > FEED_PATIENCE:
            return f"the feed was not read for {silence:.0f} s"
        silence = self._watch_silence()
        if silence > WATCH_PATIENCE:
            return f"the watch has not shown what was written {silence:.0f} s ago"
        return None

    async def missing(self) -> list[str]:
        """A sentence for each part that does not answer; else for what can't be read although all do."""
        answers = await asyncio.gather(*(self._ask(part, ping) for part, ping in self._parts.items()))
        away = [answer for answer in answers if answer]
        return away or [f"the {what} can't be read: {error}" for what, error in self._errors.items() if error]

    async def _ask(self, part: str, ping: Callable[[], Awaitable[None]]) -> str | None:
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
        """Told to the liveness probe."""
        return _answer([stuck] if (stuck := self.stuck()) else [])

    async def readyz(self, _: web.Request) -> web.Response:
        """Told to the readiness probe."""
        return _answer(await self.missing())

    async def metrics(self, _: web.Request) -> web.Response:
        """Told to Prometheus."""
        body = generate_latest(self._registry)
        return _closing(web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST}))


@asynccontextmanager
async def serving(listen: str, health: Health) -> AsyncIterator[None]:
    """Answer at `HOST:PORT` while the block runs."""
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


def _answer(problems: list[str]) -> web.Response:
    status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
    return _closing(web.Response(status=status, text="".join(f"{problem}\n" for problem in problems or ["ok"])))


def _closing(response: web.Response) -> web.Response:
    """So that no connection is kept alive which a stop would wait for."""
    response.force_close()
    return response
