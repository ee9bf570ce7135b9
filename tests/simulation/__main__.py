"""Runs many seeds (`python -m tests.simulation FIRST COUNT`), or all schedules with two events (without arguments).

Prints the story of each run that breaks a promise.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from multiprocessing import Pool

import structlog

from tests.simulation.exhaustive import Search, searches
from tests.simulation.simulation import NAMES, Run, run, shrink, told

BATCH = 200
"""Number of seeds that a process runs before it reports."""

PARTS = 40
"""Number of parts of each exhaustive search."""


def _batch(batch: Search | range) -> tuple[Counter[str], list[Run], Counter[str]]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    seen, broken, sums = Counter[str](), list[Run](), Counter[str]()
    for done in batch.runs() if isinstance(batch, Search) else map(run, batch):
        seen += done.seen
        sums += Counter(runs=1, calls=len(done.calls), switches=done.switches, faults=len(done.schedule))
        if done.violations:
            broken.append(shrink(done))
    return seen, broken, sums


def seeds(first: int, count: int) -> list[range]:
    """Divide `count` seeds from `first` on into batches."""
    last = first + count
    return [range(start, min(start + BATCH, last)) for start in range(first, last, BATCH)]


def main(batches: Iterable[Search | range]) -> int:
    """Run all batches, with all processors. Return the exit status."""
    began = time.monotonic()
    seen, sums, broken = Counter[str](), Counter[str](), 0
    with Pool(os.cpu_count()) as pool:
        for some, found, more in pool.imap_unordered(_batch, batches):
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
    sys.exit(main(seeds(*map(int, sys.argv[1:])) if sys.argv[1:] else searches(PARTS)))
