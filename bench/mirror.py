"""How far `kubectl get videojobs` is behind the database, and what ten thousand VideoJobs cost the operator.

`python -m bench.mirror` runs the real operator against a PostgreSQL and a Kubernetes API server that it starts for
itself, for some 15 minutes. KUBEBUILDER_ASSETS names the folder with etcd, kube-apiserver and kubectl, as
`setup-envtest use -p env` prints it.

Workers are played: each changes its video once a second, through the store, and renders nothing. The lag of a change
begins before the store is asked for it, and ends when `kubectl get videojobs --watch` prints it or a later one of its
video. The floor is as many bare merge patches to the same API server: no database, no feed, no plan.
"""

import argparse
import json
import math
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, count, repeat
from pathlib import Path
from statistics import quantiles
from threading import Thread
from typing import NamedTuple
from uuid import uuid4

import httpx
import psutil

from anb_core.adapters.database import SqlStore, upgrade
from anb_core.adapters.system import new_id
from anb_core.domain.edit import EditSpec
from anb_core.domain.model import NewVideo, Result, Source
from anb_core.domain.retry import RetryPolicy
from anb_core.ports.store import Claimed, Store
from anb_operator.crd import text
from anb_operator.videojob import GROUP, PLURAL, VERSION
from tests.support import eventually
from tests.support.apiserver import ApiServer, running_apiserver
from tests.support.aws import running_moto
from tests.support.postgres import running_postgres
from tests.support.tether import free_port

RATES = (10, 50, 100)
"""Changes a second, the last one is what the promise is about. So many workers make them, each one a second."""

THREADS = 5
"""Play the workers, each on one of the connections that a store keeps; the rates are multiples of it."""

STEP = 6
"""Percent between two reports of progress: 19 changes from a video's submission to its result."""

CLAIMED, DONE = 1, 102
"""How far a video is: 0 while it waits for a worker, then `CLAIMED` and its percents, then `DONE`."""

PATIENCE = 900.0
"""Seconds for what a working operator does sooner or later."""

IDLE_PERCENT = 10.0
"""Of a processor: an operator that takes less only asks the feed."""

NAMESPACE = "anb"
WORKER = "app=worker"
SHOWN = r"jsonpath={.metadata.name} {.status.phase} {.status.progress}{'\n'}"

USERS = ("operator", "kube-apiserver", "etcd", "bench", "everything")
"""Of the processors, as columns of the table; the last is all that runs on the machine, so at most its processors."""

WIDTH = max(len(user) for user in USERS)
HEADER = " ".join(
    (f"{'':24} {'median':>7} {'p99':>7} {'max':>7} {'lines/s':>7}", *(f"{user:>{WIDTH}}" for user in USERS))
)

TOLERANCE = 1.05
"""So much longer the changes may take before it is said that the machine was too slow to make them."""

Steps = Iterator[tuple[str, int]]
"""Changes a video with each step; the values are its id and how far it is then."""


class Change(NamedTuple):
    """How far a video was brought, and when that was asked for, in seconds of the monotonic clock."""

    video_id: str
    place: int
    asked: float


@dataclass(frozen=True)
class Measured:
    """What a run showed: seconds of lag, how many lines a second told of all changes, and processors by their user."""

    lags: Sequence[float]
    lines: float
    shares: Mapping[str, float]

    def percentile(self, number: int) -> float:
        """Seconds of lag that so many percent of the changes did not exceed."""
        return quantiles(self.lags, n=100, method="inclusive")[number - 1]

    def row(self, name: str) -> str:
        """As a line of the table under `HEADER`."""
        lags = f"{self.percentile(50):7.2f} {self.percentile(99):7.2f} {max(self.lags):7.2f}"
        shares = (f"{self.shares[user]:{WIDTH}.2f}" if user in self.shares else " " * WIDTH for user in USERS)
        return " ".join((f"{name:24} {lags} {self.lines:7.1f}", *shares))


class Watch:
    """What `kubectl get videojobs --watch` has printed so far, and when."""

    def __init__(self) -> None:
        self._printed: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
        self._ended = False

    def read(self, lines: Iterable[str]) -> None:
        """Take in lines until they end."""
        for line in lines:
            video_id, phase, progress = line.rstrip("\n").split(" ")
            if phase:
                self._printed[video_id].append((time.monotonic(), _place(phase, progress)))
        self._ended = True

    def videos(self) -> list[str]:
        """All that were printed, by their ids."""
        return list(self._printed)

    def lines(self, since: float) -> int:
        """How many were printed since then."""
        return sum(at >= since for printed in self._printed.values() for at, _ in printed)

    def lag(self, change: Change) -> float | None:
        """Seconds from a change to the first line that tells of it; None while there is none."""
        for at, place in self._printed.get(change.video_id, ()):
            if at >= change.asked and place >= change.place:
                return at - change.asked
        return None

    def wait_for(self, changes: Iterable[Change]) -> None:
        """Until all are told.

        Raises:
            AssertionError: one is not.
        """
        awaited = {change.video_id: change for change in changes}

        def told() -> bool:
            for change in [change for change in awaited.values() if self.lag(change) is not None]:
                del awaited[change.video_id]
            if awaited and self._ended:
                raise AssertionError("kubectl get --watch has ended before it showed everything")
            return not awaited

        eventually(told, within=PATIENCE, every=0.1)


class Site:
    """A database, an API server with a namespace, and whatever operators are started on them."""

    def __init__(self, apiserver: ApiServer, database: str, moto: str, folder: Path) -> None:
        self.store: Store = SqlStore(database)
        self._apiserver = apiserver
        self._kubeconfig = apiserver.service_account(NAMESPACE, "operator")
        self._log = folder / "operator.log"
        self._environment = {
            "KUBECONFIG": str(self._kubeconfig),
            "DATABASE_URL": database,
            "S3_BUCKET": "bucket",
            "SQS_QUEUE_URL": f"{moto}/123456789012/queue",
            "AWS_ENDPOINT_URL": moto,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "ANB_CREATE_RESOURCES": "true",
            "ANB_OPERATOR_NAMESPACE": NAMESPACE,
            "ANB_OPERATOR_WORKER_SELECTOR": WORKER,
        }

    @contextmanager
    def operator(self) -> Iterator[psutil.Process]:
        """A process of it, ready. What it said is shown if the block fails."""
        environment = self._environment | {"ANB_OPERATOR_LISTEN": f"127.0.0.1:{free_port()}"}
        with self._log.open("wb") as log:
            process = subprocess.Popen([sys.executable, "-m", "anb_operator"], stdout=log, stderr=log, env=environment)

        def ready() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"the operator ended with {process.returncode}")
            try:
                url = f"http://{environment['ANB_OPERATOR_LISTEN']}/readyz"
                return httpx.get(url, trust_env=False, timeout=10).is_success
            except httpx.TransportError:
                return False

        try:
            eventually(ready, within=PATIENCE)
            yield psutil.Process(process.pid)
        except AssertionError:
            sys.stderr.write(self._log.read_text(encoding="utf-8"))
            raise
        finally:
            process.terminate()
            process.wait(30)

    @contextmanager
    def watch(self) -> Iterator[Watch]:
        """It shows what is there, and then every change."""
        command = (*self._apiserver.command, "--namespace", NAMESPACE, "get", "videojobs", "--watch", "--output", SHOWN)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as kubectl:
            watch = Watch()
            reader = Thread(target=watch.read, args=(kubectl.stdout,))
            reader.start()
            try:
                yield watch
            finally:
                kubectl.terminate()
                reader.join()

    @contextmanager
    def client(self) -> Iterator[httpx.Client]:
        """The API server over HTTP, for whom the operator is."""
        config = json.loads(self._kubeconfig.read_text(encoding="utf-8"))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        trusted = ssl.create_default_context(cafile=cluster["certificate-authority"])
        headers = {"Authorization": f"Bearer {user['token']}"}
        with httpx.Client(base_url=cluster["server"], verify=trusted, headers=headers, trust_env=False) as client:
            yield client


@contextmanager
def opened() -> Iterator[Site]:
    """All servers, which end with the block."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(running_postgres()).create_database()
        upgrade(database)
        moto = stack.enter_context(running_moto())
        apiserver = stack.enter_context(running_apiserver())
        manifests = folder / "manifests.yaml"
        manifests.write_text(text(), encoding="utf-8")
        apiserver.kubectl("create", "--filename", str(manifests))
        apiserver.kubectl("wait", "--for=condition=Established", f"crd/{PLURAL}.{GROUP}", "--timeout=30s")
        apiserver.kubectl("create", "namespace", NAMESPACE)
        manifests.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": _pods()}), encoding="utf-8")
        apiserver.kubectl("--namespace", NAMESPACE, "create", "--filename", str(manifests))
        site = Site(apiserver, database, moto, folder)
        stack.callback(site.store.close)
        yield site


def main() -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.mirror", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long each rate is kept up")
    parser.add_argument("--standing", type=int, default=10_000, help="finished VideoJobs beside which it is measured")
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
    """The same beside so many finished VideoJobs, and how an operator starts there."""
    _say(f"{number} videos are processed while no operator runs")
    processed = drive([lives(site.store, f"standing-{n}", step=100) for n in range(THREADS)], 3 * number)
    _say("an operator catches up")
    begin = time.monotonic()
    with site.operator():
        watch.wait_for(processed)
        print(f"{number} processed videos mirrored in {time.monotonic() - begin:.0f} s", flush=True)
    changed = drive([lives(site.store, "meanwhile")], 1)
    _say("an operator starts beside them")
    begin = time.monotonic()
    with site.operator() as operator:
        ready = time.monotonic() - begin
        watch.wait_for(changed)
        shown = time.monotonic() - begin
        eventually(lambda: operator.cpu_percent(2.0) < IDLE_PERCENT, within=PATIENCE)
        idle = time.monotonic() - begin
        print(f"started beside: ready after {ready:.1f} s, a change shown after {shown:.1f} s, idle after {idle:.0f} s")
        for rate in RATES:
            follow(site, watch, operator, rate=rate, seconds=seconds, where=f", beside {number}")
        print(f"memory of the operator beside them: {operator.memory_info().rss / 2**20:.0f} MB")


def follow(site: Site, watch: Watch, operator: psutil.Process, *, rate: int, seconds: int, where: str = "") -> Measured:
    """How the operator follows so many changes a second."""
    _say(f"{rate} changes a second for {seconds} s{where}")
    # As in life, each is at another point of its video.
    workers = [lives(site.store, worker, begin=STEP * (1 + n % 16)) for n, worker in enumerate(_workers(rate))]
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
    """Make changes, wait until all are shown, and print a line of the table."""
    begin, before = time.monotonic(), _processor_seconds(operator)
    changes = drive(players, rate * seconds, rate)
    driven = time.monotonic() - begin
    watch.wait_for(changes)
    took, after = time.monotonic() - begin, _processor_seconds(operator)
    measured = Measured(
        lags=[lag for change in changes if (lag := watch.lag(change)) is not None],
        lines=watch.lines(since=begin) / took,
        shares={user: (after[user] - before[user]) / took for user in after},
    )
    print(measured.row(name), flush=True)
    if driven > seconds * TOLERANCE:
        print(f"    the machine is too slow: that took {driven:.0f} s instead of {seconds} s", flush=True)
    return measured


def drive(players: Sequence[Steps], changes: int, rate: float = math.inf) -> list[Change]:
    """So many changes, by each player in turn, not more than `rate` a second."""
    threads = min(THREADS, len(players))
    begin = time.monotonic()

    def play(thread: int) -> list[Change]:
        own, made = players[thread::threads], []
        for turn, number in enumerate(range(thread, changes, threads)):
            time.sleep(max(0.0, begin + number / rate - time.monotonic()))
            asked = time.monotonic()
            video_id, place = next(own[turn % len(own)])
            made.append(Change(video_id, place, asked))
        return made

    with ThreadPoolExecutor(threads) as pool:
        return [change for made in pool.map(play, range(threads)) for change in made]


def lives(store: Store, worker: str, *, step: int = STEP, begin: int | None = None) -> Steps:
    """One video of a worker after the other, from its submission to its result.

    Progress is told every `step` percent, of the first video from `begin` on.
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
            # A little more: progress is kept as a fraction and shown rounded down.
            store.report_progress(claimed.lease, (percent + 0.5) / 100)
            yield video_id, CLAIMED + percent
        key, digest = claimed.lease.result_key, "0" * 64
        store.publish(claimed.lease, Result(key, 1_000_000, digest, width=1280, height=720, duration=40.0, frames=1200))
        yield video_id, DONE


def bare_patches(client: httpx.Client, video_id: str) -> Steps:
    """The progress of one VideoJob, a percent with each patch."""
    path = f"/apis/{GROUP}/{VERSION}/namespaces/{NAMESPACE}/{PLURAL}/{video_id}/status"
    headers = {"Content-Type": "application/merge-patch+json"}
    for percent in count():
        patch = {"status": {"phase": "processing", "progress": f"{percent}%"}}
        client.patch(path, content=json.dumps(patch), headers=headers).raise_for_status()
        yield video_id, CLAIMED + percent


def _processor_seconds(operator: psutil.Process | None) -> dict[str, float]:
    """What each of `USERS` that is there has used so far."""
    below = {process.name(): process for process in psutil.Process().children(recursive=True)}
    programs = {name: below[name] for name in USERS if name in below} | {"bench": psutil.Process()}
    if operator is not None:
        programs["operator"] = operator
    used = {name: process.cpu_times() for name, process in programs.items()}
    everything = psutil.cpu_times()
    # What a hypervisor gives to others is used, too.
    busy = everything.user + everything.nice + everything.system + getattr(everything, "steal", 0.0)
    return {name: times.user + times.system for name, times in used.items()} | {"everything": busy}


def _place(phase: str, progress: str) -> int:
    match phase:
        case "processing":
            return CLAIMED + int(progress.removesuffix("%"))
        case "processed":
            return DONE
    return 0


def _workers(number: int) -> list[str]:
    return [f"worker-{n}" for n in range(number)]


def _pods() -> list[dict[str, object]]:
    """The workers as Kubernetes knows them: the operator says there who is busy."""
    label, _, value = WORKER.partition("=")
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {label: value}},
            "spec": {"containers": [{"name": "worker", "image": "none"}]},
        }
        for name in _workers(RATES[-1])
    ]


def _say(sentence: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {sentence}\n")


if __name__ == "__main__":
    main()
