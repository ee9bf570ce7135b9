"""Middleware for every request: security headers, metrics, path prefix, unexpected errors and early responses."""

import asyncio
import re
import time
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anb_api.metrics import UNKNOWN_ROUTE, Metrics
from anb_api.problems import internal_error

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Default response headers. Responses are for programs, so browsers must not cache, embed or sniff a response."""

LINGER_SECONDS = 5.0
"""Maximum time, in seconds, that the server reads the rest of a request body after an early response.

If the server closed the connection at once, a client that is still sending would get a reset and lose the response.
"""

LINGER_BYTES = 32 * 1024 * 1024
"""Maximum number of bytes of a request body that the server reads after an early response."""

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")

OWN_PATHS = ("/api/", "/healthz", "/metrics", "/openapi.json", "/readyz")
"""The API's own paths begin with one of these strings. RequestMiddleware removes a prefix only from such a path."""

_log = structlog.get_logger(__name__)


class RequestMiddleware:
    """ASGI middleware that never buffers bodies. `prefix` is the path prefix if no proxy sends X-Forwarded-Prefix."""

    def __init__(self, app: ASGIApp, metrics: Metrics, prefix: str) -> None:
        self._app = app
        self._metrics = metrics
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        exchange = _Exchange(scope, receive, send)
        method = scope["method"]
        scope = self._scope_for_routes(scope)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            _log.info("client disconnected", path=scope["path"])
        except Exception:
            _log.exception("request failed", method=method, path=scope["path"])
            if exchange.status is not None:
                # The response has begun, so raise the error: the server then closes the connection.
                raise
            await internal_error()(scope, exchange.receive, exchange.send)
        finally:
            self._count(method, scope, exchange, time.monotonic() - began)

    def _scope_for_routes(self, scope: Scope) -> Scope:
        """Return the ASGI scope for the routes, with GET instead of HEAD, and with a path without the prefix."""
        prefix, path = prefix_of(Headers(scope=scope), self._prefix), scope["path"]
        without_prefix = path.removeprefix(prefix)
        return {
            **scope,
            "method": "GET" if scope["method"] == "HEAD" else scope["method"],
            "path": without_prefix if without_prefix.startswith(OWN_PATHS) else path,
            "state": {**scope.get("state", {}), "prefix": prefix},
        }

    def _count(self, method: str, scope: Scope, exchange: "_Exchange", seconds: float) -> None:
        if exchange.status is None:
            return
        route = getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
        self._metrics.requests.labels(method, route, exchange.status).inc()
        if not exchange.streams:
            self._metrics.seconds.labels(method, route).observe(seconds)


def prefix_of(headers: Headers, default: str) -> str:
    """Return the prefix in the client's URLs: the X-Forwarded-Prefix header if valid, else `default`."""
    prefix = "".join(part.strip().rstrip("/") for part in headers.get("x-forwarded-prefix", default).split(","))
    # Links and Location headers begin with the prefix. A prefix such as `//example.com` would lead to another host.
    return prefix if _PREFIX.fullmatch(prefix) else default


class _Exchange:
    """One request and its response. Adds headers, drops bodies of HEAD responses, and reads bodies to their end."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self.status: int | None = None
        self.streams = False
        self._bodiless = scope["method"] == "HEAD"
        self._receive = receive
        self._send = send
        self._unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        # With `Expect: 100-continue`, the client sends the body only after status 100, so do not wait for the body.
        self._waits = "100-continue" in headers.get("expect", "").lower()
        self._early = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._waits = False
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start(message)
            await self._send(message)
            if self._bodiless:
                await self._finish({"type": "http.response.body", "body": b""})
        elif not self._bodiless:
            await self._finish(message)

    async def _finish(self, message: Message) -> None:
        if self._early and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    def _start(self, message: Message) -> None:
        self.status = HTTPStatus(message["status"])
        headers = MutableHeaders(scope=message)
        self.streams = headers.get("content-type", "").startswith("text/event-stream")
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        if self._unread:
            self._early = True
            headers["Connection"] = "close"

    async def _linger(self) -> None:
        left = LINGER_BYTES
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while self._unread and not self._waits and left > 0:
                    left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            pass
