"""Tests of messages that arrive before the job is due, or that begin no attempt for another reason."""

import pytest

from anb_core.domain.claim import Reason
from anb_core.domain.retry import RetryPolicy, plan_failure
from anb_core.ports.store import Claimed, Dropped
from tests.contract.store.conftest import deliver
from tests.support.given import (
    DAY,
    MINUTE,
    PROBLEM,
    SECOND,
    due,
    fail,
    processed,
    processing,
    sent,
    uploaded,
    uploading,
)
from tests.support.stores import Backend


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
    # The id of the new entry must be new. A FIFO queue would drop a message with the old id as a duplicate.
    assert newer.id > early.id
    assert newer.video_id == lease.video_id


@pytest.mark.parametrize("status", ["uploading", "leased", "over", "deleted", "retried"])
def test_a_message_that_wakes_no_worker_for_another_reason_adds_no_message(backend: Backend, status: str) -> None:
    store = backend.store
    match status:
        case "uploading":
            video_id = uploading(store).video.id
        case "leased":
            video_id = processing(store).video_id
        case "over":
            video_id = processed(store)
        case "deleted":
            store.delete(video_id := uploaded(store), by="ada", grace=DAY)
        case _:
            store.cancel(video_id := uploaded(store))
            store.retry(video_id, by="ada")
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
