"""Tests of lists and event streams from a real HTTP server that closes connections too early."""

import json
from collections.abc import Callable

import pytest

from anb_cli.following import follow
from tests.support.deployments import Answer, Deployment, Handler
from tests.support.videos import a_video

pytestmark = pytest.mark.usefixtures("pauses")


def test_pages_are_read_as_far_as_they_are_wanted(deploy: Callable[..., Deployment]) -> None:
    def page(numbers: list[int], cursor: str | None) -> Answer:
        videos = [a_video(video_id=str(number)) for number in numbers]
        return lambda request: request.reply_json(200, {"videos": videos, "next_cursor": cursor})

    deployment = deploy(page([1, 2], "more"), page([3], "still more"))
    with deployment.api() as api:
        assert [video["video_id"] for video in api.videos(["failed", "processed"], limit=3)] == ["1", "2", "3"]
    assert [seen.path for seen in deployment.seen] == [
        "/api/videos?status=failed&status=processed&limit=3",
        "/api/videos?status=failed&status=processed&limit=1&cursor=more",
    ]


def test_a_broken_event_stream_is_continued_after_the_last_event(deploy: Callable[..., Deployment]) -> None:
    def stream(*events: tuple[int, str, float]) -> Answer:
        text = "".join(
            f"id: {number}\nevent: status\ndata: {json.dumps({'status': status, 'progress': progress})}\n\n"
            for number, status, progress in events
        ).encode()
        # Send a Content-Length that is larger than the body, so that the client sees a broken connection.
        return lambda request: request.reply(200, text, claimed=len(text) + 100, Content_Type="text/event-stream")

    def standing(request: Handler) -> None:
        request.reply_json(200, a_video(status="processing", progress=0.5, result=None))

    deployment = deploy(stream((7, "processing", 0.5)), standing, stream((8, "processed", 1.0)))
    with deployment.api() as api:
        assert [update.progress for update in follow(api, "v", sleep=lambda _: None)] == [0.5, 1.0]
    assert "Last-Event-ID" not in deployment.seen[0].headers
    assert deployment.seen[2].headers["Last-Event-ID"] == "7"
