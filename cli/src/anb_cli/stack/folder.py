"""The folder `.anb/`: where a stack keeps what it knows, and where the other commands find its address and token."""

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
    """A stack that runs, as its folder says: the supervisor's process id and the API's address."""

    pid: int
    url: str


@dataclass(frozen=True, slots=True)
class Folder:
    """One `.anb` folder; `path` is absolute."""

    path: Path

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.path / "anb.db"

    @property
    def emulator(self) -> Path:
        """What the emulator keeps: objects and queues."""
        return self.path / "emulator"

    @property
    def scratch(self) -> Path:
        """Where workers keep the files of the attempt at hand."""
        return self.path / "scratch"

    @property
    def logs(self) -> Path:
        """One file a child, of the last start."""
        return self.path / "logs"

    def create(self) -> None:
        """Make the folder, private to its owner.

        Raises:
            StackTrouble: another user made it, who would know the token and could read every video.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(self.path):
            raise StackTrouble(f"{self.path} belongs to another user: run the stack in a folder of your own.")
        self.path.chmod(0o700)
        for path in (self.emulator, self.scratch, self.logs):
            path.mkdir(mode=0o700, exist_ok=True)
        # A folder that ignores itself needs no line in anybody's .gitignore.
        (self.path / ".gitignore").write_text("*\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only stack of this folder. The lock goes with the process, however it ends.

        Raises:
            StackTrouble: another stack runs here.
        """
        from filelock import FileLock, Timeout  # noqa: PLC0415 - it takes a tenth of a second, and only a stack locks

        try:
            # No fallback to a lock that is a file's presence: it would outlive a killed process.
            lock = FileLock(self.path / "lock", fallback_to_soft=False).acquire(blocking=False)
        except Timeout as error:
            raise StackTrouble(_runs_already(self.path, self.running())) from error
        with lock:
            try:
                yield
            finally:
                (self.path / "running.json").unlink(missing_ok=True)

    def token(self) -> str:
        """The token of this stack, made at first use; only its owner can read the file."""
        file = self.path / "token"
        if not file.exists():
            _write(file, f"anb_{secrets.token_urlsafe(32)}\n")
        return file.read_text().strip()

    def known_token(self) -> str | None:
        """The token, if a stack was ever started here."""
        file = self.path / "token"
        return file.read_text().strip() if file.exists() else None

    def ports(self) -> dict[str, int]:
        """The ports of the last start, by name: kept, so that what was noted with them stays true."""
        return {name: int(port) for name, port in self._read("ports.json").items()}

    def keep_ports(self, ports: dict[str, int]) -> None:
        """Remember the ports for the next start."""
        _write(self.path / "ports.json", json.dumps(ports) + "\n")

    def running(self) -> Running | None:
        """The stack that runs here, or None. What a killed one left behind may be said too: ask its address."""
        known = self._read("running.json")
        return Running(int(known["pid"]), str(known["url"])) if known else None

    def announce(self, url: str) -> None:
        """Tell the other commands that this process serves here now."""
        _write(self.path / "running.json", json.dumps({"pid": os.getpid(), "url": url}) + "\n")

    def _read(self, name: str) -> dict[str, Any]:
        try:
            known = json.loads((self.path / name).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}


def here() -> Path:
    """The current folder.

    Raises:
        WrongUse: it was removed meanwhile, or can't be reached.
    """
    try:
        return Path.cwd()
    except OSError as error:
        raise WrongUse(f"The current folder can't be used: {error.strerror}. Change to another one.") from error


def find(start: Path) -> Folder | None:
    """The nearest `.anb` folder of this user, from `start` upwards."""
    start = start.absolute()
    for folder in (start, *start.parents):
        # One that nobody may look into holds no stack of ours.
        if os.path.isdir(folder / NAME) and _is_ours(folder / NAME):  # noqa: PTH112 - Path.is_dir raises there
            return Folder(folder / NAME)
    return None


def _is_ours(path: Path) -> bool:
    return path.stat().st_uid == os.getuid()


def _runs_already(path: Path, running: Running | None) -> str:
    where = f" (process {running.pid}, {running.url})" if running else ""
    return f"A stack runs in {path} already{where}: use that one, or stop it with Ctrl-C first."


def _write(file: Path, text: str) -> None:
    """Whole or not at all, and readable by the owner alone."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    new.replace(file)
