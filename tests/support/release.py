"""The release under test, which deploy/local/up installs, and its bucket and queue."""

import base64
import os
import subprocess
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import boto3

from anb_core.adapters.database.engine import Database
from anb_core.testing.promises import Evidence, Shown, read_evidence
from tests.support.aws import receive_too_often
from tests.support.cluster import Json, Namespace
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
NAME = "anb-e2e"
LOCAL = Namespace("anb-local")
BUCKET = "anb-videos"
QUEUE = "anb-video-processing-queue"
DEAD_LETTER_QUEUE = f"{QUEUE}-dlq"

# An edit without intro, outro and watermark. With this edit, a clip of one second makes the fastest possible job.
QUICK = {"watermark": {"enabled": False}, "intro": {"enabled": False}, "outro": {"enabled": False}}


@dataclass(frozen=True)
class Release:
    """The release under test. `storage` is a local URL that a port-forward connects to LocalStack."""

    namespace: Namespace
    storage: str

    def up(self, *values: str, broker: str = "sqs") -> None:
        """Install the release with deploy/local/up, or change its values. Returns when everything is ready.

        The queue is on the broker `sqs` or `celery`. With `both`, workers also empty the queue of Celery.
        """
        # The short backoff lets all attempts of a failing job end within seconds.
        usual = (f"bucket.publicEndpoint={self.storage}", "config.ANB_BACKOFF_SECONDS=1")
        sets = [part for value in (*usual, *values) for part in ("--set", value)]
        done = subprocess.run(
            [ROOT / "deploy" / "local" / "up", *sets],
            env=os.environ | {"NAMESPACE": self.namespace.name, "BROKER": broker},
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"deploy/local/up exits with {done.returncode}:\n{done.stdout}{done.stderr}")

    def token(self) -> str:
        """Return the bootstrap token, which has the scope `ops`."""
        secret = self.namespace.get("secret", "anb-bootstrap-token")["data"]["ANB_BOOTSTRAP_TOKEN"]
        return base64.b64decode(secret).decode()

    def workers(self) -> int:
        """Return the number of worker pods, including starting pods and excluding pods that are being deleted."""
        return int(self.namespace.get("deployment", "anb-worker")["status"].get("replicas", 0))

    def put(self, key: str, clip: Path) -> None:
        """Put an object into the bucket."""
        boto3.client("s3", endpoint_url=self.storage).upload_file(str(clip), BUCKET, key)

    def remove(self, key: str) -> None:
        """Remove an object from the bucket."""
        boto3.client("s3", endpoint_url=self.storage).delete_object(Bucket=BUCKET, Key=key)

    def submit(self, name: str, key: str, *, edit: Json | None = None) -> None:
        """Apply a VideoJob for an object in the bucket."""
        spec = {"source": {"key": key}, "title": name, **({"edit": edit} if edit else {})}
        self.namespace.apply(
            {"apiVersion": "anb.video/v1alpha1", "kind": "VideoJob", "metadata": {"name": name}, "spec": spec}
        )

    def results(self, video_id: str) -> list[str]:
        """Return the keys of a video's results in the bucket."""
        found = boto3.client("s3", endpoint_url=self.storage).list_objects_v2(
            Bucket=BUCKET, Prefix=f"processed/{video_id}/"
        )
        return [entry["Key"] for entry in found.get("Contents", [])]

    def messages(self, queue: str = QUEUE) -> tuple[int, int]:
        """Return the number of visible messages and the number of messages in flight."""
        sqs = boto3.client("sqs", endpoint_url=self.storage)
        url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
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
        receive_too_often(boto3.client("sqs", endpoint_url=self.storage), QUEUE)

    @contextmanager
    def database(self) -> Iterator[Database]:
        """Connect to the release's database through a port-forward."""
        password = base64.b64decode(LOCAL.get("secret", "postgres")["data"]["password"]).decode()
        with (
            LOCAL.forwarded("postgres", 5432) as url,
            closing(Database(f"postgresql+psycopg://anb:{password}@{urlsplit(url).netloc}/anb")) as database,
        ):
            yield database

    def evidence(self, receipts: Collection[str], *, at_rest: bool = False) -> Evidence:
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
                bucket=BUCKET,
                sqs=sqs if at_rest else None,
                queue_urls=[sqs.get_queue_url(QueueName=name)["QueueUrl"] for name in (QUEUE, DEAD_LETTER_QUEUE)],
                receipts=receipts,
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
