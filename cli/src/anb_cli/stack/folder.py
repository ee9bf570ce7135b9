"""The folder `.anb/` of a local stack: its data, and the address and token that the other commands read."""

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
    """One `.anb` folder; `path` is absolute."""

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
            StackTrouble: the folder belongs to another user. That user could read the token and every video.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(self.path):
            raise StackTrouble(f"{self.path} belongs to another user: run the stack in a folder of your own.")
        self.path.chmod(0o700)
        for path in (self.emulator, self.scratch, self.logs):
            path.mkdir(mode=0o700, exist_ok=True)
        # This file makes Git ignore the folder, so the user's own .gitignore needs no entry for the folder.
        (self.path / ".gitignore").write_text("*\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of this folder, so that only one stack uses it. The kernel releases the lock at exit.

        Raises:
            StackTrouble: another stack runs in this folder.
        """
        from filelock import FileLock, Timeout  # noqa: PLC0415 - the import takes 0.1 s, and only `anb up` needs it

        try:
            # Soft locks are not allowed, because the file of a soft lock would remain if the process is killed.
            lock = FileLock(self.path / "lock", fallback_to_soft=False).acquire(blocking=False)
        except Timeout as error:
            raise StackTrouble(_runs_already(self.path, self.running())) from error
        with lock:
            try:
                yield
            finally:
                (self.path / "running.json").unlink(missing_ok=True)

    def token(self) -> str:
        """Return the token of this stack. The first call creates the token, in a file that only its owner can read."""
        file = self.path / "token"
        if not file.exists():
            _write(file, f"anb_{secrets.token_urlsafe(32)}\n")
        return file.read_text().strip()

    def known_token(self) -> str | None:
        """Return the token, or None if no stack was ever started in this folder."""
        file = self.path / "token"
        return file.read_text().strip() if file.exists() else None

    def ports(self) -> dict[str, int]:
        """Return the ports of the last start, by name. The next start reuses these ports, so addresses stay valid."""
        return {name: int(port) for name, port in self._read("ports.json").items()}

    def keep_ports(self, ports: dict[str, int]) -> None:
        """Save the ports for the next start."""
        _write(self.path / "ports.json", json.dumps(ports) + "\n")

    def running(self) -> Running | None:
        """Return the recorded stack, or None. The stack may have been killed, so check whether its URL answers."""
        data = self._read("running.json")
        return Running(int(data["pid"]), str(data["url"])) if data else None

    def announce(self, url: str) -> None:
        """Save the process id and the API's URL, so that the other commands find this stack."""
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
        WrongUse: the folder was removed, or can't be reached.
    """
    try:
        return Path.cwd()
    except OSError as error:
        raise WrongUse(f"The current folder can't be used: {error.strerror}. Change to another one.") from error


def find(start: Path) -> Folder | None:
    """Return this user's `.anb` folder in `start` or in the nearest parent folder, or None."""
    start = start.absolute()
    for folder in (start, *start.parents):
        # A folder that this user can't read belongs to another user's stack.
        if os.path.isdir(folder / NAME) and _is_ours(folder / NAME):  # noqa: PTH112 - Path.is_dir raises there
            return Folder(folder / NAME)
    return None


def _is_ours(path: Path) -> bool:
    return path.stat().st_uid == os.getuid()


def _runs_already(path: Path, running: Running | None) -> str:
    where = f" (process {running.pid}, {running.url})" if running else ""
    return f"A stack runs in {path} already{where}: use that one, or stop it with Ctrl-C first."


def _write(file: Path, text: str) -> None:
    """Replace a file atomically. Only its owner can read the new file."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    new.replace(file)
