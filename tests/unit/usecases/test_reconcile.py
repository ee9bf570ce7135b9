"""Tests of the reconciliation of the database with the bucket. The rows are older than the objects."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from anb_core.adapters.system import new_id
from anb_core.domain.edit import EditSpec, Trim
from anb_core.domain.errors import Conflict, Forbidden, Invalid, NotFound, Withheld
from anb_core.domain.keys import result_key, upload_key
from anb_core.domain.model import NewVideo, Result, Scope, Source
from anb_core.domain.object_notes import note_of_result, note_of_upload
from anb_core.domain.reconciliation import Finding
from anb_core.domain.status import Status
from anb_core.testing.clock import ManualClock
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.promises import check_promises, in_memory_evidence
from anb_core.testing.store import InMemoryStore
from anb_core.usecases import reconcile
from anb_core.usecases.reconcile import Reconcile, ReconcileReport
from anb_core.usecases.visibility import Caller
from tests.support.given import DAY, HOUR, LEASE, POLICY, claim, due, fail, new_video, record_of

OPS = Caller("olga", Scope.OPS)
EDIT = EditSpec(trim=Trim(length=7))


class World:
    """A bucket, and a database whose rows a test adds."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store, self.objects = InMemoryStore(self.clock.now), InMemoryObjects()
        self.woken = 0
        self.withheld: set[str] = set()
        self._head = self.objects.head
        self.objects.head = self.head  # type: ignore[method-assign]

    def head(self, key: str) -> Any:
        if key in self.withheld:
            raise Withheld("object_withheld", "No.")
        return self._head(key)

    def call(self, after: str | None = None, *, dry_run: bool = False, caller: Caller = OPS) -> ReconcileReport:
        use_case = Reconcile(store=self.store, objects=self.objects, wake_relay=self._wake, new_id=new_id)
        return use_case(caller, after=after, dry_run=dry_run, each=map)

    def run(self, *, dry_run: bool = False) -> list[Finding]:
        """Reconcile from beginning to end, as the command line does."""
        report = self.call(dry_run=dry_run)
        findings = [*report.findings]
        while report.after is not None:
            report = self.call(report.after, dry_run=dry_run)
            findings += report.findings
        return findings

    def actions(self) -> list[str]:
        """Reconcile, and return the actions. First check that a dry run says the same and changes nothing."""
        events, woken = len(self.store.events), self.woken
        said = self.run(dry_run=True)
        assert (len(self.store.events), self.woken, [*self.store.deletions]) == (events, woken, self.store.deletions)
        assert self.run() == said
        return [finding.action.value for finding in said]

    def put_upload(self, video: NewVideo, data: bytes = b"upload") -> None:
        self.objects.put(video.source_key, data, note=note_of_upload(video))

    def put_result(self, key: str, worker: str = "worker-7") -> Result:
        found = Result(key=key, size=6, sha256="cd" * 32, width=1280, height=720, duration=3.5, frames=105)
        self.objects.put(key, b"result", note=note_of_result(found, worker))
        return found

    def uploaded(self) -> str:
        """Add a video to the database and the bucket."""
        video = new_video()
        self.store.begin_upload(video, lifetime=LEASE)
        self.put_upload(video)
        self.store.complete_upload(video.id, Source(6))
        return video.id

    def processed(self) -> str:
        video_id = self.uploaded()
        lease = claim(self.store, video_id)
        assert self.store.publish(lease, self.put_result(lease.result_key))
        return video_id

    def _wake(self) -> None:
        self.woken += 1


@pytest.fixture
def world() -> Iterator[World]:
    """A world in which nothing is left to do at the end of the test, and in which the promises are kept."""
    world = World()
    yield world
    assert not [one for one in world.run(dry_run=True) if one.action.changes]
    for deletion in world.store.hold_deletions(limit=100, hold=DAY):
        world.objects.delete([deletion.key])
    check_promises(in_memory_evidence(world.store, world.objects), POLICY)


def test_a_bucket_and_a_database_that_agree_need_nothing(world: World) -> None:
    world.processed()
    world.uploaded()
    world.woken = 0
    assert world.actions() == []
    assert world.woken == 0


def test_an_upload_without_a_row_becomes_the_same_video_again(world: World) -> None:
    lost = NewVideo("id-1", new_id(), "ada", "Fjord", EDIT, upload_key("id-1"), owned=True, file_name="fjord.mov")
    world.put_upload(lost)

    assert world.actions() == ["restore_upload"]

    video = record_of(world.store, "id-1").video
    assert (video.owner, video.title, video.edit, video.file_name) == ("ada", "Fjord", EDIT, "fjord.mov")
    assert (video.source_key, video.owned, video.source and video.source.size) == (lost.source_key, True, 6)
    assert due(world.store) == ["id-1"]
    assert world.woken == 1


def test_an_upload_that_had_not_ended_in_the_rows_is_completed_once_nobody_renews_it(world: World) -> None:
    video = new_video()
    world.store.begin_upload(video, lifetime=LEASE)
    world.put_upload(video)
    assert world.actions() == []

    world.clock.advance(HOUR)
    assert world.actions() == ["complete_upload"]
    assert record_of(world.store, video.id).job.status is Status.UPLOADED


def test_an_upload_and_its_result_without_rows_become_a_processed_video(world: World) -> None:
    lost = new_video()
    world.put_upload(lost)
    old, current = (world.put_result(result_key(lost.id, fence, new_id())) for fence in (2, 10))

    assert world.actions() == ["restore_upload", "restore_result", "delete_result"]

    job = record_of(world.store, lost.id).job
    assert (job.result, job.fence, due(world.store)) == (current, 10, [])
    assert {one.scheduled.key for one in world.store.deletions} == {old.key}


def test_the_result_of_an_upload_that_had_not_ended_in_the_rows_becomes_current(world: World) -> None:
    video = new_video()
    world.store.begin_upload(video, lifetime=LEASE)
    world.put_upload(video)
    current = world.put_result(result_key(video.id, 1, new_id()))
    world.clock.advance(HOUR)
    assert world.actions() == ["complete_upload", "restore_result"]
    assert record_of(world.store, video.id).job.result == current


def test_a_result_of_a_running_attempt_is_left_alone_until_its_lease_expires(world: World) -> None:
    lease = claim(world.store, world.uploaded())
    found = world.put_result(lease.result_key)
    assert world.actions() == []
    world.clock.advance(HOUR)
    assert world.actions() == ["restore_result"]
    assert record_of(world.store, lease.video_id).job.result == found


def test_a_result_without_a_note_is_deleted_and_rendered_again(world: World) -> None:
    video_id = world.uploaded()
    key = result_key(video_id, 1, new_id())
    world.objects.put(key, b"result")
    assert world.actions() == ["delete_result"]
    assert due(world.store) == [video_id]
    assert {one.scheduled.key for one in world.store.deletions} == {key}


def test_a_result_of_an_attempt_before_the_last_one_is_deleted(world: World) -> None:
    video_id = world.uploaded()
    assert fail(world.store, claim(world.store, video_id))
    world.put_result(result_key(video_id, 1, new_id()))
    assert world.actions() == ["delete_result"]


def test_later_results_of_a_processed_and_of_a_deleted_video_are_deleted(world: World) -> None:
    first, second = world.processed(), world.processed()
    world.store.delete(second, by="ada", grace=timedelta(0))
    later = [world.put_result(result_key(video_id, 9, new_id())).key for video_id in (first, second)]
    assert world.actions() == ["delete_result"] * 2
    assert {one.scheduled.key for one in world.store.deletions} >= set(later)


def test_an_unknown_result_of_a_video_that_a_worker_has_is_deleted(world: World) -> None:
    lease = claim(world.store, world.uploaded())
    world.put_result(result_key(lease.video_id, 9, new_id()))
    assert world.actions() == ["delete_result"]


def test_a_result_of_a_video_that_was_cancelled_and_deleted_is_deleted(world: World) -> None:
    video_id = world.uploaded()
    world.store.delete(video_id, by="ada", grace=timedelta(0))
    world.put_result(result_key(video_id, 9, new_id()))
    assert world.actions() == ["delete_result"]


def test_the_result_of_the_attempt_that_runs_in_the_rows_is_only_replaced_by_a_later_one(world: World) -> None:
    lease = claim(world.store, world.uploaded())
    world.put_result(lease.result_key)
    later = world.put_result(result_key(lease.video_id, 2, new_id()))
    world.clock.advance(HOUR)
    assert world.actions() == ["restore_result"]
    assert record_of(world.store, lease.video_id).job.result == later
    assert {one.scheduled.key for one in world.store.deletions} == {lease.result_key}


def test_a_processed_video_whose_result_is_gone_is_rendered_again(world: World) -> None:
    video_id = world.processed()
    result = record_of(world.store, video_id).job.result
    assert result is not None
    world.objects.delete([result.key])
    assert world.actions() == ["render_again"]
    assert due(world.store) == [video_id]
    lease = claim(world.store, video_id)
    assert world.store.publish(lease, world.put_result(lease.result_key))


def test_what_only_a_person_can_judge_is_reported_again_and_again() -> None:
    world = World()
    waiting, done, ended = world.uploaded(), world.processed(), world.uploaded()
    world.store.cancel(ended)
    world.objects.delete([upload_key(video_id) for video_id in (waiting, done, ended)])
    world.objects.put("uploads/camera.mp4", b"of another program")
    stray = world.put_result(result_key("nobody", 1, new_id()))
    before = len(world.store.events)

    for _ in range(2):
        found = {finding.key: finding for finding in world.run()}
        assert Counter(finding.action.value for finding in found.values()) == {
            "unknown_upload": 1, "unknown_result": 1, "source_missing": 3
        }  # fmt: skip
        assert found[upload_key(waiting)].message == "It is uploaded, but its attempts will fail with source_missing."
        assert found[upload_key(ended)].message == "It is cancelled, but it can't be retried."
    assert len(world.store.events) == before
    assert stray.key in world.objects.contents


def test_objects_that_are_not_ours_or_wait_for_their_deletion_are_left_alone(world: World) -> None:
    video = new_video()
    world.store.begin_upload(video, lifetime=LEASE)
    world.store.abandon_upload(video.id)
    world.put_upload(video)
    for key in (
        "uploads/",
        "uploads/2026/a.mp4",
        "uploads/a.mov",
        "processed/",
        "processed/a.mp4",
        "processed/a/b.mp4",
    ):
        world.objects.put(key, b"other")
    assert world.actions() == []
    world.objects.contents.clear()


def test_an_object_that_the_bucket_withholds_is_neither_missing_nor_deleted(world: World) -> None:
    video_id = world.processed()
    result = record_of(world.store, video_id).job.result
    assert result is not None
    stray = world.put_result(result_key(video_id, 9, new_id())).key
    world.withheld = {result.key, upload_key(video_id), stray}
    assert world.actions() == []
    world.withheld.clear()
    assert world.actions() == ["delete_result"]


def test_rows_of_a_newer_version_are_left_alone(world: World) -> None:
    video_id = world.uploaded()
    world.put_result(result_key(video_id, 9, new_id()))
    world.store.unreadable.add(video_id)
    assert world.actions() == []
    world.store.unreadable.clear()
    assert world.actions() == ["restore_result"]


def test_several_calls_find_the_same_as_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "OBJECTS", 3)
    monkeypatch.setattr(reconcile, "RECORDS", 2)
    lost = [new_video() for _ in range(5)]
    for video in lost:
        world.put_upload(video)
        for fence in (1, 2):
            world.put_result(result_key(video.id, fence, new_id()))
    gone = record_of(world.store, world.processed()).job.result
    assert gone is not None
    world.objects.delete([gone.key])

    found = Counter(world.actions())

    assert found == {"restore_upload": 5, "restore_result": 5, "delete_result": 5, "render_again": 1}
    lease = claim(world.store, due(world.store)[0])
    assert world.store.publish(lease, world.put_result(lease.result_key))


def test_what_another_program_has_corrected_meanwhile_is_not_reported(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put_upload(new_video())
    for error in (Conflict("source_taken", "It is taken."), NotFound("video_not_found", "It was deleted.")):
        with monkeypatch.context() as patch:
            patch.setattr(world.store, "submit_existing", _raising(error))
            assert world.run() == []
    assert world.woken == 0
    assert len(world.run()) == 1


def test_others_reconcile_nothing_and_a_position_must_come_from_a_report(world: World) -> None:
    with pytest.raises(Forbidden):
        world.call(caller=Caller("ana"))
    with pytest.raises(Invalid) as refused:
        world.call("camera/")
    assert refused.value.code == "cursor_invalid"


def _raising(error: Exception) -> Any:
    def fail(*_: object) -> None:
        raise error

    return fail
