"""Manages the workers' temporary disk space: one folder per process, one subfolder per attempt.

Leftovers of crashed workers are removed at startup.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

import structlog

from anb_core.domain.errors import Unavailable

RENDER_ALLOWANCE = 256 * 1024 * 1024
"""Number of bytes of disk that a render may need for its files, in addition to the source file."""

_log = structlog.get_logger(__name__)


class Usage(Protocol):
    """The result of `shutil.disk_usage`. `free` is the free space of the disk in bytes."""

    @property
    def free(self) -> int: ...


def default_root() -> Path:
    """Return the folder for workers of this user inside TMPDIR."""
    return Path(tempfile.gettempdir()) / f"anb-worker-{os.getuid()}"


class ScratchDisk:
    """Gives each attempt a folder. `limit` is the maximum size of all files under `root` in bytes, or None.

    Use this object as a context manager.
    At the start of the block, a folder for this process is made, and the folders of crashed workers are removed.
    """

    def __init__(
        self, root: Path, *, limit: int | None = None, usage: Callable[[Path], Usage] = shutil.disk_usage
    ) -> None:
        self._root = root
        self._limit = limit
        self._usage = usage
        self._own: Path | None = None
        self._alive: IO[str] | None = None

    @property
    def cache(self) -> Path:
        """The folder that all workers of this machine share. It remains after this process has ended."""
        return self._root / "cache"

    @property
    def own(self) -> Path:
        """The folder of this process."""
        if self._own is None:
            raise RuntimeError("use the scratch disk as a context manager: its folder exists only inside the block")
        return self._own

    def __enter__(self) -> Self:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._root.stat().st_uid != os.getuid():
            raise PermissionError(f"{self._root} belongs to another user: set TMPDIR to a folder of your own.")
        self.cache.mkdir(exist_ok=True)
        with _locked(self._root / "lock"):
            self._remove_leftovers()
            self._own = Path(tempfile.mkdtemp(prefix="worker-", dir=self._root))
            self._alive = (self._own / "alive").open("w")
            # The lock shows that this process is alive. If the process crashes, the kernel releases the lock.
            fcntl.flock(self._alive, fcntl.LOCK_EX)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.own, ignore_errors=True)
        if self._alive is not None:
            self._alive.close()

    def folder(self, attempt_id: str) -> Path:
        """Return the path of the folder of an attempt."""
        return self.own / attempt_id

    def make(self, attempt_id: str, source_size: int) -> Path:
        """Create the folder of an attempt, if the disk has room for the source file and the render. Return its path.

        `source_size` is the size of the source file in bytes.

        Raises:
            Unavailable: the disk has too little room (`scratch_unavailable`).
        """
        self._require(source_size + RENDER_ALLOWANCE)
        folder = self.folder(attempt_id)
        folder.mkdir(exist_ok=True)
        return folder

    def clear(self, attempt_id: str) -> None:
        """Remove an attempt's folder if it exists. Never raises."""
        folder = self.folder(attempt_id)
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            _log.error("scratch could not be removed", folder=str(folder))

    def ping(self) -> None:
        """Check that the disk has room for a small job.

        Raises:
            Unavailable: the disk has too little room (`scratch_unavailable`).
        """
        self._require(RENDER_ALLOWANCE)

    def _require(self, size: int) -> None:
        room = self._usage(self._root).free
        if self._limit is not None:
            room = min(room, self._limit - _used(self._root))
        if room < size:
            free, needed = f"{room // 2**20} MiB", f"{size // 2**20} MiB"
            raise Unavailable(
                "scratch", f"{self._root} has room for {free}, but {needed} are needed: give it more room."
            )

    def _remove_leftovers(self) -> None:
        for folder in self._root.glob("worker-*"):
            with suppress(OSError), (folder / "alive").open("a") as alive:
                fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                _log.info("removed what a crashed worker left behind", folder=str(folder))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock a file during the `with` block. Only one process at a time may create or remove folders.

    Without the lock, another process could remove a new folder before its file `alive` is locked.
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _used(root: Path) -> int:
    """Return the total size of all files under a folder, in bytes. Ignore files that were just deleted."""
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            with suppress(OSError):
                total += (Path(folder) / name).lstat().st_size
    return total
