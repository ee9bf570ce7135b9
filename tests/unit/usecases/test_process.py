"""Tests of how a worker handles messages."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from anb_core.domain.errors import (
    Interrupted,
    Unavailable,
    Withheld,
)
from anb_core.domain.model import DeadLetterCause, Result
from anb_core.domain.object_notes import read_result
from anb_core.domain.status import Status
from anb_core.usecases.relay import Relay
from anb_core.usecases.report import Outcome
from tests.support.renderer import FINISHED, SOURCE
from tests.unit.usecases.one_worker import (
    DATABASE_AWAY,
    LEASE,
    QUEUE_AWAY,
    ROW_HELD,
    STEPS,
    VIDEO,
    Death,
    World,
    scratch_is_empty,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.upload()
    yield world
    world.check_promises()


@pytest.fixture
def empty_world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.check_promises()


def test_a_video_is_processed_and_its_message_deleted(world: World) -> None:
    report = world.handle()

    job = world.record.job
    assert report.outcome is Outcome.PROCESSED
    assert job.status is Status.PROCESSED
    assert job.result == Result(f"processed/{VIDEO}/1-{report.attempt_id}.mp4", 18, "5a" * 32, 1280, 720, 12.5, 375)
    assert world.objects.contents[job.result.key] == FINISHED
    assert world.objects.content_types[job.result.key] == "video/mp4"
    assert read_result(world.objects.notes[job.result.key], job.result.key, 18) == (job.result, "worker-1")
    assert world.queue.depth().empty
    assert scratch_is_empty(world)
    assert world.steps == STEPS


@pytest.mark.parametrize("queue_limit", [30, None])
def test_a_claim_wakes_the_relay_of_a_short_queue_because_it_has_room_for_another_message(
    world: World, monkeypatch: pytest.MonkeyPatch, queue_limit: int | None
) -> None:
    statuses: list[Status] = []
    world.relay = Relay(
        world.store, world.queue, bucket=world.objects.bucket, runtime=world.runtime, queue_limit=queue_limit
    )
    monkeypatch.setattr(world.relay, "wake", lambda: statuses.append(world.record.job.status))

    world.handle()

    assert statuses == ([Status.PROCESSING] if queue_limit else [])


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


def test_two_deliveries_of_one_message_make_one_result(world: World) -> None:
    first = world.receive()
    world.clock.advance(world.queue.visibility)
    second = world.receive()

    assert world.handle(first).outcome is Outcome.PROCESSED
    report = world.handle(second)
    assert (report.outcome, report.detail) == (Outcome.DROPPED, "terminal")
    assert len(world.store.history(VIDEO).attempts) == 1


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
    assert [(letter.cause, letter.body) for letter in world.store.letters] == [(DeadLetterCause.UNREADABLE, body)]
    assert world.queue.depth().empty


def test_a_message_of_an_unknown_video_is_recorded_then_deleted(empty_world: World) -> None:
    world = empty_world
    world.objects.put("uploads/nobody.mp4", SOURCE)
    report = world.handle(world.put(video_id="nobody", generation=1, file_path="uploads/nobody.mp4"), adopts=True)
    assert report.outcome is Outcome.RECORDED
    assert [letter.cause for letter in world.store.letters] == [DeadLetterCause.UNKNOWN_JOB]
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
    assert not world.store.letters

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
    assert [letter.cause for letter in world.store.letters] == [DeadLetterCause.UNKNOWN_JOB]


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
        # Use a new worker for each try, so that no worker knows about the earlier tries.
        if delivery := world.queue.receive(wait=timedelta(0)):
            taken.append(world.clock.monotonic())
            assert world.handle(delivery, worker=f"worker-{len(taken)}").outcome is Outcome.GIVEN_BACK
        world.clock.advance(timedelta(seconds=1))
    assert len(taken) == 2

    world.store.fault = None
    world.clock.advance(timedelta(minutes=2))
    assert world.handle().outcome is Outcome.PROCESSED
    assert world.queue.dead_letters.bodies() == []


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


def test_a_claim_whose_answer_is_lost_is_found_by_the_sweep(world: World) -> None:
    world.store.silent = ["claim"]
    assert world.handle().outcome is Outcome.GIVEN_BACK
    assert world.handle().detail == "leased"
    world.after_the_lease()
    assert world.handle().outcome is Outcome.PROCESSED


def test_a_claim_that_is_tried_again_finds_the_lease_that_an_earlier_try_got(world: World) -> None:
    world.store.silent, world.store.silence = ["claim"], ROW_HELD
    report = world.handle()
    assert report.outcome is Outcome.PROCESSED
    assert world.kept_since == [0.0]


def test_a_message_that_could_not_be_deleted_is_dropped_when_it_comes_again(world: World) -> None:
    world.renderer.during = lambda: setattr(world.queue, "fault", QUEUE_AWAY)
    assert world.handle().outcome is Outcome.PROCESSED
    world.queue.fault = None
    world.clock.advance(world.queue.visibility)
    assert world.handle().outcome is Outcome.DROPPED
    assert world.queue.depth().empty
