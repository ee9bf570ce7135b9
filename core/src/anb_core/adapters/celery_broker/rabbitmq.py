"""The queue on RabbitMQ.

RabbitMQ has no visibility timeout. A received message stays hidden until the worker deletes it, or until the worker's
connection ends. RabbitMQ also ends the receipt after its setting consumer_timeout (30 minutes by default). Another
worker then receives the message, sees that the job is leased, and deletes the message.
"""

import ssl
import time
from datetime import timedelta
from typing import Any

from amqp.exceptions import NotFound
from kombu import Connection

from anb_core.adapters.celery_broker.queue import Channel, KombuQueue, Tag
from anb_core.ports.queue import Depth

HEARTBEAT_SECONDS = 60
"""If RabbitMQ gets no data from a receiver for twice this time, it assumes that the receiver is dead, and closes the
connection. Another worker can then receive the message."""


class RabbitMqQueue(KombuQueue):
    """A queue on RabbitMQ, durable if this class creates it."""

    def __init__(self, url: str, *, queue: str, patience: timedelta, visibility: timedelta) -> None:
        super().__init__(url, queue=queue, patience=patience, visibility=visibility)
        self._held: list[tuple[float, Tag]] = []
        """For each message that is returned after a pause: the monotonic time at which the pause ends, and the tag."""

    def _connect(self, *, receiver: bool) -> Connection:
        # None as `server_hostname` means that the certificate must be for the host in the URL.
        tls = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None} if self._url.startswith("amqps:") else None
        return Connection(
            self._url,
            ssl=tls,
            connect_timeout=self._part,
            # The other connection needs no heartbeat: if it is silent or dead, no message stays hidden.
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
            # RabbitMQ has closed the channel, because the queue does not exist. Create it with Celery's arguments.
            channel = connection.channel()
            channel.queue_declare(self._queue, durable=True, auto_delete=False)
        if receiver:
            # The messages that the previous connection received are in the queue again, so their tags are invalid.
            self._handles.clear()
            self._held.clear()
        return channel

    def _return_due(self, channel: Channel) -> None:
        now = time.monotonic()
        for held in [held for held in self._held if held[0] <= now]:
            channel.basic_reject(held[1], requeue=True)
            self._held.remove(held)

    def _hide(self, channel: Channel, tag: Tag, *, pause: timedelta) -> None:  # noqa: ARG002
        # RabbitMQ can't hide a message for a time. So do not return it yet: `_return_due` returns it after the pause.
        self._held.append((time.monotonic() + pause.total_seconds(), tag))

    def _keep(self, channel: Channel, tag: Tag, *, visibility: timedelta) -> None:  # noqa: ARG002
        # There is no timeout to extend. This request only shows RabbitMQ and the network that the receiver is alive.
        self._waiting(channel)

    def _waiting(self, channel: Channel) -> int:
        return int(self._declared(channel).message_count)

    def _depth(self, channel: Channel) -> Depth:
        # `in_flight` counts only the messages of this process. AMQP does not tell how many messages others received.
        # Our programs fetch each message by a request, and do not subscribe. So `consumers` counts only other programs.
        declared = self._declared(channel)
        return Depth(
            visible=int(declared.message_count),
            in_flight=len(self._handles) + len(self._held),
            delayed=0,
            consumers=int(declared.consumer_count),
            in_flight_complete=False,
        )

    def _declared(self, channel: Channel) -> Any:  # noqa: ANN401 - py-amqp's answer has no type
        return channel.queue_declare(self._queue, passive=True)
