"""Gives a thread the body of a request that the event loop receives, piece by piece, each only when it is asked for."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from anb_api.problems import Stalled

PATIENCE_SECONDS = 60.0
MIN_RATE = 8000
"""A client that sends fewer bytes a second, while it is waited for so long, holds what others could use; or it is gone:
a phone that lost its network never says goodbye."""

T = TypeVar("T")


class Body:
    """The bytes of one request. The backpressure is the server's: it reads on only while somebody waits for more.

    Only the time in which the client is waited for counts against it.
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
        """For the thread.

        Raises:
            ClientDisconnect: the connection broke.
            Stalled: `upload_stalled`.
            CancelledError: the server stops.
        """
        while not self._last:
            yield asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()

    async def feed(self, executor: Executor, work: Callable[[Iterator[bytes]], T]) -> T:
        """Run `work` on the pieces in a thread. When this is cancelled, `work` is told, and its end is waited for."""
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
            self._judge()

    def _judge(self) -> None:
        """At the end of each time of patience."""
        if self._received < self._rate * self._patience:
            reason = f"Over {self._patience:.0f} s less than {self._rate / 1000:g} kB a second arrived"
            raise Stalled("upload_stalled", f"{reason}; send the file again over a better connection.")
        self._waited, self._received = 0.0, 0

    def _stop(self) -> None:
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()
