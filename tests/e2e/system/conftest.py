"""Installs the complete system on a cluster, once for all tests, with the script deploy/local/up that people use."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from anb_cli.client import Api
from anb_cli.connection import Connection
from anb_cli.sources import opened
from tests.support.chart import tool
from tests.support.cluster import EVIDENCE, Json, Namespace, delete_namespaces
from tests.support.release import LOCAL, NAME, Release
from tests.support.rendering import make_clip
from tests.support.tether import free_port


@pytest.fixture(scope="session")
def installed() -> Iterator[Release]:
    """The complete system, installed into an empty namespace."""
    if "KUBECONFIG" not in os.environ:
        pytest.fail("KUBECONFIG is not set: name a cluster with the images loaded, as `make e2e` does")
    _refuse_if_in_use()
    shutil.rmtree(EVIDENCE, ignore_errors=True)
    installed = Release(Namespace(NAME), f"http://127.0.0.1:{free_port()}")
    tool("helm", "uninstall", "anb", "--namespace", NAME, "--ignore-not-found", "--wait")
    delete_namespaces(NAME, LOCAL.name)
    installed.up()
    yield installed
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
def release(installed: Release) -> Iterator[Release]:
    """The installed release. Each test gets a new port-forward to the storage, because port-forwards can break."""
    with LOCAL.forwarded("localstack", 4566, to=urlsplit(installed.storage).port):
        yield installed


@pytest.fixture
def namespace(release: Release) -> Namespace:
    return release.namespace


@pytest.fixture
def api(release: Release) -> Iterator[Api]:
    """A client of the API through its Service, with a token of scope `ops`."""
    with release.namespace.forwarded("anb-api", 80) as url, Api(Connection(url, release.token())) as api:
        yield api


@pytest.fixture(scope="session")
def blink(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of one second."""
    sources = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=1", "-f", "lavfi", "-i", "sine=d=1")
    return make_clip(tmp_path_factory.mktemp("clips") / "blink.mp4", *sources, "-pix_fmt", "yuv420p")


@pytest.fixture
def upload(api: Api) -> Callable[..., str]:
    """A function `upload(clip, title=..., edit=...)` that uploads the clip and returns the video's id."""

    def run(clip: Path, *, title: str = "A title", edit: Json | None = None) -> str:
        with opened(clip, lambda _: None) as source:
            receipt = api.upload(source, title=title, edit=edit, on_bytes=lambda _: None)
        return str(receipt["video_id"])

    return run
