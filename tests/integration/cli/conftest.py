import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from anb_cli.__main__ import perform
from anb_cli.client import Api
from anb_cli.connection import connection
from anb_cli.errors import Unreachable
from anb_cli.stack.folder import NAME, Folder, Running
from anb_cli.stack.supervisor import BUCKET, REGION
from anb_worker.scratch import default_root
from tests.support import eventually
from tests.support.deployments import Deployment, deployments

ANB = [sys.executable, "-m", "anb_cli"]

CONTENT = bytes(range(256)) * 20_000
"""The bytes of a file that a test uploads or downloads (5 MB)."""

QUICK = {
    "PYTHONPATH": str(Path(__file__).parent / "impatient"),
    "ANB_SWEEP_SECONDS": "1",
    "ANB_BACKOFF_SECONDS": "0",
    "ANB_LEASE_SECONDS": "6",
    "ANB_HEARTBEAT_SECONDS": "2",
}

PLANTED = (
    "json.py",
    "enum.py",
    "av.py",
    "PIL.py",
    "botocore.py",
    "ministack.py",
    "anb_core.py",
    "anb_worker.py",
)
"""File names of Python modules, such as json.py. Tests write such files, and `anb` must not import these files."""


@pytest.fixture
def deploy() -> Iterator[Callable[..., Deployment]]:
    with deployments() as deployed:
        yield deployed


def processes_in(place: Path) -> dict[int, str]:
    """Return the command line, by process id, of every process whose working directory is in the given folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            directory = (process / "cwd").readlink()
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if directory.is_relative_to(place):
            found[int(process.name)] = command
    return found


@dataclass
class Place:
    """A folder in which a test runs `anb` commands."""

    path: Path

    @property
    def folder(self) -> Folder:
        return Folder(self.path / NAME)

    def plant(self) -> None:
        """Write the Python files PLANTED into the test's folders. Each imported file appends its name to a list."""
        for directory in (self.path, self.path / "out"):
            for name in PLANTED:
                (directory / name).write_text(f"open({str(self._imported)!r}, 'a').write({name + ' '!r})\n")

    def imported(self) -> str:
        """Return the names of the PLANTED files that a process has imported."""
        return self._imported.read_text() if self._imported.exists() else ""

    @property
    def _imported(self) -> Path:
        return self.path / "imported"

    def start(self, *arguments: str, **streams: Any) -> subprocess.Popen[str]:
        """Start a command in a new session. By default stderr goes to stdout. `streams` sets other standard streams."""
        return subprocess.Popen(
            [*ANB, *arguments],
            cwd=self.path,
            env=os.environ | QUICK,
            text=True,
            start_new_session=True,
            **({"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | streams),
        )

    def up(self) -> tuple[subprocess.Popen[str], Running]:
        """Start `anb up` and wait until the API responds. Returns the process, and the stack's URL and process id."""
        stack = self.start("up", "--port", "0")

        def serves() -> Running | None:
            if stack.poll() is not None:
                raise AssertionError(f"the stack ended: {stack.communicate()[0]}")
            return self.folder.running()

        running = eventually(serves)
        assert running is not None
        return stack, running

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command and wait until it ends."""
        return subprocess.run(
            [*ANB, *arguments],
            cwd=self.path,
            env=os.environ | QUICK,
            capture_output=True,
            text=True,
            check=False,
        )

    def records(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a command with `--json` and return the objects that it writes."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def upload(self, *arguments: str | Path) -> str:
        """Upload a file and return the video's id."""
        return str(self.records("upload", *map(str, arguments))[0]["video_id"])

    def statuses(self) -> dict[str, str]:
        """Return the statuses of all videos by id. Call the API directly, which is faster than a command."""
        with Api(connection({}, self.path)) as api:
            return {video["video_id"]: video["status"] for video in api.videos()}

    def answers(self) -> bool:
        """Return whether the API responds."""
        try:
            self.statuses()
        except Unreachable:
            return False
        return True

    def pid_of(self, part: str) -> int | None:
        """Return the id of the process in the test's folder whose command line contains `part`, or None."""
        commands = processes_in(self.path).items()
        found = [pid for pid, command in commands if part in command and "die_with_parent" not in command]
        return found[0] if found else None

    def secret(self) -> str:
        """Return the secret key that the stack uses to sign requests to the emulator."""
        environment = Path(f"/proc/{self.pid_of('anb_api')}/environ").read_text().split("\0")
        return next(pair for pair in environment if pair.startswith("AWS_SECRET_ACCESS_KEY=")).partition("=")[2]

    def bucket(self) -> Any:
        """Return the stack's bucket as a boto3 object. The secret comes from the environment of the API process."""
        return boto3.resource(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.folder.ports()['emulator']}",
            region_name=REGION,
            aws_access_key_id="anb",
            aws_secret_access_key=self.secret(),
        ).Bucket(BUCKET)

    def kill(self, part: str) -> int:
        """Kill a process of the stack with SIGKILL, and return the process id."""
        pid = eventually(lambda: self.pid_of(part))
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        return pid


def ended(process: subprocess.Popen[str], *, within: float = 60) -> int:
    """Wait for a process to end, and return the exit code. Read the output, so that the process never blocks."""
    process.communicate(timeout=within)
    return process.returncode


@pytest.fixture
def place(tmp_path: Path, cards_dir: Path) -> Iterator[Place]:
    yield from _cleared(tmp_path, cards_dir)


@pytest.fixture(scope="module")
def shared_place(tmp_path_factory: pytest.TempPathFactory, cards_dir: Path) -> Iterator[Place]:
    yield from _cleared(tmp_path_factory.mktemp("shared"), cards_dir)


def _cleared(path: Path, cards: Path) -> Iterator[Place]:
    """Yield a folder in which a test runs `anb`. After the test, kill every process that runs in the folder.

    All test folders share one cache of intro and outro clips, because making the clips takes seconds.
    """
    cards.mkdir(exist_ok=True)
    for directory in (path, path / "out"):
        folder = Folder(directory / NAME)
        folder.create()
        scratch = folder.scratch / default_root().name
        scratch.mkdir(mode=0o700)
        (scratch / "cache").symlink_to(cards)
    place = Place(path)
    place.plant()
    yield place
    for pid in processes_in(path):
        os.kill(pid, signal.SIGKILL)
    assert place.imported() == ""


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace `time.sleep`, so that retries do not wait. Returns the list of requested pauses, in seconds."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `anb` with the given arguments in the test process and return the exit code."""
    monkeypatch.setenv("ANB_TOKEN", "secret")
    return perform(arguments)
