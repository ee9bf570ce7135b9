"""An upgrade that nobody notices, and an uninstall that leaves what it should."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.chart import Manifest, tool
from tests.support.cluster import Namespace
from tests.support.release import NAME, QUICK, Release
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(900)

PROBE = Path(__file__).with_name("probe.py")


def probe_pod(api_pod: Manifest, clip: Path) -> Manifest:
    """A pod that uploads all the time, with the image and the guards of the API's own."""
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
    """The value gives what all answers so far were."""
    manifest.write_text(json.dumps(probe_pod(namespace.pods("api")[0], clip)), encoding="utf-8")
    namespace.kubectl("delete", "pod", "probe", "--ignore-not-found")
    namespace.kubectl("create", "--filename", str(manifest))
    try:
        yield lambda: namespace.kubectl("logs", "probe").splitlines()
    finally:
        namespace.kubectl("delete", "pod", "probe")


def test_an_upgrade_refuses_no_upload(release: Release, namespace: Namespace, blink: Path, tmp_path: Path) -> None:
    before = {pod["metadata"]["name"] for pod in namespace.pods("api")}
    with probing(namespace, blink, tmp_path / "probe.json") as answers:
        eventually(lambda: len(answers()) > 10, within=60, every=1)
        release.up("config.ANB_DOWNLOAD_URL_SECONDS=600")
        eventually(
            lambda: not any(item["metadata"]["name"] in before for item in namespace.items("pods")), within=180, every=1
        )
        so_far = len(answers())
        eventually(lambda: len(answers()) > so_far + 10, within=60, every=1)
        said = answers()
    assert len(said) > 50
    assert [line for line in said if not line.startswith("202 ")] == []


def test_an_uninstall_keeps_the_videojobs_and_a_new_install_goes_on_with_them(
    release: Release, namespace: Namespace, upload: Callable[..., str], footage: Path, blink: Path
) -> None:
    finished = upload(blink, title="Finished before", edit=QUICK)
    release.until(finished, "processed")
    unfinished = upload(footage / "bikes.mp4", title="Unfinished")
    release.until(unfinished, "processing")
    tool("helm", "uninstall", "anb", "--namespace", NAME, "--wait", "--timeout", "5m")
    shown = {item["metadata"]["name"]: item for item in namespace.items("videojobs")}
    assert {finished, unfinished} <= set(shown)
    assert all("finalizers" not in item["metadata"] for item in shown.values())
    left = "deployments,pods,scaledobjects,triggerauthentications,jobs,services,serviceaccounts,roles"
    eventually(lambda: {item["metadata"]["name"] for item in namespace.items(left)} <= {"default"}, within=180, every=1)
    uid = shown[finished]["metadata"]["uid"]

    release.up()
    assert namespace.get("videojob", finished)["metadata"]["uid"] == uid
    assert release.until(unfinished, "processed", within=300)["attempts"] <= 2
