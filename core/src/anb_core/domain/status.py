"""The statuses of a job and every change between them, as data."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from anb_core.domain.errors import Conflict


class Status(StrEnum):
    """Where a job stands. Between attempts it stays `processing`."""

    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    PROCESSING = "processing"
    PROCESSED = "processed"
    FAILED = "failed"
    DEAD_LETTERED = "dead_lettered"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """True where nothing more happens until a person retries."""
        return self in TERMINAL


TERMINAL = frozenset({Status.PROCESSED, Status.FAILED, Status.DEAD_LETTERED, Status.CANCELLED})


class Change(StrEnum):
    """What can happen to a job."""

    RECEIVE = "receive"
    """Its object is whole in the bucket."""
    CLAIM = "claim"
    """A worker begins an attempt."""
    PUBLISH = "publish"
    """The result of an attempt became current."""
    REJECT = "reject"
    """The input is bad."""
    EXHAUST = "exhaust"
    """Its failures or losses are used up."""
    CANCEL = "cancel"
    """A person cancels it."""
    RETRY = "retry"
    """A person retries it."""


TRANSITIONS: Mapping[tuple[Status, Change], Status] = MappingProxyType(
    {
        (Status.UPLOADING, Change.RECEIVE): Status.UPLOADED,
        (Status.UPLOADING, Change.CANCEL): Status.CANCELLED,
        (Status.UPLOADED, Change.CLAIM): Status.PROCESSING,
        (Status.UPLOADED, Change.CANCEL): Status.CANCELLED,
        (Status.PROCESSING, Change.CLAIM): Status.PROCESSING,
        (Status.PROCESSING, Change.PUBLISH): Status.PROCESSED,
        (Status.PROCESSING, Change.REJECT): Status.FAILED,
        (Status.PROCESSING, Change.EXHAUST): Status.DEAD_LETTERED,
        (Status.PROCESSING, Change.CANCEL): Status.CANCELLED,
        (Status.FAILED, Change.RETRY): Status.UPLOADED,
        (Status.DEAD_LETTERED, Change.RETRY): Status.UPLOADED,
        (Status.CANCELLED, Change.RETRY): Status.UPLOADED,
    }
)


def next_status(status: Status, change: Change) -> Status:
    """The status after a change.

    Raises:
        Conflict: `wrong_status`, when a job in this status cannot change so.
    """
    after = TRANSITIONS.get((status, change))
    if after is None:
        allowed = ", ".join(before for before, what in TRANSITIONS if what is change)
        raise Conflict("wrong_status", f"A job that is {status} can't {change}; only one that is {allowed} can.")
    return after
