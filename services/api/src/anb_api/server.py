"""The HTTP server: uvicorn with limits, and a shutdown that ends event streams and finishes uploads."""

import signal
import socket

import uvicorn
from fastapi import FastAPI

from anb_api.app import create_app, end_streams
from anb_api.connection import Guarded
from anb_api.settings import ApiSettings
from anb_core.ports.alerts import Alerts
from anb_core.ports.objects import Objects
from anb_core.ports.queue import Queue, QueueReceiver
from anb_core.ports.store import Store

KEEP_ALIVE_SECONDS = 75
"""Seconds for which an idle connection stays open. AWS load balancers close idle connections first, after 60 s."""

DRAIN_SECONDS = 60
"""Maximum time, in seconds, for which running requests such as uploads may continue after a stop signal."""


class Server(uvicorn.Server):
    """A uvicorn server whose shutdown first ends the event streams, because open streams would delay the shutdown."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self.app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the event streams, refuse new connections, wait for running requests and stop the app's lifespan."""
        end_streams(self.app)
        await super().shutdown(sockets)


def make_server(
    settings: ApiSettings,
    store: Store,
    objects: Objects,
    queue: Queue,
    *,
    old_queue: Queue | None = None,
    dead_letter_queue: QueueReceiver | None = None,
    alerts: Alerts | None = None,
) -> Server:
    """Return a server that is ready to run."""
    app = create_app(
        settings, store, objects, queue, old_queue=old_queue, dead_letter_queue=dead_letter_queue, alerts=alerts
    )
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


def serve(server: Server) -> None:
    """Serve requests until SIGTERM or SIGINT."""

    def stop(*_: object) -> None:
        # After its shutdown, uvicorn sends each handled signal to the process again. Ignore the repeated signals.
        if not server.should_exit:
            raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server.run()
