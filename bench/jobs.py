"""Measures what a job costs besides the rendering, and how soon a worker begins with an upload.

`python -m bench.jobs` runs a real worker, and then the real API, too, with PostgreSQL and an emulator of S3 and SQS.
Only the renderer is fake: it copies the file. For comparison, a bare loop does the least that a queue of jobs needs, by
turns with the worker: receive a message, commit, GET and PUT an object, commit, and delete the message. A bare message
is sent and received by turns with the uploads, and shows how much of the wait is the emulator's.
docs/performance.md promises the limits RATIO and SOON.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import boto3
import httpx
import psycopg

from anb_core.adapters.system import SystemRuntime, new_id
from anb_core.domain.keys import upload_key
from anb_core.ports.objects import Objects
from anb_core.telemetry import configure_logging
from anb_core.usecases.relay import Relay
from bench import backlog
from tests.support.api import BUCKET, VIDEO, environment, in_environment, running
from tests.support.aws import running_ministack
from tests.support.given import SOURCE, uploading
from tests.support.parts import Parts
from tests.support.postgres import running_postgres
from tests.support.waiting import eventually

RATIO = 1.5
"""A job may take at most this many times the time of the bare loop, and the CPU time, too."""

SOON = 0.050
"""On an idle system, a worker has claimed 99 of 100 uploads at most this many seconds after their commit."""

_STARTS = """
    SELECT count(*), (max(started_at) - min(started_at)) / 1000.0 FROM (
        SELECT started_at FROM attempts JOIN jobs ON jobs.id = job_id
        WHERE video_id = ANY(%s) AND status = 'processed' ORDER BY started_at OFFSET 1
    ) AS started
"""
"""The number of processed videos except the first one, and the seconds between their first and last claim."""

_CLAIMED_AFTER = """
    SELECT (min(at) FILTER (WHERE status = 'processing') - min(at) FILTER (WHERE status = 'uploaded')) / 1000.0
    FROM job_events WHERE video_id = %s
"""
"""Seconds between two events of a video. Each is the last statement before the commit of the upload or claim."""


class Cost(NamedTuple):
    """What a job costs, in seconds."""

    wall: float
    cpu: float


class Bare:
    """The bare loop. It has a queue, a table and connections of its own."""

    def __init__(self, aws: str, parts: Parts, connection: psycopg.Connection) -> None:
        session = boto3.Session("test", "test", region_name="us-east-1")
        self._sqs: Any = session.client("sqs", endpoint_url=aws)
        self._s3: Any = session.client("s3", endpoint_url=aws)
        self._queue = self._sqs.create_queue(QueueName="bare")["QueueUrl"]
        self._objects, self._connection = parts.objects, connection
        connection.execute("CREATE TABLE bare (id text PRIMARY KEY, status text NOT NULL)")

    def measured(self, number: int) -> Cost:
        """Send `number` messages, and then process them."""
        for _ in range(number):
            name = new_id()
            put(self._objects, upload_key(name))
            self._connection.execute("INSERT INTO bare VALUES (%s, 'uploaded')", [name])
            self._sqs.send_message(QueueUrl=self._queue, MessageBody=name)
        begun, cpu = time.monotonic(), time.process_time()
        for _ in range(number):
            self._process()
        return Cost((time.monotonic() - begun) / number, (time.process_time() - cpu) / number)

    def close(self) -> None:
        self._sqs.close()
        self._s3.close()

    def _process(self) -> None:
        received = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=1, WaitTimeSeconds=20)
        [message] = received["Messages"]
        name = message["Body"]
        self._change(name, "processing")
        data = self._s3.get_object(Bucket=BUCKET, Key=upload_key(name))["Body"].read()
        self._s3.put_object(Bucket=BUCKET, Key=f"bare/{name}.mp4", Body=data, ContentType="video/mp4")
        self._change(name, "processed")
        self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])

    def _change(self, name: str, status: str) -> None:
        with self._connection.transaction():
            self._connection.execute("UPDATE bare SET status = %s WHERE id = %s", [status, name])


class Whole:
    """The worker, with its own queue. `go` is a file: without it, the worker waits in the middle of a job."""

    def __init__(self, parts: Parts, connection: psycopg.Connection, go: Path, pid: int) -> None:
        self._parts, self._connection, self._go, self._pid = parts, connection, go, pid
        self._relay = Relay(parts.store, parts.queue, bucket=BUCKET, runtime=SystemRuntime())

    def measured(self, number: int) -> Cost:
        """Send the messages of `number` + 2 videos, and then let the worker process the videos.

        The first job is not measured, because the worker waits in it until all messages are sent.
        """
        self._go.unlink(missing_ok=True)
        videos = [uploaded(self._parts) for _ in range(number + 2)]
        while self._relay.send_due().sent:
            pass
        cpu = cpu_of(self._pid)
        self._go.touch()
        wall = eventually(lambda: self._between_claims(videos), within=300, every=0.2)
        return Cost(wall / number, (cpu_of(self._pid) - cpu) / len(videos))

    def _between_claims(self, videos: Sequence[str]) -> float:
        [(done, seconds)] = self._connection.execute(_STARTS, [videos]).fetchall()
        return float(seconds) if done == len(videos) - 1 else 0.0


def main() -> int:
    """Run the measurements. Returns exit code 1 if `find_slow` reports a problem."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11, help="how often each loop is measured (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=50, help="jobs of a round (default %(default)s)")
    parser.add_argument("--uploads", type=int, default=300, help="uploads to an idle system (default %(default)s)")
    given = parser.parse_args()
    configure_logging("text", "warning")
    with site() as (folder, aws, variables):
        rounds = [*costs(folder, aws, variables, given.rounds, given.jobs)]
        bare, whole = (Cost(*map(median, zip(*kind, strict=True))) for kind in zip(*rounds, strict=True))
        sys.stdout.write("| | wall, ms | CPU, ms |\n|---|---|---|\n")
        for name, cost in (("bare loop", bare), ("a job", whole)):
            sys.stdout.write(f"| {name} | {1000 * cost.wall:.1f} | {1000 * cost.cpu:.1f} |\n")
        sys.stdout.write(f"| ratio | {whole.wall / bare.wall:.2f} | {whole.cpu / bare.cpu:.2f} |\n\n")
        sys.stdout.flush()
        waits = [*zip(*claimed_after(folder, aws, variables, given.uploads), strict=True)]
    for name, seconds in zip(("From commit to claim", "A bare message"), waits, strict=True):
        middle, late = median(seconds), within(seconds)
        sys.stdout.write(f"{name}: median {1000 * middle:.0f} ms, 99 of 100 within {1000 * late:.0f} ms.\n")
    problems = [*find_slow(bare, whole, within(waits[0]))]
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    return 1 if problems else 0


@contextmanager
def site() -> Iterator[tuple[Path, str, dict[str, str]]]:
    """Run the servers. Yields a folder, the URL of the emulator, and environment variables for the programs."""
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with (
        tempfile.TemporaryDirectory() as name,
        running_postgres() as postgres,
        running_ministack(Path(name)) as aws,
    ):
        yield Path(name), aws, {"DATABASE_URL": postgres.create_database(), "ANB_LOG_LEVEL": "warning", **keys}


def costs(folder: Path, aws: str, changes: dict[str, str], rounds: int, jobs: int) -> Iterator[tuple[Cost, Cost]]:
    """Measure by turns what `jobs` jobs cost in the bare loop and in a worker. Yields a pair for each round."""
    # Without a limit, all messages are in the queue before the measurement begins.
    queue = f"{aws}/000000000000/busy"
    variables = environment(folder, aws, SQS_QUEUE_URL=queue, ANB_QUEUE_LIMIT="0", **changes)
    with ExitStack() as stack:
        _, parts = stack.enter_context(in_environment(variables))
        connection = stack.enter_context(connected(changes))
        bare = stack.enter_context(closing(Bare(aws, parts, connection)))
        [pid] = stack.enter_context(backlog.workers(folder, variables, 1))
        whole = Whole(parts, connection, folder / "go", pid)
        for measure in (bare.measured, whole.measured):
            measure(jobs)
        for _ in range(rounds):
            yield bare.measured(jobs), whole.measured(jobs)


class Poll:
    """Sends a bare message while a long poll of a queue of its own waits for it."""

    def __init__(self, aws: str) -> None:
        session = boto3.Session("test", "test", region_name="us-east-1")
        self._sqs: Any = session.client("sqs", endpoint_url=aws)
        self._queue = self._sqs.create_queue(QueueName="poll")["QueueUrl"]
        self._threads = ThreadPoolExecutor(1)

    def measured(self, pause: float) -> float:
        """Send a message `pause` seconds after the poll begins. Returns the seconds until the poll has received it."""
        receiving = self._threads.submit(self._receive)
        time.sleep(pause)
        begun = time.monotonic()
        self._sqs.send_message(QueueUrl=self._queue, MessageBody="bare")
        return receiving.result() - begun

    def close(self) -> None:
        self._threads.shutdown()
        self._sqs.close()

    def _receive(self) -> float:
        [message] = self._sqs.receive_message(QueueUrl=self._queue, WaitTimeSeconds=20)["Messages"]
        received = time.monotonic()
        self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        return received


def claimed_after(folder: Path, aws: str, changes: dict[str, str], uploads: int) -> Iterator[tuple[float, float]]:
    """Upload videos to an idle system, one after another, and send a bare message after each.

    Yields the seconds from each commit to the claim, and those that the bare message needed.
    """
    # The killed worker of the first measurement may still have a long poll of its queue.
    changes |= {"SQS_QUEUE_URL": f"{aws}/000000000000/idle"}
    (folder / "go").touch()
    with (
        running(folder, aws, **changes) as process,
        connected(changes) as connection,
        backlog.workers(folder, environment(folder, aws, **changes), 1),
        closing(Poll(aws)) as poll,
        httpx.Client(base_url=process.url, timeout=60, trust_env=False) as client,
    ):

        def upload() -> str:
            answer = client.post(
                "/api/videos/upload",
                headers={"Authorization": f"Bearer {process.token}"},
                data={"title": "Soon"},
                files={"video_file": ("a.mp4", VIDEO)},
            )
            return str(answer.raise_for_status().json()["video_id"])

        def done(video_id: str) -> bool:
            [(status,)] = connection.execute("SELECT status FROM jobs WHERE video_id = %s", [video_id]).fetchall()
            return bool(status == "processed")

        for number in range(uploads + 1):
            video_id = upload()
            eventually(lambda video_id=video_id: done(video_id), within=60, every=0.1)  # type: ignore[misc]
            # With pauses of many lengths, the uploads and the messages come at all times of a long poll.
            needed = poll.measured(0.1 + number % 30 / 100)
            # The worker starts during the first job.
            if number:
                [(seconds,)] = connection.execute(_CLAIMED_AFTER, [video_id]).fetchall()
                yield float(seconds), needed


def within(seconds: Sequence[float]) -> float:
    """Return the time within which 99 of 100 come."""
    return quantiles(seconds, n=100, method="inclusive")[-1]


def find_slow(bare: Cost, whole: Cost, late: float) -> Iterator[str]:
    """Yield a sentence for each limit that is exceeded. `late` is the time that 99 of 100 claims need, in seconds."""
    for name, ratio in (("time", whole.wall / bare.wall), ("CPU time", whole.cpu / bare.cpu)):
        if ratio > RATIO:
            yield f"A job takes {ratio:.2f} times the {name} of the bare loop; allowed are {RATIO}."
    if late > SOON:
        yield f"1 of 100 claims comes later than {1000 * late:.0f} ms; allowed are {1000 * SOON:.0f} ms."


def uploaded(parts: Parts) -> str:
    """Upload a video and return its id."""
    video_id = uploading(parts.store).video.id
    put(parts.objects, upload_key(video_id))
    parts.store.complete_upload(video_id, SOURCE)
    return video_id


def put(objects: Objects, key: str) -> None:
    """Put a small video into the bucket."""
    with objects.writing(key, content_type="video/mp4") as writer:
        writer.write(VIDEO)
        writer.commit()


def connected(changes: dict[str, str]) -> psycopg.Connection:
    """Open a connection to the database without SQLAlchemy."""
    return psycopg.connect(changes["DATABASE_URL"].replace("+psycopg", ""), autocommit=True)


def cpu_of(pid: int) -> float:
    """Return the CPU time of a process in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
