"""Sets a higher pod deletion cost on busy worker pods, so that a scale-in removes idle pods first."""

import asyncio
from collections.abc import Collection, Mapping
from concurrent.futures import Executor

import structlog

from anb_core.domain.status import Status
from anb_core.ports.store import Reading
from anb_operator.kube import KubeRefused, Missing, Pods
from anb_operator.workqueue import plan_delay

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
BUSY = "1000"
"""Deletion cost of a pod with a lease. An idle pod has no such annotation, so its deletion cost is 0."""

PAUSE_SECONDS = 1.0
"""Minimum time between two updates, in seconds, even if `wake` is called more often."""

LIST_SECONDS = 60.0
"""Seconds between two lists of the pods. A list shows new pods, and annotations that a person changed."""

MOST_JOBS = 5000
"""Maximum number of running jobs that an update reads. The pods of further jobs get the cost of an idle pod."""

_log = structlog.get_logger(__name__)


def plan_costs(busy: Collection[str], costs: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return the new cost of each pod whose cost must change. None removes the cost. `costs` has the current costs."""
    wanted = {pod: BUSY if pod in busy else None for pod in costs}
    return {pod: cost for pod, cost in wanted.items() if costs[pod] != cost}


class DeletionCosts:
    """Keeps the deletion costs of the worker pods up to date. Writes only the costs that change."""

    def __init__(self, store: Reading, pods: Pods, *, selector: str, threads: Executor) -> None:
        self._store = store
        self._pods = pods
        self._selector = selector
        self._threads = threads
        self._woken = asyncio.Event()
        self._costs: dict[str, str | None] = {}

    def wake(self) -> None:
        """Start the next update soon, because an attempt began or ended."""
        self._woken.set()

    async def run(self) -> None:
        """Update the deletion costs until cancelled: soon after each call of `wake`, and about once a minute."""
        loop = asyncio.get_running_loop()
        listed, failures = float("-inf"), 0
        while True:
            pause = PAUSE_SECONDS
            try:
                if loop.time() - listed >= LIST_SECONDS:
                    await self._list()
                    listed = loop.time()
                await self._write()
                failures = 0
            except Exception as error:  # noqa: BLE001 - logged, and nothing else depends on it
                # The update failed, so try again without waiting for `wake`.
                self._woken.set()
                failures += 1
                pause = max(PAUSE_SECONDS, plan_delay(failures, jitter=0.0))
                reason = str(error).partition("\n")[0] or type(error).__name__
                _log.warning("deletion costs can't be written", reason=reason, again_in=pause)
            await asyncio.sleep(pause)
            try:
                async with asyncio.timeout(LIST_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _list(self) -> None:
        pods = await self._pods.list_pods(self._selector)
        self._costs = {pod.name: pod.annotations.get(DELETION_COST) for pod in pods}

    async def _write(self) -> None:
        self._woken.clear()
        busy = await asyncio.get_running_loop().run_in_executor(self._threads, self._busy)
        if busy - self._costs.keys():
            # A busy pod started after the last list of pods, so list the pods again.
            await self._list()
        failed: Exception | None = None
        for pod, cost in plan_costs(busy, self._costs).items():
            try:
                await self._pods.annotate_pod(pod, {DELETION_COST: cost})
            except Missing:
                del self._costs[pod]
            except KubeRefused as error:
                # Continue with the other pods, because the API server may refuse the change of this pod only.
                failed = error
            else:
                self._costs[pod] = cost
        if failed:
            raise failed

    def _busy(self) -> set[str]:
        records = self._store.listing(owner=None, statuses={Status.PROCESSING}, limit=MOST_JOBS)
        return {record.job.worker for record in records if record.job.lease_owner and record.job.worker}
