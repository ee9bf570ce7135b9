"""The releases under test, which deploy/local/up installs, and their buckets, queues and databases."""

import base64
import fcntl
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

import boto3
import pytest

from anb_cli.client import Api
from anb_cli.sources import opened
from anb_core.adapters.database.engine import Database
from anb_core.domain.retry import RetryPolicy
from anb_core.testing.promises import Evidence, Shown, check_promises, read_evidence, violations
from tests.support.aws import receive_too_often
from tests.support.chart import CHART, tool
from tests.support.cluster import Json, Namespace, delete_namespaces
from tests.support.recorded_calls import record_calls, save_calls
from tests.support.tether import free_port
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
NAME = "anb-e2e"
"""The namespace of the first release, which owns the CRD of VideoJobs."""
LOCAL = Namespace("anb-local")
QUEUES = "http://localstack.anb-local.svc:4566/000000000000"
"""The URL of the stand-in's queues, as pods reach them."""
POLICY = RetryPolicy()
CRD = "videojobs.anb.video"

# An edit without intro, outro and watermark. With this edit, a clip of one second makes the fastest possible job.
QUICK = {"watermark": {"enabled": False}, "intro": {"enabled": False}, "outro": {"enabled": False}}


@dataclass(frozen=True)
class Release:
    """A release under test. `storage` is a local URL that a port-forward connects to LocalStack.

    The first release has the names of the preset `kind-values.yaml`. Every other release has a bucket, queues and a
    database of its own.
    """

    namespace: Namespace
    storage: str
    own: str = ""
    """The name of the bucket, the queue and the database. Empty for the first release."""
    receipts: set[str] = field(default_factory=set)
    """The ids of all videos for which a client got the status 202."""

    @property
    def bucket(self) -> str:
        return self.own or "anb-videos"

    @property
    def queue(self) -> str:
        return self.own or "anb-video-processing-queue"

    @property
    def dead_letter_queue(self) -> str:
        return f"{self.queue}-dlq"

    @property
    def database_name(self) -> str:
        return self.own or "anb"

    def up(self, *values: str, broker: str = "sqs", chart: Path = CHART) -> None:
        """Install the release with deploy/local/up, or change its values. Returns when everything is ready.

        The queue is on the broker `sqs` or `celery`. With `both`, workers also empty the queue of Celery.
        """
        # The short backoff lets all attempts of a failing job end within seconds.
        usual = [f"bucket.publicEndpoint={self.storage}", "config.ANB_BACKOFF_SECONDS=1"]
        if self.own:
            usual += ["crds.install=false", f"bucket.name={self.bucket}", f"queue.url={QUEUES}/{self.queue}"]
        sets = [part for value in (*usual, *values) for part in ("--set", value)]
        where = {"NAMESPACE": self.namespace.name, "DATABASE": self.database_name, "CHART": str(chart)}
        done = subprocess.run(
            [ROOT / "deploy" / "local" / "up", *sets],
            env=os.environ | where | {"BROKER": broker},
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"deploy/local/up exits with {done.returncode}:\n{done.stdout}{done.stderr}")

    def uninstall(self) -> None:
        """Remove the release and its namespace, but nothing that it has on the stand-ins."""
        tool("helm", "uninstall", "anb", "--namespace", self.namespace.name, "--ignore-not-found", "--wait")
        delete_namespaces(self.namespace.name)

    def token(self) -> str:
        """Return the bootstrap token, which has the scope `ops`."""
        secret = self.namespace.get("secret", "anb-bootstrap-token")["data"]["ANB_BOOTSTRAP_TOKEN"]
        return base64.b64decode(secret).decode()

    def upload(self, api: Api, clip: Path, *, title: str = "A title", edit: Json | None = None) -> str:
        """Upload a clip to the release's API. Returns the video's id."""
        with opened(clip, lambda _: None) as source:
            receipt = api.upload(source, title=title, edit=edit, on_bytes=lambda _: None)
        video_id = str(receipt["video_id"])
        self.receipts.add(video_id)
        return video_id

    def workers(self) -> int:
        """Return the number of worker pods, including starting pods and excluding pods that are being deleted."""
        return int(self.namespace.get("deployment", "anb-worker")["status"].get("replicas", 0))

    def put(self, key: str, clip: Path) -> None:
        """Put an object into the bucket."""
        boto3.client("s3", endpoint_url=self.storage).upload_file(str(clip), self.bucket, key)

    def remove(self, key: str) -> None:
        """Remove an object from the bucket."""
        boto3.client("s3", endpoint_url=self.storage).delete_object(Bucket=self.bucket, Key=key)

    def submit(self, name: str, key: str, *, edit: Json | None = None) -> None:
        """Apply a VideoJob for an object in the bucket."""
        spec = {"source": {"key": key}, "title": name, **({"edit": edit} if edit else {})}
        self.namespace.apply(
            {"apiVersion": "anb.video/v1alpha1", "kind": "VideoJob", "metadata": {"name": name}, "spec": spec}
        )

    def results(self, video_id: str) -> list[str]:
        """Return the keys of a video's results in the bucket."""
        found = boto3.client("s3", endpoint_url=self.storage).list_objects_v2(
            Bucket=self.bucket, Prefix=f"processed/{video_id}/"
        )
        return [entry["Key"] for entry in found.get("Contents", [])]

    def messages(self, queue: str = "") -> tuple[int, int]:
        """Return the number of visible messages and the number of messages in flight, by default of the main queue."""
        sqs = boto3.client("sqs", endpoint_url=self.storage)
        url = sqs.get_queue_url(QueueName=queue or self.queue)["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return int(attributes["ApproximateNumberOfMessages"]), int(attributes["ApproximateNumberOfMessagesNotVisible"])

    def send(self, bodies: Sequence[str], *, to: str) -> set[str]:
        """Send messages to the queue with the name `to`, as another program does. Returns the ids of the messages."""
        sqs = boto3.client("sqs", endpoint_url=self.storage)
        url = sqs.get_queue_url(QueueName=to)["QueueUrl"]
        ids: set[str] = set()
        for first in range(0, len(bodies), 10):
            batch = enumerate(bodies[first : first + 10])
            sent = sqs.send_message_batch(
                QueueUrl=url, Entries=[{"Id": str(number), "MessageBody": body} for number, body in batch]
            )
            ids |= {entry["MessageId"] for entry in sent["Successful"]}
        return ids

    def receive_too_often(self) -> None:
        """Receive all messages of the queue again and again without deleting them, until the queue has moved them."""
        receive_too_often(boto3.client("sqs", endpoint_url=self.storage), self.queue)

    @contextmanager
    def database(self) -> Iterator[Database]:
        """Connect to the release's database through a port-forward."""
        password = base64.b64decode(LOCAL.get("secret", "postgres")["data"]["password"]).decode()
        with LOCAL.forwarded("postgres", 5432) as url:
            address = f"{urlsplit(url).netloc}/{self.database_name}"
            with closing(Database(f"postgresql+psycopg://anb:{password}@{address}")) as database:
                yield database

    def evidence(self, *, at_rest: bool = False) -> Evidence:
        """Read the evidence for the checker of the promises. Read the queues and the VideoJobs only with `at_rest`."""
        session = boto3.session.Session()
        with (
            self.database() as database,
            closing(session.client("s3", endpoint_url=self.storage)) as s3,
            closing(session.client("sqs", endpoint_url=self.storage)) as sqs,
        ):
            return read_evidence(
                database,
                s3=s3,
                bucket=self.bucket,
                sqs=sqs if at_rest else None,
                queue_urls=[
                    sqs.get_queue_url(QueueName=name)["QueueUrl"] for name in (self.queue, self.dead_letter_queue)
                ],
                receipts=self.receipts,
                videojobs=self.shown() if at_rest else None,
            )

    def shown(self) -> dict[str, Shown]:
        """Map the id of each video to the state that its VideoJob shows."""
        statuses = [videojob.get("status", {}) for videojob in self.namespace.items("videojobs")]
        return {
            status["videoId"]: Shown(status.get("phase"), status.get("attempts"))
            for status in statuses
            if "videoId" in status
        }

    def until(self, videojob: str, phase: str, *, within: float = 180) -> Json:
        """Wait until a VideoJob is in the given phase. Returns the VideoJob's status."""

        def reached() -> Json | None:
            status = self.namespace.status(videojob)
            return status if status.get("phase") == phase else None

        return eventually(reached, within=within, every=0.5) or {}


@contextmanager
def installing(name: str, *values: str, chart: Path = CHART) -> Iterator[Release]:
    """Install a release into an empty namespace. After the `with` block, every promise must be kept.

    `values` and `chart` are those of `Release.up`.
    Several releases may be installed at the same time, also by several processes. The first one of them starts the
    stand-ins, and the last one removes them, and the CRD of VideoJobs with them.
    """
    own = "" if name == NAME else f"{name}-{token_hex(3)}"
    release = Release(Namespace(name), f"http://127.0.0.1:{free_port()}", own)
    with _one_at_a_time():
        _refuse_if_in_use()
        release.uninstall()
        if not _releases():
            delete_namespaces(LOCAL.name)
            record_calls(LOCAL)
        if own:
            _create_crd()
        release.up(*values, chart=chart)
    try:
        yield release
        _check_at_rest(release)
        save_calls(LOCAL)
    finally:
        with _one_at_a_time():
            release.uninstall()
            if not _releases():
                delete_namespaces(LOCAL.name)
                tool("kubectl", "delete", "crd", CRD, "--ignore-not-found")


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Wait until no other process of this machine installs or removes a release."""
    with (Path(tempfile.gettempdir()) / "anb-e2e.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _releases() -> list[Json]:
    """Return the Deployments of all releases on the cluster."""
    return LOCAL.items("deployments", "--all-namespaces", "--selector=app.kubernetes.io/name=anb-video")


def _refuse_if_in_use() -> None:
    """Fail if a release of another chart user has the CRD of VideoJobs, because the tests delete the CRD."""
    crd = tool("kubectl", "get", "crd", CRD, "--ignore-not-found", "--output=json").stdout
    if not crd:
        return
    metadata = json.loads(crd)["metadata"]
    owner = metadata.get("annotations", {}).get("meta.helm.sh/release-namespace")
    if owner != NAME and "deletionTimestamp" not in metadata:
        release = f"the namespace {owner} has a release" if owner else "it has the CRD of VideoJobs, by no release"
        pytest.fail(f"this cluster is in use: {release}. These tests want one of their own")


def _create_crd() -> None:
    """Create the CRD of VideoJobs if it is missing, with the first release as its owner, which then adopts it."""
    if tool("kubectl", "get", "crd", CRD, "--ignore-not-found").stdout:
        return
    tool("kubectl", "create", "--filename", str(CHART / "files" / "videojob-crd.yaml"))
    tool("kubectl", "label", "crd", CRD, "app.kubernetes.io/managed-by=Helm")
    owner = ("meta.helm.sh/release-name=anb", f"meta.helm.sh/release-namespace={NAME}")
    tool("kubectl", "annotate", "crd", CRD, *owner)


def _check_at_rest(release: Release) -> None:
    """Wait until the work is done, then check the promises on the rows, the bucket, the queues and the VideoJobs."""

    def look() -> Evidence:
        return release.evidence(at_rest=True)

    with LOCAL.forwarded("localstack", 4566, to=urlsplit(release.storage).port):
        with suppress(AssertionError):
            eventually(lambda: not violations(look(), POLICY, at_rest=True), within=180, every=5)
        check_promises(look(), POLICY, at_rest=True)
