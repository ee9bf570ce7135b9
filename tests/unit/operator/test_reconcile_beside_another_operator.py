"""Tests of two operators that see the same VideoJobs."""

from dataclasses import replace

import pytest

from anb_core.domain.status import Status
from anb_operator.kube import KubeRefused
from anb_operator.planning import GIVE_UP
from tests.support.given import claim, record_of, uploaded
from tests.unit.operator.conftest import KEY, World, patch_refused, phase, submit


@pytest.fixture(params=[{"instance": "other"}, {"namespace": "elsewhere"}], ids=["namespace-mate", "neighbour"])
def other(world: World, request: pytest.FixtureRequest) -> World:
    """The operator of another release in the same cluster, with its own database and bucket."""
    return World(world.threads, beside=world, policy=replace(world.policy, **request.param))


def in_turn(one: World, another: World, video_id: str) -> None:
    for _ in range(3):
        one.reconcile(video_id)
        another.reconcile(video_id)


def test_the_mirror_of_anothers_video_is_left_alone(
    world: World, other: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    video_id = uploaded(world.store)
    with monkeypatch.context() as patch:
        patch.setattr(world.cluster, "patch_status", patch_refused)
        with pytest.raises(KubeRefused):
            world.follow()
        other.reconcile(video_id)
    world.follow()
    world.cluster.writes.clear()
    in_turn(other, world, video_id)
    assert world.cluster.names == {video_id}
    assert world.cluster.writes == []


@pytest.mark.parametrize("made_by", ["submission", "person"])
def test_what_another_has_given_a_status_is_not_fought_over(world: World, other: World, made_by: str) -> None:
    if made_by == "submission":
        video_id, name = submit(world), "clip"
        other.objects.put(KEY, b"a video")
    else:
        video_id = name = uploaded(world.store)
        world.cluster.apply(name, {"videoId": video_id})
        other.reconcile(video_id)
        world.reconcile(video_id)
    claim(world.store, video_id)
    world.follow()
    world.cluster.writes.clear()
    in_turn(other, world, video_id)
    assert world.cluster.writes == []
    assert phase(world, name) is Status.PROCESSING
    world.cluster.write_status(name, {"phase": "archived"})
    assert other.reconcile(video_id) is None
    assert world.cluster.writes == []
    assert other.store.listing(owner=None) == []


def test_the_cancel_of_a_deletion_is_left_to_the_operator_that_submitted(world: World, other: World) -> None:
    video_id = submit(world)
    world.cluster.delete("clip")
    assert other.reconcile(video_id) == GIVE_UP.total_seconds()
    world.reconcile(video_id)
    assert record_of(world.store, video_id).job.status is Status.CANCELLED
    assert world.cluster.names == set()


def test_what_an_operator_that_is_gone_has_held_is_let_go_after_a_while(world: World, other: World) -> None:
    video_id = submit(world)
    world.cluster.delete("clip")
    world.clock.advance(GIVE_UP)
    other.reconcile(video_id)
    assert world.cluster.names == set()
