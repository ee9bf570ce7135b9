"""What is there after an install, and what its own test says."""

import json
from pathlib import Path

import pytest

from tests.support.chart import tool
from tests.support.cluster import Namespace, ready, zones
from tests.support.release import LOCAL, NAME, Release

pytestmark = pytest.mark.timeout(900)

ROOT_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "root"},
    "spec": {"containers": [{"name": "root", "image": "anb-video/api:0.1.0"}]},
}


def test_every_pod_is_ready_and_the_api_is_in_every_zone(namespace: Namespace) -> None:
    pods = [pod for component in ("api", "worker", "operator") for pod in namespace.pods(component)]
    assert [pod["metadata"]["name"] for pod in pods if not ready(pod)] == []
    nodes = LOCAL.items("nodes", "--selector", "!node-role.kubernetes.io/control-plane")
    everywhere = {node["metadata"]["labels"]["topology.kubernetes.io/zone"] for node in nodes}
    assert len(everywhere) == 2
    assert zones(namespace.pods("api")) == everywhere


def test_the_namespace_lets_no_other_pods_in_than_restricted_ones(namespace: Namespace, tmp_path: Path) -> None:
    manifest = tmp_path / "pod.json"
    manifest.write_text(json.dumps(ROOT_POD), encoding="utf-8")
    assert 'violates PodSecurity "restricted:latest"' in namespace.refused("create", "--filename", str(manifest))


@pytest.mark.usefixtures("release")
def test_helm_test_uploads_a_clip_and_sees_it_processed() -> None:
    said = tool("helm", "test", "anb", "--namespace", NAME, "--logs", "--timeout", "6m").stdout
    assert "It is processed." in said
    assert "Phase:          Succeeded" in said


def test_a_second_install_changes_nothing(release: Release, namespace: Namespace) -> None:
    def generations() -> dict[str, int]:
        found = namespace.items("deployments") + LOCAL.items("deployments")
        return {item["metadata"]["name"]: item["metadata"]["generation"] for item in found}

    before = generations()
    release.up()
    assert generations() == before
