"""The queue on RabbitMQ.

RabbitMQ has no visibility timeout: a message is hidden until its receiver acknowledges it or its connection ends.
RabbitMQ also takes a message back after its consumer_timeout (30 minutes by default). Another worker then receives the
message, sees that the job is leased, and deletes the message.
"""

import ssl
import time
from datetime import timedelta

from amqp.exceptions import NotFound
from kombu import Connection

from anb_core.adapters.celery_broker.queue import Channel, KombuQueue, Tag
from anb_core.ports.queue import Depth

HEARTBEAT_SECONDS = 60
"""RabbitMQ takes a receiver for dead that is silent for twice this time, and gives its message to another one."""


class RabbitMqQueue(KombuQueue):
    """A queue on RabbitMQ, durable if this class creates it."""

    def __init__(self, url: str, *, queue: str, patience: timedelta, visibility: timedelta) -> None:
        super().__init__(url, queue=queue, patience=patience, visibility=visibility)
        self._held: list[tuple[float, Tag]] = []
        """The messages that were given back with a pause, each with the monotonic time at which the pause ends."""

    def _connect(self, *, receiver: bool) -> Connection:
        # "server_hostname": None means that the name in the certificate must be the host in the URL.
        tls = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None} if self._url.startswith("amqps:") else None
        return Connection(
            self._url,
            ssl=tls,
            connect_timeout=self._part,
            # A sender may be silent for longer, and holds no message.
            heartbeat=HEARTBEAT_SECONDS if receiver else 0,
            transport_options={
                "read_timeout": self._part,
                "write_timeout": self._part,
                "confirm_publish": True,
            },
        )

    def _open(self, connection: Connection, *, receiver: bool) -> Channel:
        connection.ensure_connection(max_retries=0)
        channel: Channel = connection.channel()
        try:
            self._waiting(channel)
        except NotFound:
            # RabbitMQ closes a channel that asks for a queue that does not exist. Celery declares its queues so, too.
            channel = connection.channel()
            channel.queue_declare(self._queue, durable=True, auto_delete=False)
        if receiver:
            # The broker has taken back what the previous connection received.
            self._handles.clear()
            self._held.clear()
        return channel

    def _return_due(self, channel: Channel) -> None:
        now = time.monotonic()
        for held in [held for held in self._held if held[0] <= now]:
            channel.basic_reject(held[1], requeue=True)
            self._held.remove(held)

    def _hide(self, channel: Channel, tag: Tag, *, pause: timedelta) -> None:  # noqa: ARG002
        # RabbitMQ can't delay a message. So this process keeps it, and gives it back when it looks for messages again.
        self._held.append((time.monotonic() + pause.total_seconds(), tag))

    def _keep(self, channel: Channel, tag: Tag, *, visibility: timedelta) -> None:  # noqa: ARG002
        # Any question shows RabbitMQ, and every device between, that the receiver is alive.
        self._waiting(channel)

    def _waiting(self, channel: Channel) -> int:
        return int(channel.queue_declare(self._queue, passive=True).message_count)

    def _depth(self, channel: Channel) -> Depth:
        # Only RabbitMQ's management interface tells what other processes have received.
        return Depth(visible=self._waiting(channel), in_flight=len(self._handles) + len(self._held), delayed=0)
