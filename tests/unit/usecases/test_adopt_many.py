"""Tests of bulk adoption: objects that were in the bucket before become videos."""

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from anb_core.adapters.system import new_id
from anb_core.domain.adoption import adopted_id
from anb_core.domain.errors import Forbidden, Invalid, LimitReached, Unavailable, Withheld
from anb_core.domain.limits import NO_LIMITS, Cap, Limits
from anb_core.domain.model import Scope
from anb_core.domain.s3_notifications import CreatedObject
from anb_core.ports.objects import Peeked
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.store import InMemoryStore
from anb_core.usecases import adopt_many
from anb_core.usecases.adopt import Adopt, Adopted
from anb_core.usecases.adopt_many import AdoptionReport, AdoptMany, Order
from anb_core.usecases.submit import Submit
from anb_core.usecases.visibility import Caller
from tests.support.given import DAY, processed, record_of, uploading

OPS = Caller("olga", Scope.OPS)
VIDEO = b"\0\0\0\x18ftypisom" + b"\0" * 200
CAMERA = Order(prefix="camera/", owner="ana")


class World:
    """A bucket and a store. `withheld` has the keys that the bucket does not give us."""

    def __init__(self) -> None:
        self.store, self.objects = InMemoryStore(), InMemoryObjects()
        self.withheld: set[str] = set()
        self.read: list[str] = []
        self.limits = NO_LIMITS
        self.woken = 0
        peek = self.objects.peek

        def peek_unless_withheld(key: str, most: int) -> Peeked | None:
            self.read.append(key)
            if key in self.withheld:
                raise Withheld("object_withheld", f"The bucket does not give us {key}.")
            return peek(key, most)

        self.objects.peek = peek_unless_withheld  # type: ignore[method-assign]

    def submit(self) -> Submit:
        return Submit(
            self.store,
            self.objects,
            max_bytes=1000,
            source_prefixes=["camera/"],
            wake_relay=self._wake,
            new_id=new_id,
        )

    def adopt(self, order: Order = CAMERA, *, caller: Caller = OPS) -> AdoptionReport:
        use_case = AdoptMany(store=self.store, objects=self.objects, submit=self.submit(), limits=self.limits)
        return use_case(caller, order, each=map)

    def adopt_all(self, order: Order = CAMERA) -> list[AdoptionReport]:
        """Adopt objects until the list ends, as the command line does."""
        reports = [self.adopt(order)]
        while reports[-1].after is not None:
            reports.append(self.adopt(replace(order, after=reports[-1].after)))
        return reports

    def sources(self, owner: str = "ana") -> list[str]:
        return sorted(record.video.source_key for record in self.store.listing(owner=owner, limit=1000))

    def _wake(self) -> None:
        self.woken += 1


@pytest.fixture
def world() -> World:
    return World()


def codes(report: AdoptionReport) -> dict[str, str]:
    return {one.key: one.code for one in (*report.ignored, *report.refused)}


def test_objects_under_a_prefix_become_videos_of_the_owner_and_are_never_ours(world: World) -> None:
    for key in ("camera/front door+1.mp4", "camera/é.mp4", "camera//a.mp4", "drone/b.mp4"):
        world.objects.put(key, VIDEO)

    report = world.adopt()

    assert list(report.adopted) == ["camera//a.mp4", "camera/front door+1.mp4", "camera/é.mp4"]
    assert (report.ignored, report.refused, report.after) == ([], [], None)
    videos = [record_of(world.store, video_id).video for video_id in report.adopted.values()]
    assert [(video.title, video.owner, video.owned) for video in videos] == [
        ("a", "ana", False), ("front door+1", "ana", False), ("é", "ana", False)
    ]  # fmt: skip
    assert world.woken == 3


def test_only_objects_that_are_videos_are_adopted_and_each_other_one_has_a_reason(world: World) -> None:
    world.objects.put("camera/good.mp4", VIDEO)
    world.objects.put("camera/good as well", VIDEO)
    world.objects.put("camera/thumbnail.mp4", b"\xff\xd8\xff\xe0")
    world.objects.put("camera/large.mp4", VIDEO + b"\0" * 1000)
    world.objects.put("camera/empty.mp4", b"")
    world.objects.put("camera/2026/", b"")
    world.objects.put("camera/secret.mp4", VIDEO)
    world.withheld = {"camera/secret.mp4"}

    report = world.adopt()

    assert list(report.adopted) == ["camera/good as well", "camera/good.mp4"]
    assert [(one.key, one.code) for one in report.ignored] == [
        ("camera/2026/", "file_empty"), ("camera/empty.mp4", "file_empty"), ("camera/thumbnail.mp4", "not_a_video")
    ]  # fmt: skip
    assert [(one.key, one.code, one.message) for one in report.refused] == [
        (
            "camera/large.mp4",
            "file_too_large",
            "The file has more than 1000 bytes, which is the limit. To allow more, raise ANB_MAX_UPLOAD_BYTES.",
        ),
        ("camera/secret.mp4", "object_withheld", "The bucket does not give us camera/secret.mp4."),
    ]


def test_a_dry_run_reports_what_the_real_run_then_does_and_changes_nothing(world: World) -> None:
    for number in range(5):
        world.objects.put(f"camera/{number}.mp4", VIDEO)
    world.objects.put("camera/5.txt", b"text")
    world.objects.put("camera/6.mp4", VIDEO + b"\0" * 1000)
    world.adopt(replace(CAMERA, cap=1))
    before = world.store.last_event_id()

    with capture_logs() as logs:
        foretold = world.adopt(replace(CAMERA, dry_run=True))

    assert logs == []
    assert (world.store.last_event_id(), world.woken, len(world.sources())) == (before, 1, 1)
    assert foretold == world.adopt()
    assert len(foretold.adopted) == 4


def test_a_repeated_run_reads_no_object_again_and_adopts_only_what_is_new(world: World) -> None:
    world.objects.put("camera/a.mp4", VIDEO)
    world.adopt()
    world.objects.put("camera/b.mp4", VIDEO)
    world.read.clear()

    report = world.adopt()

    assert (list(report.adopted), codes(report)) == (["camera/b.mp4"], {"camera/a.mp4": "source_taken"})
    assert world.read == ["camera/b.mp4"]


def test_an_object_that_s3_reported_before_or_reports_later_is_one_video(world: World) -> None:
    adopt = Adopt(
        store=world.store, submit=world.submit(), bucket=world.objects.bucket, owner="ana", source_prefixes=("camera/",)
    )
    reported, listed = (
        CreatedObject(world.objects.bucket, key, world.objects.put(key, VIDEO).etag)
        for key in ("camera/a.mp4", "camera/b.mp4")
    )
    assert adopt.created(reported) == Adopted(reported.video_id)

    assert world.adopt().adopted == {"camera/b.mp4": listed.video_id}
    assert not isinstance(adopt.created(listed), Adopted)
    assert len(world.sources()) == 2


def test_an_object_that_an_older_producers_message_or_a_videojob_named_is_a_video_already(world: World) -> None:
    world.objects.put("uploads/a.mp4", VIDEO)
    world.submit().submit_existing("uploads/a.mp4", "named-by-its-producer", owner="bob")
    assert codes(world.adopt(Order(prefix="uploads/", owner="ana"))) == {"uploads/a.mp4": "source_taken"}


def test_an_object_that_was_overwritten_since_becomes_another_video(world: World) -> None:
    world.objects.put("camera/a.mp4", VIDEO)
    [first] = world.adopt().adopted.values()
    world.objects.put("camera/a.mp4", VIDEO + b"more")
    [second] = world.adopt().adopted.values()
    assert first != second
    assert world.sources() == ["camera/a.mp4"] * 2
    assert codes(world.adopt()) == {"camera/a.mp4": "source_taken"}


def test_our_own_uploads_are_never_adopted_also_while_they_run_or_wait_for_their_deletion(world: World) -> None:
    finished = record_of(world.store, processed(world.store)).video
    running, abandoned, deleted = (uploading(world.store).video for _ in range(3))
    world.store.abandon_upload(abandoned.id)
    world.store.delete(deleted.id, by="ada", grace=DAY)
    for video in (finished, running, abandoned, deleted):
        # Another size does not matter: the objects are ours.
        world.objects.put(video.source_key, VIDEO)
    world.objects.put("uploads/of an older deployment.mp4", VIDEO)

    report = world.adopt(Order(prefix="uploads/", owner="ana"))

    assert list(report.adopted) == ["uploads/of an older deployment.mp4"]
    assert codes(report) == {
        finished.source_key: "source_taken",
        running.source_key: "source_taken",
        abandoned.source_key: "video_not_found",
        deleted.source_key: "video_not_found",
    }


def test_a_deleted_video_is_not_brought_back(world: World) -> None:
    world.objects.put("camera/a.mp4", VIDEO)
    [video_id] = world.adopt().adopted.values()
    world.store.delete(video_id, by="ana", grace=DAY)
    assert codes(world.adopt()) == {"camera/a.mp4": "video_not_found"}


def test_a_list_of_any_length_is_adopted_in_parts_each_object_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adopt_many, "PAGE", 10)
    monkeypatch.setattr(adopt_many, "MAX_ADOPTIONS", 4)
    keys = [f"camera/{number:02}.mp4" for number in range(25)]
    for number, key in enumerate(keys):
        world.objects.put(key, VIDEO if number % 3 else b"no video")

    reports = world.adopt_all()

    assert [key for report in reports for key in report.adopted] == [
        key for number, key in enumerate(keys) if number % 3
    ]
    assert sorted(key for report in reports for key in (*report.adopted, *codes(report))) == keys
    assert max(len(report.adopted) + len(report.ignored) for report in reports) == 4
    again = world.adopt_all()
    assert sorted(key for report in again for key in codes(report)) == keys


def test_no_more_objects_are_adopted_than_the_cap_and_the_next_call_goes_on(world: World) -> None:
    for number in range(3):
        world.objects.put(f"camera/{number}.mp4", VIDEO)
    reports = world.adopt_all(replace(CAMERA, cap=2))
    assert [list(report.adopted) for report in reports] == [["camera/0.mp4", "camera/1.mp4"], ["camera/2.mp4"]]


def test_adoptions_stop_at_half_of_a_limit_and_say_so_before_anything_else_is_examined(world: World) -> None:
    world.limits = Limits(in_all=Cap(unfinished=5))
    for number in range(5):
        world.objects.put(f"camera/{number}.mp4", VIDEO)

    report = world.adopt()

    assert (len(report.adopted), report.after) == (3, "camera/2.mp4")
    with pytest.raises(LimitReached) as refusal:
        world.adopt(replace(CAMERA, after=report.after))
    assert refusal.value.code == "backlog_full"
    assert refusal.value.message.startswith(
        "Adopted videos get half of what the limits for unfinished videos allow. 3 "
    )
    world.store.cancel(next(iter(report.adopted.values())))
    assert list(world.adopt(replace(CAMERA, after=report.after)).adopted) == ["camera/3.mp4"]


def test_adoptions_are_refused_while_no_more_bytes_may_be_stored(world: World) -> None:
    world.limits = Limits(per_owner=Cap(stored_bytes=1))
    processed(world.store, owner="ana")
    world.objects.put("camera/a.mp4", VIDEO)
    with pytest.raises(LimitReached, match="one owner may store at most 1:") as refusal:
        world.adopt()
    assert refusal.value.code == "quota_exceeded"


def test_a_prefix_that_no_key_can_have_is_refused_without_asking_the_bucket(world: World) -> None:
    world.objects.fault = Unavailable("bucket", "414, Request-URI Too Long")
    with pytest.raises(Invalid, match="1 to 1024 bytes in UTF-8"):
        world.adopt(Order(prefix="camera/" + "é" * 600, owner="ana"))


@pytest.mark.parametrize("prefix", ["", "cam", "drone/", "/uploads/", "s3://anb-videos/uploads/", "processed/"])
def test_a_prefix_outside_of_the_settings_is_refused_and_the_setting_is_named(world: World, prefix: str) -> None:
    with pytest.raises(Invalid, match=r"uploads/, camera/ can\. ANB_SOURCE_PREFIXES adds others") as refusal:
        world.adopt(Order(prefix=prefix, owner="ana"))
    assert refusal.value.code == "key_not_allowed"


def test_only_operators_adopt(world: World) -> None:
    with pytest.raises(Forbidden):
        world.adopt(caller=Caller("ana"))


def test_after_an_outage_in_the_middle_the_repeated_call_adopts_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        world.objects.put(f"camera/{number}.mp4", VIDEO)
    submit_existing = world.store.submit_existing

    def submit_twice_then_fail(*given: object) -> object:
        if len(world.sources()) == 2:
            raise Unavailable("database", "the database does not answer")
        return submit_existing(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "submit_existing", submit_twice_then_fail)
        with pytest.raises(Unavailable):
            world.adopt()

    report = world.adopt()
    assert (list(report.adopted), list(codes(report).values())) == (
        ["camera/2.mp4", "camera/3.mp4"],
        ["source_taken"] * 2,
    )
    assert len(world.sources()) == 4


def test_an_object_that_another_program_adopts_or_removes_meanwhile_is_left_to_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("camera/a.mp4", "camera/b.mp4"):
        world.objects.put(key, VIDEO)
    world.objects.put("camera/c.mp4", VIDEO)
    examine = Submit.examine

    def examine_while_others_act(submit: Submit, key: str) -> Peeked:
        world.objects.delete(["camera/b.mp4"])
        peeked = examine(submit, key)
        owner = "cameras" if key == "camera/a.mp4" else "ana"
        submit.submit_examined(key, peeked.size, adopted_id(world.objects.bucket, key, peeked.version), owner=owner)
        return peeked

    monkeypatch.setattr(Submit, "examine", examine_while_others_act)
    report = world.adopt()
    assert (report.adopted, codes(report)) == (
        {},
        {"camera/a.mp4": "video_exists", "camera/b.mp4": "source_missing", "camera/c.mp4": "source_taken"},
    )
    assert world.sources("cameras") == ["camera/a.mp4"]
