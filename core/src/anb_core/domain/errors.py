"""The vocabulary of everything that can go wrong; every room speaks it.

AnbError                 code (a stable word) and message (a sentence for the person reading)
|-- Refused              asked for something that can't be done; nothing was changed
|   |-- Invalid          the request is wrong in itself
|   |   `-- TooLarge     it is over a limit
|   |-- NotFound         no such thing, or not this owner's
|   `-- Conflict         right in itself, but not in this status
|       |-- Withheld     the bucket answers, but does not give us this one object
|       `-- Held         something under way has it; `wait` tells for how long at most, if it goes no further
|-- BadInput             the uploaded video is at fault: the job ends `failed`, trying again is useless
|-- Transient            this try failed, another may succeed: counts as a failure of the attempt
|-- Unavailable          a part we depend on (database, bucket, queue) does not answer: says nothing of the job
|   |-- Busy             it answers, but somebody else holds what is needed
|   `-- Full             it answers, but has no room left
|-- Unreadable           a row that this version can't read: says nothing of the others, and changes nothing
|-- LeaseLost            the attempt no longer owns its job: stop, write nothing
`-- Interrupted          this worker goes away: hand the job on, count no failure
"""

from datetime import timedelta
from typing import cast

from anb_core.domain.codes import Code, VideoCode


class AnbError(Exception):
    """Any error that ANB Video raises on purpose.

    `code` is one of `anb_core.domain.codes`; programs compare it. `message` is one or two sentences that say
    what was wrong, with which value, and what to do.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type["AnbError"], tuple[str, str]]:
        """Errors cross process borders (the probe's child), so they must survive pickling."""
        return (type(self), (self.code, self.message))


class Refused(AnbError):
    """What was asked for can't be done; nothing was changed."""


class Invalid(Refused):
    """The request is wrong in itself."""


class TooLarge(Invalid):
    """The request is over a limit."""


class NotFound(Refused):
    """There is no such thing, or it belongs to somebody else."""


class Conflict(Refused):
    """The request is right in itself, but not in the present status."""


class Withheld(Conflict):
    """The bucket answers, but does not give us this one object: a person has to mend that."""


class Held(Conflict):
    """Something under way has it; after `wait` it is free, if that goes no further."""

    def __init__(self, code: Code, message: str, wait: timedelta) -> None:
        super().__init__(code, message)
        self.wait = wait

    def __reduce__(self) -> tuple[type["Held"], tuple[str, str, timedelta]]:  # type: ignore[override]
        return (type(self), (self.code, self.message, self.wait))


class BadInput(AnbError):
    """The uploaded video is at fault: the job ends as `failed`, and trying again is useless."""

    def __init__(self, code: VideoCode, message: str) -> None:
        super().__init__(code, message)


class Transient(AnbError):
    """This try failed, another may succeed."""


class Unavailable(AnbError):
    """A part we depend on does not answer. `part` names it: database, bucket, queue."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(cast("Code", f"{part}_unavailable"), message)
        self.part = part

    def __reduce__(self) -> tuple[type["Unavailable"], tuple[str, str]]:
        return (type(self), (self.part, self.message))


class Busy(Unavailable):
    """The part answers, but somebody else holds what is needed, such as a row of the database."""


class Full(Unavailable):
    """The part answers, but has no room left: what was to be kept is not kept."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(part, message)
        self.code = "storage_full"


class Unreadable(AnbError):
    """A row was damaged, or written by a newer version of this program: `__cause__` says what can't be read."""


class LeaseLost(AnbError):
    """The attempt no longer owns its job: another took over, or a person cancelled it."""

    def __init__(self, message: str = "another attempt or a person has taken this job over") -> None:
        super().__init__("lease_lost", message)

    def __reduce__(self) -> tuple[type["LeaseLost"], tuple[str]]:  # type: ignore[override]
        return (type(self), (self.message,))


class Interrupted(AnbError):
    """This worker goes away and hands its job on."""

    def __init__(self, message: str = "the worker was told to stop") -> None:
        super().__init__("interrupted", message)

    def __reduce__(self) -> tuple[type["Interrupted"], tuple[str]]:  # type: ignore[override]
        return (type(self), (self.message,))
