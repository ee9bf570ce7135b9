"""Tests that submit, cancel and retry videos with kubectl alone."""

import json
from pathlib import Path

import pytest
import yaml

from anb_cli.client import Api
from tests.support.cluster import Namespace
from tests.support.release import QUICK, ROOT, Release
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(600)

EXAMPLE = ROOT / "docs" / "examples" / "videojob.yaml"


def patch(namespace: Namespace, name: str, **spec: object) -> None:
    namespace.kubectl("patch", "videojob", name, "--type=merge", "--patch", json.dumps({"spec": spec}))


def condition(release: Release, name: str, kind: str) -> dict[str, str]:
    """Return a VideoJob's condition of the given type, or an empty dict if the condition is missing."""
    conditions = release.namespace.status(name).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == kind), {})


def test_the_example_applied_twice_is_one_video(
    release: Release, namespace: Namespace, api: Api, footage: Path
) -> None:
    example = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    name, title = example["metadata"]["name"], example["spec"]["title"]
    namespace.kubectl("delete", "videojob", name, "--ignore-not-found")
    before = {video["video_id"] for video in api.videos() if video["title"] == title}
    release.put(example["spec"]["source"]["key"], footage / "bikes.mp4")
    assert namespace.kubectl("apply", "--filename", str(EXAMPLE)).endswith("created\n")
    assert namespace.kubectl("apply", "--filename", str(EXAMPLE)).endswith("unchanged\n")
    status = release.until(name, "processed", within=300)
    assert {video["video_id"] for video in api.videos() if video["title"] == title} - before == {status["videoId"]}
    assert release.results(status["videoId"]) == [status["resultKey"]]
    # The operator must not create a second VideoJob, because the submitting VideoJob shows the video's status.
    shown = [item for item in namespace.items("videojobs") if item["status"].get("videoId") == status["videoId"]]
    assert [item["metadata"]["name"] for item in shown] == [name]

    said = namespace.refused("patch", "videojob", name, "--type=merge", "--patch", '{"spec": {"title": "Another"}}')
    assert "title can't be changed after the video was submitted. Make another VideoJob." in said


def test_a_patch_cancels_and_another_tries_again(release: Release, namespace: Namespace, footage: Path) -> None:
    namespace.kubectl("delete", "videojob", "to-cancel", "ahead", "--ignore-not-found")
    release.put("uploads/to-cancel.mp4", footage / "bikes.mp4")
    # The video "ahead" keeps the only worker busy, so that the video "to-cancel" waits.
    release.submit("ahead", "uploads/to-cancel.mp4", edit=QUICK)
    release.submit("to-cancel", "uploads/to-cancel.mp4", edit=QUICK)
    release.until("to-cancel", "uploaded")
    patch(namespace, "to-cancel", cancel=True)
    release.until("to-cancel", "cancelled")
    patch(namespace, "to-cancel", cancel=False, retry="once-more")
    assert release.until("to-cancel", "processed")["retry"] == "once-more"
    # Each of two VideoJobs with the same object key must submit a video of its own.
    assert release.until("ahead", "processed")["videoId"] != namespace.status("to-cancel")["videoId"]


def test_a_failed_one_is_tried_again_after_its_object_was_mended(
    release: Release, namespace: Namespace, blink: Path, tmp_path: Path
) -> None:
    namespace.kubectl("delete", "videojob", "mended", "--ignore-not-found")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(blink.read_bytes()[:2000])
    release.put("uploads/mended.mp4", broken)
    release.submit("mended", "uploads/mended.mp4", edit=QUICK)
    assert release.until("mended", "failed")["attempts"] == 1
    release.put("uploads/mended.mp4", blink)
    patch(namespace, "mended", retry="after-mending")
    status = release.until("mended", "processed")
    assert status["attempts"] == 2
    assert "error" not in status


def test_a_videojob_for_a_missing_object_is_not_accepted(release: Release, namespace: Namespace) -> None:
    namespace.kubectl("delete", "videojob", "missing", "--ignore-not-found")
    release.submit("missing", "uploads/never-uploaded.mp4", edit=QUICK)
    accepted = eventually(lambda: condition(release, "missing", "Accepted"), every=0.5)
    assert accepted["status"] == "False"
    assert "uploads/never-uploaded.mp4" in accepted["message"]
    namespace.kubectl("delete", "videojob", "missing")


def test_deleting_an_unfinished_videojob_cancels_its_video(
    release: Release, namespace: Namespace, api: Api, footage: Path
) -> None:
    namespace.kubectl("delete", "videojob", "dropped", "--ignore-not-found")
    release.put("uploads/dropped.mp4", footage / "bikes.mp4")
    release.submit("dropped", "uploads/dropped.mp4", edit=QUICK)
    video_id: str = eventually(lambda: namespace.status("dropped").get("videoId", ""), every=0.2)
    namespace.kubectl("delete", "videojob", "dropped", "--timeout=60s")
    eventually(lambda: api.get(video_id)["status"] == "cancelled", every=0.5)
