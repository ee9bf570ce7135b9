"""Measures what a backlog costs: 10,000 uploads wait while no worker runs, then three workers process them.

`python -m bench.backlog` runs the real API and real workers with PostgreSQL and an emulator of S3 and SQS.
Only the renderer is fake: it copies the file, so that the database has as much work as possible.
The benchmark prints the database's connections and writes, and the memory of the programs, while the backlog grows and
shrinks. docs/performance.md promises that these numbers do not depend on the length of the backlog.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg

from anb_cli.stack import die_with_parent
from anb_core.adapters.system import new_id
from anb_core.domain.model import Scope
from anb_core.usecases.tokens import create_token
from tests.support.api import VIDEO, Process, environment, running
from tests.support.aws import running_ministack
from tests.support.postgres import running_postgres
from tests.support.waiting import eventually

WORKER = Path(__file__).parents[1] / "tests" / "integration" / "worker" / "held_worker.py"
"""A worker program. Its renderer waits until the file FOLDER/go exists, and then copies the video."""

WORKERS = 3
OWNERS = 10
CLIENTS = 6
"""Number of uploads at the same time."""

SHARES = (0.1, 0.5, 1.0)
"""The benchmark prints a row as soon as each of these shares is uploaded, and again when it is processed."""

GROWTH = 1.25
"""The last row of a phase may have at most this many times the values of the phase's first row.
The values are the writes for each video and the memory of each program."""

CONNECTIONS = 5 * (1 + WORKERS)
"""Maximum number of connections to the database: the pools of the API and of all workers together."""

_SPENT = """
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_current_wal_insert_lsn() - '0/0'::pg_lsn,
       (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()),
       (SELECT count(*) FROM jobs WHERE %s IN ('uploaded', status))
"""
"""Query for the number of transactions that have written, the bytes of the database's log, the connections, and the
videos of the phase, all at one moment.
These numbers are always current. PostgreSQL updates its other statistics only about once per second."""


class Spent(NamedTuple):
    """The totals at one moment.

    `at` is the monotonic time in seconds. `done` is the number of uploaded videos while videos are uploaded, and then
    the number of processed videos. `memory` is the bytes of each program.
    """

    at: float
    writes: int
    log_bytes: int
    connections: int
    done: int
    memory: Sequence[int]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the printed table: the measurements between two moments."""

    phase: str
    done: int
    """Number of videos that are uploaded or processed at the end of the row."""
    videos: int
    """Number of videos that were uploaded or processed since the row before."""
    seconds: float
    connections: int
    writes: int
    """Number of transactions that have written."""
    log_bytes: int
    """Number of bytes that the database has written to its log."""
    memory: Sequence[int]
    """Memory in bytes of the API and then of each worker."""

    def __str__(self) -> str:
        api, *workers = (f"{size / 2**20:.0f}" for size in self.memory)
        rates = ["-"] * 4
        if self.videos:
            rates = [
                f"{self.videos / self.seconds:.0f}",
                f"{self.writes / self.seconds:.0f}",
                f"{self.writes_per_video:.1f}",
                f"{self.log_bytes / self.videos / 1024:.1f}",
            ]
        cells = [f"{self.phase} {self.done}", *rates, str(self.connections), api, ", ".join(workers) or "-"]
        return f"| {' | '.join(cells)} |"

    @property
    def writes_per_video(self) -> float:
        """Number of transactions that have written, for each video of the row."""
        return self.writes / self.videos


COLUMNS = (
    "videos",
    "videos/s",
    "writes/s",
    "writes per video",
    "KiB of log per video",
    "connections",
    "API, MiB",
    "workers, MiB",
)


def main() -> int:
    """Run the measurement. Returns exit code 1 if `find_growth` reports a problem or a video is not processed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=10_000, help="how many videos wait (default %(default)s)")
    number = parser.parse_args().videos
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": os.environ.get("AWS_SECRET_ACCESS_KEY", "test")}
    with tempfile.TemporaryDirectory() as name, running_postgres() as postgres, running_ministack(Path(name)) as aws:
        folder = Path(name)
        settings = {
            "DATABASE_URL": postgres.create_database(),
            "SQS_QUEUE_URL": f"{aws}/000000000000/backlog",
            "ANB_LOG_LEVEL": "warning",
            **keys,
        }
        with (
            running(folder, aws, **settings) as process,
            psycopg.connect(settings["DATABASE_URL"].replace("+psycopg", ""), autocommit=True) as connection,
        ):
            tokens = owners(process)
            sys.stdout.write(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n")
            meter = Meter(connection, [process.child.pid])
            rows = [*uploading(process.url, tokens, meter, number)]
            with workers(folder, environment(folder, aws, **settings)) as pids:
                rows += processing(meter, pids, number, folder / "go")
            statuses = meter.statuses()
    problems = [*find_growth(rows)]
    if statuses != {"processed": number}:
        problems.append(f"Not all videos are processed: {statuses}.")
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    return 1 if problems else 0


class Meter:
    """Measures the database and the programs with the process ids `pids`. Prints the rows of the table."""

    def __init__(self, connection: psycopg.Connection, pids: list[int]) -> None:
        self._connection = connection
        self._pids = pids
        self._last = self._read("uploaded")
        self.row("uploaded")

    def add(self, pids: list[int]) -> None:
        """Measure these programs, too. The first row of the phase "processed" begins now."""
        self._pids += pids
        self._last = self._read("processed")

    def row(self, phase: str) -> Row:
        """Print and return a row of the table, with the measurements since the previous row."""
        last, self._last = self._last, self._read(phase)
        now = self._last
        row = Row(
            phase,
            now.done,
            now.done - last.done,
            now.at - last.at,
            now.connections,
            now.writes - last.writes,
            now.log_bytes - last.log_bytes,
            now.memory,
        )
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()
        return row

    def statuses(self) -> dict[str, int]:
        """Return the number of videos for each status."""
        return dict(self._connection.execute("SELECT status, count(*) FROM jobs GROUP BY status").fetchall())

    def _read(self, phase: str) -> Spent:
        [(writes, log_bytes, connections, done)] = self._connection.execute(_SPENT, [phase]).fetchall()
        return Spent(time.monotonic(), writes, int(log_bytes), connections, done, [memory(pid) for pid in self._pids])


def owners(process: Process) -> list[str]:
    """Create a token for each owner and return the tokens. Closes the store, so its connections are not counted."""
    store = process.parts.store
    names = [f"owner-{place}" for place in range(OWNERS)]
    tokens = [create_token(store, owner=name, scope=Scope.USER, new_id=new_id).secret for name in names]
    store.close()
    return tokens


def uploading(url: str, tokens: Sequence[str], meter: Meter, number: int) -> Iterator[Row]:
    """Upload `number` videos while no worker runs. Yields a row of the table for each of the SHARES."""
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client, ThreadPoolExecutor(CLIENTS) as threads:

        def upload(place: int) -> None:
            answer = client.post(
                "/api/videos/upload",
                headers={"Authorization": f"Bearer {tokens[place % OWNERS]}"},
                data={"title": "Waits"},
                files={"video_file": ("a.mp4", VIDEO)},
            )
            if answer.status_code != httpx.codes.ACCEPTED:
                raise SystemExit(f"an upload was not accepted: {answer.status_code} {answer.text}")

        done = 0
        for until in parts_of(number):
            list(threads.map(upload, range(done, until)))
            yield meter.row("uploaded")
            done = until


@contextmanager
def workers(folder: Path, variables: dict[str, str], number: int | None = None) -> Iterator[list[int]]:
    """Run `number` workers, by default WORKERS. Yields their process ids. They wait until the file FOLDER/go exists.

    They end with this program, even if it is killed.
    """
    with ExitStack() as stack:
        started = []
        for place in range(number or WORKERS):
            log = stack.enter_context((folder / f"worker-{place}.log").open("wb"))
            names = {"ANB_WORKER_NAME": f"worker-{place}", "TMPDIR": str(folder)}
            command = die_with_parent.command_line([sys.executable, str(WORKER), str(folder)], signal.SIGKILL)
            child = subprocess.Popen(command, env=os.environ | variables | names, stdout=log, stderr=log)
            stack.callback(child.wait)
            stack.callback(child.kill)
            started.append(child.pid)
        yield started


def processing(meter: Meter, pids: list[int], number: int, go: Path) -> Iterator[Row]:
    """Wait until the workers have processed all videos. Yields a row of the table for each of the SHARES.

    The first row begins when each worker has claimed a video, because the workers need time to start.
    Then the file `go` lets them process.
    """

    def reached(status: str, wanted: int) -> bool:
        return meter.statuses().get(status, 0) >= wanted

    eventually(lambda: reached("processing", len(pids)), within=120)
    meter.add(pids)
    go.touch()
    done = 0
    for until in parts_of(number):
        if until > done:
            eventually(lambda until=until: reached("processed", until), within=3600, every=0.5)  # type: ignore[misc]
            done = (row := meter.row("processed")).done
            yield row


def parts_of(number: int) -> list[int]:
    """Return how many of `number` videos each of the SHARES is, at least 1."""
    return [max(1, round(number * share)) for share in SHARES]


def find_growth(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a sentence for each measurement that grows with the backlog."""
    for row in rows:
        if row.connections > CONNECTIONS:
            yield f"{row.phase} {row.done}: {row.connections} connections; allowed are {CONNECTIONS}."
    for phase in ("uploaded", "processed"):
        of_phase = [row for row in rows if row.phase == phase]
        first, last = of_phase[0], of_phase[-1]
        before, after = first.writes_per_video, last.writes_per_video
        if after > GROWTH * before:
            yield f"{phase}: {after:.1f} writes per video at the end, {before:.1f} at first."
        for name, grown, small in zip(("the API", *["a worker"] * WORKERS), last.memory, first.memory, strict=False):
            if grown > GROWTH * small:
                yield f"{phase}: {name} has {grown / 2**20:.0f} MiB at the end, {small / 2**20:.0f} MiB at first."


def memory(pid: int) -> int:
    """Return the memory of a process in bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
