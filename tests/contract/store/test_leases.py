"""Tests of claims, of leases, and of the progress of attempts."""

from typing import Any

from anb_core.adapters.system import new_id
from anb_core.domain.claim import Reason
from anb_core.domain.model import EventKind
from anb_core.domain.status import Status
from anb_core.ports.store import Claimed, Dropped, Store
from tests.contract.store.conftest import deliver
from tests.support.given import (
    HOUR,
    LEASE,
    POLICY,
    SECOND,
    claim,
    due,
    interrupt,
    processing,
    record_of,
    result,
    sent,
    uploaded,
)
from tests.support.stores import Backend


def test_a_claim_begins_an_attempt_with_a_new_fence_and_a_key_of_its_own(store: Store) -> None:
    video_id = uploaded(store)
    claimed = store.claim(video_id, generation=1, attempt_id=new_id(), worker="worker-1", lease=LEASE, policy=POLICY)
    assert isinstance(claimed, Claimed)
    lease, job = claimed.lease, claimed.record.job
    assert claimed.record == store.get(video_id)
    assert (job.status, job.fence, job.worker, job.attempts) == (Status.PROCESSING, 1, "worker-1", 1)
    assert (job.lease_owner, lease.fence, lease.generation, lease.video_id) == (lease.attempt_id, 1, 1, video_id)
    assert job.lease_expires_at is not None
    assert LEASE - 30 * SECOND < job.lease_expires_at - store.now() <= LEASE
    assert lease.result_key == f"processed/{video_id}/1-{lease.attempt_id}.mp4"
    [attempt] = store.history(video_id).attempts
    assert (attempt.id, attempt.worker, attempt.ended_at) == (lease.attempt_id, "worker-1", None)


def test_claiming_again_under_the_same_id_changes_nothing_and_gives_the_same_lease(backend: Backend) -> None:
    store, video_id = backend.store, uploaded(backend.store)
    message: Any = {"generation": 1, "attempt_id": "a", "worker": "worker-1", "lease": LEASE, "policy": POLICY}
    first = store.claim(video_id, **message)
    last = store.last_event_id()
    backend.pass_time(10 * SECOND)
    record = record_of(store, video_id)
    second = store.claim(video_id, **message)
    assert isinstance(first, Claimed)
    assert second == Claimed(first.lease, record)
    assert (record_of(store, video_id), store.last_event_id()) == (record, last)
    assert len(store.history(video_id).attempts) == 1


def test_a_claim_fulfils_the_promise_to_send(store: Store) -> None:
    processing(store)
    assert due(store) == []


def test_an_older_producers_message_without_generation_claims_too(store: Store) -> None:
    assert isinstance(deliver(store, uploaded(store), generation=None), Claimed)


def test_a_second_message_of_a_leased_job_changes_nothing(store: Store) -> None:
    lease = processing(store)
    before, last = store.get(lease.video_id), store.last_event_id()
    for _ in range(3):
        assert deliver(store, lease.video_id) == Dropped(Reason.LEASED)
    assert (store.get(lease.video_id), store.last_event_id()) == (before, last)
    assert due(store) == []


def test_a_message_of_a_processed_job_changes_nothing(store: Store) -> None:
    lease = processing(store)
    assert store.publish(lease, result(lease))
    before, last = store.get(lease.video_id), store.last_event_id()
    assert deliver(store, lease.video_id) == Dropped(Reason.TERMINAL)
    assert (store.get(lease.video_id), store.last_event_id()) == (before, last)


def test_a_renewed_lease_does_not_expire(backend: Backend) -> None:
    store = backend.store
    lease = processing(store)
    for _ in range(3):
        backend.pass_time(40 * SECOND)
        assert store.renew(lease, duration=LEASE)
        assert store.end_expired_leases(limit=10, policy=POLICY) == 0
    assert deliver(store, lease.video_id) == Dropped(Reason.LEASED)


def test_an_expired_lease_that_nobody_took_can_be_renewed(backend: Backend) -> None:
    lease = processing(backend.store)
    backend.pass_time(HOUR)
    assert backend.store.renew(lease, duration=LEASE)
    assert backend.store.end_expired_leases(limit=10, policy=POLICY) == 0


def test_renewing_is_no_news(store: Store) -> None:
    lease = processing(store)
    version, last = record_of(store, lease.video_id).job.version, store.last_event_id()
    assert store.renew(lease, duration=LEASE)
    assert (record_of(store, lease.video_id).job.version, store.last_event_id()) == (version, last)


def test_progress_never_falls_within_an_attempt(store: Store) -> None:
    lease = processing(store)
    for value, shown in ((0.25, 0.25), (0.1, 0.25), (0.7, 0.7), (7.0, 1.0), (float("nan"), 1.0), (-1.0, 1.0)):
        assert store.report_progress(lease, value)
        assert record_of(store, lease.video_id).job.progress == shown


def test_the_feed_hears_of_progress_once_a_percent(store: Store) -> None:
    lease = processing(store)
    last = store.last_event_id()
    for step in range(1, 101):
        assert store.report_progress(lease, step / 1000)
    events = store.events_after(last)
    assert [event.kind for event in events] == [EventKind.PROGRESS] * 10
    assert [event.progress for event in events] == [step / 100 for step in range(1, 11)]
    versions = [event.version for event in events]
    assert versions == sorted(set(versions))


def test_the_next_attempt_begins_at_no_progress(store: Store) -> None:
    lease = processing(store)
    assert store.report_progress(lease, 0.8)
    assert interrupt(store, lease)
    assert record_of(store, lease.video_id).job.progress == 0.0
    again = claim(store, lease.video_id)
    assert store.report_progress(again, 0.1)
    assert record_of(store, lease.video_id).job.progress == 0.1


def test_where_it_was_enqueued_is_kept_through_attempts(store: Store) -> None:
    video_id = uploaded(store)
    sent(store, video_id, broker="queue-a")
    lease = claim(store, video_id)
    assert interrupt(store, lease)
    assert record_of(store, video_id).job.enqueued_to == "queue-a"
    sent(store, video_id, broker="queue-b")
    job = record_of(store, video_id).job
    assert job.enqueued_to == "queue-b"
    assert job.enqueued_at is not None
