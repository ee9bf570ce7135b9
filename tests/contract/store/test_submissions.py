"""Tests of the submission of objects that are already in the bucket."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from anb_core.domain.adoption import KnownSource
from anb_core.domain.errors import Conflict, NotFound
from anb_core.domain.model import Source, Video
from anb_core.domain.status import Status
from anb_core.ports.store import Store
from tests.support.given import DAY, MINUTE, SOURCE, claim, due, new_video, record_of, reject, sent, uploaded, uploading
from tests.support.stores import Backend


def test_an_existing_object_is_uploaded_at_once_and_only_once(store: Store) -> None:
    new = replace(new_video(owned=False), receipts={"one": {"generation": 1}})
    record, created = store.submit_existing(new, SOURCE)
    assert created
    assert (record.job.status, record.video.source, record.video.owned) == (Status.UPLOADED, SOURCE, False)
    assert record_of(store, new.id).job.receipts == new.receipts
    assert due(store) == [new.id]
    assert store.submit_existing(new, SOURCE) == (record, False)
    assert len(store.events_after(0)) == 1
    sent(store, new.id)
    assert store.submit_existing(new, SOURCE)[1] is False
    assert due(store) == []


def _abandoned(store: Store) -> Video:
    video = uploading(store).video
    store.abandon_upload(video.id)
    return video


def _deleted(store: Store) -> Video:
    video_id = uploaded(store)
    video = record_of(store, video_id).video
    store.delete(video_id, by="ada", grace=DAY)
    return video


@pytest.mark.parametrize("made", [lambda store: record_of(store, uploaded(store)).video, _abandoned, _deleted])
def test_an_object_that_is_or_was_another_videos_upload_cannot_be_submitted(
    backend: Backend, made: Callable[[Store], Video]
) -> None:
    video = made(backend.store)
    before = backend.deletions()
    new = replace(new_video(owned=False, owner="mallory"), source_key=video.source_key)
    with pytest.raises(Conflict) as refused:
        backend.store.submit_existing(new, SOURCE)
    assert refused.value.code == "source_taken"
    assert backend.store.get(new.id) is None
    assert backend.deletions() == before


def test_an_object_that_nobody_uploaded_may_become_two_videos(store: Store) -> None:
    first = new_video(owned=False)
    second = replace(new_video(owned=False), source_key=first.source_key)
    assert store.submit_existing(first, SOURCE)[1]
    assert store.submit_existing(second, SOURCE)[1]


def test_the_sources_of_all_videos_are_known_also_of_deleted_ones_and_of_uploads_that_wait_for_their_deletion(
    store: Store,
) -> None:
    video, running, gone = record_of(store, uploaded(store)).video, uploading(store).video, _abandoned(store)
    first = new_video(owned=False)
    second = replace(new_video(owned=False), source_key=first.source_key)
    store.submit_existing(first, SOURCE)
    store.submit_existing(second, Source(7))
    store.delete(second.id, by="ada", grace=DAY)

    keys = [video.source_key, running.source_key, gone.source_key, first.source_key, "uploads/unknown.mp4"]
    assert set(store.known_sources(keys)) == {
        KnownSource(video.source_key, video.id, None, deleted=False),
        KnownSource(running.source_key, running.id, None, deleted=False),
        KnownSource(gone.source_key, gone.id, None, deleted=True),
        KnownSource(first.source_key, first.id, SOURCE.size, deleted=False),
        KnownSource(first.source_key, second.id, 7, deleted=True),
    }
    assert list(store.known_sources([])) == []


def test_an_existing_object_of_another_owner_is_shown_as_it_is(store: Store) -> None:
    video_id = uploaded(store, owner="ada")
    record, created = store.submit_existing(new_video(video_id, owner="bob"), SOURCE)
    assert (record.video.owner, created) == ("ada", False)


def test_a_deleted_video_is_not_submitted_again(store: Store) -> None:
    video_id = uploaded(store)
    store.delete(video_id, by="ada", grace=DAY)
    with pytest.raises(NotFound):
        store.submit_existing(new_video(video_id), SOURCE)


def test_an_object_that_is_not_ours_is_never_deleted(backend: Backend) -> None:
    store = backend.store
    rejected = new_video(owned=False)
    store.submit_existing(rejected, SOURCE)
    assert reject(store, claim(store, rejected.id))
    store.delete(rejected.id, by="ada", grace=DAY)
    cancelled = new_video(owned=False)
    store.begin_upload(cancelled, lifetime=MINUTE)
    store.cancel(cancelled.id)
    abandoned = new_video(owned=False)
    store.begin_upload(abandoned, lifetime=MINUTE)
    store.abandon_upload(abandoned.id)
    assert {one.key for one in backend.deletions()}.isdisjoint(
        {rejected.source_key, cancelled.source_key, abandoned.source_key}
    )
