import json
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from botocore.stub import ANY, Stubber
from prometheus_client import CollectorRegistry

from anb_core.adapters.system import SystemRuntime
from anb_core.bootstrap import (
    make_dead_letter_loops,
    make_sweep,
    open_alerts,
    open_bucket,
    open_dead_letter_queue,
    open_metrics,
    open_old_queue,
    open_queue,
    open_store,
    open_store_for_command,
)
from anb_core.domain.edit import EditSpec
from anb_core.domain.keys import upload_key
from anb_core.domain.model import NewVideo, Source
from anb_core.ports.queue import Depth
from anb_core.settings.capabilities import (
    AlertSettings,
    BucketSettings,
    DeadLetterQueueSettings,
    MetricSettings,
    QueueSettings,
    RetrySettings,
    StoreSettings,
    SweepSettings,
)
from anb_core.settings.loading import load
from anb_core.telemetry import DeadLetterMetrics
from anb_core.testing.clock import ManualClock
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.relay import Relay
from anb_core.usecases.sweep import Swept
from tests.support.aws import recorded_clients

PATIENCE = timedelta(seconds=4)


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the database that DATABASE_URL names."""
    database = tmp_path / "anb.db"
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{database}")
    monkeypatch.setenv("S3_BUCKET", "anb-videos")
    monkeypatch.setenv("SQS_QUEUE_URL", "http://127.0.0.1:9/000000000000/anb")
    return database


def test_opening_asks_nobody_anything(database: Path) -> None:
    # The test fails if one of these calls opens a socket or connects to the database, which creates the file.
    with (
        closing(open_store(load(StoreSettings))),
        closing(open_store_for_command(load(StoreSettings))),
        closing(open_bucket(load(BucketSettings), patience=PATIENCE)) as objects,
        closing(open_queue(load(QueueSettings))) as queue,
    ):
        assert objects.bucket == "anb-videos"
        assert queue.name == "http://127.0.0.1:9/000000000000/anb"
    assert not database.exists()


def test_bucket_and_queue_each_go_by_settings_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "AWS_REGION": "eu-west-1",
        "SQS_REGION": "us-west-2",
        "SQS_DLQ_URL": "http://127.0.0.1:9/000000000000/dead",
        "SQS_VISIBILITY_TIMEOUT": "901",
        "SQS_MAX_RECEIVE_COUNT": "7",
        "ANB_HEARTBEAT_SECONDS": "4",
        "ANB_CREATE_RESOURCES": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    public = "https://videos.example.org"
    clients = recorded_clients(monkeypatch)
    with (
        closing(open_bucket(load(BucketSettings), patience=PATIENCE, public_endpoint=public)) as objects,
        closing(open_queue(load(QueueSettings))) as queue,
    ):
        url = objects.download_url("k", file_name="f", lifetime=timedelta(minutes=1))
        assert url.startswith(f"{public}/")
        assert "%2Feu-west-1%2Fs3%2F" in url
        s3, _, sqs, _ = clients
        assert sqs.meta.region_name == "us-west-2"
        redrive = json.dumps({"deadLetterTargetArn": "arn:dead", "maxReceiveCount": 7})
        own = {"VisibilityTimeout": "901", "ReceiveMessageWaitTimeSeconds": ANY, "RedrivePolicy": redrive}
        dead = {"QueueUrl": environment["SQS_DLQ_URL"], "AttributeNames": ("QueueArn",)}
        with Stubber(sqs) as stub:
            for _ in range(2):
                stub.add_response("get_queue_attributes", {"Attributes": {"QueueArn": "arn:dead"}}, dead)
            stub.add_client_error("get_queue_attributes", "QueueDoesNotExist")
            stub.add_response("create_queue", {"QueueUrl": queue.name}, {"QueueName": "anb", "Attributes": own})
            queue.ensure()
            stub.assert_no_pending_responses()
        # A call to AWS, with its retries, must end within one heartbeat interval.
        for client in (sqs, s3):
            assert vars(client.meta.config)["read_timeout"] <= 4


def test_a_celery_broker_is_used_if_no_queue_on_sqs_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://:secret@redis:6379/1")
    monkeypatch.setenv("CELERY_TASK_DEFAULT_QUEUE", "videos")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.delenv("SQS_QUEUE_URL")
    settings = load(QueueSettings)
    with closing(open_queue(settings)) as queue:
        assert queue.name == "redis://redis:6379/1#videos"
    assert open_old_queue(settings) is None
    assert open_dead_letter_queue(settings, patience=PATIENCE) is None


def test_beside_a_queue_on_sqs_the_celery_broker_has_the_old_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert open_old_queue(load(QueueSettings)) is None
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://:secret@redis:6379/1")
    monkeypatch.setenv("CELERY_TASK_DEFAULT_QUEUE", "videos")
    settings = load(QueueSettings)
    old = open_old_queue(settings)
    assert old is not None
    with closing(open_queue(settings)) as queue, closing(old):
        assert queue.name == "http://127.0.0.1:9/000000000000/anb"
        assert old.name == "redis://redis:6379/1#videos"


def test_dead_letters_are_announced_also_without_a_dead_letter_queue() -> None:
    store = InMemoryStore(ManualClock().now)
    metrics = DeadLetterMetrics(store, CollectorRegistry())
    handling = make_dead_letter_loops(load(RetrySettings), store, None, None, metrics=metrics, runtime=SystemRuntime())

    assert handling.loops == {"dead letter alerts": handling.announce.run}
    assert handling.outage() is None


class BusyQueue(InMemoryQueue):
    def depth(self) -> Depth:
        return Depth(0, 1, 0)


def test_every_sweep_leaves_a_message_for_as_long_with_a_dead_worker_as_the_queue_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SQS_VISIBILITY_TIMEOUT", "1800")
    clock = ManualClock()
    store, objects, queue = InMemoryStore(clock.now), InMemoryObjects(), BusyQueue(now=clock.now)
    relay = Relay(store, queue, bucket=objects.bucket, runtime=SystemRuntime())
    sweep = make_sweep(load(SweepSettings), store, objects, [queue], wake_relay=relay.wake, runtime=SystemRuntime())
    new = NewVideo("v1", "t1", "ana", "A title", EditSpec(), upload_key("v1"), owned=True, file_name="a.mp4")
    store.submit_existing(new, Source(5))
    relay.send_due()

    clock.advance(timedelta(seconds=1800))
    assert sweep.sweep() == Swept()
    clock.advance(timedelta(seconds=11))
    assert sweep.sweep() == Swept(requeued=1)


def test_the_dead_letter_queue_is_asked_by_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQS_QUEUE_URL", "http://127.0.0.1:9/000000000000/anb.fifo")
    monkeypatch.setenv("SQS_REGION", "us-west-2")
    monkeypatch.setenv("ANB_CREATE_RESOURCES", "true")
    clients = recorded_clients(monkeypatch)
    queue = open_dead_letter_queue(load(DeadLetterQueueSettings), patience=PATIENCE)
    assert queue is not None
    with closing(queue):
        assert queue.name == "http://127.0.0.1:9/000000000000/anb-dlq.fifo"
        client, _ = clients
        assert client.meta.region_name == "us-west-2"
        assert vars(client.meta.config)["read_timeout"] == 1
        kept = {"MessageRetentionPeriod": "1209600", "FifoQueue": "true"}
        with Stubber(client) as stub:
            stub.add_client_error("get_queue_attributes", "QueueDoesNotExist")
            stub.add_response(
                "create_queue", {"QueueUrl": queue.name}, {"QueueName": "anb-dlq.fifo", "Attributes": kept}
            )
            queue.ensure()


def test_alerts_need_a_topic_and_wait_for_it_as_long_as_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = recorded_clients(monkeypatch)
    assert open_alerts(load(AlertSettings), patience=PATIENCE) is None
    monkeypatch.setenv("ANB_SNS_TOPIC_ARN", "arn:aws:sns:us-east-1:123456789012:anb-alerts")
    alerts = open_alerts(load(AlertSettings), patience=PATIENCE)
    assert alerts is not None
    assert [vars(client.meta.config)["read_timeout"] for client in clients] == [1]
    alerts.close()


def test_metrics_are_sent_only_if_a_namespace_of_cloudwatch_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = recorded_clients(monkeypatch)
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    assert open_metrics(load(MetricSettings), release="video/anb", patience=PATIENCE) is None
    monkeypatch.setenv("ANB_CLOUDWATCH_NAMESPACE", "ANBVideo")
    metrics = open_metrics(load(MetricSettings), release="video/anb", patience=PATIENCE)
    assert metrics is not None
    assert [(client.meta.region_name, vars(client.meta.config)["read_timeout"]) for client in clients] == [
        ("us-west-2", 1)
    ]
    metrics.close()
