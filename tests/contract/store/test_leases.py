from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from anb_core.adapters.system import new_id
from anb_core.domain.claim import Reason
from anb_core.domain.model import Counters, DeadLetterCause, Ending, EventKind, Lease, Problem, Result
from anb_core.domain.retry import WORKER_LOST, RetryPolicy, plan_failure, plan_outage
from anb_core.domain.status import Status
from anb_core.ports.store import Claimed, Dropped, Store
from tests.support.given import (
    DAY,
    HOUR,
    LEASE,
    MINUTE,
    POLICY,
    PROBLEM,
    SECOND,
    claim,
    due,
    fail,
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
from tests.support.stores import Backend

TODAY_AND_TOMORROW = (0, 24 * 60)


def deliver(store: Store, video_id: str, *, generation: int | None = 1) -> object:
    """Claim the video, as worker-2 does when it receives the video's message. Returns the outcome of the claim."""
    return store.claim(
        video_id, generation=generation, attempt_id=new_id(), worker="worker-2", lease=LEASE, policy=POLICY
    )


def test_what_only_the_log_may_say_of_an_attempt_is_kept_beside_it(store: Store) -> None:
    lease = processing(store)
    problem = Problem("bucket_unavailable", "The bucket did not answer.", "http://secret.host:9000 refuses")
    assert store.settle(lease, plan_outage(lease.counters, problem, POLICY, jitter=0.5))
    [attempt] = store.history(lease.video_id)[1]
    assert attempt.error == problem
    assert attempt.error.detail == problem.detail


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
    [attempt] = store.history(video_id)[1]
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
    assert len(store.history(video_id)[1]) == 1


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


def test_a_published_result_is_current_and_ends_everything(store: Store) -> None:
    lease = processing(store)
    assert store.publish(lease, result(lease))
    job = record_of(store, lease.video_id).job
    assert (job.status, job.result, job.progress, job.error) == (Status.PROCESSED, result(lease), 1.0, None)
    assert (job.lease_owner, job.lease_expires_at, job.worker) == (None, None, None)
    [attempt] = store.history(lease.video_id)[1]
    assert attempt.ending is Ending.PROCESSED
    assert attempt.ended_at is not None
    assert due(store) == []


def test_publishing_again_tells_that_it_was_done(store: Store) -> None:
    lease = processing(store)
    assert store.publish(lease, result(lease))
    before, last = store.get(lease.video_id), store.last_event_id()
    assert store.publish(lease, result(lease))
    assert (store.get(lease.video_id), store.last_event_id()) == (before, last)


def test_publishing_schedules_the_deletion_of_what_every_other_attempt_wrote(backend: Backend) -> None:
    store = backend.store
    first = processing(store)
    assert interrupt(store, first)
    second = claim(store, first.video_id, lease=timedelta(0))
    third = claim(store, first.video_id)
    backend.pass_time(30 * DAY)
    held = store.hold_deletions(limit=100, hold=MINUTE)
    store.deletion_done(held)
    assert backend.deletions() == []
    assert store.publish(third, result(third))
    assert {(one.key, one.minutes) for one in backend.deletions()} == {
        (lease.result_key, minutes) for lease in (first, second) for minutes in TODAY_AND_TOMORROW
    }


def test_bad_input_fails_once_with_its_reason_and_is_no_dead_letter(backend: Backend) -> None:
    store = backend.store
    lease = processing(store)
    assert reject(store, lease)
    job = record_of(store, lease.video_id).job
    assert (job.status, job.error, job.counters) == (Status.FAILED, PROBLEM, Counters())
    assert due(store) == []
    assert backend.dead_letters() == []
    assert deliver(store, lease.video_id) == Dropped(Reason.TERMINAL)
    event = store.events_after(0)[-1]
    assert (event.kind, event.status, event.error) == (EventKind.STATUS, Status.FAILED, PROBLEM)


def test_a_failure_makes_the_job_wait_for_its_backoff(backend: Backend) -> None:
    store = backend.store
    lease = processing(store)
    assert fail(store, lease)
    job = record_of(store, lease.video_id).job
    assert (job.status, job.counters, job.lease_owner, job.error) == (
        Status.PROCESSING,
        Counters(failures=1),
        None,
        None,
    )
    assert due(store) == []
    assert deliver(store, lease.video_id) == Dropped(Reason.NOT_DUE)
    backend.pass_time(6 * SECOND)
    assert due(store) == [lease.video_id]
    assert isinstance(deliver(store, lease.video_id), Claimed)
    assert record_of(store, lease.video_id).job.counters == Counters(failures=1)


def test_a_job_that_was_due_until_the_clock_was_put_back_is_sent_again_when_it_is_due(backend: Backend) -> None:
    store = backend.store
    lease = processing(store)
    assert fail(store, lease)
    backend.pass_time(6 * SECOND)
    before = sent(store, lease.video_id)
    backend.pass_time(-4 * SECOND)
    assert deliver(store, lease.video_id) == Dropped(Reason.NOT_DUE)
    assert due(store) == []
    backend.pass_time(4 * SECOND)
    assert sent(store, lease.video_id).id > before.id
    assert isinstance(deliver(store, lease.video_id), Claimed)


def test_a_relay_that_had_not_noted_yet_what_it_sent_leaves_the_message_that_is_owed_since(backend: Backend) -> None:
    store = backend.store
    lease = processing(store)
    assert fail(store, lease)
    backend.pass_time(6 * SECOND)
    [early] = store.hold_outbox(limit=10, hold=MINUTE)
    backend.pass_time(-4 * SECOND)
    assert deliver(store, lease.video_id) == Dropped(Reason.NOT_DUE)
    store.mark_sent(early, broker="queue")
    backend.pass_time(4 * SECOND)
    [newer] = store.hold_outbox(limit=10, hold=MINUTE)
    # The new outbox entry has a new id. A FIFO queue would drop a message with the old id as a duplicate.
    assert newer.id > early.id
    assert newer.video_id == lease.video_id


@pytest.mark.parametrize("status", ["uploading", "leased", "over", "deleted", "retried"])
def test_a_message_that_wakes_nobody_for_another_reason_owes_none(backend: Backend, status: str) -> None:
    store = backend.store
    match status:
        case "uploading":
            video_id = uploading(store).video.id
        case "leased":
            video_id = processing(store).video_id
        case "over":
            video_id = processed(store)
        case "deleted":
            store.delete(video_id := uploaded(store), grace=DAY)
        case _:
            store.cancel(video_id := uploaded(store))
            store.retry(video_id)
            sent(store, video_id)
    before = due(store)
    assert isinstance(deliver(store, video_id), Dropped)
    assert due(store) == before


def test_a_message_that_was_sent_is_never_too_early(backend: Backend) -> None:
    store = backend.store
    lease = processing(store)
    assert store.settle(lease, plan_failure(lease.counters, PROBLEM, RetryPolicy(backoff_base=SECOND / 1000), 0.5))
    while not due(store):
        backend.pass_time(SECOND / 1000)
    assert isinstance(deliver(store, lease.video_id), Claimed)


def test_an_attempt_that_failed_tells_why_though_its_job_goes_on(store: Store) -> None:
    lease = processing(store)
    assert fail(store, lease)
    [attempt] = store.history(lease.video_id)[1]
    assert (attempt.ending, attempt.error) == (Ending.FAILED, PROBLEM)
    event = store.events_after(0)[-1]
    assert (event.kind, event.status, event.error) == (EventKind.ATTEMPT, Status.PROCESSING, PROBLEM)


def test_the_last_failure_writes_a_dead_letter(backend: Backend) -> None:
    store = backend.store
    video_id = uploaded(store)
    for _ in range(POLICY.max_failures):
        assert backend.dead_letters() == []
        assert fail(store, claim(store, video_id))
        backend.pass_time(HOUR)
    job = record_of(store, video_id).job
    assert (job.status, job.error, job.counters) == (Status.DEAD_LETTERED, PROBLEM, Counters(failures=3))
    assert backend.dead_letters() == [(DeadLetterCause.FAILURES, PROBLEM.message, video_id, 1, None, None)]
    assert due(store) == []


def test_an_interrupted_job_goes_on_at_once_and_no_failure_is_counted(store: Store) -> None:
    lease = processing(store)
    assert interrupt(store, lease)
    job = record_of(store, lease.video_id).job
    assert (job.status, job.counters) == (Status.PROCESSING, Counters(interruptions=1))
    assert due(store) == [lease.video_id]
    again = claim(store, lease.video_id, worker="worker-2")
    assert again.fence > lease.fence


def test_many_interruptions_never_end_a_job(store: Store) -> None:
    video_id = uploaded(store)
    for _ in range(25):
        assert interrupt(store, claim(store, video_id))
    job = record_of(store, video_id).job
    assert (job.status, job.counters) == (Status.PROCESSING, Counters(interruptions=25))


def test_an_outage_waits_before_the_job_goes_on(backend: Backend) -> None:
    store = backend.store
    lease = processing(store)
    outage = Problem("bucket_unavailable", "The bucket does not answer.")
    assert store.settle(lease, plan_outage(lease.counters, outage, POLICY, jitter=0.5))
    assert due(store) == []
    backend.pass_time(10 * SECOND)
    assert due(store) == [lease.video_id]


def test_settling_again_tells_that_it_was_done(backend: Backend) -> None:
    store = backend.store
    lease = processing(store)
    assert fail(store, lease)
    before, last, deletions = store.get(lease.video_id), store.last_event_id(), backend.deletions()
    assert fail(store, lease)
    assert (store.get(lease.video_id), store.last_event_id(), backend.deletions()) == (before, last, deletions)
    assert not interrupt(store, lease)


def test_the_object_of_an_attempt_that_ended_is_deleted_now_and_a_day_later(backend: Backend) -> None:
    for end in (fail, interrupt, reject):
        lease = processing(backend.store)
        assert end(backend.store, lease)
        scheduled = [one for one in backend.deletions() if one.key == lease.result_key]
        assert scheduled == [(lease.result_key, "losing_attempt", minutes) for minutes in TODAY_AND_TOMORROW]


def superseded_by_cancel(backend: Backend, lease: Lease) -> None:
    backend.store.cancel(lease.video_id)


def superseded_by_delete(backend: Backend, lease: Lease) -> None:
    backend.store.delete(lease.video_id, grace=DAY)


def superseded_by_retry(backend: Backend, lease: Lease) -> None:
    backend.store.cancel(lease.video_id)
    backend.store.retry(lease.video_id)


def superseded_by_another_attempt(backend: Backend, lease: Lease) -> None:
    backend.pass_time(LEASE)
    claim(backend.store, lease.video_id, worker="worker-2")


def superseded_by_the_sweep(backend: Backend, lease: Lease) -> None:
    backend.pass_time(LEASE)
    assert backend.store.end_expired_leases(limit=10, policy=POLICY) == 1
    assert record_of(backend.store, lease.video_id).job.counters.lost == 1


def superseded_by_its_own_end(backend: Backend, lease: Lease) -> None:
    assert interrupt(backend.store, lease)


def superseded_by_anothers_result(backend: Backend, lease: Lease) -> None:
    backend.pass_time(LEASE)
    other = claim(backend.store, lease.video_id, worker="worker-2")
    assert backend.store.publish(other, result(other))


@pytest.mark.parametrize(
    "supersede",
    [
        superseded_by_cancel,
        superseded_by_delete,
        superseded_by_retry,
        superseded_by_another_attempt,
        superseded_by_the_sweep,
        superseded_by_its_own_end,
        superseded_by_anothers_result,
    ],
    ids=lambda supersede: supersede.__name__.removeprefix("superseded_by_"),
)
def test_an_old_fence_changes_nothing(backend: Backend, supersede: Callable[[Backend, Lease], None]) -> None:
    store = backend.store
    lease = processing(store)
    supersede(backend, lease)

    def state() -> object:
        return (
            store.listing(owner=None),
            store.history(lease.video_id)[1],
            store.last_event_id(),
            backend.deletions(),
            backend.dead_letters(),
            due(store),
        )

    before = state()
    assert not store.renew(lease, duration=LEASE)
    assert not store.report_progress(lease, 0.9)
    assert not store.publish(lease, result(lease))
    assert not fail(store, lease)
    assert not reject(store, lease)
    assert state() == before


def test_a_lease_of_a_video_that_is_gone_holds_nothing(store: Store) -> None:
    unknown = Lease("unknown", "job", "attempt", 1, 1, "worker", "processed/unknown/1-attempt.mp4", Counters())
    assert not store.renew(unknown, duration=LEASE)
    assert not store.report_progress(unknown, 0.5)
    assert not store.publish(unknown, Result("k", 1, "s", 1, 1, 1.0, 1))
    assert not fail(store, unknown)


def test_taking_over_an_expired_lease_ends_the_old_attempt_as_lost(backend: Backend) -> None:
    store = backend.store
    lost = processing(store)
    backend.pass_time(LEASE)
    taken = claim(store, lost.video_id, worker="worker-2")
    assert taken.fence > lost.fence
    assert taken.counters == Counters(lost=1)
    job = record_of(store, lost.video_id).job
    assert (job.counters, job.worker, job.attempts) == (Counters(lost=1), "worker-2", 2)
    assert [attempt.ending for attempt in store.history(lost.video_id)[1]] == [Ending.LOST, None]
    assert {one.key for one in backend.deletions()} == {lost.result_key}


def test_a_second_loss_makes_the_job_wait(backend: Backend) -> None:
    store = backend.store
    video_id = processing(store).video_id
    backend.pass_time(LEASE)
    claim(store, video_id)
    backend.pass_time(LEASE)
    assert deliver(store, video_id) == Dropped(Reason.LOST)
    job = record_of(store, video_id).job
    assert (job.counters, job.lease_owner) == (Counters(lost=2), None)
    assert due(store) == []
    backend.pass_time(HOUR)
    assert due(store) == [video_id]


def test_the_fifth_loss_is_a_dead_letter_of_lost_workers(backend: Backend) -> None:
    store = backend.store
    video_id = uploaded(store)
    for _ in range(POLICY.max_lost):
        claim(store, video_id)
        backend.pass_time(HOUR)
        assert store.end_expired_leases(limit=10, policy=POLICY) == 1
        backend.pass_time(HOUR)
    job = record_of(store, video_id).job
    assert (job.status, job.error, job.counters) == (Status.DEAD_LETTERED, WORKER_LOST, Counters(lost=5))
    assert backend.dead_letters() == [(DeadLetterCause.WORKER_LOST, WORKER_LOST.message, video_id, 1, None, None)]
    assert due(store) == []


def test_the_fifth_loss_may_be_noticed_by_a_message_too(backend: Backend) -> None:
    store = backend.store
    policy = RetryPolicy(max_lost=1)
    video_id = processing(store).video_id
    backend.pass_time(LEASE)
    dropped = store.claim(video_id, generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=policy)
    assert dropped == Dropped(Reason.LOST)
    assert record_of(store, video_id).job.status is Status.DEAD_LETTERED
    assert len(backend.dead_letters()) == 1


def test_failures_losses_and_interruptions_are_counted_apart(backend: Backend) -> None:
    store = backend.store
    video_id = processing(store).video_id
    backend.pass_time(LEASE)
    assert store.end_expired_leases(limit=10, policy=POLICY) == 1
    assert interrupt(store, claim(store, video_id))
    assert fail(store, claim(store, video_id))
    assert record_of(store, video_id).job.counters == Counters(failures=1, lost=1, interruptions=1)


def test_the_sweep_ends_only_leases_that_have_expired(backend: Backend) -> None:
    store = backend.store
    lost = [processing(store).video_id for _ in range(2)]
    backend.pass_time(LEASE)
    alive = processing(store).video_id
    waiting = uploaded(store)
    assert store.end_expired_leases(limit=10, policy=POLICY) == 2
    assert sorted(due(store)) == sorted([*lost, waiting])
    assert record_of(store, alive).job.lease_owner is not None
    assert store.end_expired_leases(limit=10, policy=POLICY) == 0


def test_the_sweep_ends_no_more_leases_than_its_limit(backend: Backend) -> None:
    for _ in range(3):
        processing(backend.store)
    backend.pass_time(LEASE)
    ended = [backend.store.end_expired_leases(limit=2, policy=POLICY) for _ in range(3)]
    assert ended == [2, 1, 0]


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
