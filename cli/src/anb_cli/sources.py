"""Opens the file or pipe to upload. Copies a pipe to a temporary file first, so that a retry can read the copy."""

import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from anb_cli.errors import WrongUse
from anb_cli.streams import STDIN
from anb_cli.text import clean, readable
from anb_core.domain.naming import safe_file_name, title_from_file_name

DASH = Path("-")

NAMELESS = "video.mp4"
"""File name of a video that comes from an unnamed pipe."""

PIECE = 1 << 20
"""Maximum size of one read from a pipe, in bytes."""


@dataclass(frozen=True, slots=True)
class Source:
    """A video to upload: a range of bytes of an open file."""

    name: str
    """File name for the API."""
    title: str
    """Title of the video, if the user gives no other title."""
    file: BinaryIO
    begin: int
    """Offset in `file` of the video's first byte."""
    size: int
    """Size of the video in bytes."""

    def reader(self, on_bytes: Callable[[int], None]) -> "Reader":
        """Return a reader of the video's bytes. The reader calls `on_bytes` with the number of bytes read so far."""
        return Reader(self, on_bytes)


class Reader:
    """A file-like object from which httpx reads a source. httpx calls `seek` to determine the size.

    If the file grows during the upload, `read` ignores the new bytes. If the file shrinks, `read` raises WrongUse.
    """

    def __init__(self, source: Source, on_bytes: Callable[[int], None]) -> None:
        self._source = source
        self._on_bytes = on_bytes
        self._at = 0

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (self._source.size if whence == os.SEEK_END else 0)
        return self._at

    def read(self, size: int = -1) -> bytes:
        source, left = self._source, self._source.size - self._at
        wanted = left if size < 0 else min(size, left)
        source.file.seek(source.begin + self._at)
        piece = source.file.read(wanted)
        if len(piece) < wanted:
            raise WrongUse(f"{source.name} became shorter while it was sent.")
        self._at += len(piece)
        self._on_bytes(self._at)
        return piece


def check(given: Path) -> None:
    """Check that a file can be uploaded. A command checks all its files before the first upload.

    Raises:
        WrongUse: the file does not exist, is a folder, or can't be read.
    """
    if given == DASH:
        return
    try:
        if stat.S_ISDIR(given.stat().st_mode):
            raise WrongUse(f"{_shown(given)} is a folder: name the files in it.")
    except OSError as error:
        raise WrongUse(f"{_shown(given)} can't be read: {error.strerror}.") from error
    if not os.access(given, os.R_OK):
        raise WrongUse(f"{_shown(given)} can't be read: {os.strerror(errno.EACCES)}.")


@contextmanager
def opened(given: Path, on_bytes: Callable[[int], None]) -> Iterator[Source]:
    """Open the file or pipe `given` (`-` is stdin). For a pipe, call `on_bytes` with the number of bytes read so far.

    Raises:
        WrongUse: the source can't be read, is empty, or is neither a file nor a pipe.
    """
    shown = _shown(given)
    try:
        with _open(given) as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode):
                begin = file.seek(0, os.SEEK_CUR)
                yield Source(*_names(given), file, begin, os.fstat(file.fileno()).st_size - begin)
                return
            if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
                kind = "a terminal: pipe a video into it" if file.isatty() else "neither a file nor a pipe"
                raise WrongUse(f"{shown} is {kind}.")
            with _temporary() as copy:
                size = _copy(file, copy, on_bytes)
                if not size:
                    raise WrongUse(f"Nothing came out of {shown}: the command that should write to it may have failed.")
                yield Source(*_names(given), copy, 0, size)
    except OSError as error:
        raise WrongUse(f"{shown} can't be read: {error.strerror}.") from error


def _open(given: Path) -> BinaryIO:
    return open(STDIN, "rb", closefd=False) if given == DASH else given.open("rb")


@contextmanager
def _temporary() -> Iterator[BinaryIO]:
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed below
    except OSError as error:
        raise WrongUse(
            f"A pipe is copied to a temporary file first, but that file can't be created: {error.strerror}."
        ) from error
    with file:
        yield file


def _copy(pipe: BinaryIO, copy: BinaryIO, on_bytes: Callable[[int], None]) -> int:
    size = 0
    while piece := os.read(pipe.fileno(), PIECE):
        try:
            copy.write(piece)
            copy.flush()
        except OSError as error:
            raise WrongUse(
                f"A pipe is copied to a file in {tempfile.gettempdir()} first, but that failed: {error.strerror}."
                " Set TMPDIR to a folder with more space."
            ) from error
        size += len(piece)
        on_bytes(size)
    return size


def shown_name(given: Path) -> str:
    """Return the name that a file's progress bar shows."""
    return _shown(given if _is_nameless(given) else Path(given.name))


def _shown(given: Path) -> str:
    return "stdin" if given == DASH else clean(readable(str(given)))


def _names(given: Path) -> tuple[str, str]:
    """Return the file name for the API, and the default title."""
    name = NAMELESS if _is_nameless(given) else readable(given.name)
    return safe_file_name(name), title_from_file_name(name)


def _is_nameless(given: Path) -> bool:
    # A pipe that a shell passes has a path such as /dev/stdin or /dev/fd/63, which is no useful name.
    return given == DASH or given.is_relative_to("/dev") or given.is_relative_to("/proc")
