"""Tests how the reconciler submits the object that a VideoJob names."""

from datetime import timedelta

import pytest

from anb_core.domain.errors import Unavailable
from anb_core.domain.status import Status
from anb_operator.kube import Outdated
from anb_operator.planning import ASK_AGAIN, ask_again_in
from anb_operator.videojob import FINALIZER, VideoJob
from tests.support.given import DAY, HOUR, MINUTE, SECOND, claim, due, record_of, reject, result
from tests.unit.operator.conftest import KEY, SOURCE, WITHHELD, World, phase, submit, video_of


def test_an_object_is_submitted_once_and_held_by_a_finalizer_until_it_is_over(world: World) -> None:
    video_id = submit(world, title="My clip", owner="ana", edit={"trim": {"start": 2}})
    world.follow()
    video = record_of(world.store, video_id).video
    assert (video.title, video.owner, video.edit.trim.start, video.owned) == ("My clip", "ana", 2, False)
    assert world.cluster.get("clip").metadata.finalizers == (FINALIZER,)
    lease = claim(world.store, video_id)
    world.store.publish(lease, result(lease))
    world.follow()
    assert world.cluster.get("clip").metadata.finalizers == ()
    assert world.cluster.names == {"clip"}
    assert len(world.store.listing(owner=None)) == 1


@pytest.mark.parametrize("given", [3600, "3600", "2026-01-01T01:00:00Z", "2026-01-01T03:00:00+02:00"])
def test_a_scheduled_submission_waits_for_its_time_which_counts_from_the_creation_of_the_videojob(
    world: World, given: int | str
) -> None:
    world.objects.put(KEY, b"a video")
    videojob = world.cluster.apply("clip", {**SOURCE, "processAfter": given})
    world.clock.advance(10 * MINUTE)
    world.reconcile(video_of(videojob))

    assert due(world.store) == []
    status = world.cluster.get("clip").status
    progressing = status.condition("Progressing")
    assert progressing is not None
    assert (status.phase, status.error) == (Status.UPLOADED, None)
    assert (progressing.status, progressing.reason) == ("True", "Scheduled")
    assert progressing.message == "It is scheduled for 2026-01-01 01:00:00 UTC."
    world.clock.advance(50 * MINUTE)
    assert due(world.store) == [video_of(videojob)]


@pytest.mark.parametrize("given", [0, -5, "2025-12-31T00:00:00Z"])
def test_a_submission_for_a_time_in_the_past_begins_at_once(world: World, given: int | str) -> None:
    video_id = submit(world, processAfter=given)
    assert due(world.store) == [video_id]
    assert phase(world, "clip") is Status.UPLOADED


def test_a_submission_that_comes_after_its_time_begins_at_once(world: World) -> None:
    world.objects.put(KEY, b"a video")
    videojob = world.cluster.apply("clip", {**SOURCE, "processAfter": 60})
    world.clock.advance(HOUR)
    world.reconcile(video_of(videojob))
    assert due(world.store) == [video_of(videojob)]


@pytest.mark.parametrize("given", ["2026-01-08T00:00:01Z", "2026-02-30T00:00:00Z"])
def test_a_submission_for_a_time_that_is_not_allowed_is_refused_also_later(world: World, given: str) -> None:
    video_id = submit(world, processAfter=given)
    world.clock.advance(2 * DAY)
    world.reconcile(video_id)

    assert world.store.listing(owner=None) == []
    status = world.cluster.get("clip").status
    accepted = status.condition("Accepted")
    assert status.error is not None
    assert accepted is not None
    assert status.error.code == "process_after_invalid"
    assert (accepted.status, accepted.reason) == ("False", "ProcessAfterInvalid")


def test_a_scheduled_submission_can_be_cancelled_and_its_retry_does_not_wait(world: World) -> None:
    video_id = submit(world, processAfter=3600)
    world.cluster.apply("clip", {**SOURCE, "processAfter": 3600, "cancel": True})
    world.reconcile(video_id)
    assert phase(world, "clip") is Status.CANCELLED
    world.cluster.apply("clip", {**SOURCE, "processAfter": 3600, "cancel": False, "retry": "now"})
    world.reconcile(video_id)
    assert due(world.store) == [video_id]


def test_finalizers_of_others_stay(world: World) -> None:
    world.objects.put(KEY, b"a video")
    videojob = world.cluster.apply("clip", SOURCE)
    world.cluster.objects["video", "clip"]["metadata"]["finalizers"] = ["example.com/other"]
    world.reconcile(video_of(videojob))
    assert world.cluster.get("clip").metadata.finalizers == ("example.com/other", FINALIZER)


def test_a_finalizer_that_another_sets_in_the_middle_of_a_turn_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hold() -> VideoJob:
        world.cluster.objects["video", "clip"]["metadata"]["finalizers"].append("example.com/other")
        return world.cluster.apply("clip", SOURCE)

    video_id = submit(world)
    reject(world.store, claim(world.store, video_id))
    world.while_the_store_is_asked(monkeypatch, hold)
    world.follow()
    assert world.cluster.get("clip").metadata.finalizers == ("example.com/other",)


def test_an_object_that_takes_a_name_in_the_middle_of_a_turn_is_not_taken_for_the_one_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another() -> VideoJob:
        del world.cluster.objects["video", "clip"]
        world.cluster.apply("clip", {"videoId": "other"})
        world.cluster.objects["video", "clip"]["metadata"]["finalizers"] = ["example.com/other", FINALIZER]
        return world.cluster.get("clip")

    video_id = submit(world)
    reject(world.store, claim(world.store, video_id))
    world.while_the_store_is_asked(monkeypatch, another)
    with pytest.raises(Outdated):
        world.follow()
    assert world.cluster.get("clip").metadata.finalizers == ("example.com/other", FINALIZER)


def test_the_one_that_submitted_takes_the_mirrors_place(world: World) -> None:
    video_id = submit(world)
    world.cluster.apply(video_id, {"videoId": video_id})
    world.follow()
    assert world.cluster.names == {"clip"}


def test_a_missing_object_is_reported_and_looked_for_again(world: World) -> None:
    videojob = world.cluster.apply("clip", SOURCE)
    assert world.reconcile(video_of(videojob)) == ASK_AGAIN.total_seconds()
    status = world.cluster.get("clip").status
    accepted = status.condition("Accepted")
    assert accepted is not None
    assert (accepted.status, accepted.reason) == ("False", "SourceMissing")
    assert KEY in accepted.message
    world.objects.put(KEY, b"a video")
    world.reconcile(video_of(videojob))
    assert phase(world, "clip") is Status.UPLOADED


@pytest.mark.parametrize(
    ("waited", "seconds"),
    [(0, 30), (-1, 30), (29, 30), (30, 30), (60, 60), (61, 61), (599, 599), (600, 600), (601, 600), (86400, 600)],
)
def test_the_longer_an_object_is_missing_the_more_rarely_it_is_looked_for(waited: int, seconds: int) -> None:
    assert ask_again_in(waited * SECOND) == seconds * SECOND


def test_an_object_that_stays_missing_is_looked_for_ever_more_rarely(world: World) -> None:
    video_id = video_of(world.cluster.apply("clip", SOURCE))
    world.clock.advance(5 * SECOND)
    delays = []
    for _ in range(7):
        delay = world.reconcile(video_id)
        assert delay is not None
        delays.append(delay)
        world.clock.advance(timedelta(seconds=delay))
    assert delays == [30, 30, 60, 120, 240, 480, 600]


def test_a_refused_submission_is_reported_and_not_tried_again(world: World) -> None:
    videojob = world.cluster.apply("clip", {"source": {"key": "private/clip.mp4"}})
    assert world.reconcile(video_of(videojob)) is None
    world.cluster.writes.clear()
    world.reconcile(video_of(videojob))
    assert world.cluster.writes == []
    error = world.cluster.get("clip").status.error
    assert error is not None
    assert error.code == "key_not_allowed"
    assert world.store.listing(owner=None) == []


def test_what_is_cancelled_before_it_was_submitted_is_submitted_once_that_is_taken_back(world: World) -> None:
    world.objects.put(KEY, b"a video")
    videojob = world.cluster.apply("clip", {**SOURCE, "cancel": True})
    world.reconcile(video_of(videojob))
    assert world.store.listing(owner=None) == []
    world.cluster.apply("clip", {**SOURCE, "cancel": False})
    world.reconcile(video_of(videojob))
    assert phase(world, "clip") is Status.UPLOADED


def test_a_submitted_video_that_was_deleted_is_reported_and_not_submitted_again(world: World) -> None:
    video_id = submit(world)
    before = world.cluster.get("clip").status
    world.store.delete(video_id, by="ada", grace=DAY)
    world.follow()
    videojob = world.cluster.get("clip")
    assert (videojob.status.video_id, videojob.status.created_at) == (before.video_id, before.created_at)
    assert videojob.status.error is not None
    assert videojob.status.error.code == "video_deleted"
    assert videojob.metadata.finalizers == ()
    world.cluster.apply("clip", {**SOURCE, "retry": "a"})
    world.follow()
    assert world.store.listing(owner=None) == []
    assert world.cluster.get("clip").status.error == videojob.status.error


def test_an_object_that_the_bucket_withholds_is_submitted_once_it_is_given(world: World) -> None:
    world.objects.put(KEY, b"a video")
    video_id = video_of(world.cluster.apply("clip", SOURCE))
    world.objects.fault = WITHHELD
    assert world.reconcile(video_id) == ASK_AGAIN.total_seconds()
    accepted = world.cluster.get("clip").status.condition("Accepted")
    assert accepted
    assert (accepted.status, accepted.reason) == ("False", "ObjectWithheld")
    world.objects.fault = None
    world.reconcile(video_id)
    assert phase(world, "clip") is Status.UPLOADED


def test_a_bucket_that_is_away_says_nothing_of_a_deletion(world: World) -> None:
    world.objects.put(KEY, b"a video")
    videojob = world.cluster.apply("clip", SOURCE)
    world.objects.fault = Unavailable("bucket", "the bucket does not answer")
    with pytest.raises(Unavailable):
        world.reconcile(video_of(videojob))
    assert world.cluster.get("clip").status.error is None
