"""Tests that a render uses at most the processors and the memory of its container, even on a larger node."""

import os
from pathlib import Path

import pytest
import yaml

from anb_worker.render.processors import has_room_beside, processors


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


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
@pytest.mark.parametrize(
    ("limit", "threads", "room"),
    [("1073741824", 2, True), ("536870912", 2, False), ("1073741824", 8, False), ("2147483648", 8, True)],
)
def test_a_second_child_runs_only_if_memory_is_enough_for_the_largest_frames(
    file: str, limit: str, threads: int, *, room: bool, tmp_path: Path
) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / file).write_text(f"{limit}\n")
    assert has_room_beside(threads, tmp_path) == room


def test_with_the_default_limits_of_the_chart_memory_is_enough_for_a_second_child(tmp_path: Path) -> None:
    values = yaml.safe_load((Path(__file__).parents[4] / "charts" / "anb-video" / "values.yaml").read_text())
    limits = values["worker"]["resources"]["limits"]
    (tmp_path / "memory.max").write_text(str(int(limits["memory"].removesuffix("Gi")) * 1024**3))
    assert has_room_beside(int(limits["cpu"]), tmp_path)


@pytest.mark.parametrize("limit", ["max", str(2**63 - 4096), None])
def test_without_a_memory_limit_there_is_room_for_a_second_child(limit: str | None, tmp_path: Path) -> None:
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
    assert has_room_beside(8, tmp_path)
