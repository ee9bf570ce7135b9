"""Connects the parts of one worker, and runs the worker until it stops."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version

import structlog

from anb_core.adapters.system import new_id
from anb_core.bootstrap import make_submit, make_sweep
from anb_core.domain.errors import AnbError, Interrupted
from anb_core.ports.keeper import Keep
from anb_core.ports.objects import Objects
from anb_core.ports.queue import Delivery, Queue, QueueReceiver
from anb_core.ports.renderer import Renderer
from anb_core.ports.runtime import Runtime
from anb_core.ports.stop import Stop
from anb_core.ports.store import Store
from anb_core.usecases.adopt import Adopt
from anb_core.usecases.attempt import Tools
from anb_core.usecases.background import background
from anb_core.usecases.consumer import Consumer, Handler
from anb_core.usecases.gate import Gate
from anb_core.usecases.old_queue import BothQueues, WatchOldQueue
from anb_core.usecases.process import Process
from anb_core.usecases.relay import Relay
from anb_core.usecases.report import Report
from anb_core.usecases.shutdown import Shutdown
from anb_worker.delivery_log import log_report
from anb_worker.health import Pulse, serving
from anb_worker.lease import LeaseKeeper, Terms
from anb_worker.metrics import Metrics
from anb_worker.render.drop_rights import protections
from anb_worker.resources import ResourceCache
from anb_worker.scratch import ScratchDisk
from anb_worker.settings import WorkerSettings

_log = structlog.get_logger(__name__)


def run(
    settings: WorkerSettings,
    *,
    store: Store,
    objects: Objects,
    queue: Queue,
    old_queue: Queue | None = None,
    renderer: Renderer,
    scratch: ScratchDisk,
    shutdown: Shutdown,
    runtime: Runtime,
    prepare: Callable[[Stop], None] = lambda _: None,
    on_step: Callable[[str], None] = lambda _: None,
) -> None:
    """Process jobs until the shutdown. Return after the current job is finished or interrupted.

    `on_step` is called with the name of each step. The caller must open and close `scratch`, store, bucket and queues.
    """
    metrics = Metrics()
    received = BothQueues(queue, old_queue, runtime=runtime) if old_queue else queue
    pulse = Pulse(settings.wait_time + 2 * settings.lease, runtime)
    relay = Relay(store, queue, bucket=objects.bucket, runtime=runtime, queue_limit=settings.queue_limit)
    tools = Tools(
        store=store,
        objects=objects,
        renderer=renderer,
        relay=relay,
        keep=_keeping(settings, store, received, pulse, runtime),
        scratch=scratch,
        load_resources=ResourceCache(objects, scratch.own / "resources").load,
        policy=settings.retry_policy,
        runtime=runtime,
    )
    process = _process(settings, store, received, tools, on_step)
    gate = Gate([store.ping, objects.ping, scratch.ping], wait=shutdown.wait, runtime=runtime)
    consumer = Consumer(
        received,
        reported(process.handle, metrics),
        gate=gate,
        shutdown=shutdown,
        wait=settings.wait_time,
        runtime=runtime,
        beat=pulse.beat,
        on_step=on_step,
    )
    queues = [queue, old_queue] if old_queue else [queue]
    sweep = make_sweep(settings, store, objects, queues, wake_relay=relay.wake, runtime=runtime)
    loops = {"relay": relay.run, "sweep": sweep.run}
    if old_queue:
        loops["old queue"] = WatchOldQueue(old_queue, show=metrics.show_old_queue, runtime=runtime).run
    with _shown(settings.listen, pulse, metrics, gate), background(runtime, loops, wake=relay.wake):
        _log.info("worker started", worker=settings.worker_name, queue=queue.name, bucket=objects.bucket)
        prepare_first(prepare, shutdown, pulse.beat)
        consumer.run()
    _log.info("stopped", worker=settings.worker_name)


def _process(
    settings: WorkerSettings, store: Store, queue: QueueReceiver, tools: Tools, on_step: Callable[[str], None]
) -> Process:
    return Process(
        store=store,
        queue=queue,
        tools=tools,
        worker=settings.worker_name,
        version=version("anb-worker"),
        lease=settings.lease,
        new_id=new_id,
        adopt=_adopt(settings, store, tools.objects, tools.relay),
        on_step=on_step,
    )


def reported(process: Callable[[Delivery, Stop], Report], metrics: Metrics) -> Handler:
    """Return a handler that processes a delivery, counts it and logs it.

    The handler raises Unavailable if an outage prevented the commit of the outcome.
    """

    def handle(delivery: Delivery, stop: Stop) -> None:
        report = process(delivery, stop)
        metrics.count(report)
        log_report(report)
        if report.unavailable is not None:
            raise report.unavailable

    return handle


@contextmanager
def _shown(listen: str | None, pulse: Pulse, metrics: Metrics, gate: Gate) -> Iterator[None]:
    """Serve metrics and health at the address `listen` during the `with` block. Serve nothing if `listen` is None."""
    if listen is None:
        yield
        return
    metrics.show_protections(protections())
    host, _, port = listen.rpartition(":")
    with serving(host, int(port), pulse, metrics.registry, gate.missing) as shown_at:
        _log.info("metrics and health are shown", listen=f"{host}:{shown_at}")
        yield


def _keeping(settings: WorkerSettings, store: Store, queue: QueueReceiver, pulse: Pulse, runtime: Runtime) -> Keep:
    """Return a function that creates a lease keeper. The keeper's durations come from the settings."""
    terms = Terms(duration=settings.lease, heartbeat=settings.heartbeat, visibility=settings.visibility_timeout)
    return partial(LeaseKeeper, store=store, queue=queue, terms=terms, runtime=runtime, beat=pulse.beat)


class _LivingStop(Stop):
    """A `Stop` whose method `check` also calls `beat`. Regular calls of `check` show that the work does not hang."""

    def __init__(self, beat: Callable[[], None]) -> None:
        super().__init__()
        self._beat = beat

    def check(self) -> None:
        self._beat()
        super().check()


def prepare_first(prepare: Callable[[Stop], None], shutdown: Shutdown, beat: Callable[[], None]) -> None:
    """Run `prepare` before the first job, so that the first job starts faster. Meanwhile, call `beat` regularly.

    If `prepare` raises an AnbError or OSError, the error is only logged.
    """
    stop = _LivingStop(beat)
    try:
        with shutdown.interrupting(stop, drains=False):
            prepare(stop)
    except Interrupted:
        _log.info("stopped before the first job")
    except (AnbError, OSError) as error:
        # Only log the error. The first job repeats the preparation, and reports an error if it fails again.
        _log.warning("the preparation for the first job failed", reason=str(error))


def _adopt(settings: WorkerSettings, store: Store, objects: Objects, relay: Relay) -> Adopt:
    return Adopt(
        store=store,
        submit=make_submit(settings, store, objects, wake_relay=relay.wake),
        bucket=objects.bucket,
        owner=settings.adopt_owner,
        source_prefixes=settings.source_prefixes,
    )
