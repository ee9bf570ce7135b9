"""Replaces stdout and stderr with streams that never cause a traceback.

Writing fails if the shell closed the stream, if the disk is full, or if a pipe has no reader.
Writing also fails if the stream's encoding does not have a character of the text.
"""

import errno
import io
import locale
import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from anb_cli.errors import OutputLost

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDIN, STDOUT, STDERR = 0, 1, 2

# The modes (stdin for writing, stdout for reading) are wrong on purpose: using a closed stream must still fail.
_INSTEAD_OF_CLOSED = ((STDIN, os.O_WRONLY), (STDOUT, os.O_RDONLY), (STDERR, os.O_WRONLY))


class _Output(io.FileIO):
    """A stream that raises OutputLost at its first failure. Later writes, such as the flush at exit, are dropped."""

    failed = False

    def write(self, data: "ReadableBuffer", /) -> int:
        size = memoryview(data).nbytes
        if self.failed:
            return size
        try:
            # `write` returns None if a non-blocking file accepts no bytes now. The buffer then tries again.
            return super().write(data) or 0
        except OSError as error:
            self.failed = True
            self.on_failure(error)
            return size

    def on_failure(self, error: OSError) -> None:
        # The reader of a pipe, such as `head`, closes the pipe on purpose, so no message is needed.
        raise OutputLost("" if error.errno == errno.EPIPE else f"The output can't be written: {error.strerror}.")


class _ErrorOutput(_Output):
    """A stream that ignores write errors. Used for stderr, because a failure of stderr can't be printed anywhere."""

    def on_failure(self, error: OSError) -> None:
        pass


def prepare() -> None:
    """Replace sys.stdout and sys.stderr, and remove COLUMNS and LINES if they are not positive numbers."""
    for number, mode in _INSTEAD_OF_CLOSED:
        try:
            os.fstat(number)
        except OSError:
            # If the descriptor stayed free, the next opened file would get this descriptor and the printed text.
            with suppress(OSError):
                os.open(os.devnull, mode)
    sys.stdout = _text(_Output(STDOUT, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_ErrorOutput(STDERR, "w", closefd=False), sys.stderr)
    for name in ("COLUMNS", "LINES"):
        if not re.fullmatch(r"[1-9]\d{0,3}", os.environ.get(name, "80"), re.ASCII):
            del os.environ[name]


def end(code: int) -> None:
    """Flush the streams and exit the process at once, without waiting for threads that follow a video."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, OutputLost, ValueError):
            stream.flush()
    os._exit(code)


def _text(raw: _Output, replaced: TextIO | None) -> TextIO:
    encoding = replaced.encoding if replaced is not None else locale.getpreferredencoding(do_setlocale=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="replace",
        line_buffering=raw.isatty() or raw.fileno() == STDERR,
    )
