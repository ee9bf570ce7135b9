"""Tests of all ways in which an attempt can end."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from anb_core.domain.errors import (
    BadInput,
    Interrupted,
    LeaseLost,
    Transient,
    Unavailable,
    Withheld,
)
from anb_core.domain.keys import upload_key
from anb_core.domain.model import Counters, DeadLetterCause, Ending
from anb_core.domain.retry import INTERRUPTIONS_ALARM
from anb_core.domain.status import Status
from anb_core.ports.stop import Stop
from anb_core.usecases.report import Outcome
from tests.support.renderer import SOURCE
from tests.unit.usecases.one_worker import (
    BUCKET_AWAY,
    DATABASE_AWAY,
    LEASE,
    POLICY,
    QUEUE_AWAY,
    VIDEO,
    World,
    raising,
    scratch_is_empty,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.upload()
    yield world
    world.check_promises()


def test_progress_runs_from_the_first_byte_to_the_last_and_never_falls(world: World) -> None:
    world.handle()
    assert world.progress == sorted(world.progress)
    assert world.progress == [pytest.approx(value) for value in (0.1, 0.5, 0.9, 1.0)]


def test_bad_input_fails_once_with_its_reason(world: World) -> None:
    world.renderer.during = raising(BadInput("no_video_stream", "The file has no picture."))
    report = world.handle()

    job = world.record.job
    assert (report.outcome, job.status) == (Outcome.REJECTED, Status.FAILED)
    assert job.error is not None
    assert (job.error.code, job.error.message) == ("no_video_stream", "The file has no picture.")
    assert world.store.letters == []
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
    assert [letter.cause for letter in world.store.letters] == [DeadLetterCause.FAILURES]
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


def test_an_interrupted_job_goes_on_elsewhere_at_once_and_no_failure_is_counted(world: World) -> None:
    world.renderer.during = lambda: world.stop.ask(Interrupted())
    report = world.handle()

    assert report.outcome is Outcome.HANDED_ON
    assert report.counters == Counters(interruptions=1)
    assert world.queue.depth().visible == 1, "the next message was sent before the worker went"
    world.stop, world.renderer.during = Stop(), lambda: None
    assert world.handle(worker="worker-2").outcome is Outcome.PROCESSED
    assert world.record.job.counters == Counters(interruptions=1)
    assert [attempt.ending for attempt in world.store.history(VIDEO).attempts] == [Ending.INTERRUPTED, Ending.PROCESSED]


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

    def fetch(_key: str, path: Path, *, on_size: Callable[[int], None], on_bytes: Callable[[int], None]) -> None:
        on_size(len(b"firstsecond"))
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
    assert len(world.store.history(VIDEO).attempts) == 1


def test_a_publish_whose_answer_is_lost_is_no_loss_even_when_the_lease_seems_lost(world: World) -> None:
    world.store.silent = ["publish"]
    # The response of `publish` is lost, so the worker pauses before a retry, although the job is already processed.
    # During the pause, the heartbeat reports a lost lease, because a processed job has no lease.
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
