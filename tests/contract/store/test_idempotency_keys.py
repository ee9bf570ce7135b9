"""Tests of the Idempotency-Keys of uploads."""

import pytest

from anb_core.domain.model import Idempotency, Record
from anb_core.ports.store import Replay, Store
from tests.support.given import DAY, MINUTE, SECOND, SOURCE, new_video, uploading
from tests.support.stores import Backend

KEY = Idempotency("key-1", lifetime=DAY)


def test_a_key_in_use_tells_of_the_upload_in_progress(store: Store) -> None:
    first = uploading(store, idempotency=KEY)
    assert store.begin_upload(new_video(), lifetime=MINUTE, idempotency=KEY) == Replay(first, None)
    assert len(store.listing(owner=None)) == 1


def test_a_key_in_use_replays_the_finished_upload_with_its_fingerprint(store: Store) -> None:
    video_id = uploading(store, idempotency=KEY).video.id
    finished = store.complete_upload(video_id, SOURCE, fingerprint="f1")
    assert store.begin_upload(new_video(), lifetime=MINUTE, idempotency=KEY) == Replay(finished, "f1")


IMPATIENT = Idempotency("key-1", lifetime=DAY, silence=20 * SECOND)


def test_an_upload_that_is_renewed_keeps_its_key_and_tells_for_how_long(backend: Backend) -> None:
    store = backend.store
    first = uploading(store, idempotency=IMPATIENT)
    backend.pass_time(19 * SECOND)
    assert store.renew_upload(first.video.id, lifetime=MINUTE)
    backend.pass_time(12 * SECOND)

    replay = store.begin_upload(new_video(), lifetime=MINUTE, idempotency=IMPATIENT)

    assert isinstance(replay, Replay)
    assert (replay.record.video.id, replay.fingerprint) == (first.video.id, None)
    assert replay.held is not None
    assert 6 * SECOND < replay.held <= 8 * SECOND


def test_an_upload_that_was_silent_for_too_long_gives_its_key_up(backend: Backend) -> None:
    store = backend.store
    first = uploading(store, idempotency=IMPATIENT)
    backend.pass_time(20 * SECOND)

    second = store.begin_upload(new_video(), lifetime=MINUTE, idempotency=IMPATIENT)

    assert isinstance(second, Record)
    assert store.get(first.video.id) is None
    assert not store.renew_upload(first.video.id, lifetime=MINUTE)
    assert {one.key for one in backend.deletions()} == {first.video.source_key}
    finished = store.complete_upload(second.video.id, SOURCE, fingerprint="f1")
    backend.pass_time(20 * SECOND)
    replay = store.begin_upload(new_video(), lifetime=MINUTE, idempotency=IMPATIENT)
    assert isinstance(replay, Replay)
    assert (replay.record.video.id, replay.fingerprint, replay.held) == (finished.video.id, "f1", None)


def test_a_silent_upload_keeps_its_key_from_whoever_has_another_owner_or_no_key(backend: Backend) -> None:
    store = backend.store
    first = uploading(store, owner="ada", idempotency=IMPATIENT)
    backend.pass_time(20 * SECOND)
    store.begin_upload(new_video(owner="bob"), lifetime=MINUTE, idempotency=IMPATIENT)
    store.begin_upload(new_video(owner="ada"), lifetime=MINUTE)
    assert store.get(first.video.id) is not None


def test_a_key_belongs_to_one_owner(store: Store) -> None:
    uploading(store, owner="ada", idempotency=KEY)
    assert isinstance(store.begin_upload(new_video(owner="bob"), lifetime=MINUTE, idempotency=KEY), Record)


def test_an_expired_key_can_be_used_anew(backend: Backend) -> None:
    store = backend.store
    first = uploading(store, idempotency=KEY)
    store.complete_upload(first.video.id, SOURCE, fingerprint="f1")
    backend.pass_time(DAY + SECOND)
    second = store.begin_upload(new_video(), lifetime=MINUTE, idempotency=KEY)
    assert isinstance(second, Record)
    assert store.begin_upload(new_video(), lifetime=MINUTE, idempotency=KEY) == Replay(second, None)


@pytest.mark.parametrize("end", ["abandon", "cancel", "delete", "expire"])
def test_the_key_of_an_upload_that_will_never_be_finished_is_free_again(backend: Backend, end: str) -> None:
    store = backend.store
    video_id = uploading(store, idempotency=KEY).video.id
    match end:
        case "abandon":
            store.abandon_upload(video_id)
        case "cancel":
            store.cancel(video_id)
        case "delete":
            store.delete(video_id, by="ada", grace=DAY)
        case _:
            backend.pass_time(2 * MINUTE)
            store.end_expired_uploads(limit=10)
    assert isinstance(store.begin_upload(new_video(), lifetime=MINUTE, idempotency=KEY), Record)


def test_the_key_of_a_cancelled_video_still_replays_it(store: Store) -> None:
    video_id = uploading(store, idempotency=KEY).video.id
    store.complete_upload(video_id, SOURCE, fingerprint="f1")
    cancelled = store.cancel(video_id)
    assert store.begin_upload(new_video(), lifetime=MINUTE, idempotency=KEY) == Replay(cancelled, "f1")


def test_deleting_a_video_frees_its_key(store: Store) -> None:
    video_id = uploading(store, idempotency=KEY).video.id
    store.complete_upload(video_id, SOURCE, fingerprint="f1")
    store.delete(video_id, by="ada", grace=DAY)
    assert isinstance(store.begin_upload(new_video(), lifetime=MINUTE, idempotency=KEY), Record)
