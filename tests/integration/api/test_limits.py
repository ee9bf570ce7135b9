"""Tests of the server's limits for clients that are too slow or send too much data, with shortened time limits."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.client import HTTPResponse
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from anb_api import connection, videos
from anb_api.body import Body
from anb_api.connection import MAX_HEADER_BYTES, Guarded
from tests.support import eventually
from tests.support.api import VIDEO, Api, Raw, form, part


@pytest.fixture
def owner(request: pytest.FixtureRequest) -> str:
    """The name of an owner who has no videos."""
    return str(request.node.name)


@pytest.fixture
def raw(api: Api) -> Iterator[Raw]:
    with api.raw("ana") as raw:
        yield raw


def refusal_of(answer: HTTPResponse) -> tuple[int, str]:
    """Return status and code of an error response. Check that the response is complete and ends the connection."""
    problem = json.loads(answer.read())
    assert (answer.headers["Content-Type"], answer.headers["Connection"]) == ("application/problem+json", "close")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert set(problem) == {"type", "title", "status", "code", "detail"}
    assert problem["status"] == answer.status
    return answer.status, problem["code"]


@pytest.mark.parametrize("length", [20_000, 100_000, 1_000_000])
def test_headers_that_are_too_large_are_refused_whether_they_come_at_once_or_not(raw: Raw, length: int) -> None:
    raw.send(b"GET /healthz HTTP/1.1\r\nHost: anb\r\nX-Large: " + b"a" * length + b"\r\n\r\n")

    assert refusal_of(raw.answer()) == (431, "headers_too_large")
    assert raw.receive() == b""


def test_an_address_that_is_too_long_is_refused(raw: Raw) -> None:
    raw.send(b"GET /healthz?" + b"a" * 17_000 + b" HTTP/1.1\r\nHost: anb\r\n\r\n")

    assert refusal_of(raw.answer()) == (431, "headers_too_large")


def test_headers_of_almost_the_largest_size_are_taken(raw: Raw) -> None:
    raw.send(b"GET /healthz HTTP/1.1\r\nHost: anb\r\nX-Large: " + b"a" * (MAX_HEADER_BYTES - 100) + b"\r\n\r\n")

    assert raw.answer().status == 200


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"what is this?\r\n\r\n", (400, "request_malformed")),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", (400, "request_malformed")),
        (b"GET / HTTP/1.1\r\n\r\n", (400, "request_malformed")),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", (400, "request_malformed")),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", (400, "request_malformed")),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", (400, "request_malformed")),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", (501, "transfer_encoding_unsupported")),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            (501, "transfer_encoding_unsupported"),
        ),
    ],
)
def test_a_malformed_request_is_refused_with_a_problem(raw: Raw, head: bytes, expected: tuple[int, str]) -> None:
    raw.send(head)

    assert refusal_of(raw.answer()) == expected


def test_a_malformed_chunk_ends_the_upload_with_a_problem_and_leaves_nothing(api: Api, owner: str) -> None:
    with api.raw(owner) as raw:
        raw.begin("Transfer-Encoding: chunked")
        raw.send_chunk(part("title", b"T") + part("video_file", VIDEO, "a.mp4")[:-2])
        eventually(lambda: bool(api.records(owner)))
        raw.send(b"no length\r\n")

        assert refusal_of(raw.answer()) == (400, "request_malformed")
    eventually(lambda: not api.records(owner))


class TestSlowHeaders:
    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connection, "HEADER_SECONDS", 0.3)

    def test_headers_that_do_not_end_are_given_up_though_more_of_them_comes(self, api: Api) -> None:
        with api.raw("ana") as raw, dripping(raw, b"X-More: x\r\n"):
            raw.send(b"GET /healthz HTTP/1.1\r\nHost: anb\r\n")

            assert refusal_of(raw.answer()) == (408, "headers_stalled")

    def test_a_connection_on_which_nothing_comes_is_closed_without_a_word(self, api: Api) -> None:
        with api.raw("ana") as raw:
            assert raw.receive() == b""

    def test_the_next_request_on_a_connection_is_waited_for_but_not_its_headers(self, api: Api) -> None:
        with api.raw("ana") as raw:
            raw.send(b"GET /healthz HTTP/1.1\r\nHost: anb\r\n\r\n")
            assert raw.answer().read() == b'{"status":"ok"}'
            assert raw.silent_for(0.6)

            raw.send(b"GET /healthz HTTP/1.1\r\nHost")
            assert refusal_of(raw.answer()) == (408, "headers_stalled")

    def test_a_body_may_take_longer_than_headers(self, api: Api, owner: str) -> None:
        with api.raw(owner) as raw:
            raw.begin(f"Content-Length: {len(form())}")
            raw.send(form()[:-10])
            assert raw.silent_for(0.6)
            raw.send(form()[-10:])

            assert raw.answer().status == 202


def test_an_upload_that_brings_too_little_is_ended_and_leaves_nothing(
    api: Api, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(videos, "Body", partial(Body, patience=0.5))
    with api.raw(owner) as raw:
        raw.begin("Content-Length: 10000000")
        raw.send(part("title", b"T") + part("video_file", VIDEO, "a.mp4")[:-2])
        with dripping(raw, b"\0"):
            assert refusal_of(raw.answer()) == (408, "upload_stalled")
    eventually(lambda: not api.records(owner))


def test_beyond_the_limit_of_connections_only_health_checks_are_answered(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = [api.raw("ana") for _ in range(3)]
    try:
        for one in connections:
            one.send(b"GET /healthz HTTP/1.1\r\nHost: anb\r\n\r\n")
            assert one.answer().read()
        monkeypatch.setattr(connection, "MAX_CONNECTIONS", len(connections))

        answer = httpx.get(f"{api.url}/api/videos", trust_env=False)
        assert (answer.status_code, answer.json()["code"]) == (503, "server_full")
        assert (answer.headers["retry-after"], answer.headers["connection"]) == ("5", "close")
        assert httpx.get(f"{api.url}/healthz", trust_env=False).status_code == 200

        # Beyond 2 * MAX_CONNECTIONS, the server closes a new connection without reading the request.
        more = [api.raw("ana") for _ in range(4)]
        connections += more
        assert [is_closed(one) for one in more] == [False, False, False, True]
    finally:
        for one in connections:
            one.__exit__()
    eventually(lambda: httpx.get(f"{api.url}/api/videos", trust_env=False).status_code == 401)


def test_a_client_that_does_not_read_its_answer_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WRITE_SECONDS", 0.2)
    place = urlsplit(api.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((place.hostname, place.port))
        request = b"GET /openapi.json HTTP/1.1\r\nHost: anb\r\n\r\n"
        client.settimeout(20)

        def ask_and_never_read() -> None:
            while True:
                client.sendall(request * 10)

        with pytest.raises(ConnectionError):
            ask_and_never_read()


def test_a_server_may_stop_while_a_refused_client_still_sends() -> None:
    async def nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
        """Do nothing, because no request reaches the app."""

    async def scenario() -> None:
        state = ServerState()
        config = uvicorn.Config(nothing, lifespan="off", log_config=None)
        loop = asyncio.get_running_loop()
        async with await loop.create_server(lambda: Guarded(config, state, {}), "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"GET / HTTP/1.1\r\nHost: anb\r\nX-Large: " + b"a" * 20_000 + b"\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")
            (refused,) = state.connections
            refused.shutdown()
            await reader.read()
            writer.close()
            await writer.wait_closed()
            assert not state.connections

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_client_whose_machine_is_gone_is_noticed_whether_it_is_waited_for_or_written_to() -> None:
    server, config = ServerState(), uvicorn.Config(lambda: None, log_config=None)

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as door, socket.create_connection(door.getsockname()):
            ours, _ = door.accept()
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_accepted_socket(lambda: Guarded(config, server, {}), ours)
            try:
                assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                idle, between, count, unacknowledged = (
                    ours.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in connection.KEEPALIVE
                )
                assert idle + between * count == unacknowledged / 1000 == connection.WRITE_SECONDS == 30
            finally:
                transport.close()

    asyncio.run(scenario())


def test_a_request_for_the_options_of_the_whole_server_is_answered(raw: Raw) -> None:
    raw.send(b"OPTIONS * HTTP/1.1\r\nHost: anb\r\n\r\n")
    answer = raw.answer()

    assert (answer.status, answer.headers["Allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, POST")


def test_of_one_callers_event_streams_some_are_refused_and_others_still_get_one(
    api: Api, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.context.stream_slots, "count", 4)
    with api.client(owner) as client, api.client(f"not-{owner}") as other:
        receipts = [
            who.post("/api/videos/upload", data={"title": "T"}, files={"video_file": ("a.mp4", VIDEO)}).json()
            for who in (client, other)
        ]
        mine, other_one = (f"/api/videos/{receipt['video_id']}/events" for receipt in receipts)
        with (
            client.stream("GET", mine) as first,
            client.stream("GET", mine) as second,
            client.stream("GET", mine) as third,
        ):
            assert [stream.status_code for stream in (first, second, third)] == [200, 200, 200]
            refused = client.get(mine)
            assert (refused.status_code, refused.json()["code"]) == (503, "streams_unavailable")
            assert refused.headers["retry-after"] == "5"
            with other.stream("GET", other_one) as theirs:
                assert theirs.status_code == 200

        def streams() -> bool:
            with client.stream("GET", mine) as again:
                return again.status_code == 200

        eventually(streams)


class dripping:  # noqa: N801 - used as a context manager
    """Send the data again and again, until the `with` block ends or the connection is closed."""

    def __init__(self, raw: Raw, data: bytes) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._drip, args=(raw, data))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _drip(self, raw: Raw, data: bytes) -> None:
        try:
            while not self._stopped.wait(0.02):
                raw.send(data)
        except OSError:
            pass


def is_closed(raw: Raw) -> bool:
    try:
        return not raw.silent_for(0.3)
    except ConnectionError:
        return True
