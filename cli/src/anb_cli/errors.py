"""How a command can end. Scripts see the exit code, people the sentence.

CliError                exit code and one sentence
|-- VideoFailed     1   a video did not become `processed`, or a file could not be verified
|-- WrongUse        2   the command itself is at fault: no such file, no token
|-- Refused         3   the API said no; `code` is its stable word
|-- Unreachable     4   nothing answers, or what answers is no ANB Video
`-- StackTrouble    5   the stack can't start or keep running on this machine
"""

from enum import IntEnum
from typing import Any


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


class Refused(CliError):
    """The API said no. `code` is its stable word, `status` the HTTP status."""

    exit = Exit.REFUSED

    def __init__(self, sentence: str, *, code: str, status: int) -> None:
        super().__init__(sentence)
        self.code = code
        self.status = status

    def as_json(self) -> dict[str, Any]:
        """The API's own word instead of ours."""
        return {"code": self.code, "status": self.status, "message": str(self)}


class Unreachable(CliError):
    """Nothing answers, or what answers is no ANB Video."""

    exit = Exit.UNREACHABLE


class StackTrouble(CliError):
    """The stack can't start or keep running on this machine."""

    exit = Exit.STACK_TROUBLE
