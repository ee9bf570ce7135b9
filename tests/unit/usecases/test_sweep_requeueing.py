"""Tests of requeueing: the sweep sends a new message for a job only if the job's message may be lost."""

from datetime import timedelta

import pytest

from anb_core.domain.errors import Unavailable
from anb_core.domain.retry import LONGEST_PAUSE
from anb_core.ports.queue import Depth
from anb_core.testing.queue import InMemoryQueue
from anb_core.usecases.relay import Relay
from anb_core.usecases.sweep import EMPTY_WINDOW, NEAR_RETENTION, EmptyWatch, Sweep
from tests.unit.usecases.one_sweep import HIDDEN, INTERVAL, World

EMPTY = Depth(0, 0, 0)
BUSY = Depth(0, 1, 0)


@pytest.fixture
def world() -> World:
    return World()


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


@pytest.mark.parametrize("delay", [timedelta(0), timedelta(seconds=30), timedelta(seconds=900)])
def test_a_message_that_the_queue_delays_is_not_taken_for_lost(world: World, delay: timedelta) -> None:
    world.queue.delay_of_new = delay
    world.upload("v1")
    world.relay.send_due()

    explained = delay + HIDDEN + INTERVAL
    waited = timedelta(0)
    while waited < explained:
        assert not requeued_by(world.sweep), waited
        world.clock.advance(INTERVAL)
        waited += INTERVAL

    assert world.queue.receive(wait=timedelta(0))
    world.clock.advance(INTERVAL)
    assert requeued_by(world.sweep) == 1


def test_a_delay_of_a_queue_that_does_not_answer_any_more_still_counts(world: World) -> None:
    world.queue.delay_of_new = timedelta(seconds=900)
    world.upload("v1")
    world.relay.send_due()
    world.sweep.sweep()
    world.queue.fault = Unavailable("queue", "The queue is away.")
    world.clock.advance(HIDDEN + 2 * INTERVAL)

    assert requeued_by(world.sweep) == 0


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


class LongLived(InMemoryQueue):
    """A queue that keeps its messages for a year."""

    def retention(self) -> timedelta:
        return timedelta(days=365)


def test_a_message_on_the_old_queue_is_not_sent_anew_at_the_end_of_the_current_queues_retention(world: World) -> None:
    world.queue = LongLived(now=world.clock.now)
    world.relay = Relay(world.store, world.queue, bucket="anb-videos", runtime=world.runtime)
    names = [f"v{number:03}" for number in range(100)]
    for name in names:
        world.upload(name)
    while world.relay.send_due().sent:
        pass
    current = InMemoryQueue(name="https://queue.invalid/000000000000/current", now=world.clock.now)

    world.clock.advance(current.retention() * NEAR_RETENTION + timedelta(seconds=1))
    world.another_sweep(current, old=world.queue).sweep()

    assert names[-1] not in pending(world)


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


def test_a_job_on_the_old_queue_is_left_there_while_the_old_queue_is_configured(world: World) -> None:
    world.upload("v1")
    world.relay.send_due()
    current = InMemoryQueue(name="https://queue.invalid/000000000000/current", now=world.clock.now)
    world.clock.advance(EMPTY_WINDOW * 2)

    assert world.watch_the_queue(world.another_sweep(current, old=world.queue)) == 0


def test_messages_that_the_old_queue_forgot_are_sent_to_the_current_queue_however_busy_that_is(world: World) -> None:
    world.upload("lost")
    world.relay.send_due()
    old = InMemoryQueue(name=world.queue.name, now=world.clock.now)
    current = NeverEmpty(name="https://queue.invalid/000000000000/current", now=world.clock.now)
    relay = Relay(world.store, current, bucket="anb-videos", runtime=world.runtime)
    world.upload("waits")
    relay.send_due()
    sweep = world.another_sweep(current, old=old)

    waited = timedelta(0)
    while not requeued_by(sweep):
        world.clock.advance(INTERVAL)
        waited += INTERVAL

    assert waited == EMPTY_WINDOW + INTERVAL
    assert pending(world) == {"lost"}


@pytest.mark.parametrize("away", ["current", "old"])
def test_an_outage_of_one_queue_keeps_no_lost_message_of_the_other_from_being_sent_again(
    world: World, away: str
) -> None:
    queues = {
        name: InMemoryQueue(name=f"https://queue.invalid/000000000000/{name}", now=world.clock.now)
        for name in ("current", "old")
    }
    for name, queue in queues.items():
        world.upload(name)
        Relay(world.store, queue, bucket="anb-videos", runtime=world.runtime).send_due()
        queues[name] = InMemoryQueue(name=queue.name, now=world.clock.now)
    world.clock.advance(timedelta(seconds=1))
    queues[away].fault = Unavailable("queue", "The queue does not answer.")

    assert world.watch_the_queue(world.another_sweep(queues["current"], old=queues["old"])) == 1
    assert pending(world) == queues.keys() - {away}


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
