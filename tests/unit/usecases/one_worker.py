"""One video, and a worker that uses fakes: for the tests of `process`, `attempt` and other use cases."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from anb_core.adapters.system import new_id
from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import (
    Busy,
    Unavailable,
)
from anb_core.domain.keys import upload_key
from anb_core.domain.model import Lease, NewVideo, Record, Result, Source
from anb_core.domain.retry import RetryPolicy, Settlement
from anb_core.ports.queue import Delivery
from anb_core.ports.renderer import Resources
from anb_core.ports.stop import Stop
from anb_core.ports.store import Claimed, Dropped, Unknown
from anb_core.testing.clock import ManualClock
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.promises import check_promises, in_memory_evidence
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.runtime import ManualRuntime
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.adopt import Adopt
from anb_core.usecases.attempt import Tools
from anb_core.usecases.process import Process
from anb_core.usecases.relay import Relay
from anb_core.usecases.report import Report
from anb_core.usecases.submit import Submit
from tests.support.renderer import SOURCE, FakeRenderer
from tests.support.scratch import FakeScratch

LEASE = timedelta(seconds=60)
POLICY = RetryPolicy()
VIDEO = "11111111-1111-4111-8111-111111111111"

DATABASE_AWAY = Unavailable("database", "the database does not answer")
ROW_HELD = Busy("database", "another session holds what is needed")
BUCKET_AWAY = Unavailable("bucket", "the bucket does not answer")
QUEUE_AWAY = Unavailable("queue", "the queue does not answer")

STEPS = ["claim", "download", "probe", "main", "upload", "publish", "delete", "clean_up"]


class Death(BaseException):
    """An exception that simulates SIGKILL, so no exception handler may catch it."""


@dataclass
class FakeKeeper:
    deadline: float
    values: list[float]

    def progress(self, value: float) -> None:
        self.values.append(value)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class FaultyStore(InMemoryStore):
    """A store that can lose responses. `silent` lists names of methods.

    The next call of each listed method commits its transaction, and then raises the error `silence`.
    """

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock.now)
        self.silent: list[str] = []
        self.silence: Exception = DATABASE_AWAY

    def claim(
        self,
        video_id: str,
        *,
        generation: int | None,
        attempt_id: str,
        worker: str,
        version: str | None = None,
        lease: timedelta,
        policy: RetryPolicy,
    ) -> Claimed | Dropped | Unknown:
        with self._answering("claim"):
            return super().claim(
                video_id,
                generation=generation,
                attempt_id=attempt_id,
                worker=worker,
                version=version,
                lease=lease,
                policy=policy,
            )

    def publish(self, lease: Lease, result: Result) -> bool:
        with self._answering("publish"):
            return super().publish(lease, result)

    def settle(self, lease: Lease, settlement: Settlement) -> bool:
        with self._answering("settle"):
            return super().settle(lease, settlement)

    @contextmanager
    def _answering(self, method: str) -> Iterator[None]:
        try:
            yield
        finally:
            if method in self.silent:
                self.silent.remove(method)
                raise self.silence


@dataclass
class CheckedQueue(InMemoryQueue):
    """A queue that fails the test if the worker deletes a message while the job still needs the message."""

    store: InMemoryStore = field(default_factory=InMemoryStore)
    deleted: int = 0
    given_back: int = 0

    def delete(self, delivery: Delivery) -> None:
        super().delete(delivery)
        self.deleted += 1
        fault, self.store.fault = self.store.fault, None
        check_promises(in_memory_evidence(self.store, queue=self), POLICY)
        self.store.fault = fault

    def give_back(self, delivery: Delivery, *, pause: timedelta = timedelta(0)) -> None:
        self.given_back += 1
        super().give_back(delivery, pause=pause)


class World:
    """A worker that uses fakes, and one uploaded video."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.runtime = ManualRuntime(self.clock)
        self.store = FaultyStore(self.clock)
        self.queue = CheckedQueue(now=self.clock.now, store=self.store)
        self.objects = InMemoryObjects()
        self.relay = Relay(self.store, self.queue, bucket=self.objects.bucket, runtime=self.runtime, jitter=lambda: 0.0)
        self.renderer = FakeRenderer()
        self.scratch = FakeScratch(folder)
        self.stop = Stop()
        self.progress: list[float] = []
        self.kept_since: list[float] = []
        self.steps: list[str] = []
        self.submit = Submit(
            self.store,
            self.objects,
            max_bytes=1000,
            source_prefixes=["camera/"],
            wake_relay=self.relay.wake,
            new_id=new_id,
        )
        self.die_at: str | None = None

    def process(self, worker: str = "worker-1", *, adopts: bool = False) -> Process:
        return Process(
            store=self.store,
            queue=self.queue,
            tools=Tools(
                store=self.store,
                objects=self.objects,
                renderer=self.renderer,
                relay=self.relay,
                keep=self.keep,
                scratch=self.scratch,
                load_resources=Resources,
                policy=POLICY,
                runtime=self.runtime,
                jitter=lambda: 0.5,
            ),
            worker=worker,
            version="1.0",
            lease=LEASE,
            new_id=new_id,
            adopt=Adopt(
                store=self.store,
                submit=self.submit,
                bucket=self.objects.bucket,
                owner="legacy" if adopts else None,
                source_prefixes=("camera/",),
            ),
            on_step=self.on_step,
        )

    def keep(self, lease: Lease, delivery: Delivery, stop: Stop, since: float) -> FakeKeeper:  # noqa: ARG002 - the signature of the port
        self.kept_since.append(since)
        return FakeKeeper(since + LEASE.total_seconds(), self.progress)

    @property
    def adopted(self) -> list[tuple[str, str]]:
        """The keys and ids of the adopted videos."""
        return [(record.video.source_key, record.video.id) for record in self.store.listing(owner="legacy")]

    def on_step(self, name: str) -> None:
        self.steps.append(name)
        if name == self.die_at:
            raise Death

    def upload(self) -> None:
        key = upload_key(VIDEO)
        self.objects.put(key, SOURCE)
        new = NewVideo(VIDEO, "task-1", "ada", "Holiday", EditSpec(), key, owned=True, file_name="holiday.mp4")
        self.store.begin_upload(new, lifetime=timedelta(hours=1))
        self.store.complete_upload(VIDEO, Source(len(SOURCE)))
        self.relay.send_due()

    def receive(self) -> Delivery:
        delivery = self.queue.receive(wait=timedelta(0))
        assert delivery is not None, "the queue is empty"
        return delivery

    def handle(self, delivery: Delivery | None = None, *, worker: str = "worker-1", adopts: bool = False) -> Report:
        return self.process(worker, adopts=adopts).handle(delivery or self.receive(), self.stop)

    def put(self, **fields: object) -> Delivery:
        self.queue.put(json.dumps(fields))
        return self.receive()

    def check_promises(self) -> None:
        """Check all promises that must hold at every moment."""
        self.store.fault = None
        check_promises(in_memory_evidence(self.store, self.objects, self.queue), POLICY)

    @property
    def record(self) -> Record:
        record = self.store.get(VIDEO)
        assert record is not None
        return record

    @property
    def results(self) -> list[str]:
        """Return the keys of result objects that are not scheduled for deletion."""
        scheduled = {kept.scheduled.key for kept in self.store.deletions}
        return [key for key in self.objects.contents if key.startswith("processed/") and key not in scheduled]

    def after_the_lease(self) -> None:
        """Let the lease expire. Then end the lease as the sweep does, and send the new message as the relay does."""
        self.clock.advance(LEASE)
        self.store.end_expired_leases(limit=10, policy=POLICY)
        self.relay.send_due()


def scratch_is_empty(world: World) -> bool:
    return list(world.scratch.root.iterdir()) == []


def raising(error: Exception) -> Callable[[], None]:
    def during() -> None:
        raise error

    return during
