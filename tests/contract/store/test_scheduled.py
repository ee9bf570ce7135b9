"""Tests of jobs that must not begin before a time: `process_after` of an upload or a submission."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from anb_core.domain.claim import Reason
from anb_core.domain.errors import NotFound
from anb_core.domain.model import Record
from anb_core.domain.status import Status
from anb_core.ports.store import Claimed, Dropped, Store
from anb_core.testing.promises import check_promises
from tests.contract.store.conftest import deliver
from tests.support.given import DAY, HOUR, MINUTE, POLICY, SECOND, SOURCE, due, new_video, record_of, sent, uploading
from tests.support.stores import Backend


def ahead(store: Store, by: timedelta) -> datetime:
    """Return the store's time plus `by`, rounded down to milliseconds."""
    now = store.now()
    return now.replace(microsecond=now.microsecond // 1000 * 1000) + by


def scheduled(store: Store, by: timedelta = HOUR) -> Record:
    """Create an uploaded video whose work must not begin before `by` has passed."""
    return store.complete_upload(uploading(store).video.id, SOURCE, process_after=ahead(store, by))


@pytest.mark.parametrize("way", ["upload", "submission"])
def test_the_message_of_a_scheduled_video_is_sent_at_its_time_and_not_before(backend: Backend, way: str) -> None:
    store, at = backend.store, ahead(backend.store, HOUR)
    if way == "upload":
        record = store.complete_upload(uploading(store).video.id, SOURCE, process_after=at)
    else:
        record, _ = store.submit_existing(replace(new_video(owned=False), process_after=at), SOURCE)
    video_id = record.video.id

    assert record == record_of(store, video_id)
    assert (record.job.status, record.job.not_before, record.video.process_after) == (Status.UPLOADED, at, at)
    backend.pass_time(HOUR - MINUTE)
    assert due(store) == []
    backend.pass_time(MINUTE)
    assert due(store) == [video_id]
    sent(store, video_id)
    assert isinstance(deliver(store, video_id), Claimed)
    claimed = record_of(store, video_id)
    assert claimed.job.not_before is None
    assert claimed.video.process_after is not None


@pytest.mark.parametrize("way", ["upload", "submission"])
def test_a_time_that_has_passed_means_now(store: Store, way: str) -> None:
    at = ahead(store, -DAY)
    if way == "upload":
        record = store.complete_upload(uploading(store).video.id, SOURCE, process_after=at)
    else:
        record, _ = store.submit_existing(replace(new_video(owned=False), process_after=at), SOURCE)

    assert (record.job.not_before, record.video.process_after) == (None, None)
    assert due(store) == [record.video.id]


def test_the_time_at_the_end_of_an_upload_replaces_the_time_at_its_beginning(backend: Backend) -> None:
    store = backend.store
    begun = [replace(new_video(), process_after=ahead(store, HOUR)) for _ in range(2)]
    for new in begun:
        store.begin_upload(new, lifetime=DAY)

    kept = store.complete_upload(begun[0].id, SOURCE)
    replaced = store.complete_upload(begun[1].id, SOURCE, process_after=ahead(store, DAY))

    assert kept.video.process_after == begun[0].process_after
    assert replaced.job.not_before == replaced.video.process_after
    backend.pass_time(HOUR + MINUTE)
    assert due(store) == [begun[0].id]


def test_a_message_that_arrives_too_early_begins_no_attempt_and_the_right_one_is_sent_in_time(backend: Backend) -> None:
    store = backend.store
    video_id = scheduled(store).video.id

    assert deliver(store, video_id) == Dropped(Reason.NOT_DUE)
    assert due(store) == []
    backend.pass_time(HOUR + SECOND)
    assert due(store) == [video_id]


def test_the_sweep_does_not_send_a_scheduled_job_before_its_time(backend: Backend) -> None:
    store = backend.store
    scheduled(store)
    backend.pass_time(HOUR - MINUTE)

    assert store.requeue_unclaimed(enqueued_before=timedelta(0), limit=10) == 0
    assert store.requeue_unclaimed(not_on=("queue",), limit=10) == 0
    assert store.requeue_overdue(slack=timedelta(0), limit=10) == 0


def test_a_scheduled_video_can_be_cancelled_and_a_retry_does_not_wait(backend: Backend) -> None:
    store = backend.store
    video_id = scheduled(store).video.id

    cancelled = store.cancel(video_id)
    assert (cancelled.job.status, cancelled.job.not_before) == (Status.CANCELLED, None)
    backend.pass_time(2 * HOUR)
    assert due(store) == []

    later = scheduled(store).video.id
    store.cancel(later)
    assert store.retry(later, by="ada").job.not_before is None
    assert due(store) == [later]


def test_a_scheduled_video_can_be_deleted(backend: Backend) -> None:
    store = backend.store
    video_id = scheduled(store).video.id

    store.delete(video_id, by="ada", grace=DAY)
    backend.pass_time(2 * HOUR)

    assert due(store) == []
    with pytest.raises(NotFound):
        store.cancel(video_id)


def test_a_scheduled_upload_owes_its_end_only_from_its_time_on(backend: Backend) -> None:
    video_id = scheduled(backend.store).video.id

    check_promises(backend.evidence(receipts=[video_id]), POLICY, at_rest=True)
    backend.pass_time(2 * HOUR)
    with pytest.raises(AssertionError, match="has not reached its end"):
        check_promises(backend.evidence(receipts=[video_id]), POLICY, at_rest=True)
