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
    """Liveness of the worker. The worker counts as alive while the last call of `beat` is less than `patience` ago.

    The consumer loop calls `beat` in each iteration. A running attempt calls `beat` once per second.
    """

    def __init__(self, patience: timedelta, runtime: Runtime) -> None:
        self._patience = patience.total_seconds()
        self._runtime = runtime
        self._last = runtime.monotonic()

    def beat(self) -> None:
        """Record a sign of life."""
        self._last = self._runtime.monotonic()

    def silence(self) -> float:
        """Seconds since the last beat."""
        return self._runtime.monotonic() - self._last

    def alive(self) -> bool:
        """Whether the last beat is recent enough."""
        return self.silence() < self._patience


Missing = Callable[[], Unavailable | None]
"""Returns the error of the first part that does not answer, or None if all answer."""


def one_at_a_time(missing: Missing) -> Missing:
    """Run the checks for only one request at a time, so that all requests together use at most one database connection.

    Another database connection of the pool stays free for the renewal of the lease.
    """
    lock = threading.Lock()

    def find_missing() -> Unavailable | None:
        with lock:
            return missing()

    return find_missing


def answer(path: str, pulse: Pulse, registry: CollectorRegistry, missing: Missing) -> tuple[HTTPStatus, str, bytes]:
    """Return status, content type and body of the answer to a GET."""
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
            # The error's own message names hosts and users, so it goes only to the log: anybody can read this answer.
            return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"the {error.part} does not answer\n".encode()
        case "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry)
    return HTTPStatus.NOT_FOUND, "text/plain", b"there are /healthz, /readyz and /metrics\n"


@contextmanager
def serving(host: str, port: int, pulse: Pulse, registry: CollectorRegistry, missing: Missing) -> Iterator[int]:
    """Serve HTTP while the block runs. Yields the port: when `port` is 0, the system chooses a free one."""
    missing = one_at_a_time(missing)

    class Handler(BaseHTTPRequestHandler):
        # The timeout in seconds. A client that stalls blocks only its own thread, and no longer than this timeout.
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
            """Log nothing, because requests of probes come too often for one log line each."""

    with ThreadingHTTPServer((host, port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
