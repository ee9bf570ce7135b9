"""Counts the requests that the programs make on moto, and compares them with those that tools/costs.py counts."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from moto import mock_aws

from anb_api.settings import ApiSettings
from anb_core.adapters.system import SystemRuntime, new_id
from anb_core.domain.model import Scope
from anb_core.domain.status import Status
from anb_core.settings.loading import load
from anb_core.usecases.shutdown import Shutdown
from anb_core.usecases.tokens import create_token
from anb_worker import app as worker_app
from anb_worker.scratch import ScratchDisk
from anb_worker.settings import WorkerSettings
from tests.support import eventually
from tests.support.api import BOUNDARY, VIDEO, form, serving
from tests.support.given import record_of
from tests.support.parts import Parts, opened_parts
from tests.support.renderer import FakeRenderer
from tests.support.stores import Sql
from tools import costs


@contextmanager
def counting() -> Iterator[Counter[str]]:
    """Count the calls of new clients by their names."""
    calls: Counter[str] = Counter()
    make = boto3.session.Session.client

    def client(*args: Any, **kwargs: Any) -> Any:
        made = make(*args, **kwargs)
        made.meta.events.register("before-call.*.*", lambda model, **_: calls.update([model.name]))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boto3.session.Session, "client", client)
        yield calls


def test_a_video_takes_the_requests_that_the_bill_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    for name, value in {
        "DATABASE_URL": f"sqlite:///{tmp_path / 'anb.db'}",
        "S3_BUCKET": "anb-films",
        "SQS_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/films",
        "SQS_WAIT_TIME_SECONDS": "1",
        "AWS_REGION": "us-east-1",
        "ANB_SWEEP_SECONDS": "300",
        "ANB_API_LISTEN": "127.0.0.1:0",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tests.support.renderer.SOURCE", VIDEO)
    with mock_aws(), counting() as calls, ExitStack() as stack:
        boto3.client("s3").create_bucket(Bucket="anb-films")
        boto3.client("sqs").create_queue(QueueName="films")
        parts = stack.enter_context(opened_parts())
        token = create_token(parts.store, owner="ada", scope=Scope.USER, new_id=new_id).secret
        url, context = stack.enter_context(serving(load(ApiSettings), parts))
        client = stack.enter_context(httpx.Client(headers={"Authorization": f"Bearer {token}"}, trust_env=False))
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        video_id = client.post(f"{url}/api/videos/upload", content=form(), headers=kind).json()["video_id"]
        with working(parts, tmp_path):
            eventually(lambda: record_of(parts.store, video_id).job.status is Status.PROCESSED, within=30)
            eventually(lambda: calls["DeleteMessage"])
        assert calls["HeadObject"] + calls["GetObject"] + 1 == costs.WORKER_READS
        assert calls["HeadBucket"] >= 1
        assert calls["ListObjectsV2"] + 1 == costs.LISTINGS
        assert calls["PutObject"] == 2
        assert calls["SendMessageBatch"] + 1 + calls["DeleteMessage"] == costs.QUEUE_CALLS

        client.delete(f"{url}/api/videos/{video_id}")
        Sql(f"sqlite:///{tmp_path / 'anb.db'}").pass_time(timedelta(hours=25))
        calls.clear()
        context.sweep.sweep()
        assert calls == {"GetQueueAttributes": costs.SWEEP_CALLS, "ListMultipartUploads": 1, "DeleteObjects": 1}


@contextmanager
def working(parts: Parts, folder: Path) -> Iterator[None]:
    """Run a worker with a fake renderer."""
    settings, runtime = load(WorkerSettings), SystemRuntime()
    shutdown = Shutdown(settings.drain, runtime)
    with ScratchDisk(folder / "scratch") as scratch:
        worker = threading.Thread(
            target=worker_app.run,
            args=(settings,),
            kwargs={
                "store": parts.store,
                "objects": parts.objects,
                "queue": parts.queue,
                "renderer": FakeRenderer(),
                "scratch": scratch,
                "shutdown": shutdown,
                "runtime": runtime,
            },
        )
        worker.start()
        try:
            yield
        finally:
            shutdown.request("the test ends")
            worker.join(30)
