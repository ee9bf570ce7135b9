"""Tests of attempts whose lease expires, and which then end as lost."""

from anb_core.adapters.system import new_id
from anb_core.domain.claim import Reason
from anb_core.domain.model import Counters, DeadLetterCause, Ending
from anb_core.domain.retry import WORKER_LOST, RetryPolicy
from anb_core.domain.status import Status
from anb_core.ports.store import Dropped
from tests.contract.store.conftest import deliver
from tests.support.given import HOUR, LEASE, POLICY, claim, due, processing, record_of, uploaded
from tests.support.stores import Backend


def test_taking_over_an_expired_lease_ends_the_old_attempt_as_lost(backend: Backend) -> None:
    store = backend.store
    lost = processing(store)
    backend.pass_time(LEASE)
    taken = claim(store, lost.video_id, worker="worker-2")
    assert taken.fence > lost.fence
    assert taken.counters == Counters(lost=1)
    job = record_of(store, lost.video_id).job
    assert (job.counters, job.worker, job.attempts) == (Counters(lost=1), "worker-2", 2)
    assert [attempt.ending for attempt in store.history(lost.video_id).attempts] == [Ending.LOST, None]
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
