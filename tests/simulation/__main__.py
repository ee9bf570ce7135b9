"""Runs many seeds: `python -m tests.simulation FIRST COUNT`. Prints the story of each seed that breaks a promise."""

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import structlog

from tests.simulation.properties import NAMES
from tests.simulation.simulation import Run, run, shrink, told

BATCH = 200
"""Number of seeds that a process runs before it reports."""


def _batch(folder: str, seeds: Iterable[int]) -> tuple[Counter[str], list[Run], Counter[str]]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    own = Path(tempfile.mkdtemp(dir=folder))
    seen, broken, sums = Counter[str](), list[Run](), Counter[str]()
    for seed in seeds:
        done = run(seed, own)
        seen += done.seen
        sums += Counter(runs=1, calls=len(done.calls), switches=done.switches, faults=len(done.schedule))
        if done.violations:
            broken.append(shrink(done, own))
    return seen, broken, sums


def main(first: int, count: int) -> int:
    """Run `count` seeds from `first` on, with all processors. Return the exit status."""
    began, last = time.monotonic(), first + count
    batches = [range(start, min(start + BATCH, last)) for start in range(first, last, BATCH)]
    seen, sums, broken = Counter[str](), Counter[str](), 0
    with tempfile.TemporaryDirectory() as folder, Pool(os.cpu_count()) as pool:
        for some, found, more in pool.imap_unordered(partial(_batch, folder), batches):
            seen += some
            sums += more
            broken += len(found)
            for one in found:
                print(told(one), end="\n\n")
    runs, seconds = sums["runs"], time.monotonic() - began
    each = ", ".join(f"{sums[name] / runs:.1f} {name}" for name in ("calls", "switches", "faults"))
    print(f"{runs} runs in {seconds:.0f} s, {runs / seconds:.0f} a second. Each has {each}. {broken} broke a promise.")
    for name in NAMES:
        print(f"{seen[name]:9} x {name}")
    return int(broken > 0 or bool(set(NAMES) - seen.keys()))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
