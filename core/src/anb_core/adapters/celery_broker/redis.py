"""The queue on Redis. Redis has no acknowledgements, so kombu imitates them.

On a receipt, kombu takes the message from the queue (step 1), and then stores it in a hash and the time of the receipt
in a sorted set (step 2). After the visibility timeout, any receiver moves the message back to the queue.
If a worker is killed between the two steps, the message is lost. The sweep then sends a new message for the job.
"""

import json
import ssl
import time
import uuid
from datetime import timedelta
from queue import Empty
from typing import Any

from kombu import Connection
from kombu.transport import redis
from kombu.utils.json import loads

from anb_core.adapters.celery_broker.queue import Channel, KombuQueue, Tag
from anb_core.domain.celery_message import JSON_TYPE
from anb_core.ports.queue import Depth

RESTORED_AT_ONCE = 100
"""Maximum number of messages that one call of `_return_due` moves back to the queue."""

CELERYS_UNACKED = "unacked"
"""Key of the hash on Redis in which Celery's own workers store the messages that they received, from all queues."""

CELERYS_IN_ONE_ANSWER = 1000
"""About how many of these messages Redis returns in one answer. Redis's own default is 10."""

MUTEX_SECONDS = 10
"""Only one receiver at a time moves messages back to the queue.
If this receiver dies, another one can go on after this many seconds."""

SPARE_DEPTH = 50
"""Python must be able to read a message inside this many nested JSON arrays. When kombu returns a message to the queue,
the message is inside one more array, and the call stack is deeper. Python limits the sum of both depths."""


class TolerantChannel(redis.Channel):  # type: ignore[misc] # kombu's class has no type
    """A channel that loses no entry of a queue's list.

    kombu's channel removes an entry from the list before it reads the entry. An entry that kombu can't read, store or
    return would be lost. This channel makes a new message from such an entry. The message's body is the entry's text.
    """

    def _get(self, queue: str) -> dict[str, Any]:
        with self.conn_or_acquire() as client:
            for priority in self.priority_steps:
                entry = client.rpop(self._q_for_pri(queue, priority))
                if entry is not None:
                    return self._message(entry, queue)
        raise Empty

    def _message(self, entry: bytes, queue: str) -> dict[str, Any]:
        text = entry.decode(errors="backslashreplace")
        try:
            message = self._read(text)
        except Exception:  # noqa: BLE001 - the entry is no longer in the list, so no error may lose it
            # The id stays the same at each receipt.
            headers = {"id": str(uuid.uuid4())}
            message = self.prepare_message(text, content_type=JSON_TYPE, content_encoding="utf-8", headers=headers)
            self._inplace_augment_message(message, "", queue)
        # Messages of other programs may share a tag, or name an exchange that does not exist.
        message["properties"]["delivery_tag"] = self._next_delivery_tag()
        message["properties"]["delivery_info"] |= {"exchange": "", "routing_key": queue}
        return message

    def _read(self, text: str) -> dict[str, Any]:
        """Return the message in an entry. Raises an exception of any class if kombu can't handle the entry."""
        loads("[" * SPARE_DEPTH + text + "]" * SPARE_DEPTH)
        message: dict[str, Any] = loads(text)
        properties = message["properties"]
        properties["delivery_tag"] = ""
        properties["delivery_info"] = dict(properties["delivery_info"])
        properties["priority"] = self._get_message_priority(message)
        message["headers"] = dict(message.get("headers") or {})
        if not isinstance(message["body"], str) or self.Message(message, channel=self).errors:
            raise ValueError
        return message


class TolerantTransport(redis.Transport):  # type: ignore[misc] # kombu's class has no type
    """Opens connections whose channels are instances of TolerantChannel."""

    Channel = TolerantChannel


class RedisQueue(KombuQueue):
    """A queue on Redis, or on a server that speaks its protocol."""

    def _connect(self, *, receiver: bool) -> Connection:  # noqa: ARG002 - both connections are alike
        # Store received messages under keys of our own. All Celery applications share the default keys. With the
        # default keys, this program would also return messages of other applications whose tasks still run.
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
        # Without this argument, kombu accepts any certificate.
        tls = {"ssl_cert_reqs": ssl.CERT_REQUIRED} if self._url.startswith("rediss:") else None
        return Connection(self._url, ssl=tls, transport=TolerantTransport, transport_options=options)

    def _open(self, connection: Connection, *, receiver: bool) -> Channel:  # noqa: ARG002
        connection.ensure_connection(max_retries=0)
        channel: Channel = connection.channel()
        # By default, a channel that closes returns all its received messages at once, even those that wait for the
        # end of a pause.
        channel.do_restore = False
        return channel

    def _return_due(self, channel: Channel) -> None:
        # This call first writes a lock, which a full or read-only Redis refuses. So `receive` fails before it takes a
        # message from the queue.
        channel.qos.restore_visible(num=RESTORED_AT_ONCE, interval=1)

    def _hide(self, channel: Channel, tag: Tag, *, pause: timedelta) -> None:
        self._keep(channel, tag, visibility=pause)

    def _keep(self, channel: Channel, tag: Tag, *, visibility: timedelta) -> None:
        # kombu returns a message when its time of receipt is older than the visibility timeout, which is the same for
        # all messages. So store a time of receipt that lets this message wait exactly `visibility` from now.
        received = time.time() + (visibility - self._visibility).total_seconds()
        with channel.conn_or_acquire() as client:
            client.zadd(channel.unacked_index_key, {tag: received}, xx=True)

    def _waiting(self, channel: Channel) -> int:
        return int(channel.queue_declare(self._queue).message_count)

    def _depth(self, channel: Channel) -> Depth:
        # Return the messages of dead workers first. If no worker runs, nothing else returns them, and an autoscaler
        # that looks at the length of the queue would start no worker.
        self._return_due(channel)
        with channel.conn_or_acquire() as client:
            in_flight = int(client.zcard(channel.unacked_index_key)) + self._held_by_celery(client)
        return Depth(visible=self._waiting(channel), in_flight=in_flight, delayed=0)

    def _held_by_celery(self, client: Any) -> int:  # noqa: ANN401 - kombu's client of Redis has no type
        """Return the number of messages from this queue that Celery's own workers hold without an acknowledgement."""
        # Collect the keys in a set, because Redis may return an entry twice while the hash grows.
        entries = client.hscan_iter(CELERYS_UNACKED, count=CELERYS_IN_ONE_ANSWER)
        return len({tag for tag, held in entries if _queue_of(held) == self._queue})


def _queue_of(held: bytes) -> object:
    """Return the name of the queue of a message that a worker of Celery holds. None for a value of another program."""
    try:
        # The message, its exchange, and its routing key, which is the name of the queue.
        _, _, queue = json.loads(held)
    except (TypeError, ValueError):
        return None
    return queue
