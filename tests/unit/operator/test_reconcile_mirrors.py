"""Tests how the reconciler creates mirrors and updates the status of VideoJobs."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from anb_core.domain.errors import Unavailable
from anb_core.domain.status import Status
from anb_operator.resync import Resync
from anb_operator.videojob import VideoJob
from anb_operator.workqueue import WorkQueue
from tests.support.given import DAY, HOUR, SECOND, claim, new_video, processed, processing, uploaded, uploading
from tests.unit.operator.conftest import KUBERNETES_AWAY, SOURCE, World


def test_a_new_video_gets_a_videojob_of_its_name_with_its_status(world: World) -> None:
    video_id = uploading(world.store).video.id
    world.follow()
    videojob = world.cluster.get(video_id)
    assert videojob.spec.video_id == video_id
    assert videojob.metadata.labels == {
        "app.kubernetes.io/managed-by": "anb-operator",
        "app.kubernetes.io/instance": "anb",
    }
    assert (videojob.status.phase, videojob.status.video_id) == (Status.UPLOADING, video_id)


def test_an_up_to_date_status_is_not_written_again(world: World) -> None:
    processing(world.store)
    world.follow()
    world.cluster.writes.clear()
    world.follow()
    assert world.cluster.writes == []


def test_only_changed_fields_are_written(world: World) -> None:
    lease = processing(world.store)
    world.follow()
    world.cluster.writes.clear()
    world.store.report_progress(lease, 0.42)
    world.follow()
    assert world.cluster.writes == [f"status {lease.video_id}"]
    assert world.cluster.get(lease.video_id).status.progress == "42%"


def test_a_video_whose_id_is_no_name_gets_another_name(world: World) -> None:
    new = new_video("An_Id.that-is-no-name")
    world.store.begin_upload(new, lifetime=HOUR)
    world.follow()
    [name] = world.cluster.names
    assert name.startswith("video-")
    assert world.cluster.get(name).status.video_id == new.id


def test_a_name_that_is_taken_by_another_video_is_left_alone(world: World) -> None:
    video_id = uploading(world.store).video.id
    world.cluster.apply(video_id, SOURCE)
    world.follow()
    assert world.cluster.get(video_id).spec.source is not None


def test_an_unfinished_mirror_that_was_deleted_comes_back_and_a_finished_one_does_not(world: World) -> None:
    unfinished, finished = uploaded(world.store), processed(world.store)
    world.follow()
    for video_id in (unfinished, finished):
        world.cluster.delete(video_id)
        world.reconcile(video_id)
    assert world.cluster.names == {unfinished}


def test_a_mirror_that_is_made_while_all_are_listed_is_known_afterwards(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = world.cluster.list_videojobs

    async def slow() -> Sequence[VideoJob]:
        listed = await everything()
        await world.reconciler.reconcile(video_id, news=True)
        return listed

    async def scenario() -> None:
        queue = WorkQueue()
        resync = Resync(world.cluster, world.store, world.cache, queue, threads=world.threads, report=lambda _: None)
        await resync.fill_cache()

    video_id = uploaded(world.store)
    monkeypatch.setattr(world.cluster, "list_videojobs", slow)
    asyncio.run(scenario())
    assert world.cache.of(video_id) == [world.cluster.get(video_id)]


def test_a_deleted_video_takes_its_mirror_along(world: World) -> None:
    video_id = processed(world.store)
    world.follow()
    world.store.delete(video_id, by="ada", grace=DAY)
    world.follow()
    assert world.cluster.names == set()


def test_a_mirror_without_a_video_is_deleted_without_an_event(world: World) -> None:
    video_id = uploaded(world.store)
    world.follow()
    world.store.delete(video_id, by="ada", grace=DAY)
    world.reconcile(video_id)
    assert world.cluster.names == set()


def test_a_mirror_that_a_person_made_goes_with_its_video_too(world: World) -> None:
    video_id = uploaded(world.store)
    world.cluster.apply(video_id, {"videoId": video_id})
    world.follow()
    world.store.delete(video_id, by="ada", grace=DAY)
    world.follow()
    assert world.cluster.names == set()


def test_a_mirror_that_was_never_written_to_goes_with_its_video_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise KUBERNETES_AWAY

    video_id = uploaded(world.store)
    with monkeypatch.context() as patch:
        patch.setattr(world.cluster, "patch_status", away)
        with pytest.raises(Unavailable):
            world.follow()
    assert world.cluster.get(video_id).status.video_id is None
    world.store.delete(video_id, by="ada", grace=DAY)
    world.follow()
    assert world.cluster.names == set()


def test_no_mirror_is_made_where_none_is_wanted(world: World) -> None:
    world.policy = replace(world.policy, mirror=False)
    world.start()
    uploaded(world.store)
    world.follow()
    assert world.cluster.names == set()


def test_a_video_that_is_too_old_gets_no_mirror(world: World) -> None:
    world.policy = replace(world.policy, mirror_max_age=HOUR)
    world.start()
    video_id = uploaded(world.store)
    world.clock.advance(HOUR + SECOND)
    claim(world.store, video_id)
    world.follow()
    assert world.cluster.names == set()


def test_a_videojob_for_a_video_that_is_not_there_waits_for_it(world: World) -> None:
    new = new_video()
    world.cluster.apply(new.id, {"videoId": new.id})
    world.reconcile(new.id)
    error = world.cluster.get(new.id).status.error
    assert error is not None
    assert error.code == "video_not_found"
    world.store.begin_upload(new, lifetime=HOUR)
    world.follow()
    status = world.cluster.get(new.id).status
    assert (status.phase, status.error) == (Status.UPLOADING, None)
