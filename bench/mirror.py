"""Measures the lag of `kubectl get videojobs` behind the database, and the operator's load with 10,000 VideoJobs.

`python -m bench.mirror` takes about 15 minutes.
The benchmark starts PostgreSQL and a Kubernetes API server, and runs the real operator against both servers.
KUBEBUILDER_ASSETS must name the folder with etcd, kube-apiserver and kubectl.
The command `setup-envtest use -p env` prints KUBEBUILDER_ASSETS.

The workers are simulated. A simulated worker changes a video in the store once a second, and renders nothing.
The lag of a change is the time from the store call until `kubectl get videojobs --watch` prints the change.
For comparison, the operator is stopped, and the benchmark itself patches the status of VideoJobs.
The lag of these bare patches is the baseline.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, count, repeat
from statistics import quantiles
from time import monotonic, sleep, strftime
from uuid import uuid4

import httpx
import psutil

from anb_core.adapters.system import new_id
from anb_core.domain.edit import EditSpec
from anb_core.domain.model import NewVideo, Result, Source
from anb_core.domain.retry import RetryPolicy
from anb_core.ports.store import Claimed, Store
from anb_operator.videojob import GROUP, PLURAL, VERSION
from bench.mirror_site import CLAIMED, DONE, NAMESPACE, PATIENCE, WORKERS, Change, Site, Watch, opened, worker_names
from tests.support import eventually

RATES = (10, 50, WORKERS)
"""The measured rates, in changes per second. docs/operator.md promises a lag for the last rate."""

THREADS = 5
"""Number of threads that simulate workers. Each thread has one database connection and the same rate."""

STEP = 6
"""Difference between two progress reports of a video, in percent. With a step of 6 %, a video has 19 changes."""

IDLE_PERCENT = 10.0
"""Maximum CPU use of an idle operator, in percent of one processor. An idle operator only polls the feed."""

USERS = ("operator", "kube-apiserver", "etcd", "bench", "everything")
"""Programs whose CPU use is a column of the table. `everything` means all programs of the machine."""

WIDTH = max(len(user) for user in USERS)
HEADER = " ".join(
    (f"{'':24} {'median':>7} {'p99':>7} {'max':>7} {'lines/s':>7}", *(f"{user:>{WIDTH}}" for user in USERS))
)

TOLERANCE = 1.05
"""If the changes take longer than this multiple of the planned time, the benchmark warns about a slow machine."""

Steps = Iterator[tuple[str, int]]
"""An iterator that changes a video at each step, and yields the video's id and stage (see `CLAIMED` and `DONE`)."""


@dataclass(frozen=True)
class Measured:
    """Measurements of one run.

    `lags` are in seconds. `lines` is the number of lines that kubectl printed per second.
    `shares` maps each program in `USERS` to its CPU use. The value 1.0 means one busy processor.
    """

    lags: Sequence[float]
    lines: float
    shares: Mapping[str, float]

    def percentile(self, number: int) -> float:
        """The given percentile of the lags, in seconds."""
        return quantiles(self.lags, n=100, method="inclusive")[number - 1]

    def row(self, name: str) -> str:
        """The measurements as one line of the table. `HEADER` is the head of the table."""
        lags = f"{self.percentile(50):7.2f} {self.percentile(99):7.2f} {max(self.lags):7.2f}"
        shares = (f"{self.shares[user]:{WIDTH}.2f}" if user in self.shares else " " * WIDTH for user in USERS)
        return " ".join((f"{name:24} {lags} {self.lines:7.1f}", *shares))


def main() -> None:
    """Run all measurements, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.mirror", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long each rate is measured")
    parser.add_argument("--standing", type=int, default=10_000, help="how many finished VideoJobs the cluster holds")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    _say("PostgreSQL, moto, etcd and kube-apiserver start")
    with opened() as site, site.watch() as watch:
        print(f"{os.cpu_count()} processors, a load of {load:.1f} before; seconds of lag, processors used")
        print(HEADER, flush=True)
        with site.operator() as operator:
            *_, followed = [follow(site, watch, operator, rate=rate, seconds=given.seconds) for rate in RATES]
        with site.client() as client:
            rate = RATES[-1]
            _say(f"{rate} bare patches a second for {given.seconds} s")
            patches = [bare_patches(client, video_id) for video_id in watch.videos()[:rate]]
            floor = measure(f"{rate}/s, bare patches", watch, patches, rate=rate, seconds=given.seconds)
        lag = followed.percentile(99) / floor.percentile(99)
        server, servers_floor = (run.shares["kube-apiserver"] / run.lines for run in (followed, floor))
        print(f"ratio to bare patches: lag (p99) {lag:.1f}, kube-apiserver for a line {server / servers_floor:.1f}")
        beside(site, watch, given.standing, given.seconds)


def beside(site: Site, watch: Watch, number: int, seconds: int) -> None:
    """Create `number` finished VideoJobs, then measure the start of an operator and the lag at all rates."""
    _say(f"{number} videos are processed while no operator runs")
    processed = drive([lives(site.store, f"standing-{n}", step=100) for n in range(THREADS)], 3 * number)
    _say("an operator catches up")
    begin = monotonic()
    with site.operator():
        watch.wait_for(processed)
        print(f"{number} processed videos mirrored in {monotonic() - begin:.0f} s", flush=True)
    changed = drive([lives(site.store, "meanwhile")], 1)
    _say("an operator starts beside them")
    begin = monotonic()
    with site.operator() as operator:
        ready = monotonic() - begin
        watch.wait_for(changed)
        shown = monotonic() - begin
        eventually(lambda: operator.cpu_percent(2.0) < IDLE_PERCENT, within=PATIENCE)
        idle = monotonic() - begin
        print(f"started beside: ready after {ready:.1f} s, a change shown after {shown:.1f} s, idle after {idle:.0f} s")
        for rate in RATES:
            follow(site, watch, operator, rate=rate, seconds=seconds, where=f", beside {number}")
        print(f"memory of the operator beside them: {operator.memory_info().rss / 2**20:.0f} MB")


def follow(site: Site, watch: Watch, operator: psutil.Process, *, rate: int, seconds: int, where: str = "") -> Measured:
    """Measure the lag at a rate of `rate` changes per second."""
    _say(f"{rate} changes a second for {seconds} s{where}")
    # The workers start at different percentages, so that the progress of their videos differs, as in production.
    workers = [lives(site.store, worker, begin=STEP * (1 + n % 16)) for n, worker in enumerate(worker_names(rate))]
    watch.wait_for(drive(workers, 2 * rate, rate))
    return measure(f"{rate}/s{where}", watch, workers, rate=rate, seconds=seconds, operator=operator)


def measure(
    name: str,
    watch: Watch,
    players: Sequence[Steps],
    *,
    rate: int,
    seconds: int,
    operator: psutil.Process | None = None,
) -> Measured:
    """Make changes, wait until kubectl has printed all changes, and print a table line with the measurements."""
    begin, before = monotonic(), processor_seconds(operator)
    changes = drive(players, rate * seconds, rate)
    driven = monotonic() - begin
    watch.wait_for(changes)
    took, after = monotonic() - begin, processor_seconds(operator)
    measured = Measured(
        lags=[lag for change in changes if (lag := watch.lag(change)) is not None],
        lines=watch.lines(since=begin) / took,
        shares={user: (after[user] - before[user]) / took for user in after},
    )
    print(measured.row(name), flush=True)
    if driven > seconds * TOLERANCE:
        print(f"    the machine is too slow: that took {driven:.1f} s instead of {seconds} s", flush=True)
    return measured


def drive(players: Sequence[Steps], changes: int, rate: float = math.inf) -> list[Change]:
    """Make `changes` changes, at most `rate` per second, and return the changes. The simulated workers take turns."""
    threads = min(THREADS, len(players))
    begin = monotonic()

    def play(thread: int) -> list[Change]:
        own, made = players[thread::threads], []
        for turn, number in enumerate(range(thread, changes, threads)):
            sleep(max(0.0, begin + number / rate - monotonic()))
            asked = monotonic()
            video_id, place = next(own[turn % len(own)])
            made.append(Change(video_id, place, asked))
        return made

    with ThreadPoolExecutor(threads) as pool:
        return [change for made in pool.map(play, range(threads)) for change in made]


def lives(store: Store, worker: str, *, step: int = STEP, begin: int | None = None) -> Steps:
    """Process videos as a simulated worker, one after another, from the submission to the result.

    Progress is reported every `step` percent. The first video starts at `begin` percent.
    """
    for first in chain([begin or step], repeat(step)):
        video_id = f"{worker}-{uuid4().hex[:12]}"
        new = NewVideo(
            id=video_id,
            task_id=str(uuid4()),
            owner="bench",
            title="A walk in the park",
            edit=EditSpec(),
            source_key=f"uploads/{video_id}.mp4",
            owned=True,
            file_name="park.mp4",
        )
        store.submit_existing(new, Source(size=1_000_000))
        yield video_id, 0
        claimed = store.claim(
            video_id, generation=1, attempt_id=new_id(), worker=worker, lease=timedelta(minutes=1), policy=RetryPolicy()
        )
        if not isinstance(claimed, Claimed):
            raise TypeError(f"{video_id} can't be claimed: {claimed}")
        yield video_id, CLAIMED
        for percent in range(first, 100, step):
            # Add half a percent, because kubectl shows the stored fraction as a percentage that is rounded down.
            store.report_progress(claimed.lease, (percent + 0.5) / 100)
            yield video_id, CLAIMED + percent
        key, digest = claimed.lease.result_key, "0" * 64
        store.publish(claimed.lease, Result(key, 1_000_000, digest, width=1280, height=720, duration=40.0, frames=1200))
        yield video_id, DONE


def bare_patches(client: httpx.Client, video_id: str) -> Steps:
    """Patch the status of one VideoJob without the operator. Each patch adds one percent of progress."""
    path = f"/apis/{GROUP}/{VERSION}/namespaces/{NAMESPACE}/{PLURAL}/{video_id}/status"
    headers = {"Content-Type": "application/merge-patch+json"}
    for percent in count():
        patch = {"status": {"phase": "processing", "progress": f"{percent}%"}}
        client.patch(path, content=json.dumps(patch), headers=headers).raise_for_status()
        yield video_id, CLAIMED + percent


def processor_seconds(operator: psutil.Process | None) -> dict[str, float]:
    """Return the CPU seconds that each running program of `USERS` has used since its start."""
    below = {process.name(): process for process in psutil.Process().children(recursive=True)}
    programs = {name: below[name] for name in USERS if name in below} | {"bench": psutil.Process()}
    if operator is not None:
        programs["operator"] = operator
    used = {name: process.cpu_times() for name, process in programs.items()}
    everything = psutil.cpu_times()
    # "Steal" time, which the hypervisor gave to other virtual machines, counts as busy.
    busy = everything.user + everything.nice + everything.system + getattr(everything, "steal", 0.0)
    return {name: times.user + times.system for name, times in used.items()} | {"everything": busy}


def _say(message: str) -> None:
    sys.stderr.write(f"{strftime('%H:%M:%S')} {message}\n")


if __name__ == "__main__":
    main()
