"""Measures what a command costs."""

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

_SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class Cost:
    """The cost of a run, which includes all processes that the command starts."""

    wall: float
    """Time from start to end, in seconds."""
    cpu: float
    """CPU time of all processes, in seconds."""
    megabytes: float
    """The most memory that all processes had together, in MiB. Memory that processes share is counted once."""


def measure(command: Sequence[str]) -> Cost:
    """Run a command without its output, and return its cost.

    Raises:
        SystemExit: the command failed.
    """
    begin, peak = time.perf_counter(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    # The process is reaped only by wait4, because only wait4 returns the CPU time of all its descendants.
    while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        peak = max(peak, _memory(psutil.Process(process.pid)))
        time.sleep(_SAMPLE_SECONDS)
    wall = time.perf_counter() - begin
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command[1:4])} failed")
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak / 1024**2)


def _memory(process: psutil.Process) -> int:
    """Return the memory of a process and of its descendants, in bytes."""
    total = 0
    with suppress(psutil.Error):
        for one in [process, *process.children(recursive=True)]:
            with suppress(psutil.Error):
                total += one.memory_full_info().pss
    return total
