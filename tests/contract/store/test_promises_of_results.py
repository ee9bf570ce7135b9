"""Tests that the checker finds uploads that never end (L1), wrong results and wrong objects (L2)."""

from dataclasses import replace

import pytest

from anb_core.domain.model import Ending, Source
from anb_core.testing.promises import check_promises
from tests.contract.store.one_run import Run
from tests.contract.store.planted import Changes, Planted, Plants, check_named, name_of
from tests.support.given import DAY, HOUR, POLICY, interrupt, new_video, record_of, result, uploading
from tests.support.stores import Backend

plant = Plants()


@plant("L1", "nobody deleted it and it has no row")
def a_row_that_vanished(run: Run) -> None:
    run.edits.forget("videos", run.upload())


@plant("L1", "nobody deleted it and it has no row")
def an_abandoned_upload_with_a_receipt(run: Run) -> None:
    video_id = uploading(run.store).video.id
    run.store.abandon_upload(video_id)
    run.receipts.add(video_id)


@plant("L1", "its upload is not complete")
def a_receipt_for_half_an_upload(run: Run) -> None:
    run.receipts.add(uploading(run.store).video.id)


@plant("L1", "has not reached its end", at_rest=True)
def a_job_without_an_end(run: Run) -> None:
    run.upload()


@plant("L1", "Nothing wakes a worker")
def a_job_that_nobody_sends(run: Run) -> None:
    run.edits.forget("outbox", run.upload())


@plant("L1", "Nothing wakes a worker")
def a_failed_try_that_nobody_sends(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id)
    run.edits.forget("outbox", video_id)


@plant("L2", "the attempts that published are")
def two_results(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id)
    run.publish(video_id)
    run.edits.attempt(video_id, 1, ending=Ending.PROCESSED)


@plant("L2", "the attempts that published are")
def the_result_of_another_attempt(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id)
    lease = run.publish(video_id)
    key = lease.result_key.replace("/2-", "/1-")
    run.objects.put(key, bytes(result(lease).size))
    run.edits.job(video_id, result=replace(result(lease), key=key))


@plant("L2", "and the job's fence is 9")
def a_result_with_an_old_fence(run: Run) -> None:
    video_id = run.upload()
    run.publish(video_id)
    run.edits.job(video_id, fence=9)


@plant("L2", "published a result of")
def a_published_result_that_nobody_gets(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id)
    run.edits.attempt(video_id, 1, ending=Ending.PROCESSED)


@plant("L2", "have the fences [1], and the job has 0")
def a_fence_that_fell(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id)
    run.edits.job(video_id, fence=0)


@plant("L2", "have the fences [1, 1], and the job has 1")
def two_attempts_with_one_fence(run: Run) -> Changes:
    run.fail(run.upload())
    return {"attempts": [*run.backend.evidence().attempts] * 2}


@plant("L2", "the generations [2, 1]")
def attempts_in_the_wrong_order(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id, times=2)
    run.edits.job(video_id, generation=2)
    run.edits.attempt(video_id, 1, generation=2)


@plant("L2", "the generations [2]")
def an_attempt_of_the_future(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id)
    run.edits.attempt(video_id, 1, generation=2)


@plant("L2", "the attempts that run are []")
def a_lease_without_an_attempt(run: Run) -> None:
    lease = run.claim(run.upload())
    run.edits.attempt(lease.video_id, 1, ending=Ending.LOST, ended_at=run.store.now())


@plant("L2", "belongs to attempt None")
def an_attempt_without_a_lease(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id)
    run.edits.attempt(video_id, 1, ending=None, ended_at=None)


@plant("L2", "which is scheduled for deletion")
def the_deletion_of_a_result(run: Run) -> None:
    lease = run.publish(run.upload())
    run.edits.schedule(lease.video_id, lease.result_key, after=DAY)


@plant("L2", "which is scheduled for deletion")
def the_deletion_of_a_result_in_the_making(run: Run) -> None:
    lease = run.claim(run.upload())
    run.edits.schedule(lease.video_id, lease.result_key, after=DAY)


@plant("L2", "which is scheduled for deletion")
def the_deletion_of_a_source(run: Run) -> None:
    video_id = run.upload()
    run.edits.schedule(video_id, record_of(run.store, video_id).video.source_key)


@plant("L2", "which is scheduled for deletion")
def the_deletion_of_an_upload_under_way(run: Run) -> None:
    video = uploading(run.store).video
    run.edits.schedule(video.id, video.source_key)


@plant("L2", "is not ours, but it is scheduled for deletion")
def the_deletion_of_an_object_of_others(run: Run) -> None:
    new = new_video(owned=False)
    run.store.submit_existing(new, Source(5))
    run.store.delete(new.id, by="ada", grace=DAY)
    run.edits.schedule(new.id, new.source_key)


@plant("L2", "but the bucket has no object")
def a_lost_result(run: Run) -> None:
    run.objects.delete([run.publish(run.upload()).result_key])


@plant("L2", "with 9876 bytes, but the bucket has 4")
def half_a_result(run: Run) -> None:
    run.objects.put(run.publish(run.upload()).result_key, b"half")


@plant("L2", "with 1234 bytes, but the bucket has no object")
def a_lost_source(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id)
    run.objects.delete([record_of(run.store, video_id).video.source_key])


@plant("L2", "does not need processed/")
def a_losing_object_that_stays(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id)
    run.edits.forget("object_deletions", video_id)


@plant("L2", "does not need uploads/")
def a_deleted_source_that_stays(run: Run) -> None:
    video_id = run.upload()
    run.store.delete(video_id, by="ada", grace=DAY)
    run.edits.forget("object_deletions", video_id)


@plant("L2", "does not need processed/")
def a_deleted_result_that_stays(run: Run) -> None:
    lease = run.publish(run.upload())
    run.store.delete(lease.video_id, by="ada", grace=DAY)
    run.edits.forget("object_deletions", lease.video_id)


@plant("L2", "and the next deletion is due at")
def a_losing_object_that_stays_for_two_days(run: Run) -> None:
    video_id = run.upload()
    lease = run.claim(video_id)
    assert interrupt(run.store, lease)
    run.edits.forget("object_deletions", video_id)
    run.edits.schedule(video_id, lease.result_key, after=2 * DAY)


@plant("L2", "and the next deletion is due at", at_rest=True)
def a_losing_object_that_no_sweep_deletes(run: Run) -> None:
    run.fail(run.upload(), times=POLICY.max_failures)
    run.backend.pass_time(25 * HOUR)


@plant("L2", "belongs to no attempt")
def a_result_of_no_attempt(run: Run) -> None:
    run.objects.put(f"processed/{run.publish(run.upload()).video_id}/1-unknown.mp4", b"result")


@plant("L2", "belongs to no attempt")
def a_result_of_a_video_that_is_gone(run: Run) -> None:
    lease = run.publish(run.upload())
    run.store.delete(lease.video_id, by="ada", grace=DAY)
    run.backend.pass_time(DAY)
    run.sweep()
    run.objects.put(lease.result_key, b"result")


@plant("L2", "belongs to no attempt", at_rest=True)
def a_result_of_an_unknown_video(run: Run) -> None:
    run.objects.put("processed/unknown/1-unknown.mp4", b"result")


@plant("L2", "belongs to no attempt")
def a_result_with_a_key_of_no_program_of_ours(run: Run) -> None:
    run.objects.put("processed/unknown.mp4", b"result")


def test_the_error_has_a_line_for_each_broken_promise(memory: Backend) -> None:
    run = Run(memory)
    run.edits.forget("videos", run.upload())
    run.objects.delete([run.publish(run.upload()).result_key])
    with pytest.raises(AssertionError) as caught:
        check_promises(run.evidence(), POLICY)
    head, *lines = str(caught.value).splitlines()
    assert (head, [line[:4] for line in lines]) == ("promises are broken:", ["L1: ", "L2: "])


@pytest.mark.parametrize("planted", plant.all, ids=name_of)
def test_a_planted_violation_is_named(planted_run: Run, planted: Planted) -> None:
    check_named(planted_run, planted)
