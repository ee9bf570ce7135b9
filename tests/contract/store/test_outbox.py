from datetime import timedelta

from anb_core.ports.store import Store
from tests.support.given import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    claim,
    due,
    fail,
    failed,
    interrupt,
    processing,
    record_of,
    sent,
    uploaded,
)
from tests.support.stores import Backend


def test_an_entry_says_all_that_the_message_needs(store: Store) -> None:
    video_id = uploaded(store)
    record = record_of(store, video_id)
    [entry] = store.hold_outbox(limit=10, hold=MINUTE)
    assert (entry.video_id, entry.task_id, entry.owner) == (video_id, record.job.id, "ada")
    assert (entry.generation, entry.key, entry.tries) == (1, record.video.source_key, 0)
    assert timedelta(0) <= store.now() - entry.created_at < 30 * SECOND


def test_a_held_entry_is_nobody_elses_until_the_hold_ends(backend: Backend) -> None:
    store = backend.store
    video_id = uploaded(store)
    [first] = store.hold_outbox(limit=10, hold=MINUTE)
    assert store.hold_outbox(limit=10, hold=MINUTE) == []
    backend.pass_time(MINUTE)
    [second] = backend.another().hold_outbox(limit=10, hold=MINUTE)
    assert (second.video_id, second.id) == (video_id, first.id)
    assert second.token != first.token


def test_what_was_sent_leaves_the_outbox_and_is_noted_on_the_job(store: Store) -> None:
    video_id = uploaded(store)
    sent(store, video_id, broker="queue-a")
    job = record_of(store, video_id).job
    assert job.enqueued_to == "queue-a"
    assert job.enqueued_at is not None
    assert abs(store.now() - job.enqueued_at) < 30 * SECOND
    assert due(store) == []


def test_what_was_refused_is_due_again_later_with_one_more_try(backend: Backend) -> None:
    store = backend.store
    video_id = uploaded(store)
    for tries in range(3):
        [entry] = store.hold_outbox(limit=10, hold=HOUR)
        assert entry.tries == tries
        store.mark_unsent(entry, delay=10 * SECOND)
        assert store.hold_outbox(limit=10, hold=HOUR) == []
        backend.pass_time(11 * SECOND)
    assert record_of(store, video_id).job.enqueued_at is None


def test_a_relay_that_lost_its_hold_cannot_drop_or_delay_the_entry(backend: Backend) -> None:
    store = backend.store
    video_id = uploaded(store)
    [slow] = store.hold_outbox(limit=10, hold=MINUTE)
    backend.pass_time(MINUTE)
    [quick] = store.hold_outbox(limit=10, hold=timedelta(0))
    store.mark_unsent(slow, delay=DAY)
    store.mark_sent(slow, broker="queue")
    assert due(store) == [video_id]
    assert record_of(store, video_id).job.enqueued_to == "queue"
    [entry] = store.hold_outbox(limit=10, hold=timedelta(0))
    assert entry.id == quick.id
    assert entry.tries == 0


def test_a_newer_obligation_survives_the_sending_of_the_older_one(store: Store) -> None:
    """An interrupted job gets a new outbox entry. After that, the relay marks the job's old entry as sent."""
    video_id = uploaded(store)
    [older] = store.hold_outbox(limit=10, hold=MINUTE)
    assert interrupt(store, claim(store, video_id))
    store.mark_sent(older, broker="queue")
    assert due(store) == [video_id]
    [newer] = store.hold_outbox(limit=10, hold=MINUTE)
    # The message needs a new id, because a FIFO queue drops a message with the id of an earlier message.
    assert newer.id != older.id


def test_a_newer_obligation_is_not_held_by_the_older_ones_relay(store: Store) -> None:
    video_id = uploaded(store)
    store.hold_outbox(limit=10, hold=HOUR)
    store.cancel(video_id)
    store.retry(video_id, by="ada")
    assert due(store) == [video_id]


def test_a_job_has_at_most_one_message_in_the_outbox(backend: Backend) -> None:
    store = backend.store
    video_id = uploaded(store)
    for _ in range(3):
        store.cancel(video_id)
        store.retry(video_id, by="ada")
        backend.pass_time(HOUR)
        store.requeue_unclaimed(enqueued_before=SECOND, not_on=["x"], limit=10)
        assert due(store) == [video_id]


def test_what_is_due_longest_goes_first(backend: Backend) -> None:
    store = backend.store
    videos = []
    for _ in range(4):
        videos.append(uploaded(store))
        backend.pass_time(SECOND)
    first = store.hold_outbox(limit=2, hold=MINUTE)
    second = store.hold_outbox(limit=2, hold=MINUTE)
    assert [entry.video_id for entry in (*first, *second)] == videos


def test_what_waits_for_a_backoff_is_not_sent_before(backend: Backend) -> None:
    store = backend.store
    lease = processing(store)
    assert fail(store, lease)
    assert store.hold_outbox(limit=10, hold=MINUTE) == []
    backend.pass_time(10 * SECOND)
    assert [entry.video_id for entry in store.hold_outbox(limit=10, hold=MINUTE)] == [lease.video_id]


def test_noting_a_video_that_is_gone_harms_nothing(backend: Backend) -> None:
    store = backend.store
    video_id = uploaded(store)
    [entry] = store.hold_outbox(limit=10, hold=MINUTE)
    store.delete(video_id, by="ada", grace=timedelta(0))
    store.deletion_done(store.hold_deletions(limit=10, hold=MINUTE))
    store.purge(events_before=DAY, dead_letters_before=DAY, limit=10)
    store.mark_sent(entry, broker="queue")
    store.mark_unsent(entry, delay=SECOND)
    assert store.hold_outbox(limit=10, hold=MINUTE) == []


def test_a_retry_sends_the_new_generation(store: Store) -> None:
    video_id = failed(store)
    store.retry(video_id, by="ada")
    [entry] = store.hold_outbox(limit=10, hold=MINUTE)
    assert entry.generation == 2
