import pytest

from anb_core.domain.adoption import KnownSource, adopted_id, object_version, why_not_taken

KEY = "camera/door.mp4"


@pytest.mark.parametrize(
    ("version_id", "etag", "version"),
    [
        ("v1", '"e1"', "v1"),
        ("null", '"e1"', "e1"),
        ("", '"e1"', "e1"),
        (None, "e1", "e1"),
        (None, None, ""),
    ],
)
def test_an_object_is_identified_by_its_version_or_else_by_its_etag(
    version_id: str | None, etag: str | None, version: str
) -> None:
    assert object_version(version_id, etag) == version


def test_the_ids_of_adopted_videos_never_change() -> None:
    assert adopted_id("anb-videos", KEY, "v1") == "94b31d80-1cf1-5570-8529-fc44aa35af5d"


def of_a_video(size: int | None, *, deleted: bool = False, video_id: str = "v1") -> KnownSource:
    return KnownSource(KEY, video_id, size, deleted)


@pytest.mark.parametrize(
    ("key", "size", "known", "code", "message"),
    [
        (KEY, 9, [], None, None),
        (KEY, 0, [], "file_empty", "It is empty or stands for a folder."),
        ("camera/", 9, [], "file_empty", "It is empty or stands for a folder."),
        ("processed/v1/1-a.mp4", 9, [], "key_not_allowed", "It is a result or a resource of ANB Video."),
        ("resources/intro.mp4", 9, [], "key_not_allowed", "It is a result or a resource of ANB Video."),
        ("uploads/v1.mp4", 9, [], None, None),
        (KEY, 9, [of_a_video(9)], "source_taken", "It is the source of video v1."),
        (KEY, 9, [of_a_video(8)], None, None),
        (KEY, 9, [of_a_video(None)], "source_taken", "It is the source of video v1."),
        (KEY, 9, [of_a_video(9, deleted=True)], "video_not_found", "Its video v1 was deleted."),
        (KEY, 9, [of_a_video(8, deleted=True)], None, None),
        (
            KEY,
            9,
            [of_a_video(9, deleted=True), of_a_video(9, video_id="v2")],
            "source_taken",
            "It is the source of video v2.",
        ),
    ],
    ids=[
        "new",
        "empty",
        "folder",
        "result",
        "resource",
        "of an older deployment",
        "a video",
        "overwritten",
        "our upload",
        "deleted",
        "deleted, then overwritten",
        "deleted, then submitted again",
    ],
)
def test_the_list_of_the_bucket_and_the_known_videos_decide_which_objects_are_read(
    key: str, size: int, known: list[KnownSource], code: str | None, message: str | None
) -> None:
    verdict = why_not_taken(key, size, known)
    assert (verdict and verdict.code, verdict and verdict.message) == (code, message)
