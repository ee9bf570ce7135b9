"""Tests that no upload fails during an upgrade, and that an uninstall keeps the VideoJobs."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import randrange

import pytest

from tests.support.chart import tool
from tests.support.cluster import Namespace
from tests.support.probing import probing
from tests.support.release import NAME, QUICK, Release
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(900)

KINDS = (
    *("deployments", "pods", "jobs", "services", "horizontalpodautoscalers", "poddisruptionbudgets"),
    *("scaledobjects", "triggerauthentications", "serviceaccounts", "roles", "rolebindings", "secrets", "configmaps"),
)
NOT_OF_THE_RELEASE = {
    *("ServiceAccount/default", "ConfigMap/kube-root-ca.crt"),
    *("Secret/anb-database", "Secret/anb-aws", "Secret/anb-bootstrap-token", "Secret/anb-celery"),
}


def test_an_upgrade_refuses_no_upload(release: Release, namespace: Namespace, blink: Path, tmp_path: Path) -> None:
    before = {pod["metadata"]["name"] for pod in namespace.pods("api")}
    with probing(namespace, blink, tmp_path / "probe.json", seconds=0.2) as probe:
        eventually(lambda: len(probe.answers()) > 10, within=60, every=1)
        # Use a random value, so that a retry of the test also changes the release.
        release.up(f"config.ANB_DOWNLOAD_URL_SECONDS={randrange(600, 900)}")
        eventually(
            lambda: not any(item["metadata"]["name"] in before for item in namespace.items("pods")), within=180, every=1
        )
        so_far = len(probe.answers())
        eventually(lambda: len(probe.answers()) > so_far + 10, within=60, every=1)
        said = probe.stop()
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
