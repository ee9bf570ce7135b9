"""Runs servers for tests. Each server ends when the test process ends, even if the test process is killed."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from secrets import randbelow

from tests.support.waiting import eventually

# A shell script that runs a server until the script's stdin is closed.
# The script's stdin is a pipe from the test process. When the test process dies, the kernel closes the pipe.
_WATCH = """
signal=$1 folder=$2; shift 2
exec 3<&0
"$@" 3<&- & server=$!
{ cat <&3 >/dev/null; kill -s "$signal" $server; } 2>/dev/null & watch=$!
wait $server; status=$?
kill $watch 2>/dev/null
rm -rf "$folder"
exit $status
"""


# Each test process has its own range of ports, below the ports that the kernel assigns to clients.
# So no other process takes a port that `free_port` returned, even if the server starts slowly.
_FIRST = 20_000 + 1000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports = (_FIRST + number % 1000 for number in count(randbelow(1000)))


def free_port() -> int:
    """Return a free port of 127.0.0.1."""
    while True:
        port = next(_ports)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def tethered(
    command: Sequence[str | Path],
    *,
    folder: Path,
    ready: Callable[[], bool],
    stop: str = "TERM",
    as_user: tuple[int, int] | None = None,
) -> Iterator[None]:
    """Run a server until the `with` block ends, then delete `folder`, which contains the server's data.

    `ready` returns whether the server responds. `stop` is the name of the signal that stops the server.
    The server runs with the user and group id `as_user`.
    """
    user, group = as_user or (None, None)
    with tempfile.TemporaryFile() as output:
        watch = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "tether", stop, folder, *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,  # Start a new session, so that the server does not get the SIGINT of Ctrl-C.
            user=user,
            group=group,
            extra_groups=None if as_user is None else [],
        )

        def up_or_dead() -> bool:
            return ready() or watch.poll() is not None

        try:
            eventually(up_or_dead)
            if watch.poll() is not None:
                output.seek(0)
                raise AssertionError(f"{command[0]} ended with {watch.returncode}: {output.read().decode()}")
            yield
        finally:
            assert watch.stdin is not None
            watch.stdin.close()
            watch.wait(60)
