"""Tests how attempts end with a result, a failure or an interruption, and how the ending changes the job."""

from datetime import timedelta

from anb_core.domain.claim import Reason
from anb_core.domain.model import Counters, DeadLetterCause, Ending, EventKind, Problem
from anb_core.domain.retry import plan_outage
from anb_core.domain.status import Status
from anb_core.ports.store import Claimed, Dropped, Store
from tests.contract.store.conftest import deliver
from tests.support.given import (
    BAD_INPUT,
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
    processing,
    record_of,
    reject,
    result,
    uploaded,
)
from tests.support.stores import Backend

TODAY_AND_TOMORROW = (0, 24 * 60)


def test_what_only_the_log_may_say_of_an_attempt_is_kept_beside_it(store: Store) -> None:
    lease = processing(store)
    problem = Problem("bucket_unavailable", "The bucket did not answer.", "http://secret.host:9000 refuses")
    assert store.settle(lease, plan_outage(lease.counters, problem, POLICY, jitter=0.5))
    [attempt] = store.history(lease.video_id).attempts
    assert attempt.error == problem
    assert attempt.error.detail == problem.detail


def test_a_published_result_is_current_and_ends_everything(store: Store) -> None:
    lease = processing(store)
    assert store.publish(lease, result(lease))
    job = record_of(store, lease.video_id).job
    assert (job.status, job.result, job.progress, job.error) == (Status.PROCESSED, result(lease), 1.0, None)
    assert (job.lease_owner, job.lease_expires_at, job.worker) == (None, None, None)
    [attempt] = store.history(lease.video_id).attempts
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
    assert (job.status, job.error, job.counters) == (Status.FAILED, BAD_INPUT, Counters())
    assert due(store) == []
    assert backend.dead_letters() == []
    assert deliver(store, lease.video_id) == Dropped(Reason.TERMINAL)
    event = store.events_after(0)[-1]
    assert (event.kind, event.status, event.error) == (EventKind.STATUS, Status.FAILED, BAD_INPUT)


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


def test_an_attempt_that_failed_tells_why_though_its_job_goes_on(store: Store) -> None:
    lease = processing(store)
    assert fail(store, lease)
    [attempt] = store.history(lease.video_id).attempts
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


def test_failures_losses_and_interruptions_are_counted_apart(backend: Backend) -> None:
    store = backend.store
    video_id = processing(store).video_id
    backend.pass_time(LEASE)
    assert store.end_expired_leases(limit=10, policy=POLICY) == 1
    assert interrupt(store, claim(store, video_id))
    assert fail(store, claim(store, video_id))
    assert record_of(store, video_id).job.counters == Counters(failures=1, lost=1, interruptions=1)
