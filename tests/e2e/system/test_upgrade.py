"""Tests that no upload fails during an upgrade, and that an uninstall keeps the VideoJobs."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import randrange

import pytest

from tests.support.chart import Manifest, tool
from tests.support.cluster import EVIDENCE, Namespace
from tests.support.release import NAME, QUICK, Release
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(900)

PROBE = Path(__file__).with_name("probe.py")

KINDS = (
    *("deployments", "pods", "jobs", "services", "horizontalpodautoscalers", "poddisruptionbudgets"),
    *("scaledobjects", "triggerauthentications", "serviceaccounts", "roles", "rolebindings", "secrets", "configmaps"),
)
NOT_OF_THE_RELEASE = {
    *("ServiceAccount/default", "ConfigMap/kube-root-ca.crt"),
    *("Secret/anb-database", "Secret/anb-aws", "Secret/anb-bootstrap-token"),
}


def probe_pod(api_pod: Manifest, clip: Path) -> Manifest:
    """Return the manifest of the probe's pod, with the image and the security contexts of the API's pod."""
    (container,) = api_pod["spec"]["containers"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": api_pod["spec"]["securityContext"],
            "containers": [
                {
                    "name": "probe",
                    "image": container["image"],
                    "imagePullPolicy": container["imagePullPolicy"],
                    "securityContext": container["securityContext"],
                    "command": ["python", "-c", PROBE.read_text(encoding="utf-8")],
                    "env": [
                        {"name": "ANB_HOST", "value": "anb-api"},
                        {
                            "name": "ANB_TOKEN",
                            "valueFrom": {
                                "secretKeyRef": {"name": "anb-bootstrap-token", "key": "ANB_BOOTSTRAP_TOKEN"}
                            },
                        },
                        {"name": "ANB_CLIP", "value": b64encode(clip.read_bytes()).decode()},
                    ],
                }
            ],
        },
    }


@contextmanager
def probing(namespace: Namespace, clip: Path, manifest: Path) -> Iterator[Callable[[], list[str]]]:
    """Run the probe's pod. The yielded function returns the lines that the probe has printed so far."""
    manifest.write_text(json.dumps(probe_pod(namespace.pods("api")[0], clip)), encoding="utf-8")
    namespace.kubectl("delete", "pod", "probe", "--ignore-not-found")
    namespace.kubectl("create", "--filename", str(manifest))
    namespace.kubectl("wait", "--for=condition=Ready", "pod/probe", "--timeout=60s")
    try:
        yield lambda: namespace.kubectl("logs", "probe").splitlines()
    finally:
        EVIDENCE.mkdir(parents=True, exist_ok=True)
        (EVIDENCE / "probe.log").write_text(namespace.kubectl("logs", "probe"), encoding="utf-8")
        namespace.kubectl("delete", "pod", "probe")


def test_an_upgrade_refuses_no_upload(release: Release, namespace: Namespace, blink: Path, tmp_path: Path) -> None:
    before = {pod["metadata"]["name"] for pod in namespace.pods("api")}
    with probing(namespace, blink, tmp_path / "probe.json") as answers:
        eventually(lambda: len(answers()) > 10, within=60, every=1)
        # Use a random value, so that a retry of the test also changes the release.
        release.up(f"config.ANB_DOWNLOAD_URL_SECONDS={randrange(600, 900)}")
        eventually(
            lambda: not any(item["metadata"]["name"] in before for item in namespace.items("pods")), within=180, every=1
        )
        so_far = len(answers())
        eventually(lambda: len(answers()) > so_far + 10, within=60, every=1)
        # Stop the probe and wait for its end. The probe reports a hanging upload only after the upload's timeout.
        namespace.kubectl("exec", "probe", "--", "sh", "-c", "kill 1")
        namespace.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/probe", "--timeout=90s")
        *said, number = answers()
    assert number == f"{len(said)} uploads"
    assert len(said) > 50
    assert [line for line in said if not line.startswith("202 ")] == []


@pytest.fixture
def installed_afterwards(release: Release) -> Iterator[None]:
    """Install the release again after the test, because later tests need the release."""
    yield
    release.up()


@pytest.mark.usefixtures("installed_afterwards")
def test_an_uninstall_keeps_the_videojobs_and_a_new_install_goes_on_with_them(
    release: Release, namespace: Namespace, upload: Callable[..., str], footage: Path, blink: Path
) -> None:
    finished = upload(blink, title="Finished before", edit=QUICK)
    release.until(finished, "processed")
    namespace.kubectl("delete", "videojob", "unfinished", "--ignore-not-found")
    release.put("uploads/unfinished.mp4", footage / "bikes.mp4")
    release.submit("unfinished", "uploads/unfinished.mp4")
    release.until("unfinished", "processing")
    assert namespace.get("videojob", "unfinished")["metadata"]["finalizers"]
    tool("helm", "uninstall", "anb", "--namespace", NAME, "--wait", "--timeout", "5m")
    shown = {item["metadata"]["name"]: item for item in namespace.items("videojobs")}
    assert {finished, "unfinished"} <= set(shown)
    # With a finalizer, the deletion of a VideoJob or of its namespace would never finish.
    assert all(item["metadata"].keys().isdisjoint({"finalizers", "deletionTimestamp"}) for item in shown.values())
    # Delete the pod of `helm test`, which helm keeps so that people can read the pod's log.
    namespace.kubectl("delete", "pod", "anb-test-upload", "--ignore-not-found")

    def left() -> set[str]:
        return {f"{item['kind']}/{item['metadata']['name']}" for kind in KINDS for item in namespace.items(kind)}

    eventually(lambda: left() <= NOT_OF_THE_RELEASE, within=180, every=2)

    release.up()
    for name in (finished, "unfinished"):
        assert namespace.get("videojob", name)["metadata"]["uid"] == shown[name]["metadata"]["uid"]
    assert release.until("unfinished", "processed", within=300)["attempts"] <= 2
