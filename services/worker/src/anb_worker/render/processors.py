"""Finds out how many processors a render may use, and whether its memory is enough for a second child."""

import os
from pathlib import Path

_QUOTAS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""The cgroup files (v2, then v1) with a container's CPU limit.
The files contain two numbers, in microseconds: the CPU time that the container may use per period, and the period.
"""

_MEMORY = ("memory.max", "memory/memory.limit_in_bytes")
"""The cgroup file (v2, or v1) with a container's memory limit in bytes. "max" or a huge number means no limit."""
_PICTURE_MIB, _THREAD_MIB = 452, 86
"""Memory for the picture of the largest accepted frames: 595 MiB were measured with 2 threads, 1106 MiB with 8.
The encoder's lookahead was 10 frames then, and is 20 frames now, which take 27 MiB more."""
BESIDE_MIB = 150
"""Memory for the child that makes the sound or the title. 105 MiB were measured for the title."""
_WORKER_MIB = 150
"""Memory for the worker itself."""


def processors(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the number of processors that this process may use. The container's CPU limit is rounded up."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, _limit(cgroup) or available)


def has_room_beside(threads: int, cgroup: Path = Path("/sys/fs/cgroup")) -> bool:
    """Return whether the container's memory is enough for a second child beside one that uses `threads` threads."""
    needed = _PICTURE_MIB + threads * _THREAD_MIB + BESIDE_MIB + _WORKER_MIB
    limits = [(cgroup / name).read_text().strip() for name in _MEMORY if (cgroup / name).is_file()]
    return all(limit == "max" or int(limit) >= needed * 1024**2 for limit in limits)


def _limit(cgroup: Path) -> int | None:
    """Return the container's CPU limit as a number of processors, rounded up. None if the container has no limit."""
    for names in _QUOTAS:
        if all(cgroup.joinpath(name).is_file() for name in names):
            quota, period = " ".join(cgroup.joinpath(name).read_text() for name in names).split()
            # "max" (v2) or a negative quota (v1) means no limit.
            return None if quota == "max" or int(quota) < 0 else -(-int(quota) // int(period))
    return None
