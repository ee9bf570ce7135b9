import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from anb_core.adapters.system import new_id
from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Unavailable
from anb_core.domain.keys import upload_key
from anb_core.domain.model import NewVideo, Record, Source
from anb_core.domain.retry import LONGEST_PAUSE, RetryPolicy
from anb_core.domain.status import Status
from anb_core.ports.queue import Depth
from anb_core.ports.store import Claimed
from anb_core.testing.clock import ManualClock
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.runtime import ManualRuntime
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.relay import Relay
from anb_core.usecases.sweep import (
    EMPTY_READINGS,
    EMPTY_WINDOW,
    EVENTS_KEPT,
    LIMIT,
    NEAR_RETENTION,
    EmptyWatch,
    Sweep,
    Swept,
)

INTERVAL = timedelta(seconds=10)
HIDDEN = timedelta(minutes=10)
LEASE = timedelta(seconds=60)
POLICY = RetryPolicy()
EMPTY, BUSY = Depth(0, 0, 0), Depth(0, 1, 0)


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.runtime = ManualRuntime(self.clock)
        self.store = InMemoryStore(self.clock.now)
        self.objects = InMemoryObjects("anb-videos")
        self.queue = InMemoryQueue(now=self.clock.now)
        self.relay = Relay(self.store, self.queue, bucket="anb-videos", runtime=self.runtime, jitter=lambda: 0.0)
        self.wakes = 0
        self.sweep = self.another_sweep()

    def another_sweep(self, queue: InMemoryQueue | None = None, hidden: timedelta = HIDDEN) -> Sweep:
        return Sweep(
            self.store,
            self.objects,
            queue or self.queue,
            policy=POLICY,
            interval=INTERVAL,
            hidden=hidden,
            wake_relay=self._wake,
            runtime=self.runtime,
        )

    def _wake(self) -> None:
        self.wakes += 1

    def upload(self, video_id: str) -> None:
        self.objects.put(upload_key(video_id), b"video")
        self.store.submit_existing(_new(video_id), Source(5))

    def record(self, video_id: str) -> Record:
        record = self.store.get(video_id)
        assert record is not None
        return record

    def forget_all_messages(self) -> None:
        self.queue = InMemoryQueue(now=self.clock.now)
        self.relay = Relay(self.store, self.queue, bucket="anb-videos", runtime=self.runtime, jitter=lambda: 0.0)

    def watch_the_queue(self, sweep: Sweep) -> int:
        """Sweep until the queue counts as empty (see EMPTY_READINGS). Returns the number of requeued jobs."""
        requeued = 0
        for _ in range(EMPTY_READINGS):
            swept = sweep.sweep()
            assert swept is not None
            requeued += swept.requeued
            self.clock.advance(EMPTY_WINDOW / (EMPTY_READINGS - 1))
        return requeued


def _new(video_id: str) -> NewVideo:
    key = upload_key(video_id)
    return NewVideo(video_id, f"task-{video_id}", "ana", "A title", EditSpec(), key, owned=True, file_name="a.mp4")


@pytest.fixture
def world() -> World:
    return World()


def test_a_job_whose_worker_died_is_sent_again_and_the_loss_counted(world: World) -> None:
    world.upload("v1")
    world.relay.send_due()
    world.store.claim("v1", generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY)
    world.clock.advance(LEASE)

    assert world.sweep.sweep() == Swept(lost=1, deleted=1)

    assert world.wakes == 1
    assert world.relay.send_due().sent == 1
    assert world.record("v1").job.counters.lost == 1
    assert world.record("v1").job.counters.failures == 0


def test_a_job_that_this_version_cannot_read_does_not_end_the_sweep(world: World) -> None:
    for name in ("v1", "v2"):
        world.upload(name)
    world.relay.send_due()
    for name in ("v1", "v2"):
        world.store.claim(name, generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY)
    world.store.unreadable.add("v1")
    world.clock.advance(LEASE)

    assert world.sweep.sweep() == Swept(lost=1, deleted=1)
    assert world.sweep.sweep() == Swept()


def test_a_lease_that_is_kept_is_left_alone(world: World) -> None:
    world.upload("v1")
    world.relay.send_due()
    claimed = world.store.claim("v1", generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY)
    assert isinstance(claimed, Claimed)
    world.clock.advance(LEASE * 0.9)
    world.store.renew(claimed.lease, duration=LEASE)
    world.clock.advance(LEASE * 0.9)

    assert world.sweep.sweep() == Swept()
    assert world.wakes == 0


def test_an_upload_whose_api_died_goes_with_its_object(world: World) -> None:
    world.store.begin_upload(_new("v1"), lifetime=timedelta(minutes=1))
    world.objects.put(upload_key("v1"), b"half")
    world.clock.advance(timedelta(minutes=1))

    swept = world.sweep.sweep()

    assert swept is not None
    assert (swept.abandoned, swept.deleted) == (1, 1)
    assert world.store.get("v1") is None
    assert world.objects.contents == {}


def test_jobs_whose_messages_the_queue_forgot_are_sent_again(world: World) -> None:
    world.upload("v1")
    world.relay.send_due()
    world.forget_all_messages()
    world.clock.advance(timedelta(seconds=1))

    assert world.watch_the_queue(world.another_sweep()) == 1
    assert world.relay.send_due().sent == 1


def test_a_job_whose_message_is_still_in_the_queue_is_not_sent_again(world: World) -> None:
    world.upload("v1")
    world.relay.send_due()

    assert world.watch_the_queue(world.sweep) == 0
    assert world.relay.send_due().sent == 0


class ReadsEmpty(InMemoryQueue):
    def depth(self) -> Depth:
        return EMPTY


def test_a_job_sent_while_the_queue_is_watched_is_not_sent_again(world: World) -> None:
    world.queue = ReadsEmpty(now=world.clock.now)
    sweep = world.another_sweep()
    sweep.sweep()
    world.clock.advance(EMPTY_WINDOW / 2)
    world.upload("v1")
    world.relay.send_due()
    sweep.sweep()
    world.clock.advance(EMPTY_WINDOW / 2)

    swept = sweep.sweep()

    assert swept is not None
    assert swept.requeued == 0


def test_a_message_that_an_idle_queue_lost_is_sent_again_as_soon_as_on_a_busy_day(world: World) -> None:
    world.queue = ReadsEmpty(now=world.clock.now)
    sweep = world.another_sweep()
    for _ in range(30):
        sweep.sweep()
        world.clock.advance(INTERVAL)
    world.upload("v1")
    world.relay.send_due()

    waited = timedelta(0)
    while not requeued_by(sweep):
        world.clock.advance(INTERVAL)
        waited += INTERVAL

    assert waited == EMPTY_WINDOW + INTERVAL


class NeverEmpty(InMemoryQueue):
    def depth(self) -> Depth:
        return BUSY


@pytest.mark.parametrize(
    ("hidden", "explained"), [(HIDDEN, HIDDEN), (timedelta(seconds=61), LONGEST_PAUSE)], ids=["received", "given back"]
)
def test_a_message_that_a_busy_queue_lost_is_sent_again_once_nothing_explains_its_wait(
    world: World, hidden: timedelta, explained: timedelta
) -> None:
    world.queue = NeverEmpty(now=world.clock.now)
    sweep = world.another_sweep(hidden=hidden)
    world.upload("v1")
    world.relay.send_due()

    waited = timedelta(0)
    while not requeued_by(sweep):
        world.clock.advance(INTERVAL)
        waited += INTERVAL

    assert waited == explained + 2 * INTERVAL


def requeued_by(sweep: Sweep) -> int:
    swept = sweep.sweep()
    assert swept is not None
    return swept.requeued


def test_a_message_near_the_end_of_its_retention_is_sent_anew_whatever_is_ahead_of_it(world: World) -> None:
    names = [f"v{number:03}" for number in range(100)]
    for name in names:
        world.upload(name)
    while world.relay.send_due().sent:
        pass
    near = world.queue.retention() * NEAR_RETENTION

    world.clock.advance(near - timedelta(seconds=1))
    world.sweep.sweep()
    before = pending(world)
    world.clock.advance(timedelta(seconds=2))
    world.sweep.sweep()

    assert set(names) - before
    assert pending(world) == set(names)


def pending(world: World) -> set[str]:
    return {entry.video_id for entry in world.store.hold_outbox(limit=1000, hold=timedelta(0))}


def test_jobs_sent_to_a_broker_that_is_no_longer_configured_are_sent_to_this_one(world: World) -> None:
    world.upload("v1")
    world.relay.send_due()
    other = InMemoryQueue(name="https://queue.invalid/000000000000/other", now=world.clock.now)

    swept = world.another_sweep(other).sweep()

    assert swept is not None
    assert swept.requeued == 1
    assert Relay(world.store, other, bucket="anb-videos", runtime=world.runtime).send_due().sent == 1


def test_one_sweep_runs_at_a_time(world: World) -> None:
    with world.store.exclusively("sweep", lifetime=timedelta(minutes=1)):
        assert world.sweep.sweep() is None
    assert world.sweep.sweep() == Swept()


def test_objects_go_because_a_row_says_so_and_others_stay(world: World) -> None:
    world.upload("v1")
    world.objects.put("uploads/unknown.mp4", b"nobody's")
    world.store.delete("v1", grace=timedelta(hours=24))

    world.sweep.sweep()
    kept = set(world.objects.contents)
    world.clock.advance(timedelta(hours=24))
    world.sweep.sweep()

    assert kept == {upload_key("v1"), "uploads/unknown.mp4"}
    assert set(world.objects.contents) == {"uploads/unknown.mp4"}
    assert world.store.deletions == []


class Stubborn(InMemoryObjects):
    """A bucket that fails to delete one of its objects."""

    def __init__(self, kept: str) -> None:
        super().__init__()
        self.kept = kept

    def delete(self, keys: Collection[str]) -> frozenset[str]:
        super().delete(set(keys) - {self.kept})
        return frozenset({self.kept} & set(keys))


def test_an_object_that_can_not_be_deleted_comes_again_alone(world: World) -> None:
    world.objects = Stubborn(upload_key("v2"))
    for name in ("v1", "v2", "v3"):
        world.upload(name)
        world.store.delete(name, grace=timedelta(0))

    swept = world.another_sweep().sweep()

    assert swept is not None
    assert swept.deleted == 2
    assert {kept.scheduled.key for kept in world.store.deletions} == {upload_key("v2")}


class Deaf(InMemoryObjects):
    def delete(self, keys: Collection[str]) -> frozenset[str]:
        raise Unavailable("bucket", f"The bucket is away ({len(keys)} keys).")


def test_a_bucket_that_is_away_delays_deletions_and_nothing_else(world: World) -> None:
    world.upload("v1")
    world.relay.send_due()
    world.store.claim("v1", generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY)
    world.clock.advance(LEASE)
    world.objects = Deaf()

    swept = world.another_sweep().sweep()

    assert swept == Swept(lost=1, skipped=["bucket"])
    assert len(world.store.deletions) == 2


def test_a_queue_that_is_away_delays_requeueing_and_nothing_else(world: World) -> None:
    world.store.begin_upload(_new("v1"), lifetime=timedelta(minutes=1))
    world.clock.advance(timedelta(minutes=1))
    world.queue.fault = Unavailable("queue", "The queue is away.")

    assert world.sweep.sweep() == Swept(abandoned=1, deleted=1, skipped=["queue"])


def test_a_database_that_is_away_ends_the_pass(world: World) -> None:
    world.store.fault = Unavailable("database", "The database is away.")

    with pytest.raises(Unavailable, match="database is away"):
        world.sweep.sweep()


class LosesTheDatabase(InMemoryStore):
    def requeue_unclaimed(
        self, *, enqueued_before: timedelta | None = None, not_on: str | None = None, limit: int
    ) -> int:
        raise Unavailable("database", f"gone {enqueued_before} {not_on} {limit}")


def test_a_database_that_goes_away_in_the_middle_is_not_taken_for_another_part(world: World) -> None:
    world.store = LosesTheDatabase()

    with pytest.raises(Unavailable, match="gone"):
        world.another_sweep().sweep()


def test_old_events_are_purged(world: World) -> None:
    world.upload("v1")
    world.relay.send_due()
    last = world.store.last_event_id()
    assert last > 0
    world.clock.advance(EVENTS_KEPT + timedelta(seconds=1))

    swept = world.sweep.sweep()

    assert swept is not None
    assert swept.purged == 1
    assert world.store.events_after(0) == []


def test_a_pass_does_all_there_is_to_do_however_much(world: World) -> None:
    """The sweep must repeat its steps, because it finds more rows than one step may handle."""
    many = 2 * LIMIT + LIMIT // 2
    for number in range(many):
        world.upload(f"leased-{number}")
        world.store.claim(f"leased-{number}", generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY)
        world.store.begin_upload(_new(f"dead-{number}"), lifetime=timedelta(minutes=1))
    events = len(world.store.events_after(0, limit=10_000))
    world.clock.advance(EVENTS_KEPT + timedelta(seconds=1))

    swept = world.sweep.sweep()

    assert swept is not None
    assert (swept.lost, swept.abandoned, swept.purged) == (many, many, events)
    # The sweep deletes one object for each lost attempt and for each abandoned upload.
    assert swept.deleted == 2 * many
    assert [kept for kept in world.store.deletions if kept.due <= world.clock.now()] == []


class TakesItsTime(InMemoryStore):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock.now)
        self._passing = clock

    def purge(self, *, events_before: timedelta, limit: int) -> int:
        self._passing.advance(INTERVAL / 2)
        return super().purge(events_before=events_before, limit=limit)


def test_a_pass_ends_by_the_time_of_the_next_one(world: World) -> None:
    world.store = TakesItsTime(world.clock)
    for number in range(3 * LIMIT):
        world.upload(f"v{number}")
    world.clock.advance(EVENTS_KEPT + timedelta(seconds=1))

    swept = world.another_sweep().sweep()

    assert swept is not None
    assert swept.purged == 2 * LIMIT


class CountsPasses(InMemoryStore):
    def __init__(self, enough: threading.Event) -> None:
        super().__init__()
        self.passes = 0
        self._enough = enough

    @contextmanager
    def exclusively(self, name: str, *, lifetime: timedelta) -> Iterator[bool]:
        self.passes += 1
        if self.passes == 1:
            raise Unavailable("database", "The database is away.")
        if self.passes == 2:
            raise RuntimeError("a fault nobody foresaw")
        self._enough.set()
        with super().exclusively(name, lifetime=lifetime) as ours:
            yield ours


def test_a_running_sweep_goes_on_after_faults_and_ends_when_told() -> None:
    stop, enough = threading.Event(), threading.Event()
    runtime = ManualRuntime(ManualClock())
    sweep = Sweep(
        CountsPasses(enough),
        InMemoryObjects(),
        InMemoryQueue(),
        policy=POLICY,
        interval=timedelta(milliseconds=1),
        hidden=HIDDEN,
        wake_relay=lambda: None,
        runtime=runtime,
    )
    thread = threading.Thread(target=sweep.run, args=(stop,))
    thread.start()

    assert enough.wait(10)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert [(where, str(error)) for where, error in runtime.errors] == [("sweep", "a fault nobody foresaw")]


@pytest.mark.parametrize(
    ("readings", "believed"),
    [
        ([(0, EMPTY), (60, EMPTY), (120, EMPTY)], timedelta(seconds=120)),
        ([(0, EMPTY), (60, EMPTY), (119, EMPTY)], None),
        ([(0, EMPTY), (120, EMPTY)], None),
        ([(0, EMPTY), (60, BUSY), (120, EMPTY), (180, EMPTY)], None),
        ([(0, EMPTY), (60, Depth(1, 0, 0)), (120, EMPTY), (180, EMPTY), (240, EMPTY)], timedelta(seconds=120)),
        ([(0, EMPTY), (60, BUSY), (120, EMPTY), (240, EMPTY)], None),
        ([(0, EMPTY), (60, Depth(0, 0, 1)), (130, EMPTY)], None),
        ([(at, EMPTY) for at in range(0, 130, 10)], timedelta(seconds=120)),
        ([(0, EMPTY), (600, EMPTY), (1200, EMPTY)], timedelta(seconds=1200)),
        ([(0, EMPTY), (60, EMPTY), (600, EMPTY)], timedelta(seconds=600)),
    ],
)
def test_a_queue_is_believed_empty_after_three_readings_over_two_minutes(
    readings: list[tuple[float, Depth]], believed: timedelta | None
) -> None:
    watch = EmptyWatch()

    answers = [watch.observe(depth, at) for at, depth in readings]

    assert answers[-1] == believed
    assert all(answer is None for answer in answers[:-1])


def test_a_queue_that_stays_empty_is_no_reason_to_wait_longer() -> None:
    watch = EmptyWatch()

    answers = [watch.observe(EMPTY, at) for at in range(0, 1000, 10)]

    assert set(answers[12:]) == {EMPTY_WINDOW}


def test_a_job_with_work_left_is_never_purged(world: World) -> None:
    world.upload("v1")
    world.clock.advance(timedelta(days=365))

    world.sweep.sweep()

    assert world.record("v1").job.status is Status.UPLOADED
