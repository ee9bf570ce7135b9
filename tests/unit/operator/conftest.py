import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from anb_core.adapters.system import new_id
from anb_core.domain.errors import Unavailable, Withheld
from anb_core.domain.status import Status
from anb_core.ports.store import History
from anb_core.testing.clock import ManualClock
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.submit import Submit
from anb_operator.cache import VideoJobCache
from anb_operator.kube import KubeRefused
from anb_operator.naming import video_id_of
from anb_operator.planning import Policy
from anb_operator.reconciler import Histories, Reconciler
from anb_operator.videojob import VideoJob
from tests.support.kube import NAMESPACE, InMemoryCluster

POLICY = Policy(
    namespace=NAMESPACE,
    instance="anb",
    mirror=True,
    mirror_max_age=None,
    ttl_processed=timedelta(hours=1),
    ttl_failed=timedelta(days=7),
)


KEY = "uploads/clip.mp4"
SOURCE = {"source": {"key": KEY}}

DATABASE_AWAY = Unavailable("database", "the database does not answer")
KUBERNETES_AWAY = Unavailable("kubernetes", "the API server does not answer")
WITHHELD = Withheld("object_withheld", "the bucket does not give us the object")


class World:
    """The operator's objects, which use fakes. Tests pass changes to the operator, because no watch runs."""

    def __init__(self, threads: ThreadPoolExecutor, beside: "World | None" = None, policy: Policy = POLICY) -> None:
        """Create the fakes and start an operator. If `beside` is given, share the clock and the cluster of `beside`."""
        self.clock: ManualClock = beside.clock if beside else ManualClock()
        self.store = InMemoryStore(self.clock.now)
        self.objects = InMemoryObjects()
        self.cluster: InMemoryCluster = beside.cluster if beside else InMemoryCluster(self.clock.now)
        self.cache = VideoJobCache(self.clock.monotonic)
        self.threads = threads
        self.policy = policy
        self.start()

    def start(self) -> None:
        """Start a new operator, which does not know what an earlier operator did."""
        submit = Submit(
            self.store,
            self.objects,
            max_bytes=1000,
            source_prefixes=(),
            wake_relay=lambda: None,
            new_id=new_id,
        )
        self.reconciler = Reconciler(
            store=self.store,
            objects=self.objects,
            submit=submit,
            kube=self.cluster,
            cache=self.cache,
            histories=Histories(self.store, self.threads),
            policy=self.policy,
            threads=self.threads,
            clock=self.clock.now,
        )

    def reconcile(self, video_id: str, *, news: bool = False) -> float | None:
        """Update the operator's cache and reconcile one video. Returns the seconds until the next reconciliation."""

        async def turn() -> float | None:
            fault, self.cluster.fault = self.cluster.fault, None
            self.cache.replace(await self.cluster.list_videojobs())
            self.cluster.fault = fault
            return await self.reconciler.reconcile(video_id, news=news)

        return asyncio.run(turn())

    def show(self, videojob: VideoJob) -> None:
        """Pass the VideoJob to the operator's cache as the watch does. A missing VideoJob counts as deleted."""
        if videojob.key in self.cluster.keys:
            self.cache.seen(videojob)
        else:
            self.cache.deleted(videojob)

    def while_the_store_is_asked(self, monkeypatch: pytest.MonkeyPatch, change: Callable[[], VideoJob]) -> None:
        """Call `change` while the next reconciliation reads the store. The operator then sees the changed VideoJob."""
        histories = self.store.histories

        def slow(video_ids: Collection[str]) -> Mapping[str, History]:
            found = histories(video_ids)
            monkeypatch.setattr(self.store, "histories", histories)
            self.show(change())
            return found

        monkeypatch.setattr(self.store, "histories", slow)

    def follow(self) -> None:
        """Reconcile every video that has an event in the feed, once."""
        for video_id in dict.fromkeys(event.video_id for event in self.store.events_after(0, limit=10_000)):
            self.reconcile(video_id, news=True)


@pytest.fixture(scope="session")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def world(threads: ThreadPoolExecutor) -> World:
    return World(threads)


def submit(world: World, name: str = "clip", **spec: object) -> str:
    """Apply a VideoJob that submits an object, reconcile the video, and return the video's id."""
    world.objects.put(KEY, b"a video")
    video_id = video_of(world.cluster.apply(name, {**SOURCE, **spec}))
    world.reconcile(video_id)
    return video_id


def video_of(videojob: VideoJob) -> str:
    return video_id_of(videojob.spec, videojob.metadata.uid)


def phase(world: World, name: str) -> Status | None:
    return world.cluster.get(name).status.phase


async def patch_refused(*_: object) -> VideoJob:
    raise KubeRefused("refused", "videojobs/status is forbidden")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the code under test sets no event
            await asyncio.sleep(0.001)


def beside(loop: Coroutine[Any, Any, None], scenario: Callable[[], Awaitable[None]]) -> Coroutine[Any, Any, None]:
    """Run a scenario while the loop runs, and cancel the loop at the end of the scenario."""

    async def both() -> None:
        task = asyncio.create_task(loop)
        try:
            await scenario()
        finally:
            task.cancel()

    return both()
