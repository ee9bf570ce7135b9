"""How a command can end. Scripts see the exit code, people the sentence.

CliError                exit code and one sentence
|-- VideoFailed     1   a video did not become `processed`, or a file could not be verified
|-- WrongUse        2   the command itself is at fault: no such file, no token
|   `-- OutputLost      what it wrote to stdout did not get there
|-- Refused         3   the API said no; `code` is its stable word
|-- Unreachable     4   nothing answers
|   `-- NotOurs         what answers is no ANB Video: to ask again would not help
`-- StackTrouble    5   the stack can't start or keep running on this machine
"""

import os
from enum import IntEnum
from pathlib import Path
from typing import Any

from anb_cli.text import clean, readable


class Exit(IntEnum):
    """The exit codes, as docs/cli.md lists them."""

    OK = 0
    VIDEO_FAILED = 1
    WRONG_USE = 2
    REFUSED = 3
    UNREACHABLE = 4
    STACK_TROUBLE = 5
    INTERRUPTED = 130


class CliError(Exception):
    """Ends a command with an exit code and one sentence, which is `str()` of it."""

    exit: Exit

    def as_json(self) -> dict[str, Any]:
        """What `--json` says of it."""
        return {"code": self.exit.name.lower(), "message": str(self)}


class VideoFailed(CliError):
    """A video did not become `processed`, or a file is not what it should be."""

    exit = Exit.VIDEO_FAILED


class WrongUse(CliError):
    """The command can't be carried out as it was given."""

    exit = Exit.WRONG_USE


class OutputLost(WrongUse):
    """What was written to stdout did not get there. The sentence is empty where its reader had seen enough."""


class Refused(CliError):
    """The API said no. `code` is its stable word, `status` that of HTTP, `retry_after` the seconds it asks to wait."""

    exit = Exit.REFUSED

    def __init__(self, sentence: str, *, code: str, status: int, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        self.status = status
        self.retry_after = retry_after

    def as_json(self) -> dict[str, Any]:
        """The API's own word instead of ours."""
        return {"code": self.code, "status": self.status, "message": str(self)}


class Unreachable(CliError):
    """Nothing answers, or not now. `retry_after`: the seconds it asks to wait."""

    exit = Exit.UNREACHABLE

    def __init__(self, sentence: str, *, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class NotOurs(Unreachable):
    """What answers is no ANB Video, or one that this program does not understand. To ask again would not help."""


class StackTrouble(CliError):
    """The stack can't start or keep running on this machine."""

    exit = Exit.STACK_TROUBLE


def describe(error: Exception) -> tuple[Exit, str]:
    """Exit code and sentence of an error that no command foresaw."""
    if isinstance(error, OSError):
        where = f"{clean(readable(os.fsdecode(error.filename)))}: " if isinstance(error.filename, str | bytes) else ""
        return Exit.WRONG_USE, f"{where}{error.strerror or error}."
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})" if trace is not None else ""
    # Without the words of the error itself: they may hold anything, a token too.
    return Exit.VIDEO_FAILED, f"A fault of anb itself, please report it: {type(error).__name__}{place}."
