"""How many processors a render may use."""

import os
from pathlib import Path

_QUOTAS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""Where cgroup v2 and v1 tell how much a container may compute: microseconds in each period, and the period's."""


def processors(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Those that this process may run on, but no more than its container's CPU limit comes to, rounded up."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(there, _limit(cgroup) or there)


def _limit(cgroup: Path) -> int | None:
    for names in _QUOTAS:
        if all(cgroup.joinpath(name).is_file() for name in names):
            quota, period = " ".join(cgroup.joinpath(name).read_text() for name in names).split()
            # No limit is "max", or below nothing.
            return None if quota == "max" or int(quota) < 0 else -(-int(quota) // int(period))
    return None
