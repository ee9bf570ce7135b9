import json
from datetime import timedelta
from pathlib import Path

import pytest
from botocore.stub import ANY, Stubber

from anb_core.adapters.sqs import SqsQueue
from anb_core.adapters.system import SystemRuntime
from anb_core.bootstrap import Core, build, open_store
from anb_core.domain.edit import EditSpec
from anb_core.domain.keys import upload_key
from anb_core.domain.model import NewVideo, Source
from anb_core.ports.queue import Depth
from anb_core.settings.capabilities import Settings
from anb_core.settings.loading import load
from anb_core.testing.clock import ManualClock
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.relay import Relay
from anb_core.usecases.sweep import Swept


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/anb.db")
    monkeypatch.setenv("S3_BUCKET", "anb-videos")
    monkeypatch.setenv("SQS_QUEUE_URL", "http://127.0.0.1:9/000000000000/anb")
    return load(Settings)


def test_building_asks_nobody_anything(settings: Settings) -> None:
    # Sockets are forbidden here, and the database's file would be there if it had been opened.
    with build(settings) as core:
        assert core.objects.bucket == "anb-videos"
        assert core.queue.name == "http://127.0.0.1:9/000000000000/anb"
    assert not Path(str(settings.database_url.get_secret_value()).removeprefix("sqlite+pysqlite:///")).exists()


def test_all_parts_are_closed_even_if_one_of_them_fails(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    core = build(settings)
    closed: list[str] = []

    def failing() -> None:
        closed.append("queue")
        raise RuntimeError("the queue did not close")

    monkeypatch.setattr(core.queue, "close", failing)
    monkeypatch.setattr(core.objects, "close", lambda: closed.append("objects"))
    monkeypatch.setattr(core.store, "close", lambda: closed.append("store"))

    with pytest.raises(RuntimeError, match="the queue did not close"):
        core.close()
    assert closed == ["queue", "objects", "store"]


def test_the_store_alone_can_be_opened(settings: Settings) -> None:
    open_store(settings).close()


@pytest.mark.usefixtures("settings")
def test_bucket_and_queue_each_go_by_settings_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "AWS_REGION": "eu-west-1",
        "SQS_REGION": "us-west-2",
        "SQS_DLQ_URL": "http://127.0.0.1:9/000000000000/dead",
        "SQS_VISIBILITY_TIMEOUT": "901",
        "SQS_MAX_RECEIVE_COUNT": "7",
        "ANB_LEASE_SECONDS": "120",
        "ANB_HEARTBEAT_SECONDS": "4",
        "ANB_S3_PUBLIC_ENDPOINT": "https://videos.example.org",
        "ANB_CREATE_RESOURCES": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with build(load(Settings)) as core:
        url = core.objects.download_url("k", file_name="f", lifetime=timedelta(minutes=1))
        assert url.startswith("https://videos.example.org/")
        assert "%2Feu-west-1%2Fs3%2F" in url
        queue = core.queue
        assert isinstance(queue, SqsQueue)
        assert queue._sqs.meta.region_name == "us-west-2"
        redrive = json.dumps({"deadLetterTargetArn": "arn:dead", "maxReceiveCount": 7})
        own = {"VisibilityTimeout": "901", "ReceiveMessageWaitTimeSeconds": ANY, "RedrivePolicy": redrive}
        dead = {"QueueUrl": environment["SQS_DLQ_URL"], "AttributeNames": ("QueueArn",)}
        with Stubber(queue._sqs) as stub:
            for _ in range(2):
                stub.add_response("get_queue_attributes", {"Attributes": {"QueueArn": "arn:dead"}}, dead)
            stub.add_client_error("get_queue_attributes", "QueueDoesNotExist")
            stub.add_response("create_queue", {"QueueUrl": queue.name}, {"QueueName": "anb", "Attributes": own})
            queue.ensure()
            stub.assert_no_pending_responses()
        # A call with all its tries ends within the heartbeat.
        for client in (queue._sqs, core.objects._store.s3):  # type: ignore[attr-defined]
            assert vars(client.meta.config)["read_timeout"] <= 4


class BusyQueue(InMemoryQueue):
    def depth(self) -> Depth:
        return Depth(0, 1, 0)


@pytest.mark.usefixtures("settings")
def test_every_sweep_leaves_a_message_for_as_long_with_a_dead_worker_as_the_queue_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SQS_VISIBILITY_TIMEOUT", "1800")
    clock = ManualClock()
    store, objects, queue = InMemoryStore(clock.now), InMemoryObjects(), BusyQueue(now=clock.now)
    relay = Relay(store, queue, bucket=objects.bucket, runtime=SystemRuntime())
    sweep = Core(load(Settings), store, objects, queue).sweep(relay.wake)
    new = NewVideo("v1", "t1", "ana", "A title", EditSpec(), upload_key("v1"), owned=True, file_name="a.mp4")
    store.submit_existing(new, Source(5))
    relay.send_due()

    clock.advance(timedelta(seconds=1800))
    assert sweep.sweep() == Swept()
    clock.advance(timedelta(seconds=11))
    assert sweep.sweep() == Swept(requeued=1)
