"""The folder `.anb/` of a local stack. It contains the stack's data, and the address and token for other commands."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anb_cli.errors import StackTrouble, WrongUse

NAME = ".anb"


@dataclass(frozen=True, slots=True)
class Running:
    """A running stack."""

    pid: int
    """Process id of the supervisor."""
    url: str
    """Base URL of the API."""


@dataclass(frozen=True, slots=True)
class Folder:
    """An `.anb` folder, with its absolute path."""

    path: Path

    @property
    def database(self) -> Path:
        """The SQLite database file."""
        return self.path / "anb.db"

    @property
    def emulator(self) -> Path:
        """Folder for the emulator's objects and queues."""
        return self.path / "emulator"

    @property
    def scratch(self) -> Path:
        """Folder for the workers' temporary files."""
        return self.path / "scratch"

    @property
    def logs(self) -> Path:
        """Folder for the log files of the last start, one per child process."""
        return self.path / "logs"

    def create(self) -> None:
        """Create the folder, readable only by its owner.

        Raises:
            StackTrouble: the folder belongs to another user, who could read the token and every video.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(self.path):
            raise StackTrouble(f"{self.path} belongs to another user: run the stack in a folder of your own.")
        self.path.chmod(0o700)
        for path in (self.emulator, self.scratch, self.logs):
            path.mkdir(mode=0o700, exist_ok=True)
        # Make Git ignore the folder `.anb`, so that the user's own .gitignore needs no entry.
        (self.path / ".gitignore").write_text("*\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder for one stack. The kernel releases the lock when the process exits.

        Raises:
            StackTrouble: another stack runs in the folder.
        """
        from filelock import FileLock, Timeout  # noqa: PLC0415 - the import takes 0.1 s, and only `anb up` needs it

        try:
            # Allow only locks of the operating system, which end with the process. Without such locks, filelock would
            # create a lock file instead (a soft lock), and this file would remain if the process is killed.
            lock = FileLock(self.path / "lock", fallback_to_soft=False).acquire(blocking=False)
        except Timeout as error:
            raise StackTrouble(_runs_already(self.path, self.running())) from error
        with lock:
            try:
                yield
            finally:
                (self.path / "running.json").unlink(missing_ok=True)

    def token(self) -> str:
        """Return the stack's token. The first call creates the token, in a file that only its owner can read."""
        file = self.path / "token"
        if not file.exists():
            _write(file, f"anb_{secrets.token_urlsafe(32)}\n")
        return file.read_text().strip()

    def known_token(self) -> str | None:
        """Return the stack's token, or None if no stack was ever started in the folder."""
        file = self.path / "token"
        return file.read_text().strip() if file.exists() else None

    def ports(self) -> dict[str, int]:
        """Return the ports of the last start, by name. The next start reuses the ports, so that URLs stay valid."""
        return {name: int(port) for name, port in self._read("ports.json").items()}

    def keep_ports(self, ports: dict[str, int]) -> None:
        """Save the ports, so that the next start reuses the same ports."""
        _write(self.path / "ports.json", json.dumps(ports) + "\n")

    def running(self) -> Running | None:
        """Return the recorded stack, or None. The record of a killed stack remains, although the stack does not run."""
        data = self._read("running.json")
        return Running(int(data["pid"]), str(data["url"])) if data else None

    def announce(self, url: str) -> None:
        """Save the process id and the API's URL, so that other commands find the stack."""
        _write(self.path / "running.json", json.dumps({"pid": os.getpid(), "url": url}) + "\n")

    def _read(self, name: str) -> dict[str, Any]:
        try:
            data = json.loads((self.path / name).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}


def current_folder() -> Path:
    """Return the current folder.

    Raises:
        WrongUse: the current folder was removed, or can't be read.
    """
    try:
        return Path.cwd()
    except OSError as error:
        raise WrongUse(f"The current folder can't be used: {error.strerror}. Change to another one.") from error


def find(start: Path) -> Folder | None:
    """Return the current user's `.anb` folder in `start` or in the nearest parent folder, or None."""
    start = start.absolute()
    for folder in (start, *start.parents):
        # Use os.path.isdir, which returns False if the user may not examine the path. Path.is_dir raises an error.
        if os.path.isdir(folder / NAME) and _is_ours(folder / NAME):  # noqa: PTH112 - Path.is_dir raises there
            return Folder(folder / NAME)
    return None


def _is_ours(path: Path) -> bool:
    return path.stat().st_uid == os.getuid()


def _runs_already(path: Path, running: Running | None) -> str:
    where = f" (process {running.pid}, {running.url})" if running else ""
    return f"A stack runs in {path} already{where}: use that one, or stop it with Ctrl-C first."


def _write(file: Path, text: str) -> None:
    """Replace a file atomically. Only the file's owner can read the new file."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    new.replace(file)
