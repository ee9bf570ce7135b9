"""Tests of the messages that SQS moved to the dead-letter queue. tests/contract/store tests the store's decisions."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from anb_core.domain.dead_letters import Resolution
from anb_core.domain.errors import Busy, Unavailable
from anb_core.domain.message import MAX_BODY_BYTES, encode
from anb_core.domain.model import DeadLetterCause
from anb_core.domain.status import Status
from anb_core.ports.queue import Delivery, Depth, Outgoing
from anb_core.ports.stop import Stop
from anb_core.testing.clock import ManualClock
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.runtime import ManualRuntime
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.receive_dead_letters import VISIBILITY, Receipt, ReceiveDeadLetters
from tests.support import eventually
from tests.support.given import DAY, HOUR, POLICY, processed, processing, record_of, sent, uploaded, uploading
from tests.support.s3_notifications import TEST_EVENT, envelope, notification, record

NOW = timedelta(0)
DATABASE_AWAY = Unavailable("database", "the database does not answer")
QUEUE_AWAY = Unavailable("queue", "Dead-letter queue X (SQS_DLQ_URL) refuses ReceiveMessage: AccessDenied.")


class Death(BaseException):
    """An exception that simulates SIGKILL: no exception handler may catch it."""


class World:
    """A store, a queue (`main`), its dead-letter queue (`queue`), and a process that receives from the latter."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.runtime = ManualRuntime(self.clock)
        self.store = InMemoryStore(self.clock.now)
        self.main = InMemoryQueue(now=self.clock.now, runtime=self.runtime)
        self.queue = self.main.dead_letters
        self.queue.visibility = VISIBILITY
        self.receipts: list[Receipt] = []
        self.receiver = self.process()

    def process(self) -> ReceiveDeadLetters:
        return ReceiveDeadLetters(
            self.store, self.queue, policy=POLICY, runtime=self.runtime, on_receipt=self.receipts.append
        )

    def move(self, body: str) -> None:
        """Send a message, and let workers receive it until the main queue moves it to the dead-letter queue."""
        self.main.send([Outgoing(body, group="v", owner="ada", deduplication=body)])
        while delivery := self.main.receive(wait=NOW):
            self.main.give_back(delivery)

    def receive(self) -> Delivery:
        delivery = self.queue.receive(wait=NOW)
        assert delivery is not None
        return delivery

    def handle(self, delivery: Delivery | None = None) -> None:
        self.receiver.handle(delivery or self.receive(), Stop())


@pytest.fixture
def world() -> World:
    return World()


def body_of(video_id: str, generation: int = 1) -> str:
    now = ManualClock().now()
    key = f"uploads/{video_id}.mp4"
    return encode(video_id=video_id, task_id="t", generation=generation, bucket="b", key=key, created_at=now)


def waiting(store: InMemoryStore) -> str:
    sent(store, video_id := uploaded(store))
    return video_id


def deleted(store: InMemoryStore) -> str:
    store.delete(video_id := waiting(store), by="ada", grace=DAY)
    return video_id


STALE: dict[str, Callable[[InMemoryStore], str]] = {
    "uploading": lambda store: uploading(store).video.id,
    "in the outbox": uploaded,
    "leased": lambda store: processing(store).video_id,
    "over": processed,
    "deleted": deleted,
}


@pytest.mark.parametrize("made", STALE.values(), ids=STALE)
def test_a_message_whose_job_needs_nothing_is_recorded_as_stale_then_deleted(
    world: World, made: Callable[[InMemoryStore], str]
) -> None:
    video_id = made(world.store)
    before = world.store.rows[video_id].job
    world.move(body_of(video_id))
    world.handle()
    assert world.receipts == [Receipt.STALE]
    [letter] = world.store.letters
    assert (letter.resolution, letter.message_id, letter.body) == (Resolution.STALE, "message-1", body_of(video_id))
    assert world.store.rows[video_id].job == before
    assert world.queue.depth().empty


def test_a_message_whose_job_waits_counts_as_a_loss_and_at_the_limit_the_job_is_a_dead_letter(world: World) -> None:
    video_id = waiting(world.store)
    for _ in range(POLICY.max_lost):
        world.move(body_of(video_id))
        world.handle()
        world.clock.advance(HOUR)
        if record_of(world.store, video_id).job.status is not Status.DEAD_LETTERED:
            sent(world.store, video_id)
    assert world.receipts == [Receipt.REQUEUED] * (POLICY.max_lost - 1) + [Receipt.DEAD_LETTERED]
    assert record_of(world.store, video_id).job.counters.lost == POLICY.max_lost
    assert world.store.open_dead_letters() == {DeadLetterCause.WORKER_LOST: 1}
    assert world.queue.depth().empty


@pytest.mark.parametrize("body", ["", "secret, no JSON", "\x00\ud800", "x" * MAX_BODY_BYTES], ids=len)
def test_a_body_nobody_can_read_is_recorded_whole_and_never_logged(world: World, body: str) -> None:
    world.move(body)
    with capture_logs() as logs:
        world.handle()
    [letter] = world.store.letters
    assert (letter.cause, letter.open) == (DeadLetterCause.UNREADABLE, True)
    assert letter.body == body.encode(errors="replace").decode()
    assert world.receipts == [Receipt.UNREADABLE]
    assert world.queue.depth().empty
    [line] = logs
    assert (line["message_id"], line["bytes"], line["log_level"]) == (letter.message_id, len(letter.body), "warning")
    assert "secret" not in str(line)


def test_a_message_of_an_unknown_video_is_recorded_for_a_person(world: World) -> None:
    world.move(body_of("nobody"))
    world.handle()
    [letter] = world.store.letters
    assert (letter.cause, letter.detail, letter.video_id) == (
        DeadLetterCause.UNKNOWN_JOB,
        "there is no video nobody",
        None,
    )
    assert world.receipts == [Receipt.UNKNOWN_JOB]


@pytest.mark.parametrize("wrapped", [str, envelope], ids=["alone", "SNS"])
def test_a_notification_of_s3_says_what_it_is_and_which_video_it_would_be(
    world: World, wrapped: Callable[[str], str]
) -> None:
    world.move(wrapped(notification(record("camera/door.mp4"), record("camera/b.mp4"))))
    world.move(wrapped(TEST_EVENT))
    world.handle()
    world.handle()
    new, test = world.store.letters
    assert [new.cause, test.cause] == [DeadLetterCause.UNKNOWN_JOB] * 2
    assert new.detail.startswith(
        "This is an event notification of S3: 's3://anb-videos/camera/door.mp4' and 1 more was created"
    )
    assert "If there is no video 9431d106-cf0b-5ab0-92ef-6f502f5fdfee, submit the object again." in new.detail
    assert test.detail.startswith("This is an event notification of S3 that reports no new object.")


@pytest.mark.parametrize("fault", [DATABASE_AWAY, Busy("database", "another session holds the row")], ids=str)
@pytest.mark.parametrize("body", ["no JSON", body_of("nobody")], ids=["unreadable", "readable"])
def test_a_message_stays_while_nothing_can_be_recorded_and_is_handled_within_a_minute_after_that(
    world: World, fault: Unavailable, body: str
) -> None:
    world.move(body)
    world.store.fault = fault
    with pytest.raises(Unavailable):
        world.handle()
    world.store.fault = None
    assert (world.receipts, world.store.letters) == ([], [])
    assert world.queue.depth() == Depth(visible=0, in_flight=1, delayed=0)
    world.clock.advance(timedelta(seconds=31))
    world.handle()
    assert len(world.store.letters) == 1
    assert world.queue.depth().empty


@pytest.mark.parametrize("death", [Death(), QUEUE_AWAY], ids=["killed", "queue away"])
@pytest.mark.parametrize("readable", [True, False])
def test_a_process_that_ends_between_the_commit_and_the_deletion_changes_nothing_more(
    world: World, monkeypatch: pytest.MonkeyPatch, death: BaseException, *, readable: bool
) -> None:
    video_id = waiting(world.store)
    world.move(body_of(video_id) if readable else "no JSON")

    def die(*_: object) -> None:
        raise death

    with monkeypatch.context() as patch:
        patch.setattr(InMemoryQueue, "delete", die)
        with pytest.raises(type(death)):
            world.handle()
    letters, job = list(world.store.letters), record_of(world.store, video_id).job
    assert len(letters) == 1

    world.clock.advance(VISIBILITY)
    world.receiver = world.process()
    world.handle()
    assert world.receipts[1:] == [Receipt.REPEATED]
    assert (world.store.letters, record_of(world.store, video_id).job) == (letters, job)
    assert world.queue.depth().empty


def test_a_message_that_two_processes_receive_at_once_counts_once(world: World) -> None:
    video_id = waiting(world.store)
    world.move(body_of(video_id))
    first = world.receive()
    world.clock.advance(VISIBILITY)
    both, begin = [first, world.receive()], threading.Barrier(2)

    def handle(delivery: Delivery) -> None:
        begin.wait(10)
        world.process().handle(delivery, Stop())

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(handle, both))
    assert sorted(world.receipts) == [Receipt.REPEATED, Receipt.REQUEUED]
    assert record_of(world.store, video_id).job.counters.lost == 1
    assert world.queue.depth().empty


def test_a_message_whose_job_only_a_newer_version_can_read_stays_for_longer_and_longer(world: World) -> None:
    video_id = waiting(world.store)
    world.store.unreadable.add(video_id)
    world.move(body_of(video_id))
    tries = []
    while world.clock.monotonic() < 1000:
        if world.queue.depth().visible:
            tries.append(world.clock.monotonic())
            world.handle()
        world.clock.advance(timedelta(seconds=10))
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 300
    assert set(world.receipts) == {Receipt.KEPT}
    world.store.unreadable.clear()
    world.clock.advance(HOUR)
    world.handle()
    assert world.receipts[-1] == Receipt.REQUEUED


def test_a_message_that_arrives_after_the_signal_is_visible_at_once_however_old_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.move("no JSON")
    world.queue.give_back(world.receive())
    world.clock.advance(HOUR)
    stop, receive = world.runtime.event(), InMemoryQueue.receive

    def long_poll(queue: InMemoryQueue, *, wait: timedelta) -> Delivery | None:
        stop.set()
        return receive(queue, wait=wait)

    monkeypatch.setattr(InMemoryQueue, "receive", long_poll)
    world.receiver.run(stop)
    assert world.receipts == []
    assert world.queue.depth() == Depth(visible=1, in_flight=0, delayed=0)


def test_the_loop_tells_once_that_the_queue_is_forbidden_and_goes_on_once_it_is_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anb_core.usecases.gate.plan_wait", lambda *_: timedelta(milliseconds=1))
    world.move("no JSON")
    world.queue.fault = QUEUE_AWAY
    stop = world.runtime.event()
    with capture_logs() as logs:
        thread = world.runtime.start("loop", lambda: world.receiver.run(stop))
        try:
            eventually(lambda: len(logs) > 3)
            assert world.receiver.outage() is QUEUE_AWAY
            world.queue.fault = None
            eventually(lambda: world.receipts)
            eventually(lambda: world.receiver.outage() is None)
            world.store.fault = DATABASE_AWAY
            eventually(lambda: any(line.get("reason") == DATABASE_AWAY.message for line in logs))
            assert world.receiver.outage() is None, "the queue answers"
        finally:
            world.store.fault = None
            stop.set()
            thread.join(10)
    assert not thread.is_alive()
    assert [line["reason"] for line in logs if line["log_level"] == "warning" and "reason" in line] == [
        QUEUE_AWAY.message,
        DATABASE_AWAY.message,
    ]
