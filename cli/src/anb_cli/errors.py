"""The exit codes and the exceptions that end a command. Scripts use the exit code, and people read the message.

CliError                an error with an exit code and a message
|-- VideoFailed     1   a video did not become `processed`, or a downloaded file has the wrong size or checksum
|-- WrongUse        2   the command can't run with the given arguments or environment, such as a missing token
|   `-- OutputLost      the command could not write to stdout
|-- Refused         3   the API refused the request; `code` is the API's error code
|-- Unreachable     4   the API does not respond
|   `-- NotOurs         the server that responds is not ANB Video, so a retry would not help
`-- StackTrouble    5   the stack can't start or keep running on this machine
"""

import os
from enum import IntEnum
from pathlib import Path
from typing import Any

from anb_cli.text import clean, readable


class Exit(IntEnum):
    """The exit codes. docs/cli.md lists them too."""

    OK = 0
    VIDEO_FAILED = 1
    WRONG_USE = 2
    REFUSED = 3
    UNREACHABLE = 4
    STACK_TROUBLE = 5
    INTERRUPTED = 130


class CliError(Exception):
    """An error that ends a command. `str(error)` is the message for the user. `exit` is the exit code."""

    exit: Exit

    def as_json(self) -> dict[str, Any]:
        """Return the `error` object that `--json` prints."""
        return {"code": self.exit.name.lower(), "message": str(self)}


class VideoFailed(CliError):
    """A video did not become `processed`, or a downloaded file has the wrong size or checksum."""

    exit = Exit.VIDEO_FAILED


class WrongUse(CliError):
    """The command can't run with the given arguments, or in the current environment."""

    exit = Exit.WRONG_USE


class OutputLost(WrongUse):
    """The command could not write to stdout. If a pipe's reader, such as `head`, has ended, the message is empty."""


class Refused(CliError):
    """The API refused the request.

    `code` is the API's error code. `retry_after` is the Retry-After header in seconds.
    `status` is the HTTP status, or None if the refusal is one of several in a response.
    """

    exit = Exit.REFUSED

    def __init__(
        self, sentence: str, *, code: str, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(sentence)
        self.code = code
        self.status = status
        self.retry_after = retry_after

    def as_json(self) -> dict[str, Any]:
        """Return the `error` object that `--json` prints, with the API's error code."""
        status = {} if self.status is None else {"status": self.status}
        return {"code": self.code, **status, "message": str(self)}


class Unreachable(CliError):
    """The API does not respond, or is unavailable. `retry_after` is the Retry-After header in seconds or None."""

    exit = Exit.UNREACHABLE

    def __init__(self, sentence: str, *, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class NotOurs(Unreachable):
    """The server is not ANB Video, or its response can't be understood. A retry would not help."""


class StackTrouble(CliError):
    """The stack can't start or keep running on this machine."""

    exit = Exit.STACK_TROUBLE


def describe(error: Exception) -> tuple[Exit, str]:
    """Return the exit code and the message for an exception that is not a CliError."""
    if isinstance(error, OSError):
        where = f"{clean(readable(os.fsdecode(error.filename)))}: " if isinstance(error.filename, str | bytes) else ""
        return Exit.WRONG_USE, f"{where}{error.strerror or error}."
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})" if trace is not None else ""
    # Leave out the message of the exception, because the message may contain a token.
    return Exit.VIDEO_FAILED, f"A fault of anb itself, please report it: {type(error).__name__}{place}."
