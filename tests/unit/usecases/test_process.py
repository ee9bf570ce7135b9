import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from anb_core.adapters.system import new_id
from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import (
    BadInput,
    Busy,
    Interrupted,
    LeaseLost,
    NotFound,
    Transient,
    Unavailable,
    Withheld,
)
from anb_core.domain.keys import upload_key
from anb_core.domain.model import Counters, DeadLetterCause, Ending, Lease, NewVideo, Record, Result, Source
from anb_core.domain.retry import INTERRUPTIONS_ALARM, RetryPolicy, Settlement
from anb_core.domain.status import Status
from anb_core.ports.queue import Delivery
from anb_core.ports.renderer import Resources
from anb_core.ports.stop import Stop
from anb_core.ports.store import Claimed, Dropped, Unknown
from anb_core.testing.clock import ManualClock
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.runtime import ManualRuntime
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.attempt import Tools
from anb_core.usecases.process import Process
from anb_core.usecases.relay import Relay
from anb_core.usecases.report import Outcome, Report
from tests.support.renderer import FINISHED, SOURCE, FakeRenderer

LEASE = timedelta(seconds=60)
POLICY = RetryPolicy()
VIDEO = "11111111-1111-4111-8111-111111111111"

DATABASE_AWAY = Unavailable("database", "the database does not answer")
ROW_HELD = Busy("database", "another session holds what is needed")
BUCKET_AWAY = Unavailable("bucket", "the bucket does not answer")
QUEUE_AWAY = Unavailable("queue", "the queue does not answer")

STEPS = ["claim", "download", "probe", "main", "upload", "publish", "delete", "clean_up"]


class Death(BaseException):
    """kill -9, as far as one process can tell."""


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


@dataclass
class FakeScratch:
    root: Path
    full: bool = False

    def make(self, attempt_id: str, source_size: int) -> Path:
        if self.full:
            raise Unavailable("scratch", f"there is no room for {source_size} bytes")
        folder = self.root / attempt_id
        folder.mkdir(exist_ok=True)
        return folder

    def clear(self, attempt_id: str) -> None:
        folder = self.root / attempt_id
        if folder.exists():
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()


class FaultyStore(InMemoryStore):
    """Loses what it is told to: `silent` methods commit and their answer is lost, once each."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock.now)
        self.silent: list[str] = []

    def claim(
        self,
        video_id: str,
        *,
        generation: int | None,
        attempt_id: str,
        worker: str,
        lease: timedelta,
        policy: RetryPolicy,
    ) -> Claimed | Dropped | Unknown:
        with self._answering("claim"):
            return super().claim(
                video_id, generation=generation, attempt_id=attempt_id, worker=worker, lease=lease, policy=policy
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
                raise DATABASE_AWAY


@dataclass
class CheckedQueue(InMemoryQueue):
    """A queue that lets nobody delete a message unless committed state takes its place (promise L3)."""

    store: InMemoryStore = field(default_factory=InMemoryStore)
    deleted: int = 0
    given_back: int = 0

    def delete(self, delivery: Delivery) -> None:
        self.ping()
        fault, self.store.fault = self.store.fault, None
        sent_anew = any(e.body == delivery.body and e.message_id != delivery.message_id for e in self._entries)
        assert sent_anew or obliged(self.store, delivery), f"nothing takes the place of {delivery.body}"
        self.store.fault = fault
        self.deleted += 1
        super().delete(delivery)

    def give_back(self, delivery: Delivery, *, pause: timedelta = timedelta(0)) -> None:
        self.given_back += 1
        super().give_back(delivery, pause=pause)


def obliged(store: InMemoryStore, delivery: Delivery) -> bool:
    if any(letter.message_id == delivery.message_id for letter in store.dead_letters):
        return True
    record = store.get(json.loads(delivery.body)["video_id"])
    if record is None:
        return True
    job = record.job
    return job.status.terminal or job.lease_owner is not None or job.video_id in store.outbox


class World:
    """One video that was uploaded, and a worker with fakes around it."""

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
        self.steps: list[str] = []
        self.adopted: list[tuple[str, str]] = []
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
                keep=lambda _lease, _delivery, _stop, since: FakeKeeper(since + LEASE.total_seconds(), self.progress),
                scratch=self.scratch,
                load_resources=Resources,
                policy=POLICY,
                runtime=self.runtime,
                jitter=lambda: 0.5,
            ),
            worker=worker,
            lease=LEASE,
            new_id=new_id,
            adopt=self.adopt if adopts else None,
            on_step=self.on_step,
        )

    def adopt(self, key: str, video_id: str) -> None:
        self.objects.head(key)
        if key not in self.objects.contents:
            raise NotFound("source_missing", f"there is no object {key}")
        self.adopted.append((key, video_id))
        new = NewVideo(
            video_id, f"task-{video_id}", "legacy", "An old one", EditSpec(), key, owned=False, file_name="old.mp4"
        )
        self.store.submit_existing(new, Source(len(SOURCE)))

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

    @property
    def record(self) -> Record:
        record = self.store.get(VIDEO)
        assert record is not None
        return record

    @property
    def results(self) -> list[str]:
        """The objects that somebody wrote as a result and no row schedules for deletion."""
        scheduled = {kept.scheduled.key for kept in self.store.deletions}
        return [key for key in self.objects.contents if key.startswith("processed/") and key not in scheduled]

    def after_the_lease(self) -> None:
        """The sweep of another process finds the expired lease, and the relay sends."""
        self.clock.advance(LEASE)
        self.store.end_expired_leases(limit=10, policy=POLICY)
        self.relay.send_due()


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.upload()
    return world


@pytest.fixture
def empty_world(tmp_path: Path) -> World:
    return World(tmp_path)


def scratch_is_empty(world: World) -> bool:
    return list(world.scratch.root.iterdir()) == []


def test_a_video_is_processed_and_its_message_deleted(world: World) -> None:
    report = world.handle()

    job = world.record.job
    assert report.outcome is Outcome.PROCESSED
    assert job.status is Status.PROCESSED
    assert job.result == Result(f"processed/{VIDEO}/1-{report.attempt_id}.mp4", 18, "5a" * 32, 1280, 720, 12.5, 375)
    assert world.objects.contents[job.result.key] == FINISHED
    assert world.objects.content_types[job.result.key] == "video/mp4"
    assert world.queue.depth().empty
    assert scratch_is_empty(world)
    assert world.steps == STEPS


def test_progress_runs_from_the_first_byte_to_the_last_and_never_falls(world: World) -> None:
    world.handle()
    assert world.progress == sorted(world.progress)
    assert world.progress == [pytest.approx(value) for value in (0.1, 0.5, 0.9, 1.0)]


def test_the_report_tells_how_long_each_step_took(world: World) -> None:
    world.renderer.during = lambda: world.clock.advance(timedelta(seconds=7))
    report = world.handle()
    assert list(report.steps) == STEPS
    assert report.steps["main"] == 7
    assert report.seconds == 7


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_that_dies_at_any_step_leaves_a_job_that_another_one_finishes(world: World, step: str) -> None:
    world.die_at = step
    with pytest.raises(Death):
        world.handle()
    world.die_at = None

    world.after_the_lease()
    world.clock.advance(world.queue.visibility)
    while delivery := world.queue.receive(wait=timedelta(0)):
        world.handle(delivery, worker="worker-2")

    assert world.record.job.status is Status.PROCESSED
    assert world.record.job.counters.failures == 0
    assert len(world.results) == 1
    assert [world.record.job.result and world.record.job.result.key] == world.results


def test_bad_input_fails_once_with_its_reason(world: World) -> None:
    world.renderer.during = raising(BadInput("no_video_stream", "The file has no picture."))
    report = world.handle()

    job = world.record.job
    assert (report.outcome, job.status) == (Outcome.REJECTED, Status.FAILED)
    assert job.error is not None
    assert (job.error.code, job.error.message) == ("no_video_stream", "The file has no picture.")
    assert world.store.dead_letters == []
    assert world.queue.depth().empty
    assert scratch_is_empty(world)


def test_a_failed_try_is_due_again_after_its_backoff(world: World) -> None:
    world.renderer.during = raising(Transient("killed", "The render was killed."))
    report = world.handle()
    assert report.outcome is Outcome.FAILED
    assert report.counters == Counters(failures=1)
    assert world.record.job.status is Status.PROCESSING
    assert world.relay.send_due().sent == 0

    world.renderer.during = lambda: None
    world.clock.advance(POLICY.backoff_base / 2)
    assert world.relay.send_due().sent == 1
    assert world.handle().outcome is Outcome.PROCESSED


def test_the_third_failure_is_a_dead_letter(world: World) -> None:
    world.renderer.during = raising(Transient("killed", "The render was killed."))
    outcomes = []
    for _ in range(3):
        outcomes.append(world.handle().outcome)
        world.clock.advance(POLICY.backoff_cap)
        world.relay.send_due()

    assert outcomes == [Outcome.FAILED, Outcome.FAILED, Outcome.DEAD_LETTERED]
    assert world.record.job.status is Status.DEAD_LETTERED
    assert [letter.cause for letter in world.store.dead_letters] == [DeadLetterCause.FAILURES]
    assert world.queue.depth().empty


def test_an_error_nobody_foresaw_is_a_failure_that_tells_people_nothing_private(world: World) -> None:
    world.renderer.during = raising(ValueError("/secret/path"))
    report = world.handle()
    assert report.outcome is Outcome.FAILED
    assert report.problem is not None
    assert report.problem.code == "internal_error"
    assert "secret" not in report.problem.message
    assert "ValueError" in report.problem.message


def test_a_source_that_is_missing_is_waited_for(world: World) -> None:
    del world.objects.contents[upload_key(VIDEO)]
    report = world.handle()
    assert report.outcome is Outcome.FAILED
    assert report.problem is not None
    assert report.problem.code == "source_missing"

    world.objects.put(upload_key(VIDEO), SOURCE)
    world.clock.advance(POLICY.backoff_base)
    world.relay.send_due()
    assert world.handle().outcome is Outcome.PROCESSED


def test_a_source_that_vanishes_between_two_looks_is_missing_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(key: str, _path: Path, **_: object) -> None:
        raise NotFound("object_missing", f"There is no object {key}.")

    monkeypatch.setattr(world.objects, "fetch", fetch)
    report = world.handle()
    assert report.problem is not None
    assert report.problem.code == "source_missing"


def test_an_interrupted_job_goes_on_elsewhere_at_once_and_no_failure_is_counted(world: World) -> None:
    world.renderer.during = lambda: world.stop.ask(Interrupted())
    report = world.handle()

    assert report.outcome is Outcome.HANDED_ON
    assert report.counters == Counters(interruptions=1)
    assert world.queue.depth().visible == 1, "the next message was sent before the worker went"
    world.stop, world.renderer.during = Stop(), lambda: None
    assert world.handle(worker="worker-2").outcome is Outcome.PROCESSED
    assert world.record.job.counters == Counters(interruptions=1)
    assert [attempt.ending for attempt in world.store.history(VIDEO)[1]] == [Ending.INTERRUPTED, Ending.PROCESSED]


def test_a_queue_that_is_away_keeps_no_job_from_being_handed_on(world: World) -> None:
    def during() -> None:
        world.stop.ask(Interrupted())
        world.queue.fault = QUEUE_AWAY

    world.renderer.during = during
    assert world.handle().outcome is Outcome.HANDED_ON
    world.queue.fault = None
    world.clock.advance(timedelta(seconds=2))
    assert world.relay.send_due().sent == 1


@pytest.mark.parametrize("moment", ["download", "upload"])
def test_a_stop_is_heard_while_bytes_move(world: World, moment: str) -> None:
    def on_step(name: str) -> None:
        world.steps.append(name)
        if name == moment:
            world.stop.ask(Interrupted())

    world.on_step = on_step  # type: ignore[method-assign]
    assert world.handle().outcome is Outcome.HANDED_ON
    assert world.results == []
    assert world.objects.unfinished == set()


def test_a_download_ends_at_the_first_piece_after_a_stop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = []

    def fetch(_key: str, path: Path, *, on_bytes: Callable[[int], None]) -> None:
        for piece in (b"first", b"second"):
            on_bytes(len(piece))
            pieces.append(piece)
            path.write_bytes(b"".join(pieces))
            world.stop.ask(Interrupted())

    monkeypatch.setattr(world.objects, "fetch", fetch)
    assert world.handle().outcome is Outcome.HANDED_ON
    assert pieces == [b"first"]


def test_a_job_that_was_taken_over_is_left_alone(world: World) -> None:
    def during() -> None:
        world.store.cancel(VIDEO)
        world.stop.ask(LeaseLost())

    world.renderer.during = during
    report = world.handle()
    assert report.outcome is Outcome.SUPERSEDED
    assert world.record.job.status is Status.CANCELLED
    assert world.record.job.counters == Counters()
    assert world.results == []
    assert scratch_is_empty(world)


def test_a_result_that_comes_too_late_is_not_published(world: World) -> None:
    first = world.receive()

    def during() -> None:
        world.renderer.during = lambda: None
        world.after_the_lease()
        assert world.handle(worker="worker-2").outcome is Outcome.PROCESSED

    world.renderer.during = during
    assert world.handle(first).outcome is Outcome.SUPERSEDED
    assert world.record.job.result is not None
    assert world.results == [world.record.job.result.key]


def test_two_deliveries_of_one_message_make_one_result(world: World) -> None:
    first = world.receive()
    world.clock.advance(world.queue.visibility)
    second = world.receive()

    assert world.handle(first).outcome is Outcome.PROCESSED
    report = world.handle(second)
    assert (report.outcome, report.detail) == (Outcome.DROPPED, "terminal")
    assert len(world.store.history(VIDEO)[1]) == 1


def test_a_delivery_of_a_job_that_another_worker_holds_is_dropped(world: World) -> None:
    first = world.receive()

    def during() -> None:
        report = world.handle(world.put(video_id=VIDEO, generation=1), worker="worker-2")
        assert (report.outcome, report.detail) == (Outcome.DROPPED, "leased")

    world.renderer.during = during
    assert world.handle(first).outcome is Outcome.PROCESSED


@pytest.mark.parametrize("body", ["", "no JSON", "[]", '{"video": 1}', '{"video_id": 7}'])
def test_a_message_nobody_can_read_is_recorded_then_deleted(empty_world: World, body: str) -> None:
    world = empty_world
    world.queue.put(body)
    report = world.handle()
    assert report.outcome is Outcome.RECORDED
    assert [(letter.cause, letter.body) for letter in world.store.dead_letters] == [(DeadLetterCause.UNREADABLE, body)]
    assert world.queue.depth().empty


def test_a_message_of_an_unknown_video_is_recorded_then_deleted(empty_world: World) -> None:
    world = empty_world
    world.objects.put("uploads/nobody.mp4", SOURCE)
    report = world.handle(world.put(video_id="nobody", generation=1, file_path="uploads/nobody.mp4"), adopts=True)
    assert report.outcome is Outcome.RECORDED
    assert [letter.cause for letter in world.store.dead_letters] == [DeadLetterCause.UNKNOWN_JOB]
    assert world.queue.depth().empty
    assert world.adopted == []


@pytest.mark.parametrize(
    "location", [{"file_path": "uploads/old.mp4"}, {"video_path": "s3://anb-videos/uploads/old.mp4"}], ids=str
)
def test_a_video_that_only_an_older_producer_knows_is_adopted(empty_world: World, location: dict[str, str]) -> None:
    world = empty_world
    world.objects.put("uploads/old.mp4", SOURCE)
    report = world.handle(world.put(video_id="old", **location), adopts=True)
    assert report.outcome is Outcome.ADOPTED
    assert world.adopted == [("uploads/old.mp4", "old")]

    world.relay.send_due()
    assert world.handle().outcome is Outcome.PROCESSED


def test_a_message_of_an_older_producer_stays_while_the_bucket_withholds_its_object(empty_world: World) -> None:
    world = empty_world
    world.objects.put("uploads/old.mp4", SOURCE)
    world.objects.fault = Withheld("object_withheld", "the bucket does not give us the object")
    delivery = world.put(video_id="old", file_path="uploads/old.mp4")
    assert world.handle(delivery, adopts=True).outcome is Outcome.GIVEN_BACK
    assert not world.store.dead_letters

    world.objects.fault = None
    assert world.handle(delivery, adopts=True).outcome is Outcome.ADOPTED


@pytest.mark.parametrize(
    ("adopts", "location"),
    [
        (False, {"file_path": "uploads/old.mp4"}),
        (True, {"video_path": "s3://somebody-elses/uploads/old.mp4"}),
        (True, {"file_path": "processed/old.mp4"}),
        (True, {}),
        (True, {"file_path": "uploads/missing.mp4"}),
    ],
    ids=str,
)
def test_nothing_else_is_adopted(empty_world: World, adopts: bool, location: dict[str, str]) -> None:  # noqa: FBT001
    world = empty_world
    world.objects.put("uploads/old.mp4", SOURCE)
    report = world.handle(world.put(video_id="old", **location), adopts=adopts)
    assert report.outcome is Outcome.RECORDED
    assert world.adopted == []
    assert [letter.cause for letter in world.store.dead_letters] == [DeadLetterCause.UNKNOWN_JOB]


def test_a_claim_that_can_not_be_committed_gives_the_message_back(world: World) -> None:
    delivery = world.receive()
    world.store.fault = DATABASE_AWAY
    report = world.handle(delivery)
    assert (report.outcome, report.unavailable) == (Outcome.GIVEN_BACK, DATABASE_AWAY)
    assert world.queue.depth().visible == 1

    world.store.fault = None
    assert world.handle().outcome is Outcome.PROCESSED


def test_a_message_of_a_video_that_this_version_cannot_read_is_left_to_a_newer_worker(world: World) -> None:
    delivery = world.receive()
    video_id = json.loads(delivery.body)["video_id"]
    world.store.unreadable.add(video_id)
    report = world.handle(delivery)
    assert (report.outcome, report.unavailable) == (Outcome.GIVEN_BACK, None)
    assert video_id in (report.detail or "")
    assert world.queue.given_back == 1
    world.store.unreadable.clear()
    assert world.handle().outcome is Outcome.PROCESSED


@pytest.mark.parametrize("fault", [DATABASE_AWAY, ROW_HELD], ids=lambda error: type(error).__name__)
def test_workers_that_all_fail_to_claim_do_not_hand_a_message_round_until_it_is_a_dead_letter(
    world: World, fault: Unavailable
) -> None:
    world.store.fault = fault
    taken = []
    while world.clock.monotonic() < 55:
        # Each time another worker: none of them knows of the others' tries.
        if delivery := world.queue.receive(wait=timedelta(0)):
            taken.append(world.clock.monotonic())
            assert world.handle(delivery, worker=f"worker-{len(taken)}").outcome is Outcome.GIVEN_BACK
        world.clock.advance(timedelta(seconds=1))
    assert len(taken) == 2

    world.store.fault = None
    world.clock.advance(timedelta(minutes=2))
    assert world.handle().outcome is Outcome.PROCESSED
    assert world.queue.dead_letters == []


def test_a_row_that_is_held_for_a_moment_costs_the_message_no_receive(world: World) -> None:
    world.store.fault = ROW_HELD

    def during_sleep() -> None:
        if world.clock.monotonic() >= 10:
            world.store.fault = None

    world.runtime.during_sleep = during_sleep
    assert world.handle().outcome is Outcome.PROCESSED
    assert world.queue.given_back == 0


def test_a_row_that_stays_held_is_not_waited_for_until_the_message_is_visible_again(world: World) -> None:
    world.store.fault = ROW_HELD
    report = world.handle()
    assert (report.outcome, report.unavailable) == (Outcome.GIVEN_BACK, ROW_HELD)
    assert world.clock.monotonic() == pytest.approx(LEASE.total_seconds() / 3, abs=1)


def test_a_row_that_is_held_keeps_no_worker_from_stopping(world: World) -> None:
    world.store.fault = ROW_HELD
    world.stop.ask(Interrupted())
    assert world.handle().outcome is Outcome.GIVEN_BACK
    assert world.clock.monotonic() == 0


def test_a_database_that_comes_back_within_the_lease_changes_nothing(world: World) -> None:
    world.renderer.during = raising(BadInput("no_video_stream", "The file has no picture."))
    back_at = 30.0

    def on_step(name: str) -> None:
        if name == "settle":
            world.store.fault = DATABASE_AWAY

    def during_sleep() -> None:
        if world.clock.monotonic() >= back_at:
            world.store.fault = None

    world.on_step = on_step  # type: ignore[method-assign]
    world.runtime.during_sleep = during_sleep
    assert world.handle().outcome is Outcome.REJECTED
    assert world.record.job.status is Status.FAILED
    assert world.queue.depth().empty


def test_a_database_that_stays_away_gives_the_message_back_once_the_lease_is_over(world: World) -> None:
    def during() -> None:
        world.store.fault = DATABASE_AWAY
        raise Transient("killed", "The render was killed.")

    world.renderer.during = during
    report = world.handle()
    assert report.outcome is Outcome.GIVEN_BACK
    assert world.queue.given_back == 1
    assert world.queue.deleted == 0
    assert world.clock.monotonic() == pytest.approx(LEASE.total_seconds(), abs=1)
    assert scratch_is_empty(world)


def test_a_lease_that_could_not_be_renewed_hands_the_job_on_as_soon_as_the_database_answers(world: World) -> None:
    def during() -> None:
        world.clock.advance(LEASE)
        world.stop.ask(Unavailable("database", "The lease could not be renewed in time."))

    world.renderer.during = during
    report = world.handle()
    assert report.outcome is Outcome.HANDED_ON
    assert report.counters == Counters(interruptions=1)


@pytest.mark.parametrize("method", ["publish", "settle"])
def test_a_commit_whose_answer_is_lost_counts_once(world: World, method: str) -> None:
    if method == "settle":
        world.renderer.during = raising(Transient("killed", "The render was killed."))
    world.store.silent = [method]
    report = world.handle()

    assert report.outcome is (Outcome.PROCESSED if method == "publish" else Outcome.FAILED)
    assert world.record.job.counters.failures == (0 if method == "publish" else 1)
    assert world.record.job.counters.lost == 0
    assert len(world.store.history(VIDEO)[1]) == 1


def test_a_publish_whose_answer_is_lost_is_no_loss_even_when_the_lease_seems_lost(world: World) -> None:
    world.store.silent = ["publish"]
    # In the pause the heartbeat finds that the job is processed, and takes that for a takeover.
    world.runtime.during_sleep = lambda: world.stop.ask(LeaseLost())
    assert world.handle().outcome is Outcome.PROCESSED


def test_a_stop_is_heard_while_publishing_is_tried_again(world: World) -> None:
    def on_step(name: str) -> None:
        if name == "publish":
            world.store.fault = DATABASE_AWAY

    def during_sleep() -> None:
        if world.clock.monotonic() >= 10:
            world.stop.ask(Unavailable("database", "The lease could not be renewed in time."))
        if world.clock.monotonic() >= 20:
            world.store.fault = None

    world.on_step = on_step  # type: ignore[method-assign]
    world.runtime.during_sleep = during_sleep
    report = world.handle()
    assert (report.outcome, report.counters) == (Outcome.HANDED_ON, Counters(interruptions=1))
    assert world.record.job.result is None


def test_a_claim_whose_answer_is_lost_is_found_by_the_sweep(world: World) -> None:
    world.store.silent = ["claim"]
    assert world.handle().outcome is Outcome.GIVEN_BACK
    assert world.handle().detail == "leased"
    world.after_the_lease()
    assert world.handle().outcome is Outcome.PROCESSED


def test_a_message_that_could_not_be_deleted_is_dropped_when_it_comes_again(world: World) -> None:
    world.renderer.during = lambda: setattr(world.queue, "fault", QUEUE_AWAY)
    assert world.handle().outcome is Outcome.PROCESSED
    world.queue.fault = None
    world.clock.advance(world.queue.visibility)
    assert world.handle().outcome is Outcome.DROPPED
    assert world.queue.depth().empty


@pytest.mark.parametrize("moment", ["download", "upload"])
def test_a_bucket_that_is_away_for_a_moment_costs_nothing(world: World, moment: str) -> None:
    def on_step(name: str) -> None:
        if name == moment:
            world.objects.fault = BUCKET_AWAY

    world.on_step = on_step  # type: ignore[method-assign]
    world.runtime.during_sleep = lambda: setattr(world.objects, "fault", None)
    assert world.handle().outcome is Outcome.PROCESSED
    assert world.record.job.counters == Counters()


def test_ten_minutes_without_a_bucket_count_as_no_failure(world: World) -> None:
    world.renderer.during = lambda: setattr(world.objects, "fault", BUCKET_AWAY)
    report = world.handle()
    assert report.outcome is Outcome.HANDED_ON
    assert report.counters == Counters(interruptions=1)
    assert report.problem is not None
    assert report.problem.code == "bucket_unavailable"

    world.clock.advance(timedelta(minutes=10))
    world.objects.fault, world.renderer.during = None, lambda: None
    world.relay.send_due()
    assert world.handle().outcome is Outcome.PROCESSED
    assert world.record.job.counters == Counters(interruptions=1)


def test_an_outage_that_befalls_one_job_again_and_again_ends_as_a_dead_letter(world: World) -> None:
    world.renderer.during = raising(BUCKET_AWAY)
    outcomes = []
    for _ in range(INTERRUPTIONS_ALARM + POLICY.max_failures):
        outcomes.append(world.handle().outcome)
        world.clock.advance(POLICY.backoff_cap)
        world.relay.send_due()
    assert outcomes[:INTERRUPTIONS_ALARM] == [Outcome.HANDED_ON] * INTERRUPTIONS_ALARM
    assert outcomes[INTERRUPTIONS_ALARM:] == [Outcome.FAILED, Outcome.FAILED, Outcome.DEAD_LETTERED]


def test_an_object_that_the_bucket_withholds_is_no_failure_and_keeps_no_worker_waiting(world: World) -> None:
    world.objects.fault = Withheld("object_withheld", "the bucket does not give us the object")
    before = world.clock.now()
    report = world.handle()
    assert (report.outcome, report.counters) == (Outcome.HANDED_ON, Counters(interruptions=1))
    assert world.clock.now() == before


def test_a_full_disk_is_not_the_videos_fault(world: World) -> None:
    world.scratch.full = True
    report = world.handle()
    assert (report.outcome, report.counters) == (Outcome.HANDED_ON, Counters(interruptions=1))
    assert world.clock.monotonic() == 0, "it is not waited for, unlike a bucket"


def raising(error: Exception) -> Callable[[], None]:
    def during() -> None:
        raise error

    return during
