"""Limits for unfinished videos and stored bytes. An upload that would exceed a limit is refused."""

import math
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from anb_core.domain.codes import Code
from anb_core.domain.errors import LimitReached
from anb_core.domain.status import TERMINAL, Status

UNFINISHED = frozenset(Status) - TERMINAL
"""The statuses of an unfinished video: its upload or its job has not ended."""

PACE_WINDOW = timedelta(minutes=1)
"""The pace of the workers is the number of attempts that began within this time."""

LONGEST_WAIT: Final = 60
"""The longest time, in seconds, after which a refused client is asked to try again."""

_VIDEOS_OF_OWNER = (
    "You have {used} unfinished {videos}, and one owner may have at most {limit}: wait until some are processed, or"
    " cancel some."
)
_VIDEOS_IN_ALL = (
    "{used} {videos} of all owners {are} unfinished, and at most {limit} may be: wait until some are processed."
)
_BYTES_OF_OWNER = (
    "With this upload your videos would have {used} bytes, and one owner may store at most {limit}: delete some videos."
    " Their files are removed a day later, and count until then."
)
_BYTES_IN_ALL = (
    "With this upload the videos of all owners would have {used} bytes, and at most {limit} may be stored: videos have"
    " to be deleted. Their files are removed a day later, and count until then."
)


@dataclass(frozen=True, slots=True)
class Usage:
    """What the videos of one owner, or of all owners, use."""

    unfinished: int = 0
    """Number of unfinished videos."""
    stored_bytes: int = 0
    """Bytes of the stored files: uploads and results, and the announced sizes of running uploads.
    The files of a deleted video count until they are removed, a day after the deletion.
    Objects that other programs wrote do not count."""

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.unfinished + other.unfinished, self.stored_bytes + other.stored_bytes)


@dataclass(frozen=True, slots=True)
class Cap:
    """The highest allowed usage of one owner, or of all owners together. The units are those of `Usage`.

    None means no limit.
    """

    unfinished: int | None = None
    stored_bytes: int | None = None

    def __bool__(self) -> bool:
        """Whether a limit is set."""
        return self.unfinished is not None or self.stored_bytes is not None


@dataclass(frozen=True, slots=True)
class Limits:
    """All limits of a deployment: for all owners together, and for each owner."""

    in_all: Cap = Cap()
    per_owner: Cap = Cap()


NO_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Excess:
    """A limit that an upload would exceed."""

    code: Code
    message: str
    """What is exceeded, with the numbers, and what the owner of the upload can do."""
    places: int = 0
    """How many unfinished videos must end before the upload fits. 0 if the limit is about bytes."""


def halved(limits: Limits) -> Limits:
    """Return limits that allow half as many unfinished videos, rounded up. The other half is left for uploads."""

    def half(cap: Cap) -> Cap:
        return replace(cap, unfinished=cap.unfinished and (cap.unfinished + 1) // 2)

    return Limits(half(limits.in_all), half(limits.per_owner))


def upload_of(size: int | None) -> Usage:
    """Return what an upload uses while it is running. `size` is its announced size in bytes, or None if unknown.

    An upload without an announced size counts as one byte until it is complete.
    """
    return Usage(1, max(1, size or 0))


def find_excess(limits: Limits, *, owner: Usage, in_all: Usage) -> Excess | None:
    """Return the limit that is exceeded, or None. The given usage of the owner and of all owners includes the upload.

    A limit for bytes is reported first, because waiting does not free any bytes.
    """
    return (
        _too_many_bytes(limits.per_owner.stored_bytes, owner.stored_bytes, _BYTES_OF_OWNER)
        or _too_many_bytes(limits.in_all.stored_bytes, in_all.stored_bytes, _BYTES_IN_ALL)
        or _too_many_videos(limits.per_owner.unfinished, owner.unfinished, _VIDEOS_OF_OWNER)
        or _too_many_videos(limits.in_all.unfinished, in_all.unfinished, _VIDEOS_IN_ALL)
    )


def refusal(excess: Excess, begun: int) -> LimitReached:
    """Return the error for an upload that exceeds a limit. `begun` attempts have begun within PACE_WINDOW.

    The error asks the client to wait. At this pace, `excess.places` attempts begin during the wait.
    The wait is LONGEST_WAIT if this time would be longer or is unknown.
    """
    wait = LONGEST_WAIT
    if excess.places and begun:
        wait = min(LONGEST_WAIT, math.ceil(PACE_WINDOW.total_seconds() * excess.places / begun))
    return LimitReached(excess.code, excess.message, timedelta(seconds=wait))


def _too_many_videos(limit: int | None, used: int, message: str) -> Excess | None:
    if limit is None or used <= limit:
        return None
    videos, are = ("video", "is") if used - 1 == 1 else ("videos", "are")
    text = message.format(used=used - 1, limit=limit, videos=videos, are=are)
    return Excess("backlog_full", text, places=used - limit)


def _too_many_bytes(limit: int | None, used: int, message: str) -> Excess | None:
    if limit is None or used <= limit:
        return None
    return Excess("quota_exceeded", message.format(used=used, limit=limit))
