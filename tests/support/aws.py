"""Emulators of S3 and SQS: moto's server, and the embedded emulator of `anb up`."""

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient

from anb_cli.emulator import Emulator
from tests.support.tether import free_port, tethered


@contextmanager
def running_moto() -> Iterator[str]:
    """Run moto's server on a free port of 127.0.0.1. Yields its URL."""
    port = free_port()

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    with tethered(command, folder=Path(tempfile.mkdtemp(prefix="anb-moto-")), ready=answers):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def running_ministack(data: Path) -> Iterator[str]:
    """Run the embedded emulator on a free port of 127.0.0.1. Yields its URL."""
    emulator = Emulator(port=free_port(), data=data, secret=os.environ.get("AWS_SECRET_ACCESS_KEY", "test"))
    emulator.start(within=60)
    try:
        yield emulator.url
    finally:
        emulator.stop()


def receive_too_often(sqs: Any, queue: str) -> None:
    """Receive all messages of a queue again and again without deleting them, until the queue has moved them."""
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    at_once = {"QueueUrl": url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 0, "WaitTimeSeconds": 0}
    while sqs.receive_message(**at_once).get("Messages"):
        pass


def recorded_clients(monkeypatch: pytest.MonkeyPatch) -> list[BaseClient]:
    """Patch boto3 so that each new client is appended to the returned list. Tests stub the clients of the list."""
    clients: list[BaseClient] = []
    make = boto3.session.Session.client

    def record(*args: object, **kwargs: object) -> BaseClient:
        clients.append(make(*args, **kwargs))  # type: ignore[call-overload]
        return clients[-1]

    monkeypatch.setattr(boto3.session.Session, "client", record)
    return clients
