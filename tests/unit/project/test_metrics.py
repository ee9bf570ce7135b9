"""Tests that docs/metrics.md lists exactly the metrics that each program registers."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

import anb_api.metrics
import anb_operator.metrics
import anb_worker.metrics
from anb_core.testing.clock import ManualClock
from anb_core.testing.store import InMemoryStore

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(?P<name>anb_\w+)` \| (?P<labels>[^|]*)\|", re.MULTILINE)


def documented(section: str) -> dict[str, set[str]]:
    """Return the labels of each metric that a section of docs/metrics.md lists in its table."""
    text = PAGE.read_text(encoding="utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    return {row["name"]: set(re.findall(r"`(\w+)`", row["labels"])) for row in ROW.finditer(text)}


def shown(registry: CollectorRegistry) -> dict[str, set[str]]:
    """Return the labels of each metric that has a sample, except the metrics of the Python runtime and the process."""
    return {
        family.name + ("_total" if family.type == "counter" else ""): set(family.samples[0].labels) - {"le"}
        for family in registry.collect()
        if family.name.startswith("anb_")
    }


@pytest.mark.parametrize(
    ("section", "metrics"),
    [
        ("API", anb_api.metrics.Metrics(InMemoryStore(ManualClock().now))),
        ("Worker", anb_worker.metrics.Metrics()),
        ("Operator", anb_operator.metrics.Metrics(InMemoryStore(ManualClock().now))),
    ],
    ids=["api", "worker", "operator"],
)
def test_the_page_tells_each_metric_that_is_registered_with_its_labels(
    section: str, metrics: anb_api.metrics.Metrics | anb_worker.metrics.Metrics | anb_operator.metrics.Metrics
) -> None:
    table = documented(section)
    for part in vars(metrics).values():
        if isinstance(part, MetricWrapperBase):
            [family] = part.describe()
            labels = table.get(family.name, table.get(f"{family.name}_total", set()))
            if labels:
                # Use each metric once, because a metric with labels has no sample before its first use.
                part.labels(**dict.fromkeys(labels, "any"))
    assert shown(metrics.registry) == table
