"""The queue on Redis. kombu imitates acknowledgements there.

A received message moves to a hash, and its time to a sorted set. Any receiver puts the message back into the queue
when its visibility timeout has passed. A message whose worker is killed between the two steps is gone: then the sweep
sends the job's message again.
"""

import ssl
import time
from datetime import timedelta
from typing import Any

from kombu import Connection

from anb_core.adapters.celery_broker.queue import Channel, KombuQueue, Tag
from anb_core.ports.queue import Depth

RESTORED_AT_ONCE = 100
"""Maximum number of messages that one look puts back into the queue."""

MUTEX_SECONDS = 10
"""Seconds after which another receiver may put messages back if a receiver died while it did so."""


class RedisQueue(KombuQueue):
    """A queue on Redis, or on a server that speaks its protocol."""

    def _connect(self, *, receiver: bool) -> Connection:  # noqa: ARG002 - both connections are alike
        # The keys of our received messages are our own. With Celery's keys, each program would put back the messages
        # of all others after its own visibility timeout, also those of running tasks of other applications.
        held = f"{self._queue}.anb"
        options: dict[str, Any] = {
            "visibility_timeout": self._visibility.total_seconds(),
            "unacked_key": f"{held}.unacked",
            "unacked_index_key": f"{held}.unacked_index",
            "unacked_mutex_key": f"{held}.unacked_mutex",
            "unacked_mutex_expire": MUTEX_SECONDS,
            "socket_timeout": self._part,
            "socket_connect_timeout": self._part,
            "socket_keepalive": True,
        }
        # Without this, kombu accepts any certificate.
        tls = {"ssl_cert_reqs": ssl.CERT_REQUIRED} if self._url.startswith("rediss:") else None
        return Connection(self._url, ssl=tls, transport_options=options)

    def _open(self, connection: Connection, *, receiver: bool) -> Channel:  # noqa: ARG002
        connection.ensure_connection(max_retries=0)
        channel: Channel = connection.channel()
        # Otherwise a channel that closes gives back all its messages at once, also one with a pause.
        channel.do_restore = False
        return channel

    def _return_due(self, channel: Channel) -> None:
        channel.qos.restore_visible(num=RESTORED_AT_ONCE, interval=1)

    def _hide(self, channel: Channel, tag: Tag, *, pause: timedelta) -> None:
        self._keep(channel, tag, visibility=pause)

    def _keep(self, channel: Channel, tag: Tag, *, visibility: timedelta) -> None:
        # kombu compares the time of the receipt with the visibility timeout that all messages have.
        received = time.time() + (visibility - self._visibility).total_seconds()
        with channel.conn_or_acquire() as client:
            client.zadd(channel.unacked_index_key, {tag: received}, xx=True)

    def _waiting(self, channel: Channel) -> int:
        return int(channel.queue_declare(self._queue).message_count)

    def _depth(self, channel: Channel) -> Depth:
        # Without this, a message of a dead worker would stay hidden while no worker runs, and scaling on the length of
        # the queue would start none.
        self._return_due(channel)
        with channel.conn_or_acquire() as client:
            in_flight = int(client.zcard(channel.unacked_index_key))
        return Depth(visible=self._waiting(channel), in_flight=in_flight, delayed=0)
