"""Tests of downloads from a real HTTP server that sends wrong responses or closes connections too early."""

import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from anb_cli.client import Api
from anb_cli.downloading import download, target
from anb_cli.errors import Unreachable, VideoFailed, WrongUse
from tests.integration.cli.conftest import CONTENT
from tests.support.deployments import Answer, Deployment, Handler, problem
from tests.support.videos import a_video

pytestmark = pytest.mark.usefixtures("pauses")

DIGEST = hashlib.sha256(CONTENT).hexdigest()
VIDEO = a_video(video_id="v", result={"size": len(CONTENT), "sha256": DIGEST})


def redirect_to(bucket: Deployment) -> Answer:
    return lambda request: request.reply(307, Location=f"{bucket.url}/object?signature=x")


def ranged(request: Handler) -> None:
    start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    request.reply(206, CONTENT[start:])


def fetch(api: Api, path: Path) -> None:
    download(api, VIDEO, path, on_bytes=lambda _: None)


def test_a_download_that_breaks_off_is_continued(deploy: Callable[..., Deployment], tmp_path: Path) -> None:
    bucket = deploy(lambda request: request.reply(200, CONTENT[:3_000_000], claimed=len(CONTENT)), ranged)
    deployment = deploy(redirect_to(bucket))
    with deployment.api() as api:
        fetch(api, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert bucket.seen[1].headers["Range"] == "bytes=3000000-"


def test_the_bucket_never_sees_the_token(deploy: Callable[..., Deployment], tmp_path: Path) -> None:
    bucket = deploy(lambda request: request.reply(200, CONTENT))
    deployment = deploy(redirect_to(bucket))
    with deployment.api() as api:
        fetch(api, tmp_path / "out.mp4")
    assert "secret" not in json.dumps(bucket.seen[0].headers)
    assert deployment.seen[0].headers["Authorization"] == "Bearer secret"


def test_the_next_command_continues_what_the_last_one_left(deploy: Callable[..., Deployment], tmp_path: Path) -> None:
    bucket = deploy(lambda request: request.reply(200, CONTENT[:1_000_000], claimed=len(CONTENT)), problem(403, "x"))
    deployment = deploy(redirect_to(bucket))
    with deployment.api() as api:
        with pytest.raises(Unreachable, match="HTTP 403"):
            fetch(api, tmp_path / "out.mp4")
        bucket.answers[:] = [ranged]
        fetch(api, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == CONTENT
    assert bucket.seen[-1].headers["Range"] == "bytes=1000000-"


def through(path: Path) -> tuple[threading.Thread, bytearray]:
    came = bytearray()
    reader = threading.Thread(target=lambda: came.extend(path.read_bytes()))
    reader.start()
    return reader, came


def test_a_pipe_gets_each_byte_once_and_stays_a_pipe(deploy: Callable[..., Deployment], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    bucket = deploy(
        lambda request: request.reply(200, CONTENT[:3_000_000], claimed=len(CONTENT)),
        lambda request: request.reply(206, CONTENT[3_000_000:4_000_000], claimed=len(CONTENT) - 3_000_000),
        lambda request: request.reply(200, CONTENT),
    )
    reader, came = through(pipe)
    with deploy(redirect_to(bucket)).api() as api:
        fetch(api, target(VIDEO, pipe))
    reader.join()
    assert came == CONTENT
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_pipe_that_got_wrong_content_is_reported(deploy: Callable[..., Deployment], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader, _ = through(pipe)
    deployment = deploy(redirect_to(deploy(lambda request: request.reply(200, CONTENT[:-1] + b"?"))))
    with deployment.api() as api, pytest.raises(VideoFailed, match="do not use it"):
        fetch(api, pipe)
    reader.join()


def test_a_link_stays_and_the_video_is_where_it_leads(deploy: Callable[..., Deployment], tmp_path: Path) -> None:
    link, real = tmp_path / "link.mp4", tmp_path / "real.mp4"
    link.symlink_to("real.mp4")
    with deploy(redirect_to(deploy(lambda request: request.reply(200, CONTENT)))).api() as api:
        fetch(api, target(VIDEO, link))
    assert link.is_symlink()
    assert real.read_bytes() == CONTENT


def test_a_name_may_be_as_long_as_the_file_system_takes(deploy: Callable[..., Deployment], tmp_path: Path) -> None:
    path = tmp_path / ("\xe4" * 125 + ".mp4")
    with deploy(redirect_to(deploy(lambda request: request.reply(200, CONTENT)))).api() as api:
        fetch(api, target(VIDEO, path))
    assert path.read_bytes() == CONTENT


def test_a_link_in_the_place_of_the_partial_file_is_not_followed(
    deploy: Callable[..., Deployment], tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    (tmp_path / f".out.mp4.{DIGEST[:16]}.part").symlink_to(victim)
    deployment = deploy(redirect_to(deploy(lambda request: request.reply(200, CONTENT))))
    with deployment.api() as api, pytest.raises(WrongUse, match="in the way"):
        fetch(api, tmp_path / "out.mp4")
    assert victim.read_bytes() == b""


@pytest.mark.parametrize("status", [204, 301, 304])
def test_a_bucket_that_answers_with_anything_but_the_video_is_unreachable(
    deploy: Callable[..., Deployment], tmp_path: Path, status: int
) -> None:
    deployment = deploy(redirect_to(deploy(lambda request: request.reply(status, Location="/elsewhere"))))
    with deployment.api() as api, pytest.raises(Unreachable):
        fetch(api, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_a_bucket_that_ignores_ranges_is_read_from_the_beginning(
    deploy: Callable[..., Deployment], tmp_path: Path
) -> None:
    bucket = deploy(
        lambda request: request.reply(200, CONTENT[:3_000_000], claimed=len(CONTENT)),
        lambda request: request.reply(200, CONTENT),
    )
    deployment = deploy(redirect_to(bucket))
    with deployment.api() as api:
        fetch(api, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == CONTENT


def test_a_file_that_does_not_match_its_checksum_is_thrown_away(
    deploy: Callable[..., Deployment], tmp_path: Path
) -> None:
    bucket = deploy(lambda request: request.reply(200, CONTENT[:-1] + b"?"))
    deployment = deploy(redirect_to(bucket))
    with deployment.api() as api, pytest.raises(VideoFailed, match="wrong size or checksum"):
        fetch(api, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_result_that_is_always_too_short_is_given_up(
    deploy: Callable[..., Deployment], tmp_path: Path, pauses: list[float]
) -> None:
    bucket = deploy(lambda request: request.reply(200, CONTENT[:10]), lambda request: request.reply(206))
    deployment = deploy(redirect_to(bucket))
    with deployment.api() as api, pytest.raises(Unreachable, match=f"10 of {len(CONTENT)} bytes"):
        fetch(api, tmp_path / "out.mp4")
    assert pauses == [1.0, 2.0, 4.0]
