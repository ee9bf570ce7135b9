"""Tests that upload, process and download a video through the Service, and that read the columns of kubectl."""

from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import pytest

from anb_cli.client import Api
from anb_cli.demo.examination import FPS, Plan, examine, judge, sound_shift, source_length
from anb_cli.downloading import download
from tests.support.cluster import Namespace, watched
from tests.support.release import NAME, QUICK, Release
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(600)

Upload = Callable[..., str]

HISTORY = r'jsonpath={.metadata.name} {.status.phase} {.status.progress}{"\n"}'


def test_a_clip_is_uploaded_watched_and_downloaded(
    release: Release, api: Api, upload: Upload, footage: Path, tmp_path: Path
) -> None:
    clip = footage / "bigbuckbunny.mp4"
    command = ["kubectl", "--namespace", NAME, "get", "videojobs", "--watch", "--output", HISTORY]
    with watched(command, tmp_path / "history") as history:
        # The first video keeps the only worker busy, so that kubectl sees the second video in phase `uploaded`.
        first, second = (upload(clip, title=title) for title in ("First", "Second"))
        for video_id in (first, second):
            release.until(video_id, "processed", within=300)
        eventually(lambda: f"{second} processed" in history.read_text(encoding="utf-8"))
        shown = [line.split() for line in history.read_text(encoding="utf-8").splitlines() if line.startswith(second)]
    phases = [phase for phase, _ in groupby(line[1] for line in shown if len(line) > 1)]
    assert phases in (["uploading", "uploaded", "processing", "processed"], ["uploaded", "processing", "processed"])
    progress = [int(line[2].removesuffix("%")) for line in shown if len(line) > 2 and line[1] == "processing"]
    assert progress == sorted(progress)
    assert any(0 < percent < 100 for percent in progress)

    video = api.get(second)
    result = tmp_path / "processed.mp4"
    download(api, video, result, on_bytes=lambda _: None)
    plan = Plan.of(video["result"]["frames"])
    shift = sound_shift(clip, result, plan.intro / FPS)
    checks = judge(examine(result), plan, source_length(clip), shift)
    assert [check for check in checks if not check.passed] == []
    table = release.namespace.kubectl("get", "videojob", second).splitlines()
    assert table[0].split() == ["NAME", "STATUS", "PROGRESS", "ATTEMPTS", "REASON", "AGE"]
    assert table[1].split()[:4] == [second, "processed", "100%", "1"]


def test_a_bad_file_shows_its_reason(namespace: Namespace, release: Release, upload: Upload, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + b"no video" * 1000)
    video_id = upload(broken, title="Broken", edit=QUICK)
    status = release.until(video_id, "failed")
    code, message = status["error"]["code"], status["error"]["message"]
    header, row = namespace.kubectl("get", "videojob", video_id).splitlines()
    assert row[header.index("REASON") :].split()[0] == code == "truncated"

    def described() -> tuple[str, str]:
        status, _, events = " ".join(namespace.kubectl("describe", "videojob", video_id).split()).partition(" Events: ")
        return status, events

    eventually(lambda: "Warning Failed" in described()[1], every=1)
    assert [message in part for part in described()] == [True, True]
    assert {condition["type"] for condition in status["conditions"] if condition["status"] == "True"} >= {"Failed"}
