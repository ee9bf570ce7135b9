from datetime import timedelta

import pytest

from anb_core.adapters.system import new_id
from anb_core.domain.claim import Reason
from anb_core.domain.model import Idempotency
from anb_core.ports.store import Dropped, Store, Unknown
from tests.support.given import (
    DAY,
    HOUR,
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
    new_video,
    processed,
    processing,
    record_of,
    sent,
    uploaded,
    uploading,
)
from tests.support.stores import Backend, Sql


def test_a_job_that_nobody_claims_is_sent_anew_after_a_while(backend: Backend) -> None:
    store = backend.store
    video_id = uploaded(store)
    sent(store, video_id)
    backend.pass_time(2 * MINUTE)
    assert store.requeue_unclaimed(enqueued_before=3 * MINUTE, limit=10) == 0
    assert store.requeue_unclaimed(enqueued_before=MINUTE, limit=10) == 1
    assert due(store) == [video_id]
    assert store.requeue_unclaimed(enqueued_before=MINUTE, limit=10) == 0


def test_a_job_whose_message_is_on_a_queue_no_longer_configured_is_sent_anew(store: Store) -> None:
    video_id = uploaded(store)
    sent(store, video_id, broker="old")
    assert store.requeue_unclaimed(not_on=["old"], limit=10) == 0
    assert store.requeue_unclaimed(not_on=["new"], limit=10) == 1
    sent(store, video_id, broker="new")
    assert store.requeue_unclaimed(not_on=["new"], limit=10) == 0


def test_a_job_whose_message_is_on_a_configured_queue_is_not_sent_anew(store: Store) -> None:
    current, old, elsewhere = uploaded(store), uploaded(store), uploaded(store)
    for video_id, broker in ((current, "current"), (old, "old"), (elsewhere, "elsewhere")):
        sent(store, video_id, broker=broker)

    assert store.requeue_unclaimed(not_on=["current", "old"], limit=10) == 1
    assert due(store) == [elsewhere]


def test_the_loss_of_one_queue_says_nothing_about_the_messages_of_another(backend: Backend) -> None:
    store = backend.store
    lost, waits = uploaded(store), uploaded(store)
    sent(store, lost, broker="lost")
    sent(store, waits, broker="other")
    backend.pass_time(2 * MINUTE)

    assert store.requeue_unclaimed(enqueued_before=MINUTE, on="lost", limit=10) == 1
    assert due(store) == [lost]


def test_either_reason_is_enough_to_send_anew(backend: Backend) -> None:
    store = backend.store
    elsewhere, old = uploaded(store), uploaded(store)
    sent(store, old, broker="queue")
    backend.pass_time(HOUR)
    sent(store, elsewhere, broker="elsewhere")
    fresh = uploaded(store)
    sent(store, fresh, broker="queue")
    assert store.requeue_unclaimed(enqueued_before=MINUTE, not_on=["queue"], limit=10) == 2
    assert sorted(due(store)) == sorted([elsewhere, old])


def test_a_job_between_attempts_is_sent_anew_once_it_is_due(backend: Backend) -> None:
    store = backend.store
    video_id = uploaded(store)
    sent(store, video_id)
    backend.pass_time(HOUR)
    lease = store.claim(video_id, generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY).lease  # type: ignore[union-attr]
    assert store.requeue_unclaimed(enqueued_before=MINUTE, limit=10) == 0
    assert fail(store, lease)
    backend.pass_time(10 * SECOND)
    sent(store, video_id)
    backend.pass_time(2 * MINUTE)
    assert store.requeue_unclaimed(enqueued_before=MINUTE, limit=10) == 1


def test_a_job_with_nothing_ahead_of_it_is_sent_anew_once_its_message_must_be_lost(backend: Backend) -> None:
    store = backend.store
    video_id = uploaded(store)
    sent(store, video_id)
    backend.pass_time(4 * MINUTE)
    assert store.requeue_overdue(slack=5 * MINUTE, limit=10) == 0
    backend.pass_time(2 * MINUTE)
    assert store.requeue_overdue(slack=5 * MINUTE, limit=10) == 1
    assert due(store) == [video_id]
    assert store.requeue_overdue(slack=5 * MINUTE, limit=10) == 0
    sent(store, video_id)
    assert store.requeue_overdue(slack=5 * MINUTE, limit=10) == 0


def test_the_jobs_ahead_explain_why_one_waits(backend: Backend) -> None:
    store = backend.store
    under_way = uploaded(store)
    sent(store, under_way)
    backend.pass_time(MINUTE)
    first = uploaded(store)
    backend.pass_time(SECOND)
    second = uploaded(store)
    for video_id in (first, second):
        sent(store, video_id)
        backend.pass_time(MINUTE)
    claim(store, under_way, lease=DAY)
    backend.pass_time(59 * MINUTE)
    assert store.requeue_overdue(slack=5 * MINUTE, limit=10) == 0
    backend.pass_time(5 * MINUTE)
    assert store.requeue_overdue(slack=5 * MINUTE, limit=10) == 1
    assert due(store) == [first]
    backend.pass_time(HOUR + MINUTE)
    assert store.requeue_overdue(slack=5 * MINUTE, limit=10) == 1
    assert sorted(due(store)) == sorted([first, second])


def test_a_job_that_later_ones_have_overtaken_is_sent_anew(backend: Backend) -> None:
    store = backend.store
    lost = uploaded(store)
    sent(store, lost)
    backend.pass_time(MINUTE)
    later = uploaded(store)
    sent(store, later)
    claim(store, later, lease=DAY)
    backend.pass_time(5 * MINUTE)
    assert store.requeue_overdue(slack=5 * MINUTE, limit=10) == 1
    assert due(store) == [lost]


def test_a_job_has_its_place_from_when_its_pause_ended(backend: Backend) -> None:
    store = backend.store
    lease = processing(store)
    assert fail(store, lease)
    other = uploaded(store)
    backend.pass_time(10 * SECOND)
    for video_id in (lease.video_id, other):
        sent(store, video_id)
    backend.pass_time(2 * MINUTE)
    assert store.requeue_overdue(slack=MINUTE, limit=10) == 1
    assert due(store) == [other]


def test_a_job_that_is_overdue_and_not_due_yet_is_not_sent(backend: Backend) -> None:
    store = backend.store
    lease = processing(store)
    sent_at = uploaded(store)
    sent(store, sent_at)
    assert fail(store, lease)
    backend.pass_time(10 * SECOND)
    sent(store, lease.video_id)
    backend.pass_time(HOUR)
    backend.pass_time(-HOUR - 8 * SECOND)
    assert store.requeue_overdue(slack=-HOUR, limit=10) == 1
    assert due(store) == [sent_at]


def test_only_jobs_that_wait_for_a_message_are_sent_anew(backend: Backend) -> None:
    store = backend.store
    uploading(store)
    processed(store)
    failed(store)
    store.cancel(uploaded(store))
    store.delete(uploaded(store), by="ada", grace=DAY)
    assert fail(store, processing(store))
    leased = processing(store)
    backend.pass_time(30 * SECOND)
    assert store.renew(leased, duration=DAY)
    backend.pass_time(SECOND)
    in_outbox = due(store)
    assert store.requeue_overdue(slack=timedelta(0), limit=10) == 0
    assert store.requeue_unclaimed(enqueued_before=timedelta(0), not_on=["another"], limit=10) == 0
    assert due(store) == in_outbox


def test_sending_anew_is_capped_and_is_no_news(backend: Backend) -> None:
    store = backend.store
    videos = [uploaded(store) for _ in range(3)]
    for video_id in videos:
        sent(store, video_id)
    backend.pass_time(HOUR)
    before = [record_of(store, video_id).job.version for video_id in videos]
    last = store.last_event_id()
    assert [store.requeue_unclaimed(enqueued_before=MINUTE, limit=2) for _ in range(3)] == [2, 1, 0]
    assert [record_of(store, video_id).job.version for video_id in videos] == before
    assert store.last_event_id() == last


def test_sending_everything_anew_for_no_reason_is_an_error(store: Store) -> None:
    with pytest.raises(ValueError, match="enqueued_before or not_on"):
        store.requeue_unclaimed(limit=10)


def test_a_held_deletion_is_nobody_elses_until_the_hold_ends(backend: Backend) -> None:
    store = backend.store
    store.abandon_upload(uploading(store).video.id)
    [held] = store.hold_deletions(limit=10, hold=MINUTE)
    assert store.hold_deletions(limit=10, hold=MINUTE) == []
    backend.pass_time(MINUTE)
    assert backend.another().hold_deletions(limit=10, hold=MINUTE) == [held]


def test_a_deletion_that_is_done_does_not_come_back_but_its_repetition_does(backend: Backend) -> None:
    store = backend.store
    key = uploading(store).video.source_key
    store.abandon_upload(store.listing(owner=None)[0].video.id)
    first = store.hold_deletions(limit=10, hold=MINUTE)
    store.deletion_done(first)
    backend.pass_time(23 * HOUR)
    assert store.hold_deletions(limit=10, hold=MINUTE) == []
    backend.pass_time(2 * HOUR)
    [again] = store.hold_deletions(limit=10, hold=MINUTE)
    assert again.key == key
    store.deletion_done([again])
    assert backend.deletions() == []


def test_what_is_due_longest_is_deleted_first(backend: Backend) -> None:
    store = backend.store
    keys = []
    for _ in range(3):
        begun = uploading(store)
        keys.append(begun.video.source_key)
        store.abandon_upload(begun.video.id)
        backend.pass_time(SECOND)
    assert [deletion.key for deletion in store.hold_deletions(limit=2, hold=HOUR)] == keys[:2]
    assert [deletion.key for deletion in store.hold_deletions(limit=2, hold=HOUR)] == keys[2:]


def test_having_deleted_nothing_leaves_what_is_to_be_deleted(backend: Backend) -> None:
    backend.store.delete(processed(backend.store), by="ada", grace=DAY)
    before = backend.deletions()
    backend.store.deletion_done([])
    assert backend.deletions() == before != []


def test_a_deleted_video_is_purged_once_its_objects_are_gone(backend: Backend) -> None:
    store = backend.store
    video_id = processed(store)
    store.delete(video_id, by="ada", grace=DAY)
    message = {"generation": 1, "attempt_id": "a", "worker": "w", "lease": LEASE, "policy": POLICY}
    assert store.purge(events_before=30 * DAY, dead_letters_before=DAY, limit=10) == 0
    backend.pass_time(DAY + MINUTE)
    held = store.hold_deletions(limit=10, hold=MINUTE)
    assert store.purge(events_before=30 * DAY, dead_letters_before=DAY, limit=10) == 0
    assert store.claim(video_id, **message) == Dropped(Reason.DELETED)  # type: ignore[arg-type]
    store.deletion_done(held)
    assert store.purge(events_before=30 * DAY, dead_letters_before=DAY, limit=10) == 1
    assert store.claim(video_id, **message) == Unknown()  # type: ignore[arg-type]
    assert store.purge(events_before=30 * DAY, dead_letters_before=DAY, limit=10) == 0


def test_a_deleted_video_without_objects_is_recognised_until_its_grace_is_over(backend: Backend) -> None:
    store = backend.store
    new = new_video(owned=False)
    store.submit_existing(new, SOURCE)
    store.delete(new.id, by="ada", grace=DAY)
    assert store.purge(events_before=30 * DAY, dead_letters_before=DAY, limit=10) == 0
    backend.pass_time(DAY)
    assert store.purge(events_before=30 * DAY, dead_letters_before=DAY, limit=10) == 1


def test_living_videos_are_never_purged(backend: Backend) -> None:
    store = backend.store
    videos = [uploaded(store), processed(store), failed(store), processing(store).video_id]
    backend.pass_time(300 * DAY)
    store.purge(events_before=DAY, dead_letters_before=DAY, limit=100)
    assert all(store.get(video_id) for video_id in videos)


def test_old_events_are_purged_and_new_ones_stay(backend: Backend) -> None:
    store = backend.store
    uploading(store)
    backend.pass_time(DAY)
    kept = uploading(store)
    assert store.purge(events_before=HOUR, dead_letters_before=DAY, limit=10) == 1
    assert [event.video_id for event in store.events_after(0)] == [kept.video.id]


def test_a_purge_is_capped(backend: Backend) -> None:
    store = backend.store
    for _ in range(3):
        uploading(store)
    backend.pass_time(DAY)
    assert [store.purge(events_before=HOUR, dead_letters_before=DAY, limit=2) for _ in range(3)] == [2, 1, 0]


def test_expired_keys_are_purged_and_others_stay(backend: Backend) -> None:
    store = backend.store
    uploading(store, idempotency=Idempotency("short", HOUR))
    uploading(store, idempotency=Idempotency("long", 3 * DAY))
    backend.pass_time(DAY)
    assert store.purge(events_before=30 * DAY, dead_letters_before=DAY, limit=10) == 1


@pytest.mark.parametrize("table", ["videos", "jobs"])
def test_a_purge_does_not_wait_for_a_video_that_somebody_holds(postgresql: Sql, table: str) -> None:
    store = postgresql.store
    for _ in range(2):
        new = new_video(owned=False)
        store.submit_existing(new, SOURCE)
        store.delete(new.id, by="ada", grace=DAY)
    postgresql.pass_time(DAY)
    with postgresql.database.transaction() as connection:
        connection.exec_driver_sql(f"SELECT FROM {table} LIMIT 1 FOR UPDATE")
        assert store.purge(events_before=30 * DAY, dead_letters_before=DAY, limit=10) == 1
    assert store.purge(events_before=30 * DAY, dead_letters_before=DAY, limit=10) == 1


def test_one_process_at_a_time_does_what_is_exclusive(backend: Backend) -> None:
    other = backend.another()
    with backend.store.exclusively("sweep", lifetime=MINUTE) as ours:
        assert ours
        with other.exclusively("sweep", lifetime=MINUTE) as theirs:
            assert not theirs
        with other.exclusively("another", lifetime=MINUTE) as unrelated:
            assert unrelated
        with other.exclusively("sweep", lifetime=MINUTE) as still_theirs:
            assert not still_theirs
    with other.exclusively("sweep", lifetime=MINUTE) as free:
        assert free


def test_what_is_exclusive_is_free_again_after_an_error(backend: Backend) -> None:
    def fail_inside() -> None:
        with backend.store.exclusively("sweep", lifetime=MINUTE):
            raise RuntimeError("swept away")

    with pytest.raises(RuntimeError, match="swept away"):
        fail_inside()
    with backend.another().exclusively("sweep", lifetime=MINUTE) as free:
        assert free


def test_an_interrupted_job_that_was_enqueued_long_ago_is_not_sent_twice(backend: Backend) -> None:
    store = backend.store
    video_id = uploaded(store)
    sent(store, video_id)
    backend.pass_time(DAY)
    lease = store.claim(video_id, generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY).lease  # type: ignore[union-attr]
    assert interrupt(store, lease)
    sent(store, video_id)
    assert store.requeue_unclaimed(enqueued_before=MINUTE, limit=10) == 0
