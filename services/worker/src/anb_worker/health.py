"""Serves a worker's liveness (`/healthz`), readiness (`/readyz`) and metrics (`/metrics`) over HTTP."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from anb_core.domain.errors import Unavailable
from anb_core.ports.runtime import Runtime


class Pulse:
    """Liveness of the worker. The worker is alive if `beat` was last called less than `patience` ago.

    The consumer loop calls `beat` in each iteration. A running attempt calls `beat` once per second.
    `beat` is not called during a long poll, nor between a stop request and the end of the attempt.
    """

    def __init__(self, patience: timedelta, runtime: Runtime) -> None:
        self._patience = patience.total_seconds()
        self._runtime = runtime
        self._last = runtime.monotonic()

    def beat(self) -> None:
        """Record that the worker is alive at this moment."""
        self._last = self._runtime.monotonic()

    def silence(self) -> float:
        """Seconds since the last call of `beat`."""
        return self._runtime.monotonic() - self._last

    def alive(self) -> bool:
        """Whether the last call of `beat` is less than `patience` ago."""
        return self.silence() < self._patience


Missing = Callable[[], Unavailable | None]
"""A function that returns the error of the first dependency that does not answer. None if all answer."""


def one_at_a_time(missing: Missing) -> Missing:
    """Return a function that calls `missing` for one thread at a time. Other threads wait.

    So the requests use at most one database connection at a time. The renewal of the lease needs another one.
    """
    lock = threading.Lock()

    def find_missing() -> Unavailable | None:
        with lock:
            return missing()

    return find_missing


def answer(path: str, pulse: Pulse, registry: CollectorRegistry, missing: Missing) -> tuple[HTTPStatus, str, bytes]:
    """Return status, content type and body of the response to a GET request."""
    match path.partition("?")[0]:
        case "/healthz" if pulse.alive():
            return HTTPStatus.OK, "text/plain", b"ok\n"
        case "/healthz":
            silence = f"no sign of life for {pulse.silence():.0f} s\n"
            return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", silence.encode()
        case "/readyz":
            error = missing()
            if error is None:
                return HTTPStatus.OK, "text/plain", b"ok\n"
            # Everybody can read this. So leave out the error's message, which contains names of hosts and users.
            return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"the {error.part} does not answer\n".encode()
        case "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry)
    return HTTPStatus.NOT_FOUND, "text/plain", b"there are /healthz, /readyz and /metrics\n"


@contextmanager
def serving(host: str, port: int, pulse: Pulse, registry: CollectorRegistry, missing: Missing) -> Iterator[int]:
    """Serve HTTP during the `with` block. Yields the port. With port 0, the operating system chooses a free port."""
    missing = one_at_a_time(missing)

    class Handler(BaseHTTPRequestHandler):
        # Seconds after which a stalled client is disconnected. Until then, only the client's own thread is blocked.
        timeout = 10

        def do_GET(self) -> None:
            self.wfile.write(self.do_HEAD())

        def do_HEAD(self) -> bytes:
            status, kind, body = answer(self.path, pulse, registry, missing)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            return body

        def log_message(self, *_: object) -> None:
            """Log nothing, because probes send many requests."""

    with ThreadingHTTPServer((host, port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
