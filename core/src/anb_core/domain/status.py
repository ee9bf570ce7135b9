"""The statuses of a job and the table of the allowed status changes."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from anb_core.domain.errors import Conflict


class Status(StrEnum):
    """The status of a job. Between two attempts, the status stays `processing`."""

    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    PROCESSING = "processing"
    PROCESSED = "processed"
    FAILED = "failed"
    DEAD_LETTERED = "dead_lettered"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether the job has ended. A person may still retry it, unless it is processed."""
        return self in TERMINAL


TERMINAL = frozenset({Status.PROCESSED, Status.FAILED, Status.DEAD_LETTERED, Status.CANCELLED})


class Change(StrEnum):
    """The kinds of changes that can change the status of a job."""

    RECEIVE = "receive"
    """The upload is complete."""
    CLAIM = "claim"
    """A worker begins an attempt."""
    PUBLISH = "publish"
    """The result of an attempt becomes the current result."""
    REJECT = "reject"
    """The uploaded video can't be processed."""
    EXHAUST = "exhaust"
    """The job reached its limit of failures or losses."""
    CANCEL = "cancel"
    """A person cancels the job."""
    RETRY = "retry"
    """A person retries the job."""
    RESTORE = "restore"
    """A result that is in the bucket becomes current. The database, which was restored, does not know its attempt."""
    REPEAT = "repeat"
    """The job begins again, because its result is gone from the bucket."""


TRANSITIONS: Mapping[tuple[Status, Change], Status] = MappingProxyType(
    {
        (Status.UPLOADING, Change.RECEIVE): Status.UPLOADED,
        (Status.UPLOADING, Change.CANCEL): Status.CANCELLED,
        (Status.UPLOADED, Change.CLAIM): Status.PROCESSING,
        (Status.UPLOADED, Change.EXHAUST): Status.DEAD_LETTERED,
        (Status.UPLOADED, Change.CANCEL): Status.CANCELLED,
        (Status.PROCESSING, Change.CLAIM): Status.PROCESSING,
        (Status.PROCESSING, Change.PUBLISH): Status.PROCESSED,
        (Status.PROCESSING, Change.REJECT): Status.FAILED,
        (Status.PROCESSING, Change.EXHAUST): Status.DEAD_LETTERED,
        (Status.PROCESSING, Change.CANCEL): Status.CANCELLED,
        (Status.FAILED, Change.RETRY): Status.UPLOADED,
        (Status.DEAD_LETTERED, Change.RETRY): Status.UPLOADED,
        (Status.CANCELLED, Change.RETRY): Status.UPLOADED,
        (Status.UPLOADED, Change.RESTORE): Status.PROCESSED,
        (Status.PROCESSING, Change.RESTORE): Status.PROCESSED,
        (Status.FAILED, Change.RESTORE): Status.PROCESSED,
        (Status.DEAD_LETTERED, Change.RESTORE): Status.PROCESSED,
        (Status.CANCELLED, Change.RESTORE): Status.PROCESSED,
        (Status.PROCESSED, Change.REPEAT): Status.UPLOADED,
    }
)


def next_status(status: Status, change: Change) -> Status:
    """Return the status after a change.

    Raises:
        Conflict: `wrong_status` if TRANSITIONS does not allow the change in the status.
    """
    after = TRANSITIONS.get((status, change))
    if after is None:
        allowed = ", ".join(before for before, other in TRANSITIONS if other is change)
        raise Conflict("wrong_status", f"A job that is {status} can't {change}; only one that is {allowed} can.")
    return after
