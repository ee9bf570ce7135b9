"""Tests of adoption: another program puts an object into the bucket, S3 reports it, and a worker adopts it."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from anb_core.domain.errors import Withheld
from anb_core.domain.model import DeadLetterCause
from anb_core.domain.s3_notifications import CreatedObject
from anb_core.ports.objects import StoredObject
from anb_core.ports.queue import Delivery
from anb_core.usecases.report import Outcome, Report
from tests.support.renderer import SOURCE
from tests.support.s3_notifications import ETAG, TEST_EVENT, envelope, notification, record
from tests.unit.usecases.one_worker import BUCKET_AWAY, DATABASE_AWAY, QUEUE_AWAY, Death, World

KEY = "camera/front door.mp4"
VIDEO = CreatedObject("anb-videos", KEY, ETAG).video_id
WRITTEN = "camera/front+door.mp4"
OWNER = "ANB_ADOPT_OWNER to the owner of such videos"
PREFIXES = "ANB_SOURCE_PREFIXES to a list with a prefix of its key"
OR_END = "or end its notifications"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A worker that adopts objects with the prefix camera/, and one object with this prefix."""
    world = World(tmp_path)
    world.objects.put(KEY, SOURCE)
    yield world
    world.check_promises()


def deliver(world: World, body: str) -> Delivery:
    world.queue.put(body)
    return world.receive()


def handle(world: World, body: str, *, adopts: bool = True) -> Report:
    return world.handle(deliver(world, body), adopts=adopts)


def recorded(world: World) -> list[tuple[DeadLetterCause, str]]:
    return [(letter.cause, letter.detail) for letter in world.store.letters]


@pytest.mark.parametrize("wrap", [str, envelope], ids=["alone or raw", "SNS"])
def test_an_object_that_s3_reports_becomes_a_video_and_is_processed(world: World, wrap: Callable[[str], str]) -> None:
    report = handle(world, wrap(notification(record(WRITTEN))))
    assert (report.outcome, report.video_id, report.detail) == (Outcome.ADOPTED, VIDEO, VIDEO)
    adopted = world.store.get(VIDEO)
    assert adopted is not None
    assert (adopted.video.source_key, adopted.video.owner, adopted.video.owned) == (KEY, "legacy", False)
    assert adopted.video.title == "front door"

    world.relay.send_due()
    assert world.handle().outcome is Outcome.PROCESSED
    assert world.queue.depth().empty


def test_an_event_that_comes_again_is_the_same_video_also_when_its_object_is_gone(world: World) -> None:
    body = notification(record(WRITTEN))
    handle(world, body)
    assert handle(world, body).outcome is Outcome.IGNORED

    world.relay.send_due()
    assert world.handle().outcome is Outcome.PROCESSED
    world.objects.delete([KEY])
    report = handle(world, envelope(body))
    assert (report.outcome, report.detail) == (Outcome.IGNORED, "the object is a video already")
    assert world.adopted == [(KEY, VIDEO)]
    assert not recorded(world)


def test_an_event_that_two_workers_handle_at_once_is_one_video(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (deliver(world, notification(record(WRITTEN))) for _ in range(2))
    head = world.objects.head

    def head_while_another_worker_adopts(key: str) -> StoredObject | None:
        monkeypatch.undo()
        assert world.handle(second, worker="worker-2", adopts=True).outcome is Outcome.ADOPTED
        return head(key)

    monkeypatch.setattr(world.objects, "head", head_while_another_worker_adopts)
    assert world.handle(first, adopts=True).outcome is Outcome.ADOPTED
    assert world.adopted == [(KEY, VIDEO)]
    assert world.relay.send_due().sent == 1


def test_an_object_that_is_overwritten_is_another_video_in_any_order(world: World) -> None:
    new, old = (record(WRITTEN, versionId=version) for version in ("new", "old"))
    handle(world, notification(new))
    handle(world, notification(old))
    handle(world, notification(new, old))
    assert len(world.adopted) == 2


def test_a_deleted_video_is_not_brought_back_by_its_event(world: World) -> None:
    body = notification(record(WRITTEN))
    handle(world, body)
    world.store.delete(VIDEO, by="ada", grace=timedelta(days=1))
    report = handle(world, body)
    assert (report.outcome, report.detail) == (Outcome.IGNORED, "the video was deleted")
    assert not world.adopted
    assert not recorded(world)


@pytest.mark.parametrize("adopts", [True, False], ids=["adopting", "not adopting"])
@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (notification(record("uploads/x.mp4")), "the object is ours"),
        (notification(record("processed/x/1-a.mp4")), "the object is ours"),
        (notification(record("resources/intro.mp4"), record("uploads/x.mp4")), "the object is ours"),
        (notification(record("camera/2026/", size=None)), "the object is empty or stands for a folder"),
        (notification(record(WRITTEN, size=0, bucket="another")), "the object is empty or stands for a folder"),
        (notification(record(WRITTEN, name="ObjectRemoved:Delete")), "no object was created"),
        (TEST_EVENT, "no object was created"),
        (envelope(TEST_EVENT), "no object was created"),
    ],
    ids=["upload", "result", "resource", "folder", "empty", "removal", "test", "test over SNS"],
)
def test_an_event_that_needs_nothing_is_ignored(world: World, body: str, detail: str, *, adopts: bool) -> None:
    report = handle(world, body, adopts=adopts)
    assert (report.outcome, report.detail) == (Outcome.IGNORED, detail)
    assert world.queue.depth().empty
    assert not world.adopted
    assert not recorded(world)


@pytest.mark.parametrize(
    ("written", "adopts", "sentence"),
    [
        (record(WRITTEN), False, f"'s3://anb-videos/{KEY}' was created, but is not adopted: set {OWNER}, {OR_END}"),
        (
            record("archive/a.mp4"),
            True,
            f"'s3://anb-videos/archive/a.mp4' was created, but is not adopted: set {PREFIXES}, {OR_END}",
        ),
        (
            record("archive/a.mp4"),
            False,
            f"'s3://anb-videos/archive/a.mp4' was created, but is not adopted: set {OWNER} and {PREFIXES}, {OR_END}",
        ),
        (
            record(WRITTEN, bucket="another"),
            True,
            f"'s3://another/{KEY}' was created in a bucket that is not ours: set S3_BUCKET to it, {OR_END}",
        ),
        (
            record("uploads/a.mp4", bucket="another"),
            True,
            f"'s3://another/uploads/a.mp4' was created in a bucket that is not ours: set S3_BUCKET to it, {OR_END}",
        ),
        (
            record("camera/large.mp4"),
            True,
            (
                "'s3://anb-videos/camera/large.mp4' can't be adopted: The file has more than 1000 bytes, which is the "
                "limit. To allow more, raise ANB_MAX_UPLOAD_BYTES."
            ),
        ),
        (
            record("camera/gone.mp4"),
            True,
            (
                "'s3://anb-videos/camera/gone.mp4' can't be adopted: There is no object 'camera/gone.mp4' in bucket "
                "anb-videos."
            ),
        ),
    ],
    ids=["adoption off", "other prefix", "both", "other bucket", "uploads of another bucket", "too large", "gone"],
)
def test_an_object_that_can_not_be_adopted_is_a_dead_letter_that_says_what_to_set(
    world: World, written: dict[str, Any], sentence: str, *, adopts: bool
) -> None:
    world.objects.put("camera/large.mp4", b"x" * 1001)
    report = handle(world, notification(written), adopts=adopts)
    assert report.outcome is Outcome.RECORDED
    assert recorded(world) == [(DeadLetterCause.UNKNOWN_JOB, sentence)]
    assert world.queue.depth().empty
    assert not world.adopted


def test_every_record_of_a_message_is_handled_and_the_message_is_one_dead_letter(world: World) -> None:
    records = [record(f"archive/{number}.mp4") for number in range(7)]
    body = notification(records[0], records[0], record("uploads/x.mp4"), record(WRITTEN), *records)
    assert handle(world, body).outcome is Outcome.RECORDED
    assert world.adopted == [(KEY, VIDEO)]
    [(_, detail)] = recorded(world)
    assert [f"archive/{number}.mp4" in detail for number in range(7)] == [True] * 5 + [False] * 2
    assert detail.endswith("; 2 more")


def test_several_objects_of_a_message_are_all_adopted(world: World) -> None:
    world.objects.put("camera/back.mp4", SOURCE)
    report = handle(world, notification(record(WRITTEN), record("camera/back.mp4"), record("camera/", size=0)))
    assert (report.outcome, report.video_id) == (Outcome.ADOPTED, None)
    assert {video_id for _, video_id in world.adopted} == set((report.detail or "").split("; "))
    assert {key for key, _ in world.adopted} == {KEY, "camera/back.mp4"}


@pytest.mark.parametrize("away", [BUCKET_AWAY, Withheld("object_withheld", "the bucket does not give us the object")])
def test_a_message_is_given_back_while_the_bucket_gives_no_object(world: World, away: Exception) -> None:
    world.objects.fault = away  # type: ignore[assignment]
    delivery = deliver(world, notification(record(WRITTEN)))
    report = world.handle(delivery, adopts=True)
    assert (report.outcome, report.unavailable and report.unavailable.part) == (Outcome.GIVEN_BACK, "bucket")
    assert not recorded(world)

    world.objects.fault = None
    assert world.handle(delivery, adopts=True).outcome is Outcome.ADOPTED


@pytest.mark.parametrize("part", ["store", "objects"])
def test_an_outage_between_two_records_gives_the_message_back_and_the_repeat_changes_nothing_twice(
    world: World, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    world.objects.put("camera/back.mp4", SOURCE)
    body = notification(record(WRITTEN), record("camera/back.mp4"), record("archive/a.mp4"))
    delivery = deliver(world, body)
    submit_existing = world.store.submit_existing

    def submit_then_fail(*given: Any) -> Any:
        answer = submit_existing(*given)
        world.store.fault, world.objects.fault = (DATABASE_AWAY, None) if part == "store" else (None, BUCKET_AWAY)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "submit_existing", submit_then_fail)
        assert world.handle(delivery, adopts=True).outcome is Outcome.GIVEN_BACK
    world.store.fault = world.objects.fault = None
    assert world.adopted == [(KEY, VIDEO)]

    for _ in range(2):
        assert world.handle(delivery, adopts=True).outcome is Outcome.RECORDED
    assert len(world.adopted) == 2
    assert len(recorded(world)) == 1
    assert world.relay.send_due().sent == 2


@pytest.mark.parametrize("dies", [True, False])
def test_a_message_that_stays_after_its_adoption_is_ignored_next_time(world: World, *, dies: bool) -> None:
    delivery = deliver(world, notification(record(WRITTEN)))
    if dies:
        world.die_at = "delete"
        with pytest.raises(Death):
            world.handle(delivery, adopts=True)
        world.die_at = None
    else:
        world.queue.fault = QUEUE_AWAY
        assert world.handle(delivery, adopts=True).outcome is Outcome.ADOPTED
        world.queue.fault = None
    world.clock.advance(world.queue.visibility)
    assert world.handle(adopts=True).outcome is Outcome.IGNORED
    assert world.queue.depth().empty


def test_an_event_that_can_not_be_read_is_recorded_as_unreadable(world: World) -> None:
    body = notification(record(7))
    assert handle(world, body).outcome is Outcome.RECORDED
    assert recorded(world) == [(DeadLetterCause.UNREADABLE, "record 1 has no key of 1 to 1024 bytes")]
    assert json.loads(world.store.letters[0].body or "") == json.loads(body)
