import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from anb_core.adapters.system import SystemRuntime, new_id
from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import AnbError, Interrupted, LeaseLost, Transient, Unavailable
from anb_core.domain.model import Lease, NewVideo, Source
from anb_core.domain.retry import RetryPolicy
from anb_core.ports.queue import Delivery
from anb_core.ports.stop import Stop
from anb_core.ports.store import Claimed
from anb_core.testing.clock import ManualClock
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.runtime import ManualRuntime
from anb_core.testing.store import InMemoryStore
from anb_worker.lease import LeaseKeeper, Terms
from tests.support import eventually

TERMS = Terms(duration=timedelta(seconds=60), heartbeat=timedelta(seconds=20), visibility=timedelta(seconds=300))
DATABASE_AWAY = Unavailable("database", "the database does not answer")
QUEUE_AWAY = Unavailable("queue", "the queue does not answer")


class World:
    """A job that a worker claimed at 0 s of a manual clock, and the fakes that the lease keeper uses."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.runtime = ManualRuntime(self.clock)
        self.store = InMemoryStore(self.clock.now)
        self.queue = InMemoryQueue(now=self.clock.now)
        self.stop = Stop()
        self.beats = 0
        new = NewVideo("v1", "t1", "ada", "Holiday", EditSpec(), "uploads/v1.mp4", owned=True, file_name="h.mp4")
        self.store.submit_existing(new, Source(1))
        self.queue.put('{"video_id": "v1"}')
        delivery = self.queue.receive(wait=timedelta(0))
        claimed = self.store.claim(
            "v1", generation=1, attempt_id=new_id(), worker="worker-1", lease=TERMS.duration, policy=RetryPolicy()
        )
        assert delivery is not None
        assert isinstance(claimed, Claimed)
        self.delivery: Delivery = delivery
        self.lease: Lease = claimed.lease

    def keeper(self, terms: Terms = TERMS) -> LeaseKeeper:
        return LeaseKeeper(
            self.lease,
            self.delivery,
            self.stop,
            0.0,
            store=self.store,
            queue=self.queue,
            terms=terms,
            runtime=self.runtime,
            beat=self._beat,
        )

    def _beat(self) -> None:
        self.beats += 1

    def pass_seconds(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    def expires_after(self) -> float:
        record = self.store.get("v1")
        assert record is not None
        assert record.job.lease_expires_at is not None
        return (record.job.lease_expires_at - self.store.now()).total_seconds()


@pytest.fixture
def world() -> World:
    return World()


def reason(stop: Stop) -> AnbError | None:
    try:
        stop.check()
    except AnbError as error:
        return error
    return None


def test_a_heartbeat_renews_the_lease_and_keeps_the_message_hidden(world: World) -> None:
    keeper = world.keeper()
    world.pass_seconds(20)
    assert keeper.heartbeat() == 20
    assert world.expires_after() == 60
    world.pass_seconds(299)
    assert world.queue.depth().visible == 0
    world.pass_seconds(1)
    assert world.queue.depth().visible == 1


def test_a_message_that_can_not_be_kept_hidden_ends_nothing(world: World) -> None:
    keeper = world.keeper()
    world.queue.fault = QUEUE_AWAY
    world.pass_seconds(20)
    assert keeper.heartbeat() == 20
    assert not world.stop.asked
    assert keeper.deadline == 80


def test_a_lease_that_another_worker_took_ends_the_attempt(world: World) -> None:
    keeper = world.keeper()
    world.store.cancel("v1")
    keeper.heartbeat()
    assert isinstance(reason(world.stop), LeaseLost)


def test_a_cancelled_job_is_noticed_by_the_next_write_of_progress(world: World) -> None:
    keeper = world.keeper()
    assert keeper.write_progress() == 1
    assert not world.stop.asked
    world.store.cancel("v1")
    keeper.write_progress()
    assert isinstance(reason(world.stop), LeaseLost)


def test_progress_is_written_as_it_was_noted_last(world: World) -> None:
    keeper = world.keeper()
    keeper.progress(0.2)
    keeper.progress(0.4)
    keeper.write_progress()
    record = world.store.get("v1")
    assert record is not None
    assert record.job.progress == 0.4


def test_a_database_that_is_away_is_asked_more_often_and_ends_nothing_before_the_lease_is_over(world: World) -> None:
    keeper = world.keeper()
    world.store.fault = DATABASE_AWAY
    world.pass_seconds(20)
    assert keeper.heartbeat() == 5
    keeper.write_progress()
    world.pass_seconds(39.5)
    assert keeper.watch() == pytest.approx(0.5)
    assert not world.stop.asked


def test_the_watchdog_ends_the_attempt_when_its_lease_could_have_expired(world: World) -> None:
    keeper = world.keeper()
    world.pass_seconds(60)
    keeper.watch()
    error = reason(world.stop)
    assert isinstance(error, Unavailable)
    assert error.part == "database"


def test_the_watchdog_counts_from_before_the_renewal_was_sent(world: World) -> None:
    renew = world.store.renew

    def slow(lease: Lease, *, duration: timedelta) -> bool:
        done = renew(lease, duration=duration)
        world.pass_seconds(6)
        return done

    world.store.renew = slow  # type: ignore[method-assign]
    keeper = world.keeper()
    world.pass_seconds(20)
    keeper.heartbeat()
    assert keeper.deadline == 80
    world.pass_seconds(53)
    assert keeper.watch() == 1
    assert not world.stop.asked


def test_an_attempt_that_never_ends_fails(world: World) -> None:
    keeper = world.keeper(replace(TERMS, attempt_limit=timedelta(seconds=50)))
    world.pass_seconds(50)
    keeper.watch()
    error = reason(world.stop)
    assert isinstance(error, Transient)
    assert error.code == "attempt_too_long"


@pytest.fixture
def quick(world: World) -> LeaseKeeper:
    """A lease keeper that renews its lease every 0.05 s of real time. But the manual clock decides when it expires."""
    return world.keeper(replace(TERMS, heartbeat=timedelta(seconds=0.05)))


def test_an_attempt_outlives_its_first_lease_as_long_as_it_is_renewed(world: World, quick: LeaseKeeper) -> None:
    with quick as keeper:
        for seconds in (50, 100, 150):
            world.pass_seconds(50)
            eventually(lambda renewed=60 + seconds: keeper.deadline == renewed)  # type: ignore[misc]
        keeper.watch()
        assert not world.stop.asked


def test_a_renewal_that_hangs_does_not_keep_the_watchdog_from_ending_the_attempt(world: World) -> None:
    released = threading.Event()
    terms = replace(TERMS, duration=timedelta(seconds=0.4), heartbeat=timedelta(seconds=0.05))

    def hang(*_: object, **__: object) -> bool:
        return released.wait(30)

    world.store.renew = hang  # type: ignore[method-assign]
    now = time.monotonic()
    keeper = LeaseKeeper(
        world.lease,
        world.delivery,
        world.stop,
        now,
        store=world.store,
        queue=world.queue,
        terms=terms,
        runtime=SystemRuntime(),
    )
    with keeper:
        eventually(lambda: world.stop.asked)
        released.set()
    assert isinstance(reason(world.stop), Unavailable)


def test_after_the_attempt_was_asked_to_stop_its_lease_is_not_renewed(world: World, quick: LeaseKeeper) -> None:
    renewals = []
    renew = world.store.renew

    def counted(lease: Lease, *, duration: timedelta) -> bool:
        renewals.append(lease)
        return renew(lease, duration=duration)

    world.store.renew = counted  # type: ignore[method-assign]
    with quick:
        eventually(lambda: renewals)
        world.stop.ask(Interrupted())
        eventually(lambda: not world.runtime.threads["lease-heartbeat"].is_alive())
        seen = len(renewals)
    assert len(renewals) == seen


def test_after_a_keeper_was_left_none_of_its_threads_runs(world: World, quick: LeaseKeeper) -> None:
    with quick:
        assert set(world.runtime.threads) == {"lease-heartbeat", "lease-progress", "lease-watchdog"}
    assert not any(thread.is_alive() for thread in world.runtime.threads.values())
    assert not world.stop.asked


def test_an_unexpected_error_does_not_stop_the_heartbeat(
    world: World, quick: LeaseKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anb_worker.lease.PROGRESS_INTERVAL", timedelta(seconds=0.05))
    renew, calls = world.store.renew, []

    def clumsy(lease: Lease, *, duration: timedelta) -> bool:
        calls.append(lease)
        if len(calls) == 1:
            raise RuntimeError("a defect")
        return renew(lease, duration=duration)

    world.store.renew = clumsy  # type: ignore[method-assign]
    world.pass_seconds(1)
    with quick as keeper:
        eventually(lambda: keeper.deadline == 61)
    assert [(where, str(error)) for where, error in world.runtime.errors] == [("keeping the lease", "a defect")]


def test_a_busy_worker_beats_only_while_its_attempt_makes_progress(world: World) -> None:
    keeper = world.keeper()
    keeper.write_progress()
    assert world.beats == 1
