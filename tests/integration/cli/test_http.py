"""Tests of the API client with a real HTTP server that sends wrong answers or no answer."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from anb_cli.__main__ import perform
from anb_cli.client import Api
from anb_cli.downloading import download, target
from anb_cli.errors import Exit, Refused, Unreachable, VideoFailed, WrongUse
from anb_cli.following import follow
from anb_cli.sources import opened
from tests.support.deployments import Answer, Deployment, Handler, problem
from tests.support.videos import a_video

CONTENT = bytes(range(256)) * 20_000


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace `time.sleep`, so that retries do not wait. Returns the list of requested pauses, in seconds."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


def accept(request: Handler) -> None:
    request.body()
    request.reply_json(202, {"video_id": "v", "task_id": "t", "status": "uploaded", "links": {}})


def hang_up(request: Handler) -> None:
    request.rfile.read(1000)


def refuse_early(request: Handler) -> None:
    problem(413, "too_large")(request)
    request.wfile.flush()
    # Read the remaining request bytes. Otherwise the kernel resets the connection, and the client loses the answer.
    request.body()


def upload(api: Api, file: Path, **options: Any) -> dict[str, Any]:
    with opened(file, lambda _: None) as source:
        return api.upload(source, **options)


def test_a_file_is_sent_whole_with_its_title_before_it(deploy: Callable[..., Deployment], clip: Path) -> None:
    bodies: list[bytes] = []

    def keep(request: Handler) -> None:
        head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
        bodies.append(head + request.body())
        request.reply_json(202, {"video_id": "v"})

    deployment, progress = deploy(keep), list[int]()
    with deployment.api() as api:
        receipt = upload(api, clip, title="Ein Hündchen", edit={"trim": {"start": 1.0}}, on_bytes=progress.append)
    assert receipt == {"video_id": "v"}
    assert progress[-1] == len(CONTENT)
    assert len(progress) > 10
    title, edit, file = message_from_bytes(bodies[0], policy=policy.default).iter_parts()
    assert title.get_payload(decode=True).decode() == "Ein Hündchen"  # type: ignore[union-attr]
    assert json.loads(edit.get_payload(decode=True)) == {"trim": {"start": 1.0}}  # type: ignore[arg-type]
    assert file.get_filename() == "clip.mp4"
    assert file.get_payload(decode=True) == CONTENT
    assert deployment.seen[0].headers["Authorization"] == "Bearer secret"


def test_an_upload_that_breaks_off_is_sent_again_under_the_same_key(
    deploy: Callable[..., Deployment], clip: Path, pauses: list[float]
) -> None:
    deployment = deploy(hang_up, problem(409, "upload_in_progress"), accept)
    with deployment.api() as api:
        assert upload(api, clip, title="x", edit={}, on_bytes=lambda _: None)["video_id"] == "v"
    keys = {seen.headers["Idempotency-Key"] for seen in deployment.seen}
    assert len(deployment.seen) == 3
    assert len(keys) == 1
    assert pauses == [1.0, 4.0]


def test_the_time_that_sending_takes_does_not_use_up_the_tries_and_no_log_line_tells_of_a_pause(
    deploy: Callable[..., Deployment],
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    pauses: list[float],
) -> None:
    real, hours = time.monotonic, list[int]()
    monkeypatch.setattr(time, "monotonic", lambda: real() + 3600 * len(hours))
    with deploy(hang_up, hang_up, accept).api() as api:
        assert upload(api, clip, title="x", edit={}, on_bytes=hours.append)["video_id"] == "v"
    assert pauses == [1.0, 2.0]
    assert "retry" not in caplog.text


def held(retry_after: str | None) -> Answer:
    body = {"status": 409, "code": "upload_in_progress", "detail": "It is under way."}
    headers = {"Retry_After": retry_after} if retry_after is not None else {}
    return lambda request: request.reply(409, json.dumps(body).encode(), claimed=None, **headers)


@pytest.mark.parametrize(
    ("retry_after", "pause"), [("62", 62.0), (None, 4.0), ("soon", 4.0), ("-1", 1.0), ("1e999", 4.0)]
)
def test_an_upload_that_is_held_is_waited_for_as_long_as_the_api_says_and_that_is_shown(
    deploy: Callable[..., Deployment], clip: Path, pauses: list[float], *, retry_after: str | None, pause: float
) -> None:
    deployment, waits = deploy(hang_up, held(retry_after), accept), list[str]()
    with deployment.api() as api:
        receipt = upload(
            api,
            clip,
            title="x",
            edit={},
            on_bytes=lambda _: None,
            on_wait=lambda seconds, why: waits.append(f"{seconds:.0f} {why}"),
        )
    assert receipt["video_id"] == "v"
    assert pauses == [1.0, pause]
    assert waits[-1] == f"{pause:.0f} It is under way. (upload_in_progress)"


def test_a_pipe_is_sent_again_too(deploy: Callable[..., Deployment], tmp_path: Path) -> None:
    bodies: list[bytes] = []

    def keep(request: Handler) -> None:
        bodies.append(request.body())
        request.reply_json(202, {"video_id": "v"})

    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(CONTENT,))
    writer.start()
    with deploy(hang_up, keep).api() as api:
        upload(api, pipe, title="x", edit={}, on_bytes=lambda _: None)
    writer.join()
    assert CONTENT in bodies[0]


def test_two_uploads_have_two_keys(deploy: Callable[..., Deployment], clip: Path) -> None:
    deployment = deploy(accept)
    with deployment.api() as api:
        for _ in range(2):
            upload(api, clip, title="x", edit={}, on_bytes=lambda _: None)
    assert len({seen.headers["Idempotency-Key"] for seen in deployment.seen}) == 2


def test_a_refusal_in_the_middle_of_an_upload_is_understood(deploy: Callable[..., Deployment], clip: Path) -> None:
    deployment = deploy(refuse_early)
    with deployment.api() as api, pytest.raises(Refused, match=r"It is too_large\. \(too_large\)") as refused:
        upload(api, clip, title="x", edit={}, on_bytes=lambda _: None)
    assert (refused.value.code, refused.value.status) == ("too_large", 413)
    assert len(deployment.seen) == 1


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
        # Content-Length is larger than the body, so that the client sees a broken connection.
        return lambda request: request.reply(200, text, claimed=len(text) + 100, Content_Type="text/event-stream")

    def standing(request: Handler) -> None:
        request.reply_json(200, a_video(status="processing", progress=0.5, result=None))

    deployment = deploy(stream((7, "processing", 0.5)), standing, stream((8, "processed", 1.0)))
    with deployment.api() as api:
        assert [update.progress for update in follow(api, "v", sleep=lambda _: None)] == [0.5, 1.0]
    assert "Last-Event-ID" not in deployment.seen[0].headers
    assert deployment.seen[2].headers["Last-Event-ID"] == "7"


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


@pytest.mark.parametrize(
    ("answer", "code", "sentence"),
    [
        (problem(404, "not_found"), Exit.REFUSED, "anb: It is not_found. (not_found)"),
        (problem(503, "database_unavailable"), Exit.UNREACHABLE, "It is database_unavailable."),
        (lambda request: request.reply(502, b"<html>"), Exit.UNREACHABLE, "is the address right?"),
        (lambda request: request.reply(200, b"<html>"), Exit.UNREACHABLE, "is the address right?"),
    ],
)
def test_a_command_ends_with_one_sentence_and_the_right_code(
    deploy: Callable[..., Deployment],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    answer: Answer,
    code: Exit,
    sentence: str,
) -> None:
    monkeypatch.setenv("ANB_URL", deploy(answer).url)
    assert run(monkeypatch, "list") == code
    _expect_one_line(capsys, sentence)


def test_a_server_that_does_not_listen_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANB_URL", "http://127.0.0.1:9")
    assert run(monkeypatch, "cancel", "0" * 36) == Exit.UNREACHABLE
    _expect_one_line(capsys, "Nothing answers at http://127.0.0.1:")


def test_programs_get_one_json_object_per_line(
    deploy: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], clip: Path
) -> None:
    monkeypatch.setenv("ANB_URL", deploy(accept, problem(413, "too_large")).url)
    assert run(monkeypatch, "upload", "--json", str(clip), str(clip)) == Exit.REFUSED
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {"file": str(clip), "video_id": "v", "task_id": "t", "status": "uploaded", "links": {}}
    assert second == {
        "file": str(clip),
        "error": {"code": "too_large", "status": 413, "message": "It is too_large. (too_large)"},
    }


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


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `anb` with the given arguments in the test process and return the exit code."""
    monkeypatch.setenv("ANB_TOKEN", "secret")
    return perform(arguments)


def _expect_one_line(capsys: pytest.CaptureFixture[str], sentence: str) -> None:
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1
