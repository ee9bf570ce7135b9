import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from anb_cli import streams

MANY = "abcdefgh" * 50_000
"""A text with more bytes than fit into a pipe."""

pytestmark = pytest.mark.timeout(20)  # A program that does not wait for the pipe would try again for ever.


@dataclass
class Pipe:
    """A non-blocking pipe. The test empties the pipe only while the program waits until it can write again."""

    reading: int
    writing: int
    received: bytearray = field(default_factory=bytearray)

    def read(self) -> None:
        with suppress(BlockingIOError):
            self.received += os.read(self.reading, 2**20)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    pipe = Pipe(*os.pipe())

    def wait(_: Any, writing: list[Any], __: Any) -> None:
        assert [file.fileno() for file in writing] == [pipe.writing]
        pipe.read()

    monkeypatch.setattr("select.select", wait)
    for end in (pipe.reading, pipe.writing):
        os.set_blocking(end, False)
    yield pipe
    for end in (pipe.reading, pipe.writing):
        os.close(end)


def test_a_file_that_is_full_is_waited_for(pipe: Pipe) -> None:
    with open(pipe.writing, "wb", buffering=0, closefd=False) as file:
        streams.write_all(file, MANY.encode())
    pipe.read()
    assert pipe.received == MANY.encode()


def test_a_full_stdout_is_waited_for(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr(streams, "STDOUT", pipe.writing)
    streams.prepare()
    sys.stdout.write(MANY)
    sys.stdout.flush()
    pipe.read()
    assert pipe.received == MANY.encode()
