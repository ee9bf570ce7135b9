"""Tests how the reconciler cancels the video of a VideoJob."""

import pytest

from anb_core.domain.status import Status
from anb_operator.kube import KubeRefused
from anb_operator.videojob import VideoJob
from tests.support.given import HOUR, claim, new_video, record_of, reject
from tests.unit.operator.conftest import SOURCE, World, patch_refused, phase, submit


def test_cancel_is_done_once_so_that_a_later_retry_by_the_api_holds(world: World) -> None:
    video_id = submit(world)
    world.cluster.apply("clip", {**SOURCE, "cancel": True})
    world.reconcile(video_id)
    assert phase(world, "clip") is Status.CANCELLED
    world.store.retry(video_id, by="ada")
    world.follow()
    assert phase(world, "clip") is Status.UPLOADED


def test_a_cancel_that_was_acted_on_is_not_when_something_else_changes_and_is_once_it_was_taken_back(
    world: World,
) -> None:
    video_id = submit(world)
    world.cluster.apply("clip", {**SOURCE, "cancel": True})
    world.follow()
    world.store.retry(video_id, by="ada")
    world.follow()
    world.cluster.apply("clip", {**SOURCE, "cancel": True, "ttlSecondsAfterFinished": 86400})
    world.follow()
    assert record_of(world.store, video_id).job.status is Status.UPLOADED
    for cancel in (False, True):
        world.cluster.apply("clip", {**SOURCE, "cancel": cancel, "ttlSecondsAfterFinished": 86400})
        world.follow()
    assert record_of(world.store, video_id).job.status is Status.CANCELLED


def test_a_cancel_that_an_operator_acted_on_which_did_not_say_so_is_not_acted_on_again(world: World) -> None:
    video_id = submit(world)
    world.cluster.apply("clip", {**SOURCE, "cancel": True})
    world.follow()
    world.store.retry(video_id, by="ada")
    world.cluster.write_status("clip", {"cancel": None})
    world.follow()
    assert phase(world, "clip") is Status.UPLOADED


def test_a_cancel_is_done_once_although_no_status_can_be_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    video_id = submit(world)
    with monkeypatch.context() as patch:
        patch.setattr(world.cluster, "patch_status", patch_refused)
        for spec in ({"cancel": True}, {"cancel": True, "ttlSecondsAfterFinished": 86400}):
            world.cluster.apply("clip", {**SOURCE, **spec})
            with pytest.raises(KubeRefused):
                world.reconcile(video_id)
            if "ttlSecondsAfterFinished" not in spec:
                world.store.retry(video_id, by="ada")
    world.follow()
    assert record_of(world.store, video_id).job.status is Status.UPLOADED


@pytest.mark.parametrize("asked", ["cancel", "delete"])
def test_nothing_is_cancelled_that_is_over(world: World, asked: str) -> None:
    video_id = submit(world)
    reject(world.store, claim(world.store, video_id))
    if asked == "cancel":
        world.cluster.apply("clip", {**SOURCE, "cancel": True})
    else:
        world.cluster.delete("clip")
    world.follow()
    assert record_of(world.store, video_id).job.status is Status.FAILED
    assert "CancelRefused" not in world.cluster.event_reasons


def test_a_cancel_from_before_the_upload_is_done_once_there_is_a_video(world: World) -> None:
    new = new_video()
    world.cluster.apply(new.id, {"videoId": new.id, "cancel": True})
    world.reconcile(new.id)
    world.store.begin_upload(new, lifetime=HOUR)
    world.follow()
    assert record_of(world.store, new.id).job.status is Status.CANCELLED
    assert phase(world, new.id) is Status.CANCELLED


def test_a_change_that_arrives_in_the_middle_of_a_turn_is_acted_on_in_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    video_id = submit(world)
    claim(world.store, video_id)
    world.while_the_store_is_asked(monkeypatch, lambda: world.cluster.apply("clip", {**SOURCE, "cancel": True}))
    world.follow()
    assert world.cluster.get("clip").status.observed_generation == 1
    world.follow()
    assert record_of(world.store, video_id).job.status is Status.CANCELLED


def test_a_change_that_only_the_answer_to_our_own_write_shows_is_seen_to_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    video_id = submit(world)
    lease = claim(world.store, video_id)
    hold = world.cluster.apply("clip", SOURCE)

    def unseen() -> VideoJob:
        world.cluster.apply("clip", {**SOURCE, "cancel": True})
        return hold

    world.while_the_store_is_asked(monkeypatch, unseen)
    assert world.reconcile(video_id) == 0
    assert world.reconcile(video_id) is None
    assert record_of(world.store, lease.video_id).job.status is Status.CANCELLED
