from collections.abc import Callable
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from anb_core.domain.errors import AnbError, Busy, Interrupted, Unavailable
from anb_core.ports.queue import Delivery, Depth
from anb_core.ports.stop import Stop
from anb_core.testing.clock import ManualClock
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.runtime import ManualRuntime
from anb_core.usecases.consumer import Consumer
from anb_core.usecases.gate import FRESH, LONGEST_WAIT, Gate, plan_wait
from anb_core.usecases.shutdown import Shutdown
from tests.support import eventually

QUEUE_AWAY = Unavailable("queue", "the queue does not answer")
DATABASE_AWAY = Unavailable("database", "the database does not answer")
RECEIVE = InMemoryQueue.receive
BUCKET_AWAY = Unavailable("bucket", "the bucket does not answer")


class World:
    """A consumer that uses fakes. `during` handles each delivery. Each wait calls `on_wait` and ends at once."""

    def __init__(self, drain: timedelta = timedelta(0), queue: InMemoryQueue | None = None) -> None:
        self.queue = queue or InMemoryQueue()
        self.clock = ManualClock()
        self.runtime = ManualRuntime(self.clock)
        self.shutdown = Shutdown(drain, self.runtime)
        self.database: AnbError | None = None
        self.bucket: AnbError | None = None
        self.during: Callable[[Delivery, Stop], None] = lambda _delivery, _stop: self.sigterm()
        self.on_wait: Callable[[], None] = self.sigterm
        self.handled: list[str] = []
        self.waits: list[float] = []
        self.steps: list[str] = []
        self.beats = 0
        self.checks = 0

    def sigterm(self) -> None:
        """Request a shutdown as SIGTERM does, and wait until the drain time is over."""
        self.shutdown.request("SIGTERM")
        eventually(lambda: not self.runtime.threads["drain"].is_alive())

    def run(self) -> None:
        Consumer(
            self.queue,
            self._handle,
            gate=Gate(
                [self._ping_database, self._ping_bucket], wait=self._wait, runtime=self.runtime, jitter=lambda: 1.0
            ),
            shutdown=self.shutdown,
            wait=timedelta(0),
            runtime=self.runtime,
            beat=self._beat,
            on_step=self.steps.append,
        ).run()
        for _, error in self.runtime.errors:
            if isinstance(error, AssertionError):
                raise error

    def receive_after_sigterm(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make SIGTERM arrive during a long poll, which then returns a message."""

        def long_poll(queue: InMemoryQueue, *, wait: timedelta) -> Delivery | None:
            self.sigterm()
            return RECEIVE(queue, wait=wait)

        monkeypatch.setattr(InMemoryQueue, "receive", long_poll)

    def _handle(self, delivery: Delivery, stop: Stop) -> None:
        self.handled.append(delivery.body)
        self.during(delivery, stop)
        self.queue.delete(delivery)

    def _ping_database(self) -> None:
        self.checks += 1
        if self.database:
            raise self.database

    def _ping_bucket(self) -> None:
        if self.bucket:
            raise self.bucket

    def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.on_wait()

    def _beat(self) -> None:
        self.beats += 1


@pytest.fixture
def world() -> World:
    return World()


def test_one_job_after_the_other_is_done(world: World) -> None:
    world.queue.put("one")
    world.queue.put("two")
    world.during = lambda _delivery, _stop: world.sigterm() if len(world.handled) == 2 else None
    world.run()
    assert world.handled == ["one", "two"]
    assert world.steps == ["receive", "receive"]
    assert world.beats == 2


def test_while_messages_follow_each_other_at_once_the_parts_are_checked_once_a_second(world: World) -> None:
    for number in range(4):
        world.queue.put(str(number))

    def during(_delivery: Delivery, _stop: Stop) -> None:
        world.clock.advance(FRESH / 2)
        if len(world.handled) == 4:
            world.sigterm()

    world.during = during
    world.run()
    assert world.steps == ["receive"] * 4
    assert world.checks == 2


def test_after_an_outage_the_parts_are_checked_before_the_next_message(world: World) -> None:
    world.queue.put("one")
    world.queue.put("two")

    def during(_delivery: Delivery, _stop: Stop) -> None:
        world.database = DATABASE_AWAY
        raise DATABASE_AWAY

    world.during = during
    world.on_wait = lambda: world.sigterm() if len(world.waits) == 2 else None
    world.run()
    assert world.handled == ["one"]
    assert world.waits == [2, 4]


@pytest.mark.parametrize("away", [DATABASE_AWAY, BUCKET_AWAY], ids=lambda error: error.part)
def test_nothing_is_received_while_a_part_is_away_and_the_log_says_which(world: World, away: Unavailable) -> None:
    setattr(world, away.part, away)
    world.queue.put("one")
    with capture_logs() as logs:
        world.run()
    assert world.steps == []
    assert world.queue.depth().visible == 1
    assert f"not receiving: the {away.part} is away" in [line["event"] for line in logs]


def test_the_log_tells_a_part_that_is_busy_from_one_that_is_away(world: World) -> None:
    world.database = Busy("database", "another session holds what is needed")
    with capture_logs() as logs:
        world.run()
    assert "not receiving: the database is busy" in [line["event"] for line in logs]


def test_an_outage_is_logged_once_for_each_reason_and_so_is_its_end(world: World) -> None:
    world.database = DATABASE_AWAY

    def on_wait() -> None:
        match len(world.waits):
            case 2:
                world.database = Unavailable("database", "the password is wrong")
            case 4:
                world.database = None
                world.queue.put("one")

    world.on_wait = on_wait
    with capture_logs() as logs:
        world.run()
    shown = [line["event"] for line in logs if line["log_level"] != "debug"]
    assert shown[:2] == ["not receiving: the database is away"] * 2
    assert shown.count("not receiving: the database is away") == 2
    assert shown[-1] == "receiving again: all parts answer"


def test_receiving_goes_on_once_the_part_answers_again(world: World) -> None:
    world.database = DATABASE_AWAY
    world.queue.put("one")

    def on_wait() -> None:
        if len(world.waits) == 3:
            world.database = None

    world.on_wait = on_wait
    world.run()
    assert world.handled == ["one"]
    assert world.waits == [2, 4, 8]


def test_a_message_that_arrives_after_sigterm_is_given_back_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.queue.put("late")
    world.receive_after_sigterm(monkeypatch)
    world.run()
    assert world.handled == []
    assert world.queue.depth().visible == 1


def test_workers_that_stop_together_do_not_hand_a_message_round_until_it_is_a_dead_letter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = InMemoryQueue()
    queue.put("late")
    for _ in range(queue.max_receives + 1):
        stopping = World(queue=queue)
        stopping.receive_after_sigterm(monkeypatch)
        stopping.run()
    assert queue.dead_letters.bodies() == []
    assert queue.depth() == Depth(visible=0, in_flight=1, delayed=0)


def test_nothing_is_received_after_sigterm(world: World) -> None:
    world.queue.put("one")
    world.sigterm()
    world.run()
    assert world.steps == []


def test_a_queue_that_is_away_is_asked_ever_more_rarely(world: World) -> None:
    world.queue.fault = QUEUE_AWAY
    world.on_wait = lambda: world.sigterm() if len(world.waits) == 5 else None
    world.run()
    assert world.waits == [2, 4, 8, 15, 15]
    assert world.steps == ["receive"] * 5


def test_a_message_that_was_given_back_is_not_taken_again_at_once(world: World) -> None:
    world.queue.put("one")

    def during(delivery: Delivery, _stop: Stop) -> None:
        world.queue.give_back(delivery)
        raise DATABASE_AWAY

    world.during = during
    world.run()
    assert world.handled == ["one"]
    assert world.waits == [2]


def test_after_a_good_turn_the_waits_begin_anew(world: World) -> None:
    world.queue.put("one")

    def during(_delivery: Delivery, _stop: Stop) -> None:
        world.database = DATABASE_AWAY
        world.clock.advance(FRESH)

    world.during = during

    def on_wait() -> None:
        match len(world.waits):
            case 1:
                world.bucket = None
            case 2:
                world.sigterm()

    world.on_wait = on_wait
    world.bucket = BUCKET_AWAY
    world.run()
    assert world.waits == [2, 2]


def test_a_turn_that_fails_in_a_way_nobody_foresaw_does_not_end_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.queue.put("one")
    world.queue.put("two")

    def during(delivery: Delivery, _stop: Stop) -> None:
        if delivery.body == "one":
            raise RuntimeError("a defect")
        world.sigterm()

    waits: list[float] = []
    monkeypatch.setattr(world.shutdown, "wait", waits.append)
    world.during = during
    world.run()
    assert world.handled == ["one", "two"]
    assert waits == [1]
    assert [(where, str(error)) for where, error in world.runtime.errors] == [("a turn of the loop", "a defect")]


def test_without_a_budget_the_job_at_hand_is_interrupted_at_once(world: World) -> None:
    world.queue.put("one")
    asked = []

    def during(_delivery: Delivery, stop: Stop) -> None:
        world.sigterm()
        with pytest.raises(Interrupted) as error:
            stop.check()
        asked.append(error.value)

    world.during = during
    world.run()
    assert len(asked) == 1


@pytest.fixture
def draining() -> World:
    """A worker whose drain time is longer than any test."""
    return World(drain=timedelta(hours=1))


def test_the_job_at_hand_may_finish_within_the_drain_budget(draining: World) -> None:
    world = draining
    world.queue.put("one")
    world.queue.put("two")

    def during(_delivery: Delivery, stop: Stop) -> None:
        world.shutdown.request("SIGTERM")
        assert world.shutdown.stopping()
        drain = world.runtime.threads["drain"]
        drain.join(0.05)
        assert drain.is_alive(), "it waits for the end of the budget"
        assert not stop.asked

    world.during = during
    world.run()
    assert world.handled == ["one"]
    assert world.queue.depth().visible == 1


def test_a_second_signal_interrupts_the_job_at_hand(draining: World) -> None:
    world = draining
    world.queue.put("one")

    def during(_delivery: Delivery, stop: Stop) -> None:
        world.shutdown.request("SIGINT")
        assert not stop.asked
        world.shutdown.request("SIGINT")
        assert stop.asked

    world.during = during
    world.run()
    assert world.shutdown.stopping()


def test_a_job_that_begins_after_the_budget_is_interrupted_before_its_first_step(world: World) -> None:
    world.sigterm()
    stop = Stop()
    with world.shutdown.interrupting(stop):
        assert stop.asked


def test_what_need_not_finish_is_interrupted_by_the_first_signal(draining: World) -> None:
    stop = Stop()
    with draining.shutdown.interrupting(stop, drains=False):
        draining.shutdown.request("SIGTERM")
        assert stop.asked


def test_a_job_that_is_over_is_not_interrupted(world: World) -> None:
    stop = Stop()
    with world.shutdown.interrupting(stop):
        pass
    world.sigterm()
    assert not stop.asked


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_waits_grow_to_a_limit_and_are_spread(jitter: float) -> None:
    waits = [plan_wait(tries, jitter) for tries in range(1, 2000)]
    assert waits == sorted(waits)
    assert waits[0] >= timedelta(seconds=1)
    assert LONGEST_WAIT / 2 <= waits[-1] <= LONGEST_WAIT
