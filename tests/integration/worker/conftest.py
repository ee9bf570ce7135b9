"""Runs real worker processes. Each test deployment (`Site`) has its own database, bucket, queue and scratch disk."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import boto3
import pytest

from anb_cli.emulator import Emulator
from anb_core.domain.edit import EditSpec
from anb_core.domain.keys import upload_key
from anb_core.domain.model import Job, NewVideo, Record, Source
from anb_core.domain.retry import RetryPolicy
from anb_core.domain.status import Status
from anb_core.settings.capabilities import RetrySettings
from anb_core.settings.loading import load
from anb_core.testing.promises import Evidence, check_promises, read_evidence
from tests.support import eventually
from tests.support.parts import Parts, opened_parts
from tests.support.stores import Sql
from tests.support.tether import free_port

LEASE = timedelta(seconds=60)
"""Duration of a lease, long enough for slow machines. Tests call `pass_time` to let a lease expire."""

HELD_WORKER = Path(__file__).with_name("held_worker.py")
_numbers = count(1)


class Worker:
    """One worker process, which writes its log to a file."""

    def __init__(self, name: str, command: list[str | Path], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as output:
            # Start the worker in a new session, so that tests can recognize processes that the worker leaves behind.
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, env=os.environ | environment, start_new_session=True
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """Send SIGKILL and wait until the process ends."""
        self.process.kill()
        self.process.wait(10)

    def exit_code(self) -> int:
        """Wait until the process ends, and return its exit code."""
        return self.process.wait(60)

    def receiving(self) -> bool:
        """Return whether the worker has started to receive messages. Fails if the process has ended."""
        assert self.process.poll() is None, self.log
        return "worker started" in self.log


class Site:
    """A test deployment, with its own scratch disk. `parts` contains the deployment's database, bucket and queue."""

    def __init__(self, folder: Path, parts: Parts, policy: RetryPolicy, database: Sql, tmpdir: Path) -> None:
        self.parts = parts
        self.policy = policy
        self.database = database
        self.folder = folder
        self.tmpdir = tmpdir
        self.workers: list[Worker] = []
        self.receipts: set[str] = set()

    def held_worker(self, *, die_at: str | None = None, **environment: str) -> Worker:
        """Start a worker whose renders wait for `let_go`. The worker kills itself at the step `die_at`, if given."""
        return self.start([sys.executable, HELD_WORKER, self.folder, *([die_at] if die_at else [])], environment)

    def two_held_workers(self, video_id: str, **environment: str) -> tuple[Worker, Worker]:
        """Start two workers whose renders wait until the test lets them go on.

        Returns the worker that renders the video, and the worker without work."""
        workers = [self.held_worker(**environment) for _ in range(2)]

        def rendering() -> list[Worker]:
            return [worker for worker in workers if self.held(worker).exists()]

        [busy] = eventually(rendering)
        self.until_rendering(busy, video_id)
        [idle] = [worker for worker in workers if worker is not busy]
        eventually(idle.receiving)
        return busy, idle

    def worker(self, **environment: str) -> Worker:
        """Start the real worker with the real render engine."""
        return self.start([sys.executable, "-m", "anb_worker"], environment)

    def silence(self, worker: Worker) -> None:
        """Freeze a worker with SIGSTOP between two transactions, so that other workers do not wait for its locks."""
        with self.database.database.transaction():
            worker.send(signal.SIGSTOP)
            os.waitpid(worker.process.pid, os.WUNTRACED)

    def hold(self, worker: Worker) -> None:
        """Let all renders wait for `let_go` again. Returns when the given worker's render waits."""
        (self.folder / "go").unlink(missing_ok=True)
        self.held(worker).unlink(missing_ok=True)
        eventually(self.held(worker).exists)

    def let_go(self) -> None:
        """Let all waiting renders finish. Renders that start after the call do not wait."""
        (self.folder / "go").touch()

    def upload(self, data: bytes = b"video", *, owner: str = "ada", task_id: str | None = None) -> str:
        """Upload a video and return its id. The message waits in the outbox for the relay of a worker."""
        video_id = str(uuid4())
        with self.parts.objects.writing(upload_key(video_id), content_type="video/mp4") as writer:
            writer.write(data)
            writer.commit()
        new = NewVideo(
            video_id,
            task_id or str(uuid4()),
            owner,
            "Holiday",
            EditSpec(),
            upload_key(video_id),
            owned=True,
            file_name="h.mp4",
        )
        self.parts.store.begin_upload(new, lifetime=timedelta(hours=1))
        self.parts.store.complete_upload(video_id, Source(len(data)))
        self.receipts.add(video_id)
        return video_id

    def record(self, video_id: str) -> Record:
        record = self.parts.store.get(video_id)
        assert record is not None
        return record

    def job(self, video_id: str) -> Job:
        return self.record(video_id).job

    def sweep(self) -> int:
        """End expired leases once, as the sweep of an API process does. Returns the number of ended leases."""
        return self.parts.store.end_expired_leases(limit=10, policy=self.policy)

    def until(self, video_id: str, status: Status, *, within: float = 60.0) -> Job:
        """Sweep again and again until the job has the given status, and return the job."""

        def reached() -> Job | None:
            self.sweep()
            job = self.job(video_id)
            assert job.status is status or not job.status.terminal, f"{job.status}: {job.error}"
            return job if job.status is status else None

        job = eventually(reached, within=within, every=0.1)
        assert job is not None
        return job

    def until_rendering(self, worker: Worker, video_id: str) -> None:
        """Sweep again and again until the given worker renders the given video and has stored a progress above 0."""

        def begun() -> bool:
            self.sweep()
            return self.held(worker).exists()

        eventually(begun, every=0.1)
        eventually(lambda: self.job(video_id).progress > 0)

    def held(self, worker: Worker) -> Path:
        """Return the path of the file that the given worker creates when its render waits."""
        return self.folder / f"rendering-{worker.process.pid}"

    def results(self, video_id: str) -> list[str]:
        """Return the keys of a video's results in the bucket, including results of earlier attempts."""
        keys = [attempt.result_key for attempt in self.parts.store.history(video_id).attempts]
        return [key for key in keys if self.parts.objects.head(key)]

    def left_on_disk(self) -> list[Path]:
        """Return the files and folders on the scratch disk, without the shared cache."""
        return [path for path in self.tmpdir.glob("anb-worker-*/worker-*/*") if path.name not in {"alive", "resources"}]

    def processes(self) -> list[str]:
        """Return the command lines of all processes whose working directory is on the scratch disk."""
        found = []
        for process in Path("/proc").iterdir():
            try:
                inside = (process / "cwd").readlink().is_relative_to(self.tmpdir)
                if process.name.isdecimal() and inside:
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
        return found

    def evidence(self) -> Evidence:
        """Read the database, list the bucket and count the messages. No worker may run meanwhile."""
        session, url = boto3.session.Session(region_name="us-east-1"), os.environ["SQS_QUEUE_URL"]
        with closing(session.client("s3")) as s3, closing(session.client("sqs")) as sqs:
            return read_evidence(
                self.database.database,
                s3=s3,
                bucket=self.parts.objects.bucket,
                sqs=sqs if url else None,
                queue_urls=[f"{url.removesuffix('.fifo')}-dlq{'.fifo' if url.endswith('.fifo') else ''}"],
                queues=[self.parts.queue],
                receipts=self.receipts,
            )

    def close(self) -> None:
        """Kill the workers, and check all promises that must hold at every moment."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()
            print(f"--- {worker.name}\n{worker.log}")  # noqa: T201 - pytest shows it when the test failed
        assert eventually(lambda: not self.processes()), self.processes()
        check_promises(self.evidence(), self.policy)

    def start(self, command: list[str | Path], environment: dict[str, str]) -> Worker:
        """Start a program, which is killed when the site closes."""
        name = f"worker-{len(self.workers) + 1}"
        worker = Worker(name, command, {"ANB_WORKER_NAME": name} | environment, self.folder / f"{name}.log")
        self.workers.append(worker)
        return worker


class MakeSite(Protocol):
    def __call__(
        self, database_url: str, aws_url: str, *, tmpdir: Path | None = None, broker_url: str = "", fifo: bool = False
    ) -> AbstractContextManager[Site]: ...


@pytest.fixture
def make_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSite:
    """A function that returns a context manager for a `Site`.

    At the end of the block, the promises are checked. So the database and the emulator must still run.
    If `broker_url` is given, the site's queue is on this Celery broker. Otherwise, it is on SQS, and FIFO if `fifo`.
    """

    @contextmanager
    def make(
        database_url: str, aws_url: str, *, tmpdir: Path | None = None, broker_url: str = "", fifo: bool = False
    ) -> Iterator[Site]:
        name = f"worker-{os.getpid()}-{next(_numbers)}"
        tmpdir = tmpdir or tmp_path / "tmp"
        tmpdir.mkdir(exist_ok=True)
        for variable, value in {
            "DATABASE_URL": database_url,
            "AWS_ENDPOINT_URL": aws_url,
            "S3_BUCKET": name,
            "CELERY_BROKER_URL": broker_url,
            "CELERY_TASK_DEFAULT_QUEUE": name,
            "SQS_QUEUE_URL": "" if broker_url else f"{aws_url}/000000000000/{name}{'.fifo' if fifo else ''}",
            "SQS_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "SQS_WAIT_TIME_SECONDS": "1",
            "SQS_VISIBILITY_TIMEOUT": "300",
            "ANB_CREATE_RESOURCES": "true",
            "ANB_LEASE_SECONDS": str(int(LEASE.total_seconds())),
            "ANB_HEARTBEAT_SECONDS": "2",
            "ANB_DRAIN_SECONDS": "60",
            "ANB_BACKOFF_SECONDS": "1",
            "ANB_LOG_FORMAT": "json",
            "TMPDIR": str(tmpdir),
        }.items():
            monkeypatch.setenv(variable, value)
        with opened_parts() as parts, closing(Sql(database_url)) as database:
            parts.queue.ensure()
            policy = load(RetrySettings).retry_policy
            with closing(Site(tmp_path, parts, policy, database, tmpdir)) as site:
                yield site

    return make


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'anb.db'}"


@pytest.fixture
def site(make_site: MakeSite, sqlite_url: str, ministack_url: str) -> Iterator[Site]:
    """A test deployment on SQLite and the embedded emulator, like a deployment of `anb up`."""
    with make_site(sqlite_url, ministack_url) as site:
        yield site


@pytest.fixture
def postgresql_site(make_site: MakeSite, postgres_url: str, ministack_url: str) -> Iterator[Site]:
    """A test deployment on PostgreSQL and the embedded emulator."""
    with make_site(postgres_url, ministack_url) as site:
        yield site


@pytest.fixture
def own_emulator(tmp_path: Path) -> Iterator[Emulator]:
    """An embedded emulator that the test may stop and start."""
    emulator = Emulator(port=free_port(), data=tmp_path / "emulator", secret="test")
    emulator.start()
    yield emulator
    emulator.stop()


@pytest.fixture
def interruptible_site(make_site: MakeSite, sqlite_url: str, own_emulator: Emulator) -> Iterator[Site]:
    """A test deployment on SQLite and `own_emulator`."""
    with make_site(sqlite_url, own_emulator.url) as site:
        yield site
