"""Installs a release as people with two zones do, and the descheduler."""

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.support.chart import CHART, tool
from tests.support.release import ROOT, Release, installing


@pytest.fixture(scope="session")
def installed() -> Iterator[Release]:
    """The complete system with a worker in each zone. After the last test, every promise must be kept."""
    preset = yaml.safe_load((CHART / "ci" / "two-zones-values.yaml").read_text(encoding="utf-8"))
    values = (
        f"worker.autoscaling.minReplicas={preset['worker']['autoscaling']['minReplicas']}",
        f"worker.whenUnsatisfiable={preset['worker']['whenUnsatisfiable']}",
        f"service.trafficDistribution={preset['service']['trafficDistribution']}",
    )
    with installing("anb-e2e-zone", *values) as release:
        yield release


@pytest.fixture(scope="session")
def descheduler() -> Iterator[None]:
    """The descheduler, from the chart of its Go module and with the values that people use, but looking more often."""
    values = ROOT / "deploy" / "descheduler-values.yaml"
    version = yaml.safe_load(values.read_text(encoding="utf-8"))["image"]["tag"]
    module = json.loads(tool("go", "mod", "download", "-json", f"sigs.k8s.io/descheduler@{version}").stdout)["Dir"]
    ours = ("descheduler", "--namespace", "kube-system")
    often = ("--set", "deschedulingInterval=10s")
    tool(
        "helm", "upgrade", "--install", *ours, f"{module}/charts/descheduler", "--values", str(values), *often, "--wait"
    )
    yield
    tool("helm", "uninstall", *ours)
