"""Tests of the VideoJobs of dead letters: their label, their lifetime, their Events, and redrives."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from anb_core.domain.dead_letters import DeadLetterFilter, Resolution
from anb_core.domain.status import Status
from anb_operator.kube import Json
from anb_operator.videojob import DEAD_LETTER
from tests.support.given import DAY, HOUR, SECOND, claim, dead_lettered, fail, record_of, uploaded
from tests.unit.operator.conftest import World, phase, submit

MINE = {"team": "one"}


def label(world: World, name: str) -> str | None:
    return world.cluster.get(name).metadata.labels.get(DEAD_LETTER)


def discard(world: World, video_id: str) -> None:
    letter = world.store.history(video_id).dead_letter
    assert letter is not None
    world.store.discard_dead_letter(letter.id, by="ada", reason="It was a test.")


def redrive(world: World, video_id: str) -> None:
    world.store.retry(video_id, by="ada")


def dead_submission(world: World, name: str = "clip", **spec: object) -> str:
    """Apply a VideoJob that submits an object, and let its job become a dead letter. Returns the video's id."""
    video_id = submit(world, name, **spec)
    for _ in range(3):
        fail(world.store, claim(world.store, video_id))
        world.clock.advance(HOUR / 3)
    world.follow()
    assert phase(world, name) is Status.DEAD_LETTERED
    return video_id


def test_a_mirror_that_is_made_for_a_dead_letter_has_the_label_at_once(world: World) -> None:
    video_id = dead_lettered(world.store)
    world.follow()
    assert label(world, video_id) == "true"
    assert f"label {video_id}" not in world.cluster.writes


@pytest.mark.parametrize("resolve", [redrive, discard])
def test_the_label_comes_with_an_open_dead_letter_and_goes_with_its_resolution(
    world: World, resolve: Callable[[World, str], None]
) -> None:
    video_id = uploaded(world.store)
    world.cluster.apply(video_id, {"videoId": video_id}, labels=MINE)
    for _ in range(3):
        world.follow()
        assert label(world, video_id) is None
        fail(world.store, claim(world.store, video_id))
        world.clock.advance(HOUR / 3)
    world.follow()
    world.follow()
    assert world.cluster.get(video_id).metadata.labels == {**MINE, DEAD_LETTER: "true"}
    resolve(world, video_id)
    world.follow()
    world.follow()
    assert world.cluster.get(video_id).metadata.labels == MINE
    assert world.cluster.writes.count(f"label {video_id}") == 2


@pytest.mark.parametrize("value", [None, "false"])
def test_a_label_that_was_changed_by_hand_heals(world: World, value: str | None) -> None:
    video_id = dead_lettered(world.store)
    world.follow()
    world.cluster.relabel(video_id, {DEAD_LETTER: value})
    world.reconcile(video_id)
    assert label(world, video_id) == "true"


@pytest.mark.parametrize("value", ["true", "false"])
def test_a_videojob_without_a_dead_letter_loses_a_label_that_was_set_by_hand(world: World, value: str) -> None:
    video_id = uploaded(world.store)
    world.cluster.apply(video_id, {"videoId": video_id}, labels={DEAD_LETTER: value})
    world.follow()
    assert label(world, video_id) is None


def test_a_submission_whose_video_was_deleted_loses_the_label(world: World) -> None:
    video_id = dead_submission(world)
    world.store.delete(video_id, by="ada", grace=DAY)
    world.follow()
    assert label(world, "clip") is None


def test_the_label_of_a_videojob_of_another_operator_is_left_alone(world: World) -> None:
    name = "b4a3b6d0-5a9c-4d1c-8f3e-111111111111"
    made = {"app.kubernetes.io/managed-by": "anb-operator", "app.kubernetes.io/instance": "other", DEAD_LETTER: "true"}
    world.cluster.apply(name, {"videoId": name}, labels=made)
    world.reconcile(name)
    assert world.cluster.writes == []


def test_a_videojob_whose_dead_letter_is_open_is_kept_for_ever(world: World) -> None:
    mirrored, submitted = dead_lettered(world.store), dead_submission(world, ttlSecondsAfterFinished=0)
    world.follow()
    world.clock.advance(400 * DAY)
    assert [world.reconcile(video_id) for video_id in (mirrored, submitted)] == [None, None]
    assert world.cluster.names == {mirrored, "clip"}


@pytest.mark.parametrize(("spec", "lifetime"), [({}, 7 * DAY), ({"ttlSecondsAfterFinished": 5}, 5 * SECOND)])
def test_after_a_discard_the_time_of_a_videojob_begins(world: World, spec: Json, lifetime: timedelta) -> None:
    video_id = dead_lettered(world.store)
    world.cluster.apply(video_id, {"videoId": video_id, **spec})
    world.follow()
    world.clock.advance(30 * DAY)
    discard(world, video_id)
    world.follow()
    assert world.reconcile(video_id) == lifetime.total_seconds()
    world.clock.advance(lifetime)
    world.follow()
    world.follow()
    assert world.cluster.names == set()


def test_mirrors_whose_own_time_is_over_after_a_discard_stay_away(world: World) -> None:
    video_ids = dead_lettered(world.store), dead_lettered(world.store)
    for video_id in video_ids:
        world.cluster.apply(video_id, {"videoId": video_id, "ttlSecondsAfterFinished": 0})
    world.clock.advance(30 * DAY)
    for video_id in video_ids:
        discard(world, video_id)
    for _ in range(3):
        world.follow()
    assert world.cluster.names == set()


def test_a_redriven_job_that_ends_is_kept_for_its_time_from_then_on(world: World) -> None:
    video_id = dead_submission(world, ttlSecondsAfterFinished=5)
    world.clock.advance(DAY)
    redrive(world, video_id)
    world.follow()
    world.store.cancel(video_id)
    assert world.reconcile(video_id) == 5


@pytest.mark.parametrize("seen", [True, False], ids=["each step is seen", "the operator was away"])
def test_a_redriven_job_that_fails_for_good_again_is_a_dead_letter_like_the_first_time(
    world: World, *, seen: bool
) -> None:
    video_id = dead_submission(world, ttlSecondsAfterFinished=5)
    first = world.cluster.get("clip").status.dead_letter
    redrive(world, video_id)
    if seen:
        world.follow()
        assert label(world, "clip") is None
    for _ in range(3):
        fail(world.store, claim(world.store, video_id))
        world.clock.advance(HOUR / 3)
    world.follow()
    second = world.cluster.get("clip").status.dead_letter
    assert first
    assert second
    assert first.id != second.id
    assert label(world, "clip") == "true"
    world.clock.advance(DAY)
    assert world.reconcile(video_id) is None
    about_letters = [reason for reason in world.cluster.event_reasons if reason in {"DeadLettered", "Redriven"}]
    assert about_letters == ["DeadLettered", "Redriven", "DeadLettered"]


def test_a_mirror_of_an_open_dead_letter_comes_back_however_old_its_video_is(world: World) -> None:
    world.policy = replace(world.policy, mirror_max_age=HOUR)
    world.start()
    video_id = dead_lettered(world.store)
    world.clock.advance(DAY)
    for _ in range(2):
        world.reconcile(video_id)
        assert label(world, video_id) == "true"
        world.cluster.delete(video_id)
    discard(world, video_id)
    world.reconcile(video_id)
    assert world.cluster.names == set()


def test_a_mirror_that_is_made_after_a_discard_tells_of_the_discard_only(world: World) -> None:
    video_id = dead_lettered(world.store)
    world.clock.advance(2 * HOUR)
    discard(world, video_id)
    world.follow()
    assert (phase(world, video_id), label(world, video_id)) == (Status.DEAD_LETTERED, None)
    assert world.cluster.event_reasons == ["Discarded"]
    assert f"label {video_id}" not in world.cluster.writes


def test_a_dead_letter_gets_no_mirror_where_none_is_wanted(world: World) -> None:
    world.policy = replace(world.policy, mirror=False)
    world.start()
    dead_lettered(world.store)
    world.follow()
    assert world.cluster.names == set()


def test_a_new_token_redrives_and_the_record_names_the_videojob(world: World) -> None:
    video_id = dead_submission(world)
    world.cluster.apply("clip", {"source": {"key": "uploads/clip.mp4"}, "retry": "a"})
    world.follow()
    assert record_of(world.store, video_id).job.status is Status.UPLOADED
    [letter] = world.store.dead_letters(DeadLetterFilter(state="all"))
    assert (letter.resolution, letter.resolved_by) == (Resolution.REDRIVEN, "kubernetes:video/clip")
    assert world.cluster.get("clip").status.dead_letter is None
    assert world.cluster.event_reasons[-2:] == ["DeadLettered", "Redriven"]


def test_the_events_of_a_dead_letter_are_posted_once(world: World) -> None:
    video_id = dead_lettered(world.store)
    world.follow()
    discard(world, video_id)
    for _ in range(2):
        world.follow()
        world.start()
    world.store.retry(video_id, by="ada")
    world.follow()
    world.follow()
    assert world.cluster.event_reasons == ["Started", "AttemptFailed", "DeadLettered", "Discarded", "Retried"]
    events = {event.reason: event for event in world.cluster.events.values()}
    assert events["DeadLettered"].warning
    assert events["DeadLettered"].message == "1 attempt failed. The last error: The result is not as planned."
    assert events["Discarded"].message == "Dead letter 1 was discarded by ada. The reason: It was a test."
