"""Runs Debian's PgBouncer in front of a PostgreSQL server, in transaction mode, with default settings otherwise."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from tests.support.postgres import nobody
from tests.support.tether import free_port, tethered

PROGRAM = Path("/usr/sbin/pgbouncer")


@contextmanager
def pooled(url: str, *, connections: int) -> Iterator[str]:
    """Run a PgBouncer with `connections` server connections to the database at `url`. Yields the PgBouncer's URL."""
    if not PROGRAM.exists():
        raise RuntimeError("PgBouncer for the tests is missing: apt-get install pgbouncer")
    server = make_url(url)
    folder, port = Path(tempfile.mkdtemp(prefix="anb-pgbouncer-")), free_port()
    (folder / "users.txt").write_text(f'"{server.username}" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={server.host} port={server.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = trust\nauth_file = {folder}/users.txt\n"
        f"pool_mode = transaction\ndefault_pool_size = {connections}\n"
    )
    user = None
    if os.geteuid() == 0:
        user = nobody()
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, *user)
    near = server.set(port=port)

    def answers() -> bool:
        try:
            psycopg.connect(near.set(drivername="postgresql").render_as_string(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    version = subprocess.run([PROGRAM, "--version"], check=True, capture_output=True, text=True).stdout.split("\n")[0]
    with tethered([PROGRAM, folder / "pgbouncer.ini"], folder=folder, ready=answers, as_user=user):
        print(version)  # noqa: T201 - pytest shows it for a failed test
        yield near.render_as_string(hide_password=False)
