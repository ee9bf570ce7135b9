"""Tests that calls with the old fence of a superseded attempt change nothing."""

from collections.abc import Callable

import pytest

from anb_core.domain.model import Counters, Lease, Result
from anb_core.ports.store import Store
from tests.support.given import DAY, LEASE, POLICY, claim, due, fail, interrupt, processing, record_of, reject, result
from tests.support.stores import Backend


def superseded_by_cancel(backend: Backend, lease: Lease) -> None:
    backend.store.cancel(lease.video_id)


def superseded_by_delete(backend: Backend, lease: Lease) -> None:
    backend.store.delete(lease.video_id, by="ada", grace=DAY)


def superseded_by_retry(backend: Backend, lease: Lease) -> None:
    backend.store.cancel(lease.video_id)
    backend.store.retry(lease.video_id, by="ada")


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
            store.history(lease.video_id).attempts,
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
