"""Sends the metrics to CloudWatch that the alarms of a deployment need. docs/metrics.md explains each metric."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from typing import Protocol

import structlog

from anb_core.ports.metrics import MetricSink
from anb_core.ports.store import DeadLetters, Reading
from anb_operator.kube import Deployments

PERIOD_SECONDS = 60.0
"""Seconds between two values of a metric. The alarms compare one value for each minute of the clock."""

_log = structlog.get_logger(__name__)


class MeasuredStore(DeadLetters, Reading, Protocol):
    """The protocols of the store that the metrics need."""


class CloudWatchPublisher:
    """Measures the release and sends the values. `workers` is the name of the workers' Deployment, or None.

    `clock` returns the time of day in seconds.
    """

    def __init__(
        self,
        store: MeasuredStore,
        deployments: Deployments,
        sink: MetricSink,
        *,
        workers: str | None,
        threads: Executor,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._deployments = deployments
        self._sink = sink
        self._workers = workers
        self._threads = threads
        self._clock = clock

    async def run(self) -> None:
        """Send the metrics now, and then at the beginning of each minute, until cancelled."""
        while True:
            await self.publish()
            # Wait until the next full minute. With pauses of a whole period, each value would come a little
            # later in its minute, until one minute would have no value.
            await asyncio.sleep(PERIOD_SECONDS - self._clock() % PERIOD_SECONDS)

    async def publish(self) -> None:
        """Send the metrics once. If a metric can't be measured, send the others. Errors are logged."""
        values: dict[str, float] = {}
        measures: list[Callable[[], Awaitable[Mapping[str, float]]]] = [self._of_jobs, self._of_workers]
        for measure in measures:
            try:
                values |= await measure()
            except Exception as error:  # noqa: BLE001 - logged, and the other metrics must still be sent
                _warn("metrics can't be measured", error)
        try:
            if values:
                await asyncio.get_running_loop().run_in_executor(self._threads, self._sink.publish, values)
        except Exception as error:  # noqa: BLE001 - logged, and the next minute sends new values
            _warn("metrics can't be sent to CloudWatch", error)

    async def _of_jobs(self) -> Mapping[str, float]:
        def read() -> Mapping[str, float]:
            return {
                "OpenDeadLetters": sum(self._store.open_dead_letters().values()),
                "OldestWaitingSeconds": self._store.longest_wait().total_seconds(),
            }

        return await asyncio.get_running_loop().run_in_executor(self._threads, read)

    async def _of_workers(self) -> Mapping[str, float]:
        if self._workers is None:
            return {}
        scale = await self._deployments.get_scale(self._workers)
        maximum = {} if scale.maximum is None else {"WorkersMax": scale.maximum}
        return {"Workers": scale.replicas, **maximum}


def _warn(what: str, error: Exception) -> None:
    _log.warning(what, reason=str(error).partition("\n")[0] or type(error).__name__)
