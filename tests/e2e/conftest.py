"""What a failure leaves behind, and how a second try is told."""

import re
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support.cluster import Namespace

EVIDENCE = Path(__file__).parents[2] / "build" / "e2e"


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
    failed = {report.nodeid for report in terminalreporter.getreports("failed")}
    for nodeid in {report.nodeid for report in terminalreporter.getreports("rerun")} - failed:
        terminalreporter.write_line(f"FLAKY {nodeid}: it failed once and then passed", yellow=True, bold=True)
