"""An HTTP server that sends prepared responses, valid or invalid, for tests of the command line."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from anb_cli.client import Api
from anb_cli.connection import Connection
from tests.support.http_server import FakeHttpServer

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Records each request and sends the next prepared response. Repeats the last response."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        pass

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def reply(self, status: int, body: bytes = b"", *, claimed: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if claimed is None else claimed))
        # Send `Connection: close`, because the server closes the connection after each response.
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def reply_json(self, status: int, said: object) -> None:
        self.reply(status, json.dumps(said).encode(), Content_Type="application/json")

    def _answer(self) -> None:
        self.close_connection = True
        self.server.seen.append(Seen(self.command, self.path, dict(self.headers)))
        answers = self.server.answers
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Deployment:
    """A running server: its URL, the prepared responses that it has not sent yet, and the requests that it received."""

    url: str
    answers: list[Answer]
    seen: list[Seen] = field(default_factory=list)

    def api(self) -> Api:
        return Api(Connection(self.url, "secret"))


class Server(FakeHttpServer):
    answers: list[Answer]
    seen: list[Seen]


@contextmanager
def deployments() -> Iterator[Callable[..., Deployment]]:
    """Yield a function that starts a server with prepared responses. All servers stop when the `with` block ends."""
    servers: list[Server] = []

    def deployed(*answers: Answer) -> Deployment:
        server = Server(("127.0.0.1", 0), Handler)
        server.answers, server.seen = list(answers), []
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return Deployment(f"http://127.0.0.1:{server.server_address[1]}", server.answers, server.seen)

    try:
        yield deployed
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def problem(status: int, code: str) -> Answer:
    return lambda request: request.reply_json(status, {"status": status, "code": code, "detail": f"It is {code}."})
