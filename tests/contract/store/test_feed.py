from anb_core.domain.model import EventKind, JobEvent
from anb_core.domain.status import Status
from anb_core.ports.store import Store
from tests.support.given import (
    DAY,
    SECOND,
    SOURCE,
    claim,
    fail,
    interrupt,
    processing,
    record_of,
    result,
    uploaded,
    uploading,
)
from tests.support.stores import Sql


def test_the_feed_tells_the_whole_story_in_order(store: Store) -> None:
    begun = uploading(store)
    video_id = begun.video.id
    store.complete_upload(video_id, SOURCE)
    first = claim(store, video_id)
    assert store.report_progress(first, 0.5)
    assert interrupt(store, first)
    second = claim(store, video_id)
    assert store.publish(second, result(second))
    store.delete(video_id, by="ada", grace=DAY)
    events = store.events_after(0)
    assert [(event.kind, event.status) for event in events] == [
        (EventKind.STATUS, Status.UPLOADING),
        (EventKind.STATUS, Status.UPLOADED),
        (EventKind.STATUS, Status.PROCESSING),
        (EventKind.PROGRESS, Status.PROCESSING),
        (EventKind.ATTEMPT, Status.PROCESSING),
        (EventKind.ATTEMPT, Status.PROCESSING),
        (EventKind.STATUS, Status.PROCESSED),
        (EventKind.DELETED, Status.PROCESSED),
    ]
    assert {(event.video_id, event.job_id, event.owner) for event in events} == {(video_id, begun.job.id, "ada")}
    ids, versions = [event.id for event in events], [event.version for event in events]
    assert ids == sorted(set(ids))
    assert versions == sorted(set(versions))
    assert all(abs(store.now() - event.at) < 60 * SECOND for event in events)


def test_the_event_is_the_last_statement_of_its_transaction(sql: Sql) -> None:
    """The test only writes events. The database fixture checks the order of the statements after the test."""
    store = sql.store
    lost = claim(store, uploaded(store))
    assert store.report_progress(lost, 0.5)
    sql.pass_time(DAY)
    lease = claim(store, lost.video_id)
    assert fail(store, lease)
    store.cancel(lease.video_id)
    store.retry(lease.video_id, by="ada")
    store.delete(lease.video_id, by="ada", grace=DAY)
    store.abandon_upload(uploading(store).video.id)
    assert sql.check_events_come_last() == len(store.events_after(0)) == 11


def test_an_event_carries_the_version_that_readers_find_on_the_job(store: Store) -> None:
    lease = processing(store)
    for step in (0.1, 0.2):
        assert store.report_progress(lease, step)
        assert store.events_after(0)[-1].version == record_of(store, lease.video_id).job.version
    assert fail(store, lease)
    assert store.events_after(0)[-1].version == record_of(store, lease.video_id).job.version


def test_a_reader_goes_on_where_it_was(store: Store) -> None:
    for _ in range(3):
        uploaded(store)
    everything = store.events_after(0)
    seen: list[JobEvent] = []
    last = 0
    while page := store.events_after(last, limit=4):
        assert len(page) <= 4
        seen += page
        last = page[-1].id
    assert seen == everything
    assert store.last_event_id() == last
    assert store.events_after(last) == []


def test_a_reader_may_follow_one_video(store: Store) -> None:
    mine, other = uploaded(store), uploaded(store)
    claim(store, mine)
    claim(store, other)
    events = store.events_after(0, video_id=mine)
    assert len(events) == 3
    assert {event.video_id for event in events} == {mine}
    assert store.events_after(events[1].id, video_id=mine) == events[2:]


def test_an_empty_feed_has_no_last_event(store: Store) -> None:
    assert store.last_event_id() == 0
    assert store.events_after(0) == []


def test_named_readers_keep_their_places_apart(store: Store) -> None:
    assert store.cursor("operator") is None
    store.move_cursor("operator", 5)
    store.move_cursor("page", 9)
    store.move_cursor("operator", 7)
    assert (store.cursor("operator"), store.cursor("page")) == (7, 9)
