"""Tests that the checker finds lost messages (L3), wrong counters (L4, L5, L7) and changes without an event (L6)."""

from dataclasses import replace
from datetime import timedelta

import pytest

from anb_core.domain.model import DeadLetterCause, Ending
from anb_core.domain.status import Status
from anb_core.testing.promises import Shown
from tests.contract.store.one_run import Run
from tests.contract.store.planted import Changes, Planted, Plants, check_named, name_of
from tests.support.given import DAY, POLICY, interrupt, reject
from tests.support.s3_notifications import notification, record

plant = Plants()


@plant("L3", "no queue has a message for it")
def a_message_deleted_too_early(run: Run) -> None:
    run.upload()
    run.relay.send_due()
    run.take_message()


@plant("L3", "no queue has a message for it")
def a_message_of_an_older_generation_only(run: Run) -> None:
    video_id = run.upload()
    run.relay.send_due()
    run.edits.job(video_id, generation=2)


@plant("L3", "1 videos wait without an outbox entry")
def fewer_messages_than_waiting_jobs(run: Run) -> Changes:
    run.upload()
    run.relay.send_due()
    return {"messages": None, "message_count": 0}


@plant("L3", "it is not recorded as a dead letter, and the body is not JSON")
def an_unreadable_message_that_was_not_recorded(run: Run) -> None:
    run.queue.put("no JSON")
    run.take_message()


@plant("L3", "there is no video unknown")
def a_message_of_an_unknown_video_that_was_not_recorded(run: Run) -> None:
    run.store.record_dead_letter(cause=DeadLetterCause.UNREADABLE, message_id="m1", body="no JSON", detail="no JSON")
    run.queue.put('{"video_id": "unknown"}')
    run.take_message()


@plant("L3", "there is no video")
def an_event_of_the_bucket_that_was_not_recorded(run: Run) -> None:
    run.queue.put(notification(record("camera/one.mp4")))
    run.take_message()


@plant("L4", "it also has an outbox entry")
def an_outbox_entry_of_a_leased_job(run: Run) -> None:
    run.edits.put_in_outbox(run.claim(run.upload()).video_id)


@plant("L4", "it also has an outbox entry")
def an_outbox_entry_of_a_job_that_is_over(run: Run) -> None:
    run.edits.put_in_outbox(run.publish(run.upload()).video_id)


@plant("L4", "was deleted, but it also has an outbox entry")
def an_outbox_entry_of_a_deleted_video(run: Run) -> None:
    video_id = run.upload()
    run.store.delete(video_id, by="ada", grace=DAY)
    run.edits.put_in_outbox(video_id)


@plant("L4", "was deleted, but it also has an outbox entry")
def a_deleted_video_that_still_waits(run: Run) -> None:
    video_id = run.upload()
    run.store.delete(video_id, by="ada", grace=DAY)
    run.edits.job(video_id, status=Status.UPLOADED)
    run.edits.put_in_outbox(video_id)


@plant("L4", "has 2 outbox entries")
def two_outbox_entries(run: Run) -> Changes:
    run.upload()
    return {"outbox": [*run.backend.evidence().outbox] * 2}


@plant("L4", "counts 2 failures, but 1 of its attempts failed")
def a_failure_counted_twice(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id)
    run.edits.job(video_id, failures=2)


@plant("L4", "counts 1 failures, but 0 of its attempts failed")
def a_failure_of_an_older_generation(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id)
    run.edits.job(video_id, generation=2)


@plant("L4", "counts 7 attempts, but has 1")
def attempts_that_nobody_made(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id)
    run.edits.job(video_id, attempts=7)


@plant("L4", "has version 1, after version 1")
def a_version_that_was_told_twice(run: Run) -> None:
    run.edits.last_event(run.upload(), version=1)


@plant("L4", "has version 1, after version 2")
def events_in_another_order_than_the_changes(run: Run) -> Changes:
    run.upload()
    first, second = run.backend.evidence().events
    return {"events": [replace(first, id=second.id), replace(second, id=first.id)]}


@plant("L5", "has 0 rejected attempts")
def bad_input_that_counted_as_a_failure(run: Run) -> None:
    lease = run.claim(run.upload())
    assert reject(run.store, lease)
    run.edits.attempt(lease.video_id, 1, ending=Ending.FAILED)


@plant("L5", "has 2 rejected attempts")
def bad_input_that_was_tried_twice(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id)
    assert reject(run.store, run.claim(video_id))
    run.edits.attempt(video_id, 1, ending=Ending.REJECTED)


@plant("L5", "has 1 rejected attempts")
def bad_input_that_is_tried_again(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id)
    run.edits.attempt(video_id, 1, ending=Ending.REJECTED)


@plant("L5", "without a code for bad input and a sentence")
def bad_input_without_its_code(run: Run) -> None:
    lease = run.claim(run.upload())
    assert reject(run.store, lease)
    run.edits.job(lease.video_id, error_code="out_of_memory", error_message="It did not fit.")


@plant("L5", "without a code for bad input and a sentence: None")
def bad_input_without_a_reason(run: Run) -> None:
    lease = run.claim(run.upload())
    assert reject(run.store, lease)
    run.edits.job(lease.video_id, error_code=None, error_message=None)


@plant("L5", "without a code for bad input and a sentence")
def bad_input_without_a_sentence(run: Run) -> None:
    lease = run.claim(run.upload())
    assert reject(run.store, lease)
    run.edits.job(lease.video_id, error_code="corrupt", error_message="")


@plant("L5", "was rejected, but it is also dead letter")
def bad_input_as_a_dead_letter(run: Run) -> None:
    lease = run.claim(run.upload())
    assert reject(run.store, lease)
    run.edits.add_letter(lease.video_id, DeadLetterCause.FAILURES)


@plant("L6", "and the status processing")
def a_change_that_the_feed_does_not_tell(run: Run) -> None:
    run.edits.last_event(run.publish(run.upload()).video_id, status=Status.PROCESSING)


@plant("L6", "with version 1 has version 2")
def a_change_that_only_the_feed_tells(run: Run) -> None:
    run.edits.job(run.upload(), version=1)


@plant("L6", "The reader operator of the feed is at event 99")
def a_reader_ahead_of_the_feed(run: Run) -> None:
    run.upload()
    run.store.move_cursor("operator", 99)


@plant("L6", "its VideoJob shows uploaded and 0")
def a_videojob_that_stands_still(run: Run) -> Changes:
    video_id = run.upload()
    run.fail(video_id)
    return {"videojobs": {video_id: Shown(Status.UPLOADED, 0)}}


@plant("L6", "its VideoJob shows processing and 1")
def a_videojob_without_the_last_attempt(run: Run) -> Changes:
    video_id = run.upload()
    run.fail(video_id, times=2)
    return {"videojobs": {video_id: Shown(Status.PROCESSING, 1)}}


@plant("L6", "has no VideoJob")
def a_missing_videojob(run: Run) -> Changes:
    run.upload()
    run.backend.pass_time(timedelta(seconds=3))
    return {"videojobs": {}}


@plant("L6", "deleted: True")
def a_videojob_of_a_deleted_video(run: Run) -> Changes:
    video_id = run.upload()
    run.store.delete(video_id, by="ada", grace=DAY)
    run.backend.pass_time(timedelta(seconds=3))
    return {"videojobs": {video_id: Shown(Status.CANCELLED, 0)}}


@plant("L7", "counts 0 interruptions, but 1")
def an_interruption_counted_as_a_failure(run: Run) -> None:
    lease = run.claim(run.upload())
    assert interrupt(run.store, lease)
    run.edits.job(lease.video_id, interruptions=0, failures=1)


@plant("L7", "counts 1 losses, but 0")
def an_interruption_counted_as_a_loss(run: Run) -> None:
    lease = run.claim(run.upload())
    assert interrupt(run.store, lease)
    run.edits.job(lease.video_id, interruptions=0, lost=1)


@plant("L7", "counts 0 losses, but 1")
def a_loss_that_is_not_counted(run: Run) -> None:
    video_id = run.upload()
    run.lose(video_id)
    run.edits.job(video_id, lost=0)


@plant("L7", "counts 0 losses, but 1")
def a_moved_message_that_is_not_counted(run: Run) -> None:
    video_id = run.upload()
    run.relay.send_due()
    assert run.store.receive_dead_letter(message_id="m1", body="{}", video_id=video_id, generation=1, policy=POLICY)
    run.edits.job(video_id, lost=0)


@plant("L7", "and the limits are")
def a_dead_letter_below_its_limits(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id, times=POLICY.max_failures)
    run.edits.job(video_id, failures=1)


@plant("L7", "and the limits are")
def a_job_that_goes_on_at_its_limit(run: Run) -> None:
    video_id = run.upload()
    run.lose(video_id)
    run.edits.job(video_id, lost=POLICY.max_lost)


@plant("L7", "has 0 dead letters of this generation")
def a_dead_letter_that_nobody_sees(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id, times=POLICY.max_failures)
    run.edits.forget("dead_letters", video_id)


@plant("L7", "has 2 dead letters of this generation")
def two_dead_letters_of_one_end(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id, times=POLICY.max_failures)
    run.edits.add_letter(video_id, DeadLetterCause.FAILURES)


@plant("L7", "has 1 dead letters of this generation")
def a_dead_letter_of_a_job_that_goes_on(run: Run) -> None:
    video_id = run.upload()
    run.edits.add_letter(video_id, DeadLetterCause.FAILURES)


@plant("L7", "has the cause worker_lost, but the counters are")
def a_dead_letter_with_another_cause(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id, times=POLICY.max_failures)
    run.edits.letters(video_id, cause=DeadLetterCause.WORKER_LOST)


@plant("L7", "was retried or deleted")
def a_dead_letter_that_stays_open_after_a_retry(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id, times=POLICY.max_failures)
    run.store.retry(video_id, by="ada")
    run.edits.letters(video_id, resolution=None, resolved_at=None)


@plant("L7", "was retried or deleted")
def a_dead_letter_that_stays_open_after_a_deletion(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id, times=POLICY.max_failures)
    run.store.delete(video_id, by="ada", grace=DAY)
    run.edits.letters(video_id, resolution=None, resolved_at=None)


@pytest.mark.parametrize("planted", plant.all, ids=name_of)
def test_a_planted_violation_is_named(planted_run: Run, planted: Planted) -> None:
    check_named(planted_run, planted)
