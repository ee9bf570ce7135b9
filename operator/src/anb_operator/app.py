"""Wires the operator together and runs it: kopf watches, our own tasks do the work."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import chain, repeat
from typing import Any, Protocol

import kopf
import structlog

from anb_core.bootstrap import Core
from anb_core.domain.errors import AnbError, Unavailable, Unreadable
from anb_core.domain.status import TERMINAL, Status
from anb_core.ports.store import Page, Reading
from anb_core.usecases.submit import Submit
from anb_operator.busy import BusyPods
from anb_operator.client import TIMEOUT_SECONDS, KubeClient, find_credentials, read_videojob
from anb_operator.feed import FeedReader
from anb_operator.health import Health, serving
from anb_operator.kube import KubeRefused, Missing, VideoJobs
from anb_operator.metrics import Metrics
from anb_operator.planning import Policy
from anb_operator.reconciler import Histories, Reconciler
from anb_operator.settings import OperatorSettings
from anb_operator.shelf import Shelf
from anb_operator.videojob import GROUP, PLURAL, VERSION
from anb_operator.workqueue import WorkQueue, plan_delay

WRITERS = 16
"""Videos seen to at once. The API server's time, not ours, is what they wait for, and they are read together."""

COMMANDS = 4
"""What specs ask for is done so often at once. Each takes a connection to the database, of which the chart gives 8."""

RESYNC_SECONDS = 300.0
"""Between two looks at everything, for what watch and feed may have missed."""

PAUSE_SECONDS = 2.0
"""Between two tries to list what can't be listed."""

LONGEST_PAUSE_SECONDS = 5.0
"""A writer whom Kubernetes did not answer pauses at most so long before it takes the next video."""

PAGE = 500

UNFINISHED = frozenset(Status) - TERMINAL

_log = structlog.get_logger(__name__)


class Backoffs:
    """Seconds before each further try of a request of kopf's. They never end: an outage may last."""

    def __iter__(self) -> Iterator[float]:
        return chain((1.0, 1.0, 2.0, 3.0, 5.0, 8.0), repeat(10.0))


async def run(core: Core, settings: OperatorSettings) -> None:
    """Work until SIGTERM or SIGINT, whatever is away meanwhile; the caller closes the core.

    Raises:
        kopf.LoginError: there is no Kubernetes to work with.
    """
    stop = asyncio.Event()
    _obey_signals(stop)
    metrics = Metrics()
    client = KubeClient(
        namespace=settings.namespace,
        watched=settings.watched_namespace,
        on_answer=lambda verb, code: metrics.requests.labels(verb, code).inc(),
    )
    # One for each of those that ask the database on their own, so that none waits for commands.
    with (
        ThreadPoolExecutor(4, "reading") as threads,
        ThreadPoolExecutor(COMMANDS, "commands") as commanding,
        ThreadPoolExecutor(4, "checks") as checks,
    ):
        async with client.open() as kube:
            shelf = Shelf()
            # A deletion does not wait for the database, or not for long.
            queue = WorkQueue(urgent=lambda video_id: any(videojob.deleting for videojob in shelf.of(video_id)))
            health = Health(
                # An API server that was away has to show what was written before only once it is back.
                watch_silence=lambda: min(shelf.silence(), kube.answering()),
                parts={
                    "database": _in(checks, core.store.ping),
                    "bucket": _in(checks, core.objects.ensure),
                    "kubernetes API": kube.ping,
                },
                registry=metrics.registry,
            )
            reconciler = Reconciler(
                store=core.store,
                objects=core.objects,
                submit=_submit(core),
                kube=kube,
                shelf=shelf,
                histories=Histories(core.store, threads),
                policy=policy_of(settings),
                threads=commanding,
                on_command=lambda command, outcome: metrics.commands.labels(command, outcome).inc(),
            )
            busy = (
                BusyPods(core.store, kube, selector=settings.worker_selector, threads=threads)
                if settings.worker_selector
                else None
            )
            feed = FeedReader(
                core.store,
                queue,
                threads=threads,
                on_attempt=busy.look if busy else lambda: None,
                beat=health.beat,
                tell=partial(health.tell, "feed"),
            )
            resync = Resync(
                kube, core.store, shelf, queue, threads=threads, tell=partial(health.tell, "list of videos")
            )
            _show(metrics, shelf, queue, feed)
            async with serving(settings.listen, health):
                while await _unless(stop, _first_list(kube, resync, shelf, beat=health.beat)):
                    tasks = [
                        feed.run(),
                        resync.compare(),
                        resync.relist(),
                        *([busy.run()] if busy else []),
                        *(write(queue, reconciler.reconcile, metrics) for _ in range(WRITERS)),
                    ]
                    async with _running(tasks):
                        _log.info(
                            "operator started", namespace=settings.namespace, watch=settings.watch, seen=len(shelf)
                        )
                        await _watch(settings, shelf, queue, stop)
    _log.info("stopped")


class NoDiff(kopf.DiffBaseStorage):
    """Nobody asks kopf what has changed in an object. To find it out would be a third of its work for each event."""

    def build(self, **_: object) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: object) -> None:
        """There is none."""

    def store(self, **_: object) -> None:
        """Only handlers of changes ask for it, and there are none."""


class Resync:
    """Compares everything with what we believe, and has looked at what differs."""

    def __init__(
        self,
        kube: VideoJobs,
        store: Reading,
        shelf: Shelf,
        queue: WorkQueue,
        *,
        threads: Executor,
        tell: Callable[[Exception | None], None],
    ) -> None:
        self._kube = kube
        self._store = store
        self._shelf = shelf
        self._queue = queue
        self._threads = threads
        self._tell = tell

    async def take_in(self) -> None:
        """List all VideoJobs."""
        self._shelf.begin_list()
        for video_id in self._shelf.replace(await self._kube.list_videojobs()):
            self._queue.add_to_compare(video_id)

    async def compare(self) -> None:
        """Look at everything that is not over, here or there, now and every while, until cancelled."""
        while True:
            try:
                unfinished = await asyncio.get_running_loop().run_in_executor(self._threads, self._unfinished)
            except Exception as error:  # noqa: BLE001 - told, and the rest goes on
                self._tell(error)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self._tell(None)
            for video_id in (*unfinished, *self._shelf.unfinished()):
                self._queue.add_to_compare(video_id)
            await asyncio.sleep(RESYNC_SECONDS)

    async def relist(self) -> None:
        """List all VideoJobs every while, until cancelled."""
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            try:
                await self.take_in()
            except Exception as error:  # noqa: BLE001 - told, and tried again
                _log.warning("VideoJobs not listed", reason=str(error) or type(error).__name__)

    def _unfinished(self) -> list[str]:
        found: list[str] = []
        after: Page | None = None
        while True:
            records = self._store.listing(owner=None, statuses=UNFINISHED, after=after, limit=PAGE)
            found += [record.video.id for record in records]
            if len(records) < PAGE:
                return found
            after = Page(records[-1].video.created_at, records[-1].video.id)


class Reconcile(Protocol):
    """Sees to one video: `Reconciler.reconcile`."""

    async def __call__(self, video_id: str, *, news: bool) -> float | None: ...


def _show(metrics: Metrics, shelf: Shelf, queue: WorkQueue, feed: FeedReader) -> None:
    metrics.show("videojobs", "VideoJobs that are known.", lambda: len(shelf))
    metrics.show("queue_depth", "Videos that could be looked at now.", lambda: len(queue))
    metrics.show("videos_failing", "Videos that failed when they were looked at last.", lambda: queue.failing)
    metrics.show("watch_silence_seconds", "For how long the watch has not shown what was written.", shelf.silence)
    metrics.show("feed_unanswered_events", "Events that were read and are not done.", feed.unanswered)
    metrics.show("feed_lag_seconds", "For how long VideoJobs may be out of date.", feed.lag)


async def write(queue: WorkQueue, reconcile: Reconcile, metrics: Metrics) -> None:
    """See to one video after the other until cancelled. What fails is tried again, ever more rarely."""
    unanswered = 0
    while True:
        if unanswered:
            # Otherwise ten thousand videos would be tried at once, and each would ask the database before.
            await asyncio.sleep(min(plan_delay(unanswered, random.random()), LONGEST_PAUSE_SECONDS))  # noqa: S311
        work = await queue.take()
        try:
            again = await reconcile(work.video_id, news=work.event is not None)
        except asyncio.CancelledError:
            queue.failed(work.video_id)
            raise
        except Unreadable as error:
            # Trying again is for a newer version; the feed must not wait for it, and the next resync looks again.
            unanswered = 0
            metrics.reconciles.labels("unreadable").inc()
            _log.warning("not mirrored", video_id=work.video_id, outcome="unreadable", reason=error.message)
            queue.done(work.video_id)
        except Exception as error:  # noqa: BLE001 - told, and one video must not stop all others
            _failed(queue, work.video_id, error, metrics)
            away = isinstance(error, Unavailable) and error.part == "kubernetes"
            unanswered = unanswered + 1 if away else 0
        else:
            unanswered = 0
            metrics.reconciles.labels("done").inc()
            if work.event is not None:
                # The clock of the database may be a little ahead of ours.
                metrics.mirror_seconds.observe(max(0.0, (datetime.now(UTC) - work.event.at).total_seconds()))
            queue.done(work.video_id)
            if again is not None:
                queue.add_later(work.video_id, again)


def _failed(queue: WorkQueue, video_id: str, error: Exception, metrics: Metrics) -> None:
    delay = queue.failed(video_id)
    match error:
        case Unavailable(part=part, message=reason):
            outcome = f"{part}_away"
            if part == "database":
                # Till the feed is read again: it asks anyway, and for all.
                queue.pause()
        case KubeRefused(message=reason):
            outcome = "refused"
        case _:
            outcome, reason = "error", f"{type(error).__name__}: {error}"
    metrics.reconciles.labels(outcome).inc()
    trace = error if outcome == "error" else None
    _log.warning("not mirrored", video_id=video_id, outcome=outcome, reason=reason, again_in=delay, exc_info=trace)


async def _first_list(kube: KubeClient, resync: Resync, shelf: Shelf, *, beat: Callable[[], None]) -> None:
    """Wait until VideoJobs are known, and list them."""
    told = None
    while True:
        beat()
        try:
            await kube.ping()
            await resync.take_in()
        except AnbError as error:
            if isinstance(error, Missing):
                # They went with their definition.
                shelf.begin_list()
                shelf.replace(())
            if error.message != told:
                _log.warning("waiting for VideoJobs", reason=error.message)
                told = error.message
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return


async def _watch(settings: OperatorSettings, shelf: Shelf, queue: WorkQueue, stop: asyncio.Event) -> None:
    """Until a stop, or an answer that kopf does not ask again after, as when the definition of VideoJobs is deleted."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login)
    kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)(_on_event(shelf, queue))
    configured = kopf.OperatorSettings()
    # VideoJobs are all that is watched, and all that is written is written by us.
    configured.scanning.disabled = True
    configured.posting.enabled = False
    configured.watching.chunk_size = PAGE
    configured.persistence.diffbase_storage = NoDiff()
    configured.networking.connect_timeout = TIMEOUT_SECONDS
    configured.networking.error_backoffs = Backoffs()
    # By default it kills the process ten minutes after a watch has ended, whatever became of it.
    configured.process.ultimate_exiting_timeout = None
    watched = settings.watched_namespace
    ours = asyncio.all_tasks()
    try:
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=configured,
            standalone=True,
            clusterwide=watched is None,
            namespaces=[] if watched is None else [watched],
            stop_flag=stop,
        )
        # It has installed handlers of its own, which nobody listens to when it has ended.
        _obey_signals(stop)
        await kopf.run_tasks(tasks, ignored=ours)
    except Exception as error:  # noqa: BLE001 - whatever it is, a new watch is the remedy
        _log.warning("the watch ended, and begins anew", reason=f"{type(error).__name__}: {error}")
        await asyncio.sleep(PAUSE_SECONDS)


def _login(**_: object) -> kopf.ConnectionInfo:
    return find_credentials()


def _on_event(shelf: Shelf, queue: WorkQueue) -> Callable[..., Coroutine[Any, Any, None]]:
    async def seen(event: dict[str, Any], **_: object) -> None:
        videojob = read_videojob(event["object"])
        if videojob is None:
            return
        video_id = shelf.gone(videojob) if event["type"] == "DELETED" else shelf.seen(videojob)
        if video_id is not None:
            queue.add(video_id)

    return seen


def policy_of(settings: OperatorSettings) -> Policy:
    """What the settings say of mirrors."""
    return Policy(
        namespace=settings.namespace,
        instance=settings.instance,
        mirror=settings.mirror,
        mirror_max_age=settings.mirror_max_age,
        ttl_processed=settings.ttl_processed,
        ttl_failed=settings.ttl_failed,
    )


def _submit(core: Core) -> Submit:
    settings = core.settings
    return Submit(
        core.store,
        core.objects,
        max_bytes=settings.max_upload_bytes,
        source_prefixes=settings.source_prefixes,
        idempotency_lifetime=settings.idempotency_lifetime,
        # Another process relays what is owed, within a second.
        wake_relay=lambda: None,
    )


def _obey_signals(stop: asyncio.Event) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


def _in(threads: Executor, call: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    return lambda: asyncio.get_running_loop().run_in_executor(threads, call)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do it, unless it is stopped before its end; whether there was no stop."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        stopping.cancel()
    return not stop.is_set()


@asynccontextmanager
async def _running(tasks: list[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run beside the block, and end with it. A task that ends by itself ends the block with its error."""
    async with asyncio.TaskGroup() as group:
        started = [group.create_task(task) for task in tasks]
        try:
            yield
        finally:
            for task in started:
                task.cancel()
