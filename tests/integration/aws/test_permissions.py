"""Compares the roles of deploy/aws/roles.yaml with the calls that the programs make.

Each component runs with its own wiring on moto, in this process, while a hook of botocore records its calls. A call
without a permission fails a test, and so does a permission without a call. KEDA's role is not tested, because the calls
of KEDA can't be recorded here.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from moto import mock_aws
from prometheus_client import CollectorRegistry

from anb_api.settings import ApiSettings
from anb_core.adapters.system import SystemRuntime, new_id
from anb_core.bootstrap import make_dead_letter_loops, make_submit, open_alerts, open_dead_letter_queue, open_metrics
from anb_core.domain.errors import Conflict
from anb_core.domain.keys import upload_key
from anb_core.domain.model import Scope
from anb_core.domain.status import Status
from anb_core.settings.loading import load
from anb_core.telemetry import DeadLetterMetrics
from anb_core.usecases import commands
from anb_core.usecases.background import background
from anb_core.usecases.shutdown import Shutdown
from anb_core.usecases.tokens import create_token
from anb_core.usecases.visibility import Caller
from anb_operator.settings import OperatorSettings
from anb_worker import app as worker_app
from anb_worker.scratch import ScratchDisk
from anb_worker.settings import WorkerSettings
from tests.support import eventually
from tests.support.api import BOUNDARY, VIDEO, form, serving
from tests.support.given import failed, processed, record_of, uploaded
from tests.support.parts import Parts, opened_parts
from tests.support.renderer import SOURCE, FakeRenderer
from tests.support.stores import Sql
from tools.aws import permissions, plan

BUCKET, QUEUE, DEAD_LETTER_QUEUE = "anb-films", "films", "films-dlq"
ACCOUNT = "us-east-1:123456789012"
TOPIC = f"arn:aws:sns:{ACCOUNT}:films"
PATIENCE = timedelta(seconds=20)

ACTIONS = {
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObjects": "s3:DeleteObject",
    "SendMessageBatch": "sqs:SendMessage",
    "ReceiveMessage": "sqs:ReceiveMessage",
    "DeleteMessage": "sqs:DeleteMessage",
    "ChangeMessageVisibility": "sqs:ChangeMessageVisibility",
    "GetQueueAttributes": "sqs:GetQueueAttributes",
    "Publish": "sns:Publish",
    "PutMetricData": "cloudwatch:PutMetricData",
}
"""Maps each API call to the IAM action that the call needs. Some actions have other names than their calls."""

Permission = tuple[str, str]
"""An action and the ARN of a resource."""


@dataclass(frozen=True, slots=True)
class Site:
    """A deployment on moto, and two clients that are not recorded."""

    parts: Parts
    database: Sql
    s3: Any
    sqs: Any
    needed: set[Permission]
    """The permissions for all calls that the component has made."""

    def called(self, action: str, arn: str = "*") -> bool:
        """Return whether a call needed this action on a resource that matches `arn`."""
        return any(done == action and fnmatchcase(used, arn) for done, used in list(self.needed))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A new deployment. The boto3 clients that are created from now on are recorded."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    address = f"https://sqs.us-east-1.amazonaws.com/123456789012/{QUEUE}"
    for name, value in {
        "DATABASE_URL": f"sqlite:///{tmp_path / 'anb.db'}",
        "S3_BUCKET": BUCKET,
        "SQS_QUEUE_URL": address,
        "SQS_WAIT_TIME_SECONDS": "1",
        "AWS_REGION": "us-east-1",
        "ANB_SNS_TOPIC_ARN": TOPIC,
        "ANB_CLOUDWATCH_NAMESPACE": "ANBVideo",
        "ANB_SWEEP_SECONDS": "1",
        "ANB_HEARTBEAT_SECONDS": "1",
        "ANB_OPERATOR_NAMESPACE": "video",
        "ANB_SOURCE_PREFIXES": "camera/",
    }.items():
        monkeypatch.setenv(name, value)
    with mock_aws(), ExitStack() as stack:
        s3, sqs = boto3.client("s3"), boto3.client("sqs")
        s3.create_bucket(Bucket=BUCKET)
        for name in (QUEUE, DEAD_LETTER_QUEUE):
            sqs.create_queue(QueueName=name)
        boto3.client("sns").create_topic(Name="films")
        needed = stack.enter_context(recording())
        parts = stack.enter_context(opened_parts())
        database = Sql(f"sqlite:///{tmp_path / 'anb.db'}")
        stack.callback(database.close)
        yield Site(parts, database, s3, sqs, needed)


@contextmanager
def recording() -> Iterator[set[Permission]]:
    """Record the permissions that the calls of new clients need. A signed URL counts as a call."""
    needed: set[Permission] = set()
    make = boto3.session.Session.client

    def client(*args: Any, **kwargs: Any) -> Any:
        made = make(*args, **kwargs)
        made.meta.events.register("provide-client-params.*.*", lambda params, model, **_: note(params, model.name))
        return made

    def note(params: dict[str, Any], operation: str) -> None:
        needed.update((ACTIONS[operation], arn) for arn in resources_of(params))
        if operation == "HeadObject":
            # Without this permission, S3 answers 403 instead of 404 about an object that does not exist.
            needed.add(("s3:ListBucket", f"arn:aws:s3:::{BUCKET}"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boto3.session.Session, "client", client)
        yield needed


def resources_of(params: dict[str, Any]) -> list[str]:
    """Return the ARNs of the resources in the parameters of a call."""
    match params:
        case {"Bucket": bucket, "Key": key}:
            return [f"arn:aws:s3:::{bucket}/{key}"]
        case {"Bucket": bucket, "Delete": {"Objects": objects}}:
            return [f"arn:aws:s3:::{bucket}/{item['Key']}" for item in objects]
        case {"Bucket": bucket}:
            return [f"arn:aws:s3:::{bucket}"]
        case {"QueueUrl": url}:
            return [f"arn:aws:sqs:{ACCOUNT}:{url.rpartition('/')[2]}"]
        case {"TopicArn": topic}:
            return [topic]
        case {"Namespace": "ANBVideo"}:
            return ["*"]
    raise AssertionError(f"a call with parameters of a new kind: {params}")


def check(role: str, needed: set[Permission]) -> None:
    """Fail if a call needs a permission that the role lacks, or if the role has a permission that no call needs."""
    existing = {
        "ExistingQueue": QUEUE,
        "ExistingDeadLetterQueue": DEAD_LETTER_QUEUE,
        "ExistingBucket": BUCKET,
        "ExistingTopic": TOPIC,
    }
    granted = {(action, arn) for name, action, arn in permissions(plan(existing)) if name == role}

    def matches(need: Permission, grant: Permission) -> bool:
        return need[0] == grant[0] and fnmatchcase(need[1], grant[1])

    missing = {need for need in needed if not any(matches(need, grant) for grant in granted)}
    unused = {grant for grant in granted if not any(matches(need, grant) for need in needed)}
    assert (missing, unused) == (set(), set())


def leave_behind(site: Site) -> None:
    """Delete a video, so that its two objects are due for deletion. Each also has an unfinished multipart upload."""
    video_id = processed(site.parts.store)
    record = record_of(site.parts.store, video_id)
    assert record.job.result is not None
    for key in (record.video.source_key, record.job.result.key):
        site.s3.create_multipart_upload(Bucket=BUCKET, Key=key)
    commands.delete(site.parts.store, Caller("ada"), video_id)
    site.database.pass_time(timedelta(hours=25))


def swept(site: Site) -> bool:
    """Return whether the objects of `leave_behind` and their unfinished uploads are gone."""
    actions = ("s3:AbortMultipartUpload", "s3:DeleteObject")
    return all(site.called(action, f"*/{prefix}/*") for action in actions for prefix in ("uploads", "processed"))


def test_the_api_needs_exactly_the_permissions_of_its_role(site: Site) -> None:
    leave_behind(site)
    store = site.parts.store
    ada, ops = (
        {"Authorization": f"Bearer {create_token(store, owner='ada', scope=scope, new_id=new_id).secret}"}
        for scope in (Scope.USER, Scope.OPS)
    )
    site.s3.put_object(Bucket=BUCKET, Key="camera/1.mp4", Body=VIDEO)
    with (
        serving(load(ApiSettings), site.parts) as (url, context),
        httpx.Client(base_url=url, headers=ada, timeout=60, trust_env=False) as client,
    ):
        # The second file is larger than one part, so it needs a multipart upload.
        for size in (2**10, 9 * 2**20):
            content = form(data=b"\0\0\0\x18ftypisom" + bytes(size))
            kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
            assert client.post("/api/videos/upload", content=content, headers=kind).status_code == 202
        assert client.get("/readyz").status_code == 200
        assert client.get(f"/api/videos/{processed(store)}/download").is_redirect
        assert client.post(f"/api/videos/{failed(store)}/retry").status_code == 409
        adoption = client.post("/api/adoptions", headers=ops, json={"prefix": "camera/"}).json()
        assert [one["key"] for one in adoption["adopted"]] == ["camera/1.mp4"]
        eventually(lambda: site.called("sqs:SendMessage"))
        context.sweep.sweep()
        eventually(lambda: swept(site))

    check("ApiRole", site.needed)


def test_a_worker_needs_exactly_the_permissions_of_its_role(site: Site, tmp_path: Path) -> None:
    leave_behind(site)
    store, runtime = site.parts.store, SystemRuntime()
    video_id = uploaded(store)
    site.s3.put_object(Bucket=BUCKET, Key=upload_key(video_id), Body=SOURCE)
    settings = load(WorkerSettings)
    shutdown = Shutdown(settings.drain, runtime)

    def until_a_heartbeat() -> None:
        eventually(lambda: site.called("sqs:ChangeMessageVisibility"))

    with ScratchDisk(tmp_path / "scratch") as scratch:

        def work() -> None:
            worker_app.run(
                settings,
                store=store,
                objects=site.parts.objects,
                queue=site.parts.queue,
                renderer=FakeRenderer(during=until_a_heartbeat),
                scratch=scratch,
                shutdown=shutdown,
                runtime=runtime,
            )

        worker = threading.Thread(target=work)
        worker.start()
        eventually(lambda: record_of(store, video_id).job.status is Status.PROCESSED, within=30)
        eventually(lambda: site.called("sqs:DeleteMessage"))
        eventually(lambda: swept(site))
        shutdown.request("the test ends")
        worker.join(30)

    check("WorkerRole", site.needed)


def test_the_operator_needs_exactly_the_permissions_of_its_role(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anb_core.usecases.announce_dead_letters.INTERVAL", timedelta(milliseconds=50))
    settings, store, objects, runtime = load(OperatorSettings), site.parts.store, site.parts.objects, SystemRuntime()
    of_a_newer_version = uploaded(store)
    site.database.spoil(of_a_newer_version)
    for body in ("nobody can read this", json.dumps({"video_id": of_a_newer_version, "task_id": new_id()})):
        site.sqs.send_message(QueueUrl=settings.sqs_dlq_url, MessageBody=body)
    site.s3.put_object(Bucket=BUCKET, Key="camera/1.mp4", Body=SOURCE)

    # The reconciler runs the next two commands. The readiness probe checks that the bucket exists.
    submit = make_submit(settings, store, objects, wake_relay=lambda: None)
    submit.submit_existing("camera/1.mp4", new_id(), owner="ada", title="A film")
    with pytest.raises(Conflict, match="is gone"):
        commands.retry(store, objects, Caller("ops", Scope.OPS), failed(store), wake_relay=lambda: None)
    objects.ensure()
    queue = open_dead_letter_queue(settings, patience=PATIENCE)
    alerts = open_alerts(settings, patience=PATIENCE)
    sink = open_metrics(settings, release="video/anb", patience=PATIENCE)
    assert queue
    assert alerts
    assert sink
    sink.publish({"Workers": 1})
    metrics = DeadLetterMetrics(store, CollectorRegistry())
    loops = make_dead_letter_loops(settings, store, queue, alerts, metrics=metrics, runtime=runtime)
    with background(runtime, loops.loops, wake=lambda: None):
        wanted = ("sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sns:Publish")
        eventually(lambda: all(site.called(action) for action in wanted), within=30)
    for part in (queue, alerts, sink):
        part.close()

    check("OperatorRole", site.needed)
