"""Tests that the Kubernetes API server refuses invalid VideoJobs, with a message that names the error."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.chart import tool
from tests.support.cluster import delete_videojobs

Apply = Callable[..., str]

SOURCE = {"source": {"key": "uploads/clip.mp4"}}
COLUMNS = ["NAME", "STATUS", "PROGRESS", "ATTEMPTS", "REASON", "AGE", "VIDEO", "RESULT", "WORKER", "DEAD-LETTER"]
VIDEO_ID = "3f0a3f4e-6d1e-4b55-9a3b-7d9d5d1f7a10"


@pytest.fixture(scope="module")
def namespace(_videojobs_known: None) -> Iterator[str]:
    """A new namespace on a cluster with the CRD of VideoJobs."""
    name = f"admission-{uuid.uuid4().hex[:8]}"
    tool("kubectl", "create", "namespace", name)
    yield name
    delete_videojobs(name)
    tool("kubectl", "delete", "namespace", name, "--wait=false")


@pytest.fixture
def apply(namespace: str, tmp_path: Path) -> Apply:
    """A function `apply(name, spec)` that returns the API server's error message, or an empty string on success."""

    def run(name: str, spec: dict[str, Any]) -> str:
        path = tmp_path / "videojob.json"
        manifest = {"apiVersion": "anb.video/v1alpha1", "kind": "VideoJob", "metadata": {"name": name}, "spec": spec}
        path.write_text(json.dumps(manifest), encoding="utf-8")
        done = tool("kubectl", "apply", "-n", namespace, "--validate=strict", "-f", str(path), check=False)
        return done.stderr if done.returncode else ""

    return run


@pytest.fixture
def name() -> str:
    return f"job-{uuid.uuid4().hex[:8]}"


@pytest.mark.parametrize(
    "spec",
    [
        SOURCE,
        SOURCE | {"title": "Grüße, 世界", "owner": "ana", "retry": "1", "cancel": True, "ttlSecondsAfterFinished": 0},
        SOURCE | {"edit": {"trim": {"start": 0, "length": 30}, "watermark": {"enabled": False}, "intro": {}}},
        {"source": {"key": "ü" * 512}},
        SOURCE | {"processAfter": 3600},
        SOURCE | {"processAfter": "3600"},
        SOURCE | {"processAfter": "2026-12-01T08:00:00.5+02:00"},
        {"videoId": "A_b", "retry": "1", "cancel": False, "ttlSecondsAfterFinished": 60},
    ],
)
def test_a_valid_videojob_is_accepted_however_often_it_is_applied(
    apply: Apply, name: str, spec: dict[str, Any]
) -> None:
    assert apply(name, spec) == ""
    assert apply(name, spec) == ""


def test_a_mirror_is_named_by_its_videos_id(apply: Apply, name: str) -> None:
    assert apply(VIDEO_ID, {"videoId": VIDEO_ID}) == ""
    assert "Set metadata.name to the id" in apply(name, {"videoId": VIDEO_ID})
    assert apply(name, {"videoId": "An_Id.that-is-no-name"}) == ""


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({}, "Give either source"),
        ({"videoId": VIDEO_ID, **SOURCE}, "Give either source"),
        ({"source": {}}, "spec.source.key: Required value"),
        ({"source": {"key": ""}}, "should be at least 1 chars long"),
        ({"source": {"key": "/uploads/clip.mp4"}}, "It must be the key alone"),
        ({"source": {"key": "s3://bucket/uploads/clip.mp4"}}, "It must be the key alone"),
        ({"source": {"key": "uploads/"}}, "It must be the key alone"),
        ({"source": {"key": "ü" * 513}}, "The key must not be longer than 1024 bytes in UTF-8"),
        ({"videoId": "../etc"}, "spec.videoId"),
        ({"videoId": "A", "title": "Ignored"}, "Leave out title, owner, edit"),
        ({"videoId": "A", "owner": "ana"}, "Leave out title, owner, edit"),
        ({"videoId": "A", "edit": {}}, "Leave out title, owner, edit"),
        ({"videoId": "A", "processAfter": 60}, "Leave out title, owner, edit and processAfter"),
        (SOURCE | {"processAfter": 604801}, "spec.processAfter"),
        (SOURCE | {"processAfter": 1.5}, "spec.processAfter"),
        (SOURCE | {"processAfter": True}, "spec.processAfter"),
        (SOURCE | {"processAfter": ""}, "spec.processAfter"),
        (SOURCE | {"processAfter": "2h"}, "spec.processAfter"),
        (SOURCE | {"processAfter": "2026-12-01T08:00:00"}, "spec.processAfter"),
        (SOURCE | {"title": ""}, "spec.title"),
        (SOURCE | {"title": "   "}, "It must not be blank"),
        (SOURCE | {"title": "two\nlines"}, "It must not have control characters"),
        (SOURCE | {"title": "x" * 201}, "may not be more than 200"),
        (SOURCE | {"owner": "   "}, "It must not be blank"),
        (SOURCE | {"owner": "two\nlines"}, "It must not have control characters"),
        (SOURCE | {"retry": "a\0"}, "It must not have control characters"),
        (SOURCE | {"edit": {"trim": {"start": -1}}}, "spec.edit.trim.start"),
        (SOURCE | {"edit": {"trim": {"length": 31}}}, "spec.edit.trim.length"),
        (SOURCE | {"edit": {"trim": {"length": 0}}}, "spec.edit.trim.length"),
        (SOURCE | {"edit": {"watermark": {"enabled": "no"}}}, "spec.edit.watermark.enabled"),
        (SOURCE | {"edit": {"music": {"enabled": True}}}, 'unknown field "spec.edit.music"'),
        (SOURCE | {"priority": 1}, 'unknown field "spec.priority"'),
        (SOURCE | {"ttlSecondsAfterFinished": -1}, "spec.ttlSecondsAfterFinished"),
    ],
)
def test_an_invalid_videojob_is_refused_with_a_sentence(
    apply: Apply, name: str, spec: dict[str, Any], sentence: str
) -> None:
    assert sentence in apply(name, spec)


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (SOURCE, {"source": {"key": "uploads/other.mp4"}}, "source can't be changed"),
        (SOURCE, SOURCE | {"title": "Added"}, "title can't be changed"),
        (SOURCE | {"title": "One"}, SOURCE | {"title": "Two"}, "title can't be changed"),
        (SOURCE | {"title": "One"}, SOURCE, "title can't be changed"),
        (SOURCE | {"owner": "ana"}, SOURCE | {"owner": "ben"}, "owner can't be changed"),
        (SOURCE, SOURCE | {"owner": "ana"}, "owner can't be changed"),
        (SOURCE, SOURCE | {"edit": {}}, "edit can't be changed"),
        (SOURCE, SOURCE | {"processAfter": 60}, "processAfter can't be changed"),
        (SOURCE | {"processAfter": 60}, SOURCE | {"processAfter": "60"}, "processAfter can't be changed"),
        (SOURCE | {"processAfter": 60}, SOURCE, "processAfter can't be changed"),
        (SOURCE | {"edit": {"trim": {"start": 1}}}, SOURCE | {"edit": {"trim": {"start": 2}}}, "edit can't be changed"),
        (SOURCE | {"edit": {"intro": {}}}, SOURCE, "edit can't be changed"),
        ({"videoId": "A"}, {"videoId": "B"}, "videoId can't be changed"),
        ({"videoId": "A"}, SOURCE, "can't be changed"),
        (SOURCE | {"cancel": True}, SOURCE | {"cancel": True, "retry": "1"}, "Set cancel to false together"),
    ],
)
def test_what_was_acted_on_can_not_be_changed(
    apply: Apply, name: str, before: dict[str, Any], after: dict[str, Any], sentence: str
) -> None:
    assert apply(name, before) == ""
    assert sentence in apply(name, after)
    assert apply(name, before) == ""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SOURCE, SOURCE | {"cancel": True}),
        (SOURCE | {"cancel": True}, SOURCE | {"cancel": False, "retry": "1"}),
        (SOURCE | {"retry": "1"}, SOURCE | {"retry": "1", "cancel": True}),
        (SOURCE | {"retry": "1"}, SOURCE | {"retry": "2"}),
        (SOURCE, SOURCE | {"ttlSecondsAfterFinished": 60}),
    ],
)
def test_what_steers_the_work_can_be_changed(
    apply: Apply, name: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert apply(name, before) == ""
    assert apply(name, after) == ""


def test_videojobs_are_listed_with_their_columns_and_found_by_phase(apply: Apply, name: str, namespace: str) -> None:
    assert apply(name, SOURCE) == ""
    status = {
        "phase": "failed",
        "videoId": VIDEO_ID,
        "progress": "40%",
        "attempts": 1,
        "worker": "anb-worker-1",
        "error": {"code": "not_a_video", "message": "The file is no video."},
    }
    patch = json.dumps({"status": status})
    tool("kubectl", "patch", "vj", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)
    listed = tool("kubectl", "get", "vj", "-n", namespace, "-o", "wide", "--field-selector", "status.phase=failed")
    head, row = listed.stdout.splitlines()
    assert head.split() == COLUMNS
    assert row.split()[:5] == [name, "failed", "40%", "1", "not_a_video"]
    assert f"videojob.anb.video/{name}" in tool("kubectl", "get", "all", "-n", namespace, "-o", "name").stdout
