"""Tests that delete pods of API and workers while the pods work."""

from collections.abc import Callable
from pathlib import Path

import pytest

from anb_cli.client import Api
from tests.support.cluster import Json, Namespace, ready
from tests.support.release import QUICK, Release
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(900)

JOBS = 20


def test_a_job_whose_worker_is_deleted_is_finished_by_another(
    release: Release, namespace: Namespace, upload: Callable[..., str], footage: Path
) -> None:
    video_id = upload(footage / "bikes.mp4")

    def rendering() -> Json | None:
        status = namespace.status(video_id)
        return status if status.get("worker") and status.get("progress", "0%") != "0%" else None

    first = (eventually(rendering, within=120, every=0.2) or {})["worker"]
    # One second is too short to finish the job, so the worker gives the job back, or is killed.
    namespace.kubectl("delete", "pod", first, "--grace-period=1", "--wait=false")
    seen: set[str] = set()

    def processed() -> bool:
        status = namespace.status(video_id)
        seen.add(status.get("worker", ""))
        return bool(status["phase"] == "processed")

    eventually(processed, within=300, every=0.5)
    assert len(seen - {"", first}) == 1
    assert namespace.status(video_id)["attempts"] == 2
    assert len(release.results(video_id)) == 1


def test_an_operator_that_is_deleted_during_twenty_jobs_skips_nothing(
    namespace: Namespace, api: Api, upload: Callable[..., str], blink: Path
) -> None:
    videos = [upload(blink, title=f"Number {number}", edit=QUICK) for number in range(JOBS)]

    def done() -> int:
        return sum(api.get(video_id)["status"] == "processed" for video_id in videos)

    eventually(lambda: done() >= JOBS // 4, within=300, every=0.5)
    (operator,) = (pod["metadata"]["name"] for pod in namespace.pods("operator"))
    namespace.kubectl("delete", "pod", operator, "--wait=false")
    assert done() < JOBS
    eventually(lambda: done() == JOBS, within=300, every=1)
    eventually(lambda: [pod for pod in namespace.pods("operator") if ready(pod)], within=120, every=1)

    def statuses() -> dict[str, tuple[object, ...]]:
        shown = {item["metadata"]["name"]: item.get("status", {}) for item in namespace.items("videojobs")}
        fields = ("phase", "attempts", "progress")
        return {video: tuple(shown.get(video, {}).get(field) for field in fields) for video in videos}

    eventually(lambda: set(statuses().values()) == {("processed", 1, "100%")}, within=60, every=1)
