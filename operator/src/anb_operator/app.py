"""Builds the parts of the operator and runs them: kopf watches VideoJobs, and the operator's own tasks do the work."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from anb_core.adapters.system import SystemRuntime
from anb_core.bootstrap import DeadLetterLoops, make_dead_letter_loops, make_submit
from anb_core.ports.alerts import Alerts
from anb_core.ports.metrics import MetricSink
from anb_core.ports.objects import Objects
from anb_core.ports.queue import QueueReceiver
from anb_core.ports.runtime import Runtime
from anb_core.ports.store import Store
from anb_core.usecases.background import background
from anb_operator.cache import VideoJobCache
from anb_operator.client import KubeClient
from anb_operator.cloudwatch import CloudWatchPublisher
from anb_operator.connection import Connection
from anb_operator.deletion_costs import DeletionCosts
from anb_operator.feed import FeedReader
from anb_operator.health import Health, serving
from anb_operator.message_events import MessageEvents
from anb_operator.metrics import Metrics
from anb_operator.planning import Policy
from anb_operator.reconcile_workers import RECONCILE_WORKERS, reconcile_worker
from anb_operator.reconciler import Histories, Reconciler
from anb_operator.resync import Resync
from anb_operator.settings import OperatorSettings
from anb_operator.stopping import stop_on_signals, unless_stopped
from anb_operator.watch import watch
from anb_operator.workqueue import WorkQueue

COMMANDS = 4
"""Maximum number of commands that run at once. Each needs one of the operator's database connections (8 by default)."""

DEAD_LETTERS_WAIT = "the dead-letter queue (SQS_DLQ_URL) does not answer, so its messages wait"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Threads:
    """Thread pools for blocking calls. There are several pools, so that a slow call delays only calls of its kind."""

    reading: Executor
    """The thread pool for database reads: the feed, videos, and the jobs that workers process."""
    commands: Executor
    """The thread pool for commands from VideoJob specs: submit, cancel and retry."""
    checks: Executor
    """The thread pool for the pings of the readiness probe."""
    metrics: Executor
    """The thread pool for the metrics in CloudWatch."""


async def run(
    settings: OperatorSettings,
    store: Store,
    objects: Objects,
    *,
    dead_letter_queue: QueueReceiver | None,
    alerts: Alerts | None,
    metric_sink: MetricSink | None,
) -> None:
    """Run the operator until SIGTERM or SIGINT. The operator keeps running during outages.

    The caller closes `store`, `objects`, `dead_letter_queue`, `alerts` and `metric_sink`.

    Raises:
        kopf.LoginError: the operator runs outside a pod, and KUBECONFIG can't be read.
    """
    metrics, runtime = Metrics(store), SystemRuntime()
    connection = Connection(on_answer=lambda verb, code: metrics.requests.labels(verb, code).inc())
    kube = KubeClient(connection, namespace=settings.namespace, watched=settings.watched_namespace)
    events = MessageEvents(kube, settings.deployment) if settings.deployment else None
    dead_letters = make_dead_letter_loops(
        settings,
        store,
        dead_letter_queue,
        alerts,
        metrics=metrics.dead_letters,
        runtime=runtime,
        on_record=events.add if events else lambda _: None,
    )
    async with connection.open():
        with background(runtime, dead_letters.loops, wake=lambda: None):
            await _follow(
                settings,
                store,
                objects,
                dead_letters,
                events,
                metric_sink=metric_sink,
                kube=kube,
                connection=connection,
                metrics=metrics,
                runtime=runtime,
            )
    _log.info("stopped")


async def _follow(
    settings: OperatorSettings,
    store: Store,
    objects: Objects,
    dead_letters: DeadLetterLoops,
    events: MessageEvents | None,
    *,
    metric_sink: MetricSink | None,
    kube: KubeClient,
    connection: Connection,
    metrics: Metrics,
    runtime: Runtime,
) -> None:
    """Mirror videos as VideoJobs, and run the commands of VideoJobs, until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    with _threads() as threads:
        cache = VideoJobCache()
        # VideoJobs are deleted even while the queue is paused, because a database outage must not block a deletion.
        queue = WorkQueue(urgent=lambda video_id: any(videojob.deleting for videojob in cache.of(video_id)))
        health = _health(
            store,
            objects,
            dead_letters,
            kube=kube,
            connection=connection,
            cache=cache,
            metrics=metrics,
            threads=threads,
        )
        reconciler = _reconciler(settings, store, objects, kube=kube, cache=cache, metrics=metrics, threads=threads)
        costs = _deletion_costs(settings, store, kube, threads)
        feed = FeedReader(
            store,
            queue,
            runtime,
            threads=threads.reading,
            on_attempt=costs.wake if costs else lambda: None,
            beat=health.beat,
            report=partial(health.report, "feed"),
        )
        resync = Resync(
            kube, store, cache, queue, threads=threads.reading, report=partial(health.report, "list of videos")
        )
        _set_gauges(metrics, cache, queue, feed)
        publisher = _publisher(settings, store, kube, metric_sink, threads)
        async with serving(settings.listen, health), _running([publisher.run()] if publisher else []):
            while await unless_stopped(stop, resync.wait_for_videojobs(beat=health.beat)):
                tasks = [
                    feed.run(),
                    resync.compare(),
                    resync.relist(),
                    *(part.run() for part in (costs, events) if part),
                    *(reconcile_worker(queue, reconciler.reconcile, metrics) for _ in range(RECONCILE_WORKERS)),
                ]
                async with _running(tasks):
                    _log.info("operator started", namespace=settings.namespace, watch=settings.watch, seen=len(cache))
                    await watch(settings.watched_namespace, cache, queue, stop)


@contextmanager
def _threads() -> Iterator[Threads]:
    with ExitStack() as stack:
        yield Threads(
            reading=stack.enter_context(ThreadPoolExecutor(4, "reading")),
            commands=stack.enter_context(ThreadPoolExecutor(COMMANDS, "commands")),
            checks=stack.enter_context(ThreadPoolExecutor(4, "checks")),
            metrics=stack.enter_context(ThreadPoolExecutor(1, "metrics")),
        )


def _health(
    store: Store,
    objects: Objects,
    dead_letters: DeadLetterLoops,
    *,
    kube: KubeClient,
    connection: Connection,
    cache: VideoJobCache,
    metrics: Metrics,
    threads: Threads,
) -> Health:
    def in_thread(call: Callable[[], None]) -> Callable[[], Awaitable[None]]:
        return lambda: asyncio.get_running_loop().run_in_executor(threads.checks, call)

    return Health(
        # During an outage of the API server the watch can't show writes, so the outage does not count as silence.
        watch_silence=lambda: min(cache.silence(), connection.answering()),
        parts={
            "database": in_thread(store.ping),
            "bucket": in_thread(objects.ensure),
            "kubernetes API": kube.ping,
        },
        registry=metrics.registry,
        outages=lambda: [DEAD_LETTERS_WAIT] if dead_letters.outage() else [],
    )


def _reconciler(
    settings: OperatorSettings,
    store: Store,
    objects: Objects,
    *,
    kube: KubeClient,
    cache: VideoJobCache,
    metrics: Metrics,
    threads: Threads,
) -> Reconciler:
    return Reconciler(
        store=store,
        objects=objects,
        # The operator needs no relay: a relay of the API or of a worker sends the job's message within a second.
        submit=make_submit(settings, store, objects, wake_relay=lambda: None),
        kube=kube,
        cache=cache,
        histories=Histories(store, threads.reading),
        policy=policy_of(settings),
        threads=threads.commands,
        on_command=lambda command, outcome: metrics.commands.labels(command, outcome).inc(),
    )


def _deletion_costs(
    settings: OperatorSettings, store: Store, kube: KubeClient, threads: Threads
) -> DeletionCosts | None:
    if settings.worker_selector is None:
        return None
    return DeletionCosts(store, kube, selector=settings.worker_selector, threads=threads.reading)


def _publisher(
    settings: OperatorSettings, store: Store, kube: KubeClient, sink: MetricSink | None, threads: Threads
) -> CloudWatchPublisher | None:
    if sink is None:
        return None
    return CloudWatchPublisher(store, kube, sink, workers=settings.worker_deployment, threads=threads.metrics)


def _set_gauges(metrics: Metrics, cache: VideoJobCache, queue: WorkQueue, feed: FeedReader) -> None:
    metrics.videojobs.set_function(lambda: len(cache))
    metrics.queue_depth.set_function(lambda: len(queue))
    metrics.videos_failing.set_function(lambda: queue.failing)
    metrics.watch_silence.set_function(cache.silence)
    metrics.feed_unanswered.set_function(feed.unanswered)
    metrics.feed_lag.set_function(feed.lag)


def policy_of(settings: OperatorSettings) -> Policy:
    """Return the mirror policy that the settings describe."""
    return Policy(
        namespace=settings.namespace,
        instance=settings.instance,
        mirror=settings.mirror,
        mirror_max_age=settings.mirror_max_age,
        ttl_processed=settings.ttl_processed,
        ttl_failed=settings.ttl_failed,
    )


@asynccontextmanager
async def _running(tasks: list[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run the tasks during the `with` block, and cancel the tasks at its end. A failed task cancels the block."""
    async with asyncio.TaskGroup() as group:
        started = [group.create_task(task) for task in tasks]
        try:
            yield
        finally:
            for task in started:
                task.cancel()
