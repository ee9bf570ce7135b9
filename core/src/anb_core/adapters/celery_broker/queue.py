"""What Redis and RabbitMQ share: sending tasks, and receiving them one at a time."""

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
"""Seconds between two looks for a message. kombu can also wait for a message, but then it takes the message whenever
one comes: it would be stuck while the worker may not begin a job, and on Redis be lost if the worker dies."""

PARTS = 4
"""A call may connect, ask, and do both again. Each of these parts gets a quarter of the time for a call."""

RETENTION = timedelta(days=365)
"""A broker of Celery keeps a message until it is received. A year is longer than any message waits."""

PERSISTENT = 2
"""Delivery mode of a message that RabbitMQ writes to its disk."""

Channel: TypeAlias = Any
"""A channel of kombu. Channels of different brokers have no common type."""

Tag: TypeAlias = Any
"""How the broker names a message that is not acknowledged: a text on Redis, a number on RabbitMQ."""


class KombuQueue(ABC):
    """Implements `anb_core.ports.queue.Queue`. All its methods may be called by several threads.

    There are two connections: one for messages that were received, and one for everything else. So a worker never
    waits for the relay. A message is acknowledged on the connection that received it, as RabbitMQ demands.

    Celery's brokers have no dead-letter queue: the job's own counters end a job that fails too often.
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
        """The newest handle of each message that was received and is neither deleted nor given back."""
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

    def ensure(self) -> None:
        self.ping()

    def ping(self) -> None:
        self._control.ask(self._waiting)

    def close(self) -> None:
        self._control.close()
        self._messages.close()

    @abstractmethod
    def _connect(self, *, receiver: bool) -> Connection:
        """Return a connection that is not open yet. `receiver` says whether it receives messages."""

    @abstractmethod
    def _open(self, connection: Connection, *, receiver: bool) -> Channel:
        """Open the connection, create the queue if the broker needs this, and return a channel."""

    @abstractmethod
    def _return_due(self, channel: Channel) -> None:
        """Put the hidden messages back into the queue whose time has come."""

    @abstractmethod
    def _hide(self, channel: Channel, tag: Tag, *, pause: timedelta) -> None:
        """Give a message back, so that nobody receives it before `pause` has passed."""

    @abstractmethod
    def _keep(self, channel: Channel, tag: Tag, *, visibility: timedelta) -> None:
        """Keep a message for at least `visibility` from now."""

    @abstractmethod
    def _waiting(self, channel: Channel) -> int:
        """Return the number of messages that can be received."""

    @abstractmethod
    def _depth(self, channel: Channel) -> Depth: ...

    def _take(self, channel: Channel) -> Delivery | None:
        self._return_due(channel)
        raw = channel.basic_get(self._queue, no_ack=False)
        if raw is None:
            return None
        message = channel.message_to_python(raw)
        body = message.body.encode() if isinstance(message.body, str) else bytes(message.body or b"")
        task = decode_task(message.headers, body, content_type=message.content_type)
        handle = f"{next(self._numbers)}-{message.delivery_tag}"
        self._handles[message.delivery_tag] = handle
        # The brokers know whether a message was received before, but not when.
        age = timedelta(0) if message.delivery_info.get("redelivered") else None
        return Delivery(task.id or handle, task.body, handle, age)

    def _with_tag(self, delivery: Delivery, call: Callable[[Channel, Tag], object], *, done: bool) -> None:
        """Call `call` with the message's tag, unless the handle is stale."""

        def tolerant(channel: Channel) -> None:
            # RabbitMQ closes the channel at a tag that it does not know.
            tag = next((tag for tag, handle in self._handles.items() if handle == delivery.handle), None)
            if tag is None:
                return
            call(channel, tag)
            if done:
                del self._handles[tag]

        self._messages.ask(tolerant)
