"""One client's connection: uvicorn's, with limits on how long and how much a client may take.

docs/decisions/0012-limits-in-uvicorns-connection.md tells why they are here.
"""

import asyncio
import socket
from http import HTTPStatus
from typing import Any, Final, cast

import h11
from fastapi.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from anb_api.middleware import HEADERS
from anb_api.problems import RETRY_AFTER, problem

MAX_HEADER_BYTES = 16 * 1024
"""Of a request's first line and all its headers."""

HEADER_SECONDS = 10.0
"""From the first byte of a request to the end of its headers; also from the connection to that first byte."""

WRITE_SECONDS = 30.0
"""A client that takes nothing of its answer for so long is gone."""

MAX_CONNECTIONS = 512
"""Of one process. Beyond it only `SPARED` are answered, and beyond twice as many nobody: a process has 1024 files."""

SPARED: Final = frozenset({"/healthz", "/metrics", "/readyz"})
"""Whoever keeps us alive must not take a crowd for a crash."""

LINGER_SECONDS = 2.0
LINGER_BYTES = 1024 * 1024
"""After a refusal so much is still read: closing at once would reset the connection before the client reads why."""

KEEPALIVE: Final = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
"""A client whose machine or network is gone without a word is noticed after 30 s, where the system can do that: by its
silence, or (in milliseconds) by what it does not acknowledge, for while that is sent again nobody asks for its life."""


class Guarded(H11Protocol):
    """Ends what is too slow, too large or too much, with a problem that says so."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = self._requests = _Requests(h11.SERVER, MAX_HEADER_BYTES)
        self._waiting_for_headers: asyncio.TimerHandle | None = None
        self._waiting_for_reader: asyncio.TimerHandle | None = None
        self._left_to_read: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(transport)
        if len(self.connections) > 2 * MAX_CONNECTIONS:
            transport.abort()
            return
        if len(self.connections) > MAX_CONNECTIONS:
            self.app = _Full(self.app)
        _notice_death(transport.get_extra_info("socket"))
        self._waiting_for_headers = self.loop.call_later(HEADER_SECONDS, self._on_slow_headers)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes."""
        if self._left_to_read is None:
            super().data_received(data)
            return
        self._left_to_read -= len(data)
        if self._left_to_read <= 0:
            self.transport.close()

    def handle_events(self) -> None:
        """Make of the bytes what they are."""
        super().handle_events()
        if self.conn.their_state is not h11.IDLE or self._left_to_read is not None:
            self._stop_waiting()
        elif self._waiting_for_headers is None and self.conn.trailing_data[0]:
            self._waiting_for_headers = self.loop.call_later(HEADER_SECONDS, self._on_slow_headers)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - it says nothing that helps
        """Refuse what can't be read."""
        match self._requests.status:
            case HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
                detail = (
                    f"The headers of the request have more than {MAX_HEADER_BYTES} bytes; send fewer or shorter ones."
                )
                refusal = problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", detail)
            case HTTPStatus.NOT_IMPLEMENTED:
                detail = "Of the transfer encodings only 'chunked' is taken; send the body as it is."
                refusal = problem(HTTPStatus.NOT_IMPLEMENTED, "transfer_encoding_unsupported", detail)
            case _:
                detail = "This can't be read as an HTTP/1.1 request; let an HTTP library write it."
                refusal = problem(HTTPStatus.BAD_REQUEST, "request_malformed", detail)
        self._refuse(refusal)

    def shutdown(self) -> None:
        """The server stops."""
        if self._left_to_read is None:
            super().shutdown()
        else:
            # Refused past h11, which still thinks that it owes an answer.
            self.transport.close()

    def pause_writing(self) -> None:
        """The client does not take what it is sent."""
        super().pause_writing()
        self._waiting_for_reader = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        if self._waiting_for_reader is not None:
            self._waiting_for_reader.cancel()
            self._waiting_for_reader = None

    def _on_slow_headers(self) -> None:
        if not self.conn.trailing_data[0]:
            # Browsers open connections that they may need, and want no answer on them.
            self.transport.close()
            return
        detail = f"The headers of the request did not end within {HEADER_SECONDS:.0f} s."
        self._refuse(problem(HTTPStatus.REQUEST_TIMEOUT, "headers_stalled", detail))

    def _stop_waiting(self) -> None:
        if self._waiting_for_headers is not None:
            self._waiting_for_headers.cancel()
            self._waiting_for_headers = None

    def _refuse(self, answer: Response) -> None:
        """Answer for the application, and hear no more of this request."""
        self._stop_waiting()
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started:
                self.transport.close()
                return
            # The application waits for the rest of a body.
            cycle.disconnected = True
            cycle.message_event.set()
        self._left_to_read = LINGER_BYTES
        status = HTTPStatus(answer.status_code)
        headers = {**dict(answer.headers), **HEADERS, "Connection": "close"}
        head = [f"HTTP/1.1 {status} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self.transport.write("\r\n".join(head).encode() + bytes(answer.body))
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)


class _Requests(h11.Connection):
    """Judges the size of headers however they come (h11 alone takes any that come in one piece), and keeps why not."""

    status = HTTPStatus.BAD_REQUEST

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """What the client has sent."""
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            self.status = HTTPStatus(error.error_status_hint)
            raise
        if isinstance(event, h11.Request) and _size(event) > MAX_HEADER_BYTES:
            self.status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise h11.RemoteProtocolError("the headers are too large")
        return event


class _Full:
    """In front of the application on a connection that is too much."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in SPARED:
            await self._app(scope, receive, send)
            return
        detail = f"This server has {MAX_CONNECTIONS} connections already; try again in a moment."
        headers = {**HEADERS, "Retry-After": RETRY_AFTER, "Connection": "close"}
        await problem(HTTPStatus.SERVICE_UNAVAILABLE, "server_full", detail, headers)(scope, receive, send)


def _size(request: h11.Request) -> int:
    """With colon, blank and line end of each header."""
    return len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers)


def _notice_death(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
