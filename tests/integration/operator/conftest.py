import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from anb_core.settings.loading import load
from anb_core.testing.metrics import InMemoryMetrics
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.store import InMemoryStore
from anb_operator import app
from anb_operator.settings import OperatorSettings
from tests.support.fake_api_server import ApiServer, serving_cluster
from tests.support.given import uploaded

ENVIRONMENT = {
    "DATABASE_URL": "postgresql://anb@db/anb",
    "S3_BUCKET": "videos",
    "SQS_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/anb",
    "ANB_SOURCE_PREFIXES": "mobile/",
    "ANB_OPERATOR_NAMESPACE": "video",
    "ANB_OPERATOR_DEPLOYMENT": "anb-operator",
    "ANB_OPERATOR_WORKER_DEPLOYMENT": "anb-worker",
}


class RunningOperator:
    """A running operator with a fake database and a fake API server, and the operator's log lines."""

    def __init__(
        self,
        api: ApiServer,
        *,
        store: InMemoryStore,
        objects: InMemoryObjects,
        dead_letter_queue: InMemoryQueue,
        metrics: InMemoryMetrics,
        logs: list[Any],
        url: str,
        running: asyncio.Task[None],
    ) -> None:
        self.api = api
        self.store = store
        self.objects = objects
        self.dead_letter_queue = dead_letter_queue
        self.metrics = metrics
        self.logs = logs
        self._url = url
        self._running = running

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"{self._url}{path}") as answer:
            return answer.status, await answer.text()

    async def until(self, condition: Callable[[], Awaitable[object] | object]) -> None:
        """Wait until the condition is true. Fail if the operator ends, or after 60 s."""
        async with asyncio.timeout(60):
            while True:
                if self._running.done():
                    self._running.result()
                    raise AssertionError("the operator ended")
                value = condition()
                if await value if isinstance(value, Awaitable) else value:
                    return
                await asyncio.sleep(0.02)

    async def ready(self) -> bool:
        try:
            return (await self.get("/readyz"))[0] == 200
        except aiohttp.ClientError:
            return False

    async def names(self, sentence: str, path: str = "/readyz") -> bool:
        """Return whether the health check at `path` fails with a message that contains `sentence`."""
        try:
            status, text = await self.get(path)
        except aiohttp.ClientError:
            return False
        return status == 503 and sentence in text

    async def counts(self, line: str) -> bool:
        """Return whether the metrics contain the given line."""
        return line in (await self.get("/metrics"))[1].splitlines()

    async def alive(self) -> bool:
        return (await self.get("/healthz"))[0] == 200

    async def mirrors(self) -> None:
        """Check that a new video gets a VideoJob with a status, and that `cancel` in its spec cancels the video."""
        video_id = uploaded(self.store)
        await self.until(lambda: "status" in self.api.videojobs.get(video_id, {}))
        self.api.ask(video_id, {"cancel": True})
        await self.until(lambda: self.api.videojobs[video_id]["status"]["phase"] == "cancelled")


Scenario = Callable[[RunningOperator], Awaitable[None]]
Run = Callable[[ApiServer, Scenario], list[Any]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A function that runs a scenario with an operator, stops the operator with SIGTERM, and returns the log lines."""
    # Shorten the pauses, so that the tests are fast. The iterator of pauses must never end, because its end would
    # end the retries.
    for module in ("resync", "watch"):
        monkeypatch.setattr(f"anb_operator.{module}.PAUSE_SECONDS", 0.05)
    monkeypatch.setattr("anb_core.usecases.receive_dead_letters.WAIT", timedelta(milliseconds=50))
    monkeypatch.setattr("anb_operator.watch.Backoffs.__iter__", lambda _: repeat(0.02))

    async def both(api: ApiServer, scenario: Scenario, logs: list[Any]) -> None:
        async with serving_cluster(api, tmp_path) as own:
            for name, value in (ENVIRONMENT | own).items():
                monkeypatch.setenv(name, value)
            await operate(api, scenario, logs)

    async def operate(api: ApiServer, scenario: Scenario, logs: list[Any]) -> None:
        settings = load(OperatorSettings)
        store, objects = InMemoryStore(lambda: datetime.now(UTC)), InMemoryObjects()
        queue = InMemoryQueue()
        metrics = InMemoryMetrics()
        running = asyncio.create_task(
            app.run(settings, store, objects, dead_letter_queue=queue, alerts=None, metric_sink=metrics)
        )
        try:
            url = f"http://{settings.listen}"
            await scenario(
                RunningOperator(
                    api,
                    store=store,
                    objects=objects,
                    dead_letter_queue=queue,
                    metrics=metrics,
                    logs=logs,
                    url=url,
                    running=running,
                )
            )
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(60):
                await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def ran(api: ApiServer, scenario: Scenario) -> list[Any]:
        with capture_logs() as logs:
            asyncio.run(both(api, scenario, logs))
        return logs

    return ran
