"""Compares the roles of deploy/aws/roles.yaml with the calls that the programs make.

Each component runs with its own wiring on moto, in this process, while a hook of botocore records its calls. A call
without a permission fails a test, and so does a permission without a call. The end-to-end tests also record the calls
of KEDA.
"""

import asyncio
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

from anb_api.settings import ApiSettings
from anb_core.adapters.system import SystemRuntime, new_id
from anb_core.bootstrap import open_alerts, open_dead_letter_queue, open_metrics
from anb_core.domain.keys import upload_key
from anb_core.domain.model import Scope
from anb_core.domain.status import Status
from anb_core.settings.loading import load
from anb_core.usecases import commands
from anb_core.usecases.shutdown import Shutdown
from anb_core.usecases.tokens import create_token
from anb_core.usecases.visibility import Caller
from anb_operator import app
from anb_operator.settings import OperatorSettings
from anb_worker import app as worker_app
from anb_worker.scratch import ScratchDisk
from anb_worker.settings import WorkerSettings
from tests.support import eventually
from tests.support.api import BOUNDARY, VIDEO, form, serving
from tests.support.fake_api_server import ApiServer, serving_cluster
from tests.support.given import failed, processed, record_of, uploaded
from tests.support.parts import Parts, opened_parts
from tests.support.permissions import (
    BUCKET,
    DEAD_LETTER_QUEUE,
    QUEUE,
    TOPIC,
    Permission,
    missing,
    permissions_for,
    unused,
)
from tests.support.renderer import SOURCE, FakeRenderer
from tests.support.stores import Sql
from tools.aws import ACCOUNT, REGION

PATIENCE = timedelta(seconds=20)


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
    address = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{QUEUE}"
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
        made.meta.events.register("provide-client-params.*.*", note)
        return made

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        needed.update(permissions_for(model.name, params))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boto3.session.Session, "client", client)
        yield needed


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

    assert (missing("ApiRole", site.needed), unused("ApiRole", site.needed)) == (set(), set())


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

    assert (missing("WorkerRole", site.needed), unused("WorkerRole", site.needed)) == (set(), set())


def test_the_operator_needs_exactly_the_permissions_of_its_role(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anb_core.usecases.announce_dead_letters.INTERVAL", timedelta(milliseconds=50))
    of_a_newer_version = uploaded(site.parts.store)
    site.database.spoil(of_a_newer_version)
    for body in ("nobody can read this", json.dumps({"video_id": of_a_newer_version, "task_id": new_id()})):
        site.sqs.send_message(QueueUrl=f"{site.parts.queue.name}-dlq", MessageBody=body)
    site.s3.put_object(Bucket=BUCKET, Key="camera/1.mp4", Body=SOURCE)
    cluster = ApiServer()
    # The first VideoJob submits an object. The second one retries a video, whose object the operator looks for.
    cluster.create({"metadata": {"name": "film"}, "spec": {"source": {"key": "camera/1.mp4"}}})
    cluster.create({"metadata": {"name": "again"}, "spec": {"videoId": failed(site.parts.store), "retry": "again"}})

    def done() -> bool:
        wanted = ("sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sns:Publish", "cloudwatch:PutMetricData")
        statuses = {name: videojob.get("status", {}) for name, videojob in cluster.videojobs.items()}
        reconciled = statuses["film"].get("phase") == "uploaded" and statuses["again"].get("retry") == "again"
        return reconciled and all(site.called(action) for action in wanted)

    async def operate() -> None:
        async with serving_cluster(cluster, tmp_path) as environment:
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            settings = load(OperatorSettings)
            queue = open_dead_letter_queue(settings, patience=PATIENCE)
            alerts = open_alerts(settings, patience=PATIENCE)
            metrics = open_metrics(settings, release="video/anb", patience=PATIENCE)
            store, objects = site.parts.store, site.parts.objects
            running = asyncio.create_task(
                app.run(settings, store, objects, dead_letter_queue=queue, alerts=alerts, metric_sink=metrics)
            )
            try:
                await asyncio.to_thread(eventually, done)
                ready = f"http://{settings.listen}/readyz"
                assert (await asyncio.to_thread(httpx.get, ready, trust_env=False)).status_code == 200
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                for part in (queue, alerts, metrics):
                    if part:
                        part.close()

    asyncio.run(operate())

    assert (missing("OperatorRole", site.needed), unused("OperatorRole", site.needed)) == (set(), set())
