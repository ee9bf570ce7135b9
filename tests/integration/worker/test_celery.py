"""Tests of workers whose queue is on a Celery broker that real Celery programs use, too."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery

from anb_core.adapters.system import SystemRuntime
from anb_core.domain.keys import upload_key
from anb_core.domain.status import Status
from anb_core.testing.promises import violations
from anb_core.usecases.relay import Relay
from tests.integration.worker.conftest import LEASE, MakeSite, Site
from tests.support import eventually
from tests.support.brokers import running_redis
from tests.support.tether import free_port

DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"


@pytest.fixture(params=["redis_url", pytest.param("rabbitmq_url", marks=pytest.mark.debian)])
def site(request: pytest.FixtureRequest, make_site: MakeSite, sqlite_url: str, ministack_url: str) -> Iterator[Site]:
    """A test deployment with a database on SQLite, a bucket on the emulator, and a queue on a Celery broker."""
    with make_site(sqlite_url, ministack_url, broker_url=request.getfixturevalue(request.param)) as site:
        yield site


def test_an_upload_and_a_real_celery_producers_task_are_processed_and_a_strange_task_is_recorded(site: Site) -> None:
    site.let_go()
    own, strange = site.upload(), str(uuid4())
    with site.parts.objects.writing(upload_key(strange), content_type="video/mp4") as writer:
        writer.write(b"video")
        writer.commit()
    with Celery("producer", broker=os.environ["CELERY_BROKER_URL"], set_as_current=False) as producer:
        producer.conf.task_default_queue = os.environ["CELERY_TASK_DEFAULT_QUEUE"]
        fields = {"video_id": strange, "file_path": upload_key(strange), "status": "pending", "timestamp": 0}
        producer.send_task("anb.process_video", kwargs=fields)
        mail = producer.send_task("app.send_mail", args=["ada@example.org"])

    site.held_worker(ANB_ADOPT_OWNER="older")

    site.until(own, Status.PROCESSED)
    eventually(lambda: site.parts.store.listing(owner="older"))
    site.until(strange, Status.PROCESSED)
    [letter] = eventually(site.database.dead_letters)
    assert (letter.message_id, letter.detail) == (mail.id, "the body has no video_id")
    eventually(lambda: site.parts.queue.depth().empty)


def test_a_video_whose_worker_dies_is_processed_by_another_one(site: Site) -> None:
    video_id = site.upload()
    busy, _ = site.two_held_workers(video_id)

    busy.kill()
    site.let_go()
    site.database.pass_time(LEASE)

    site.until(video_id, Status.PROCESSED)
    assert site.job(video_id).counters.lost == 1


def test_the_checker_finds_a_job_whose_message_is_on_no_broker(site: Site) -> None:
    video_id, queue = site.upload(), site.parts.queue
    Relay(site.parts.store, queue, bucket=site.parts.objects.bucket, runtime=SystemRuntime()).send_due()
    eventually(lambda: violations(site.evidence(), site.policy) == [])

    delivery = queue.receive(wait=timedelta(seconds=10))
    assert delivery is not None
    assert violations(site.evidence(), site.policy) == [], "a message in flight is no lost message"
    queue.delete(delivery)

    [lost] = violations(site.evidence(), site.policy)
    assert (lost.promise, video_id in lost.sentence) == ("L3", True)
    site.parts.store.cancel(video_id)


def test_beside_sqs_a_worker_empties_the_celery_broker_and_goes_on_when_the_broker_is_switched_off(
    make_site: MakeSite, sqlite_url: str, ministack_url: str
) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    with ExitStack() as broker, ExitStack() as opened:
        broker.enter_context(running_redis(port=port))
        site = opened.enter_context(make_site(sqlite_url, ministack_url, broker_url=url))
        site.let_go()
        before, queue, bucket = site.upload(), site.parts.queue, site.parts.objects.bucket
        Relay(site.parts.store, queue, bucket=bucket, runtime=SystemRuntime()).send_due()
        sqs = f"{ministack_url}/000000000000/{bucket}"
        worker = site.held_worker(SQS_QUEUE_URL=sqs)
        site.until(before, Status.PROCESSED)
        eventually(lambda: queue.depth().empty)
        broker.close()
        after = site.upload()

        site.until(after, Status.PROCESSED)

        assert [site.job(video_id).enqueued_to for video_id in (before, after)] == [queue.name, sqs]
        reason = f"The broker {url} of CELERY_BROKER_URL does not answer"
        eventually(lambda: "not receiving from the old queue" in worker.log and reason in worker.log)
        # The site counts the messages of the broker when it closes.
        broker.enter_context(running_redis(port=port))


def test_a_real_celery_worker_with_the_documented_function_reads_our_messages(site: Site, tmp_path: Path) -> None:
    [documented] = re.findall(r"```python\n(import os\n.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (tmp_path / "documented.py").write_text(documented)
    video_id = site.upload()
    Relay(site.parts.store, site.parts.queue, bucket=site.parts.objects.bucket, runtime=SystemRuntime()).send_due()

    log = tmp_path / "celery.log"
    options = ["--pool", "solo", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    queue = ["--queues", os.environ["CELERY_TASK_DEFAULT_QUEUE"]]
    command = [sys.executable, "-m", "celery", "--app", "documented", "worker", *options, *queue]
    with log.open("wb") as output:
        worker = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=output)
    try:
        bucket = site.parts.objects.bucket
        eventually(lambda: f"{video_id} is at s3://{bucket}/{upload_key(video_id)}" in log.read_text())
        eventually(lambda: site.parts.queue.depth().empty)
    finally:
        # Do not ask it to end: on RabbitMQ, that takes a Celery worker ten seconds.
        worker.kill()
        worker.wait(30)
    assert "Traceback" not in log.read_text()
    # Celery's worker deleted the message and changed no row, so the job would wait for the sweep.
    site.parts.store.cancel(video_id)
