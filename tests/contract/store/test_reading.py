from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from anb_core.adapters.database import tables
from anb_core.domain.edit import EditSpec, Switch
from anb_core.domain.retry import RetryPolicy, plan_failure
from anb_core.domain.status import Status
from anb_core.ports.store import Page, Store
from tests.support.given import (
    DAY,
    HOUR,
    LEASE,
    MINUTE,
    PROBLEM,
    SECOND,
    claim,
    fail,
    failed,
    interrupt,
    processed,
    processing,
    record_of,
    sent,
    uploaded,
    uploading,
)
from tests.support.stores import Backend, Sql


def test_the_newest_video_comes_first(backend: Backend) -> None:
    videos = []
    for _ in range(3):
        videos.append(uploaded(backend.store))
        backend.pass_time(SECOND)
    assert [record.video.id for record in backend.store.listing(owner="ada")] == videos[::-1]


def test_pages_show_every_video_once_even_those_of_the_same_millisecond(backend: Backend) -> None:
    store = backend.store
    videos = {uploading(store).video.id for _ in range(7)}
    backend.pass_time(SECOND)
    videos |= {uploading(store).video.id for _ in range(3)}
    seen, after = [], None
    while page := store.listing(owner="ada", after=after, limit=3):
        seen += [record.video.id for record in page]
        after = Page(page[-1].video.created_at, page[-1].video.id)
    assert len(seen) == 10
    assert set(seen) == videos


def test_a_video_that_comes_while_somebody_pages_moves_nothing(backend: Backend) -> None:
    store = backend.store
    old = [uploading(store).video.id for _ in range(4)]
    first = store.listing(owner="ada", limit=2)
    backend.pass_time(SECOND)
    # Read the video again after `pass_time`, because `pass_time` changes the stored `created_at`.
    last = store.get(first[-1].video.id)
    assert last is not None
    uploading(store)
    rest = store.listing(owner="ada", after=Page(last.video.created_at, last.video.id))
    assert {record.video.id for record in (*first, *rest)} == set(old)


def test_one_owner_never_sees_anothers_videos(store: Store) -> None:
    hers, his = uploaded(store, owner="ada"), uploaded(store, owner="bob")
    assert [record.video.id for record in store.listing(owner="ada")] == [hers]
    assert [record.video.id for record in store.listing(owner="bob")] == [his]
    assert {record.video.id for record in store.listing(owner=None)} == {hers, his}
    assert store.listing(owner="eve") == []


@pytest.mark.parametrize("owner", ["ada", None])
def test_a_listing_can_be_narrowed_to_statuses(store: Store, owner: str | None) -> None:
    waiting, bad, done = uploaded(store), failed(store), processed(store)
    assert [record.video.id for record in store.listing(owner=owner, statuses=[Status.FAILED])] == [bad]
    both = store.listing(owner=owner, statuses={Status.PROCESSED, Status.UPLOADED})
    assert {record.video.id for record in both} == {waiting, done}
    assert store.listing(owner=owner, statuses=[Status.DEAD_LETTERED]) == []


def test_a_deleted_video_is_nowhere_to_be_found(store: Store) -> None:
    lease = processing(store)
    store.delete(lease.video_id, by="ada", grace=DAY)
    assert store.get(lease.video_id) is None
    assert store.listing(owner=None) == []
    assert store.history(lease.video_id).attempts == ()
    assert store.count_by_status() == {}


def test_attempts_are_told_in_their_order(store: Store) -> None:
    first = processing(store)
    assert interrupt(store, first)
    second = claim(store, first.video_id, worker="worker-2")
    attempts = store.history(first.video_id).attempts
    assert [attempt.id for attempt in attempts] == [first.attempt_id, second.attempt_id]
    assert [(attempt.worker, attempt.fence, attempt.ending) for attempt in attempts] == [
        ("worker-1", 1, "interrupted"),
        ("worker-2", 2, None),
    ]
    assert [attempt.result_key for attempt in attempts] == [first.result_key, second.result_key]
    assert store.history("unknown").attempts == ()


def test_several_histories_are_told_at_once_each_with_its_own_attempts(store: Store) -> None:
    tried_twice, waiting, deleted = processing(store), uploaded(store), processing(store)
    assert interrupt(store, tried_twice)
    second = claim(store, tried_twice.video_id, worker="worker-2")
    tried_once = processing(store)
    store.delete(deleted.video_id, by="ada", grace=DAY)
    ids = [tried_twice.video_id, waiting, deleted.video_id, tried_once.video_id, "unknown"]
    histories = store.histories(ids)
    assert {video_id: history.record for video_id, history in histories.items()} == {
        video_id: store.get(video_id) for video_id in ids
    }
    assert {video_id: [attempt.id for attempt in found.attempts] for video_id, found in histories.items()} == {
        tried_twice.video_id: [tried_twice.attempt_id, second.attempt_id],
        waiting: [],
        deleted.video_id: [],
        tried_once.video_id: [tried_once.attempt_id],
        "unknown": [],
    }


def test_jobs_are_counted_by_status(store: Store) -> None:
    for _ in range(2):
        uploaded(store)
    processed(store)
    processing(store)
    assert store.count_by_status() == {Status.UPLOADED: 2, Status.PROCESSED: 1, Status.PROCESSING: 1}


def test_unfinished_jobs_are_counted_by_the_queue_of_their_message(backend: Backend) -> None:
    store = backend.store
    waiting, running, retried = uploaded(store), uploaded(store), uploaded(store)
    sent(store, waiting, broker="old")
    backend.pass_time(MINUTE)
    for video_id in (running, retried):
        sent(store, video_id, broker="new")
    claim(store, running)
    assert interrupt(store, claim(store, retried))
    uploaded(store)
    processed(store)
    uploading(store)
    counted = store.count_by_queue()

    assert {name: (jobs.waiting, jobs.running) for name, jobs in counted.items()} == {
        "old": (1, 0),
        "new": (1, 1),
        None: (1, 0),
    }
    minutes = {name: None if jobs.oldest is None else jobs.oldest // MINUTE for name, jobs in counted.items()}
    assert minutes == {"old": 1, "new": 0, None: None}


def test_the_longest_wait_is_that_of_the_job_that_has_been_due_without_a_worker_for_the_longest_time(
    backend: Backend,
) -> None:
    store = backend.store
    uploading(store)
    processed(store)
    backend.pass_time(DAY)
    processing(store)
    assert store.longest_wait() == timedelta(0)
    first = uploaded(store)
    backend.pass_time(HOUR)
    uploaded(store)
    assert HOUR <= store.longest_wait() < HOUR + MINUTE
    claim(store, first)
    assert store.longest_wait() < MINUTE


def test_the_pause_before_the_next_attempt_is_no_wait(backend: Backend) -> None:
    store = backend.store
    lease = processing(store)
    policy = RetryPolicy(backoff_base=2 * HOUR, backoff_cap=2 * HOUR)
    assert store.settle(lease, plan_failure(lease.counters, PROBLEM, policy, jitter=1))
    assert store.longest_wait() == timedelta(0)
    backend.pass_time(HOUR)
    assert store.longest_wait() == timedelta(0)
    backend.pass_time(2 * HOUR)
    assert HOUR <= store.longest_wait() < HOUR + MINUTE


def test_a_message_is_unsent_while_it_is_in_the_outbox(store: Store) -> None:
    video_id = uploaded(store)
    fresh = store.surroundings(video_id).unsent
    assert fresh is not None
    assert (fresh.refusals, fresh.due) == (0, fresh.since)
    [entry] = store.hold_outbox(limit=10, hold=MINUTE)
    store.mark_unsent(entry, delay=DAY)
    refused = store.surroundings(video_id).unsent
    assert refused is not None
    assert (refused.refusals, refused.since) == (1, fresh.since)
    assert refused.due > store.now() + HOUR
    store.mark_sent(replace(entry, token=""), broker="queue")
    assert store.surroundings(video_id).unsent == refused
    store.retry(store.cancel(video_id).video.id, by="ada")
    sent(store, video_id)
    assert store.surroundings(video_id).unsent is None
    assert store.surroundings("unknown").unsent is None


def test_waiting_jobs_whose_messages_were_sent_earlier_are_ahead(backend: Backend) -> None:
    store = backend.store
    first, waits_for_its_next_attempt, done, running = (uploaded(store) for _ in range(4))
    for video_id in (first, waits_for_its_next_attempt, done, running):
        sent(store, video_id)
    assert fail(store, claim(store, waits_for_its_next_attempt))
    store.cancel(done)
    claim(store, running)
    backend.pass_time(SECOND)
    last = uploaded(store)
    assert store.surroundings(last).ahead == 0
    sent(store, last)
    assert (store.surroundings(first).ahead, store.surroundings(last).ahead) == (0, 1)
    assert store.surroundings("unknown").ahead == 0


def test_attempts_with_a_valid_lease_are_busy_and_the_newest_of_all_attempts_is_the_last_claim(
    backend: Backend,
) -> None:
    store = backend.store
    video_id = uploaded(store)
    assert (store.surroundings(video_id).busy, store.surroundings(video_id).last_claim) == (0, None)
    ended, expired = processing(store), processing(store)
    assert interrupt(store, ended)
    backend.pass_time(2 * LEASE)
    _, newest = (store.history(processing(store).video_id).attempts[0].started_at for _ in range(2))
    around = store.surroundings(video_id)
    assert (around.busy, around.last_claim) == (2, newest)
    assert store.renew(expired, duration=LEASE)
    assert store.surroundings(video_id).busy == 3
    assert timedelta(0) <= store.now() - around.now < MINUTE


def test_an_edit_that_a_newer_program_wrote_is_read_as_far_as_it_is_known(sql: Sql) -> None:
    video_id = uploaded(sql.store)
    newer = {"intro": {"enabled": False, "style": "quiet"}, "sparkle": True}
    with sql.database.transaction() as connection:
        connection.execute(update(tables.videos).values(edit=newer))
    assert record_of(sql.store, video_id).video.edit == EditSpec(intro=Switch(enabled=False))
