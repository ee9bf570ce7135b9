"""Tests of the VideoJob status, which the operator computes from the job's row."""

from collections.abc import Callable

import pytest

from anb_core.domain.dead_letters import DeadLetter, Resolution
from anb_core.domain.model import DeadLetterCause, Problem
from anb_core.domain.retry import RetryPolicy
from anb_operator.mirror import Announcement, announcements, camel_case, refused_status, status_of
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
    result,
    sent,
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
    history = world.store.history(video_id)
    assert history.record is not None
    return status_of(history.record, history.attempts, history.dead_letter, videojob(world, before))


def news(world: World, video_id: str, before: Status | None = None) -> list[Announcement]:
    """Return the Events for the changes since the status `before`. By default, this status has no fields."""
    history = world.store.history(video_id)
    assert history.record is not None
    return announcements(before or Status(), history.record, history.attempts, history.dead_letter, world.clock.now())


def message(shown: Status, condition: str) -> str:
    found = shown.condition(condition)
    assert found is not None
    return found.message


def discard(world: World, video_id: str) -> None:
    letter = world.store.history(video_id).dead_letter
    assert letter is not None
    world.store.discard_dead_letter(letter.id, by="ada", reason="It was a test.")


def conditions(shown: Status) -> dict[str, tuple[str, str]]:
    return {condition.type: (condition.status, condition.reason) for condition in shown.conditions}


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
                "Failed": ("True", "Corrupt"),
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
    shown = conditions(status(world, given(world)))
    assert shown.items() >= expected.items()
    assert shown.keys() == {"Accepted", "Progressing", "Complete", "Failed", "DeadLettered"}
    assert shown["Accepted"] == ("True", "Mirrored")


def test_a_job_between_attempts_shows_how_the_last_one_ended(world: World) -> None:
    lease = processing(world.store)
    fail(world.store, lease)
    shown = status(world, lease.video_id)
    assert conditions(shown)["Progressing"] == ("True", "AttemptFailed")
    assert shown.error is not None
    assert shown.error.code == "verification_failed"
    progressing = shown.condition("Progressing")
    assert progressing is not None
    assert "The next one begins after" in progressing.message
    assert shown.worker is None
    world.clock.advance(HOUR)
    claim(world.store, lease.video_id)
    assert status(world, lease.video_id).error is None


def test_a_job_that_was_handed_on_says_so_and_shows_no_error(world: World) -> None:
    lease = processing(world.store)
    interrupt(world.store, lease)
    shown = status(world, lease.video_id)
    assert conditions(shown)["Progressing"] == ("True", "Interrupted")
    assert shown.error is None


def test_an_attempt_tells_its_worker_and_progress_and_in_the_end_the_finished_object(world: World) -> None:
    video_id = uploaded(world.store)
    shown = status(world, video_id)
    assert (shown.worker, shown.progress, shown.result_key) == (None, None, None)
    lease = claim(world.store, video_id)
    world.store.report_progress(lease, 0.429)
    shown = status(world, video_id)
    assert (shown.worker, shown.progress, shown.result_key) == ("worker-1", "42%", None)
    published = result(lease)
    world.store.publish(lease, published)
    shown = status(world, video_id)
    assert (shown.worker, shown.progress, shown.result_key) == (None, "100%", published.key)


def test_a_dead_letter_tells_its_cause_and_counts(world: World) -> None:
    video_id = dead(world)
    shown = status(world, video_id)
    letter, recorded = shown.dead_letter, world.store.history(video_id).dead_letter
    assert letter is not None
    assert recorded is not None
    assert (letter.id, letter.at) == (recorded.id, shown.finished_at)
    assert (letter.cause, letter.failures, letter.lost) == (DeadLetterCause.FAILURES, 3, 0)
    assert (letter.worker, letter.body, letter.resolution) == ("worker-1", None, None)
    assert message(shown, "DeadLettered") == (
        "3 attempts failed. The last error: The renderer stopped with status 1. A person has to redrive or discard it."
    )


def test_a_dead_letter_whose_message_was_moved_shows_the_beginning_of_the_message(world: World) -> None:
    video_id = uploaded(world.store)
    sent(world.store, video_id)
    body = "{" + 2000 * " " + "}"
    world.store.receive_dead_letter(message_id="m", body=body, video_id=video_id, generation=1, policy=ONE_TRY)
    shown = status(world, video_id)
    assert shown.dead_letter is not None
    assert shown.dead_letter.body == body[:1000]
    assert message(shown, "DeadLettered").startswith("Workers lost the job 1 time. The last error: The worker stopped")


def test_a_dead_letter_from_an_older_program_has_the_counts_of_its_job(world: World) -> None:
    video_id = dead(world)
    new = world.store.letters[0]
    older = DeadLetter(1, new.cause, new.detail, new.created_at, video_id=video_id, generation=new.generation)
    world.store.letters[:] = [older]
    letter = status(world, video_id).dead_letter
    assert letter is not None
    assert (letter.failures, letter.lost, letter.worker) == (3, 0, None)


def test_a_dead_letter_that_is_no_longer_kept_leaves_its_error(world: World) -> None:
    video_id = dead(world)
    world.store.letters.clear()
    shown = status(world, video_id)
    assert shown.dead_letter is None
    assert message(shown, "DeadLettered") == "The renderer stopped with status 1."


def test_a_discard_is_told_with_its_person_time_and_reason_and_changes_no_other_time(world: World) -> None:
    video_id = dead(world)
    before = status(world, video_id)
    world.clock.advance(HOUR)
    discard(world, video_id)
    shown = status(world, video_id, before)
    assert conditions(shown) == conditions(before)
    assert message(shown, "DeadLettered").endswith(
        f"ada discarded it at {world.clock.now():%Y-%m-%d %H:%M:%S} UTC. The reason: It was a test."
    )
    assert shown.finished_at == before.finished_at
    letter = shown.dead_letter
    assert letter is not None
    assert (letter.resolution, letter.resolved_by, letter.reason) == (Resolution.DISCARDED, "ada", "It was a test.")
    assert letter.resolved_at == world.clock.now()
    assert [(one.reason, one.warning) for one in news(world, video_id, before)] == [("Discarded", False)]
    assert news(world, video_id, shown) == []


def test_a_redrive_of_a_dead_letter_is_not_called_a_retry(world: World) -> None:
    video_id = dead(world)
    before = status(world, video_id)
    world.store.retry(video_id, by="ada")
    [redriven] = news(world, video_id, before)
    assert (redriven.reason, redriven.warning) == ("Redriven", False)
    assert redriven.message.startswith("Dead letter 1 was redriven")
    assert before.dead_letter is not None
    older = before.model_copy(update={"dead_letter": before.dead_letter.model_copy(update={"id": None})})
    assert [one.reason for one in news(world, video_id, older)] == ["Retried"]


def test_a_retry_after_a_discard_is_called_a_retry(world: World) -> None:
    video_id = dead(world)
    discard(world, video_id)
    before = status(world, video_id)
    world.store.retry(video_id, by="ada")
    assert [one.reason for one in news(world, video_id, before)] == ["Retried"]


def test_workers_that_vanished_are_a_cause_of_their_own(world: World) -> None:
    lease = processing(world.store)
    world.clock.advance(2 * MINUTE)
    world.store.end_expired_leases(limit=10, policy=ONE_TRY)
    shown = status(world, lease.video_id)
    assert shown.dead_letter is not None
    assert (shown.dead_letter.cause, shown.dead_letter.lost) == (DeadLetterCause.WORKER_LOST, 1)
    events = news(world, lease.video_id)
    assert [one.reason for one in events] == ["Started", "WorkerLost", "DeadLettered"]
    assert events[1].message == "Attempt 1 on worker worker-1 was lost, because its lease expired."
    assert events[2].message.startswith("Workers lost the job 1 time. The last error: ")


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
    first, second = before.condition("Progressing"), after.condition("Progressing")
    assert first is not None
    assert second is not None
    assert second.last_transition_time == first.last_transition_time
    assert second.reason != first.reason


def test_a_refusal_is_for_the_present_spec_and_keeps_the_last_token_that_was_acted_on(world: World) -> None:
    shown = refused_status(
        Problem("video_deleted", "Gone."), videojob(world, Status(retry="before")), world.clock.now()
    )
    assert (shown.observed_generation, shown.retry) == (3, "before")


def test_conditions_tell_the_generation_that_they_speak_of(world: World) -> None:
    shown = status(world, uploaded(world.store))
    assert {condition.observed_generation for condition in shown.conditions} == {3}


def test_the_start_of_the_present_attempt_is_shown(world: World) -> None:
    lease = processing(world.store)
    fail(world.store, lease)
    world.clock.advance(HOUR)
    claim(world.store, lease.video_id)
    assert status(world, lease.video_id).started_at == world.clock.now()


def test_only_what_went_wrong_is_a_warning(world: World) -> None:
    lease = processing(world.store)
    interrupt(world.store, lease)
    fail(world.store, claim(world.store, lease.video_id))
    assert {event.reason: event.warning for event in news(world, lease.video_id)} == {
        "Started": False,
        "Interrupted": False,
        "AttemptFailed": True,
    }


def test_no_condition_is_older_than_its_videojob(world: World) -> None:
    video_id = processed(world.store)
    world.clock.advance(HOUR)
    shown = status(world, video_id)
    assert {condition.last_transition_time for condition in shown.conditions} == {world.clock.now()}
    assert shown.finished_at == world.clock.now() - HOUR


def test_times_are_those_of_the_row(world: World) -> None:
    video_id = uploaded(world.store)
    world.clock.advance(MINUTE)
    lease = claim(world.store, video_id)
    world.clock.advance(MINUTE)
    shown = status(world, video_id)
    assert shown.created_at is not None
    assert shown.started_at == shown.created_at + MINUTE
    assert shown.finished_at is None
    interrupt(world.store, lease)
    world.store.cancel(video_id)
    assert status(world, video_id).finished_at == shown.created_at + 2 * MINUTE


def test_what_is_written_reads_back_as_it_was(world: World) -> None:
    for video_id in (
        uploaded(world.store),
        processing(world.store).video_id,
        processed(world.store),
        dead(world),
    ):
        shown = status(world, video_id)
        assert Status.model_validate(shown.manifest()) == shown
        assert (shown.observed_generation, shown.retry) == (3, "token")


@pytest.mark.parametrize(
    ("code", "reason"), [("not_a_video", "NotAVideo"), ("processed", "Processed"), ("source_missing", "SourceMissing")]
)
def test_a_code_becomes_a_word(code: str, reason: str) -> None:
    assert camel_case(code) == reason
