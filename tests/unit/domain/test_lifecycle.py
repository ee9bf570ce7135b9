from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anb_core.domain import lifecycle
from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Conflict
from anb_core.domain.model import Counters, NewVideo, Problem, Record, Result, Source
from anb_core.domain.retry import RetryPolicy, plan_failure, plan_interruption, plan_loss, plan_rejection
from anb_core.domain.status import Status

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NEW = NewVideo("v", "t", "ada", "Holidays", EditSpec(), "uploads/v.mp4", owned=True, file_name="h.mp4")
POLICY = RetryPolicy()
PROBLEM = Problem("verification_failed", "The renderer stopped.")


def uploaded() -> Record:
    return lifecycle.new_record(NEW, NOW, Source(1))


def claimed(record: Record) -> Record:
    attempt = lifecycle.next_attempt(record.job, NOW, attempt_id="a", worker="w")
    return lifecycle.claim(record, NOW, attempt=attempt, lease=timedelta(minutes=1), loss=None).record


@pytest.mark.parametrize("jitter", [0.0, 0.9])
def test_work_that_remains_is_owed_a_message_exactly_when_it_is_due(jitter: float) -> None:
    record = claimed(uploaded())
    for settlement in (
        plan_failure(Counters(), PROBLEM, POLICY, jitter),
        plan_interruption(Counters()),
        plan_loss(Counters(), POLICY),
        plan_loss(Counters(lost=2), POLICY),
    ):
        effect = lifecycle.settle(record, settlement, NOW)
        assert effect.send_after == effect.record.job.not_before
        assert effect.send_after is not None
        assert effect.record.job.lease_owner is None


def test_a_job_that_is_over_is_owed_nothing() -> None:
    record = claimed(uploaded())
    result = Result("processed/v/1-a.mp4", 1, "00", 1280, 720, 1.0, 30)
    for effect in (
        lifecycle.settle(record, plan_rejection(Counters(), PROBLEM), NOW),
        lifecycle.settle(record, plan_failure(Counters(failures=2), PROBLEM, POLICY, 0.5), NOW),
        lifecycle.settle(record, plan_loss(Counters(lost=4), POLICY), NOW),
        lifecycle.publish(record, result, NOW, attempt_keys=[result.key]),
        lifecycle.cancel(record, NOW),
        lifecycle.delete(record, NOW, by="ada", grace=DAY, attempt_keys=[]),
    ):
        job = effect.record.job
        assert job.status.terminal
        assert effect.send_after is None
        assert (job.lease_owner, job.lease_expires_at, job.not_before) == (None, None, None)


def test_a_result_that_is_current_is_never_scheduled_for_deletion() -> None:
    record = claimed(uploaded())
    result = Result("processed/v/1-a.mp4", 1, "00", 1280, 720, 1.0, 30)
    effect = lifecycle.publish(record, result, NOW, attempt_keys=["other", result.key])
    assert [(one.key, one.due - NOW) for one in effect.deletions] == [("other", timedelta(0)), ("other", DAY)]


def test_a_source_that_a_retry_may_need_is_never_scheduled_for_deletion() -> None:
    record = claimed(uploaded())
    for effect in (
        lifecycle.cancel(record, NOW),
        lifecycle.cancel(uploaded(), NOW),
        lifecycle.settle(record, plan_rejection(Counters(), PROBLEM), NOW),
    ):
        assert record.video.source_key not in {one.key for one in effect.deletions}
        assert lifecycle.retry(effect.record, NOW, by="ada").record.job.status is Status.UPLOADED


def test_nothing_that_is_not_ours_is_ever_scheduled_for_deletion() -> None:
    theirs = replace(uploaded(), video=replace(uploaded().video, owned=False))
    unfinished = lifecycle.new_record(replace(NEW, owned=False), NOW)
    assert lifecycle.delete(theirs, NOW, by="ada", grace=DAY, attempt_keys=[]).deletions == ()
    assert lifecycle.cancel(unfinished, NOW).deletions == ()
    assert lifecycle.abandoned(unfinished.video, NOW) == ()


def test_an_upload_that_was_never_whole_cannot_be_retried() -> None:
    cancelled = lifecycle.cancel(lifecycle.new_record(NEW, NOW), NOW).record
    with pytest.raises(Conflict) as refused:
        lifecycle.retry(cancelled, NOW, by="ada")
    assert refused.value.code == "source_missing"


@given(st.lists(st.floats(), max_size=20))
def test_progress_only_grows_and_stays_between_none_and_all(reports: list[float]) -> None:
    job = claimed(uploaded()).job
    new_percents = 0
    for value in reports:
        step = lifecycle.progressed(job, value, NOW)
        if step is None:
            assert not min(value, 1.0) > job.progress
            continue
        after, new_percent = step
        assert job.progress < after.progress <= 1.0
        assert after.version == job.version + 1
        new_percents += new_percent
        job = after
    assert new_percents <= 100
