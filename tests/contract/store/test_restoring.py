"""Tests of the corrections after a restore of the database. After each, the promises are kept."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from anb_core.adapters.system import new_id
from anb_core.domain.errors import Conflict, NotFound
from anb_core.domain.keys import result_key
from anb_core.domain.lifecycle import DELETE_AGAIN_AFTER
from anb_core.domain.model import Ending, Result
from anb_core.domain.reconciliation import Known
from anb_core.domain.status import Status
from anb_core.ports.store import Store
from anb_core.testing.promises import check_promises
from tests.support.given import (
    DAY,
    HOUR,
    MINUTE,
    POLICY,
    SOURCE,
    claim,
    dead_lettered,
    due,
    fail,
    failed,
    processed,
    processing,
    record_of,
    result,
    uploaded,
    uploading,
)
from tests.support.stores import Backend


@pytest.fixture
def restored(backend: Backend) -> Iterator[Backend]:
    """A store that keeps the promises at the end of the test."""
    yield backend
    check_promises(backend.evidence(), POLICY)


def made_later(video_id: str, fence: int = 9) -> Result:
    """Return a result of an attempt that the restored rows do not have."""
    key = result_key(video_id, fence, new_id())
    return Result(key=key, size=9876, sha256="cd" * 32, width=1280, height=720, duration=35.25, frames=1057)


def restore(store: Store, found: Result, video_id: str) -> None:
    store.restore_result(video_id, found, worker="worker-7", by="olga")


def _failed_once(store: Store) -> str:
    lease = processing(store)
    assert fail(store, lease)
    return lease.video_id


def _cancelled(store: Store) -> str:
    video_id = uploaded(store)
    store.cancel(video_id)
    return video_id


@pytest.mark.parametrize(
    "state", [uploaded, _failed_once, failed, _cancelled, dead_lettered], ids=lambda one: one.__name__
)
def test_a_result_that_the_rows_do_not_know_becomes_current(restored: Backend, state: Callable[[Store], str]) -> None:
    store = restored.store
    video_id = state(store)
    before, found = record_of(store, video_id).job, made_later(video_id)

    restore(store, found, video_id)

    job = record_of(store, video_id).job
    assert (job.status, job.result, job.error, job.progress) == (Status.PROCESSED, found, None, 1.0)
    assert (job.fence, job.attempts) == (9, before.attempts + 1)
    assert job.generation == before.generation + before.status.terminal
    last = store.history(video_id).attempts[-1]
    assert (last.result_key, last.ending, last.worker) == (found.key, Ending.PROCESSED, "worker-7")
    assert store.open_dead_letters() == {}
    assert due(store) == []
    with pytest.raises(Conflict, match="can't restore"):
        restore(store, found, video_id)


def test_an_attempt_that_runs_in_the_rows_may_have_made_the_result(restored: Backend) -> None:
    store = restored.store
    lease = processing(store)
    with pytest.raises(Conflict, match="went on"):
        restore(store, result(lease), lease.video_id)
    restored.pass_time(HOUR)

    restore(store, result(lease), lease.video_id)

    job = record_of(store, lease.video_id).job
    assert (job.status, job.result, job.attempts, job.fence) == (Status.PROCESSED, result(lease), 1, 1)
    assert restored.deletions() == []


def test_an_attempt_that_runs_in_the_rows_loses_against_a_later_one(restored: Backend) -> None:
    store = restored.store
    lease = processing(store)
    restored.pass_time(HOUR)
    restore(store, made_later(lease.video_id, fence=2), lease.video_id)
    first, second = store.history(lease.video_id).attempts
    assert (first.ending, second.ending) == (Ending.SUPERSEDED, Ending.PROCESSED)
    assert [one.key for one in restored.deletions()] == [lease.result_key] * 2


def test_a_result_is_not_restored_if_the_job_went_on_or_is_not_uploaded(restored: Backend) -> None:
    store = restored.store
    lease = processing(store)
    assert fail(store, lease)
    with pytest.raises(Conflict, match="went on"):
        restore(store, made_later(lease.video_id, fence=1), lease.video_id)
    with pytest.raises(Conflict, match="went on"):
        restore(store, replace(made_later(lease.video_id), key="processed/strange.mp4"), lease.video_id)
    unfinished = uploading(store).video.id
    with pytest.raises(Conflict, match="can't restore"):
        restore(store, made_later(unfinished), unfinished)
    with pytest.raises(NotFound):
        restore(store, made_later("nobody"), "nobody")


def test_a_video_whose_result_is_gone_begins_a_new_generation(restored: Backend) -> None:
    store = restored.store
    video_id = processed(store)

    store.render_again(video_id)

    job = record_of(store, video_id).job
    assert (job.status, job.generation, job.result, job.progress) == (Status.UPLOADED, 2, None, 0.0)
    [attempt] = store.history(video_id).attempts
    assert attempt.ending is Ending.SUPERSEDED
    assert attempt.error is not None
    assert attempt.error.code == "object_missing"
    assert due(store) == [video_id]
    with pytest.raises(Conflict, match="can't repeat"):
        store.render_again(video_id)
    lease = claim(store, video_id)
    assert store.publish(lease, result(lease))


def test_results_that_no_row_knows_are_deleted_at_once_and_a_day_later(restored: Backend) -> None:
    video_id = uploaded(restored.store)
    restored.store.discard_results(video_id, ["processed/a", "processed/b"])
    again = DELETE_AGAIN_AFTER / MINUTE
    assert sorted((one.key, one.minutes) for one in restored.deletions()) == [
        ("processed/a", 0), ("processed/a", again), ("processed/b", 0), ("processed/b", again)
    ]  # fmt: skip


def test_what_is_known_of_a_video_says_what_may_still_happen_to_it(backend: Backend) -> None:
    store = backend.store
    ended, gone = uploading(store).video, uploading(store).video
    store.abandon_upload(gone.id)
    old = processing(store)
    backend.pass_time(2 * MINUTE)
    running, deleted, spoiled = uploading(store).video.id, processed(store), uploaded(store)
    fresh = processing(store)
    store.delete(deleted, by="ada", grace=DAY)
    backend.spoil(spoiled)

    known = store.known_videos([ended.id, gone.id, old.video_id, running, deleted, spoiled, fresh.video_id, "nobody"])

    assert known.keys() == {ended.id, gone.id, old.video_id, running, deleted, fresh.video_id, "nobody"}
    assert known["nobody"] == Known()
    assert known[gone.id] == Known(doomed=frozenset({gone.source_key}))
    assert known[ended.id] == Known(record=record_of(store, ended.id), upload_ended=True)
    assert known[running] == Known(record=record_of(store, running))
    keys = frozenset({old.result_key})
    assert known[old.video_id] == Known(record=record_of(store, old.video_id), attempts=keys)
    keys = frozenset({fresh.result_key})
    assert known[fresh.video_id] == Known(record=record_of(store, fresh.video_id), leased=True, attempts=keys)
    assert known[deleted].deleted
    assert known[deleted].attempts < known[deleted].doomed


def test_all_videos_are_listed_in_the_order_of_their_ids(backend: Backend) -> None:
    store = backend.store
    ids = sorted(uploaded(store) for _ in range(5))
    store.delete(ids[1], by="ada", grace=DAY)
    backend.spoil(ids[3])
    assert [one.video.id for one in store.videos_after("", limit=2)] == [ids[0], ids[2]]
    assert [one.video.id for one in store.videos_after(ids[2], limit=2)] == [ids[4]]
    assert store.videos_after(ids[4], limit=2) == []
    assert record_of(store, ids[0]).video.source == SOURCE
