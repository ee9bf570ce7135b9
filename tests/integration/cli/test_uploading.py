"""Tests of uploads to a real HTTP server that closes connections, refuses uploads or asks clients to wait."""

import json
import os
import threading
import time
from collections.abc import Callable
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from anb_cli.client import Api
from anb_cli.errors import Exit, Refused
from anb_cli.sources import opened
from tests.integration.cli.conftest import CONTENT, run
from tests.support.deployments import Answer, Deployment, Handler, problem

pytestmark = pytest.mark.usefixtures("pauses")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(CONTENT)
    return path


def accept(request: Handler) -> None:
    request.body()
    request.reply_json(202, {"video_id": "v", "task_id": "t", "status": "uploaded", "links": {}})


def hang_up(request: Handler) -> None:
    request.rfile.read(1000)


def refuse_early(request: Handler) -> None:
    problem(413, "too_large")(request)
    request.wfile.flush()
    # Read the rest of the request. Otherwise, the kernel resets the connection, and the client loses the response.
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


def over_limit(code: str, sentence: str) -> Answer:
    """Return a handler that refuses an upload with 429 and `Retry-After: 45`."""
    body = {"status": 429, "code": code, "detail": sentence}

    def refuse(request: Handler) -> None:
        request.body()
        request.reply(429, json.dumps(body).encode(), Retry_After="45")

    return refuse


def test_a_full_backlog_is_waited_for_and_that_is_shown(
    deploy: Callable[..., Deployment],
    clip: Path,
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    full = over_limit("backlog_full", "You have 5 unfinished videos.")
    monkeypatch.setenv("ANB_URL", deploy(*[full] * 6, accept).url)
    assert run(monkeypatch, "upload", str(clip)) == Exit.OK
    assert pauses == [45.0] * 6
    assert "waiting 45 s to send it again: You have 5 unfinished videos. (backlog_full)" in capsys.readouterr().err


def test_a_quota_that_is_used_up_ends_the_upload_at_once_with_the_reason(
    deploy: Callable[..., Deployment],
    clip: Path,
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ANB_URL", deploy(over_limit("quota_exceeded", "Delete some videos.")).url)
    assert run(monkeypatch, "upload", str(clip)) == Exit.REFUSED
    assert pauses == []
    assert "Delete some videos. (quota_exceeded)" in capsys.readouterr().err


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


def test_a_delay_is_sent_as_seconds_with_each_file_and_before_it(
    deploy: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch, clip: Path
) -> None:
    sent: list[list[tuple[str, str]]] = []

    def keep(request: Handler) -> None:
        head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
        parts = message_from_bytes(head + request.body(), policy=policy.default).iter_parts()
        sent.append([(str(part.get_param("name", header="content-disposition")), part.get_content()) for part in parts])
        request.reply_json(202, {"video_id": "v"})

    monkeypatch.setenv("ANB_URL", deploy(keep).url)
    assert run(monkeypatch, "upload", "--after", "2h", str(clip), str(clip)) == Exit.OK
    assert [fields[:-1] for fields in sent] == [[("title", "clip"), ("process_after", "7200")]] * 2
    assert [fields[-1][0] for fields in sent] == ["video_file"] * 2


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
