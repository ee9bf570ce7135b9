"""Tests of the listing of videos: pages, cursors, and filters."""

import pytest

from anb_api.schemas import read_cursor, write_cursor
from anb_core.domain.errors import Invalid
from anb_core.ports.store import Page
from tests.unit.api.conftest import World, code_of, process


def test_pages_follow_one_another_to_the_end(world: World) -> None:
    ana = world.caller("ana")
    uploaded = [world.upload(ana, title=f"No. {number}") for number in range(5)]

    seen: list[str] = []
    query: dict[str, str] = {"limit": "2"}
    while True:
        page = world.client.get("/api/videos", headers=ana, params=query).json()
        seen += [video["video_id"] for video in page["videos"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]

    assert seen == uploaded[::-1]


def test_a_listing_can_be_limited_to_several_statuses(world: World) -> None:
    ana = world.caller("ana")
    cancelled, processed, _ = (world.upload(ana) for _ in range(3))
    world.client.post(f"/api/videos/{cancelled}/cancel", headers=ana)
    process(world, processed)

    answer = world.client.get("/api/videos?status=cancelled&status=processed", headers=ana).json()

    assert {video["video_id"] for video in answer["videos"]} == {cancelled, processed}


@pytest.mark.parametrize("cursor", ["", "x", "!!", "bnVsbA", "WzEsMl0", "WzFlOTk5LCAiYSJd", "W10", "ZG9n", "é"])
def test_an_invalid_cursor_is_refused(world: World, cursor: str) -> None:
    answer = world.client.get("/api/videos", params={"cursor": cursor}, headers=world.caller("ana"))

    assert code_of(answer) == (422, "cursor_invalid")


def test_a_cursor_can_be_read_back_exactly(world: World) -> None:
    world.upload(world.caller("ana"))
    (record,) = world.store.listing(owner=None)

    page = Page(record.video.created_at, record.video.id)
    assert read_cursor(write_cursor(page)) == page
    with pytest.raises(Invalid):
        read_cursor(write_cursor(Page(page.created_at, "../etc")))
