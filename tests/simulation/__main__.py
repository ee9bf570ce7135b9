"""Runs many seeds (`python -m tests.simulation FIRST COUNT`), or all schedules of the search with two or three events
(`python -m tests.simulation all 2`).

Prints the story of each run that breaks a promise.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Collection, Sequence
from multiprocessing import Pool

import structlog

from tests.simulation.exhaustive import UNSEARCHED, Search, searches
from tests.simulation.simulation import ENOUGH, NAMES, Run, run, shrink, told

BATCH = 200
"""Number of seeds that a process runs before it reports."""

PARTS = 40
"""Number of parts of each exhaustive search."""

PROGRESS_SECONDS = 60.0
"""Time between two lines about the progress."""


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


def main(batches: Sequence[Search | range], required: Collection[str]) -> int:
    """Run all batches, with all processors. Return the exit status: 1 if a `required` condition never occurred."""
    began = said = time.monotonic()
    seen, sums, broken = Counter[str](), Counter[str](), 0
    with Pool(os.cpu_count()) as pool:
        for done, (some, found, more) in enumerate(pool.imap_unordered(_batch, batches), 1):
            seen += some
            sums += more
            broken += len(found)
            for one in found:
                print(told(one), end="\n\n")
            if time.monotonic() > said + PROGRESS_SECONDS:
                said = time.monotonic()
                print(f"{done} of {len(batches)} parts, {sums['runs']} runs", flush=True)
    runs, seconds = sums["runs"], time.monotonic() - began
    each = ", ".join(f"{sums[name] / runs:.1f} {name}" for name in ("calls", "switches", "faults"))
    print(f"{runs} runs in {seconds:.0f} s, {runs / seconds:.0f} a second. Each has {each}. {broken} broke a promise.")
    for name in NAMES:
        print(f"{seen[name]:9} x {name}")
    missing = set(required) - seen.keys()
    if missing:
        print(f"These conditions never occurred, so that the runs prove nothing about their rules: {sorted(missing)}")
    return int(broken > 0 or bool(missing))


if __name__ == "__main__":
    first, number = sys.argv[1], int(sys.argv[2])
    if first == "all":
        sys.exit(main([*searches(PARTS, number)], {*NAMES} - UNSEARCHED))
    sys.exit(main(seeds(int(first), number), NAMES if number >= ENOUGH else ()))
