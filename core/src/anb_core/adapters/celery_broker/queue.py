"""Sends and receives messages as Celery tasks. This code is the same for Redis and RabbitMQ."""

import itertools
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from kombu import Connection, Producer

from anb_core.adapters.celery_broker.line import Line
from anb_core.domain.celery_message import JSON_TYPE, decode_task, encode_task
from anb_core.ports.queue import Delivery, Depth, Outgoing

POLL_SECONDS = 0.2
"""Time between two attempts to receive a message, in seconds.
kombu could wait for messages itself (as a consumer), but then it would also receive a message while this worker must
not begin a job. Such a message would be stuck. On Redis, it would be lost if the worker died."""

PARTS = 4
"""A call has at most this many steps: connect, send the request, connect again, and repeat the request.
Each step gets an equal part of the call's time."""

RETENTION = timedelta(days=365)
"""Celery's brokers keep a message without a time limit. `Queue.retention` must return a time, so this is a long one."""

PERSISTENT = 2
"""Delivery mode of a message that RabbitMQ writes to its disk."""

Channel: TypeAlias = Any
"""A channel of kombu. Channels of different brokers have no common type."""

Tag: TypeAlias = Any
"""The broker's id of a received message (`delivery_tag`): a text on Redis, a number on RabbitMQ."""


class KombuQueue(ABC):
    """Implements `anb_core.ports.queue.Queue`. All its methods may be called by several threads.

    There are two connections. One receives messages, and also deletes, extends and returns them. RabbitMQ allows these
    calls only on the connection that received the message. The other connection does everything else, such as sending.
    So a worker that receives messages never waits for the relay.

    Celery's brokers have no dead-letter queue. A job that fails too often is ended by its counters in the database.
    """

    def __init__(self, url: str, *, queue: str, patience: timedelta, visibility: timedelta) -> None:
        parts = urlsplit(url)
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self.name = f"{shown}#{queue}"
        self._url = url
        self._queue = queue
        self._visibility = visibility
        self._part = patience.total_seconds() / PARTS
        self._origin = f"anb@{socket.gethostname()}"
        self._handles: dict[Tag, str] = {}
        """Maps the tag of each received message to the handle of its newest receipt. Deleted and returned messages are
        left out."""
        self._numbers = itertools.count(1)
        lines = partial(Line, place=f"The broker {shown} of CELERY_BROKER_URL", patience=patience)
        self._control = lines(partial(self._connect, receiver=False), partial(self._open, receiver=False))
        self._messages = lines(partial(self._connect, receiver=True), partial(self._open, receiver=True))

    def send(self, batch: Sequence[Outgoing]) -> Sequence[str | None]:
        def publish(channel: Channel) -> None:
            producer = Producer(channel, auto_declare=False)
            for message in batch:
                task = encode_task(message.body, default_id=message.deduplication, origin=self._origin)
                producer.publish(
                    task.body,
                    routing_key=self._queue,
                    headers=task.headers,
                    correlation_id=task.id,
                    content_type=JSON_TYPE,
                    content_encoding="utf-8",
                    delivery_mode=PERSISTENT,
                    confirm_timeout=self._part,
                )

        self._control.ask(publish)
        return [None] * len(batch)

    def receive(self, *, wait: timedelta) -> Delivery | None:
        deadline = time.monotonic() + wait.total_seconds()
        while True:
            delivery = self._messages.ask(self._take)
            left = deadline - time.monotonic()
            if delivery is not None or left <= 0:
                return delivery
            time.sleep(min(POLL_SECONDS, left))

    def delete(self, delivery: Delivery) -> None:
        self._with_tag(delivery, lambda channel, tag: channel.basic_ack(tag), done=True)

    def give_back(self, delivery: Delivery, *, pause: timedelta = timedelta(0)) -> None:
        if pause:
            self._with_tag(delivery, partial(self._hide, pause=pause), done=True)
        else:
            self._with_tag(delivery, lambda channel, tag: channel.basic_reject(tag, requeue=True), done=True)

    def extend(self, delivery: Delivery, *, visibility: timedelta) -> None:
        self._with_tag(delivery, partial(self._keep, visibility=visibility), done=False)

    def depth(self) -> Depth:
        return self._control.ask(self._depth)

    def retention(self) -> timedelta:
        return RETENTION

    def delay(self) -> timedelta:
        return timedelta(0)

    def ensure(self) -> None:
        self.ping()

    def ping(self) -> None:
        self._control.ask(self._waiting)

    def close(self) -> None:
        self._control.close()
        self._messages.close()

    @abstractmethod
    def _connect(self, *, receiver: bool) -> Connection:
        """Return a connection that is not open yet. If `receiver` is true, it will receive messages."""

    @abstractmethod
    def _open(self, connection: Connection, *, receiver: bool) -> Channel:
        """Open the connection and return a channel. On RabbitMQ, also create the queue if it does not exist."""

    @abstractmethod
    def _return_due(self, channel: Channel) -> None:
        """Put each hidden message back into the queue if its pause or its visibility timeout has ended."""

    @abstractmethod
    def _hide(self, channel: Channel, tag: Tag, *, pause: timedelta) -> None:
        """Return a message to the queue, but hide it from all receivers for the duration `pause`."""

    @abstractmethod
    def _keep(self, channel: Channel, tag: Tag, *, visibility: timedelta) -> None:
        """Hide a received message from other receivers for at least `visibility` from now."""

    @abstractmethod
    def _waiting(self, channel: Channel) -> int:
        """Return the number of messages in the queue that are not hidden."""

    @abstractmethod
    def _depth(self, channel: Channel) -> Depth: ...

    def _take(self, channel: Channel) -> Delivery | None:
        self._return_due(channel)
        raw = channel.basic_get(self._queue, no_ack=False)
        if raw is None:
            return None
        message = channel.message_to_python(raw)
        body = message.body
        if isinstance(body, str):
            # UTF-8 can't encode half of a surrogate pair. A text may contain one, for example if it was in UTF-7.
            body = body.encode(errors="backslashreplace")
        task = decode_task(message.headers, bytes(body or b""), content_type=message.content_type)
        handle = f"{next(self._numbers)}-{message.delivery_tag}"
        self._handles[message.delivery_tag] = handle
        # The true age is unknown: brokers mark a repeated receipt, but do not say when the first receipt was.
        age = timedelta(0) if message.delivery_info.get("redelivered") else None
        return Delivery(task.id or handle, task.body, handle, self.name, age)

    def _with_tag(self, delivery: Delivery, call: Callable[[Channel, Tag], object], *, done: bool) -> None:
        """Call `call` with the message's tag. Do nothing if the message was received again since, or was lost.

        If `done` is true, the call ends the receipt: it deletes the message or returns it.
        """

        def tolerant(channel: Channel) -> None:
            # Look for the tag first, because RabbitMQ closes the channel after a call with a tag that it does not know.
            tag = next((tag for tag, handle in self._handles.items() if handle == delivery.handle), None)
            if tag is None:
                return
            call(channel, tag)
            if done:
                del self._handles[tag]

        self._messages.ask(tolerant)
