"""Measures how well the work goes on after a fault: the rate of finished jobs after it, as a share of the rate before.

`python -m bench.recovery` runs real workers with PostgreSQL and an emulator of S3 and SQS. There are always jobs that
wait. Only the renderer is fake: each render takes 2 s. Each scenario has servers and workers of its own, and all
scenarios run at the same time. The rate after the fault is measured over 60 s, which begin 10 s after the fault's end.
At the end of each scenario, the promises are checked.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from statistics import median

import psycopg

from anb_cli.stack import die_with_parent
from anb_core.domain.errors import Unavailable
from anb_core.domain.model import Source
from anb_core.domain.retry import RetryPolicy
from anb_core.domain.status import Status
from anb_core.telemetry import configure_logging
from anb_core.testing.promises import check_promises
from bench.backlog import WORKER
from tests.support.api import VIDEO, environment, in_environment
from tests.support.aws import running_ministack
from tests.support.given import new_video
from tests.support.parts import Parts
from tests.support.postgres import RestartablePostgres, restartable_postgres
from tests.support.stores import Sql
from tests.support.waiting import eventually

GOAL = 0.95
"""In each scenario, the median of the shares must be at least this."""

WORKERS = 4
RENDER_SECONDS = 2.0
WAITING = 100
"""At least this number of jobs waits all the time."""

SHARED = "camera/a.mp4"
"""The key of the source of all videos."""

PAUSE = 10.0
"""Time between the fault's end and the measurement after it, in seconds."""

AWAY = 20.0
"""How long other clients hold all connections of the database, in seconds."""

KILLS = 10
KILL_EVERY = 3.0
"""How often a worker is killed if the kills are repeated, and the seconds between two kills."""

OTHERS = {"RENDER_SECONDS": str(RENDER_SECONDS), "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
"""Environment variables of the workers. All other settings have their defaults."""

END_ALL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name <> 'holder'
"""


class Site:
    """The servers and workers of one scenario."""

    def __init__(self, folder: Path, server: RestartablePostgres, parts: Parts, variables: Mapping[str, str]) -> None:
        self.server = server
        self.parts = parts
        self._folder = folder
        self._variables = variables
        self._workers: list[subprocess.Popen[bytes]] = []
        self._numbers = count(1)

    def start_worker(self) -> Path:
        """Start another worker. It ends with this program. Returns the path of its log."""
        path = self._folder / f"worker-{next(self._numbers)}.log"
        with path.open("wb") as log:
            worker = [sys.executable, str(WORKER), str(self._folder)]
            command = die_with_parent.command_line(worker, signal.SIGKILL)
            self._workers.append(subprocess.Popen(command, env=self._variables, stdout=log, stderr=log))
        return path

    def replace_worker(self) -> Path:
        """Kill the oldest worker without a warning, and start another one. Returns the path of its log."""
        victim = self._workers.pop(0)
        victim.kill()
        victim.wait()
        return self.start_worker()

    def crash(self) -> None:
        """Kill one worker. The fault ends when another one has started."""
        until_started(self.replace_worker())

    def restart(self) -> None:
        """Restart the database."""
        self.server.stop()
        self.server.start()

    def kill_backends(self) -> None:
        """End all connections to the database."""
        with self.connected() as connection:
            connection.execute(END_ALL)

    def exhaust(self) -> None:
        """Take all connections of the database away from the workers, and hold them."""
        with ExitStack() as held:
            until = time.monotonic() + AWAY
            while time.monotonic() < until:
                try:
                    held.enter_context(self.connected("holder")).execute(END_ALL)
                except psycopg.OperationalError:
                    time.sleep(0.01)

    def kill_repeatedly(self) -> None:
        """Kill one worker after the other, and start another one for each."""
        for _ in range(KILLS):
            self.replace_worker()
            time.sleep(KILL_EVERY)
        self.crash()

    def connected(self, name: str = "killer") -> psycopg.Connection:
        """Connect to the server as its administrator. `name` is the name of the connection."""
        address = f"host=127.0.0.1 port={self.server.port} user=postgres application_name={name}"
        return psycopg.connect(address, autocommit=True)

    def stop(self) -> None:
        """Kill all workers."""
        for worker in self._workers:
            worker.kill()
            worker.wait()


SCENARIOS: Mapping[str, Callable[[Site], None]] = {
    "PostgreSQL restarts": Site.restart,
    "all backends are killed": Site.kill_backends,
    "no connection is left": Site.exhaust,
    "a worker crashes": Site.crash,
    "workers are killed repeatedly": Site.kill_repeatedly,
}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the printed table. `before` and `after` are the jobs per second of each run."""

    scenario: str
    before: Sequence[float]
    after: Sequence[float]

    @property
    def shares(self) -> list[float]:
        """For each run, the rate after the fault as a share of the rate before it."""
        return [after / before for after, before in zip(self.after, self.before, strict=True)]

    def __str__(self) -> str:
        rates = (f"{median(rates):.2f}" for rates in (self.before, self.after))
        shares = (f"{share:.0%}".replace("%", " %") for share in (median(self.shares), min(self.shares)))
        return f"| {self.scenario} | {' | '.join([*rates, *shares])} |"


COLUMNS = ("fault", "jobs/s before", "jobs/s after", "share, median", "share, lowest")


def main() -> int:
    """Run the measurement. Returns exit code 1 if a median is under the GOAL."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="how often each fault happens (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="length of a measurement (default %(default)s)")
    given = parser.parse_args()
    configure_logging("text", "error")
    with ExitStack() as stack, ThreadPoolExecutor(len(SCENARIOS)) as threads:
        sites = [stack.enter_context(running_site()) for _ in SCENARIOS]
        measurements = (
            threads.submit(measured, *of, given.runs, given.seconds) for of in zip(SCENARIOS, sites, strict=True)
        )
        rows = [measurement.result() for measurement in [*measurements]]
    sys.stdout.write(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n")
    sys.stdout.write("".join(f"{row}\n" for row in rows))
    return 0 if all(median(row.shares) >= GOAL for row in rows) else 1


def measured(scenario: str, site: Site, runs: int, seconds: float) -> Row:
    """Let the fault of a scenario happen `runs` times, and measure before and after each."""
    before, after = [], []
    with waiting_jobs(site.parts):
        eventually(lambda: processed(site.parts) >= 2 * WORKERS, within=120)
        for _ in range(runs):
            before.append(rate(site.parts, seconds))
            SCENARIOS[scenario](site)
            time.sleep(PAUSE)
            after.append(rate(site.parts, seconds))
            sys.stderr.write(f"{Row(scenario, before, after)}\n")
    return Row(scenario, before, after)


@contextmanager
def running_site() -> Iterator[Site]:
    """Run the servers and workers of one scenario. At the end, the promises are checked."""
    with (
        tempfile.TemporaryDirectory() as name,
        restartable_postgres() as server,
        running_ministack(Path(name) / "aws") as aws,
    ):
        folder, url = Path(name), server.create_database()
        (folder / "go").touch()
        variables = environment(folder, aws, DATABASE_URL=url, SQS_QUEUE_URL=f"{aws}/000000000000/recovery", **OTHERS)
        with in_environment(variables) as (_, parts):
            parts.queue.ensure()
            site = Site(folder, server, parts, os.environ | variables)
            try:
                for log in [site.start_worker() for _ in range(WORKERS)]:
                    until_started(log)
                yield site
            finally:
                site.stop()
            with closing(Sql(url)) as backend:
                check_promises(backend.evidence(), RetryPolicy())


@contextmanager
def waiting_jobs(parts: Parts) -> Iterator[None]:
    """Submit videos during the block, so that jobs always wait. All of them have the same source."""
    over = threading.Event()

    def feed() -> None:
        while not over.is_set():
            with suppress(Unavailable):
                waiting = parts.store.count_by_status().get(Status.UPLOADED, 0)
                for _ in range(waiting, WAITING):
                    parts.store.submit_existing(replace(new_video(owned=False), source_key=SHARED), Source(len(VIDEO)))
            over.wait(1.0)

    with parts.objects.writing(SHARED, content_type="video/mp4") as writer:
        writer.write(VIDEO)
        writer.commit()
    with ThreadPoolExecutor(1) as threads:
        fed = threads.submit(feed)
        try:
            yield
        finally:
            over.set()
    fed.result()


def until_started(log: Path) -> None:
    """Wait until the worker with this log receives messages."""
    eventually(lambda: "worker started" in log.read_text(), within=600)


def rate(parts: Parts, seconds: float) -> float:
    """Return how many jobs per second are finished during the next `seconds`."""
    begun, before = time.monotonic(), processed(parts)
    time.sleep(seconds)
    return (processed(parts) - before) / (time.monotonic() - begun)


def processed(parts: Parts) -> int:
    """Return the number of all jobs that were finished."""
    return parts.store.count_by_status().get(Status.PROCESSED, 0)


if __name__ == "__main__":
    sys.exit(main())
