"""Tests of the objects that an installation creates, and of the result of `helm test`."""

import json
from pathlib import Path

import pytest

from tests.support.chart import tool
from tests.support.cluster import Json, Namespace, ready, zones
from tests.support.release import LOCAL, NAME, Release
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(900)

# Without `runAsUser`, a container runs as the user of its image. `runAsNonRoot` refuses an image whose user is root.
HARDENED = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "restartPolicy": "Never",
}
CONTAINER = {
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
}
LOOK = """
import json, os, sys
from importlib.metadata import distributions
installed = [distribution.name for distribution in distributions() if distribution.name in ("pip", "hatchling")]
print(json.dumps([os.getuid(), sys.flags.safe_path, os.path.exists("/source"), installed]))
"""

ROOT_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "root"},
    "spec": {"containers": [{"name": "root", "image": "anb-video/api:0.1.0"}]},
}


def test_every_pod_is_ready_and_the_api_is_in_every_zone(namespace: Namespace) -> None:
    nodes = LOCAL.items("nodes", "--selector", "!node-role.kubernetes.io/control-plane")
    everywhere = {node["metadata"]["labels"]["topology.kubernetes.io/zone"] for node in nodes}
    assert len(everywhere) == 2

    def all_ready_in_every_zone() -> bool:
        pods = {component: namespace.pods(component) for component in ("api", "worker", "operator")}
        all_ready = all(found and all(map(ready, found)) for found in pods.values())
        return all_ready and zones(pods["api"]) == everywhere

    # Wait, because the API's autoscaler has to start a second pod, and under load a third pod.
    eventually(all_ready_in_every_zone, within=120, every=1)


def test_the_namespace_refuses_a_pod_that_is_not_restricted(namespace: Namespace, tmp_path: Path) -> None:
    manifest = tmp_path / "pod.json"
    manifest.write_text(json.dumps(ROOT_POD), encoding="utf-8")
    assert 'violates PodSecurity "restricted:latest"' in namespace.refused("create", "--filename", str(manifest))


def test_the_images_are_no_roots_look_for_code_in_no_working_folder_and_hold_nothing_that_built_them(
    namespace: Namespace,
) -> None:
    images = {
        f"look-{component}": namespace.pods(component)[0]["spec"]["containers"][0]["image"]
        for component in ("api", "worker", "operator")
    }
    namespace.kubectl("delete", "pod", *images, "--ignore-not-found")
    for name, image in images.items():
        container = {"name": name, "image": image, "command": ["python", "-c", LOOK], **CONTAINER}
        pod = {"metadata": {"name": name}, "spec": {"containers": [container], **HARDENED}}
        namespace.apply({"apiVersion": "v1", "kind": "Pod", **pod})
    for name in images:
        namespace.kubectl("wait", "pod", name, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s")
        assert json.loads(namespace.kubectl("logs", name)) == [10001, True, False, []]
    namespace.kubectl("delete", "pod", *images)


@pytest.mark.usefixtures("release")
def test_helm_test_uploads_a_clip_and_sees_it_processed() -> None:
    said = tool("helm", "test", "anb", "--namespace", NAME, "--logs", "--timeout", "6m").stdout
    assert "It is processed." in said
    assert "Phase:          Succeeded" in said


def test_a_second_install_changes_nothing(release: Release, namespace: Namespace) -> None:
    def specs() -> dict[str, Json]:
        found = namespace.items("deployments") + LOCAL.items("deployments")
        # Ignore the number of pods, which an autoscaler may change during the test.
        return {item["metadata"]["name"]: item["spec"] | {"replicas": None} for item in found}

    before = specs()
    release.up()
    assert specs() == before
