"""The queues under test: in memory, on SQS (moto and the embedded emulator), and on Celery's brokers.

Celery's brokers lack some abilities of SQS. The marks below name the tests of such an ability: `like_sqs` for FIFO
queues and dead-letter queues, `timed` for a visibility timeout, which RabbitMQ lacks.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import boto3
import pytest

from anb_core.adapters.celery_broker import KombuQueue, celery_queue
from anb_core.adapters.sqs import SqsQueue
from anb_core.ports.queue import Delivery, Queue
from anb_core.testing.clock import ManualClock
from anb_core.testing.queue import InMemoryQueue

SERVERS = ["moto_url", "ministack_url"]
LIKE_SQS = ["memory", *SERVERS]
like_sqs = pytest.mark.parametrize("make_stand", LIKE_SQS, indirect=True)
timed = pytest.mark.parametrize("make_stand", [*LIKE_SQS, "redis_url"], indirect=True)
BROKERS = ["redis_url", pytest.param("rabbitmq_url", marks=pytest.mark.debian)]
SHORT = timedelta(seconds=1)
LONG = timedelta(minutes=5)

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Stand:
    """A queue with visibility timeout `SHORT` or `LONG`, and functions that inspect the queue without the adapter."""

    queue: Queue
    within: Callable[[timedelta], Delivery | None]
    """A function that polls the queue for the given time, by the queue's clock. Returns a delivery or None."""
    dead_letters: Callable[[], list[str]] = list
    retention: timedelta = timedelta(days=4)


@dataclass(frozen=True)
class Server:
    """The URL of an SQS server, and a boto3 client with which tests inspect the server without the adapter."""

    url: str
    sqs: Any

    def queue_url(self, name: str = "", *, fifo: bool = False) -> str:
        """Create a queue and return its URL."""
        return f"{self.url}/000000000000/{name or f'anb-{next(_numbers)}'}{'.fifo' if fifo else ''}"

    def queue(self, url: str, **options: Any) -> SqsQueue:
        """Create an adapter for a queue. AWS_ENDPOINT_URL must be set to the server's URL."""
        chosen: dict[str, Any] = {
            "region": "us-east-1",
            "patience": timedelta(seconds=20),
            "visibility": LONG,
            "max_receives": 3,
            "dlq_url": url.replace("/anb-", "/dead-anb-"),
            "may_create": True,
        } | options
        return SqsQueue(url, **chosen)

    def dead_letters(self, url: str) -> list[str]:
        dead = url.replace("/anb-", "/dead-anb-")
        received = self.sqs.receive_message(QueueUrl=dead, MaxNumberOfMessages=10, VisibilityTimeout=0)
        return [message["Body"] for message in received.get("Messages", [])]


@pytest.fixture(scope="session")
def look_behind() -> Callable[[str], Any]:
    """A function that creates a boto3 client for the server at the given URL."""
    session = boto3.session.Session()
    return lambda url: session.client("sqs", endpoint_url=url)


@pytest.fixture(params=SERVERS)
def server(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, look_behind: Callable[[str], Any]
) -> Server:
    url = request.getfixturevalue(request.param)
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    return Server(url, look_behind(url))


MakeStand = Callable[..., Stand]


@pytest.fixture(params=[*LIKE_SQS, *BROKERS])
def make_stand(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeStand]:
    """A function `make_stand(visibility=..., fifo=...)` that creates a `Stand` with a new queue."""
    if request.param == "memory":
        yield _in_memory
        return
    url = request.getfixturevalue(request.param)
    made: list[SqsQueue | KombuQueue] = []

    def on_sqs(*, visibility: timedelta = LONG, fifo: bool = False) -> Stand:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        server = Server(url, request.getfixturevalue("look_behind")(url))
        queue = server.queue(server.queue_url(fifo=fifo), visibility=visibility)
        made.append(queue)
        queue.ensure()
        return Stand(queue, lambda time: queue.receive(wait=time), lambda: server.dead_letters(queue.name))

    def on_broker(*, visibility: timedelta = LONG) -> Stand:
        queue = broker_queue(url, visibility=visibility)
        made.append(queue)
        queue.ensure()
        return Stand(queue, lambda time: queue.receive(wait=time), retention=timedelta(days=365))

    yield on_sqs if request.param in SERVERS else on_broker
    for queue in made:
        queue.close()


def broker_queue(url: str, *, name: str = "", **options: Any) -> KombuQueue:
    """Create an adapter for a queue of the Celery broker at the URL: a new queue unless `name` is given."""
    chosen: dict[str, Any] = {"patience": timedelta(seconds=20), "visibility": LONG} | options
    return celery_queue(url, queue=name or f"anb-{next(_numbers)}", **chosen)


@pytest.fixture
def stand(make_stand: MakeStand) -> Stand:
    """A standard queue with a long visibility timeout."""
    return make_stand()


@pytest.fixture
def fifo(make_stand: MakeStand) -> Stand:
    """A FIFO queue with a long visibility timeout."""
    return make_stand(fifo=True)


def _in_memory(*, visibility: timedelta = LONG, fifo: bool = False) -> Stand:
    clock = ManualClock()
    name = f"https://queue.invalid/000000000000/anb-videos{'.fifo' if fifo else ''}"
    queue = InMemoryQueue(name=name, visibility=visibility, now=clock.now)

    def within(time: timedelta) -> Delivery | None:
        clock.advance(time)
        return queue.receive(wait=timedelta(0))

    return Stand(queue, within, lambda: list(queue.dead_letters.bodies()))
