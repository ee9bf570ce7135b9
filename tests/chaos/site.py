"""A whole deployment of real programs. Faults happen around it.

At the end of a run, the checker judges the rows, the bucket and the queue.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import boto3
import httpx
from sqlalchemy import make_url

from anb_core.adapters.database import SqlStore, upgrade
from anb_core.adapters.database.engine import Database
from anb_core.adapters.system import new_id
from anb_core.domain.model import Scope
from anb_core.domain.retry import RetryPolicy
from anb_core.domain.status import Status
from anb_core.ports.store import Store
from anb_core.settings.capabilities import RetrySettings
from anb_core.testing.promises import Evidence, check_promises, read_evidence
from anb_core.usecases.tokens import create_token
from tests.chaos.programs import Faults, Program, Programs, running_programs
from tests.support import eventually
from tests.support.proxy import Proxy, proxied
from tests.support.tether import free_port

LEASE = timedelta(seconds=12)
HEARTBEAT = timedelta(seconds=4)
VISIBILITY = timedelta(seconds=16)

EDIT = json.dumps({"trim": {"length": 0.1}, **{name: {"enabled": False} for name in ("intro", "outro", "watermark")}})
"""The shortest edit, so that a render takes about half a second of a processor."""

OURS = "chaos"
"""The name of the connections of the tests, which a fault must not end."""

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Servers:
    """The addresses of the database server and of the emulator of S3 and SQS, without a proxy."""

    database_url: str
    aws_url: str


class Site:
    """A deployment of real programs.

    `store`, `database`, `s3` and `sqs` use the servers directly.
    `receipts` are the ids of the videos whose upload was answered with 202.
    """

    def __init__(self, programs: Programs, servers: "Servers", folder: Path, environment: Mapping[str, str]) -> None:
        self.programs = programs
        self.servers = servers
        self.folder = folder
        self.environment = environment
        ours = make_url(servers.database_url).update_query_dict({"application_name": OURS})
        address = ours.render_as_string(hide_password=False)
        self.store: Store = SqlStore(address)
        self.database = Database(address)
        self.receipts: set[str] = set()
        self.policy: RetryPolicy = RetrySettings.model_validate(environment).retry_policy
        self.urls: list[str] = []
        self._http = httpx.Client(trust_env=False, verify=False)  # noqa: S501 - there is no TLS
        session: Any = boto3.session.Session(region_name="us-east-1")
        self.s3, self.sqs = (session.client(name, endpoint_url=servers.aws_url) for name in ("s3", "sqs"))
        self._secret = create_token(self.store, owner="ana", scope=Scope.OPS, new_id=new_id).secret
        self._numbers = count(1)

    def api(self, faults: Callable[[], Faults] = dict, **environment: str) -> Program:
        """Start an API, which is started again whenever it dies."""
        port = free_port()
        self.urls.append(f"http://127.0.0.1:{port}")
        return self._start("api", {"ANB_API_LISTEN": f"127.0.0.1:{port}", **environment}, faults)

    def worker(self, faults: Callable[[], Faults] = dict, **environment: str) -> Program:
        """Start a worker with the real render engine, which is started again whenever it dies."""
        return self._start("worker", environment, faults)

    def operator(self, faults: Callable[[], Faults] = dict, **environment: str) -> Program:
        """Start an operator, which is started again whenever it dies."""
        listen = {"ANB_OPERATOR_LISTEN": f"127.0.0.1:{free_port()}"}
        return self._start("operator", listen | environment, faults)

    def _start(self, kind: str, environment: Mapping[str, str], faults: Callable[[], Faults]) -> Program:
        name = f"{kind}-{next(self._numbers)}"
        return self.programs.start(kind, name, {**self.environment, "ANB_WORKER_NAME": name, **environment}, faults)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        """Send a request to one of the APIs. Returns None if no API answers."""
        options = {"timeout": 30, **options}
        options["headers"] = {"Authorization": f"Bearer {self._secret}", **options.get("headers", {})}
        for url in self.urls:
            with suppress(httpx.TransportError):
                return self._http.request(method, f"{url}{path}", **options)
        return None

    def upload(self, data: bytes, *, edit: str = EDIT, within: float = 120.0, **fields: str) -> str:
        """Upload a video, and repeat the upload until it is answered with 202. Returns the video's id."""
        key = str(uuid4())

        def sent() -> str | None:
            answer = self.request(
                "POST",
                "/api/videos/upload",
                data={"title": "Holidays", "edit": edit, **fields},
                files={"video_file": ("clip.mp4", data)},
                headers={"Idempotency-Key": key},
            )
            if answer is None or answer.status_code in {408, 409, 429, 500, 503}:
                return None
            assert answer.status_code == 202, answer.text
            return str(answer.json()["video_id"])

        video_id = eventually(sent, within=within, every=0.5)
        assert video_id is not None
        self.receipts.add(video_id)
        return video_id

    def unfinished(self) -> int:
        """Return the number of videos that are not over."""
        return sum(number for status, number in self.statuses().items() if not status.terminal)

    def until_rest(self, *, messages: bool = True, within: float = 120.0) -> float:
        """Wait until all videos are over and the queues have no `messages`. Returns how long this took, in seconds."""
        begun = monotonic()
        eventually(lambda: not self.unfinished(), within=within, every=0.5)
        eventually(lambda: not messages or self.evidence().message_count == 0, within=within, every=0.5)
        return monotonic() - begun

    def statuses(self) -> Mapping[Status, int]:
        return self.store.count_by_status()

    def check(self, *, at_rest: bool = True, earlier: Evidence | None = None) -> Evidence:
        """Let the checker judge the rows, the bucket and the queue. Returns what it saw."""
        evidence = self.evidence()
        check_promises(evidence, self.policy, at_rest=at_rest, earlier=earlier)
        return evidence

    def evidence(self, *, queues: bool = True) -> Evidence:
        """Read the database, list the bucket and count the messages, without the proxy.

        Messages can be counted only at rest. Before, `queues` must be false.
        """
        queue = self.environment["SQS_QUEUE_URL"].rpartition("/")[2]
        return read_evidence(
            self.database,
            s3=self.s3,
            bucket=self.environment["S3_BUCKET"],
            sqs=self.sqs if queues else None,
            queue_urls=[f"{self.servers.aws_url}/000000000000/{name}" for name in (queue, f"{queue}-dlq")],
            receipts=self.receipts,
        )

    def close(self) -> None:
        for part in (self.store, self.database, self.s3, self.sqs, self._http):
            part.close()

    def logs(self) -> str:
        """Return the last lines of all logs, for the report of a failed test."""
        return "\n".join(
            f"--- {one.name}, ended with {one.codes}\n{one.log[-4000:]}" for one in self.programs.all.values()
        )


@contextmanager
def running_site(folder: Path, servers: Servers, cards_dir: Path, **environment: str) -> Iterator[Site]:
    """Run a site without any program, whose logs are in `folder`. At the end of the block, all programs are killed.

    The programs use the addresses in `environment`, for example those of proxies, or otherwise those of `servers`.
    `cards_dir` is the cache of intros and outros.
    """
    name = f"chaos-{os.getpid()}-{next(_numbers)}"
    scratch = folder / "tmp" / f"anb-worker-{os.getuid()}"
    scratch.mkdir(parents=True)
    cards_dir.mkdir(parents=True, exist_ok=True)
    (scratch / "cache").symlink_to(cards_dir, target_is_directory=True)
    aws_url = environment.get("AWS_ENDPOINT_URL", servers.aws_url)
    environment = {
        "DATABASE_URL": servers.database_url,
        "AWS_ENDPOINT_URL": aws_url,
        "S3_BUCKET": name,
        "SQS_QUEUE_URL": f"{aws_url}/000000000000/{name}",
        "SQS_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "ANB_CREATE_RESOURCES": "true",
        "ANB_HANDLE_DEAD_LETTERS": "true",
        "ANB_LEASE_SECONDS": str(LEASE.seconds),
        "ANB_HEARTBEAT_SECONDS": str(HEARTBEAT.seconds),
        "SQS_VISIBILITY_TIMEOUT": str(VISIBILITY.seconds),
        "SQS_WAIT_TIME_SECONDS": "1",
        "ANB_SWEEP_SECONDS": "1",
        "ANB_BACKOFF_SECONDS": "0",
        # Only the faults end a job that is lost or fails again and again, never a limit.
        "ANB_MAX_LOST": "100",
        "ANB_MAX_FAILURES": "100",
        "ANB_LOG_FORMAT": "json",
        "ANB_LOG_LEVEL": "debug",  # A worker logs the deliveries that it drops at this level.
        "TMPDIR": str(folder / "tmp"),
        **environment,
    }
    upgrade(servers.database_url)
    with running_programs(folder) as programs, closing(Site(programs, servers, folder, environment)) as site:
        yield site


@contextmanager
def running_proxied_site(folder: Path, servers: Servers, cards_dir: Path) -> Iterator[tuple[Site, Proxy, Proxy]]:
    """Run a site as `running_site` does, with a proxy before the database and one before bucket and queue.

    Yields the site and both proxies, that of the database first.
    """
    sql, aws = urlsplit(servers.database_url), urlsplit(servers.aws_url)
    assert sql.port
    assert aws.port
    with proxied("127.0.0.1", sql.port) as sql_proxy, proxied("127.0.0.1", aws.port) as aws_proxy:
        addresses = {
            "DATABASE_URL": servers.database_url.replace(f":{sql.port}/", f":{sql_proxy.port}/"),
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws_proxy.port}",
        }
        with running_site(folder, servers, cards_dir, **addresses) as site:
            yield site, sql_proxy, aws_proxy
