"""Tests that a render uses at most as many processors as the container's CPU limit allows, even on a larger node."""

import os
from pathlib import Path

import pytest

from anb_worker.render.processors import processors


@pytest.fixture(autouse=True)
def _eight_on_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("quota", "found"),
    [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8), ("max 100000", 8)],
)
def test_the_limit_is_rounded_up_and_is_at_most_the_nodes_processors(quota: str, found: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert processors(tmp_path) == found


@pytest.mark.parametrize(("quota", "found"), [("250000", 3), ("-1", 8)])
def test_the_limit_is_also_read_from_cgroups_version_1(quota: str, found: int, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert processors(tmp_path) == found


def test_without_a_limit_all_processors_count(tmp_path: Path) -> None:
    assert processors(tmp_path) == 8
