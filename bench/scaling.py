"""Measures how both scaling policies handle a burst and a steady load, with jobs of three lengths.

`python -m bench.scaling` needs a cluster of its own in KUBECONFIG, with KEDA and the worker's image. It takes an hour,
because the autoscaler's windows and cooldowns pass in real time. KEDA, the autoscaler and the chart's ScaledObjects are
real, SQS is LocalStack, and a job is a pause instead of a render: the autoscaler sees only messages. All cases run side
by side, each with its own queue and workers.

For each case the benchmark prints a row, and for each load it draws a picture. docs/performance.md shows them, and the
chart's README says what follows.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.support.scaling_picture import Sample, draw_panels
from tests.support.scaling_site import Attempt, Site, running_site

JOBS = (10, 60, 180)
"""Lengths of a job in seconds."""

LOADS = ("burst", "steady")

BURST = 40
"""Number of videos that arrive at once."""

SHARE, STEADY_SECONDS = 0.7, 1800
"""The steady load: videos arrive one by one, for this time, at this share of what three workers can process."""

LATENCY = 600
"""The chart's default of `backlog.latencySeconds`."""

PERIOD = 10.0
"""Seconds between two samples."""

LONGEST = 4800.0
"""The run ends after this number of seconds, even if work or workers are left."""


@dataclass(frozen=True, slots=True)
class Case:
    """A policy with one load. `values` are values of the chart, without the prefix `worker.autoscaling.`."""

    policy: str
    load: str
    job_seconds: int
    values: Mapping[str, int | str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the case's objects on the cluster."""
        return f"{self.policy.replace(' ', '-')}-{self.load}-{self.job_seconds}"

    @property
    def arrivals(self) -> list[float]:
        """When each video arrives, in seconds after the start."""
        if self.load == "burst":
            return [0.0] * BURST
        pause = self.job_seconds / (SHARE * 3)
        return [number * pause for number in range(round(STEADY_SECONDS / pause))]


@dataclass(frozen=True, slots=True)
class Row:
    """The measurements of a case. Times are in seconds."""

    case: Case
    left: int
    """Number of videos that were not done when the run ended."""
    last_done: float
    """When the last video was finished."""
    wait: float
    """95th percentile of the time from a video's arrival to the beginning of its first attempt."""
    worker_minutes: float
    """Sum of the time of all workers, including those that drain, until one is left."""
    most: int
    """The highest number of workers."""
    changes: int
    """How often the number of workers changed."""
    stopped: int
    """How many workers were removed during a job and could finish it."""
    handed_on: int
    """How many workers were removed during a job that had to begin again elsewhere."""

    def __str__(self) -> str:
        removed = f"{self.stopped + self.handed_on} ({self.handed_on})"
        done = f"{self.left} left" if self.left else f"{self.last_done / 60:.1f}"
        numbers = f"{done} | {self.wait / 60:.1f} | {self.worker_minutes:.0f}"
        start = f"{self.case.load} | {self.case.job_seconds} s | {self.case.policy}"
        return f"| {start} | {numbers} | {self.most} | {self.changes} | {removed} |"


HEAD = (
    *("load", "job", "policy", "last video done, min", "95 % wait less than, min", "worker-minutes"),
    *("most workers", "changes", "busy workers removed (job lost)"),
)


def cases() -> Iterator[Case]:
    """Yield all cases."""
    for job in JOBS:
        backlog: dict[str, int | str] = {"policy": "backlog", "backlog.jobSeconds": job}
        policies: dict[str, dict[str, int | str]] = {
            "step": {},
            "step tuned": {
                "step.scaleUpAbove": LATENCY // job,
                "step.scaleUpAfterSeconds": 60,
                "step.scaleUpCooldownSeconds": 60,
            },
            # Like `step`, with 3 workers at most, which are removed as slowly.
            "backlog": {**backlog, "scaleDownCooldownSeconds": 600},
            "backlog wide": {**backlog, "maxReplicas": 10},
        }
        for policy, values in policies.items():
            yield from (Case(policy, load, job, values) for load in LOADS)


def main() -> int:
    """Run all cases side by side and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--namespace", default="anb-scaling", help="deleted before and after (default %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("build"), help="for the pictures (default %(default)s)")
    given = parser.parse_args()
    ours = list(cases())
    with running_site(given.namespace) as site:
        for case in ours:
            values = [f"worker.autoscaling.{name}={value}" for name, value in case.values.items()]
            site.add(case.name, *values, job_seconds=case.job_seconds)
        site.wait([case.name for case in ours])
        run = Run(site, ours)
        try:
            run.to_the_end()
        finally:
            given.folder.mkdir(parents=True, exist_ok=True)
            (given.folder / "scaling.json").write_text(run.raw(), encoding="utf-8")
    rows = [measured(case, run.samples[case.name], run.attempts[case.name], run.begun) for case in ours]
    print(f"| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|")
    print(*rows, sep="\n")
    for load in LOADS:
        (given.folder / f"scaling-{load}.svg").write_text(picture(load, ours, run.samples), encoding="utf-8")
    return 0


def picture(load: str, ours: Sequence[Case], samples: Mapping[str, Sequence[Sample]]) -> str:
    """Return an SVG with a chart for each case of a load. A row of charts ends when its last case is over."""
    rows: dict[str, dict[str, Sequence[Sample]]] = {}
    for case in ours:
        if case.load == load:
            rows.setdefault(f"Jobs of {case.job_seconds} s", {})[case.policy] = samples[case.name]
    for row in rows.values():
        busy = [one.at for every in row.values() for one in every if one.total or one.workers > 1]
        end = max(busy, default=0.0) + 60
        row.update({policy: [one for one in every if one.at <= end] for policy, every in row.items()})
    return draw_panels(rows)


class Run:
    """All cases from the start to the end, with their samples and attempts."""

    def __init__(self, site: Site, ours: Sequence[Case]) -> None:
        self._site = site
        self._left = {case.name: case.arrivals for case in ours}
        self._videos = {case.name: len(case.arrivals) for case in ours}
        self.samples: dict[str, list[Sample]] = {case.name: [] for case in ours}
        self.attempts: dict[str, list[Attempt]] = {case.name: [] for case in ours}
        self.begun = 0.0

    def to_the_end(self) -> None:
        """Send the videos of each case at their times, and watch until all are done and each case has one worker."""
        self.begun = time.time()
        while not self._over() and time.time() - self.begun < LONGEST:
            self._tick()
            time.sleep(PERIOD)

    def raw(self) -> str:
        """Return all samples and attempts as JSON."""
        return json.dumps(
            {
                "begun": self.begun,
                "samples": {name: [asdict(one) for one in found] for name, found in self.samples.items()},
                "attempts": {name: [asdict(one) for one in found] for name, found in self.attempts.items()},
            }
        )

    def _tick(self) -> None:
        now = time.time() - self.begun
        for name, left in self._left.items():
            while left and left[0] <= now:
                self._site.send(name, [self._videos[name] - len(left)])
                left.pop(0)
        for attempt in self._site.attempts():
            self.attempts[attempt.case].append(attempt)
        for name, sample in self._site.look([*self._left], time.time() - self.begun).items():
            self.samples[name].append(sample)

    def _over(self) -> bool:
        return all(
            samples
            and samples[-1].workers + samples[-1].draining == 1
            and len({attempt.video for attempt in self.attempts[name] if attempt.done}) == self._videos[name]
            for name, samples in self.samples.items()
        )


def measured(case: Case, samples: Sequence[Sample], attempts: Sequence[Attempt], begun: float) -> Row:
    """Return the row of a case, which began at the time `begun` in seconds since the epoch."""
    first: dict[int, Attempt] = {}
    for attempt in sorted(attempts, key=lambda attempt: attempt.began):
        first.setdefault(attempt.video, attempt)
    done = max((attempt.ended for attempt in attempts if attempt.done), default=begun) - begun
    waits = [one.began - one.sent for one in first.values()]
    until = [sample for sample in samples if sample.at <= back_at_one(samples, done)]
    return Row(
        case,
        left=len(case.arrivals) - len({attempt.video for attempt in attempts if attempt.done}),
        last_done=done,
        wait=statistics.quantiles(waits, n=20)[-1] if len(waits) > 1 else math.inf,
        worker_minutes=sum((two.at - one.at) * (one.workers + one.draining) for one, two in pairwise(until)) / 60,
        most=max(sample.workers for sample in samples),
        changes=sum(one.workers != two.workers for one, two in pairwise(samples)),
        stopped=sum(attempt.stopped and attempt.done for attempt in attempts),
        handed_on=sum(not attempt.done for attempt in attempts),
    )


def back_at_one(samples: Iterable[Sample], done: float) -> float:
    """Return when only one worker was left after the time `done`, or infinity."""
    ends = (one.at for one in samples if one.at >= done and one.workers + one.draining == 1)
    return next(ends, float("inf"))


if __name__ == "__main__":
    sys.exit(main())
