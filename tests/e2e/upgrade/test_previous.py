"""Upgrades an older version of the system to this version and rolls back, while people upload."""

import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from anb_core.domain.model import Ending
from anb_core.domain.status import Status
from tests.support.chart import tool
from tests.support.cluster import Namespace, watched
from tests.support.probing import probing
from tests.support.release import QUICK, ROOT, Release, installing
from tests.support.rendering import make_clip
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(900)

PREVIOUS = "previous"
"""The tag of the older version's images."""
# The number of pods is fixed, because an autoscaler could leave one pod, which would be replaced before the pause.
# ANB_DRAIN_SECONDS is the chart's default.
VALUES = (
    *("api.autoscaling.enabled=false", "worker.autoscaling.enabled=false", "worker.replicas=2"),
    "config.ANB_DRAIN_SECONDS=120",
)
DEPLOYMENTS = ("deployment/anb-api", "deployment/anb-worker")
LONG = "uploads/long.mp4"
LONG_JOBS = 3


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """The older version, installed with its own chart. After the last test, every promise must be kept."""
    commit = (ROOT / "tests" / "e2e" / "previous").read_text(encoding="utf-8").split()[-1]
    command = ("git", "-C", str(ROOT), "archive", commit, "charts/anb-video")
    packed = subprocess.run(command, check=False, capture_output=True)
    if packed.returncode:
        pytest.fail(f"git has no chart of the commit in tests/e2e/previous: {packed.stderr.decode()}")
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    older = (*VALUES, f"image.tag={PREVIOUS}")
    with installing("anb-e2e-previous", *older, chart=folder / "charts" / "anb-video") as release:
        yield release


def test_an_upgrade_and_a_rollback_refuse_no_upload_and_lose_no_video(
    release: Release, namespace: Namespace, blink: Path, measured: Callable[[str], None], tmp_path: Path
) -> None:
    rollback = ("helm", "rollback", "anb", "1", "--namespace", namespace.name, "--wait", "--timeout", "5m")
    columns = '{.metadata.name} {.status.currentHealthy} {.status.desiredHealthy}{"\\n"}'
    watch = ["kubectl", "--namespace", namespace.name, "get", "poddisruptionbudgets", "--watch"]
    sources = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=20", "-f", "lavfi", "-i", "sine=d=20")
    release.put(LONG, make_clip(tmp_path / "long.mp4", *sources, "-pix_fmt", "yuv420p"))
    with (
        watched([*watch, f"--output=jsonpath={columns}"], tmp_path / "budgets") as budgets,
        probing(namespace, blink, tmp_path / "probe.json", seconds=3, keep=True) as probe,
    ):
        eventually(lambda: len(probe.answers()) > 5, within=60, every=1)
        _change(release, "upgrade", lambda: release.up(*VALUES))
        _change(release, "rollback", lambda: tool(*rollback))
        release.up(*VALUES)
        said = probe.stop()
    assert [line for line in said if not line.startswith("202 ")] == []
    _, durations, video_ids = zip(*map(str.split, said), strict=True)
    release.receipts.update(video_ids)
    assert len(said) > 10
    eventually(lambda: _all_processed(release), within=180, every=2)
    evidence = release.evidence()
    assert len(evidence.records) == len(said) + 2 * LONG_JOBS
    # One attempt each: no worker was stopped during a job.
    assert [attempt.ending for attempt in evidence.attempts] == [Ending.PROCESSED] * len(evidence.records)
    healthy = [line.split() for line in budgets.read_text(encoding="utf-8").splitlines()]
    assert {name for name, _, _ in healthy} == {"anb-api", "anb-worker"}
    assert [line for line in healthy if int(line[1]) < int(line[2])] == []
    measured(f"{len(said)} uploads, the slowest in {max(map(float, durations)):.1f} s; none was refused")


def _change(release: Release, name: str, change: Callable[[], object]) -> None:
    """Upgrade or roll back. Pause until pods of both versions have accepted uploads and processed videos.

    The change goes on while workers of the leaving version have a long job, which they must finish before they stop.
    """
    namespace = release.namespace
    leaving = set(_versions(namespace).values())
    with ThreadPoolExecutor(1) as pool:
        changed = pool.submit(change)
        eventually(lambda: changed.done() or len(set(_versions(namespace).values())) == 4, within=180, every=0.2)
        assert not changed.done(), changed.result()
        namespace.kubectl("rollout", "pause", *DEPLOYMENTS)
        try:
            paused = release.evidence().now
            eventually(lambda: len(_active(release, paused)) == 4, within=180, every=2)
            for number in range(LONG_JOBS):
                release.submit(f"{name}-{number}", LONG, edit=QUICK)
            eventually(lambda: not leaving.isdisjoint(_busy(release)), within=300, every=0.5)
        finally:
            namespace.kubectl("rollout", "resume", *DEPLOYMENTS)
        changed.result()
    eventually(lambda: leaving.isdisjoint(_versions(namespace).values()), within=180, every=1)


def _versions(namespace: Namespace) -> dict[str, str]:
    """Map each pod of API and workers to its program and version, such as `api:0.1.0`."""
    pods = namespace.items("pods", "--selector", "app.kubernetes.io/component in (api, worker)")
    return {pod["metadata"]["name"]: pod["spec"]["containers"][0]["image"].rpartition("/")[2] for pod in pods}


def _active(release: Release, since: datetime) -> set[str]:
    """Return the programs and versions that accepted an upload or ended an attempt that began after `since`."""
    versions = _versions(release.namespace)
    attempts = [attempt for attempt in release.evidence().attempts if attempt.started_at > since and attempt.ending]
    logs = ("logs", f"--since-time={since.isoformat()}")
    accepted = [
        pod
        for pod in versions
        if versions[pod].startswith("api:") and "upload completed" in release.namespace.kubectl(*logs, pod)
    ]
    return {versions[pod] for pod in (*accepted, *(attempt.worker for attempt in attempts)) if pod in versions}


def _busy(release: Release) -> set[str]:
    """Return the versions of the workers that work on long jobs."""
    jobs = [record.job for record in release.evidence().records if record.video.source_key == LONG]
    working = {job.worker for job in jobs if job.lease_owner}
    return {version for pod, version in _versions(release.namespace).items() if pod in working}


def _all_processed(release: Release) -> bool:
    return all(record.job.status is Status.PROCESSED for record in release.evidence().records)
