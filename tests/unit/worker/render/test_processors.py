"""A render takes as many processors as its container's CPU limit, not those of the node."""

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
def test_the_limit_of_the_container_counts_rounded_up_and_the_node_where_it_has_fewer(
    quota: str, found: int, tmp_path: Path
) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert processors(tmp_path) == found


@pytest.mark.parametrize(("quota", "found"), [("250000", 3), ("-1", 8)])
def test_so_does_the_limit_of_an_older_system(quota: str, found: int, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert processors(tmp_path) == found


def test_without_a_container_all_count(tmp_path: Path) -> None:
    assert processors(tmp_path) == 8
