"""A cluster that knows VideoJobs, what a failure leaves behind, and how a second try is told."""

import os
import re
from collections.abc import Generator, Iterator

import pytest

from tests.support.chart import CHART, tool
from tests.support.cluster import EVIDENCE, Namespace
from tests.support.waiting import eventually


@pytest.fixture(scope="session")
def _videojobs_known() -> Iterator[None]:
    """The cluster of KUBECONFIG, of which the control plane is enough, knows VideoJobs."""
    if "KUBECONFIG" not in os.environ:
        pytest.fail("KUBECONFIG is not set: name a cluster, or start one's control plane")
    definition = str(CHART / "files" / "videojob-crd.yaml")
    installed = tool("kubectl", "get", "crd", "videojobs.anb.video", "--ignore-not-found", "-o", "name").stdout
    if not installed:
        tool("kubectl", "create", "-f", definition)
    try:
        # `kubectl wait` fails where a definition has no conditions yet, and kubectl is told of its kind a little later.
        eventually(lambda: tool("kubectl", "get", "videojobs", check=False).returncode == 0, every=0.2)
        yield
    finally:
        if not installed:
            # Who comes next must find it gone: an install refuses one that is not its own, also while it goes.
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
