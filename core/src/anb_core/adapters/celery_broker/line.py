"""A connection to a broker. Only one thread at a time uses it, because kombu's connections are not thread-safe."""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from amqp.exceptions import AMQPError, MessageNacked
from kombu import Connection
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from anb_core.domain.errors import Unavailable

ERRORS = (AMQPError, MessageNacked, KombuError, RedisError, OSError)
"""The errors that kombu and its drivers raise if the broker does not answer, or refuses a call."""

T = TypeVar("T")


class Line:
    """One connection with one channel. The first call opens it. After an error, the next call opens a new connection.

    `connect` returns a connection that is not open yet. `open_channel` opens this connection and returns a channel.
    `patience` limits how long a call waits for the calls of other threads. Error messages call the broker `place`.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        open_channel: Callable[[Connection], Any],
        *,
        place: str,
        patience: timedelta,
    ) -> None:
        self._connect = connect
        self._open_channel = open_channel
        self._place = place
        self._patience = patience.total_seconds()
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._channel: Any = None

    def ask(self, call: Callable[[Any], T]) -> T:
        """Call `call` with the channel, and return the result.

        If the connection was already open and `call` fails, open a new connection and repeat `call` once.

        Raises:
            Unavailable: the broker does not answer, or refuses the call.
        """
        if not self._lock.acquire(timeout=self._patience):
            raise Unavailable("queue", f"{self._place} does not answer: another call still waits for it.")
        try:
            return self._ask(call)
        except ERRORS as error:
            self._drop()
            what = str(error).strip().rstrip(".") or type(error).__name__
            raise Unavailable("queue", f"{self._place} does not answer: {what}.") from error
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the connection. The next call opens it again."""
        with self._lock:
            self._drop()

    def _ask(self, call: Callable[[Any], T]) -> T:
        if self._channel is not None:
            try:
                return call(self._channel)
            except ERRORS:
                self._drop()
        self._connection = self._connect()
        self._channel = self._open_channel(self._connection)
        return call(self._channel)

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with suppress(*ERRORS):
                connection.release()
