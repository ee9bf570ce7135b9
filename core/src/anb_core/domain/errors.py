"""The errors that ANB Video raises. All programs use these classes.

AnbError                 has a code (a stable word) and a message (a sentence for people)
|-- Refused              the request can't be carried out, and nothing was changed
|   |-- Invalid          the request itself is wrong
|   |   `-- TooLarge     the request is over a limit
|   |-- NotFound         the requested object does not exist, or has another owner
|   `-- Conflict         the request is valid, but can't be carried out in the current status
|       |-- Withheld     the bucket answers, but denies us access to one object
|       `-- Held         a running operation holds the requested object, for at most `wait`
|-- BadInput             the uploaded video can't be processed: the job ends as `failed` and is not tried again
|-- Transient            the attempt failed, but another attempt may succeed: counts as a failure
|-- Unavailable          the database, the bucket or the queue does not answer: does not count as a failure
|   |-- Busy             the database answers, but another process has locked the row
|   `-- Full             the database or the bucket answers, but has no room left
|-- Unreadable           this version of the program can't read a row, and nothing was changed
|-- LeaseLost            the attempt lost its lease: the attempt has to stop and writes nothing more
`-- Interrupted          the worker shuts down: another worker continues the job, and no failure is counted
"""

from datetime import timedelta
from typing import cast

from anb_core.domain.codes import Code, VideoCode


class AnbError(Exception):
    """Any error that ANB Video raises on purpose.

    `code` is one of the codes in `anb_core.domain.codes`. Programs compare the code.
    `message` is one or two sentences: the problem, the wrong value, and what the reader can do.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type["AnbError"], tuple[str, str]]:
        """Make errors picklable, because the probe's child process sends them to its parent."""
        return (type(self), (self.code, self.message))


class Refused(AnbError):
    """The request can't be carried out. Nothing was changed."""


class Invalid(Refused):
    """The request itself is wrong."""


class TooLarge(Invalid):
    """The request is over a limit."""


class NotFound(Refused):
    """The requested object does not exist, or it has another owner."""


class Conflict(Refused):
    """The request is valid, but can't be carried out in the current status."""


class Withheld(Conflict):
    """The bucket answers, but denies us access to one object. A person has to change the permissions."""


class Held(Conflict):
    """A running operation holds the requested object. If the operation stops, the object is free after `wait`."""

    def __init__(self, code: Code, message: str, wait: timedelta) -> None:
        super().__init__(code, message)
        self.wait = wait

    def __reduce__(self) -> tuple[type["Held"], tuple[str, str, timedelta]]:  # type: ignore[override]
        return (type(self), (self.code, self.message, self.wait))


class BadInput(AnbError):
    """The uploaded video can't be processed. The job ends as `failed`, because another attempt would fail as well."""

    def __init__(self, code: VideoCode, message: str) -> None:
        super().__init__(code, message)


class Transient(AnbError):
    """The attempt failed, but another attempt may succeed."""


class Unavailable(AnbError):
    """A dependency does not answer. `part` is its name, such as database, bucket or queue."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(cast("Code", f"{part}_unavailable"), message)
        self.part = part

    def __reduce__(self) -> tuple[type["Unavailable"], tuple[str, str]]:
        return (type(self), (self.part, self.message))


class Busy(Unavailable):
    """The database answers, but another process has locked the row that we need."""


class Full(Unavailable):
    """The database or the bucket answers, but has no room left. Nothing was stored."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(part, message)
        self.code = "storage_full"


class Unreadable(AnbError):
    """A row is damaged, or a newer version of this program wrote the row. `__cause__` names the unreadable value."""


class LeaseLost(AnbError):
    """The attempt lost its lease: another attempt took the job over, or a person cancelled the job."""

    def __init__(self, message: str = "another attempt or a person has taken this job over") -> None:
        super().__init__("lease_lost", message)

    def __reduce__(self) -> tuple[type["LeaseLost"], tuple[str]]:  # type: ignore[override]
        return (type(self), (self.message,))


class Interrupted(AnbError):
    """The worker shuts down, so another worker has to continue the job."""

    def __init__(self, message: str = "the worker was told to stop") -> None:
        super().__init__("interrupted", message)

    def __reduce__(self) -> tuple[type["Interrupted"], tuple[str]]:  # type: ignore[override]
        return (type(self), (self.message,))
