"""Gives a thread the body of a request that the event loop receives, piece by piece, each only when it is asked for."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from anb_api.problems import Stalled

PATIENCE_SECONDS = 60.0
"""A client that sends nothing for so long is gone: a phone that lost its network never says goodbye."""

T = TypeVar("T")


class Body:
    """The bytes of one request. The backpressure is the server's: it reads on only while somebody waits for more."""

    def __init__(self, receive: Receive, *, patience: float = PATIENCE_SECONDS) -> None:
        self._receive = receive
        self._patience = patience
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
            async with asyncio.timeout(self._patience):
                message = await self._receive()
        except TimeoutError:
            raise Stalled(
                "upload_stalled", f"Nothing arrived for {self._patience:.0f} s; send the file again."
            ) from None
        finally:
            self._waiting = None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self._last = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body

    def _stop(self) -> None:
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()
