"""Tests that SQS, PostgreSQL and S3 can each be unreachable for two minutes, and that the work then goes on by itself.

The release reaches each service through a proxy. A test scales the proxy's Deployment to 0.
"""

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import func, select

from anb_core.adapters.database.engine import Database
from anb_core.adapters.database.tables import jobs
from anb_core.domain.status import Status
from tests.support.cluster import Json, Namespace, ready
from tests.support.probing import Probe, probing, program_pod
from tests.support.release import Release
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(1200)

PROXY = Path(__file__).with_name("proxy.py").read_text(encoding="utf-8")
PORTS = {"sqs": ("localstack", 4566), "s3": ("localstack", 4566), "postgres": ("postgres", 5432)}
"""The stand-in and the port behind each proxy."""

OUTAGE_SECONDS = 120
UPLOAD_EVERY_SECONDS = 5
RESUME_SECONDS = 60
"""Within this time after the service's return, an upload is processed."""

# If KEDA lost its hold on the number of workers, it would remove a worker within the outage.
IMPATIENT = ("worker.autoscaling.scaleDownAfterSeconds=15", "worker.autoscaling.scaleDownCooldownSeconds=15")

READ = """
import json, os, sys, urllib.error, urllib.request
url = f"http://{os.environ['ANB_HOST']}{sys.argv[1]}"
request = urllib.request.Request(url, headers={"Authorization": f"Bearer {os.environ['ANB_TOKEN']}"})
try:
    answer = urllib.request.urlopen(request, timeout=20)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.headers.get("Retry-After"), answer.read().decode()[:300])
"""


@pytest.fixture(scope="module")
def _proxied(installed: Release) -> Iterator[None]:
    """Put the proxies between the release and its services."""
    namespace = installed.namespace
    for name, (stand_in, port) in PORTS.items():
        for manifest in _proxy(namespace, f"proxy-{name}", f"{stand_in}.anb-local.svc", port):
            namespace.apply(manifest)
    secret = namespace.get("secret", "anb-database")["data"]["DATABASE_URL"]
    direct = base64.b64decode(secret).decode()
    url = direct.replace("postgres.anb-local.svc", f"proxy-postgres.{namespace.name}.svc")
    assert url != direct
    namespace.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "proxied"}, "stringData": {"DATABASE_URL": url}}
    )
    installed.up(
        *IMPATIENT,
        "database.existingSecret=proxied",
        f"aws.endpointUrl=http://proxy-sqs.{namespace.name}.svc:4566",
        f"bucket.endpointUrl=http://proxy-s3.{namespace.name}.svc:4566",
    )
    yield
    installed.up()


def _proxy(namespace: Namespace, name: str, host: str, port: int) -> Iterator[Json]:
    pod = program_pod(namespace.pods("api")[0], name, PROXY, {"ANB_HOST": host, "ANB_PORT": str(port)})
    # With 0 seconds, Kubernetes would delete the pod before the proxy has ended.
    pod["spec"] |= {"restartPolicy": "Always", "terminationGracePeriodSeconds": 1}
    pod["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 1}
    labels = {"app.kubernetes.io/name": name}
    template = {"metadata": {"labels": labels}, "spec": pod["spec"]}
    selector = {"matchLabels": labels}
    deployment = {"replicas": 1, "selector": selector, "template": template}
    yield {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": deployment}
    service = {"selector": labels, "ports": [{"port": port}]}
    yield {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": service}


@dataclass
class Seen:
    """What was seen during an outage."""

    workers: set[int] = field(default_factory=set)
    """Numbers of workers."""
    unready: set[str] = field(default_factory=set)
    """Components with a pod that was not ready."""
    reads: list[str] = field(default_factory=list)
    """Answers to requests for a video: status, Retry-After, and the beginning of the body."""
    uploads: list[str] = field(default_factory=list)
    """Answers to uploads, without those at the beginning and the end of the outage."""
    fell_back: bool = False
    """Whether KEDA said that it uses its fallback."""


class Site:
    """The release behind the proxies, with a steady rate of uploads."""

    def __init__(self, release: Release, database: Database, probe: Probe) -> None:
        self._release = release
        self._database = database
        self._namespace = release.namespace
        self._probe = probe
        self.seconds_to_resume = 0.0
        self.seconds_to_finish = 0.0

    def accepted(self) -> set[str]:
        return {line.split()[2] for line in self._probe.answers() if line.startswith("202 ")}

    def processed(self, videos: set[str]) -> int:
        """Return how many of the videos are processed."""
        done = select(func.count()).where(jobs.c.video_id.in_(videos), jobs.c.status == Status.PROCESSED)
        with self._database.reading() as connection:
            return int(connection.scalar(done) or 0)

    @contextmanager
    def without(self, service: str) -> Iterator[Callable[[], Seen]]:
        """Stop a service's proxy. After the `with` block, start it and wait until all accepted uploads are processed.

        Yields a function that watches the outage to its end and returns what it saw.
        """
        eventually(lambda: len(self.accepted()) > 3 and self.processed(self.accepted()) > 0, within=120, every=1)
        known = min(self.accepted())
        restarts = self._restarts()
        self._scale(f"proxy-{service}", 0)
        begun = time.monotonic()
        try:
            eventually(lambda: not self._pods(f"app.kubernetes.io/name=proxy-{service}"), within=30, every=0.5)
            yield lambda: self._watch(known, until=begun + OUTAGE_SECONDS)
            before = self.accepted()
            done = self.processed(before)
        finally:
            # Also after a failure, because the other tests need the service.
            self._scale(f"proxy-{service}", 1)
        self._namespace.kubectl("rollout", "status", f"deployment/proxy-{service}", "--timeout=60s")
        returned = time.monotonic()
        # No upload is accepted during an outage of S3, so perhaps none waits. Then a new one must be processed.
        eventually(lambda: self.processed(self.accepted()) > done, within=RESUME_SECONDS, every=0.5)
        self.seconds_to_resume = time.monotonic() - returned
        eventually(lambda: self.accepted() > before, within=RESUME_SECONDS, every=1)
        self._probe.stop()
        videos = self.accepted()
        eventually(lambda: self.processed(videos) == len(videos), within=600, every=1)
        self.seconds_to_finish = time.monotonic() - returned
        assert all(len(self._release.results(video_id)) == 1 for video_id in videos)
        assert self._restarts() == restarts

    def two_workers(self) -> None:
        self._scale("anb-worker", 2)

    def _watch(self, known: str, *, until: float) -> Seen:
        seen = Seen()
        eventually(lambda: len(self._namespace.pods("worker")) == self._release.workers(), within=60)
        first = len(self._probe.answers()) + 1
        while time.monotonic() < until:
            seen.workers.add(self._release.workers())
            for component in ("api", "worker", "operator"):
                if not all(map(ready, self._namespace.pods(component))):
                    seen.unready.add(component)
            seen.reads.append(self._read(f"/api/videos/{known}"))
            conditions = self._namespace.get("scaledobject", "anb-worker")["status"]["conditions"]
            seen.fell_back |= any(one["type"] == "Fallback" and one["status"] == "True" for one in conditions)
            time.sleep(2)
        seen.uploads = self._probe.answers()[first:-1]
        return seen

    def _read(self, path: str) -> str:
        return self._namespace.kubectl("exec", "probe", "--", "python", "-c", READ, path).strip()

    def _scale(self, deployment: str, replicas: int) -> None:
        self._namespace.kubectl("scale", f"deployment/{deployment}", f"--replicas={replicas}")

    def _pods(self, selector: str) -> list[Json]:
        return self._namespace.items("pods", "--selector", selector)

    def _restarts(self) -> dict[str, int]:
        """Return the number of restarts of each component's containers."""
        return {
            component: sum(
                status["restartCount"]
                for pod in self._namespace.pods(component)
                for status in pod["status"]["containerStatuses"]
            )
            for component in ("api", "worker", "operator")
        }


@pytest.fixture
def site(_proxied: None, release: Release, blink: Path, tmp_path: Path) -> Iterator[Site]:
    manifest = tmp_path / "probe.json"
    with (
        # This connection does not go through the proxy.
        release.database() as database,
        probing(release.namespace, blink, manifest, seconds=UPLOAD_EVERY_SECONDS, keep=True) as probe,
    ):
        site = Site(release, database, probe)
        yield site
        release.receipts.update(site.accepted())


def test_without_sqs_uploads_are_accepted_and_no_worker_is_removed(site: Site, measured: Callable[[str], None]) -> None:
    with site.without("sqs") as watched:
        site.two_workers()
        seen = watched()
    assert {line.split()[0] for line in seen.uploads} == {"202"}
    assert len(seen.uploads) > OUTAGE_SECONDS / UPLOAD_EVERY_SECONDS / 2
    assert {answer.split()[0] for answer in seen.reads} == {"200"}
    assert seen.workers == {2}
    assert seen.fell_back
    assert "api" not in seen.unready
    measured(_sentence("SQS", site))


def test_without_postgresql_requests_get_a_sentence_and_the_pods_stay(
    site: Site, measured: Callable[[str], None]
) -> None:
    with site.without("postgres") as watched:
        seen = watched()
    assert {_refusal(line) for line in seen.uploads} == {("503", "database_unavailable")}
    assert {tuple(answer.split()[:2]) for answer in seen.reads} == {("503", "5")}
    assert all("The database does not answer; try again in a moment." in answer for answer in seen.reads)
    assert "api" not in seen.unready
    measured(_sentence("PostgreSQL", site))


def test_without_s3_uploads_get_a_sentence_and_statuses_can_be_read(
    site: Site, measured: Callable[[str], None]
) -> None:
    with site.without("s3") as watched:
        seen = watched()
    assert {_refusal(line) for line in seen.uploads} == {("503", "bucket_unavailable")}
    assert {answer.split()[0] for answer in seen.reads} == {"200"}
    assert "api" not in seen.unready
    measured(_sentence("S3", site))


def _refusal(line: str) -> tuple[str, str]:
    """Return the status and the code of the problem in a line of the probe."""
    status, _, rest = line.partition(" ")
    _, _, problem = rest.partition("{")
    return status, json.loads("{" + problem.rstrip("'"))["code"]


def _sentence(service: str, site: Site) -> str:
    return (
        f"{site.seconds_to_resume:.0f} s after the return of {service} an upload was processed, "
        f"and all were processed after {site.seconds_to_finish:.0f} s"
    )
