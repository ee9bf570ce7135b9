"""A proxy in front of a TCP server. Tests can make the proxy break a connection, or be slow, or refuse connections."""

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum


class Cut(Enum):
    """The moment at which the proxy breaks a connection."""

    BEFORE = "before"
    """The connection breaks before the request reaches the server."""
    AFTER = "after"
    """The connection breaks after the server has executed the request, so the response is lost."""
    WITHIN = "within"
    """The connection breaks within the response: the client gets its first half."""


class Proxy:
    """Forwards bytes between clients and a server. After a call of `cut`, breaks a connection.

    A test may change these attributes at any time:
    `delay` is the time for which all bytes of the server are held back, in seconds.
    If `refusing` is true, new connections are closed at once, and open ones at their next request.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._era = 0
        self.delay = 0.0
        self.refusing = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self._when: Cut | None = None
        self._words = b""
        self._stopping = False
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self, when: Cut, words: bytes) -> None:
        """Break the next connection on which a client sends the bytes `words`. Do not break later connections."""
        self._when, self._words = when, words

    def move(self, target: tuple[str, int]) -> None:
        """Forward new connections to another server. Open connections break at their next request."""
        self._target = target

    def silence(self) -> None:
        """Forward nothing any more on open connections, without closing them. New connections work."""
        self._era += 1

    def close(self) -> None:
        self._stopping = True
        # Connect once, so that the thread that waits for a client wakes up.
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port)).close()
        for thread in self._threads:
            thread.join(timeout=10)
        self._listener.close()

    def _accept(self) -> None:
        while not self._stopping:
            client, _ = self._listener.accept()
            thread = threading.Thread(target=self._serve, args=(client,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, client: socket.socket) -> None:
        target, era = self._target, self._era
        with client, contextlib.suppress(OSError), socket.create_connection(target) as server:
            while not self._stopping:
                if era < self._era:
                    time.sleep(0.05)
                    continue
                ready, _, _ = select.select([client, server], [], [], 0.05)
                if server in ready:
                    time.sleep(self.delay)
                    if not _forward(server.recv(65536), client):
                        return
                if client in ready:
                    said = client.recv(65536)
                    if self.refusing or target != self._target:
                        return
                    if self._when and self._words in said:
                        self._break(said, server, client)
                        return
                    if not _forward(said, server):
                        return

    def _break(self, said: bytes, server: socket.socket, client: socket.socket) -> None:
        when, self._when = self._when, None
        if when is not Cut.BEFORE:
            server.sendall(said)
            # The body of a request may come after its head.
            while server not in select.select([client, server], [], [])[0]:
                if not _forward(client.recv(65536), server):
                    break
            answer = server.recv(65536)
            if when is Cut.WITHIN:
                client.sendall(answer[: len(answer) // 2])
        self.cuts += 1


def _forward(data: bytes, to: socket.socket) -> bool:
    to.sendall(data)
    return bool(data)


@contextmanager
def proxied(host: str, port: int) -> Iterator[Proxy]:
    """Run a proxy in front of the server at the given address."""
    proxy = Proxy((host, port))
    try:
        yield proxy
    finally:
        proxy.close()
