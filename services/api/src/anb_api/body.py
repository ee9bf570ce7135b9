"""Passes a request body from the event loop to a thread. The server reads data only when the thread requests data."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from anb_api.problems import Stalled
from anb_core.domain.errors import TooLarge

PATIENCE_SECONDS = 60.0
"""Total time, in seconds, that the server waits for the client before it checks the client's rate."""

MIN_RATE = 8000
"""Minimum rate of an upload, in bytes per second. The server ends slower uploads, because each upload holds a slot."""

T = TypeVar("T")


class Body:
    """The body of one request. For backpressure, the server reads from the socket only while the thread waits for data.

    The server checks the client's rate each time it has waited `patience` seconds in total for the client.
    `rate` is the minimum rate in bytes per second.
    """

    def __init__(self, receive: Receive, *, patience: float = PATIENCE_SECONDS, rate: float = MIN_RATE) -> None:
        self._receive = receive
        self._patience = patience
        self._rate = rate
        self._waited = 0.0
        self._received = 0
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Task[None] | None = None
        self._stopped = False
        self._last = False

    def pieces(self) -> Iterator[bytes]:
        """Yield the body in chunks. Call this method in the thread, not in the event loop.

        Raises:
            ClientDisconnect: the connection broke.
            Stalled: the client is slower than the minimum rate.
            CancelledError: the server is stopping.
        """
        while not self._last:
            yield asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()

    async def read(self, max_bytes: int) -> bytes:
        """Return the whole body. Call this method in the event loop.

        Raises:
            TooLarge: the body has more than `max_bytes` (`request_too_large`).
            ClientDisconnect: the connection broke.
            Stalled: the client is slower than the minimum rate.
        """
        body = bytearray()
        while not self._last:
            body += await self._next()
            if len(body) > max_bytes:
                raise TooLarge("request_too_large", f"The body has more than {max_bytes} bytes.")
        return bytes(body)

    async def feed(self, executor: Executor, work: Callable[[Iterator[bytes]], T]) -> T:
        """Run `work` on the body's chunks in a thread.

        If the caller's task is cancelled, `work` gets a CancelledError instead of the next chunk.
        """
        running = self._loop.run_in_executor(executor, work, self.pieces())
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self._stop()
            await asyncio.wait([running])
            raise

    async def _next(self) -> bytes:
        if self._stopped:
            raise asyncio.CancelledError
        self._waiting = asyncio.current_task()
        try:
            message = await self._message()
        finally:
            self._waiting = None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self._last = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        self._received += len(body)
        return body

    async def _message(self) -> Message:
        while True:
            began = self._loop.time()
            try:
                async with asyncio.timeout(self._patience - self._waited):
                    return await self._receive()
            except TimeoutError:
                pass
            finally:
                self._waited += self._loop.time() - began
            self._check_rate()

    def _check_rate(self) -> None:
        """Check the client's rate after `patience` seconds of waiting, and start a new measurement."""
        if self._received < self._rate * self._patience:
            reason = f"In {self._patience:.0f} s of waiting, less than {self._rate / 1000:g} kB per second arrived"
            raise Stalled("upload_stalled", f"{reason}; send it again over a better connection.")
        self._waited, self._received = 0.0, 0

    def _stop(self) -> None:
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()
