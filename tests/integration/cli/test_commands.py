"""Tests of the output and exit codes of commands if the API works. The commands run in the test process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from anb_cli.__main__ import perform
from anb_cli.errors import Exit
from tests.support.deployments import Deployment, Handler, problem
from tests.support.videos import a_video

ID = a_video()["video_id"]
BAD = a_video(status="failed", result=None, error={"code": "no_video", "message": "The file has no picture."})


@pytest.fixture
def anb(deploy: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """A function `anb(*arguments, videos=...)` that runs a command against a fake API with the given videos."""

    def run(*arguments: str, videos: list[dict[str, object]]) -> int:
        def answer(request: Handler) -> None:
            if request.path.endswith("/events"):
                problem(503, "streams_unavailable")(request)
            elif request.command == "POST" and request.path.endswith("/upload"):
                request.body()
                request.reply_json(202, {"video_id": ID, "status": "uploaded"})
            elif request.command == "POST":
                problem(409, "wrong_status")(request)
            elif "?" in request.path:
                request.reply_json(200, {"videos": videos, "next_cursor": None})
            else:
                request.reply_json(200, videos[0])

        monkeypatch.setenv("ANB_URL", deploy(answer).url)
        monkeypatch.setenv("ANB_TOKEN", "secret")
        return perform(arguments)

    return run


def test_a_list_is_a_line_a_video_or_a_record_a_video(
    anb: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert anb("list", "--status", "processed", videos=[a_video(), a_video(title="Another")]) == Exit.OK
    assert [line.split("\t")[-1] for line in capsys.readouterr().out.splitlines()] == ["A clip", "Another"]
    assert anb("list", "--json", videos=[a_video()]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == a_video()
    assert anb("list", videos=[]) == Exit.OK
    assert capsys.readouterr() == ("", "No videos.\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["list", "--status", "done"], "There is no status 'done', only uploading, "),
        (["download", ID, "--json", "-o", "-"], "--json and -o - would both write to stdout"),
        (["upload", "a.mp4", "b.mp4", "--title", "One"], "--title names one video"),
        (["upload", "a.mp4", "--after", "soon"], "--after is 'soon': give a time such as"),
    ],
)
def test_what_can_not_be_meant_is_said_in_a_sentence(
    anb: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert anb(*arguments, videos=[a_video()]) == Exit.WRONG_USE
    assert sentence in capsys.readouterr().err


def test_a_bad_video_ends_watch_and_download_with_its_reason(
    anb: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert anb("watch", ID, videos=[BAD]) == Exit.VIDEO_FAILED
    assert "is failed: The file has no picture. (no_video)" in capsys.readouterr().err
    assert anb("watch", ID, "--json", videos=[BAD]) == Exit.VIDEO_FAILED
    update, error = map(json.loads, capsys.readouterr().out.splitlines())
    assert (update["status"], error["error"]["code"]) == ("failed", "video_failed")
    assert anb("download", ID, videos=[BAD]) == Exit.VIDEO_FAILED
    assert "is failed: there is nothing to download" in capsys.readouterr().err


def test_an_upload_tells_its_receipt_and_with_watch_how_it_ended(
    anb: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"a clip")
    assert anb("upload", str(clip), videos=[a_video()]) == Exit.OK
    assert capsys.readouterr().out == f"{ID}  clip.mp4\n"
    assert anb("upload", str(clip), "--watch", "--json", videos=[a_video()]) == Exit.OK
    receipt, update = map(json.loads, capsys.readouterr().out.splitlines())
    assert (receipt["file"], update["status"]) == (str(clip), "processed")


def test_a_refused_command_names_the_video_and_the_reason(
    anb: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert anb("retry", ID, videos=[a_video()]) == Exit.REFUSED
    assert "It is wrong_status. (wrong_status)" in capsys.readouterr().err


def test_closed_streams_and_a_width_that_is_no_number_break_nothing(tmp_path: Path) -> None:
    shell = ["sh", "-c", 'exec "$@" <&- >&-', "sh", sys.executable, "-m", "anb_cli", "list"]
    environment = {**os.environ, "COLUMNS": "wide"}
    ended = subprocess.run(shell, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment, check=False)
    assert ended.returncode == Exit.WRONG_USE
    assert ended.stderr.startswith("anb: No stack was ever started")


def test_a_demo_without_its_clip_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert perform(["demo"]) == Exit.WRONG_USE
    assert "`make demo` fetches it" in capsys.readouterr().err
