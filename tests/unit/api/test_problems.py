"""Tests of the responses while the database or the bucket fails."""

from typing import NoReturn

import pytest
from structlog.testing import capture_logs

from anb_core.domain.errors import Full, Unavailable
from tests.unit.api.conftest import VIDEO, World, code_of


@pytest.mark.parametrize(("part", "code"), [("database", "database_unavailable"), ("bucket", "bucket_unavailable")])
def test_an_unavailable_part_is_named_with_the_time_to_try_again(world: World, part: str, code: str) -> None:
    ana = world.caller("ana")
    video_id = world.upload(ana)
    world.client.post(f"/api/videos/{video_id}/cancel", headers=ana)
    broken = world.store if part == "database" else world.objects
    broken.fault = Unavailable(part, f"The {part} is away.")

    answer = world.client.post(f"/api/videos/{video_id}/retry", headers=ana)
    broken.fault = None

    assert code_of(answer) == (503, code)
    assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize("part", ["database", "bucket"])
def test_an_upload_for_which_there_is_no_room_is_not_taken(world: World, part: str) -> None:
    ana = world.caller("ana")
    broken = world.store if part == "database" else world.objects

    def full_from_the_first_byte_on(*_: object, **__: object) -> NoReturn:
        raise Full(part, "Bucket videos at http://secret.host:4566 refuses PutObject: InsufficientStorage.")

    with pytest.MonkeyPatch.context() as patch:
        method = "begin_upload" if part == "database" else "writing"
        patch.setattr(type(broken), method, full_from_the_first_byte_on)
        answer = world.client.post(
            "/api/videos/upload", headers=ana, data={"title": "T"}, files={"video_file": ("a.mp4", VIDEO)}
        )

    assert code_of(answer) == (507, "storage_full")
    assert answer.json()["detail"] == (
        f"The {part} has no space left, so nothing was stored: free space on its disk, then retry."
    )
    assert "retry-after" not in answer.headers
    assert world.client.get("/api/videos", headers=ana).json()["videos"] == []


def test_a_video_that_this_version_cannot_read_is_reported_and_hides_no_other(world: World) -> None:
    ana = world.caller("ana")
    bad, good = world.upload(ana), world.upload(ana)
    world.store.unreadable.add(bad)

    listed = world.client.get("/api/videos", headers=ana).json()["videos"]
    for answer in (
        world.client.get(f"/api/videos/{bad}", headers=ana),
        world.client.get(f"/api/videos/{bad}/events", headers=ana),
        world.client.post(f"/api/videos/{bad}/cancel", headers=ana),
    ):
        assert code_of(answer) == (503, "video_unreadable")
        assert bad in answer.json()["detail"]
        assert answer.headers["retry-after"] == "5"

    assert [video["video_id"] for video in listed] == [good]


def test_an_unexpected_error_is_a_problem_without_internal_details(world: World) -> None:
    ana = world.caller("ana")
    world.store.fault = ZeroDivisionError("secret detail")

    with capture_logs() as logs:
        answer = world.client.get("/api/videos", headers=ana)
    world.store.fault = None

    assert code_of(answer) == (500, "internal_error")
    assert "secret" not in answer.text
    assert [log["path"] for log in logs if log["event"] == "request failed"] == ["/api/videos"]


def test_the_error_text_of_a_part_is_shown_to_no_client(world: World) -> None:
    ana = world.caller("ana")
    world.store.fault = Unavailable("database", 'connection to "secret.host" failed for user "anb".')

    answer = world.client.get("/api/videos", headers=ana)

    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert answer.json()["detail"] == "The database does not answer; try again in a moment."
    assert "Retry-After" in answer.headers
    world.store.fault = None
