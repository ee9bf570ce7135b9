"""The store's port for the sweep."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Protocol

from anb_core.domain.model import Deletion
from anb_core.domain.retry import RetryPolicy


class Housekeeping(Protocol):
    """The steps of the sweep. Each method handles at most `limit` rows and returns the number of handled rows.

    Rows that this version can't read, or that another transaction has locked, are skipped until the next sweep.
    """

    def exclusively(self, name: str, *, lifetime: timedelta) -> AbstractContextManager[bool]:
        """Return a context manager for a block that only one process at a time may run.

        The context manager's value is True if this process may run the block, False if another process runs it now.
        If the process crashes, another process may run the block after `lifetime`.
        """
        ...

    def end_expired_leases(self, *, limit: int, policy: RetryPolicy) -> int:
        """Settle attempts whose lease has expired as lost, each in its own transaction."""
        ...

    def end_expired_uploads(self, *, limit: int) -> int:
        """Abandon uploads whose lifetime has expired, each in its own transaction."""
        ...

    def requeue_unclaimed(
        self, *, enqueued_before: timedelta | None = None, not_on: str | None = None, limit: int
    ) -> int:
        """Add outbox entries for jobs that wait, are due, have no entry, and whose message may be lost.

        A message may be lost if it was sent longer ago than `enqueued_before`, or not to the queue `not_on`.
        At least one of the two arguments is given.
        """
        ...

    def requeue_overdue(self, *, slack: timedelta, limit: int) -> int:
        """Add outbox entries for jobs that have waited longer than all jobs ahead of them in the queue can take.

        `anb_core.domain.overdue` selects these jobs. Only the `limit` jobs that have waited longest are examined.
        """
        ...

    def hold_deletions(self, *, limit: int, hold: timedelta) -> Sequence[Deletion]:
        """Take deletions that are due. No other process can take them for the time `hold`."""
        ...

    def deletion_done(self, deletions: Collection[Deletion]) -> None:
        """Remove the scheduled deletions of objects that were deleted."""
        ...

    def purge(self, *, events_before: timedelta, limit: int) -> int:
        """Remove events older than `events_before`, expired Idempotency-Keys, and the rows of deleted videos.

        The rows of a deleted video are removed when its grace period is over and all its objects are deleted.
        Until then, a message that names the video is not treated as a message for an unknown video.
        The limit applies to each of the three kinds of rows separately.
        """
        ...
