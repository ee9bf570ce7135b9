from collections.abc import Callable
from functools import partial

import pytest

from anb_core.adapters.system import new_id
from anb_core.domain.claim import Reason
from anb_core.domain.errors import Conflict, NotFound
from anb_core.domain.model import Counters, Ending, EventKind
from anb_core.domain.retry import plan_interruption
from anb_core.domain.status import Status
from anb_core.ports.store import Dropped, Store
from tests.support.given import (
    DAY,
    LEASE,
    MINUTE,
    POLICY,
    SECOND,
    SOURCE,
    claim,
    due,
    fail,
    failed,
    interrupt,
    processed,
    processing,
    record_of,
    reject,
    result,
    sent,
    uploaded,
    uploading,
)
from tests.support.stores import Backend, DueDeletion

TODAY_AND_TOMORROW = (0, 24 * 60)


def dead_lettered(store: Store, backend: Backend) -> str:
    video_id = uploaded(store)
    for _ in range(POLICY.max_failures):
        backend.pass_time(10 * MINUTE)
        assert fail(store, claim(store, video_id))
    return video_id


def test_a_waiting_job_that_is_cancelled_has_no_message_and_cannot_be_claimed(store: Store) -> None:
    video_id = uploaded(store)
    record = store.cancel(video_id)
    assert record == store.get(video_id)
    assert record.job.status is Status.CANCELLED
    assert due(store) == []
    assert store.claim(video_id, generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY) == Dropped(
        Reason.TERMINAL
    )


def test_cancelling_takes_the_lease_from_the_attempt(store: Store) -> None:
    lease = processing(store)
    job = store.cancel(lease.video_id).job
    assert (job.lease_owner, job.lease_expires_at, job.worker) == (None, None, None)
    assert job.fence > lease.fence
    assert not store.renew(lease, duration=LEASE)
    assert not store.report_progress(lease, 0.5)
    assert not store.publish(lease, result(lease))
    assert not store.settle(lease, plan_interruption(lease.counters))
    [attempt] = store.history(lease.video_id).attempts
    assert attempt.ending is Ending.SUPERSEDED
    assert record_of(store, lease.video_id).job == job


def test_what_a_cancelled_attempt_wrote_or_still_writes_is_deleted(backend: Backend) -> None:
    lease = processing(backend.store)
    backend.store.cancel(lease.video_id)
    assert backend.deletions() == [(lease.result_key, "losing_attempt", minutes) for minutes in TODAY_AND_TOMORROW]


def test_cancelling_between_attempts_leaves_nothing_to_send(backend: Backend) -> None:
    store = backend.store
    lease = processing(store)
    assert fail(store, lease)
    store.cancel(lease.video_id)
    backend.pass_time(DAY)
    assert due(store) == []
    assert store.requeue_unclaimed(enqueued_before=SECOND, not_on=["another"], limit=10) == 0


def test_a_cancelled_unfinished_upload_loses_its_object_and_cannot_be_retried(backend: Backend) -> None:
    store = backend.store
    begun = uploading(store)
    assert store.cancel(begun.video.id).job.status is Status.CANCELLED
    key = begun.video.source_key
    assert backend.deletions() == [(key, "abandoned_upload", minutes) for minutes in TODAY_AND_TOMORROW]
    with pytest.raises(Conflict) as refused:
        store.retry(begun.video.id, by="ada")
    assert refused.value.code == "source_missing"
    backend.pass_time(DAY)
    assert store.end_expired_uploads(limit=10) == 0


def test_cancelling_a_finished_upload_keeps_its_object_for_a_retry(backend: Backend) -> None:
    video_id = uploaded(backend.store)
    backend.store.cancel(video_id)
    assert backend.deletions() == []
    assert backend.store.retry(video_id, by="ada").job.status is Status.UPLOADED


def test_a_terminal_job_cannot_be_cancelled(backend: Backend) -> None:
    store = backend.store
    cancelled = uploaded(store)
    store.cancel(cancelled)
    for video_id in (processed(store), failed(store), dead_lettered(store, backend), cancelled):
        before = store.get(video_id)
        with pytest.raises(Conflict) as refused:
            store.cancel(video_id)
        assert refused.value.code == "wrong_status"
        assert store.get(video_id) == before


def test_a_retry_is_a_new_generation_with_everything_at_its_beginning(backend: Backend) -> None:
    store = backend.store
    video_id = dead_lettered(store, backend)
    before = record_of(store, video_id).job
    assert before.error is not None
    record = store.retry(video_id, by="ada")
    assert record == store.get(video_id)
    job = record.job
    assert (job.status, job.generation, job.counters) == (Status.UPLOADED, before.generation + 1, Counters())
    assert (job.error, job.progress, job.not_before) == (None, 0.0, None)
    assert due(store) == [video_id]
    assert [entry.generation for entry in store.hold_outbox(limit=1, hold=MINUTE)] == [2]


def test_failures_before_a_retry_do_not_count_after_it(backend: Backend) -> None:
    store = backend.store
    video_id = dead_lettered(store, backend)
    store.retry(video_id, by="ada")
    assert fail(store, claim(store, video_id))
    job = record_of(store, video_id).job
    assert (job.status, job.counters.failures) == (Status.PROCESSING, 1)


def test_a_message_from_before_the_retry_wakes_nothing(store: Store) -> None:
    video_id = failed(store)
    store.retry(video_id, by="ada")
    old = store.claim(video_id, generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY)
    assert old == Dropped(Reason.OLDER_GENERATION)
    assert claim(store, video_id).generation == 2


def test_a_retried_video_is_processed_and_its_source_is_never_scheduled_for_deletion(backend: Backend) -> None:
    store = backend.store
    video_id = failed(store)
    record = store.retry(video_id, by="ada")
    lease = claim(store, video_id)
    assert store.publish(lease, result(lease))
    scheduled = {one.key for one in backend.deletions()}
    assert record.video.source_key not in scheduled
    assert lease.result_key not in scheduled
    assert len(scheduled) == 1


def test_only_what_ended_without_a_result_can_be_retried(store: Store) -> None:
    for video_id in (processed(store), uploaded(store), processing(store).video_id, uploading(store).video.id):
        before = store.get(video_id)
        with pytest.raises(Conflict) as refused:
            store.retry(video_id, by="ada")
        assert refused.value.code == "wrong_status"
        assert store.get(video_id) == before


def test_a_receipt_is_written_with_the_command_and_stays_whatever_is_done_afterwards(store: Store) -> None:
    first, second, third = ({"generation": number, "retry": "a", "cancel": None} for number in (1, 2, 3))
    video_id = uploaded(store)
    assert store.cancel(video_id, receipts={"one": first}).job.receipts == {"one": first}
    store.retry(video_id, by="ada", receipts={"two": second})
    assert reject(store, claim(store, video_id))
    store.retry(video_id, by="ada")
    store.cancel(video_id)
    assert record_of(store, video_id).job.receipts == {"one": first, "two": second}
    store.retry(video_id, by="ada", receipts={"one": third})
    assert store.histories([video_id])[video_id].record == record_of(store, video_id)
    assert record_of(store, video_id).job.receipts == {"one": third, "two": second}


def test_a_command_that_is_refused_leaves_no_receipt(store: Store) -> None:
    waiting, over = uploaded(store), processed(store)
    retry = partial(store.retry, by="ada")
    for command, video_id in ((retry, waiting), (retry, over), (store.cancel, over)):
        with pytest.raises(Conflict):
            command(video_id, receipts={"one": {"generation": 1}})
        assert record_of(store, video_id).job.receipts == {}


@pytest.mark.parametrize(
    "command",
    [
        lambda store, video_id: store.cancel(video_id),
        lambda store, video_id: store.retry(video_id, by="ada"),
        lambda store, video_id: store.delete(video_id, by="ada", grace=DAY),
    ],
    ids=["cancel", "retry", "delete"],
)
def test_what_is_unknown_or_deleted_is_not_found(store: Store, command: Callable[[Store, str], object]) -> None:
    deleted = uploaded(store)
    store.delete(deleted, by="ada", grace=DAY)
    for video_id in (deleted, "unknown"):
        with pytest.raises(NotFound) as refused:
            command(store, video_id)
        assert refused.value.code == "video_not_found"


def test_deleting_a_video_under_way_cancels_it(store: Store) -> None:
    lease = processing(store)
    store.delete(lease.video_id, by="ada", grace=DAY)
    assert not store.renew(lease, duration=LEASE)
    assert not store.publish(lease, result(lease))
    message = store.claim(lease.video_id, generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY)
    assert message == Dropped(Reason.DELETED)
    event = store.events_after(0)[-1]
    assert (event.kind, event.status) == (EventKind.DELETED, Status.CANCELLED)


def test_the_objects_of_a_deleted_video_are_due_after_the_grace(backend: Backend) -> None:
    store = backend.store
    interrupted = processing(store)
    assert interrupt(store, interrupted)
    lease = claim(store, interrupted.video_id)
    assert store.publish(lease, result(lease))
    source = record_of(store, lease.video_id).video.source_key
    store.delete(lease.video_id, by="ada", grace=2 * DAY)
    tombstones = {one for one in backend.deletions() if one.reason == "tombstone"}
    two_days = 2 * 24 * 60
    assert tombstones == {
        DueDeletion(source, "tombstone", two_days),
        DueDeletion(lease.result_key, "tombstone", two_days),
        DueDeletion(interrupted.result_key, "tombstone", two_days),
    }


def test_nothing_of_a_video_is_due_for_deletion_while_it_is_current(backend: Backend) -> None:
    store = backend.store
    video_id = processed(store)
    record = record_of(store, video_id)
    backend.pass_time(30 * DAY)
    assert record.job.result is not None
    keys = {deletion.key for deletion in store.hold_deletions(limit=100, hold=MINUTE)}
    assert keys.isdisjoint({record.video.source_key, record.job.result.key})


def test_deleting_leaves_nothing_to_send(store: Store) -> None:
    video_id = uploaded(store)
    store.delete(video_id, by="ada", grace=DAY)
    assert due(store) == []


def test_every_command_makes_the_version_grow(store: Store) -> None:
    video_id = uploaded(store)
    versions = [record_of(store, video_id).job.version]
    versions.append(store.cancel(video_id).job.version)
    versions.append(store.retry(video_id, by="ada").job.version)
    store.delete(video_id, by="ada", grace=DAY)
    versions.append(store.events_after(0)[-1].version)
    assert versions == sorted(set(versions))


def test_completing_what_a_retry_follows_is_still_known(store: Store) -> None:
    video_id = uploaded(store)
    sent(store, video_id)
    store.cancel(video_id)
    store.retry(video_id, by="ada")
    assert store.complete_upload(video_id, SOURCE).job.generation == 2
