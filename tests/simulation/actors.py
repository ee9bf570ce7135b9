"""The processes of a run: they connect the real use cases as the programs do, with ports of the simulated world."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Held, Refused, Unavailable
from anb_core.domain.model import Scope
from anb_core.domain.retry import RetryPolicy
from anb_core.ports.queue import Delivery
from anb_core.ports.renderer import Rendered, Resources
from anb_core.ports.runtime import Event
from anb_core.ports.stop import Stop
from anb_core.usecases import commands, dead_letters
from anb_core.usecases.adopt import Adopt
from anb_core.usecases.attempt import Tools
from anb_core.usecases.background import background
from anb_core.usecases.consumer import Consumer
from anb_core.usecases.gate import Gate
from anb_core.usecases.old_queue import BothQueues
from anb_core.usecases.process import Process as ProcessDelivery
from anb_core.usecases.receive_dead_letters import ReceiveDeadLetters
from anb_core.usecases.relay import Relay
from anb_core.usecases.shutdown import Shutdown
from anb_core.usecases.submit import Submit
from anb_core.usecases.sweep import Sweep
from anb_core.usecases.upload_session import UploadSessions
from anb_core.usecases.visibility import Caller
from anb_worker.lease import LeaseKeeper, Terms
from tests.simulation.faults import Kind
from tests.simulation.scheduler import Flag, Process, Runtime, Scheduler
from tests.simulation.world import MOVE_SECONDS, World

POLICY = RetryPolicy(max_failures=3, max_lost=3, backoff_base=timedelta(seconds=2), backoff_cap=timedelta(seconds=6))
LEASE = timedelta(seconds=6)
HEARTBEAT = timedelta(seconds=2)
VISIBILITY = timedelta(seconds=9)
SWEEP = timedelta(seconds=10)
DRAIN = timedelta(seconds=2)
POLL = timedelta(seconds=20)
ADA = Caller("ada")
OPERATOR = Caller("operator", Scope.OPS)
THINKING_SECONDS = 2.0
SOURCE = b"\0\0\0\x18ftypisom, a video as its owner sent it"


class RelayRuntime(Runtime):
    """The runtime of a relay. Of its looks at the outbox each second, only those happen that find an entry."""

    def __init__(self, world: World, process: Process) -> None:
        super().__init__(world.scheduler, process, world.errors)
        self._next_outbox = world.next_outbox

    def event(self) -> Event:
        return Collapsed(self.scheduler, Flag(self.scheduler), self._next_outbox)


@dataclass(frozen=True, slots=True)
class Collapsed:
    """An event for which a thread waits again and again. Of its timeouts, the first one after `needed` happens."""

    scheduler: Scheduler
    flag: Event
    needed: Callable[[], float]

    def is_set(self) -> bool:
        return self.flag.is_set()

    def set(self) -> None:
        self.flag.set()

    def clear(self) -> None:
        self.flag.clear()

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout
        first = self.scheduler.now + timeout

        def ready() -> float:
            late = max(0.0, self.needed() - first)
            return 0.0 if self.is_set() else late if late == math.inf else first + math.ceil(late / timeout) * timeout

        if not self.is_set():
            self.scheduler.wait(None, ready)
        return self.is_set()


@dataclass(frozen=True, slots=True)
class Parts:
    """The ports of one process."""

    store: Any
    objects: Any
    queue: Any
    runtime: Runtime
    received: Any
    """The queue from which a worker receives: the queue, or both queues."""
    relay: Relay
    sweep: Sweep
    world: World

    @classmethod
    def of(cls, world: World, process: Process) -> "Parts":
        store = world.port(process, "database", world.store)
        objects = world.port(process, "bucket", world.objects)
        process.queues = world.queues
        queues = [world.port(process, "queue", queue) for queue in world.queues]
        queue = queues[0]
        runtime, jitter = Runtime(world.scheduler, process, world.errors), world.random.random
        relay = Relay(
            store,
            queue,
            bucket="anb-videos",
            runtime=RelayRuntime(world, process),
            queue_limit=world.setup.queue_limit,
            jitter=jitter,
        )
        sweep = Sweep(
            store,
            objects,
            queues,
            policy=POLICY,
            interval=SWEEP,
            hidden=VISIBILITY,
            wake_relay=relay.wake,
            runtime=runtime,
        )
        received = BothQueues(*queues, runtime=runtime, jitter=jitter) if len(queues) > 1 else queue
        return cls(store, objects, queue, runtime, received, relay, sweep, world)

    def run_sweep(self, stop: Event) -> None:
        """Sweep until `stop` is set, but not before the time of the setup. Leave out passes that would find nothing."""
        stop.wait(max(0.0, self.world.setup.no_sweep_before - self.runtime.monotonic()))
        self.sweep.run(Collapsed(self.world.scheduler, stop, self.world.next_sweep))


# -- the API


def api(world: World, process: Process) -> None:
    """Run an API process. Its clients send an upload again until they get an answer, or until it is cancelled."""
    parts = Parts.of(world, process)
    sessions = UploadSessions(
        store=parts.store,
        objects=parts.objects,
        max_bytes=1000,
        idempotency_lifetime=timedelta(days=1),
        wake_relay=parts.relay.wake,
        runtime=parts.runtime,
        new_id=partial(world.new_id, "video"),
    )
    process.terminate = partial(world.kill, process, 1.0)
    stop = parts.runtime.event()
    parts.runtime.start("relay", partial(parts.relay.run, stop))
    parts.runtime.start("sweep", partial(parts.run_sweep, stop))
    world.person = lambda kind: _command(world, parts, kind)
    for number in range(1, world.setup.uploads + 1):
        parts.runtime.start(f"upload {number}", partial(_upload, world, sessions, f"client-{number}", number))
    world.scheduler.wait(None)


def _upload(world: World, sessions: UploadSessions, client: str, number: int) -> None:
    seconds = world.setup.process_after
    key = client if world.setup.keyed else None
    if world.setup.moves:
        # Just before each move, and just before each process moves, a client uploads a video.
        sessions.runtime.sleep(max(0.0, number * MOVE_SECONDS - 1.0 - sessions.runtime.monotonic()))
    after = None if seconds is None else str(seconds)
    while client not in world.answered:
        try:
            with sessions.begin(ADA, file_name="holidays.mp4", idempotency_key=key) as session:
                session.append(SOURCE)
                record = session.complete("Holidays", EditSpec(), after)
        except Held as error:
            sessions.runtime.sleep(error.wait.total_seconds())
        except Unavailable:
            sessions.runtime.sleep(5.0)
        except Refused:
            world.answered.add(client)
        else:
            world.answered.add(client)
            world.receipts.add(record.video.id)
            world.disturbed(seconds or 0.0)


def _command(world: World, parts: Parts, kind: Kind) -> None:
    """Let a person give a command for the first video, in a thread of the API. Some wait for the end of the job."""
    video_id = next((row.record.video.id for row in world.store.rows.values()), "video-1")
    run: Callable[[], object] = {
        Kind.CANCEL: lambda: commands.cancel(parts.store, ADA, video_id),
        Kind.DELETE: lambda: commands.delete(parts.store, ADA, video_id),
        Kind.RETRY: lambda: commands.retry(parts.store, parts.objects, ADA, video_id, wake_relay=parts.relay.wake),
        Kind.REDRIVE: lambda: [
            dead_letters.redrive(parts.store, parts.objects, OPERATOR, one.id, wake_relay=parts.relay.wake)
            for one in world.store.letters
            if one.open
        ],
        Kind.DISCARD: lambda: [
            dead_letters.discard(parts.store, OPERATOR, one.id, reason=_reason(parts))
            for one in world.store.letters
            if one.open
        ],
    }[kind]

    def may_begin() -> float:
        row = world.store.rows.get(video_id)
        return math.inf if row and not row.job.status.terminal else 0.0

    def give() -> None:
        if kind in {Kind.RETRY, Kind.REDRIVE, Kind.DISCARD}:
            world.scheduler.wait(None, may_begin)
        with suppress(Refused, Unavailable):
            run()
        world.disturbed(0.0)

    if parts.runtime.process.alive:
        world.commands.append(parts.runtime.start(kind.name.lower(), give))


def _reason(parts: Parts) -> str:
    """Return the reason of a discard, as a person who writes it slowly. Another person may redrive meanwhile."""
    parts.runtime.sleep(THINKING_SECONDS)
    return "seen"


# -- a worker


@dataclass(frozen=True, slots=True)
class File:
    """A file or a folder in memory, with the methods of `Path` that a worker needs."""

    contents: dict[str, bytes]
    name: str = ""

    def __truediv__(self, name: str) -> "File":
        return File(self.contents, name)

    @property
    def parent(self) -> "File":
        return File(self.contents)

    def write_bytes(self, data: bytes) -> None:
        self.contents[self.name] = data

    def read_bytes(self) -> bytes:
        return self.contents[self.name]

    def open(self, _mode: str) -> BytesIO:
        return BytesIO(self.contents[self.name])


@dataclass(frozen=True, slots=True)
class Scratch:
    """Makes the folder of an attempt."""

    def folder(self, attempt_id: str) -> Any:  # noqa: ARG002 - the port's signature
        return File({})

    def make(self, attempt_id: str, source_size: int) -> Any: ...

    def clear(self, attempt_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Renderer:
    """Renders for some seconds. Each second is a place for a fault."""

    world: World
    process: Process

    def render(
        self,
        source: Path,
        edit: EditSpec,  # noqa: ARG002 - the port's signature
        title: str,  # noqa: ARG002
        workdir: Path,
        *,
        on_progress: Callable[[float], None],
        on_step: Callable[[str], None],
        stop: Stop,
        resources: Resources,  # noqa: ARG002
    ) -> Rendered:
        assert source.read_bytes() == SOURCE
        on_step("main")
        seconds = self.world.setup.render_seconds
        for second in range(seconds):
            self.world.call(self.process, "renderer", "render", lambda: None)
            self.world.scheduler.wait(1.0)
            stop.check()
            if not self.world.steps.rendering(self.process):
                self.world.end()
            on_progress((second + 1) / seconds)
        # Each file has another size, so that the checker can tell the results of two attempts apart.
        size = int(self.world.new_id("size").partition("-")[2])
        path = workdir / "finished"
        path.write_bytes(b"x" * size)
        return Rendered(path, size, "5a" * 32, width=1280, height=720, duration=12.5, frames=375)


def worker(world: World, process: Process) -> None:
    """Run a worker process until a SIGTERM."""
    parts = Parts.of(world, process)
    runtime, shutdown = parts.runtime, Shutdown(DRAIN, parts.runtime)
    process.terminate = partial(shutdown.request, "SIGTERM")
    terms = Terms(duration=LEASE, heartbeat=HEARTBEAT, visibility=VISIBILITY)
    tools = Tools(
        store=parts.store,
        objects=parts.objects,
        renderer=Renderer(world, process),
        relay=parts.relay,
        keep=partial(LeaseKeeper, store=parts.store, queue=parts.received, terms=terms, runtime=runtime),
        scratch=Scratch(),
        load_resources=Resources,
        policy=POLICY,
        runtime=runtime,
        jitter=world.random.random,
    )
    delivering = ProcessDelivery(
        store=parts.store,
        queue=parts.received,
        tools=tools,
        worker=process.name,
        version="1.0",
        lease=LEASE,
        new_id=partial(world.new_id, "attempt"),
        adopt=_adopt(world, parts),
    )

    def handle(delivery: Delivery, stop: Stop) -> None:
        report = delivering.handle(delivery, stop)
        row = world.store.rows.get(report.video_id or "")
        attempt = next((one for one in row.attempts if one.id == report.attempt_id), None) if row else None
        world.steps.dropped(report, delivery.queue, row)
        if not world.steps.reported(report, attempt):
            world.end()
        if report.unavailable is not None:
            raise report.unavailable

    consumer = Consumer(
        parts.received,
        handle,
        gate=Gate(
            [parts.store.ping, parts.objects.ping], wait=shutdown.wait, runtime=runtime, jitter=world.random.random
        ),
        shutdown=shutdown,
        wait=POLL,
        runtime=runtime,
    )
    with background(runtime, {"relay": parts.relay.run, "sweep": parts.run_sweep}, wake=parts.relay.wake):
        consumer.run()


def _adopt(world: World, parts: Parts) -> Adopt:
    submit = Submit(
        parts.store,
        parts.objects,
        max_bytes=1000,
        source_prefixes=(),
        wake_relay=parts.relay.wake,
        new_id=partial(world.new_id, "video"),
    )
    return Adopt(store=parts.store, submit=submit, bucket="anb-videos", owner=None, source_prefixes=())


# -- the operator


def operator(world: World, process: Process) -> None:
    """Run the consumer of the dead-letter queue."""
    runtime = Runtime(world.scheduler, process, world.errors)
    store = world.port(process, "database", world.store)
    queue = world.port(process, "dead letters", world.queue.dead_letters)
    ReceiveDeadLetters(store, queue, policy=POLICY, runtime=runtime).run(runtime.event())
