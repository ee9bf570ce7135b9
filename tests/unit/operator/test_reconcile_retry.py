"""Tests how the reconciler retries the video of a VideoJob."""

from copy import deepcopy

import pytest

from anb_core.domain.errors import Unavailable
from anb_core.domain.model import Receipts, Record
from anb_core.domain.status import Status
from anb_operator.kube import Json, KubeRefused
from tests.support.given import claim, processed, record_of, reject, uploaded
from tests.unit.operator.conftest import (
    DATABASE_AWAY,
    KEY,
    SOURCE,
    WITHHELD,
    World,
    patch_refused,
    phase,
    submit,
    video_of,
)


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
        world.store.retry(video_id, by="ada")
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

    def lost(video_id: str, *, by: str, receipts: Receipts | None = None) -> Record:
        retry(video_id, by=by, receipts=receipts)
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
