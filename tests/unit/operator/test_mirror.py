"""What a status says, as a function of the row."""

from collections.abc import Callable

import pytest

from anb_core.domain.model import DeadLetterCause, Problem
from anb_core.domain.retry import RetryPolicy
from anb_operator.mirror import announcements, camel_case, refused_status, status_of
from anb_operator.videojob import Metadata, Spec, Status, VideoJob
from tests.support.given import (
    HOUR,
    MINUTE,
    claim,
    fail,
    failed,
    interrupt,
    processed,
    processing,
    record_of,
    result,
    uploaded,
    uploading,
)
from tests.unit.operator.conftest import World

ONE_TRY = RetryPolicy(max_lost=1)


def videojob(world: World, status: Status | None = None) -> VideoJob:
    metadata = Metadata(
        name="v", namespace="video", uid="u", resource_version="1", generation=3, creation_timestamp=world.clock.now()
    )
    return VideoJob(metadata=metadata, spec=Spec(video_id="v", retry="token"), status=status or Status())


def status(world: World, video_id: str, before: Status | None = None) -> Status:
    record = record_of(world.store, video_id)
    return status_of(record, world.store.history(video_id)[1], videojob(world, before))


def conditions(told: Status) -> dict[str, tuple[str, str]]:
    return {condition.type: (condition.status, condition.reason) for condition in told.conditions}


def dead(world: World) -> str:
    video_id = uploaded(world.store)
    for _ in range(3):
        fail(world.store, claim(world.store, video_id))
        world.clock.advance(HOUR)
    return video_id


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            lambda world: uploading(world.store).video.id,
            {
                "Progressing": ("True", "Uploading"),
                "Complete": ("False", "Uploading"),
                "Failed": ("False", "Uploading"),
            },
        ),
        (lambda world: uploaded(world.store), {"Progressing": ("True", "Uploaded"), "Complete": ("False", "Uploaded")}),
        (
            lambda world: processing(world.store).video_id,
            {"Progressing": ("True", "Processing"), "Complete": ("False", "Processing")},
        ),
        (
            lambda world: processed(world.store),
            {"Progressing": ("False", "Processed"), "Complete": ("True", "Processed")},
        ),
        (
            lambda world: failed(world.store),
            {
                "Progressing": ("False", "Failed"),
                "Failed": ("True", "VerificationFailed"),
                "Complete": ("False", "Failed"),
            },
        ),
        (
            dead,
            {
                "Progressing": ("False", "DeadLettered"),
                "DeadLettered": ("True", "VerificationFailed"),
                "Failed": ("False", "DeadLettered"),
            },
        ),
    ],
)
def test_conditions_follow_the_row(
    world: World, given: Callable[[World], str], expected: dict[str, tuple[str, str]]
) -> None:
    told = conditions(status(world, given(world)))
    assert told.items() >= expected.items()
    assert told.keys() == {"Accepted", "Progressing", "Complete", "Failed", "DeadLettered"}
    assert told["Accepted"] == ("True", "Mirrored")


def test_a_job_between_attempts_says_what_became_of_the_last_one(world: World) -> None:
    lease = processing(world.store)
    fail(world.store, lease)
    told = status(world, lease.video_id)
    assert conditions(told)["Progressing"] == ("True", "AttemptFailed")
    assert told.error is not None
    assert told.error.code == "verification_failed"
    progressing = told.condition("Progressing")
    assert progressing is not None
    assert "The next one begins after" in progressing.message
    assert told.worker is None
    world.clock.advance(HOUR)
    claim(world.store, lease.video_id)
    assert status(world, lease.video_id).error is None


def test_a_job_that_was_handed_on_says_so_and_shows_no_error(world: World) -> None:
    lease = processing(world.store)
    interrupt(world.store, lease)
    told = status(world, lease.video_id)
    assert conditions(told)["Progressing"] == ("True", "Interrupted")
    assert told.error is None


def test_an_attempt_tells_its_worker_and_progress_and_in_the_end_the_finished_object(world: World) -> None:
    video_id = uploaded(world.store)
    told = status(world, video_id)
    assert (told.worker, told.progress, told.result_key) == (None, None, None)
    lease = claim(world.store, video_id)
    world.store.report_progress(lease, 0.429)
    told = status(world, video_id)
    assert (told.worker, told.progress, told.result_key) == ("worker-1", "42%", None)
    published = result(lease)
    world.store.publish(lease, published)
    told = status(world, video_id)
    assert (told.worker, told.progress, told.result_key) == (None, "100%", published.key)


def test_a_dead_letter_tells_its_cause_and_counts(world: World) -> None:
    letter = status(world, dead(world)).dead_letter
    assert letter is not None
    assert (letter.cause, letter.failures, letter.lost) == (DeadLetterCause.FAILURES, 3, 0)


def test_workers_that_vanished_are_a_cause_of_their_own(world: World) -> None:
    lease = processing(world.store)
    world.clock.advance(2 * MINUTE)
    world.store.end_expired_leases(limit=10, policy=ONE_TRY)
    told = status(world, lease.video_id)
    assert told.dead_letter is not None
    assert (told.dead_letter.cause, told.dead_letter.lost) == (DeadLetterCause.WORKER_LOST, 1)
    record, attempts = record_of(world.store, lease.video_id), world.store.history(lease.video_id)[1]
    news = announcements(Status(), record, attempts, world.clock.now())
    assert [one.reason for one in news] == ["Started", "WorkerLost", "DeadLettered"]
    assert news[1].message == "Attempt 1 on worker worker-1 was lost, because its lease expired."


def test_the_last_attempt_tells_the_cause_of_a_dead_letter(world: World) -> None:
    lease = processing(world.store)
    world.clock.advance(2 * MINUTE)
    world.store.end_expired_leases(limit=10, policy=RetryPolicy())
    for _ in range(3):
        world.clock.advance(HOUR)
        fail(world.store, claim(world.store, lease.video_id))
    letter = status(world, lease.video_id).dead_letter
    assert letter is not None
    assert (letter.cause, letter.failures, letter.lost) == (DeadLetterCause.FAILURES, 3, 1)


def test_a_condition_keeps_its_time_until_it_changes(world: World) -> None:
    lease = processing(world.store)
    before = status(world, lease.video_id)
    world.clock.advance(HOUR)
    world.store.report_progress(lease, 0.5)
    assert status(world, lease.video_id, before).conditions == before.conditions
    fail(world.store, lease)
    after = status(world, lease.video_id, before)
    kept, told = before.condition("Progressing"), after.condition("Progressing")
    assert kept is not None
    assert told is not None
    assert told.last_transition_time == kept.last_transition_time
    assert told.reason != kept.reason


def test_a_refusal_answers_the_spec_and_keeps_the_token_that_was_acted_on_last(world: World) -> None:
    told = refused_status(Problem("video_deleted", "Gone."), videojob(world, Status(retry="before")), world.clock.now())
    assert (told.observed_generation, told.retry) == (3, "before")


def test_conditions_tell_the_generation_that_they_speak_of(world: World) -> None:
    told = status(world, uploaded(world.store))
    assert {condition.observed_generation for condition in told.conditions} == {3}


def test_the_present_attempts_begin_is_told(world: World) -> None:
    lease = processing(world.store)
    fail(world.store, lease)
    world.clock.advance(HOUR)
    claim(world.store, lease.video_id)
    assert status(world, lease.video_id).started_at == world.clock.now()


def test_only_what_went_wrong_is_a_warning(world: World) -> None:
    lease = processing(world.store)
    interrupt(world.store, lease)
    fail(world.store, claim(world.store, lease.video_id))
    record, attempts = world.store.history(lease.video_id)
    assert record is not None
    told = announcements(Status(), record, attempts, world.clock.now())
    assert {one.reason: one.warning for one in told} == {"Started": False, "Interrupted": False, "AttemptFailed": True}


def test_no_condition_is_older_than_its_videojob(world: World) -> None:
    video_id = processed(world.store)
    world.clock.advance(HOUR)
    told = status(world, video_id)
    assert {condition.last_transition_time for condition in told.conditions} == {world.clock.now()}
    assert told.finished_at == world.clock.now() - HOUR


def test_times_are_those_of_the_row(world: World) -> None:
    video_id = uploaded(world.store)
    world.clock.advance(MINUTE)
    lease = claim(world.store, video_id)
    world.clock.advance(MINUTE)
    told = status(world, video_id)
    assert told.created_at is not None
    assert told.started_at == told.created_at + MINUTE
    assert told.finished_at is None
    interrupt(world.store, lease)
    world.store.cancel(video_id)
    assert status(world, video_id).finished_at == told.created_at + 2 * MINUTE


def test_what_is_written_reads_back_as_it_was(world: World) -> None:
    for video_id in (
        uploaded(world.store),
        processing(world.store).video_id,
        processed(world.store),
        dead(world),
    ):
        told = status(world, video_id)
        assert Status.model_validate(told.manifest()) == told
        assert (told.observed_generation, told.retry) == (3, "token")


@pytest.mark.parametrize(
    ("code", "reason"), [("not_a_video", "NotAVideo"), ("processed", "Processed"), ("source_missing", "SourceMissing")]
)
def test_a_code_becomes_a_word(code: str, reason: str) -> None:
    assert camel_case(code) == reason
