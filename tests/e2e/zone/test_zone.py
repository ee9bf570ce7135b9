"""Tests that the loss of a zone costs no video, and that the pods are spread again after the zone's return.

The stand-ins for the managed services run on the first node, so only the second node can be lost.
"""

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from secrets import token_hex

import pytest

from tests.support.chart import tool
from tests.support.cluster import Json, Namespace, ready
from tests.support.outage import failed, requests_of, worst_gap
from tests.support.probing import Probe, probing, reading
from tests.support.release import LOCAL, Release
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(1200)

JOBS = 30
COMPONENTS = {"api": 2, "worker": 2, "operator": 1}
"""The number of pods of each component while both zones work."""

ENDPOINTS_SECONDS = 5.0
"""Time that the nodes may need to stop sending requests to the pods of a node that is NotReady, in seconds."""


@pytest.fixture
def nodes() -> tuple[str, str]:
    """The name of the node with the stand-ins, and the name of the node that can be lost."""
    [kept] = LOCAL.items("nodes", "--selector", "anb.video/stand-ins=true")
    others = LOCAL.items("nodes", "--selector", "anb.video/stand-ins!=true,!node-role.kubernetes.io/control-plane")
    [lost] = [node["metadata"]["name"] for node in others]
    return kept["metadata"]["name"], lost


@pytest.fixture
def in_both_zones(descheduler: None, namespace: Namespace) -> None:
    """The API and the workers have a pod in each zone."""
    del descheduler
    eventually(lambda: spread(namespace), within=180, every=1)


@pytest.fixture
def thirty_jobs(release: Release, footage: Path) -> Callable[[], set[str]]:
    """A function that submits 30 videos, waits until some are processed, and returns the names of all VideoJobs."""

    def run() -> set[str]:
        release.put("uploads/zone.mp4", footage / "bikes.mp4")
        names = {f"zone-{token_hex(4)}" for _ in range(JOBS)}
        spec = {"source": {"key": "uploads/zone.mp4"}, "title": "One of thirty", "edit": {"trim": {"length": 3}}}
        job = {"apiVersion": "anb.video/v1alpha1", "kind": "VideoJob", "spec": spec}
        # All at once, so that the work is not done before the last one is submitted.
        release.namespace.apply(
            {"apiVersion": "v1", "kind": "List", "items": [job | {"metadata": {"name": name}} for name in names]}
        )
        eventually(lambda: len(processed(release.namespace, names)) >= JOBS // 5, within=300, every=0.5)
        assert len(processed(release.namespace, names)) < JOBS
        return names

    return run


@pytest.mark.usefixtures("in_both_zones")
def test_a_lost_zone_costs_no_video_and_hardly_a_request_of_the_other_zone(
    nodes: tuple[str, str],
    release: Release,
    thirty_jobs: Callable[[], set[str]],
    tmp_path: Path,
    measured: Callable[[str], None],
) -> None:
    (kept, lost), namespace = nodes, release.namespace
    with reading(namespace, tmp_path / "reader.json", node=kept) as reader:
        jobs = thirty_jobs()
        with stopped(lost) as lost_at:
            eventually(lambda: all_on(namespace, kept), within=300, every=0.5)
            replaced, unready_at = time.time() - lost_at, unready_since(lost)
        returned_at = time.time()
        eventually(lambda: spread(namespace), within=600, every=0.5)
        spread_again = time.time() - returned_at
        attempts = attempts_of_all(release, jobs)
        requests = requests_of(reader.stop())
    gap, share = worst_gap(requests), failed(requests, after=lost_at, before=unready_at)
    late = [request for request in requests if not request.answered and request.begun > unready_at + ENDPOINTS_SECONDS]
    measured(
        f"NotReady after {unready_at - lost_at:.0f} s; pods replaced after {replaced:.0f} s, and spread again"
        f" {spread_again:.0f} s after the zone's return. The worst gap of the API was {gap:.1f} s; {share:.0%} of its"
        f" requests failed until NotReady, and {len(late)} requests failed later."
        f" {JOBS} jobs took {attempts} attempts"
    )
    assert gap <= 5
    # The Service sends the reader's requests to the pod of its own zone. Without that, half of them fail.
    assert share <= 0.05
    assert late == []
    assert replaced <= 120


@pytest.fixture
def uploads(namespace: Namespace, blink: Path, tmp_path: Path) -> Iterator[Probe]:
    """A probe that uploads a clip twice a second."""
    with probing(namespace, blink, tmp_path / "probe.json", seconds=0.5) as probe:
        yield probe


@pytest.mark.usefixtures("in_both_zones")
def test_a_drained_node_costs_no_upload_and_no_video_and_the_pods_are_spread_again(
    nodes: tuple[str, str],
    release: Release,
    thirty_jobs: Callable[[], set[str]],
    uploads: Probe,
    measured: Callable[[str], None],
) -> None:
    (drained, other), namespace = nodes, release.namespace
    jobs = thirty_jobs()
    begun = time.time()
    with without_our_pods(drained, namespace):
        eventually(lambda: all_on(namespace, other), within=180, every=0.5)
        moved = time.time() - begun
    returned = time.time()
    eventually(lambda: spread(namespace), within=600, every=0.5)
    spread_again = time.time() - returned
    attempts = attempts_of_all(release, jobs)
    said = uploads.stop()
    measured(
        f"pods moved after {moved:.0f} s, and were spread again {spread_again:.0f} s after the node's return;"
        f" {len(said)} uploads were accepted; {JOBS} jobs took {attempts} attempts"
    )
    assert [line for line in said if not line.startswith("202 ")] == []


@contextmanager
def stopped(node: str) -> Iterator[float]:
    """Stop a node without a warning, and start it again after the block. Yields the time of the loss (Unix time).

    `make e2e` gives the commands, which take the node's name as last argument, in NODE_STOPPER and NODE_STARTER.
    """
    lost_at = time.time()
    subprocess.run([*shlex.split(os.environ["NODE_STOPPER"]), node], check=True)
    try:
        yield lost_at
    finally:
        subprocess.run([*shlex.split(os.environ["NODE_STARTER"]), node], check=True)


@contextmanager
def without_our_pods(node: str, namespace: Namespace) -> Iterator[None]:
    """Drain a node of the release's pods, and let it take pods again after the block. The stand-ins stay."""
    # `kubectl drain` looks into all namespaces, and only the hashes tell which pods are of this release.
    pods = [pod for component in COMPONENTS for pod in namespace.pods(component)]
    hashes = ",".join({pod["metadata"]["labels"]["pod-template-hash"] for pod in pods})
    ours = ("--pod-selector", f"pod-template-hash in ({hashes})")
    try:
        tool("kubectl", "drain", node, *ours, "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=5m")
        yield
    finally:
        tool("kubectl", "uncordon", node)


def processed(namespace: Namespace, videojobs: set[str]) -> list[Json]:
    """Return the statuses of those of the given VideoJobs that are processed."""
    found = [item for item in namespace.items("videojobs") if item["metadata"]["name"] in videojobs]
    return [item["status"] for item in found if item.get("status", {}).get("phase") == "processed"]


def attempts_of_all(release: Release, videojobs: set[str]) -> int:
    """Wait until all the VideoJobs are processed. Each must have one result. Returns the number of their attempts."""
    eventually(lambda: len(processed(release.namespace, videojobs)) == len(videojobs), within=600, every=1)
    done = processed(release.namespace, videojobs)
    assert [len(release.results(status["videoId"])) for status in done] == [1] * len(videojobs)
    return sum(status["attempts"] for status in done)


def working(namespace: Namespace) -> dict[str, list[str]]:
    """Return the nodes of the ready pods, for each component."""
    return {
        component: [pod["spec"]["nodeName"] for pod in namespace.pods(component) if ready(pod)]
        for component in COMPONENTS
    }


def all_on(namespace: Namespace, node: str) -> bool:
    """Return whether each component has all its pods on one node."""
    found = working(namespace)
    return all(found[component].count(node) >= number for component, number in COMPONENTS.items())


def spread(namespace: Namespace) -> bool:
    """Return whether API and workers have a ready pod on each of two nodes."""
    found = working(namespace)
    return all(len(set(found[component])) == 2 for component in ("api", "worker"))


def unready_since(node: str) -> float:
    """Return when the node became NotReady, as Unix time in seconds."""
    conditions: list[Json] = LOCAL.get("node", node)["status"]["conditions"]
    [ready] = [condition for condition in conditions if condition["type"] == "Ready"]
    assert ready["status"] != "True"
    return datetime.fromisoformat(ready["lastTransitionTime"]).timestamp()
