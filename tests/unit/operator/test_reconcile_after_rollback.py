"""Tests how the reconciler handles VideoJobs that a newer operator wrote before a rollback."""

import pytest

from anb_core.domain.status import Status
from anb_operator.kube import Json
from tests.support.given import claim, record_of, reject, uploaded
from tests.unit.operator.conftest import SOURCE, World, phase, submit

CONDITION = {
    "type": "Complete",
    "status": "True",
    "reason": "Processed",
    "message": "",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


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
    world.store.retry(video_id, by="ada")
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
