"""Downloads a finished video.

A download to a file first writes a partial file in the same folder. A later download resumes the partial file.
When the partial file is complete, it is renamed to the target file.
A download to a pipe, a device or stdout has no partial file.
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

import httpx

from anb_cli.client import Api, http_client
from anb_cli.errors import OutputLost, Unreachable, VideoFailed, WrongUse
from anb_cli.retrying import attempts
from anb_cli.sources import DASH
from anb_cli.streams import STDERR, STDOUT, write_all
from anb_cli.text import clean, readable
from anb_core.domain.naming import result_file_name, safe_file_name

TRIES = 4
PARTIAL_CONTENT = 206

LONGEST_NAME = 255
"""Maximum length of a file name on common file systems, in bytes."""

_DESCRIPTOR = re.compile(r"/dev/fd/(\d+)|/proc/self/fd/(\d+)")
"""Paths of open file descriptors. The descriptor is duplicated, because opening the path would start at offset 0."""


def target(video: dict[str, Any], output: Path | None) -> Path:
    """Return the path to which a download is written. Refuse an existing file, unless `output` names the file.

    If `output` is a symlink, returns the target of the symlink.

    Raises:
        WrongUse: the path can't be written.
    """
    if output is not None and _descriptor(output) == STDOUT:
        return DASH
    try:
        if output is None or output.is_dir():
            name = safe_file_name(result_file_name(str(video["file_name"])))
            # Encode the file name as UTF-8, even if the locale has another encoding.
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
    """Whether the path is a pipe, a device or an open descriptor. A download to such a path has no partial file.

    Raises:
        OSError: the path can't be examined.
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
    """Download the result of a processed video to `path`, which `target` returned.

    The file at `path` appears only when complete. `on_bytes` is called with the total number of bytes written so far.

    Raises:
        Unreachable: the bucket does not respond.
        VideoFailed: the file has the wrong size or checksum.
        OutputLost: stdout was closed.
        WrongUse: `path` can't be written.
    """
    size, digest = int(video["result"]["size"]), str(video["result"]["sha256"])
    try:
        if is_written_through(path):
            with _open(path) as out:
                direct = _DirectOutput(out)
                _fetch(api, video, direct, size, on_bytes=on_bytes)
            if direct.digest.hexdigest() != digest:
                raise VideoFailed(f"The data written to {_shown(path)} has the wrong checksum: do not use it.")
            return
        part = _PartialFile(path, digest)
        _fetch(api, video, part, size, on_bytes=on_bytes)
        part.finish(size, digest)
    except BrokenPipeError as error:
        raise OutputLost("") from error
    except OSError as error:
        raise WrongUse(f"{_shown(path)} can't be written: {error.strerror}.") from error


class _PartialFile:
    """The file that contains an incomplete download, in the same folder as the final file."""

    def __init__(self, path: Path, digest: str) -> None:
        self._path = path
        # Put the checksum into the name, so that a download never resumes the partial file of another result.
        end = f".{digest[:16]}.part"
        name = os.fsencode(path.name)[: LONGEST_NAME - len(end) - 1]
        self._file = path.with_name(f".{os.fsdecode(name)}{end}")

    @property
    def bytes_done(self) -> int:
        """Number of bytes in the partial file."""
        try:
            found = self._file.lstat()
        except FileNotFoundError:
            return 0
        if not stat.S_ISREG(found.st_mode):
            raise WrongUse(f"{_shown(self._file)} is in the way: a partial download is kept there. Remove it.")
        return found.st_size

    @contextmanager
    def open(self, *, restart: bool) -> Iterator[Callable[[bytes], object]]:
        """Open the file for appending, or with `restart` for overwriting. Yields a function that writes bytes."""
        # Do not buffer, because buffered bytes would be lost if the connection broke.
        with self._file.open("wb" if restart else "ab", buffering=0) as file:
            yield partial(write_all, file)

    def finish(self, size: int, digest: str) -> None:
        """Check the file's size and checksum, then rename it to its final name."""
        with self._file.open("rb") as file:
            if self.bytes_done != size or hashlib.file_digest(file, "sha256").hexdigest() != digest:
                self._file.unlink()
                raise VideoFailed("The downloaded file has the wrong size or checksum, so it was deleted: try again.")
        self._file.replace(self._path)


class _DirectOutput:
    """A download to a pipe, device or open descriptor, where written bytes can't be removed again."""

    def __init__(self, out: FileIO) -> None:
        self.bytes_done = 0
        self.digest = hashlib.sha256()
        self._out = out

    @contextmanager
    def open(self, *, restart: bool) -> Iterator[Callable[[bytes], object]]:
        """Yield a function that writes the next bytes to the output.

        With `restart`, the response begins with bytes that were already written. The function ignores these bytes.
        """
        skip = self.bytes_done if restart else 0

        def take(piece: bytes) -> None:
            nonlocal skip
            new_bytes, skip = piece[skip:], max(0, skip - len(piece))
            write_all(self._out, new_bytes)
            self.digest.update(new_bytes)
            self.bytes_done += len(new_bytes)

        yield take


def _fetch(
    api: Api,
    video: dict[str, Any],
    out: _PartialFile | _DirectOutput,
    size: int,
    *,
    on_bytes: Callable[[int], None],
) -> None:
    """Download the bytes that `out` does not have yet."""
    try:
        for attempt in attempts(httpx.TransportError, most=TRIES):
            with attempt:
                if out.bytes_done < size:
                    _stream(api.download_url(video["video_id"]), out, size, on_bytes)
                if out.bytes_done < size:
                    raise httpx.ReadError(f"{out.bytes_done} of {size} bytes received")
    except httpx.TransportError as error:
        why = clean(str(error)) or type(error).__name__
        hint = " Run the same command again to resume it." if isinstance(out, _PartialFile) else ""
        raise Unreachable(f"The download failed {TRIES} times ({why}).{hint}") from error
    on_bytes(size)


def _stream(url: str, out: _PartialFile | _DirectOutput, size: int, on_bytes: Callable[[int], None]) -> None:
    """Download the missing bytes from a presigned URL.

    Use a separate HTTP client, so that the bucket never gets the API token. The presigned URL needs no token.
    """
    bytes_done = out.bytes_done
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={bytes_done}-"} if bytes_done else {})
    with (
        http_client(url, timeout=httpx.Timeout(30.0, connect=5.0)) as http,
        http.stream("GET", url, headers=headers) as response,
    ):
        if not response.is_success:
            raise Unreachable(f"The bucket answered with HTTP {response.status_code} instead of the video.")
        restart = response.status_code != PARTIAL_CONTENT
        received = 0 if restart else bytes_done
        with out.open(restart=restart) as take:
            for piece in response.iter_raw():
                take(piece)
                received += len(piece)
                on_bytes(received)
                if received > size:
                    break


def _open(path: Path) -> FileIO:
    number = _descriptor(path)
    # Open without O_CREAT and O_TRUNC, because the path exists and is not a regular file.
    file = FileIO(os.open(path, os.O_WRONLY) if number is None else os.dup(number), "wb")
    if file.isatty() or stat.S_ISBLK(os.fstat(file.fileno()).st_mode):
        kind = "a terminal" if file.isatty() else "a disk"
        file.close()
        raise WrongUse(f"{_shown(path)} is {kind}, which can't hold a video: name a file.")
    return file


def _descriptor(path: Path) -> int | None:
    """Return the number of the open file descriptor that the path names, or None."""
    standard_streams = {DASH: STDOUT, Path("/dev/stdout"): STDOUT, Path("/dev/stderr"): STDERR}
    match = _DESCRIPTOR.fullmatch(str(path))
    return standard_streams.get(path) if match is None else int(match[1] or match[2])


def _shown(path: Path) -> str:
    return "stdout" if path == DASH else clean(readable(str(path)))
