"""Tests that every bucket implementation must pass."""

import random
from datetime import timedelta
from pathlib import Path

import pytest

from anb_core.adapters.s3 import PART_BYTES
from anb_core.domain.errors import NotFound
from anb_core.domain.object_notes import MAX_NOTE
from anb_core.ports.objects import StoredObject
from tests.contract.objects.conftest import Stand

KEY = "uploads/0197.mp4"


def some_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def write(stand: Stand, key: str, data: bytes, *, piece: int = 1024 * 1024) -> StoredObject:
    with stand.objects.writing(key, content_type="video/mp4") as writer:
        for start in range(0, len(data), piece):
            writer.write(data[start : start + piece])
        return writer.commit()


def read(stand: Stand, key: str, folder: Path) -> bytes:
    stand.objects.fetch(key, folder / "fetched")
    return (folder / "fetched").read_bytes()


@pytest.mark.parametrize("size", [0, 5, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES + 5])
def test_what_is_written_in_pieces_is_stored_whole(stand: Stand, tmp_path: Path, size: int) -> None:
    data = some_bytes(size)

    stored = write(stand, KEY, data, piece=3_000_000)

    assert (stored.key, stored.size) == (KEY, size)
    assert stand.objects.head(KEY) == stored
    assert read(stand, KEY, tmp_path) == data
    assert stand.content_type(KEY) == "video/mp4"
    assert stand.unfinished() == set()


def test_one_large_piece_is_stored_like_many_small_ones(stand: Stand, tmp_path: Path) -> None:
    data = some_bytes(2 * PART_BYTES + 7)

    write(stand, KEY, data, piece=len(data))

    assert read(stand, KEY, tmp_path) == data


@pytest.mark.parametrize("size", [5, PART_BYTES + 1])
@pytest.mark.parametrize("note", ["", '{"owner":"  a\\u00e9 b"}', "x" * MAX_NOTE], ids=["none", "json", "long"])
def test_an_object_keeps_its_note(stand: Stand, size: int, note: str) -> None:
    with stand.objects.writing(KEY, content_type="video/mp4", note=note) as writer:
        writer.write(bytes(size))
        writer.commit()
    stored = stand.objects.head(KEY)
    assert stored is not None
    assert stored.note == note


def test_nobody_sees_an_object_before_it_is_whole(stand: Stand) -> None:
    with stand.objects.writing(KEY, content_type="video/mp4") as writer:
        writer.write(some_bytes(PART_BYTES + 1))
        assert stand.objects.head(KEY) is None
        writer.commit()
    assert stand.objects.head(KEY) is not None


@pytest.mark.parametrize("size", [5, 3 * PART_BYTES + 5])
def test_writing_that_is_left_without_a_commit_leaves_neither_object_nor_parts(stand: Stand, size: int) -> None:
    with stand.objects.writing(KEY, content_type="video/mp4") as writer:
        writer.write(some_bytes(size))

    assert stand.objects.head(KEY) is None
    assert stand.unfinished() == set()


def test_an_error_while_writing_is_passed_on_and_leaves_nothing(stand: Stand) -> None:
    def broken_upload() -> None:
        with stand.objects.writing(KEY, content_type="video/mp4") as writer:
            writer.write(some_bytes(PART_BYTES))
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        broken_upload()

    assert stand.objects.head(KEY) is None
    assert stand.unfinished() == set()


def test_an_object_stays_as_it_was_when_writing_it_anew_is_given_up(stand: Stand, tmp_path: Path) -> None:
    write(stand, KEY, b"old")

    with stand.objects.writing(KEY, content_type="video/mp4") as writer:
        writer.write(some_bytes(PART_BYTES + 1))

    assert read(stand, KEY, tmp_path) == b"old"


def test_an_object_that_is_written_anew_is_the_new_one(stand: Stand, tmp_path: Path) -> None:
    old = write(stand, KEY, b"old")
    new = write(stand, KEY, b"new")

    assert new.etag != old.etag
    assert read(stand, KEY, tmp_path) == b"new"


def test_fetching_tells_of_every_byte_and_of_the_object(stand: Stand, tmp_path: Path) -> None:
    stored = write(stand, KEY, some_bytes(2_500_000))
    sizes: list[int] = []

    assert stand.objects.fetch(KEY, tmp_path / "source", on_bytes=sizes.append) == stored
    assert sum(sizes) == 2_500_000


def test_fetching_tells_the_size_before_it_makes_the_file(stand: Stand, tmp_path: Path) -> None:
    write(stand, KEY, b"some bytes")
    folder = tmp_path / "made in time"
    sizes: list[int] = []

    def on_size(size: int) -> None:
        sizes.append(size)
        folder.mkdir()

    stand.objects.fetch(KEY, folder / "source", on_size=on_size)

    assert sizes == [10]
    assert (folder / "source").read_bytes() == b"some bytes"


def test_fetching_what_is_not_there_says_so_and_makes_no_file(stand: Stand, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no object uploads/0197\.mp4") as refusal:
        stand.objects.fetch(KEY, tmp_path / "source")

    assert refusal.value.code == "object_missing"
    assert not (tmp_path / "source").exists()


def test_fetching_that_is_interrupted_leaves_no_half_file(stand: Stand, tmp_path: Path) -> None:
    write(stand, KEY, some_bytes(2_500_000))

    def interrupted(_: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        stand.objects.fetch(KEY, tmp_path / "source", on_bytes=interrupted)
    assert not (tmp_path / "source").exists()


def test_what_is_not_there_has_no_head(stand: Stand) -> None:
    assert stand.objects.head(KEY) is None


def test_deleting_takes_these_objects_and_no_other(stand: Stand) -> None:
    for name in ("a", "b", "c"):
        write(stand, f"uploads/{name}.mp4", b"some")

    stand.objects.delete(["uploads/a.mp4", "uploads/c.mp4", "uploads/never-there.mp4"])

    existing = [name for name in ("a", "b", "c") if stand.objects.head(f"uploads/{name}.mp4")]
    assert existing == ["b"]


def test_deleting_ends_unfinished_uploads_to_these_keys_and_to_no_other(stand: Stand) -> None:
    for key in ("uploads/a.mp4", "uploads/a.mp4.other", "processed/a/1-x.mp4", "processed/b/1-x.mp4"):
        stand.begin(key)

    stand.objects.delete(["uploads/a.mp4", "processed/a/1-x.mp4"])

    assert stand.unfinished() == {"uploads/a.mp4.other", "processed/b/1-x.mp4"}


def test_deleting_nothing_is_no_error(stand: Stand) -> None:
    assert stand.objects.delete([]) == frozenset()


def test_keys_may_hold_any_letter(stand: Stand, tmp_path: Path) -> None:
    key = "archivo/año 2026/víd+eo&1%.mp4"
    write(stand, key, b"hola")

    assert read(stand, key, tmp_path) == b"hola"
    stand.objects.delete([key])
    assert stand.objects.head(key) is None


def test_objects_are_listed_by_a_prefix_in_the_order_of_their_keys_in_utf_8_a_part_at_a_time(stand: Stand) -> None:
    keys = ["//b", "/a", " +&%.mp4", "a", "a/", "a/b", "é", "\uffee", "\U0001f600"]
    for size, key in enumerate(keys):
        write(stand, f"camera/{key}", b"x" * size)
    write(stand, "camera", b"not under the prefix")
    write(stand, "drone/a", b"not under the prefix")

    expected = sorted((f"camera/{key}" for key in keys), key=str.encode)
    listed = stand.objects.listing("camera/", limit=1000)
    assert [one.key for one in listed] == expected
    assert {one.key: one.size for one in listed} == {f"camera/{key}": size for size, key in enumerate(keys)}
    found: list[str] = []
    while page := stand.objects.listing("camera/", after=found[-1] if found else None, limit=2):
        assert len(page) <= 2
        found += (one.key for one in page)
    assert found == expected
    assert stand.objects.listing("camera/", after="camera/a/missing", limit=1)[0].key == "camera/é"
    assert stand.objects.listing("camera/", after="camera0", limit=1) == []


@pytest.mark.parametrize("size", [0, 5, 100, 5000])
def test_the_first_bytes_of_an_object_are_read_with_its_size(stand: Stand, size: int) -> None:
    data = some_bytes(size)
    stored = write(stand, KEY, data)

    peeked = stand.objects.peek(KEY, 100)

    assert peeked is not None
    assert (peeked.size, peeked.head) == (size, data[:100])
    assert peeked.version == stored.etag or not size
    assert stand.objects.peek("uploads/none.mp4", 100) is None


def test_making_sure_of_a_bucket_twice_keeps_what_is_in_it(stand: Stand) -> None:
    write(stand, KEY, b"some")

    stand.objects.ensure()
    stand.objects.ping()

    assert stand.objects.head(KEY) is not None


def test_a_download_url_is_made_without_asking_whether_the_object_is_there(stand: Stand) -> None:
    url = stand.objects.download_url(KEY, file_name="my video.mp4", lifetime=timedelta(minutes=15))

    assert url.startswith("http")
    assert KEY in url
