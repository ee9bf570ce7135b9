"""Tests how the reconciler handles a VideoJob that a person deletes."""

from collections.abc import Sequence

import pytest

from anb_core.domain.errors import Unavailable
from anb_core.domain.status import Status
from anb_operator.kube import KubeRefused
from anb_operator.planning import GIVE_UP
from anb_operator.videojob import VideoJob
from tests.support.given import claim, record_of, reject, result, uploaded
from tests.unit.operator.conftest import DATABASE_AWAY, KEY, SOURCE, World, phase, submit, video_of


def test_deleting_an_unfinished_submission_cancels_it_and_leaves_nothing(world: World) -> None:
    video_id = submit(world)
    claim(world.store, video_id)
    world.follow()
    world.cluster.delete("clip")
    world.follow()
    world.follow()
    assert record_of(world.store, video_id).job.status is Status.CANCELLED
    assert world.cluster.names == set()


def test_a_deletion_that_arrives_in_the_middle_of_a_turn_cancels_in_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    video_id = submit(world)
    claim(world.store, video_id)
    world.while_the_store_is_asked(monkeypatch, lambda: world.cluster.delete("clip"))
    world.follow()
    assert world.cluster.names == {"clip"}
    world.follow()
    assert record_of(world.store, video_id).job.status is Status.CANCELLED
    assert world.cluster.names == set()


def test_nothing_is_submitted_before_the_finalizer_is_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = world.cluster.set_finalizers

    async def late(videojob: VideoJob, finalizers: Sequence[str]) -> VideoJob:
        world.cluster.delete("clip")
        return await hold(videojob, finalizers)

    monkeypatch.setattr(world.cluster, "set_finalizers", late)
    submit(world)
    assert world.cluster.names == set()
    assert world.store.listing(owner=None) == []


def test_nothing_is_tried_again_before_the_finalizer_is_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    video_id = submit(world)
    reject(world.store, claim(world.store, video_id))
    world.follow()
    world.cluster.apply("clip", {**SOURCE, "retry": "a"})
    world.while_the_store_is_asked(monkeypatch, lambda: world.cluster.delete("clip"))
    world.follow()
    world.follow()
    assert record_of(world.store, video_id).job.status is Status.CANCELLED
    assert world.cluster.names == set()


def test_a_finalizer_that_somebody_takes_off_at_once_swallows_no_token_and_tells_no_cancel(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = world.cluster.set_finalizers

    async def taken_off(videojob: VideoJob, finalizers: Sequence[str]) -> VideoJob:
        held = await hold(videojob, finalizers)
        world.show(await hold(held, []))
        return held

    world.objects.put(KEY, b"a video")
    video_id = video_of(world.cluster.apply("clip", SOURCE))
    for spec in (SOURCE, {**SOURCE, "retry": "a"}):
        before = world.cluster.apply("clip", spec)
        with monkeypatch.context() as patch:
            patch.setattr(world.cluster, "set_finalizers", taken_off)
            with pytest.raises(KubeRefused):
                world.reconcile(video_id)
        assert world.cluster.get("clip").status == before.status
        world.reconcile(video_id)
        assert phase(world, "clip") is Status.UPLOADED
        reject(world.store, claim(world.store, video_id))
        world.follow()
    assert record_of(world.store, video_id).job.generation == 2


def test_a_deletion_in_the_middle_of_a_submission_cancels_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.while_the_store_is_asked(monkeypatch, lambda: world.cluster.delete("clip"))
    video_id = submit(world)
    world.follow()
    assert record_of(world.store, video_id).job.status is Status.CANCELLED
    assert world.cluster.names == set()


def test_a_videojob_that_is_deleted_before_its_submission_is_not_submitted(world: World) -> None:
    world.objects.put(KEY, b"a video")
    video_id = video_of(world.cluster.apply("clip", SOURCE))
    world.cluster.objects["video", "clip"]["metadata"]["finalizers"] = ["example.com/other"]
    world.cluster.delete("clip")
    world.reconcile(video_id)
    assert world.cluster.get("clip").metadata.finalizers == ("example.com/other",)
    assert world.store.listing(owner=None) == []


def test_a_refused_videojob_can_be_deleted_at_once(world: World) -> None:
    video_id = video_of(world.cluster.apply("clip", {"source": {"key": "private/clip.mp4"}}))
    world.reconcile(video_id)
    world.cluster.delete("clip")
    world.reconcile(video_id)
    assert world.cluster.names == set()


def test_deleting_a_finished_submission_changes_nothing_in_the_system(world: World) -> None:
    video_id = submit(world)
    lease = claim(world.store, video_id)
    world.store.publish(lease, result(lease))
    world.follow()
    before = record_of(world.store, video_id)
    world.cluster.delete("clip")
    world.reconcile(video_id)
    assert record_of(world.store, video_id) == before
    assert world.cluster.names == set()


def test_deleting_the_mirror_of_an_upload_cancels_nothing(world: World) -> None:
    video_id = uploaded(world.store)
    world.follow()
    world.cluster.delete(video_id)
    world.follow()
    assert record_of(world.store, video_id).job.status is Status.UPLOADED


@pytest.mark.parametrize("fault", [DATABASE_AWAY, RuntimeError("no such table: videos")], ids=["away", "wrong"])
def test_a_deletion_waits_for_the_database_only_for_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fail(_: str) -> None:
        raise fault

    video_id = submit(world)
    world.cluster.delete("clip")
    monkeypatch.setattr(world.store, "histories", fail)
    with pytest.raises(type(fault)):
        world.reconcile(video_id)
    assert world.cluster.names == {"clip"}
    world.clock.advance(GIVE_UP)
    with pytest.raises(type(fault)):
        world.reconcile(video_id)
    assert world.cluster.names == set()
    [*_, event] = world.cluster.events.values()
    assert event.reason == "NotCancelled"
    assert video_id in event.message


def test_a_deletion_that_only_foreign_finalizers_hold_is_left_alone(world: World) -> None:
    video_id = uploaded(world.store)
    world.follow()
    world.cluster.objects["video", video_id]["metadata"]["finalizers"] = ["example.com/other"]
    world.cluster.delete(video_id)
    world.clock.advance(GIVE_UP)
    world.store.fault = DATABASE_AWAY
    with pytest.raises(Unavailable):
        world.reconcile(video_id)
    assert world.cluster.event_reasons == []
