"""Installs the CRD of VideoJobs, saves logs and manifests of failed tests, and reports tests that passed on a retry."""

import os
import re
from collections.abc import Generator, Iterator

import pytest

from tests.support.chart import CHART, tool
from tests.support.cluster import EVIDENCE, Namespace
from tests.support.waiting import eventually


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and "system" in item.path.parts:
        folder = EVIDENCE / re.sub(r"\W+", "-", item.name) / report.when
        for namespace in ("anb-e2e", "anb-local", "anb-misconfigured", "keda"):
            Namespace(namespace).save_evidence(folder / namespace)
        report.sections.append(("evidence", f"logs, events and manifests of all pods: {folder}"))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    failed = {report.nodeid for how in ("failed", "error") for report in terminalreporter.getreports(how)}
    for nodeid in {report.nodeid for report in terminalreporter.getreports("rerun")} - failed:
        terminalreporter.write_line(f"FLAKY {nodeid}: it failed once and then passed", yellow=True, bold=True)
