"""Tests of the Kubernetes Events that the reconciler posts about a video."""

import pytest

from anb_core.domain.status import Status
from anb_operator.kube import KubeRefused
from anb_operator.videojob import VideoJob
from tests.support.given import HOUR, SECOND, claim, fail, failed, processing, reject, result, uploaded
from tests.unit.operator.conftest import KUBERNETES_AWAY, World, phase


def test_the_events_of_a_video_are_posted_once(world: World) -> None:
    lease = processing(world.store)
    world.follow()
    fail(world.store, lease)
    world.follow()
    world.clock.advance(HOUR / 2)
    second = claim(world.store, lease.video_id)
    world.store.publish(second, result(second))
    world.follow()
    world.cache.replace([])
    world.follow()
    assert world.cluster.event_reasons == ["Started", "AttemptFailed", "Started", "Processed"]


def test_an_event_is_posted_before_the_status_is_written(world: World) -> None:
    lease = processing(world.store)
    world.follow()
    assert world.cluster.writes == [f"create {lease.video_id}", "event Started", f"status {lease.video_id}"]


def test_of_coalesced_changes_the_attempts_and_the_last_end_are_posted(world: World) -> None:
    video_id = uploaded(world.store)
    world.follow()
    reject(world.store, claim(world.store, video_id))
    world.store.retry(video_id, by="ada")
    lease = claim(world.store, video_id)
    world.store.publish(lease, result(lease))
    world.follow()
    assert world.cluster.event_reasons == ["Started", "Started", "Processed"]


def test_a_second_failure_is_posted_however_soon_it_follows(world: World) -> None:
    video_id = uploaded(world.store)
    reject(world.store, claim(world.store, video_id))
    world.follow()
    for _ in range(2):
        world.store.retry(video_id, by="ada")
        reject(world.store, claim(world.store, video_id))
        world.follow()
    assert world.cluster.event_reasons == ["Started", "Failed", *["Started", "Retried", "Failed"] * 2]


def test_changes_older_than_kubernetes_keeps_events_are_not_posted(world: World) -> None:
    failed(world.store)
    world.clock.advance(HOUR + SECOND)
    world.follow()
    assert world.cluster.event_reasons == []
    assert len(world.cluster.names) == 1


@pytest.mark.parametrize(
    "error", [KubeRefused("refused", "events is forbidden"), KUBERNETES_AWAY], ids=["refused", "away"]
)
def test_an_event_that_cannot_be_posted_does_not_hold_up_the_mirror(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(world.cluster, "post_event", fails)
    lease = processing(world.store)
    world.follow()
    assert phase(world, lease.video_id) is Status.PROCESSING


def test_an_object_that_vanishes_in_mid_turn_is_no_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = processing(world.store)
    world.follow()
    world.store.report_progress(lease, 0.5)
    patch = world.cluster.patch_status

    async def late(videojob: VideoJob, wanted: dict[str, object]) -> VideoJob:
        world.cluster.delete(lease.video_id)
        return await patch(videojob, wanted)

    monkeypatch.setattr(world.cluster, "patch_status", late)
    world.reconcile(lease.video_id)
    assert world.cluster.names == set()
    monkeypatch.undo()
    world.reconcile(lease.video_id)
    assert world.cluster.get(lease.video_id).status.progress == "50%"
