"""The part of the operator that keeps the VideoJobs: the real plans and cache, and an API server in memory.

The watch of VideoJobs is a thread of its own, which may be dead for some time. Then a new watch begins with a list.
"""

import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, cast

from anb_core.domain.errors import AnbError
from anb_core.domain.status import Status
from anb_core.ports.store import History
from anb_core.testing.promises import Shown
from anb_core.usecases.follow import Follower
from anb_operator.cache import VideoJobCache
from anb_operator.planning import Policy
from anb_operator.reconciler import Histories, Reconciler
from anb_operator.workqueue import plan_delay
from tests.simulation.scheduler import Process, Runtime
from tests.simulation.world import World
from tests.support.kube import NAMESPACE

KEPT = timedelta(days=7)
"""Time for which a VideoJob is kept. It is longer than a run."""

_T = TypeVar("_T")


def finish(steps: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end. It never waits for an event loop, because each call of a port blocks its thread."""
    try:
        steps.send(None)
    except StopIteration as end:
        return cast("_T", end.value)
    raise RuntimeError("a coroutine waits for an event loop")


@dataclass(frozen=True, slots=True)
class ApiServer:
    """The API server for one process: each request is a call of a port."""

    world: World
    process: Process

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.world.cluster, name)

        async def request(*args: Any) -> Any:
            return self.world.call(self.process, "kubernetes", name, lambda: finish(method(*args)), args)

        return request


@dataclass(frozen=True, slots=True)
class Reads:
    """Reads the history of each video alone. Stands in for `anb_operator.reconciler.Histories`."""

    store: Any

    async def of(self, video_id: str) -> History:
        return cast("History", self.store.history(video_id))


@dataclass(eq=False)
class Mirror:
    """Keeps the VideoJobs in one process of the operator."""

    world: World
    process: Process
    waiting: dict[str, bool] = field(default_factory=dict)
    """The videos to reconcile, and whether the feed has news of them."""
    position: int = 0
    """The last event that was read."""
    watched: int = 0
    """How many of the changes of VideoJobs the watch has shown."""

    def __post_init__(self) -> None:
        world, process = self.world, self.process
        self.runtime = Runtime(world.scheduler, process, world.errors)
        store = world.port(process, "database", world.store)
        self.cache = VideoJobCache(self.runtime.monotonic)
        self.server: Any = ApiServer(world, process)
        self.follower = Follower(store, self.runtime, name="operator", interval=timedelta(0))
        nothing: Any = None
        self.reconciler = Reconciler(
            store=store,
            objects=nothing,
            submit=nothing,
            kube=self.server,
            cache=self.cache,
            histories=cast("Histories", Reads(store)),
            policy=Policy(NAMESPACE, "anb", mirror=True, mirror_max_age=None, ttl_processed=KEPT, ttl_failed=KEPT),
            threads=nothing,
            clock=lambda: world.true_now() + timedelta(seconds=process.clock_offset),
        )

    def run(self) -> None:
        """Follow the feed, and reconcile each video that has news, until the process dies."""
        self._patiently(self._list)
        self.runtime.start("watch", self.watch)
        while True:
            self._patiently(self._read)
            for video_id in [*self.waiting]:
                news = self.waiting.pop(video_id)
                self._patiently(partial(self._reconcile, video_id, news=news))
            self.world.scheduler.wait(None, self._next)

    def watch(self) -> None:
        """Show each change of a VideoJob. A watch that was dead begins again with a list."""
        history = self.world.cluster.history
        while True:
            self.world.scheduler.wait(None, lambda: 0.0 if len(history) > self.watched else math.inf)
            if self.world.watch_dead_until > self.world.scheduler.now:
                self.runtime.sleep(self.world.watch_dead_until - self.world.scheduler.now)
                self._patiently(self._list)
                continue
            videojob = history[self.watched]
            self.watched += 1
            gone = videojob.deleting and not videojob.metadata.finalizers
            video_id = self.cache.deleted(videojob) if gone else self.cache.seen(videojob)
            if video_id:
                self.waiting.setdefault(video_id, False)

    def _next(self) -> float:
        events = self.world.store.events
        return 0.0 if self.waiting or (events and events[-1].id > self.position) else math.inf

    def _list(self) -> None:
        self.cache.begin_list()
        self.watched = len(self.world.cluster.history)
        for video_id in self.cache.replace(finish(self.server.list_videojobs())):
            self.waiting.setdefault(video_id, False)

    def _read(self) -> None:
        for event in self.follower.next():
            self.waiting[event.video_id] = True
            self.position = event.id

    def _reconcile(self, video_id: str, *, news: bool) -> None:
        finish(self.reconciler.reconcile(video_id, news=news))

    def _patiently(self, step: Callable[[], None]) -> None:
        failures = 0
        while True:
            try:
                step()
            except AnbError:
                failures += 1
                self.runtime.sleep(plan_delay(failures, 1.0))
            else:
                return


def shown(world: World) -> dict[str, Shown]:
    """Return for each video what its VideoJob shows."""
    videojobs = [world.cluster.get(name) for name in sorted(world.cluster.names)]
    return {one.spec.video_id or "": Shown(one.status.phase, one.status.attempts) for one in videojobs}


def shows_all(world: World) -> bool:
    """Whether each unfinished or finished video has a VideoJob that shows its state."""
    now = shown(world)
    rows = {name: row for name, row in world.store.rows.items() if not row.deleted_at}
    return now == {
        name: Shown(row.job.status, row.job.attempts)
        for name, row in rows.items()
        if name in now or row.job.status is not Status.CANCELLED
    }
