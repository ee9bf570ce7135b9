import json
import threading
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Busy, Unavailable
from anb_core.domain.keys import upload_key
from anb_core.domain.model import NewVideo, Source
from anb_core.domain.retry import RetryPolicy
from anb_core.ports.queue import Outgoing
from anb_core.ports.store import Claimed, OutboxEntry, QueueLimit
from anb_core.testing.clock import ManualClock
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.runtime import ManualRuntime
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.relay import BATCH, HOLD, RESEND_CAP, Passed, Relay, plan_resend


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.runtime = ManualRuntime(self.clock)
        self.store = InMemoryStore(self.clock.now)
        self.queue = InMemoryQueue(now=self.clock.now)
        self.relay = Relay(self.store, self.queue, bucket="anb-videos", runtime=self.runtime, jitter=lambda: 0.0)

    def upload(self, video_id: str, *, owner: str = "ana") -> None:
        key = upload_key(video_id)
        new = NewVideo(video_id, f"task-{video_id}", owner, "A title", EditSpec(), key, owned=True, file_name="a.mp4")
        self.store.submit_existing(new, Source(10))

    def claim(self, video_id: str) -> None:
        claimed = self.store.claim(
            video_id, generation=1, attempt_id="attempt", worker="w", lease=timedelta(minutes=1), policy=RetryPolicy()
        )
        assert isinstance(claimed, Claimed)

    def sent_ids(self) -> list[str]:
        return [json.loads(outgoing.body)["video_id"] for outgoing in self.queue.sent]


@pytest.fixture
def world() -> World:
    return World()


def test_an_uploaded_video_is_sent_once_as_a_pointer_to_its_row(world: World) -> None:
    world.upload("v1")

    assert world.relay.send_due() == Passed(sent=1, refused=0)
    assert world.relay.send_due() == Passed(sent=0, refused=0)

    (outgoing,) = world.queue.sent
    body = json.loads(outgoing.body)
    assert (body["video_id"], body["task_id"], body["generation"]) == ("v1", "task-v1", 1)
    assert (body["video_path"], body["file_path"]) == ("s3://anb-videos/uploads/v1.mp4", "uploads/v1.mp4")
    assert (outgoing.group, outgoing.owner) == ("v1", "ana")


def test_the_job_notes_when_and_where_it_was_sent(world: World) -> None:
    world.upload("v1")

    world.relay.send_due()

    record = world.store.get("v1")
    assert record is not None
    assert (record.job.enqueued_at, record.job.enqueued_to) == (world.clock.now(), world.queue.name)


class HoldsOneRow(InMemoryStore):
    held = "v1"

    def mark_sent(self, entry: OutboxEntry, *, broker: str) -> None:
        if entry.video_id == self.held:
            raise Busy("database", "Another session holds the row.")
        super().mark_sent(entry, broker=broker)

    def mark_unsent(self, entry: OutboxEntry, *, delay: timedelta) -> None:
        if entry.video_id == self.held:
            raise Busy("database", "Another session holds the row.")
        super().mark_unsent(entry, delay=delay)


def test_a_row_that_somebody_holds_keeps_no_other_from_being_noted_as_sent(world: World) -> None:
    store = world.store = HoldsOneRow(world.clock.now)
    relay = Relay(store, world.queue, bucket="anb-videos", runtime=world.runtime)
    world.upload("v1")
    world.upload("v2")

    assert relay.send_due() == Passed(sent=2, refused=0)
    assert relay.send_due() == Passed(sent=0, refused=0)
    store.held = ""
    world.clock.advance(HOLD)

    # The relay sends v1 again, because the first pass could not mark v1 as sent. A duplicate does no harm.
    assert relay.send_due() == Passed(sent=1, refused=0)
    assert world.sent_ids() == ["v1", "v2", "v1"]


def test_a_row_that_somebody_holds_keeps_no_other_from_being_noted_as_refused(world: World) -> None:
    store = world.store = HoldsOneRow(world.clock.now)
    relay = Relay(store, world.queue, bucket="anb-videos", runtime=world.runtime, jitter=lambda: 0.0)
    world.upload("v1")
    world.upload("v2")
    world.queue.refuse = lambda _: "not now"

    assert relay.send_due() == Passed(sent=0, refused=2)
    world.queue.refuse = lambda _: None
    world.clock.advance(plan_resend(0, 0.0))

    assert relay.send_due() == Passed(sent=1, refused=0)
    assert world.sent_ids() == ["v2"]


def test_an_outage_of_the_queue_delays_messages_and_loses_none(world: World) -> None:
    world.upload("v1")
    world.queue.fault = Unavailable("queue", "The queue is away.")

    assert world.relay.send_due() == Passed(sent=0, refused=1)
    world.queue.fault = None
    world.clock.advance(RESEND_CAP)

    assert world.relay.send_due() == Passed(sent=1, refused=0)
    assert world.sent_ids() == ["v1"]


def test_a_refused_message_does_not_block_the_others(world: World) -> None:
    for video_id in ("v1", "v2", "v3"):
        world.upload(video_id)
    world.queue.refuse = lambda outgoing: "too odd" if outgoing.group == "v2" else None

    assert world.relay.send_due() == Passed(sent=2, refused=1)
    assert world.sent_ids() == ["v1", "v3"]


def test_what_was_refused_waits_before_it_is_tried_again(world: World) -> None:
    world.upload("v1")
    world.queue.refuse = lambda _: "not now"
    world.relay.send_due()

    assert world.relay.send_due() == Passed(sent=0, refused=0)
    world.clock.advance(plan_resend(0, 0.0))
    assert world.relay.send_due() == Passed(sent=0, refused=1)


def test_more_than_a_batch_goes_in_several_sends(world: World) -> None:
    for number in range(BATCH + 1):
        world.upload(f"v{number}")

    assert world.relay.send_due().sent == BATCH
    assert world.relay.send_due().sent == 1


def test_a_queue_with_a_limit_stays_short_and_owners_take_turns(world: World) -> None:
    relay = Relay(world.store, world.queue, bucket="anb-videos", runtime=world.runtime, queue_limit=3)
    for number in range(5):
        world.upload(f"a{number}")
    assert relay.send_due() == Passed(sent=3, refused=0)
    assert relay.send_due() == Passed(sent=0, refused=0)

    world.upload("b0", owner="ben")
    world.claim("a0")
    assert relay.send_due() == Passed(sent=1, refused=0)

    assert world.sent_ids() == ["a0", "a1", "a2", "b0"]


def test_messages_that_the_queue_refuses_use_no_room(world: World) -> None:
    relay = Relay(
        world.store, world.queue, bucket="anb-videos", runtime=world.runtime, queue_limit=1, jitter=lambda: 0.0
    )
    world.upload("a0")
    world.upload("a1")
    world.queue.refuse = lambda outgoing: "too odd" if outgoing.group == "a0" else None

    assert relay.send_due() == Passed(sent=0, refused=1)
    assert relay.send_due() == Passed(sent=1, refused=0)


class DiesWhileSending(InMemoryQueue):
    def send(self, batch: Sequence[Outgoing]) -> Sequence[str | None]:
        super().send(batch)
        raise SystemExit


def test_what_a_relay_held_when_it_died_is_sent_by_another(world: World) -> None:
    world.upload("v1")
    with pytest.raises(SystemExit):
        Relay(world.store, DiesWhileSending(now=world.clock.now), bucket="anb-videos", runtime=world.runtime).send_due()

    assert world.relay.send_due() == Passed(sent=0, refused=0)
    world.clock.advance(HOLD)
    assert world.relay.send_due() == Passed(sent=1, refused=0)


def test_a_job_retried_while_its_message_is_sent_is_sent_once_more(world: World) -> None:
    world.upload("v1")
    world.queue.refuse = lambda _: _retry_meanwhile(world)

    world.relay.send_due()
    world.queue.refuse = lambda _: None
    world.relay.send_due()

    generations = [json.loads(outgoing.body)["generation"] for outgoing in world.queue.sent]
    assert generations == [1, 2]
    first, second = world.queue.sent
    assert first.deduplication != second.deduplication


def _retry_meanwhile(world: World) -> None:
    world.store.cancel("v1")
    world.store.retry("v1", by="ada")


def test_a_running_relay_sends_what_it_is_woken_for_and_ends_when_told(world: World) -> None:
    stop = threading.Event()
    took = threading.Event()

    def refuse(_: Outgoing) -> None:
        took.set()

    world.queue.refuse = refuse
    thread = threading.Thread(target=world.relay.run, args=(stop,))
    thread.start()
    world.upload("v1")
    world.relay.wake()

    assert took.wait(10)
    stop.set()
    world.relay.wake()
    thread.join(10)
    assert not thread.is_alive()


class EndsWhenIdle(Relay):
    """A relay that stops after a pass that sends no message. `passes` lists the number of messages of each pass."""

    def __init__(self, world: World, stop: threading.Event) -> None:
        super().__init__(world.store, world.queue, bucket="anb-videos", runtime=world.runtime)
        self.passes: list[int] = []
        self._stop = stop

    def send_due(self) -> Passed:
        passed = super().send_due()
        self.passes.append(passed.sent)
        if not passed.sent:
            self._stop.set()
        return passed


@pytest.mark.timeout(20)
def test_a_woken_relay_sends_a_whole_burst_before_it_waits_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anb_core.usecases.relay.IDLE", timedelta(hours=1))
    stop = threading.Event()
    relay = EndsWhenIdle(world, stop)
    for number in range(2 * BATCH + 1):
        world.upload(f"v{number}")
    relay.wake()

    relay.run(stop)

    assert relay.passes == [BATCH, BATCH, 1, 0]


@pytest.mark.parametrize(
    ("error", "reported"),
    [(Unavailable("database", "The database is away."), []), (RuntimeError("a defect"), [("relay", "a defect")])],
    ids=["outage", "defect"],
)
def test_a_running_relay_outlives_outages_and_reports_what_nobody_foresaw(
    world: World, error: Exception, reported: list[tuple[str, str]]
) -> None:
    stop, asked, took = threading.Event(), threading.Event(), threading.Event()

    class Flaky(InMemoryStore):
        def hold_outbox(
            self, *, limit: int, hold: timedelta, queue_limit: QueueLimit | None = None
        ) -> Sequence[OutboxEntry]:
            if not asked.is_set():
                asked.set()
                raise error
            took.set()
            return super().hold_outbox(limit=limit, hold=hold, queue_limit=queue_limit)

    relay = Relay(Flaky(), world.queue, bucket="anb-videos", runtime=world.runtime)
    thread = threading.Thread(target=relay.run, args=(stop,))
    thread.start()
    relay.wake()
    assert asked.wait(10)
    relay.wake()
    assert took.wait(10)
    stop.set()
    relay.wake()
    thread.join(10)
    assert not thread.is_alive()
    assert [(where, str(error)) for where, error in world.runtime.errors] == reported


@given(tries=st.integers(0, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_the_wait_after_a_refusal_grows_to_a_cap(tries: int, jitter: float) -> None:
    delay = plan_resend(tries, jitter)

    assert timedelta(seconds=0.5) <= delay <= RESEND_CAP
    assert plan_resend(tries + 1, jitter) >= delay
