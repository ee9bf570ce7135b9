from datetime import timedelta

import pytest

from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Conflict, NotFound
from anb_core.domain.keys import upload_key
from anb_core.domain.model import NewVideo, Scope, Source
from anb_core.domain.status import Status
from anb_core.testing.clock import ManualClock
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.store import InMemoryStore
from anb_core.usecases import commands, reading
from anb_core.usecases.visibility import Caller, find

ANA, BOB, OPS = Caller("ana"), Caller("bob"), Caller("olga", Scope.OPS)


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = InMemoryStore(self.clock.now)
        self.objects = InMemoryObjects()
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1

    def upload(self, video_id: str, owner: str = "ana") -> None:
        key = upload_key(video_id)
        self.objects.put(key, b"video")
        new = NewVideo(video_id, f"task-{video_id}", owner, "A title", EditSpec(), key, owned=True, file_name="a.mp4")
        self.store.submit_existing(new, Source(5))
        self.clock.advance(timedelta(seconds=1))


@pytest.fixture
def world() -> World:
    world = World()
    world.upload("v1")
    return world


def test_cancelling_ends_the_job_for_its_owner_and_for_ops(world: World) -> None:
    world.upload("v2")

    assert commands.cancel(world.store, ANA, "v1").job.status is Status.CANCELLED
    assert commands.cancel(world.store, OPS, "v2").job.status is Status.CANCELLED


def test_what_is_over_cannot_be_cancelled(world: World) -> None:
    commands.cancel(world.store, ANA, "v1")

    with pytest.raises(Conflict) as refusal:
        commands.cancel(world.store, ANA, "v1")

    assert refusal.value.code == "wrong_status"


def test_a_retry_begins_a_new_generation_and_wakes_the_relay(world: World) -> None:
    commands.cancel(world.store, ANA, "v1")

    record = commands.retry(world.store, world.objects, ANA, "v1", wake_relay=world.wake)

    assert (record.job.status, record.job.generation, world.woken) == (Status.UPLOADED, 2, 1)


def test_a_retry_without_its_source_is_refused_and_changes_nothing(world: World) -> None:
    before = commands.cancel(world.store, ANA, "v1")
    world.objects.delete([upload_key("v1")])

    with pytest.raises(Conflict) as refusal:
        commands.retry(world.store, world.objects, ANA, "v1", wake_relay=world.wake)

    assert refusal.value.code == "source_missing"
    assert (world.store.get("v1"), world.woken) == (before, 0)


def test_a_job_that_is_not_over_cannot_be_retried(world: World) -> None:
    with pytest.raises(Conflict) as refusal:
        commands.retry(world.store, world.objects, ANA, "v1", wake_relay=world.wake)

    assert (refusal.value.code, world.woken) == ("wrong_status", 0)


def test_a_deleted_video_is_not_found_and_its_object_goes_after_the_grace(world: World) -> None:
    commands.delete(world.store, ANA, "v1")

    with pytest.raises(NotFound):
        find(world.store, ANA, "v1")
    with pytest.raises(NotFound):
        commands.delete(world.store, ANA, "v1")
    assert not world.store.hold_deletions(limit=10, hold=timedelta(0))
    world.clock.advance(commands.DELETION_GRACE)
    assert upload_key("v1") in {one.key for one in world.store.hold_deletions(limit=10, hold=timedelta(0))}


def test_for_another_owner_the_video_does_not_exist_and_stays_as_it_is(world: World) -> None:
    before = world.store.get("v1")

    for command in (
        lambda: find(world.store, BOB, "v1"),
        lambda: commands.cancel(world.store, BOB, "v1"),
        lambda: commands.retry(world.store, world.objects, BOB, "v1", wake_relay=world.wake),
        lambda: commands.delete(world.store, BOB, "v1"),
        lambda: reading.download_url(world.store, world.objects, BOB, "v1", lifetime=timedelta(minutes=1)),
    ):
        with pytest.raises(NotFound) as theirs:
            command()
        with pytest.raises(NotFound) as nobodys:
            find(world.store, BOB, "v0")
        assert (theirs.value.code, theirs.value.message) == (
            nobodys.value.code,
            nobodys.value.message.replace("v0", "v1"),
        )

    assert world.store.get("v1") == before


def test_pages_show_every_video_once_newest_first(world: World) -> None:
    for number in range(2, 6):
        world.upload(f"v{number}")
    world.upload("w1", owner="bob")

    seen, after = [], None
    while True:
        page = reading.browse(world.store, ANA, after=after, limit=2)
        seen.append([record.video.id for record in page.records])
        after = page.after
        if after is None:
            break

    assert seen == [["v5", "v4"], ["v3", "v2"], ["v1"]]


def test_a_last_page_that_is_full_has_none_after_it(world: World) -> None:
    world.upload("v2")

    assert reading.browse(world.store, ANA, limit=2).after is None


def test_ops_see_the_videos_of_all_owners(world: World) -> None:
    world.upload("w1", owner="bob")

    assert [record.video.id for record in reading.browse(world.store, OPS, limit=10).records] == ["w1", "v1"]
    assert [record.video.id for record in reading.browse(world.store, BOB, limit=10).records] == ["w1"]


def test_a_listing_can_be_limited_to_statuses(world: World) -> None:
    world.upload("v2")
    commands.cancel(world.store, ANA, "v1")

    listing = reading.browse(world.store, ANA, statuses=[Status.CANCELLED], limit=10)

    assert [record.video.id for record in listing.records] == ["v1"]


def test_what_is_not_processed_cannot_be_downloaded(world: World) -> None:
    with pytest.raises(Conflict, match="uploaded") as refusal:
        reading.download_url(world.store, world.objects, ANA, "v1", lifetime=timedelta(minutes=1))

    assert refusal.value.code == "not_processed"
