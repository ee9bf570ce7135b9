"""Finds out how many processors a render may use."""

import os
from pathlib import Path

_QUOTAS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""The cgroup files (v2, then v1) with a container's CPU limit.
The files contain two numbers, in microseconds: the CPU time that the container may use per period, and the period.
"""


def processors(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the number of processors that this process may use. The container's CPU limit is rounded up."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, _limit(cgroup) or available)


def _limit(cgroup: Path) -> int | None:
    """Return the container's CPU limit as a number of processors, rounded up. None if the container has no limit."""
    for names in _QUOTAS:
        if all(cgroup.joinpath(name).is_file() for name in names):
            quota, period = " ".join(cgroup.joinpath(name).read_text() for name in names).split()
            # "max" (v2) or a negative quota (v1) means no limit.
            return None if quota == "max" or int(quota) < 0 else -(-int(quota) // int(period))
    return None
