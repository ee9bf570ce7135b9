"""The base class of the fake HTTP servers."""

import sys
from http.server import ThreadingHTTPServer
from typing import Any


class FakeHttpServer(ThreadingHTTPServer):
    """A server with one thread per connection, which prints nothing about connections that clients end.

    A thread may outlive its test. Its traceback would then be part of the output that another test compares.
    """

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
