"""Installs the system, saves logs and manifests of failed tests, and reports measurements and tests passed on a retry.

Of the folders `system`, `outages`, `upgrade` and `beside`, two run at the same time, each with a release of its own.
"""

import os
import re
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from anb_cli.client import Api
from anb_cli.connection import Connection
from anb_core.testing.promises import check_promises
from tests.support.chart import CHART, tool
from tests.support.cluster import EVIDENCE, Namespace
from tests.support.release import LOCAL, NAME, POLICY, Release, installing
from tests.support.rendering import make_clip
from tests.support.waiting import eventually

MEASURED = "measured"


class _ByFolder(LoadScopeScheduling):  # type: ignore[misc]
    """Gives all tests of a folder to one process. The marks of `--dist loadgroup` have no effect with pytest 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0].rpartition("/")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return _ByFolder(config, log)


@pytest.fixture(scope="session")
def _videojobs_known() -> Iterator[None]:
    """Install the CRD of VideoJobs on the cluster of KUBECONFIG, if the CRD is missing. The cluster needs no nodes."""
    if "KUBECONFIG" not in os.environ:
        pytest.fail("KUBECONFIG is not set: name a cluster, or start one's control plane")
    definition = str(CHART / "files" / "videojob-crd.yaml")
    installed = tool("kubectl", "get", "crd", "videojobs.anb.video", "--ignore-not-found", "-o", "name").stdout
    if not installed:
        tool("kubectl", "create", "-f", definition)
    try:
        # Try to list VideoJobs again and again, because `kubectl wait` fails on a new CRD without conditions.
        eventually(lambda: tool("kubectl", "get", "videojobs", check=False).returncode == 0, every=0.2)
        yield
    finally:
        if not installed:
            # Wait until the CRD is deleted, because helm refuses to install a release while the old CRD exists.
            tool("kubectl", "delete", "-f", definition, "--timeout=60s")


@pytest.fixture(scope="session")
def installed() -> Iterator[Release]:
    """The complete system, installed into an empty namespace. After the last test, every promise must be kept."""
    if "KUBECONFIG" not in os.environ:
        pytest.fail("KUBECONFIG is not set: name a cluster with the images loaded, as `make e2e` does")
    with installing(NAME) as release:
        yield release


@pytest.fixture
def release(installed: Release) -> Iterator[Release]:
    """The installed release. Each test gets a new port-forward to the storage, because port-forwards can break.

    After each test, the fixture checks the promises that hold at every moment, while the system still works.
    """
    with LOCAL.forwarded("localstack", 4566, to=urlsplit(installed.storage).port):
        yield installed
        check_promises(installed.evidence(), POLICY)


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
def upload(api: Api, release: Release) -> Callable[..., str]:
    """A function `upload(clip, title=..., edit=...)` that uploads the clip and returns the video's id."""

    return partial(release.upload, api)


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """A function that takes a sentence about what a test measured. The sentence is printed after the last test."""

    def run(sentence: str) -> None:
        record_property(MEASURED, sentence)

    return run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and "installed" in getattr(item, "fixturenames", ()):
        folder = EVIDENCE / re.sub(r"\W+", "-", item.name) / report.when
        for name in tool("kubectl", "get", "namespaces", "--output=name", check=False).stdout.split():
            namespace = Namespace(name.removeprefix("namespace/"))
            if namespace.name.startswith(("anb-e2e", "anb-local", "anb-misconfigured", "keda")):
                namespace.save_evidence(folder / namespace.name)
        report.sections.append(("evidence", f"logs, events and manifests of all pods: {folder}"))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        for name, sentence in report.user_properties:
            if name == MEASURED and report.when == "call":
                terminalreporter.write_line(f"{report.nodeid}: {sentence}")
    failed = {report.nodeid for how in ("failed", "error") for report in terminalreporter.getreports(how)}
    for nodeid in {report.nodeid for report in terminalreporter.getreports("rerun")} - failed:
        terminalreporter.write_line(f"FLAKY {nodeid}: it failed once and then passed", yellow=True, bold=True)
