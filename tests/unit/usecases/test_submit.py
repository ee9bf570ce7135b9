from collections.abc import Sequence

import pytest

from anb_core.adapters.system import new_id
from anb_core.domain.errors import Conflict, Invalid, NotFound, Refused, TooLarge, Unavailable, Withheld
from anb_core.domain.model import Record, Source
from anb_core.domain.status import Status
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.submit import Submit

VIDEO = b"\0\0\0\x18ftypisom" + b"\0" * 2000


class World:
    def __init__(self) -> None:
        self.store = InMemoryStore()
        self.objects = InMemoryObjects()
        self.woken = 0
        self.submit = Submit(
            self.store,
            self.objects,
            max_bytes=10_000,
            source_prefixes=["camera/"],
            wake_relay=self._wake,
            new_id=new_id,
        )

    def videos(self) -> Sequence[Record]:
        return self.store.listing(owner=None)

    def _wake(self) -> None:
        self.woken += 1


@pytest.fixture
def world() -> World:
    return World()


def test_an_object_that_is_there_already_is_submitted_once(world: World) -> None:
    world.objects.put("camera/2026/door.mp4", VIDEO)

    first, created = world.submit.submit_existing("camera/2026/door.mp4", "v1", owner="ana")
    again, created_again = world.submit.submit_existing("camera/2026/door.mp4", "v1", owner="ana")

    assert (created, created_again, first) == (True, False, again)
    assert (first.video.title, first.video.file_name, first.video.owned) == ("door", "door.mp4", False)
    assert first.video.source == Source(len(VIDEO))
    assert first.job.status is Status.UPLOADED
    assert world.woken == 1


@pytest.mark.parametrize("key", ["secrets/a.mp4", "processed/v/1-a.mp4", "camera/", "uploads", ""])
def test_only_objects_under_the_allowed_prefixes_can_be_submitted(world: World, key: str) -> None:
    world.objects.put(key, VIDEO)

    with pytest.raises(Invalid, match="uploads/, camera/"):
        world.submit.submit_existing(key, "v1", owner="ana")


@pytest.mark.parametrize("key", ["camera/" + "é" * 509, "camera/" + "k" * 250_000, "camera/\ud800"], ids=len)
def test_a_key_that_no_object_can_have_is_refused_in_a_short_sentence_without_asking_the_bucket(
    world: World, key: str
) -> None:
    world.objects.fault = Unavailable("bucket", "414, Request-URI Too Long")

    with pytest.raises(Invalid, match="1 to 1024 bytes in UTF-8") as refusal:
        world.submit.submit_existing(key, "v1", owner="ana")

    assert (refusal.value.code, len(refusal.value.message) < 200) == ("key_not_allowed", True)


def test_a_key_that_a_database_would_change_is_refused(world: World) -> None:
    world.objects.put("camera/a\0.mp4", VIDEO)

    with pytest.raises(Invalid, match="has the character NUL") as refusal:
        world.submit.submit_existing("camera/a\0.mp4", "v1", owner="ana")

    assert refusal.value.code == "key_not_allowed"


def test_a_missing_key_is_named_without_the_control_characters_that_a_terminal_would_obey(world: World) -> None:
    with pytest.raises(NotFound, match=r"no object 'camera/\\x1b\[2J\\nx' in"):
        world.submit.submit_existing("camera/\x1b[2J\nx", "v1", owner="ana")


def test_the_longest_key_is_submitted(world: World) -> None:
    world.objects.put(key := "camera/" + "k" * 1017, VIDEO)
    assert world.submit.submit_existing(key, "v1", owner="ana")[1]


def test_an_object_that_is_not_there_or_empty_or_too_large_is_not_submitted(world: World) -> None:
    world.objects.put("camera/empty.mp4", b"")
    world.objects.put("camera/large.mp4", b"x" * 10_001)

    with pytest.raises(NotFound) as missing:
        world.submit.submit_existing("camera/none.mp4", "v1", owner="ana")
    with pytest.raises(Invalid) as empty:
        world.submit.submit_existing("camera/empty.mp4", "v1", owner="ana")
    with pytest.raises(TooLarge) as large:
        world.submit.submit_existing("camera/large.mp4", "v1", owner="ana")

    assert [error.value.code for error in (missing, empty, large)] == ["source_missing", "file_empty", "file_too_large"]
    assert not world.videos()


def test_an_object_that_the_bucket_withholds_is_refused_with_the_reason(world: World) -> None:
    world.objects.fault = Withheld("object_withheld", "the bucket does not give us camera/a.mp4")

    with pytest.raises(Refused, match=r"does not give us camera/a\.mp4"):
        world.submit.submit_existing("camera/a.mp4", "v1", owner="ana")
    assert not world.videos()


@pytest.mark.parametrize("video_id", ["", "..", "a/b", "a\n", "x" * 129, "ü"])
def test_an_id_that_could_not_be_part_of_a_key_is_refused(world: World, video_id: str) -> None:
    world.objects.put("camera/a.mp4", VIDEO)

    with pytest.raises(Invalid) as refusal:
        world.submit.submit_existing("camera/a.mp4", video_id, owner="ana")

    assert refusal.value.code == "video_id_invalid"


@pytest.mark.parametrize(("key", "owner"), [("camera/b.mp4", "ana"), ("camera/a.mp4", "bob")])
def test_an_id_that_is_taken_by_another_object_or_owner_is_refused(world: World, key: str, owner: str) -> None:
    world.objects.put("camera/a.mp4", VIDEO)
    world.objects.put("camera/b.mp4", VIDEO)
    world.submit.submit_existing("camera/a.mp4", "v1", owner="ana")

    with pytest.raises(Conflict) as refusal:
        world.submit.submit_existing(key, "v1", owner=owner)

    assert refusal.value.code == "video_exists"
