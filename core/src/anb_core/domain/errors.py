"""The errors that ANB Video raises. All programs use these classes.

AnbError                 has a code (a stable word) and a message (a sentence for people)
|-- Refused              the request can't be carried out, and nothing was changed
|   |-- Invalid          the request itself is wrong
|   |   `-- TooLarge     the request is over a limit
|   |-- Forbidden        the caller's token does not allow the request
|   |-- NotFound         the requested object does not exist, or has another owner
|   |-- LimitReached     the upload would exceed a limit of its owner or of all owners: try again after `wait`
|   `-- Conflict         the request is valid, but can't be carried out in the current status
|       |-- Withheld     the bucket answers, but denies us access to one object
|       `-- Held         another upload uses the requested Idempotency-Key, for at most `wait`
|-- BadInput             the uploaded video can't be processed: the job ends as `failed` and is not tried again
|-- Transient            the attempt counts as a failure, but another attempt may succeed
|-- Unavailable          the database, bucket or queue does not answer: the attempt does not count as a failure
|   |-- Busy             the database answers, but another process has locked the row
|   `-- Full             the database or the bucket answers, but has no room left
|-- Unreadable           this version of the program can't read a row, and nothing was changed
|-- LeaseLost            the attempt lost its lease: the attempt has to stop and writes nothing more
`-- Interrupted          the worker shuts down: another attempt follows, and no failure is counted
"""

from datetime import timedelta
from typing import cast

from anb_core.domain.codes import Code, VideoCode


class AnbError(Exception):
    """Any error that ANB Video raises on purpose.

    `code` is one of the codes in `anb_core.domain.codes`. Programs compare the code, and people read the message.
    `message` is one or two sentences: the problem, the wrong value, and what the reader can do.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type["AnbError"], tuple[str, str]]:
        """Return what pickle needs, because the probe's child process sends errors to its parent."""
        return (type(self), (self.code, self.message))


class Refused(AnbError):
    """The request can't be carried out. Nothing was changed."""


class Invalid(Refused):
    """The request itself is wrong."""


class TooLarge(Invalid):
    """The request or its file is larger than a limit allows."""


class Forbidden(Refused):
    """The caller's token does not allow the request."""


class NotFound(Refused):
    """The requested video, object or token does not exist, or it has another owner."""


class LimitReached(Refused):
    """The upload would exceed a limit for unfinished videos or stored bytes. The client may try again after `wait`."""

    def __init__(self, code: Code, message: str, wait: timedelta) -> None:
        super().__init__(code, message)
        self.wait = wait

    def __reduce__(self) -> tuple[type["LimitReached"], tuple[str, str, timedelta]]:  # type: ignore[override]
        return (type(self), (self.code, self.message, self.wait))


class Conflict(Refused):
    """The request is valid, but can't be carried out in the current status."""


class Withheld(Conflict):
    """The bucket answers, but denies us access to one object. A person has to change the permissions."""


class Held(Conflict):
    """Another upload uses the requested Idempotency-Key. If that upload stops, the key is free after `wait`."""

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
    """A dependency does not answer. `part` is the name of the dependency, such as `database`, `bucket` or `queue`."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(cast("Code", f"{part}_unavailable"), message)
        self.part = part

    def __reduce__(self) -> tuple[type["Unavailable"], tuple[str, str]]:
        return (type(self), (self.part, self.message))


class Busy(Unavailable):
    """The database answers, but another process has locked a needed row for too long."""


class Full(Unavailable):
    """The database or the bucket answers, but has no room left. Nothing was stored."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(part, message)
        self.code = "storage_full"


class Unreadable(AnbError):
    """This program can't read a row, which is damaged or was written by a newer version.

    `__cause__` names the unreadable value.
    """


class LeaseLost(AnbError):
    """The attempt lost its lease: another attempt took the job over, or a person cancelled or deleted the video."""

    def __init__(self, message: str = "another attempt or a person has taken this job over") -> None:
        super().__init__("lease_lost", message)

    def __reduce__(self) -> tuple[type["LeaseLost"], tuple[str]]:  # type: ignore[override]
        return (type(self), (self.message,))


class Interrupted(AnbError):
    """The worker shuts down, so another worker has to begin a new attempt."""

    def __init__(self, message: str = "the worker was told to stop") -> None:
        super().__init__("interrupted", message)

    def __reduce__(self) -> tuple[type["Interrupted"], tuple[str]]:  # type: ignore[override]
        return (type(self), (self.message,))
