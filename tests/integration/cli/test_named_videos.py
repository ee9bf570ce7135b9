"""Tests of commands that name a video by its id, or by a prefix of the id."""

from collections.abc import Callable

import pytest

from anb_cli.errors import Exit
from tests.integration.cli.conftest import run
from tests.support.deployments import Deployment, Handler, problem
from tests.support.videos import a_video

pytestmark = pytest.mark.usefixtures("pauses")


def test_a_beginning_of_an_id_is_enough_when_it_is_the_only_one(
    deploy: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def listing(request: Handler) -> None:
        videos = [a_video(video_id="abcdefgh1"), a_video(video_id="abcdefgi2", title="Another")]
        request.reply_json(200, {"videos": videos, "next_cursor": None})

    deployment = deploy(
        listing, lambda request: request.reply_json(200, a_video(video_id="abcdefgi2", status="cancelled", result=None))
    )
    monkeypatch.setenv("ANB_URL", deployment.url)
    assert run(monkeypatch, "cancel", "abcdefgi") == Exit.OK
    assert deployment.seen[-1].path == "/api/videos/abcdefgi2/cancel"
    deployment.answers[:] = [listing]
    assert run(monkeypatch, "watch", "ab") == Exit.WRONG_USE
    err = capsys.readouterr().err
    assert "2 videos have an id that begins with 'ab'" in err
    assert "abcdefgi2  processed  Another" in err


@pytest.mark.parametrize("name", ["delete", "cancel", "retry"])
@pytest.mark.parametrize("bad", ["", "a", "abcdefg", "nothing-begins-so", "a/b"])
def test_nothing_is_done_to_any_video_while_one_of_the_ids_is_not_good_enough(
    deploy: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch, name: str, bad: str
) -> None:
    def answer(request: Handler) -> None:
        if "?" in request.path:
            request.reply_json(200, {"videos": [a_video(video_id="abcdefgh1")], "next_cursor": None})
        else:
            problem(404, "video_not_found")(request)

    deployment = deploy(answer)
    monkeypatch.setenv("ANB_URL", deployment.url)
    assert run(monkeypatch, name, "abcdefgh1", bad) in {Exit.WRONG_USE, Exit.REFUSED}
    assert run(monkeypatch, name, bad, "abcdefgh1") in {Exit.WRONG_USE, Exit.REFUSED}
    assert {seen.method for seen in deployment.seen} <= {"GET"}


def test_a_video_that_is_named_twice_is_deleted_once(
    deploy: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: Handler) -> None:
        if request.command == "GET":
            request.reply_json(200, {"videos": [a_video(video_id="abcdefgh1")], "next_cursor": None})
        else:
            request.reply(204)

    deployment = deploy(answer)
    monkeypatch.setenv("ANB_URL", deployment.url)
    assert run(monkeypatch, "delete", "abcdefgh1", "abcdefgh") == Exit.OK
    assert [seen.path for seen in deployment.seen if seen.method == "DELETE"] == ["/api/videos/abcdefgh1"]
