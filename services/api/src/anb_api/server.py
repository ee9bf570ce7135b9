"""The HTTP server: uvicorn with limits, and a stop that ends event streams, finishes uploads and then goes."""

import signal
import socket

import uvicorn
from fastapi import FastAPI

from anb_api.app import create_app, end_streams
from anb_api.connection import Guarded
from anb_api.settings import ApiSettings
from anb_core.ports.objects import Objects
from anb_core.ports.queue import Queue
from anb_core.ports.store import Store

KEEP_ALIVE_SECONDS = 75
"""Longer than load balancers keep idle connections (AWS: 60 s), so that we never close one they are about to use."""

DRAIN_SECONDS = 60
"""How long running requests, uploads above all, may go on after the order to stop."""


class Server(uvicorn.Server):
    """Ends the event streams first: they would keep the server from stopping."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self.app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop taking connections, let running requests finish, stop what runs beside them."""
        end_streams(self.app)
        await super().shutdown(sockets)


def make_server(settings: ApiSettings, store: Store, objects: Objects, queue: Queue) -> Server:
    """A server that is ready to run."""
    app = create_app(settings, store, objects, queue)
    host, _, port = settings.listen.rpartition(":")
    config = uvicorn.Config(
        app,
        host=host.strip("[]"),
        port=int(port),
        http=Guarded,
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        access_log=False,
        log_config=None,
        server_header=False,
    )
    return Server(config, app)


def serve(settings: ApiSettings, store: Store, objects: Objects, queue: Queue) -> None:
    """Serve until SIGTERM or SIGINT."""
    server = make_server(settings, store, objects, queue)

    def stop(*_: object) -> None:
        # While it runs uvicorn handles signals itself; once stopped it raises them again, when they have been obeyed.
        if not server.should_exit:
            raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server.run()
