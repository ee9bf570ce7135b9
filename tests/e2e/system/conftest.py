"""Installs the complete system on a cluster, once for all tests, with the script deploy/local/up that people use."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from anb_cli.client import Api
from anb_cli.connection import Connection
from anb_cli.sources import opened
from anb_core.domain.retry import RetryPolicy
from anb_core.testing.promises import Evidence, check_promises, violations
from tests.support.chart import tool
from tests.support.cluster import EVIDENCE, Json, Namespace, delete_namespaces
from tests.support.release import LOCAL, NAME, Release
from tests.support.rendering import make_clip
from tests.support.tether import free_port
from tests.support.waiting import eventually

POLICY = RetryPolicy()


@pytest.fixture(scope="session")
def receipts() -> set[str]:
    """The ids of all videos for which a client got the status 202."""
    return set()


@pytest.fixture(scope="session")
def installed(receipts: set[str]) -> Iterator[Release]:
    """The complete system, installed into an empty namespace. After the last test, every promise must be kept."""
    if "KUBECONFIG" not in os.environ:
        pytest.fail("KUBECONFIG is not set: name a cluster with the images loaded, as `make e2e` does")
    _refuse_if_in_use()
    shutil.rmtree(EVIDENCE, ignore_errors=True)
    installed = Release(Namespace(NAME), f"http://127.0.0.1:{free_port()}")
    tool("helm", "uninstall", "anb", "--namespace", NAME, "--ignore-not-found", "--wait")
    delete_namespaces(NAME, LOCAL.name)
    installed.up()
    try:
        yield installed
        _check_at_rest(installed, receipts)
    finally:
        _uninstall()


def _check_at_rest(installed: Release, receipts: set[str]) -> None:
    """Wait until the work is done, then check the promises on the rows, the bucket, the queues and the VideoJobs."""

    def look() -> Evidence:
        return installed.evidence(receipts, at_rest=True)

    with LOCAL.forwarded("localstack", 4566, to=urlsplit(installed.storage).port):
        with suppress(AssertionError):
            eventually(lambda: not violations(look(), POLICY, at_rest=True), within=180, every=5)
        check_promises(look(), POLICY, at_rest=True)


def _uninstall() -> None:
    tool("helm", "uninstall", "anb", "--namespace", NAME, "--ignore-not-found", "--wait")
    delete_namespaces(NAME, LOCAL.name)
    tool("kubectl", "delete", "crd", "videojobs.anb.video", "--ignore-not-found")


def _refuse_if_in_use() -> None:
    """Fail if another release uses the cluster's CRD of VideoJobs, because the system tests delete the CRD."""
    crd = tool("kubectl", "get", "crd", "videojobs.anb.video", "--ignore-not-found", "--output=json").stdout
    if not crd:
        return
    metadata = json.loads(crd)["metadata"]
    owner = metadata.get("annotations", {}).get("meta.helm.sh/release-namespace")
    if owner != NAME and "deletionTimestamp" not in metadata:
        release = f"the namespace {owner} has a release" if owner else "it has the CRD of VideoJobs, by no release"
        pytest.fail(f"this cluster is in use: {release}. These tests want one of their own")


@pytest.fixture
def release(installed: Release, receipts: set[str]) -> Iterator[Release]:
    """The installed release. Each test gets a new port-forward to the storage, because port-forwards can break.

    After each test, the fixture checks the promises that hold at every moment, while the system still works.
    """
    with LOCAL.forwarded("localstack", 4566, to=urlsplit(installed.storage).port):
        yield installed
        check_promises(installed.evidence(receipts), POLICY)


@pytest.fixture
def namespace(release: Release) -> Namespace:
    return release.namespace


@pytest.fixture
def connection(release: Release) -> Iterator[Connection]:
    """The address of the API through its Service, and a token of scope `ops`."""
    with release.namespace.forwarded("anb-api", 80) as url:
        yield Connection(url, release.token())


@pytest.fixture
def api(connection: Connection) -> Iterator[Api]:
    """A client of the API, with a token of scope `ops`."""
    with Api(connection) as api:
        yield api


@pytest.fixture(scope="session")
def blink(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of one second."""
    sources = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=1", "-f", "lavfi", "-i", "sine=d=1")
    return make_clip(tmp_path_factory.mktemp("clips") / "blink.mp4", *sources, "-pix_fmt", "yuv420p")


@pytest.fixture
def upload(api: Api, receipts: set[str]) -> Callable[..., str]:
    """A function `upload(clip, title=..., edit=...)` that uploads the clip and returns the video's id."""

    def run(clip: Path, *, title: str = "A title", edit: Json | None = None) -> str:
        with opened(clip, lambda _: None) as source:
            receipt = api.upload(source, title=title, edit=edit, on_bytes=lambda _: None)
        video_id = str(receipt["video_id"])
        receipts.add(video_id)
        return video_id

    return run
