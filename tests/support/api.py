"""Runs the real API in the test process or in a separate process, and opens raw connections to the API."""

import http.client
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import boto3
import httpx
import pytest

from anb_api.context import Context
from anb_api.server import make_server
from anb_api.settings import ApiSettings
from anb_cli.stack import die_with_parent
from anb_core.adapters.system import new_id
from anb_core.domain.model import Record, Scope
from anb_core.domain.status import Status
from anb_core.settings.loading import load
from anb_core.usecases.tokens import create_token
from tests.support.parts import Parts, opened_parts
from tests.support.tether import free_port
from tests.support.waiting import eventually

BUCKET = "anb-api-tests"
MAX_UPLOAD = 24 * 1024 * 1024
VIDEO = b"\0\0\0\x18ftypisom" + bytes(range(256)) * 20
BOUNDARY = "----anb-42"


def environment(folder: Path, aws_url: str, **others: str) -> dict[str, str]:
    """Return the environment variables for an API process."""
    return {
        "DATABASE_URL": f"sqlite:///{folder / 'anb.db'}",
        "S3_BUCKET": BUCKET,
        "SQS_QUEUE_URL": f"{aws_url}/000000000000/anb-api-tests",
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_REGION": "us-east-1",
        "ANB_CREATE_RESOURCES": "true",
        "ANB_MAX_UPLOAD_BYTES": str(MAX_UPLOAD),
        "ANB_API_LISTEN": "127.0.0.1:0",
        **others,
    }


@contextmanager
def in_environment(variables: dict[str, str]) -> Iterator[tuple[ApiSettings, Parts]]:
    """Yield the API's settings, and open the database, bucket and queue that the environment variables name."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            settings = load(ApiSettings)
            parts = stack.enter_context(opened_parts())
        yield settings, parts


@contextmanager
def serving(settings: ApiSettings, parts: Parts) -> Iterator[tuple[str, Context]]:
    """Run the API in a real HTTP server, in a thread. Yields its URL and its context."""
    server = make_server(settings, parts.store, parts.objects, parts.queue)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started)
        host, port = server.servers[0].sockets[0].getsockname()
        yield f"http://{host}:{port}", server.app.state.context
    finally:
        server.should_exit = True
        thread.join(20)


@dataclass(slots=True)
class Api:
    """A running API, and the database, bucket and queue that the API uses."""

    url: str
    context: Context
    aws_url: str

    def token(self, owner: str, scope: Scope = Scope.USER) -> str:
        return create_token(self.context.store, owner=owner, scope=scope, new_id=new_id).secret

    def client(self, owner: str, scope: Scope = Scope.USER) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token(owner, scope)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def records(self, owner: str) -> list[Record]:
        return list(self.context.store.listing(owner=owner))

    def unfinished(self) -> list[str]:
        """Return the keys of unfinished multipart uploads in the bucket."""
        s3: Any = boto3.client("s3", endpoint_url=self.aws_url, region_name="us-east-1")
        try:
            return [found["Key"] for found in s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])]
        finally:
            s3.close()

    def raw(self, owner: str) -> "Raw":
        return Raw(self.url, self.token(owner))


class Raw:
    """A raw connection to the API, on which a test can send any bytes."""

    def __init__(self, url: str, token: str) -> None:
        place = urlsplit(url)
        self._socket = socket.create_connection((place.hostname, place.port), timeout=60)
        self._token = token

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def begin(self, *headers: str, content_type: str | None = f"multipart/form-data; boundary={BOUNDARY}") -> None:
        """Send the request line and the headers of an upload."""
        lines = ["POST /api/videos/upload HTTP/1.1", "Host: anb", f"Authorization: Bearer {self._token}", *headers]
        if content_type is not None:
            lines.append(f"Content-Type: {content_type}")
        self.send("\r\n".join([*lines, "", ""]).encode())

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send_chunk(self, data: bytes) -> None:
        self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def receive(self) -> bytes:
        """Wait for bytes from the API, and return the bytes. Returns empty bytes if the API closed the connection."""
        return self._socket.recv(65536)

    def silent_for(self, seconds: float) -> bool:
        """Return whether the API sends nothing and keeps the connection open for the given number of seconds."""
        readable, _, _ = select.select([self._socket], [], [], seconds)
        return not readable

    def answer(self) -> http.client.HTTPResponse:
        """Wait for the response's status and headers."""
        answer = http.client.HTTPResponse(self._socket, method="POST")
        answer.begin()
        return answer

    def reset(self) -> None:
        """Reset the connection, as the operating system does when a client process is killed."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


def part(name: str, value: bytes, file_name: str | None = None) -> bytes:
    file_part = f'; filename="{file_name}"' if file_name is not None else ""
    return (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file_part}\r\n\r\n'.encode() + value + b"\r\n"
    )


def form(title: str = "A title", data: bytes = VIDEO) -> bytes:
    """Return the body of a valid upload form."""
    return part("title", title.encode()) + part("video_file", data, "clip.mp4") + END


END = f"--{BOUNDARY}--\r\n".encode()


@dataclass(frozen=True, slots=True)
class Process:
    url: str
    parts: Parts
    token: str
    database: Path
    child: subprocess.Popen[bytes]

    def upload(self) -> Raw:
        return Raw(self.url, self.token)

    def statuses(self) -> list[Status]:
        return [record.job.status for record in self.parts.store.listing(owner="ana")]


@contextmanager
def running(folder: Path, aws_url: str, **others: str) -> Iterator[Process]:
    port = free_port()
    variables = environment(folder, aws_url, ANB_API_LISTEN=f"127.0.0.1:{port}", ANB_LOG_FORMAT="json", **others)
    url = f"http://127.0.0.1:{port}"
    with in_environment(variables) as (_, parts):
        token = create_token(parts.store, owner="ana", scope=Scope.USER, new_id=new_id).secret
        with (folder / "log").open("wb") as log:
            command = die_with_parent.command_line([sys.executable, "-m", "anb_api"], signal.SIGKILL)
            child = subprocess.Popen(command, env={**os.environ, **variables}, stdout=log, stderr=log)
        try:
            eventually(lambda: answers(url) or child.poll() is not None)
            yield Process(url, parts, token, folder / "anb.db", child)
        finally:
            child.kill()
            child.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
