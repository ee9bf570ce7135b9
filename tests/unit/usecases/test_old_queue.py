"""Tests of the old queue: workers empty it first, and receive from each queue while the other one does not answer."""

import math
import threading
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from anb_core.domain.errors import Unavailable
from anb_core.ports.queue import Delivery
from anb_core.testing.clock import ManualClock
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.runtime import ManualRuntime
from anb_core.usecases.old_queue import LONGEST_PAUSE, LONGEST_POLL, OLD_IN_A_ROW, BothQueues, WatchOldQueue
from tests.support import eventually

AWAY = Unavailable("queue", "The queue does not answer.")
WAIT = timedelta(seconds=20)


class World:
    """A current queue, an old queue, the receiver of both, and the watch. All in memory."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.runtime = ManualRuntime(self.clock)
        self.current, self.old = (
            InMemoryQueue(name=f"https://queue.invalid/0/{name}", now=self.clock.now, runtime=self.runtime)
            for name in ("current", "old")
        )
        self.both = BothQueues(self.current, self.old, runtime=self.runtime, jitter=lambda: 1.0)
        self.shown: list[float] = []
        self.watch = WatchOldQueue(self.old, show=self.shown.append, runtime=self.runtime)

    def receive(self) -> Delivery:
        delivery = self.both.receive(wait=WAIT)
        assert delivery is not None
        return delivery

    def work(self, messages: int) -> list[str]:
        """Receive and delete messages. Returns their bodies."""
        deliveries = [self.receive() for _ in range(messages)]
        for delivery in deliveries:
            self.both.delete(delivery)
        return [delivery.body for delivery in deliveries]


@pytest.fixture
def world() -> World:
    return World()


def test_the_old_queue_is_emptied_first(world: World) -> None:
    for body in ("new 1", "new 2"):
        world.current.put(body)
    for body in ("old 1", "old 2"):
        world.old.put(body)

    assert world.work(4) == ["old 1", "old 2", "new 1", "new 2"]
    assert world.current.bodies() == world.old.bodies() == []


def test_a_producer_that_never_stops_filling_the_old_queue_does_not_starve_the_current_one(world: World) -> None:
    for _ in range(3 * OLD_IN_A_ROW):
        world.old.put("old")
    for _ in range(2):
        world.current.put("new")

    turn = [*["old"] * OLD_IN_A_ROW, "new"]
    assert world.work(2 * len(turn)) == turn * 2


def test_while_the_current_queue_has_no_messages_every_turn_is_the_old_queues(world: World) -> None:
    for _ in range(2 * OLD_IN_A_ROW + 2):
        world.old.put("old")

    begun = world.clock.now()
    assert world.work(2 * OLD_IN_A_ROW + 2) == ["old"] * (2 * OLD_IN_A_ROW + 2)
    assert world.clock.now() == begun


def test_only_messages_in_a_row_count_for_the_turn_of_the_current_queue(world: World) -> None:
    for _ in range(OLD_IN_A_ROW - 1):
        world.old.put("old")
    world.current.put("new")
    assert world.work(OLD_IN_A_ROW)[-1] == "new"

    world.old.put("old again")
    world.current.put("new again")
    assert world.work(2) == ["old again", "new again"]


def test_a_message_that_comes_to_the_old_queue_is_found_after_a_short_long_poll(world: World) -> None:
    begun = world.clock.now()
    assert world.both.receive(wait=WAIT) is None
    assert LONGEST_POLL <= world.clock.now() - begun < LONGEST_POLL + timedelta(seconds=1)
    assert world.both.receive(wait=timedelta(0)) is None
    assert world.clock.now() - begun < LONGEST_POLL + timedelta(seconds=1)


@pytest.mark.parametrize("name", ["current", "old"])
def test_a_message_is_extended_and_given_back_on_the_queue_that_delivered_it(world: World, name: str) -> None:
    queue = getattr(world, name)
    queue.put("one")
    delivery = world.receive()
    assert delivery.queue == queue.name

    world.both.extend(delivery, visibility=timedelta(hours=1))
    world.clock.advance(timedelta(minutes=50))
    assert queue.depth().in_flight == 1
    world.both.give_back(delivery, pause=timedelta(seconds=7))
    world.clock.advance(timedelta(seconds=6))
    assert queue.depth().in_flight == 1
    world.clock.advance(timedelta(seconds=1))
    assert queue.depth().visible == 1


def test_an_outage_of_the_old_queue_does_not_stop_new_work_and_is_asked_after_ever_longer(world: World) -> None:
    world.old.fault = AWAY
    pauses = []
    with capture_logs() as logs:
        for number in range(7):
            world.current.put(f"new {number}")
            assert world.work(1) == [f"new {number}"]
            pauses.append(logs[-1]["again_in"])
            assert (logs[-1]["log_level"], logs[-1]["reason"]) == ("warning", AWAY.message)
            world.clock.advance(timedelta(seconds=pauses[-1] - 0.5))
            assert world.both.receive(wait=timedelta(0)) is None
            assert len(logs) == number + 1
            world.clock.advance(timedelta(seconds=0.5))
    assert pauses == [2, 4, 8, 16, 32, LONGEST_PAUSE.total_seconds(), LONGEST_PAUSE.total_seconds()]


def test_after_an_outage_the_old_queue_is_emptied_again(world: World) -> None:
    world.old.fault = AWAY
    assert world.both.receive(wait=timedelta(0)) is None
    world.old.fault = None
    world.old.put("old 1")
    world.old.put("old 2")
    world.clock.advance(timedelta(seconds=2))

    with capture_logs() as logs:
        assert world.work(2) == ["old 1", "old 2"]
    assert [line["event"] for line in logs] == ["receiving from the old queue again"]

    world.old.fault = AWAY
    with capture_logs() as logs:
        assert world.both.receive(wait=timedelta(0)) is None
    assert [line["again_in"] for line in logs] == [2]


def test_an_outage_of_the_current_queue_does_not_stop_the_emptying_of_the_old_one(world: World) -> None:
    for _ in range(2 * OLD_IN_A_ROW):
        world.old.put("old")
    world.current.fault = AWAY

    assert world.work(2 * OLD_IN_A_ROW) == ["old"] * (2 * OLD_IN_A_ROW)
    with pytest.raises(Unavailable):
        world.both.receive(wait=WAIT)


def test_the_log_says_once_that_the_old_queue_is_empty_and_again_when_it_fills(world: World) -> None:
    world.old.put("one")
    world.old.put("two")
    received = world.receive()
    with capture_logs() as logs:
        world.watch.read()
        for delivery in (received, world.receive()):
            world.both.delete(delivery)
            world.watch.read()
        world.watch.read()
        world.old.fault = AWAY
        world.watch.read()
        world.old.fault = None
        world.old.put("three")
        world.watch.read()

    assert [(line["event"], line["waiting"], line["in_flight"]) for line in logs] == [
        ("the old queue has messages", 1, 1),
        ("the old queue is empty", 0, 0),
        ("the old queue has messages", 1, 0),
    ]
    assert world.shown[:4] == [2, 1, 0, 0]
    assert math.isnan(world.shown[4])
    assert world.shown[5] == 1


class Broken(InMemoryQueue):
    """A queue with a fault that is not an AnbError."""

    def ping(self) -> None:
        raise RuntimeError("a fault nobody foresaw")


def test_a_watch_goes_on_after_faults_and_ends_when_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anb_core.usecases.old_queue.WATCH_INTERVAL", timedelta(milliseconds=1))
    stop = threading.Event()
    watch = WatchOldQueue(Broken(), show=world.shown.append, runtime=world.runtime)
    thread = world.runtime.start("watch", lambda: watch.run(stop))

    eventually(lambda: len(world.runtime.errors) > 1)
    stop.set()
    thread.join(10)

    assert not thread.is_alive()
    assert world.shown == []
