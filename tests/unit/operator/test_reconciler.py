"""Tests of the reconciler with an in-memory store and cluster, one reconciliation at a time."""

import asyncio
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta

import pytest

from anb_core.domain.errors import Unavailable, Withheld
from anb_core.domain.model import Receipts, Record
from anb_core.domain.status import Status
from anb_operator.kube import Json, KubeRefused, Outdated
from anb_operator.naming import video_id_of
from anb_operator.planning import ASK_AGAIN, GIVE_UP, ask_again_in
from anb_operator.resync import Resync
from anb_operator.videojob import FINALIZER, VideoJob
from anb_operator.workqueue import WorkQueue
from tests.support.given import (
    DAY,
    HOUR,
    SECOND,
    claim,
    fail,
    failed,
    new_video,
    processed,
    processing,
    record_of,
    reject,
    result,
    uploaded,
    uploading,
)
from tests.unit.operator.conftest import World

KEY = "uploads/clip.mp4"
SOURCE = {"source": {"key": KEY}}
CONDITION = {
    "type": "Complete",
    "status": "True",
    "reason": "Processed",
    "message": "",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
DATABASE_AWAY = Unavailable("database", "the database does not answer")
WITHHELD = Withheld("object_withheld", "the bucket does not give us the object")
KUBERNETES_AWAY = Unavailable("kubernetes", "the API server does not answer")


def submit(world: World, name: str = "clip", **spec: object) -> str:
    """Apply a VideoJob that submits an object, reconcile the video, and return the video's id."""
    world.objects.put(KEY, b"a video")
    video_id = video_of(world.cluster.apply(name, {**SOURCE, **spec}))
    world.reconcile(video_id)
    return video_id


def video_of(videojob: VideoJob) -> str:
    return video_id_of(videojob.spec, videojob.metadata.uid)


def phase(world: World, name: str) -> Status | None:
    return world.cluster.get(name).status.phase


async def patch_refused(*_: object) -> VideoJob:
    raise KubeRefused("refused", "videojobs/status is forbidden")


# -- mirrors: VideoJobs that the operator created


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
    world.store.delete(video_id, grace=DAY)
    world.follow()
    assert world.cluster.names == set()


def test_a_mirror_that_a_person_made_goes_with_its_video_too(world: World) -> None:
    video_id = uploaded(world.store)
    world.cluster.apply(video_id, {"videoId": video_id})
    world.follow()
    world.store.delete(video_id, grace=DAY)
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
    world.store.delete(video_id, grace=DAY)
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


# -- finished videos


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
    world.store.retry(video_id)
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


# -- submitting


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
    world.store.delete(video_id, grace=DAY)
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


# -- cancel and retry


def test_cancel_is_done_once_so_that_a_later_retry_by_the_api_holds(world: World) -> None:
    video_id = submit(world)
    world.cluster.apply("clip", {**SOURCE, "cancel": True})
    world.reconcile(video_id)
    assert phase(world, "clip") is Status.CANCELLED
    world.store.retry(video_id)
    world.follow()
    assert phase(world, "clip") is Status.UPLOADED


def test_a_cancel_that_was_acted_on_is_not_when_something_else_changes_and_is_once_it_was_taken_back(
    world: World,
) -> None:
    video_id = submit(world)
    world.cluster.apply("clip", {**SOURCE, "cancel": True})
    world.follow()
    world.store.retry(video_id)
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
    world.store.retry(video_id)
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
                world.store.retry(video_id)
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


def test_each_new_token_retries_once(world: World) -> None:
    video_id = submit(world)
    for number, token in enumerate(("a", "b"), start=2):
        reject(world.store, claim(world.store, video_id))
        world.follow()
        world.cluster.apply("clip", {**SOURCE, "retry": token})
        world.follow()
        world.follow()
        job = record_of(world.store, video_id).job
        assert (job.status, job.generation) == (Status.UPLOADED, number)
        assert world.cluster.get("clip").status.retry == token


def test_a_token_that_was_acted_on_is_not_when_something_else_changes(world: World) -> None:
    video_id = submit(world, retry="a")
    reject(world.store, claim(world.store, video_id))
    world.follow()
    world.cluster.apply("clip", {**SOURCE, "retry": "a", "ttlSecondsAfterFinished": 86400})
    world.follow()
    assert phase(world, "clip") is Status.FAILED


def test_a_token_has_no_effect_on_work_that_is_under_way(world: World) -> None:
    video_id = submit(world)
    world.cluster.apply("clip", {**SOURCE, "retry": "a"})
    world.follow()
    reject(world.store, claim(world.store, video_id))
    world.follow()
    assert record_of(world.store, video_id).job.generation == 1
    assert phase(world, "clip") is Status.FAILED


@pytest.mark.parametrize("asked", [{"cancel": True}, {"retry": "a"}], ids=["cancel", "retry"])
def test_what_an_operator_did_before_it_could_say_so_is_not_done_again_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch, asked: Json
) -> None:
    video_id = submit(world)
    if "retry" in asked:
        reject(world.store, claim(world.store, video_id))
        world.follow()
    with monkeypatch.context() as patch:
        patch.setattr(world.cluster, "patch_status", patch_refused)
        world.cluster.apply("clip", {**SOURCE, **asked})
        with pytest.raises(KubeRefused):
            world.reconcile(video_id)
    if "retry" in asked:
        reject(world.store, claim(world.store, video_id))
    else:
        world.store.retry(video_id)
    before = record_of(world.store, video_id).job
    world.start()
    world.cluster.apply("clip", {**SOURCE, **asked, "ttlSecondsAfterFinished": 86400})
    world.follow()
    assert before.generation == 2
    assert record_of(world.store, video_id).job == before
    assert phase(world, "clip") is before.status


def test_a_token_that_came_with_the_submission_retries_nothing_although_no_status_could_say_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.objects.put(KEY, b"a video")
    video_id = video_of(world.cluster.apply("clip", {**SOURCE, "retry": "a"}))
    with monkeypatch.context() as patch:
        patch.setattr(world.cluster, "patch_status", patch_refused)
        with pytest.raises(KubeRefused):
            world.reconcile(video_id)
    world.store.cancel(video_id)
    world.start()
    world.follow()
    assert record_of(world.store, video_id).job.status is Status.CANCELLED


def test_a_token_retries_once_although_no_status_can_be_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    video_id = submit(world)
    reject(world.store, claim(world.store, video_id))
    world.follow()
    with monkeypatch.context() as patch:
        patch.setattr(world.cluster, "patch_status", patch_refused)
        for spec in ({"retry": "a"}, {"retry": "a"}, {"retry": "a", "ttlSecondsAfterFinished": 86400}):
            world.cluster.apply("clip", {**SOURCE, **spec})
            with pytest.raises(KubeRefused):
                world.reconcile(video_id)
            job = record_of(world.store, video_id).job
            assert job.generation == 2
            if job.status is Status.UPLOADED:
                reject(world.store, claim(world.store, video_id))
    world.follow()
    assert record_of(world.store, video_id).job.generation == 2
    assert world.cluster.get("clip").status.retry == "a"
    world.cluster.apply("clip", {**SOURCE, "retry": "b"})
    world.follow()
    assert record_of(world.store, video_id).job.generation == 3


def test_a_token_retries_once_although_the_answer_of_the_database_was_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    retry = world.store.retry

    def lost(video_id: str, *, receipts: Receipts | None = None) -> Record:
        retry(video_id, receipts=receipts)
        raise DATABASE_AWAY

    video_id = submit(world)
    reject(world.store, claim(world.store, video_id))
    world.follow()
    world.cluster.apply("clip", {**SOURCE, "retry": "a"})
    with monkeypatch.context() as patch:
        patch.setattr(world.store, "retry", lost)
        with pytest.raises(Unavailable):
            world.reconcile(video_id)
    reject(world.store, claim(world.store, video_id))
    world.follow()
    assert record_of(world.store, video_id).job.generation == 2
    assert world.cluster.get("clip").status.retry == "a"


def test_a_token_that_comes_again_after_another_retries_again_although_that_was_refused(world: World) -> None:
    video_id = submit(world)
    world.objects.put(KEY, b"a video")
    for token, generation in (("a", 2), ("b", 2), ("a", 3)):
        if record_of(world.store, video_id).job.status is Status.UPLOADED:
            reject(world.store, claim(world.store, video_id))
        world.follow()
        if token == "b":
            world.objects.delete([KEY])
        else:
            world.objects.put(KEY, b"a video")
        world.cluster.apply("clip", {**SOURCE, "retry": token})
        world.follow()
        assert record_of(world.store, video_id).job.generation == generation


def test_two_videojobs_of_one_video_may_use_one_word_as_their_token(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    video_id = uploaded(world.store)
    world.objects.put(record_of(world.store, video_id).video.source_key, b"a video")
    for namespace in ("one", "two"):
        world.cluster.apply(video_id, {"videoId": video_id}, namespace=namespace)
    reject(world.store, claim(world.store, video_id))
    world.follow()
    with monkeypatch.context() as patch:
        patch.setattr(world.cluster, "patch_status", patch_refused)
        for generation, namespace in enumerate(("one", "two"), start=2):
            world.cluster.apply(video_id, {"videoId": video_id, "retry": "a"}, namespace=namespace)
            with pytest.raises(KubeRefused):
                world.follow()
            assert record_of(world.store, video_id).job.generation == generation
            reject(world.store, claim(world.store, video_id))
    world.start()
    world.follow()
    assert record_of(world.store, video_id).job.generation == 3


def test_tokens_retry_once_each_when_kubernetes_was_put_back_to_before_the_last(world: World) -> None:
    def ask(token: str, ttl: int) -> int:
        world.cluster.apply("clip", {**SOURCE, "retry": token, "ttlSecondsAfterFinished": ttl})
        world.follow()
        return record_of(world.store, video_id).job.generation

    video_id = submit(world)
    reject(world.store, claim(world.store, video_id))
    assert ask("a", 86400) == 2
    before = deepcopy(world.cluster.objects)
    reject(world.store, claim(world.store, video_id))
    assert ask("a", 86401) == 2
    assert ask("b", 86401) == 3
    reject(world.store, claim(world.store, video_id))
    world.cluster.objects = before
    assert ask("a", 86402) == 3
    assert ask("c", 86402) == 4


def test_a_cancel_from_before_the_upload_is_done_once_there_is_a_video(world: World) -> None:
    new = new_video()
    world.cluster.apply(new.id, {"videoId": new.id, "cancel": True})
    world.reconcile(new.id)
    world.store.begin_upload(new, lifetime=HOUR)
    world.follow()
    assert record_of(world.store, new.id).job.status is Status.CANCELLED
    assert phase(world, new.id) is Status.CANCELLED


def test_a_retry_that_can_not_be_is_refused_with_a_sentence_and_once(world: World) -> None:
    video_id = processed(world.store)
    world.follow()
    world.cluster.apply(video_id, {"videoId": video_id, "retry": "a"})
    world.follow()
    world.follow()
    assert world.cluster.event_reasons.count("RetryRefused") == 1
    [refused] = [event for event in world.cluster.events.values() if event.reason == "RetryRefused"]
    assert "processed" in refused.message
    assert phase(world, video_id) is Status.PROCESSED
    world.cluster.apply(video_id, {"videoId": video_id, "retry": "b"})
    world.follow()
    assert world.cluster.event_reasons.count("RetryRefused") == 2


def test_a_retry_is_tried_until_the_bucket_gives_the_object_that_it_withheld(world: World) -> None:
    video_id = submit(world)
    reject(world.store, claim(world.store, video_id))
    world.follow()
    world.cluster.apply("clip", {**SOURCE, "retry": "a"})
    world.objects.fault = WITHHELD
    with pytest.raises(Unavailable, match="does not give us"):
        world.reconcile(video_id)
    world.objects.fault = None
    world.reconcile(video_id)
    assert phase(world, "clip") is Status.UPLOADED


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


# -- deleting


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


def test_a_bucket_that_is_away_says_nothing_of_a_deletion(world: World) -> None:
    world.objects.put(KEY, b"a video")
    videojob = world.cluster.apply("clip", SOURCE)
    world.objects.fault = Unavailable("bucket", "the bucket does not answer")
    with pytest.raises(Unavailable):
        world.reconcile(video_of(videojob))
    assert world.cluster.get("clip").status.error is None


# -- VideoJobs that a newer operator wrote before a rollback


NEWER = [
    {"phase": "archived"},
    {"conditions": [{**CONDITION, "type": "Archived"}]},
    {"conditions": [CONDITION, {**CONDITION, "type": "Archived"}], "attempts": "none"},
    {"deadLetter": {"at": "2026-01-01T00:00:00Z", "cause": "fire"}, "archive": {"key": "a"}},
    {"error": {"code": "a", "message": "b", "hint": "c"}},
]


@pytest.mark.parametrize("newer", NEWER)
def test_what_a_newer_operator_wrote_is_replaced_and_nothing_of_it_stays(world: World, newer: Json) -> None:
    video_id = uploaded(world.store)
    world.follow()
    written = world.cluster.status(video_id)
    world.cluster.write_status(video_id, newer)
    world.reconcile(video_id)
    assert world.cluster.status(video_id) == written
    world.cluster.writes.clear()
    world.reconcile(video_id)
    assert world.cluster.writes == []


@pytest.mark.parametrize("newer", NEWER)
def test_what_a_newer_operator_acted_on_is_not_acted_on_again(world: World, newer: Json) -> None:
    video_id = submit(world)
    world.cluster.apply("clip", {**SOURCE, "cancel": True})
    world.follow()
    world.store.retry(video_id)
    world.follow()
    world.cluster.write_status("clip", newer)
    world.cluster.apply("clip", {**SOURCE, "cancel": True, "ttlSecondsAfterFinished": 86400})
    world.follow()
    assert phase(world, "clip") is Status.UPLOADED
    reject(world.store, claim(world.store, video_id))
    world.cluster.apply("clip", {**SOURCE, "retry": "a"})
    world.follow()
    reject(world.store, claim(world.store, video_id))
    world.follow()
    world.cluster.write_status("clip", newer)
    world.cluster.apply("clip", {**SOURCE, "retry": "a", "ttlSecondsAfterFinished": 86400})
    world.follow()
    assert phase(world, "clip") is Status.FAILED


def test_deleting_a_submission_of_which_a_newer_operator_wrote_cancels_it(world: World) -> None:
    video_id = submit(world)
    world.cluster.write_status("clip", {"phase": "archived"})
    world.cluster.delete("clip")
    world.follow()
    assert record_of(world.store, video_id).job.status is Status.CANCELLED
    assert world.cluster.names == set()


# -- two operators that see the same VideoJobs


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


def test_a_mirror_without_a_video_is_deleted_without_an_event(world: World) -> None:
    video_id = uploaded(world.store)
    world.follow()
    world.store.delete(video_id, grace=DAY)
    world.reconcile(video_id)
    assert world.cluster.names == set()


# -- events


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
    world.store.retry(video_id)
    lease = claim(world.store, video_id)
    world.store.publish(lease, result(lease))
    world.follow()
    assert world.cluster.event_reasons == ["Started", "Started", "Processed"]


def test_a_second_failure_is_posted_however_soon_it_follows(world: World) -> None:
    video_id = uploaded(world.store)
    reject(world.store, claim(world.store, video_id))
    world.follow()
    for _ in range(2):
        world.store.retry(video_id)
        reject(world.store, claim(world.store, video_id))
        world.follow()
    assert world.cluster.event_reasons == ["Started", "Failed", *["Started", "Retried", "Failed"] * 2]


def test_changes_older_than_kubernetes_keeps_events_are_not_posted(world: World) -> None:
    failed(world.store)
    world.clock.advance(HOUR + SECOND)
    world.follow()
    assert world.cluster.event_reasons == []
    assert len(world.cluster.names) == 1


def test_an_event_that_is_refused_does_not_hold_up_the_mirror(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise KubeRefused("refused", "events is forbidden")

    monkeypatch.setattr(world.cluster, "post_event", refuse)
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
