"""Replaces stdout and stderr with streams that never cause a traceback.

A write fails if the shell has closed the stream, the disk is full, or a pipe has no reader.
A write also fails if the encoding of the stream lacks a character of the text.
"""

import errno
import io
import locale
import os
import re
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from anb_cli.errors import OutputLost

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDIN, STDOUT, STDERR = 0, 1, 2

# Modes for opening /dev/null in place of a closed stream. With these modes, reading stdin and writing output fail.
_INSTEAD_OF_CLOSED = ((STDIN, os.O_WRONLY), (STDOUT, os.O_RDONLY), (STDERR, os.O_WRONLY))


class _Output(io.FileIO):
    """A stream that raises OutputLost at its first failure, and ignores later writes, such as the flush at exit."""

    failed = False

    def write(self, data: "ReadableBuffer", /) -> int:
        size = memoryview(data).nbytes
        if self.failed:
            return size
        try:
            written = super().write(data)
            if written is None:
                _wait_until_writable(self)
        except OSError as error:
            self.failed = True
            self.on_failure(error)
            return size
        # `written` is None if the non-blocking file was full. After the result 0, the buffered writer tries again.
        return written or 0

    def on_failure(self, error: OSError) -> None:
        # Print no message for a closed pipe, because a reader such as `head` closes the pipe on purpose.
        raise OutputLost("" if error.errno == errno.EPIPE else f"The output can't be written: {error.strerror}.")


class _ErrorOutput(_Output):
    """Stderr as a stream that ignores write errors, because no other stream could show an error of stderr."""

    def on_failure(self, error: OSError) -> None:
        pass


def prepare() -> None:
    """Replace sys.stdout and sys.stderr, and remove COLUMNS and LINES if they are not positive numbers."""
    for number, mode in _INSTEAD_OF_CLOSED:
        try:
            os.fstat(number)
        except OSError:
            # Otherwise the next opened file would get this descriptor number, and receive the command's output.
            with suppress(OSError):
                os.open(os.devnull, mode)
    sys.stdout = _text(_Output(STDOUT, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_ErrorOutput(STDERR, "w", closefd=False), sys.stderr)
    for name in ("COLUMNS", "LINES"):
        if not re.fullmatch(r"[1-9]\d{0,3}", os.environ.get(name, "80"), re.ASCII):
            del os.environ[name]


def write_all(file: io.FileIO, data: bytes) -> None:
    """Write all bytes to an unbuffered file. If a non-blocking file is full, wait until it accepts bytes again."""
    rest = memoryview(data)
    while rest:
        written = file.write(rest)
        if written is None:
            _wait_until_writable(file)
        else:
            rest = rest[written:]


def end(code: int) -> None:
    """Flush stdout and stderr, and exit the process without waiting for threads that follow a video."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, OutputLost, ValueError):
            stream.flush()
    os._exit(code)


def _wait_until_writable(file: io.FileIO) -> None:
    # If a non-blocking file is full, `write` returns None at once. So wait until the file accepts bytes.
    select.select([], [file], [])


def _text(raw: _Output, replaced: TextIO | None) -> TextIO:
    encoding = replaced.encoding if replaced is not None else locale.getpreferredencoding(do_setlocale=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="replace",
        line_buffering=raw.isatty() or raw.fileno() == STDERR,
    )
