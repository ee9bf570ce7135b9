"""Tests that KEDA adds and removes workers under each of the two scaling policies."""

import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import pytest

from tests.support.cluster import EVIDENCE, Namespace
from tests.support.release import QUICK, Release
from tests.support.scaling_picture import Sample, draw
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(1200)

JOBS = 30
# The edit keeps intro, outro and watermark, so that renders last long enough for KEDA to start three workers.
SHORT = {"trim": {"length": 3}}
TITLE = f"{JOBS} jobs, step policy with windows of 15 s and cooldowns of 30 s"

STEP = (
    "worker.autoscaling.step.scaleUpAfterSeconds=15",
    "worker.autoscaling.step.scaleUpCooldownSeconds=30",
    "worker.autoscaling.scaleDownAfterSeconds=15",
    "worker.autoscaling.scaleDownCooldownSeconds=30",
)
BACKLOG = (
    "worker.autoscaling.policy=backlog",
    "worker.autoscaling.minReplicas=0",
    "worker.autoscaling.zero.cooldownSeconds=20",
    "worker.autoscaling.scaleDownAfterSeconds=15",
    "worker.autoscaling.scaleDownCooldownSeconds=15",
)


@pytest.fixture
def usual_values_afterwards(release: Release) -> Iterator[None]:
    yield
    release.up()


@pytest.mark.usefixtures("usual_values_afterwards")
def test_the_step_policy_adds_workers_one_by_one_and_removes_them_one_by_one(
    release: Release, upload: Callable[..., str], footage: Path
) -> None:
    release.up(*STEP)
    eventually(lambda: release.workers() == 1, within=600, every=1)
    begun = time.monotonic()
    samples: list[Sample] = []

    def sample() -> Sample:
        visible, in_flight = release.messages()
        samples.append(Sample(time.monotonic() - begun, visible, in_flight, release.workers()))
        return samples[-1]

    def back_at_one() -> bool:
        now = sample()
        idle = (now.visible, now.in_flight, now.workers) == (0, 0, 1)
        return idle and max(past.workers for past in samples) > 1

    videos = []
    for number in range(JOBS):
        sample()
        videos.append(upload(footage / "bikes.mp4", title=f"Number {number}", edit=SHORT))
    try:
        eventually(back_at_one, within=900, every=1)
    finally:
        EVIDENCE.mkdir(parents=True, exist_ok=True)
        (EVIDENCE / "scaling.svg").write_text(draw(samples, TITLE), encoding="utf-8")
    counts = [count for count, _ in groupby(past.workers for past in samples)]
    assert counts == [1, 2, 3, 2, 1]
    # Read the status with kubectl. The port-forward to the API breaks if the autoscaler removes the pod behind it.
    for video_id in videos:
        assert release.until(video_id, "processed")["attempts"] == 1
        assert len(release.results(video_id)) == 1


@pytest.mark.usefixtures("usual_values_afterwards")
def test_the_backlog_policy_wakes_a_worker_from_none_and_lets_it_go(
    release: Release,
    namespace: Namespace,
    upload: Callable[..., str],
    blink: Path,
    measured: Callable[[str], None],
) -> None:
    release.up(*BACKLOG)
    eventually(lambda: not namespace.items("pods", "-l", "app.kubernetes.io/component=worker"), within=300, every=1)
    sent = time.monotonic()
    video_id = upload(blink, edit=QUICK)
    eventually(lambda: release.workers() == 1, within=120, every=0.2)
    asked = time.monotonic() - sent
    eventually(lambda: namespace.status(video_id).get("attempts"), within=120, every=0.2)
    measured(f"a worker was asked for after {asked:.1f} s, and it began after {time.monotonic() - sent:.1f} s")
    assert release.until(video_id, "processed")["attempts"] == 1
    eventually(lambda: release.workers() == 0, within=300, every=1)
