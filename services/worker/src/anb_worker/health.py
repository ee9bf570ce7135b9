"""What a worker shows of itself over HTTP: whether its loop turns, whether it may take work, and its metrics."""

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
    """The worker lives while somebody calls `beat` often enough: the loop at each turn, an attempt each second."""

    def __init__(self, patience: timedelta, runtime: Runtime) -> None:
        self._patience = patience.total_seconds()
        self._runtime = runtime
        self._last = runtime.monotonic()

    def beat(self) -> None:
        """The worker gets on."""
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
    """However many ask, they take one connection to the database: a lease's renewal needs another."""
    asking = threading.Lock()

    def ask() -> Unavailable | None:
        with asking:
            return missing()

    return ask


def answer(path: str, pulse: Pulse, registry: CollectorRegistry, missing: Missing) -> tuple[HTTPStatus, str, bytes]:
    """Status, content type and body for a GET."""
    match path.partition("?")[0]:
        case "/healthz" if pulse.alive():
            return HTTPStatus.OK, "text/plain", b"ok\n"
        case "/healthz":
            silence = f"no sign of life for {pulse.silence():.0f} s\n"
            return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", silence.encode()
        case "/readyz":
            away = missing()
            if away is None:
                return HTTPStatus.OK, "text/plain", b"ok\n"
            # What it says of hosts and users is for the log: anybody may be asking.
            return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"the {away.part} does not answer\n".encode()
        case "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry)
    return HTTPStatus.NOT_FOUND, "text/plain", b"there are /healthz, /readyz and /metrics\n"


@contextmanager
def serving(host: str, port: int, pulse: Pulse, registry: CollectorRegistry, missing: Missing) -> Iterator[int]:
    """Answer while the block runs; gives the port, which matters where 0 was asked for."""
    missing = one_at_a_time(missing)

    class Handler(BaseHTTPRequestHandler):
        # A probe that stalls keeps its own thread only, and not for long.
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
            """Probes are not worth a line."""

    with ThreadingHTTPServer((host, port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
