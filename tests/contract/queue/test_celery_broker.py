"""Tests that only the adapter for Celery's brokers needs: real producers, lost connections, and traps of kombu."""

import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from kombu import Connection, Queue

from anb_core.adapters.celery_broker import KombuQueue
from anb_core.adapters.celery_broker.line import Line
from anb_core.domain.errors import Unavailable
from anb_core.ports.queue import Delivery, Depth, Outgoing
from tests.contract.queue.conftest import BROKERS, SHORT, broker_queue
from tests.support.brokers import running_rabbitmq, running_redis
from tests.support.tether import free_port

NOW = timedelta(0)
PATIENTLY = timedelta(seconds=10)
MINUTE = timedelta(minutes=1)
MESSAGE = Outgoing(body='{"video_id": "v"}', group="video", owner="ana", deduplication="1")


@pytest.fixture(params=BROKERS)
def url(request: pytest.FixtureRequest) -> str:
    broker: str = request.getfixturevalue(request.param)
    return broker


@pytest.fixture
def queue(url: str) -> Iterator[KombuQueue]:
    with closing(broker_queue(url)) as queue:
        yield queue


def name_of(queue: KombuQueue) -> str:
    return queue.name.rpartition("#")[2]


def receive(queue: KombuQueue) -> Delivery:
    delivery = queue.receive(wait=PATIENTLY)
    assert delivery is not None
    return delivery


@contextmanager
def producer(url: str, queue: KombuQueue, **settings: Any) -> Iterator[Celery]:
    """A real Celery program that sends tasks."""
    with Celery("producer", broker=url, set_as_current=False) as app:
        app.conf.update(task_default_queue=name_of(queue), **settings)
        yield app


@pytest.mark.parametrize("protocol", [1, 2])
def test_a_task_of_a_real_celery_producer_is_received(url: str, queue: KombuQueue, protocol: int) -> None:
    with producer(url, queue, task_protocol=protocol) as app:
        sent = app.send_task("anb.process_video", args=[{"video_id": "v", "title": "¡Olé!"}])

    delivery = receive(queue)

    assert (delivery.message_id, delivery.body) == (sent.id, '{"video_id": "v", "title": "¡Olé!"}')
    queue.delete(delivery)
    assert queue.depth().empty


@pytest.mark.parametrize("options", [{"priority": 5}, {"compression": "gzip"}], ids=["priority", "compression"])
def test_a_task_with_options_of_celery_is_received(url: str, queue: KombuQueue, options: dict[str, Any]) -> None:
    with producer(url, queue) as app:
        app.send_task("anb.process_video", kwargs={"video_id": "v"}, **options)

    assert receive(queue).body == '{"video_id": "v"}'


def test_a_worker_takes_nothing_that_it_did_not_ask_for(queue: KombuQueue) -> None:
    assert queue.receive(wait=NOW) is None
    queue.send([MESSAGE, MESSAGE])
    assert queue.depth() == Depth(visible=2, in_flight=0, delayed=0)

    receive(queue)

    assert queue.depth() == Depth(visible=1, in_flight=1, delayed=0)


@pytest.mark.debian
def test_rabbitmq_tells_of_other_programs_that_receive_and_not_of_the_messages_they_hold(rabbitmq_url: str) -> None:
    with closing(broker_queue(rabbitmq_url)) as queue, Connection(rabbitmq_url) as connection:
        queue.send([MESSAGE])
        assert queue.receive(wait=NOW)
        assert queue.depth().consumers == 0

        with connection.Consumer(Queue(name_of(queue), no_declare=True), prefetch_count=1):
            depth = queue.depth()

    assert (depth.consumers, depth.in_flight_complete) == (1, False)


@pytest.mark.debian
@pytest.mark.parametrize(
    ("body", "options"),
    [
        (b"garbage", {"content_type": "application/json", "content_encoding": "utf-8"}),
        (b"garbage", {"content_type": "application/json", "headers": {"compression": "odd"}}),
        (b"garbage", {"content_type": "application/json", "headers": {"compression": ["gzip"]}}),
        (b"garbage \xff", {"content_type": "application/json", "content_encoding": "odd"}),
        (b"garbage +2AA-", {"content_type": "application/json", "content_encoding": "utf-7"}),
        (b"Z2FyYmFnZQ", {"content_type": "text/plain"}),
        (b"", {}),
    ],
)
def test_rabbitmq_gives_a_message_of_any_content(rabbitmq_url: str, body: bytes, options: dict[str, Any]) -> None:
    with closing(broker_queue(rabbitmq_url)) as queue, Connection(rabbitmq_url) as connection:
        queue.ensure()
        connection.Producer(auto_declare=False).publish(body, routing_key=name_of(queue), **options)

        first = receive(queue)
        queue.give_back(first)
        again = receive(queue)
        queue.delete(again)

        assert again.body == first.body
        assert queue.depth().empty


def test_threads_send_receive_and_extend_at_the_same_time(queue: KombuQueue) -> None:
    bodies = [f"body {number}" for number in range(60)]
    received: list[Delivery] = []
    done = threading.Event()

    def send() -> None:
        for body in bodies:
            queue.send([Outgoing(body, group=body, owner="ana", deduplication=body)])

    def extend() -> None:
        while not done.is_set():
            for delivery in received[-1:]:
                queue.extend(delivery, visibility=MINUTE)
            queue.ping()

    with ThreadPoolExecutor(2) as threads:
        others = [threads.submit(send), threads.submit(extend)]
        try:
            for _ in bodies:
                received.append(receive(queue))
                queue.delete(received[-1])
        finally:
            done.set()
        for other in others:
            other.result(timeout=30)

    assert Counter(delivery.body for delivery in received) == Counter(bodies)
    assert queue.depth().empty


def test_a_message_that_is_kept_by_a_heartbeat_does_not_come_to_another_worker(url: str) -> None:
    with (
        closing(broker_queue(url, visibility=SHORT)) as queue,
        closing(broker_queue(url, name=name_of(queue), visibility=SHORT)) as other,
    ):
        queue.send([MESSAGE])
        delivery = receive(queue)
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(other.receive, wait=2 * SHORT)
            while not waiting.done():
                queue.extend(delivery, visibility=SHORT)
            assert waiting.result() is None
        queue.delete(delivery)
        assert queue.depth().empty


def test_a_wrong_password_is_reported_without_the_password() -> None:
    with running_redis(password="right") as url:
        check_that_a_wrong_password_is_reported(url.replace("right", "wrong-secret"))


@pytest.mark.debian
def test_a_wrong_password_of_rabbitmq_is_reported_without_the_password(rabbitmq_url: str) -> None:
    check_that_a_wrong_password_is_reported(rabbitmq_url.replace(":guest@", ":wrong-secret@"))


def check_that_a_wrong_password_is_reported(url: str) -> None:
    shown = re.sub("//.*@", "//", url)
    with closing(broker_queue(url)) as queue, pytest.raises(Unavailable) as error:
        queue.ping()

    assert error.value.part == "queue"
    assert error.value.message.startswith(f"The broker {shown} of CELERY_BROKER_URL does not answer: ")
    assert "secret" not in error.value.message + queue.name


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_not_there_is_named(scheme: str) -> None:
    queue = broker_queue(f"{scheme}://user:secret@127.0.0.1:9/0")
    calls = (queue.ping, queue.ensure, queue.depth, lambda: queue.send([MESSAGE]), lambda: queue.receive(wait=MINUTE))

    for call in calls:
        with pytest.raises(Unavailable, match=f"{scheme}://127.0.0.1:9/0 of CELERY_BROKER_URL .* refused") as error:
            call()
        assert error.value.code == "queue_unavailable"


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_never_answers_is_given_up(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        queue = broker_queue(f"{scheme}://127.0.0.1:{server.getsockname()[1]}/0", patience=timedelta(seconds=0.8))

        with pytest.raises(Unavailable, match=r"does not answer: .*(timed out|Timeout)"):
            queue.send([MESSAGE])


@pytest.mark.parametrize("scheme", ["rediss", "amqps"])
@pytest.mark.parametrize(
    ("address", "trusted", "reason"),
    [
        ("127.0.0.1", True, "closed"),
        ("127.0.0.1", False, "certificate verify failed: self-signed"),
        ("127.0.0.2", True, "certificate verify failed: IP address mismatch"),
    ],
    ids=["right", "unknown authority", "wrong host"],
)
def test_the_certificate_of_a_broker_is_checked(
    scheme: str, address: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, trusted: bool
) -> None:
    authority = self_signed(tmp_path, address)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with tls_server(authority) as port, pytest.raises(Unavailable, match=reason):
        broker_queue(f"{scheme}://127.0.0.1:{port}/0").ping()


def self_signed(folder: Path, address: str) -> Path:
    """Write a self-signed certificate for the IP address `address` and its private key to a file.

    Returns the file's path.
    """
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    host, now = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    certificate = builder.add_extension(host, critical=False).sign(key, SHA256())
    path = folder / "certificate.pem"
    path.write_bytes(
        certificate.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return path


@contextmanager
def tls_server(certificate: Path) -> Iterator[int]:
    """Run a server on 127.0.0.1 that closes each connection after the TLS handshake. Yields the server's port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with suppress(ssl.SSLError, ConnectionError), connection:
                        context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(30)


def test_a_call_does_not_wait_for_ever_for_another_one() -> None:
    busy = threading.Event()

    def call(_: object) -> None:
        busy.set()
        done.wait(30)

    done = threading.Event()
    line = Line(lambda: Connection("memory://"), lambda _: "channel", place="It", patience=timedelta(seconds=0.1))
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(line.ask, call)
        assert busy.wait(30)
        with pytest.raises(Unavailable, match="It does not answer: another call still waits for it"):
            line.ask(lambda _: None)
        done.set()
        first.result(timeout=30)


def test_a_call_on_a_lost_connection_is_made_again_on_a_new_one() -> None:
    channels = iter(["lost", "new"])
    line = Line(lambda: Connection("memory://"), lambda _: next(channels), place="It", patience=timedelta(seconds=1))

    def call(channel: str) -> str:
        if channel == "lost" and asked:
            raise ConnectionResetError
        asked.append(channel)
        return channel

    asked: list[str] = []
    assert [line.ask(call), line.ask(call)] == ["lost", "new"]


@pytest.mark.parametrize("kind", BROKERS)
def test_a_broker_that_restarts_gives_every_message_that_it_kept_again_and_is_used_at_once_if_it_kept_none(
    kind: str, tmp_path: Path
) -> None:
    # One test for both, because RabbitMQ takes seconds to start.
    port = free_port()
    with running(kind, port=port, data=tmp_path) as url:
        queue = broker_queue(url, name="kept", visibility=SHORT)
        queue.send([Outgoing(body, group=body, owner="ana", deduplication=body) for body in ("a", "b")])
        in_flight = receive(queue)
    with pytest.raises(Unavailable):
        queue.send([MESSAGE])

    with running(kind, port=port, data=tmp_path):
        again = set()
        for _ in range(2):
            delivery = receive(queue)
            again.add(delivery.body)
            queue.delete(delivery)
        queue.delete(in_flight)
        assert again == {"a", "b"}
        assert queue.depth().empty
        queue.send([MESSAGE, MESSAGE])
        lost = receive(queue)

    with running(kind, port=port), closing(queue):
        assert queue.receive(wait=NOW) is None
        assert queue.depth().empty
        queue.extend(lost, visibility=MINUTE)
        queue.delete(lost)
        assert queue.send([MESSAGE]) == [None]
        assert receive(queue).body == MESSAGE.body


def running(kind: str, *, port: int, data: Path | None = None) -> AbstractContextManager[str]:
    return running_redis(port=port, data=data) if kind == "redis_url" else running_rabbitmq(port=port, data=data)
