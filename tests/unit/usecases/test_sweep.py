"""Tests of the sweep: lost workers, abandoned uploads, deletions, old events, and unavailable dependencies."""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from anb_core.adapters.system import new_id
from anb_core.domain.errors import Unavailable
from anb_core.domain.keys import upload_key
from anb_core.domain.status import Status
from anb_core.ports.store import Claimed
from anb_core.testing.clock import ManualClock
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.runtime import ManualRuntime
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.sweep import EVENTS_KEPT, LIMIT, Sweep, Swept
from tests.unit.usecases.one_sweep import HIDDEN, INTERVAL, LEASE, POLICY, World, new_video


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
    world.store.begin_upload(new_video("v1"), lifetime=timedelta(minutes=1))
    world.objects.put(upload_key("v1"), b"half")
    world.clock.advance(timedelta(minutes=1))

    swept = world.sweep.sweep()

    assert swept is not None
    assert (swept.abandoned, swept.deleted) == (1, 1)
    assert world.store.get("v1") is None
    assert world.objects.contents == {}


def test_one_sweep_runs_at_a_time(world: World) -> None:
    with world.store.exclusively("sweep", lifetime=timedelta(minutes=1)):
        assert world.sweep.sweep() is None
    assert world.sweep.sweep() == Swept()


def test_objects_go_because_a_row_says_so_and_others_stay(world: World) -> None:
    world.upload("v1")
    world.objects.put("uploads/unknown.mp4", b"nobody's")
    world.store.delete("v1", by="ada", grace=timedelta(hours=24))

    world.sweep.sweep()
    kept = set(world.objects.contents)
    world.clock.advance(timedelta(hours=24))
    world.sweep.sweep()

    assert kept == {upload_key("v1"), "uploads/unknown.mp4"}
    assert set(world.objects.contents) == {"uploads/unknown.mp4"}
    assert world.store.deletions == []


class Stubborn(InMemoryObjects):
    """A bucket that raises an error when one of its objects is deleted."""

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
        world.store.delete(name, by="ada", grace=timedelta(0))

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
    world.store.begin_upload(new_video("v1"), lifetime=timedelta(minutes=1))
    world.clock.advance(timedelta(minutes=1))
    world.queue.fault = Unavailable("queue", "The queue is away.")

    assert world.sweep.sweep() == Swept(abandoned=1, deleted=1, skipped=["queue"])


def test_a_database_that_is_away_ends_the_pass(world: World) -> None:
    world.store.fault = Unavailable("database", "The database is away.")

    with pytest.raises(Unavailable, match="database is away"):
        world.sweep.sweep()


class LosesTheDatabase(InMemoryStore):
    def requeue_unclaimed(
        self,
        *,
        enqueued_before: timedelta | None = None,
        on: str | None = None,
        not_on: Collection[str] = (),
        limit: int,
    ) -> int:
        if on is None:
            return super().requeue_unclaimed(enqueued_before=enqueued_before, not_on=not_on, limit=limit)
        raise Unavailable("database", f"gone while the jobs on {on} were requeued")


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
    """A sweep repeats its steps if there are more rows than one step may handle."""
    many = 2 * LIMIT + LIMIT // 2
    for number in range(many):
        world.upload(f"leased-{number}")
        world.store.claim(f"leased-{number}", generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY)
        world.store.begin_upload(new_video(f"dead-{number}"), lifetime=timedelta(minutes=1))
    events = len(world.store.events_after(0, limit=10_000))
    world.clock.advance(EVENTS_KEPT + timedelta(seconds=1))

    swept = world.sweep.sweep()

    assert swept is not None
    assert (swept.lost, swept.abandoned, swept.purged) == (many, many, events)
    # The sweep deletes one object per lost attempt, and one object per abandoned upload.
    assert swept.deleted == 2 * many
    assert [kept for kept in world.store.deletions if kept.due <= world.clock.now()] == []


class TakesItsTime(InMemoryStore):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock.now)
        self._passing = clock

    def purge(self, *, events_before: timedelta, dead_letters_before: timedelta, limit: int) -> int:
        self._passing.advance(INTERVAL / 2)
        return super().purge(events_before=events_before, dead_letters_before=dead_letters_before, limit=limit)


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
        [InMemoryQueue()],
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


def test_a_job_with_work_left_is_never_purged(world: World) -> None:
    world.upload("v1")
    world.clock.advance(timedelta(days=365))

    world.sweep.sweep()

    assert world.record("v1").job.status is Status.UPLOADED
