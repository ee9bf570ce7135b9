"""Tests how long the reconciler keeps the VideoJob of a finished video."""

from datetime import timedelta

import pytest

from anb_core.domain.status import Status
from tests.support.given import DAY, HOUR, SECOND, claim, failed, processed, record_of, reject, result, uploaded
from tests.unit.operator.conftest import SOURCE, World, phase, submit, video_of


@pytest.mark.parametrize(("end", "lifetime"), [(processed, HOUR), (failed, 7 * DAY)])
def test_a_finished_one_is_kept_for_its_time(world: World, end: type, lifetime: timedelta) -> None:
    video_id = end(world.store)
    world.follow()
    assert world.reconcile(video_id) == lifetime.total_seconds()
    world.clock.advance(lifetime - SECOND)
    assert world.reconcile(video_id) == 1
    world.clock.advance(SECOND)
    world.reconcile(video_id)
    assert world.cluster.names == set()
    assert record_of(world.store, video_id).job.status.terminal


def test_a_finished_one_goes_with_the_very_turn_that_waited_for_its_end(world: World) -> None:
    world.clock.advance(0.6 * SECOND)
    video_id = processed(world.store)
    world.follow()
    delay = world.reconcile(video_id)
    assert delay is not None
    world.clock.advance(timedelta(seconds=delay))
    world.reconcile(video_id)
    assert world.cluster.names == set()


def test_an_object_may_say_itself_for_how_long_it_is_kept(world: World) -> None:
    video_id = submit(world, ttlSecondsAfterFinished=5)
    lease = claim(world.store, video_id)
    world.store.publish(lease, result(lease))
    world.follow()
    world.clock.advance(4 * SECOND)
    assert world.reconcile(video_id) == 1
    world.clock.advance(SECOND)
    world.follow()
    world.follow()
    assert world.cluster.names == set()


@pytest.mark.parametrize("reason", ["published", "rejected"])
def test_one_that_submitted_its_video_stays_so_that_applying_it_again_submits_nothing(
    world: World, reason: str
) -> None:
    video_id = submit(world)
    lease = claim(world.store, video_id)
    if reason == "published":
        world.store.publish(lease, result(lease))
    else:
        reject(world.store, lease)
    world.follow()
    world.clock.advance(30 * DAY)
    assert world.reconcile(video_id) is None
    assert video_of(world.cluster.apply("clip", SOURCE)) == video_id
    assert world.cluster.names == {"clip"}


def test_one_that_went_after_its_own_time_submits_again_when_it_is_applied_again(world: World) -> None:
    video_id = submit(world, ttlSecondsAfterFinished=0)
    lease = claim(world.store, video_id)
    world.store.publish(lease, result(lease))
    world.follow()
    world.reconcile(video_id)
    assert world.cluster.names == set()
    assert submit(world, ttlSecondsAfterFinished=0) != video_id
    assert len(world.store.listing(owner=None)) == 2


def test_a_mirror_that_has_had_its_own_time_comes_back_for_new_work_only(world: World) -> None:
    video_id = uploaded(world.store)
    world.follow()
    world.cluster.apply(video_id, {"videoId": video_id, "ttlSecondsAfterFinished": 0})
    reject(world.store, claim(world.store, video_id))
    world.follow()
    world.follow()
    assert world.cluster.names == set()
    world.store.retry(video_id, by="ada")
    world.follow()
    assert world.cluster.names == {video_id}
    reject(world.store, claim(world.store, video_id))
    world.follow()
    assert phase(world, video_id) is Status.FAILED


def test_mirrors_whose_own_time_is_over_stay_away_when_old_events_are_read_again(world: World) -> None:
    for video_id in (uploaded(world.store), uploaded(world.store)):
        world.cluster.apply(video_id, {"videoId": video_id, "ttlSecondsAfterFinished": 0})
        reject(world.store, claim(world.store, video_id))
    for _ in range(3):
        world.follow()
    assert world.cluster.names == set()


@pytest.mark.parametrize("ttls", [(5, 50), (50, 5)])
def test_of_several_objects_the_one_that_ends_first_is_waited_for(world: World, ttls: tuple[int, int]) -> None:
    video_id = processed(world.store)
    for namespace, ttl in zip(("one", "two"), ttls, strict=True):
        spec = {"videoId": video_id, "ttlSecondsAfterFinished": ttl}
        world.cluster.apply(video_id, spec, namespace=namespace)
    assert world.reconcile(video_id) == 5


def test_a_video_that_ended_long_before_the_first_operator_gets_no_mirror(world: World) -> None:
    processed(world.store)
    world.clock.advance(HOUR)
    world.follow()
    assert world.cluster.writes == []
