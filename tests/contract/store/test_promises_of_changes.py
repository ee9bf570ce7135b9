"""Tests that the checker finds outcomes that were undone (L4), by comparing two moments of a run."""

from dataclasses import replace

import pytest

from anb_core.domain.status import Status
from tests.contract.store.one_run import Run
from tests.contract.store.planted import Changes, Planted, Plants, check_named, name_of
from tests.support.given import DAY, interrupt, result

plant = Plants()


def _after_a_failure(run: Run, **columns: int) -> Changes:
    """Let one attempt fail, and then change columns of the job."""
    video_id = run.upload()
    run.fail(video_id)
    earlier = run.evidence()
    run.edits.job(video_id, **columns)
    return {"earlier": earlier}


@plant("L4", "The generation of")
def a_generation_that_fell(run: Run) -> Changes:
    return _after_a_failure(run, generation=0)


@plant("L4", "The fence of")
def a_fence_that_fell(run: Run) -> Changes:
    return _after_a_failure(run, fence=0)


@plant("L4", "The version of")
def a_version_that_fell(run: Run) -> Changes:
    return _after_a_failure(run, version=1)


@plant("L4", "The attempts of")
def a_number_of_attempts_that_fell(run: Run) -> Changes:
    return _after_a_failure(run, attempts=0)


@plant("L4", "had the counters")
def a_failure_that_was_forgotten(run: Run) -> Changes:
    return _after_a_failure(run, failures=0)


@plant("L4", "had the counters")
def a_loss_that_was_forgotten(run: Run) -> Changes:
    video_id = run.upload()
    run.lose(video_id)
    earlier = run.evidence()
    run.edits.job(video_id, lost=0)
    return {"earlier": earlier}


@plant("L4", "had the counters")
def an_interruption_that_was_forgotten(run: Run) -> Changes:
    video_id = run.upload()
    assert interrupt(run.store, run.claim(video_id))
    earlier = run.evidence()
    run.edits.job(video_id, interruptions=0)
    return {"earlier": earlier}


@plant("L4", "was processed with the result")
def a_result_that_was_withdrawn(run: Run) -> Changes:
    video_id = run.publish(run.upload()).video_id
    earlier = run.evidence()
    run.edits.job(video_id, status=Status.CANCELLED, result=None)
    return {"earlier": earlier}


@plant("L4", "was processed with the result")
def a_result_that_was_replaced(run: Run) -> Changes:
    lease = run.publish(run.upload())
    earlier = run.evidence()
    run.edits.job(lease.video_id, result=replace(result(lease), frames=1))
    return {"earlier": earlier}


@plant("L4", "was cancelled with the result None")
def a_job_that_went_on_after_its_end(run: Run) -> Changes:
    video_id = run.upload()
    run.store.cancel(video_id)
    earlier = run.evidence()
    run.edits.job(video_id, status=Status.UPLOADED)
    return {"earlier": earlier}


@plant("L4", "is not deleted any more")
def a_deleted_video_that_came_back(run: Run) -> Changes:
    run.store.delete(run.upload(), by="ada", grace=DAY)
    return {"earlier": run.evidence(), "deleted": ()}


@plant("L4", "was added before event")
def an_event_that_readers_have_passed(run: Run) -> Changes:
    run.upload()
    now = run.evidence()
    return {"earlier": replace(now, events=now.events[1:])}


@pytest.mark.parametrize("planted", plant.all, ids=name_of)
def test_an_outcome_that_was_undone_is_named(planted_run: Run, planted: Planted) -> None:
    check_named(planted_run, planted)
