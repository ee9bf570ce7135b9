"""The standard streams, made so that writing to them never ends in a traceback.

Whatever the shell left of them: closed, full, without a reader, or of an encoding that lacks most letters.
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

# Each the wrong way round, so that to read a closed stdin or to write to a closed stdout is still an error.
_INSTEAD_OF_CLOSED = ((STDIN, os.O_WRONLY), (STDOUT, os.O_RDONLY), (STDERR, os.O_WRONLY))


class _Output(io.FileIO):
    """A stream that fails once, with a sentence. What comes later is dropped: the end of a program flushes again."""

    failed = False

    def write(self, data: "ReadableBuffer", /) -> int:
        size = memoryview(data).nbytes
        if self.failed:
            return size
        try:
            # None: it takes nothing right now, and is asked again.
            return super().write(data) or 0
        except OSError as error:
            self.failed = True
            self.on_failure(error)
            return size

    def on_failure(self, error: OSError) -> None:
        # A reader that has seen enough, such as `head`, needs no explanation.
        raise OutputLost("" if error.errno == errno.EPIPE else f"The output can't be written: {error.strerror}.")


class _Notes(_Output):
    """A stream whose failure nobody can be told of."""

    def on_failure(self, error: OSError) -> None:
        pass


def prepare() -> None:
    """Make the streams of this process safe to write to, and forget a width of the terminal that is no number."""
    for number, mode in _INSTEAD_OF_CLOSED:
        try:
            os.fstat(number)
        except OSError:
            # Otherwise the next file or connection would take the number, and what is printed would go there.
            with suppress(OSError):
                os.open(os.devnull, mode)
    sys.stdout = _text(_Output(STDOUT, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_Notes(STDERR, "w", closefd=False), sys.stderr)
    for name in ("COLUMNS", "LINES"):
        if not re.fullmatch(r"[1-9]\d{0,3}", os.environ.get(name, "80"), re.ASCII):
            del os.environ[name]


def end(code: int) -> None:
    """End the process now: threads that watch a video are not waited for, and Ctrl-C has nothing left to break."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, OutputLost, ValueError):
            stream.flush()
    os._exit(code)


def _text(raw: _Output, before: TextIO | None) -> TextIO:
    encoding = before.encoding if before is not None else locale.getpreferredencoding(do_setlocale=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="replace",
        line_buffering=raw.isatty() or raw.fileno() == STDERR,
    )
