import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from anb_api.body import Body
from anb_api.problems import Stalled


class Client:
    """A client that sends the given messages and then sends nothing."""

    def __init__(self, *messages: Message) -> None:
        self._messages = list(messages)
        self.sent = 0
        self.silent = asyncio.Event()

    async def receive(self) -> Message:
        if not self._messages:
            self.silent.set()
            await asyncio.Event().wait()
        self.sent += 1
        return self._messages.pop(0)


def request(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def test_the_thread_gets_the_body_in_order(executor: ThreadPoolExecutor) -> None:
    async def scenario() -> bytes:
        client = Client(request(b"a"), request(b"bc"), request(b"", more=False))
        return await Body(client.receive).feed(executor, b"".join)

    assert asyncio.run(scenario()) == b"abc"


def test_a_piece_is_received_only_when_the_thread_asks_for_it(executor: ThreadPoolExecutor) -> None:
    async def scenario() -> list[int]:
        client = Client(request(b"a"), request(b"b"), request(b"c", more=False))

        def work(pieces: Iterator[bytes]) -> list[int]:
            return [client.sent for _ in pieces]

        return await Body(client.receive).feed(executor, work)

    assert asyncio.run(scenario()) == [1, 2, 3]


def test_a_disconnect_of_the_client_is_raised_at_once(executor: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        client = Client(request(b"a"), {"type": "http.disconnect"})
        with pytest.raises(ClientDisconnect):
            await Body(client.receive).feed(executor, b"".join)

    asyncio.run(scenario())


def test_a_client_that_falls_silent_is_given_up(executor: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        with pytest.raises(Stalled):
            await Body(Client(request(b"a")).receive, patience=0.01).feed(executor, b"".join)

    asyncio.run(scenario())


def test_an_error_of_the_work_is_raised(executor: ThreadPoolExecutor) -> None:
    def work(pieces: Iterator[bytes]) -> None:
        next(pieces)
        raise ZeroDivisionError

    async def scenario() -> None:
        with pytest.raises(ZeroDivisionError):
            await Body(Client(request(b"a")).receive).feed(executor, work)

    asyncio.run(scenario())


class Dripping:
    """A slow client, which sends a body in small chunks with a pause of `every` seconds before each chunk."""

    def __init__(self, piece: bytes, *, every: float, pieces: int = 10_000) -> None:
        self._piece = piece
        self._every = every
        self._left = pieces

    async def receive(self) -> Message:
        await asyncio.sleep(self._every)
        self._left -= 1
        return request(self._piece, more=self._left > 0)


def test_a_client_that_brings_too_little_is_given_up_however_often_it_brings_something(
    executor: ThreadPoolExecutor,
) -> None:
    async def scenario() -> None:
        body = Body(Dripping(b"x", every=0.005).receive, patience=0.1, rate=1000)
        with pytest.raises(Stalled, match="less than 1 kB per second") as refusal:
            await body.feed(executor, b"".join)
        assert refusal.value.code == "upload_stalled"

    asyncio.run(asyncio.wait_for(scenario(), 5))


def test_a_client_that_brings_enough_may_take_as_long_as_it_likes(executor: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        body = Body(Dripping(b"x" * 1000, every=0.005, pieces=100).receive, patience=0.1, rate=1000)
        assert len(await body.feed(executor, b"".join)) == 100_000

    asyncio.run(scenario())


def test_a_client_that_was_quick_at_first_and_then_falls_silent_is_given_up(executor: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        client = Client(request(b"x" * 1_000_000))
        with pytest.raises(Stalled):
            await Body(client.receive, patience=0.05, rate=1000).feed(executor, b"".join)

    asyncio.run(asyncio.wait_for(scenario(), 5))


def test_the_time_in_which_we_are_busy_does_not_count_against_the_client(executor: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        client = Client(*[request(b"x")] * 5, request(b"x", more=False))

        def work(pieces: Iterator[bytes]) -> int:
            count = 0
            for _ in pieces:
                count += 1
                time.sleep(0.03)
            return count

        assert await Body(client.receive, patience=0.06, rate=1_000_000).feed(executor, work) == 6

    asyncio.run(scenario())


def test_a_server_that_stops_ends_the_work_and_waits_until_it_has_cleared_up(executor: ThreadPoolExecutor) -> None:
    cleared = threading.Event()

    def work(pieces: Iterator[bytes]) -> None:
        try:
            for _ in pieces:
                pass
        except CancelledError:
            cleared.set()
            raise

    async def scenario() -> None:
        client = Client(request(b"a"))
        upload = asyncio.create_task(Body(client.receive).feed(executor, work))
        await client.silent.wait()
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert cleared.is_set()

    asyncio.run(scenario())


def test_a_server_that_stops_while_the_work_is_busy_ends_it_at_the_next_piece(executor: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        client = Client(request(b"a"), request(b"b"))
        busy, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def work(pieces: Iterator[bytes]) -> None:
            next(pieces)
            loop.call_soon_threadsafe(busy.set)
            go_on.wait(5)
            next(pieces)

        upload = asyncio.create_task(Body(client.receive).feed(executor, work))
        await busy.wait()
        upload.cancel()
        loop.call_later(0.01, go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert client.sent == 1

    asyncio.run(scenario())
