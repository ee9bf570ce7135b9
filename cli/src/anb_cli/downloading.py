"""Fetching a finished video.

To a file: into a part beside its final name, continued where it broke, moved there when whole. What is no file (a pipe,
a device, stdout) is written to as the bytes come, and never replaced.
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from anb_cli.client import Api, http_client
from anb_cli.errors import OutputLost, Unreachable, VideoFailed, WrongUse
from anb_cli.retrying import attempts
from anb_cli.sources import DASH
from anb_cli.streams import STDERR, STDOUT
from anb_cli.text import clean, readable
from anb_core.domain.naming import result_file_name, safe_file_name

TRIES = 4
PARTIAL = 206

LONGEST_NAME = 255
"""Bytes, as file systems have it."""

_DESCRIPTOR = re.compile(r"/dev/fd/(\d+)|/proc/self/fd/(\d+)")
"""Names of what the shell has opened. It is not opened anew: that would begin at its beginning."""


def target(video: dict[str, Any], output: Path | None) -> Path:
    """Where the video goes. A file that is there is only replaced when it was named; a link stays, and leads there.

    Raises:
        WrongUse: it can't go there.
    """
    if output is not None and _descriptor(output) == STDOUT:
        return DASH
    try:
        if output is None or output.is_dir():
            name = safe_file_name(result_file_name(str(video["file_name"])))
            # The bytes of UTF-8, also where the encoding of the system lacks these letters.
            path = (output or Path()) / os.fsdecode(name.encode())
            if os.path.lexists(path):
                raise WrongUse(f"{_shown(path)} exists already: name another file, or this one, with -o.")
            return path
        if not output.parent.is_dir():
            raise WrongUse(f"There is no folder {_shown(output.parent)}.")
        if is_written_through(output):
            return output
        return Path(os.path.realpath(output)) if output.is_symlink() else output
    except OSError as error:
        raise WrongUse(f"{_shown(output or Path())} can't be written: {error.strerror}.") from error


def is_written_through(path: Path) -> bool:
    """Whether what is there is no file that could be replaced.

    Raises:
        OSError: nobody knows.
    """
    if _descriptor(path) is not None:
        return True
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False


def download(
    api: Api,
    video: dict[str, Any],
    path: Path,
    *,
    on_bytes: Callable[[int], None],
) -> None:
    """Fetch the result of a processed video to `path`, where `target` found that it can go.

    A file is whole or not there at all. `on_bytes` gets how many bytes are there.

    Raises:
        Unreachable: the bucket does not answer.
        VideoFailed: what came is not what the API announced.
        OutputLost: stdout takes no more.
        WrongUse: `path` can't be written.
    """
    size, digest = int(video["result"]["size"]), str(video["result"]["sha256"])
    try:
        if is_written_through(path):
            with _open(path) as out:
                through = _Through(out)
                _fetch(api, video, through, size, on_bytes=on_bytes)
            if through.digest.hexdigest() != digest:
                raise VideoFailed(f"What was written to {_shown(path)} is not what the API announced: don't use it.")
            return
        part = _Part(path, digest)
        _fetch(api, video, part, size, on_bytes=on_bytes)
        part.finish(size, digest)
    except BrokenPipeError as error:
        raise OutputLost("") from error
    except OSError as error:
        raise WrongUse(f"{_shown(path)} can't be written: {error.strerror}.") from error


class _Part:
    """The file beside the final one."""

    def __init__(self, path: Path, digest: str) -> None:
        self._path = path
        # Named after its content: a part of another result is never continued.
        end = f".{digest[:16]}.part"
        name = os.fsencode(path.name)[: LONGEST_NAME - len(end) - 1]
        self._file = path.with_name(f".{os.fsdecode(name)}{end}")

    @property
    def have(self) -> int:
        """Bytes that are there."""
        try:
            found = self._file.lstat()
        except FileNotFoundError:
            return 0
        if not stat.S_ISREG(found.st_mode):
            raise WrongUse(f"{_shown(self._file)} is in the way: what broke off is continued there.")
        return found.st_size

    @contextmanager
    def open(self, *, anew: bool) -> Iterator[Callable[[bytes], object]]:
        """What takes the next bytes."""
        # As it comes: a larger piece that was still being filled would be lost when the connection breaks.
        with self._file.open("wb" if anew else "ab", buffering=0) as file:
            yield _all_into(file)

    def finish(self, size: int, digest: str) -> None:
        """Move it to its final name."""
        with self._file.open("rb") as file:
            if self.have != size or hashlib.file_digest(file, "sha256").hexdigest() != digest:
                self._file.unlink()
                raise VideoFailed(
                    "What was downloaded is not what the API announced, so it was thrown away: try again."
                )
        self._file.replace(self._path)


class _Through:
    """What is written to as the bytes come: what it has got it keeps."""

    def __init__(self, out: BinaryIO) -> None:
        self.have = 0
        self.digest = hashlib.sha256()
        self._write = _all_into(out)

    @contextmanager
    def open(self, *, anew: bool) -> Iterator[Callable[[bytes], object]]:
        """What takes the next bytes. Those that it has already are passed over, where they come again."""
        skip = self.have if anew else 0

        def take(piece: bytes) -> None:
            nonlocal skip
            fresh, skip = piece[skip:], max(0, skip - len(piece))
            self._write(fresh)
            self.digest.update(fresh)
            self.have += len(fresh)

        yield take


def _all_into(file: Any) -> Callable[[bytes], None]:  # noqa: ANN401 - any binary file
    def write(data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) or 0 :]

    return write


def _fetch(
    api: Api,
    video: dict[str, Any],
    out: _Part | _Through,
    size: int,
    *,
    on_bytes: Callable[[int], None],
) -> None:
    """Add what is missing."""
    try:
        for attempt in attempts(httpx.TransportError, most=TRIES):
            with attempt:
                if out.have < size:
                    _stream(api.download_url(video["video_id"]), out, size, on_bytes)
                if out.have < size:
                    raise httpx.ReadError(f"{out.have} of {size} bytes came")
    except httpx.TransportError as error:
        why = clean(str(error)) or type(error).__name__
        hint = " The same command continues it." if isinstance(out, _Part) else ""
        raise Unreachable(f"The download broke off {TRIES} times ({why}).{hint}") from error
    on_bytes(size)


def _stream(url: str, out: _Part | _Through, size: int, on_bytes: Callable[[int], None]) -> None:
    """The URL itself is the permission: our token is none of the bucket's business, so another client asks."""
    have = out.have
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with (
        http_client(url, timeout=httpx.Timeout(30.0, connect=5.0)) as http,
        http.stream("GET", url, headers=headers) as answer,
    ):
        if not answer.is_success:
            raise Unreachable(f"The bucket answered with HTTP {answer.status_code} instead of the video.")
        anew = answer.status_code != PARTIAL
        came = 0 if anew else have
        with out.open(anew=anew) as take:
            for piece in answer.iter_raw():
                take(piece)
                came += len(piece)
                on_bytes(came)
                if came > size:
                    break


def _open(path: Path) -> BinaryIO:
    number = _descriptor(path)
    # Neither made nor emptied: it is there, and is no file.
    file: BinaryIO = os.fdopen(os.open(path, os.O_WRONLY) if number is None else os.dup(number), "wb", buffering=0)
    if file.isatty() or stat.S_ISBLK(os.fstat(file.fileno()).st_mode):
        kind = "a terminal" if file.isatty() else "a disk"
        file.close()
        raise WrongUse(f"{_shown(path)} is {kind}, which is no place for a video: name a file.")
    return file


def _descriptor(path: Path) -> int | None:
    """The number of what is open already, where that is what the path means."""
    known = {DASH: STDOUT, Path("/dev/stdout"): STDOUT, Path("/dev/stderr"): STDERR}
    found = _DESCRIPTOR.fullmatch(str(path))
    return known.get(path) if found is None else int(found[1] or found[2])


def _shown(path: Path) -> str:
    return "stdout" if path == DASH else clean(readable(str(path)))
