"""Tests of `anb up` with the real API, worker and emulator, on free ports and in a new folder."""

import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from anb_cli.errors import Exit
from anb_cli.stack.supervisor import QUEUE
from anb_worker.render.mp4_boxes import boxes
from tests.integration.cli.conftest import Place, ended, processes_in
from tests.support import eventually
from tests.support.installs import install
from tests.support.rendering import make_clip

SHORT = ("--length", "1", "--no-intro", "--no-outro", "--no-watermark")


@pytest.fixture(scope="module")
def stack(shared_place: Place) -> Iterator[Place]:
    """A running stack for all tests that do not damage the stack."""
    process, _ = shared_place.up()
    yield shared_place
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    ended(process)


def test_a_video_goes_the_whole_way(stack: Place, footage: Path) -> None:
    records = stack.records("upload", "--watch", *SHORT, str(footage / "carphone_pristine.mp4"))
    video_id = records[0]["video_id"]
    assert records[-1] == {"video_id": video_id, "status": "processed", "progress": 1.0, "error": None}
    [video] = stack.records("list", "--status", "processed")
    [downloaded] = stack.records("download", video_id[:8])
    content = (stack.path / downloaded["path"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == video["result"]["sha256"]
    assert video["result"]["frames"] == 30
    # Neither `anb` nor a child process may import Python files of the working folder.
    assert stack.imported() == ""


@pytest.fixture(scope="module")
def lean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment with anb-cli alone, without its `stack` extra."""
    return install(tmp_path_factory.mktemp("lean"), "anb-cli")


def anb(python: Path, place: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "anb_cli", *arguments]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)


def test_uploading_and_listing_need_no_library_for_databases_or_aws(stack: Place, lean: Path, footage: Path) -> None:
    search = "import importlib.util as u; print([n for n in ('sqlalchemy', 'psycopg', 'boto3') if u.find_spec(n)])"
    assert subprocess.check_output([lean, "-c", search], text=True) == "[]\n"
    uploaded = anb(lean, stack.path, "upload", "--json", footage / "carphone_pristine.mp4")
    assert uploaded.returncode == Exit.OK, uploaded.stderr
    video_id = json.loads(uploaded.stdout)["video_id"]
    assert video_id in anb(lean, stack.path, "list").stdout
    assert anb(lean, stack.path, "delete", video_id).returncode == Exit.OK


def test_a_stack_that_is_not_installed_is_named_before_anything_is_made(lean: Path, tmp_path: Path) -> None:
    started = anb(lean, tmp_path, "up", "--port", "0")
    assert started.returncode == Exit.STACK_TROUBLE
    assert started.stderr == "anb: anb_api is not installed, install anb-cli[stack] to run a stack on this machine.\n"
    assert list(tmp_path.iterdir()) == []


def test_nobody_but_the_stack_gets_into_its_bucket(stack: Place) -> None:
    emulator = f"http://127.0.0.1:{stack.folder.ports()['emulator']}"
    page = {"Origin": "https://elsewhere.example"}
    emptied = httpx.post(f"{emulator}/_ministack/reset", headers=page)
    listed = httpx.get(f"{emulator}/anb-video?list-type=2", headers=page)
    assert (emptied.status_code, listed.status_code) == (403, 403)
    assert not [name for answer in (emptied, listed) for name in answer.headers if name.startswith("access-control-")]


def test_a_stack_handles_its_dead_letter_queue_without_an_operator(stack: Place) -> None:
    ports = stack.folder.ports()
    emulator, api = (f"http://127.0.0.1:{ports[name]}" for name in ("emulator", "api"))
    session = boto3.session.Session("anb", stack.secret(), region_name="us-east-1")
    with closing(session.client("sqs", endpoint_url=emulator)) as sqs:
        sqs.send_message(QueueUrl=f"{emulator}/000000000000/{QUEUE}-dlq", MessageBody="nobody can read this")
    shown = 'anb_dead_letter_messages_total{outcome="unreadable"} 1.0'
    eventually(lambda: shown in httpx.get(f"{api}/metrics").text.splitlines())
    check = httpx.get(f"{api}/readyz").json()["checks"]["dead-letter queue"]
    assert check == {"ok": True, "required": False, "detail": None}


def test_the_secret_of_the_bucket_is_in_no_file_and_on_no_command_line(stack: Place) -> None:
    secret = stack.secret()
    assert len(secret) > 32
    assert not [command for command in processes_in(stack.path).values() if secret in command]
    files = [path for path in stack.folder.path.rglob("*") if path.is_file()]
    assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_a_stack_that_cannot_write_its_output_stops(place: Place) -> None:
    with Path("/dev/full").open("w") as full:
        stack = place.start("up", "--port", "0", stdout=full, stderr=subprocess.PIPE)
    _, err = stack.communicate(timeout=60)
    assert stack.returncode == Exit.WRONG_USE
    assert err.endswith("anb: The output can't be written: No space left on device.\n")
    assert "Traceback" not in err
    assert processes_in(place.path) == {}


def test_a_bad_video_fails_with_its_reason_and_exit_code_1(stack: Place) -> None:
    (stack.path / "text.mp4").write_text("This is no video. " * 1000)
    done = stack.run("upload", "--watch", "text.mp4")
    assert done.returncode in {Exit.VIDEO_FAILED, Exit.REFUSED}
    assert "not_a_video" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dead_letter_is_seen_and_redriven_and_the_video_processed_once_its_cause_is_gone(
    stack: Place, footage: Path
) -> None:
    watermark = stack.bucket().Object("resources/watermark.png")
    watermark.put(Body=b"This is no picture.")
    try:
        done = stack.run("upload", "--watch", *SHORT[:4], str(footage / "carphone_pristine.mp4"))
    finally:
        watermark.delete()
    assert done.returncode == Exit.VIDEO_FAILED
    assert "(bad_resource)" in done.stderr

    [letter] = stack.records("dlq", "list", "--code", "bad_resource")
    [shown] = stack.records("dlq", "show", str(letter["id"]))
    assert [attempt["error"]["code"] for attempt in shown["attempts"]] == ["bad_resource"] * 3
    assert stack.records("dlq", "redrive", "--version", letter["version"])[0] == {
        "dead_letter_id": letter["id"],
        "redriven": True,
    }
    assert stack.records("watch", letter["video_id"])[-1]["status"] == "processed"
    [resolved] = stack.records("dlq", "show", str(letter["id"]))
    assert (resolved["resolution"], resolved["resolved_by"]) == ("redriven", "bootstrap")


def bad_clips(folder: Path) -> dict[str, Path]:
    """Write one invalid video file per error code. Returns the paths of the files by error code."""
    folder.mkdir()
    picture = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=1", "-c:v", "libx264", "-preset", "ultrafast")
    (folder / "words.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nHello\n\n")
    clips = {
        "truncated": make_clip(folder / "cut.mp4", *picture, "-movflags", "+faststart"),
        "zero_duration": make_clip(folder / "empty.mp4", *picture, "-movflags", "empty_moov+frag_keyframe"),
        "too_long": make_clip(folder / "hours.mkv", *picture),
        "audio_only": make_clip(folder / "song.mp4", "-f", "lavfi", "-i", "sine=d=1"),
        "no_video_stream": make_clip(folder / "words.mkv", "-i", folder / "words.srt"),
    }
    index = next(box.end for box in boxes(clips["zero_duration"]) if box.kind == "moov")
    hours = clips["too_long"].read_bytes()
    at = hours.index(b"\x44\x89\x88") + 3  # Matroska stores the duration as a 64-bit float.
    clips["too_long"].write_bytes(hours[:at] + struct.pack(">d", 36_000_000.0) + hours[at + 8 :])
    clips["zero_duration"].write_bytes(clips["zero_duration"].read_bytes()[:index])
    clips["truncated"].write_bytes(clips["truncated"].read_bytes()[: clips["truncated"].stat().st_size // 2])
    return clips


def test_a_fault_that_only_the_probe_finds_fails_the_job_once_with_its_own_code(stack: Place, footage: Path) -> None:
    clips = bad_clips(stack.path / "bad")
    records = stack.records("upload", *map(str, clips.values()))
    wanted = {video["video_id"]: code for video, code in zip(records, clips, strict=True)}
    wanted[stack.upload("--start", "20", footage / "carphone_pristine.mp4")] = "trim_beyond_end"

    def failed() -> dict[str, dict[str, Any]]:
        return {video["video_id"]: video for video in stack.records("list", "--status", "failed")}

    eventually(lambda: wanted.keys() <= failed().keys(), within=180, every=0.5)
    found = {video_id: video for video_id, video in failed().items() if video_id in wanted}
    assert {video_id: video["error"]["code"] for video_id, video in found.items()} == wanted
    assert {(video["attempts"], video["failures"]) for video in found.values()} == {(1, 0)}


def test_a_second_stack_in_the_same_folder_is_told_so(stack: Place) -> None:
    running = stack.folder.running()
    done = stack.run("up", "--port", "0")
    assert done.returncode == Exit.STACK_TROUBLE
    assert running is not None
    assert running.url in done.stderr
    assert stack.folder.running() == running


@pytest.mark.parametrize("part", ["anb_api", "anb_worker"])
def test_a_child_that_was_killed_is_started_again(stack: Place, part: str) -> None:
    killed = stack.kill(part)
    eventually(lambda: stack.pid_of(part) not in {None, killed})
    eventually(stack.answers, every=0.1)


def test_an_emulator_that_is_killed_in_mid_work_loses_nothing_that_had_its_202(stack: Place, footage: Path) -> None:
    # Upload both files in one command, because the first job could end before a second command starts.
    clips = (str(footage / name) for name in ("bigbuckbunny.mp4", "bikes.mp4"))
    at_work, waiting = (record["video_id"] for record in stack.records("upload", *SHORT[2:], *clips))
    eventually(lambda: stack.statuses().get(at_work) == "processing", every=0.1)
    assert stack.statuses()[waiting] == "uploaded"
    killed = stack.kill("emulator_guard")
    eventually(lambda: stack.pid_of("emulator_guard") not in {None, killed})
    done = {at_work: "processed", waiting: "processed"}
    eventually(lambda: done.items() <= stack.statuses().items(), within=180, every=0.2)


def test_a_stop_leaves_no_process_and_the_next_start_finds_everything(place: Place, footage: Path) -> None:
    first, before = place.up()
    video_id = place.upload(*SHORT, footage / "carphone_pristine.mp4")
    token, secret = place.folder.token(), place.secret()
    first.send_signal(signal.SIGINT)
    assert ended(first) == Exit.OK
    assert processes_in(place.path) == {}
    done = place.run("list")
    assert done.returncode == Exit.UNREACHABLE
    assert "start it with `anb up`" in done.stderr

    second, after = place.up()
    assert video_id in place.statuses()
    assert place.folder.token() == token
    assert place.secret() != secret
    assert after.pid != before.pid
    second.kill()
    ended(second)
    # A killed stack can't stop its child processes, so the kernel kills the child processes.
    eventually(lambda: processes_in(place.path) == {})


def test_a_taken_port_is_named(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = place.run("up", "--port", str(port))
    assert done.returncode == Exit.STACK_TROUBLE
    assert f"Port {port} is taken" in done.stderr
    assert processes_in(place.path) == {}


def test_wrong_settings_are_explained_in_a_sentence(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANB_MAX_UPLOAD_BYTES", "a lot")
    done = place.run("up", "--port", "0")
    assert done.returncode == Exit.STACK_TROUBLE
    assert "ANB_MAX_UPLOAD_BYTES" in done.stderr
    assert "Traceback" not in done.stderr
    assert processes_in(place.path) == {}


def test_a_second_signal_hurries_the_stop_of_a_busy_stack(place: Place, footage: Path) -> None:
    stack, _ = place.up()
    video_id = place.upload(*SHORT[2:], footage / "bigbuckbunny.mp4")
    eventually(lambda: place.statuses().get(video_id) == "processing", every=0.1)
    stack.send_signal(signal.SIGINT)
    eventually(lambda: "stopping" in (place.folder.logs / "worker-1.log").read_text())
    os.kill(stack.pid, signal.SIGINT)
    assert ended(stack) == Exit.OK
    assert processes_in(place.path) == {}
