"""A fake S3 server that accepts all uploads and stores nothing. An emulator would keep gigabytes in memory."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from tests.support.http_server import FakeHttpServer

BEGUN = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
COMPLETED = '<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>'


class Sink(FakeHttpServer):
    """A server that counts the uploaded bytes. `completed` lists the paths of finished uploads.

    `part_bytes` counts the received bytes of all parts. If a client adds checksums to the body, they are counted, too.
    `rate` limits the bytes per second over all connections. If `rate` is None, there is no limit.
    """

    def __init__(self, rate: float | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rate = rate
        self._busy_until = 0.0
        if rate:
            # Use small buffers. Otherwise the kernel would buffer megabytes, and clients would send faster than `rate`.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1448)
        self.part_bytes = 0
        self.completed: list[str] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def count(self, size: int) -> None:
        with self._lock:
            self.part_bytes += size

    def take(self, size: int) -> None:
        """Sleep for the time that a transfer of `size` bytes takes at `rate` bytes per second."""
        if self.rate is None:
            return
        with self._lock:
            self._busy_until = max(self._busy_until, time.monotonic()) + size / self.rate
            pause = self._busy_until - time.monotonic()
        time.sleep(pause)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Sink

    def do_HEAD(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        size = self._discard()
        if "partNumber" in self._query():
            self.server.count(size)
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._discard()
        if "uploads" in self._query():
            self._answer(BEGUN)
        else:
            self.server.completed.append(urlsplit(self.path).path)
            self._answer(COMPLETED)

    def log_message(self, *_: object) -> None:
        """Do not log requests."""

    def _query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query, keep_blank_values=True)

    def _discard(self) -> int:
        size = left = int(self.headers.get("Content-Length", 0))
        buffer = memoryview(bytearray(2**14 if self.server.rate else 2**20))
        while left:
            read = self.rfile.readinto(buffer[: min(left, len(buffer))])
            if not read:
                raise ConnectionResetError
            left -= read
            self.server.take(read)
        return size

    def _answer(self, body: str = "") -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("ETag", '"e"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


@contextmanager
def s3_sink(rate: float | None = None) -> Iterator[Sink]:
    """Run the server on a free port of 127.0.0.1."""
    with Sink(rate) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
