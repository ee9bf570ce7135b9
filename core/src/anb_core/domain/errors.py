"""The errors that ANB Video raises. All programs use these classes.

AnbError                 has a code (a stable word) and a message (a sentence for people)
|-- Refused              the request can't be carried out; nothing was changed
|   |-- Invalid          the request itself is wrong
|   |   `-- TooLarge     the request is over a limit
|   |-- NotFound         the thing does not exist, or has another owner
|   `-- Conflict         the request is valid, but not in the current status
|       |-- Withheld     the bucket answers, but denies us access to one object
|       `-- Held         an operation that still runs holds the thing, for at most `wait`
|-- BadInput             the uploaded video can't be processed: the job ends as `failed` and is not tried again
|-- Transient            the attempt failed, another one may succeed: counts as a failure
|-- Unavailable          the database, the bucket or the queue does not answer: no failure of the job
|   |-- Busy             it answers, but another process has locked the row
|   `-- Full             it answers, but has no room left
|-- Unreadable           this version can't read a row; nothing was changed
|-- LeaseLost            the attempt lost its lease: it has to stop and writes nothing more
`-- Interrupted          the worker shuts down: another worker continues the job, no failure is counted
"""

from datetime import timedelta
from typing import cast

from anb_core.domain.codes import Code, VideoCode


class AnbError(Exception):
    """Any error that ANB Video raises on purpose.

    `code` is one of `anb_core.domain.codes`. Programs compare it. `message` is one or two sentences: the problem, the
    wrong value, and what the reader can do.
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
    """The thing does not exist, or it has another owner."""


class Conflict(Refused):
    """The request is valid, but can't be carried out in the current status."""


class Withheld(Conflict):
    """The bucket answers, but denies us access to one object. A person has to change the permissions."""


class Held(Conflict):
    """An operation that still runs holds the thing, for at most `wait` if the operation makes no progress."""

    def __init__(self, code: Code, message: str, wait: timedelta) -> None:
        super().__init__(code, message)
        self.wait = wait

    def __reduce__(self) -> tuple[type["Held"], tuple[str, str, timedelta]]:  # type: ignore[override]
        return (type(self), (self.code, self.message, self.wait))


class BadInput(AnbError):
    """The uploaded video can't be processed. The job ends as `failed`, because another try would fail as well."""

    def __init__(self, code: VideoCode, message: str) -> None:
        super().__init__(code, message)


class Transient(AnbError):
    """The attempt failed, another one may succeed."""


class Unavailable(AnbError):
    """A part that we depend on does not answer. `part` is its name, such as database, bucket or queue."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(cast("Code", f"{part}_unavailable"), message)
        self.part = part

    def __reduce__(self) -> tuple[type["Unavailable"], tuple[str, str]]:
        return (type(self), (self.part, self.message))


class Busy(Unavailable):
    """The part answers, but another process has locked the row that we need."""


class Full(Unavailable):
    """The part answers, but has no room left. Nothing was stored."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(part, message)
        self.code = "storage_full"


class Unreadable(AnbError):
    """A row was damaged, or a newer version of this program wrote it. `__cause__` says what can't be read."""


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
