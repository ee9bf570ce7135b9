"""The store's port for the sweep."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Protocol

from anb_core.domain.model import Deletion
from anb_core.domain.retry import RetryPolicy


class Housekeeping(Protocol):
    """The steps of the sweep. Each method handles at most `limit` rows and returns how many rows it handled.

    Rows that this version can't read, or that another transaction has locked, are left to the next sweep.
    """

    def exclusively(self, name: str, *, lifetime: timedelta) -> AbstractContextManager[bool]:
        """Return a context manager for a block that only one process at a time may run.

        The context manager yields True if this process may run the block, or False if another process runs the block.
        If the process crashes, another process may run the block after `lifetime`.
        """
        ...

    def end_expired_leases(self, *, limit: int, policy: RetryPolicy) -> int:
        """Settle the attempts whose lease has expired as lost. Each settlement is a transaction of its own."""
        ...

    def end_expired_uploads(self, *, limit: int) -> int:
        """Abandon the uploads whose lifetime has expired. Each upload is abandoned in a transaction of its own."""
        ...

    def requeue_unclaimed(
        self, *, enqueued_before: timedelta | None = None, not_on: str | None = None, limit: int
    ) -> int:
        """Add outbox entries for due jobs that wait for a worker, have no entry, and may have lost their message.

        A message may be lost if it was sent longer ago than `enqueued_before`, or not to the queue `not_on`.
        The caller gives at least one of the arguments `enqueued_before` and `not_on`.
        """
        ...

    def requeue_overdue(self, *, slack: timedelta, limit: int) -> int:
        """Add outbox entries for jobs that have waited longer than all jobs ahead of them in the queue can take.

        `anb_core.domain.overdue` selects from the `limit` jobs that have waited longest.
        """
        ...

    def hold_deletions(self, *, limit: int, hold: timedelta) -> Sequence[Deletion]:
        """Take the deletions that are due. For the time `hold`, no other process can take the same deletions."""
        ...

    def deletion_done(self, deletions: Collection[Deletion]) -> None:
        """Remove the rows of deletions whose object was deleted."""
        ...

    def purge(self, *, events_before: timedelta, dead_letters_before: timedelta, limit: int) -> int:
        """Remove old events, expired Idempotency-Keys and the rows of deleted videos, at most `limit` of each kind.

        An event is old if its age is more than `events_before`.
        The rows of a deleted video are removed when its grace period is over and all its objects are deleted.
        While a deleted video has rows, a message that names the video does not become a dead letter.

        Dead letters that were resolved longer ago than `dead_letters_before` are removed, too.
        Open dead letters are never removed. If an open one is older, its body is cut to `SHORT_BODY` characters.
        """
        ...
