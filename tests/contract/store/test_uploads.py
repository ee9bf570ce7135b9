"""Tests of uploads: how they begin, are renewed, are completed, and are abandoned."""

from datetime import timedelta

import pytest

from anb_core.adapters.system import new_id
from anb_core.domain.claim import Reason
from anb_core.domain.edit import EditSpec, Switch
from anb_core.domain.errors import Conflict, NotFound
from anb_core.domain.model import EventKind, Idempotency, Record, Source
from anb_core.domain.status import Status
from anb_core.ports.store import Claimed, Dropped, Replay, Store, Unknown
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
    failed,
    new_video,
    processed,
    processing,
    record_of,
    uploaded,
    uploading,
)
from tests.support.stores import Backend

KEY = Idempotency("key-1", lifetime=DAY)


def test_an_upload_begins_as_uploading_without_a_message_in_the_outbox(store: Store) -> None:
    new = new_video()
    record = store.begin_upload(new, lifetime=MINUTE)
    assert isinstance(record, Record)
    assert record == store.get(new.id)
    video, job = record.video, record.job
    assert (video.owner, video.title, video.edit, video.file_name) == (new.owner, new.title, new.edit, new.file_name)
    assert (video.source_key, video.owned, video.source) == (new.source_key, True, None)
    assert (job.id, job.status, job.generation, job.fence, job.attempts) == (new.task_id, Status.UPLOADING, 1, 0, 0)
    assert abs(store.now() - video.created_at) < timedelta(seconds=30)
    assert due(store) == []


def test_a_complete_upload_is_uploaded_and_has_one_message_in_the_outbox(store: Store) -> None:
    begun = uploading(store)
    record = store.complete_upload(begun.video.id, SOURCE)
    assert record == store.get(begun.video.id)
    assert record.job.status is Status.UPLOADED
    assert record.video.source == SOURCE
    assert record.job.version > begun.job.version
    assert due(store) == [begun.video.id]


def test_completing_again_with_the_same_source_changes_nothing(store: Store) -> None:
    video_id = uploaded(store)
    before = record_of(store, video_id)
    last = store.last_event_id()
    assert store.complete_upload(video_id, SOURCE) == before
    assert store.last_event_id() == last
    lease = claim(store, video_id)
    assert store.complete_upload(video_id, SOURCE).job.lease_owner == lease.attempt_id


def test_completing_again_with_another_source_is_refused(store: Store) -> None:
    video_id = uploaded(store)
    with pytest.raises(Conflict) as refused:
        store.complete_upload(video_id, Source(1))
    assert refused.value.code == "wrong_status"


def test_completing_may_replace_title_and_edit(store: Store) -> None:
    video_id = uploading(store).video.id
    edit = EditSpec(intro=Switch(enabled=False))
    store.complete_upload(video_id, SOURCE, title="Better", edit=edit)
    video = record_of(store, video_id).video
    assert (video.title, video.edit) == ("Better", edit)


def test_completing_leaves_title_and_edit_that_it_does_not_name(store: Store) -> None:
    begun = uploading(store)
    video = store.complete_upload(begun.video.id, SOURCE).video
    assert (video.title, video.edit) == (begun.video.title, begun.video.edit)


def test_an_upload_that_was_cancelled_cannot_be_completed(store: Store) -> None:
    video_id = uploading(store).video.id
    store.cancel(video_id)
    with pytest.raises(Conflict) as refused:
        store.complete_upload(video_id, SOURCE)
    assert refused.value.code == "wrong_status"
    assert not store.renew_upload(video_id, lifetime=MINUTE)
    assert due(store) == []


def test_an_upload_that_was_deleted_or_never_began_is_not_found(store: Store) -> None:
    video_id = uploading(store).video.id
    store.delete(video_id, by="ada", grace=DAY)
    for unknown in (video_id, "unknown"):
        with pytest.raises(NotFound) as refused:
            store.complete_upload(unknown, SOURCE)
        assert refused.value.code == "video_not_found"
        assert not store.renew_upload(unknown, lifetime=MINUTE)


def test_an_abandoned_upload_is_gone_and_its_object_is_deleted_now_and_a_day_later(backend: Backend) -> None:
    store = backend.store
    begun = uploading(store)
    store.abandon_upload(begun.video.id)
    assert store.get(begun.video.id) is None
    assert backend.deletions() == [
        (begun.video.source_key, "abandoned_upload", 0),
        (begun.video.source_key, "abandoned_upload", 24 * 60),
    ]
    with pytest.raises(NotFound):
        store.complete_upload(begun.video.id, SOURCE)
    event = store.events_after(0)[-1]
    assert (event.kind, event.video_id) == (EventKind.DELETED, begun.video.id)
    assert event.version > begun.job.version


def test_abandoning_what_is_no_unfinished_upload_changes_nothing(backend: Backend) -> None:
    store = backend.store
    videos = [uploaded(store), processing(store).video_id, failed(store), processed(store)]
    before = [store.get(video_id) for video_id in videos]
    scheduled = backend.deletions()
    for video_id in (*videos, "unknown"):
        store.abandon_upload(video_id)
    assert [store.get(video_id) for video_id in videos] == before
    assert backend.deletions() == scheduled


def test_an_upload_that_is_not_renewed_is_abandoned_by_the_sweep(backend: Backend) -> None:
    store = backend.store
    kept, forgotten = uploading(store).video.id, uploading(store).video.id
    backend.pass_time(50 * SECOND)
    assert store.end_expired_uploads(limit=10) == 0
    assert store.renew_upload(kept, lifetime=MINUTE)
    backend.pass_time(20 * SECOND)
    assert store.end_expired_uploads(limit=10) == 1
    assert store.get(forgotten) is None
    assert record_of(store, kept).job.status is Status.UPLOADING
    assert not store.renew_upload(forgotten, lifetime=MINUTE)
    assert len(backend.deletions()) == 2


def test_the_sweep_abandons_no_more_uploads_than_its_limit(backend: Backend) -> None:
    for _ in range(3):
        uploading(backend.store)
    backend.pass_time(2 * MINUTE)
    assert [backend.store.end_expired_uploads(limit=2) for _ in range(3)] == [2, 1, 0]


def test_a_late_upload_can_be_completed_until_the_sweep_comes(backend: Backend) -> None:
    video_id = uploading(backend.store).video.id
    backend.pass_time(HOUR)
    assert backend.store.complete_upload(video_id, SOURCE).job.status is Status.UPLOADED
    assert backend.store.end_expired_uploads(limit=10) == 0


def test_beginning_the_same_upload_again_gives_the_same_record(store: Store) -> None:
    new = new_video()
    first = store.begin_upload(new, lifetime=MINUTE)
    assert isinstance(first, Record)
    assert store.begin_upload(new, lifetime=MINUTE) == first
    for _ in range(2):
        assert store.begin_upload(new, lifetime=MINUTE, idempotency=KEY) == first
    assert len(store.events_after(0)) == 1
    # The repeated calls stored their idempotency key, although the first call of `begin_upload` had no key.
    assert store.begin_upload(new_video(), lifetime=MINUTE, idempotency=KEY) == Replay(first, None)


def test_an_upload_that_is_complete_is_not_begun_again(store: Store) -> None:
    new = new_video()
    store.begin_upload(new, lifetime=MINUTE, idempotency=KEY)
    store.complete_upload(new.id, SOURCE)
    for key in (None, KEY):
        with pytest.raises(Conflict) as refused:
            store.begin_upload(new, lifetime=MINUTE, idempotency=key)
        assert refused.value.code == "video_exists"


def test_an_id_that_is_taken_is_refused(store: Store) -> None:
    taken = new_video(uploaded(store))
    with pytest.raises(Conflict) as refused:
        store.begin_upload(taken, lifetime=MINUTE, idempotency=KEY)
    assert refused.value.code == "video_exists"
    # The refused call must not store the idempotency key, so another upload can use the key.
    assert isinstance(store.begin_upload(new_video(), lifetime=MINUTE, idempotency=KEY), Record)


def test_the_id_of_a_deleted_video_is_taken(store: Store) -> None:
    video_id = uploading(store).video.id
    store.delete(video_id, by="ada", grace=DAY)
    with pytest.raises(Conflict) as refused:
        store.begin_upload(new_video(video_id), lifetime=MINUTE)
    assert refused.value.code == "video_exists"


def test_another_owner_cannot_go_on_with_an_upload(store: Store) -> None:
    begun = uploading(store, owner="ada")
    with pytest.raises(Conflict):
        store.begin_upload(new_video(begun.video.id, owner="bob"), lifetime=MINUTE)


def test_an_id_whose_upload_was_abandoned_is_free_once_its_object_is_gone_for_good(backend: Backend) -> None:
    store = backend.store
    video = uploading(store).video
    store.abandon_upload(video.id)
    with pytest.raises(Conflict):
        store.begin_upload(new_video(video.id), lifetime=MINUTE)
    backend.pass_time(2 * DAY)
    store.deletion_done(store.hold_deletions(limit=10, hold=MINUTE))
    assert isinstance(store.begin_upload(new_video(video.id), lifetime=MINUTE), Record)


def test_a_message_of_an_unfinished_upload_wakes_nothing(store: Store) -> None:
    video_id = uploading(store).video.id
    assert store.claim(video_id, generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY) == Dropped(
        Reason.UPLOADING
    )
    assert (
        store.claim("unknown", generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY) == Unknown()
    )
    store.complete_upload(video_id, SOURCE)
    assert isinstance(
        store.claim(video_id, generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY), Claimed
    )
