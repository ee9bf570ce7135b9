"""Uvicorn's HTTP connection with limits for slow requests, large requests and too many connections.

docs/decisions/0012-limits-in-uvicorns-connection.md explains why the connection class enforces the limits.
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
"""Maximum total size of a request line and its headers, in bytes."""

HEADER_SECONDS = 10.0
"""Maximum wait in seconds for the first byte of a request, and then for the rest of its headers."""

WRITE_SECONDS = 30.0
"""Seconds after which the server aborts the connection of a client that does not read its response."""

MAX_CONNECTIONS = 512
"""Maximum number of connections of one process. Further connections get status 503, except for `PROBE_PATHS`.

Connections beyond 2 * MAX_CONNECTIONS are aborted, because many systems allow a process only 1024 open files.
"""

PROBE_PATHS: Final = frozenset({"/healthz", "/metrics", "/readyz"})
"""Paths that the server serves even beyond MAX_CONNECTIONS. Else a failed liveness probe would restart the server."""

LINGER_SECONDS = 2.0
"""Seconds for which a connection stays open after an error response, so that the client can read the response."""

LINGER_BYTES = 1024 * 1024
"""Maximum number of bytes that the server reads and ignores after it has refused a request."""

KEEPALIVE: Final = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
"""Socket options that detect a dead client within 30 s. TCP_USER_TIMEOUT is in milliseconds, other times in seconds.

While the kernel waits for the acknowledgment of sent data, it sends no keepalive probes.
TCP_USER_TIMEOUT limits this wait.
"""


class Guarded(H11Protocol):
    """An HTTP connection with limits. A request that exceeds a limit gets a response with problem details."""

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
        """Refuse the connection if too many connections are open, else start the timer for the request's headers."""
        super().connection_made(transport)
        if len(self.connections) > 2 * MAX_CONNECTIONS:
            transport.abort()
            return
        if len(self.connections) > MAX_CONNECTIONS:
            self.app = _RefuseWhenFull(self.app)
        _enable_keepalive(transport.get_extra_info("socket"))
        self._waiting_for_headers = self.loop.call_later(HEADER_SECONDS, self._on_slow_headers)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers of a closed connection."""
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle received bytes. After the server has refused a request, only count the bytes."""
        if self._left_to_read is None:
            super().data_received(data)
            return
        self._left_to_read -= len(data)
        if self._left_to_read <= 0:
            self.transport.close()

    def handle_events(self) -> None:
        """Parse the received bytes. Start or stop the timer that limits the time for a request's headers."""
        super().handle_events()
        if self.conn.their_state is not h11.IDLE or self._left_to_read is not None:
            self._stop_waiting()
        elif self._waiting_for_headers is None and self.conn.trailing_data[0]:
            self._waiting_for_headers = self.loop.call_later(HEADER_SECONDS, self._on_slow_headers)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's message does not help clients
        """Send an error response to a request that h11 can't parse."""
        match self._requests.status:
            case HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
                detail = (
                    f"The headers of the request have more than {MAX_HEADER_BYTES} bytes; send fewer or shorter ones."
                )
                refusal = problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", detail)
            case HTTPStatus.NOT_IMPLEMENTED:
                detail = "The only supported transfer encoding is 'chunked'; send the body without another encoding."
                refusal = problem(HTTPStatus.NOT_IMPLEMENTED, "transfer_encoding_unsupported", detail)
            case _:
                detail = "This is not a valid HTTP/1.1 request; use an HTTP library to send it."
                refusal = problem(HTTPStatus.BAD_REQUEST, "request_malformed", detail)
        self._refuse(refusal)

    def shutdown(self) -> None:
        """Close the connection when the server stops."""
        if self._left_to_read is None:
            super().shutdown()
        else:
            # Close the transport directly, because h11 does not know that an error response was sent.
            self.transport.close()

    def pause_writing(self) -> None:
        """Start a timer when the client stops reading the response."""
        super().pause_writing()
        self._waiting_for_reader = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the timer when the client reads the response again."""
        super().resume_writing()
        if self._waiting_for_reader is not None:
            self._waiting_for_reader.cancel()
            self._waiting_for_reader = None

    def _on_slow_headers(self) -> None:
        if not self.conn.trailing_data[0]:
            # Browsers open spare connections without a request, and expect no response on such a connection.
            self.transport.close()
            return
        detail = f"The headers of the request did not end within {HEADER_SECONDS:.0f} s."
        self._refuse(problem(HTTPStatus.REQUEST_TIMEOUT, "headers_stalled", detail))

    def _stop_waiting(self) -> None:
        if self._waiting_for_headers is not None:
            self._waiting_for_headers.cancel()
            self._waiting_for_headers = None

    def _refuse(self, answer: Response) -> None:
        """Send `answer` instead of the application's response, and ignore the rest of the request."""
        self._stop_waiting()
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started:
                self.transport.close()
                return
            # The application may still wait for the rest of the body. End its wait as if the client had disconnected.
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
    """An h11 connection that limits the size of all headers. h11 has no limit for headers that arrive in one read."""

    status = HTTPStatus.BAD_REQUEST
    """HTTP status for a request that h11 could not parse. Valid only after h11 has raised an error."""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next parsed event.

        Raises:
            RemoteProtocolError: the request is malformed, or its headers are too large.
        """
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            self.status = HTTPStatus(error.error_status_hint)
            raise
        if isinstance(event, h11.Request) and _head_size(event) > MAX_HEADER_BYTES:
            self.status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise h11.RemoteProtocolError("the headers are too large")
        return event


class _RefuseWhenFull:
    """ASGI middleware for a connection beyond MAX_CONNECTIONS. Serves PROBE_PATHS, and refuses all other requests."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in PROBE_PATHS:
            await self._app(scope, receive, send)
            return
        detail = f"This server has {MAX_CONNECTIONS} connections already; try again in a moment."
        headers = {**HEADERS, "Retry-After": RETRY_AFTER, "Connection": "close"}
        await problem(HTTPStatus.SERVICE_UNAVAILABLE, "server_full", detail, headers)(scope, receive, send)


def _head_size(request: h11.Request) -> int:
    """Return the size of a request's target and headers in bytes, including separators and line ends."""
    return len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers)


def _enable_keepalive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
