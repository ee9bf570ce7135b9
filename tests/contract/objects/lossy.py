"""An HTTP proxy that drops responses of S3, and a fake S3 server that accepts uploads but stores nothing."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from tests.support.http_server import FakeHttpServer

PIECE = 64 * 1024


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        raise NotImplementedError

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass

    @property
    def size(self) -> int:
        return int(self.headers.get("Content-Length") or 0)


@contextmanager
def _serving(handler: type[_Handler]) -> Iterator[str]:
    with FakeHttpServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def losing_answers(upstream: str, lose: Callable[[str, str], bool]) -> Iterator[str]:
    """Forward every request to S3. If `lose(method, path)` returns true, close the connection without a response."""
    address = urlsplit(upstream)

    class Handler(_Handler):
        def _answer(self) -> None:
            connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
            connection.request(self.command, self.path, self.rfile.read(self.size), dict(self.headers))
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
            if lose(self.command, self.path):
                self.close_connection = True
                return
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length", "0") if self.command == "HEAD" else len(body)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

    with _serving(Handler) as url:
        yield url


@contextmanager
def swallowing() -> Iterator[str]:
    """Respond to a multipart upload as S3 does, but store nothing."""

    class Handler(_Handler):
        def _answer(self) -> None:
            left = self.size
            while left:
                left -= len(self.rfile.read(min(PIECE, left)))
            body = b""
            if self.command == "POST":
                tag = (
                    "InitiateMultipartUploadResult"
                    if self.path.endswith("?uploads")
                    else "CompleteMultipartUploadResult"
                )
                body = f"<{tag}><UploadId>u</UploadId><ETag>e-1</ETag></{tag}>".encode()
            self.send_response_only(200)
            self.send_header("ETag", '"e"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with _serving(Handler) as url:
        yield url
