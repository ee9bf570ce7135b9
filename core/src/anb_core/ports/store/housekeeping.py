"""The store's port for the sweep."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Protocol

from anb_core.domain.model import Deletion
from anb_core.domain.retry import RetryPolicy


class Housekeeping(Protocol):
    """The steps of the sweep. Each step handles at most `limit` rows and returns the number of handled rows.

    A step skips rows that this version can't read, and rows that another transaction has locked.
    """

    def exclusively(self, name: str, *, lifetime: timedelta) -> AbstractContextManager[bool]:
        """Return a context manager for a block that only one process at a time may run.

        The context manager yields True if this process may run the block, or False if another process is running it.
        If a process crashes in the block, other processes have to wait until `lifetime` is over.
        """
        ...

    def end_expired_leases(self, *, limit: int, policy: RetryPolicy) -> int:
        """Settle attempts as lost if their lease has expired, each in a transaction of its own."""
        ...

    def end_expired_uploads(self, *, limit: int) -> int:
        """Abandon uploads that were not renewed within their lifetime, each in a transaction of its own."""
        ...

    def requeue_unclaimed(
        self,
        *,
        enqueued_before: timedelta | None = None,
        on: str | None = None,
        not_on: Collection[str] = (),
        limit: int,
    ) -> int:
        """Add outbox entries for due jobs that wait for a worker, have no entry, and may have lost their message.

        `enqueued_before` is an age: a message that was sent longer ago may be lost. If `on` names a queue, this rule is
        only for messages that were sent to this queue.
        `not_on` lists the names of queues: a message that was sent to any other queue may be lost.
        The caller must give `enqueued_before`, `not_on` or both.
        A job whose message was never sent also gets an entry.
        """
        ...

    def requeue_overdue(self, *, slack: timedelta, limit: int) -> int:
        """Add outbox entries for jobs whose message is lost according to `anb_core.domain.overdue`.

        Only the `limit` jobs that have waited longest are examined.
        """
        ...

    def hold_deletions(self, *, limit: int, hold: timedelta) -> Sequence[Deletion]:
        """Return deletions that are due. For the duration `hold`, no other process gets the same deletions."""
        ...

    def deletion_done(self, deletions: Collection[Deletion]) -> None:
        """Remove the rows of these deletions, because their objects were deleted."""
        ...

    def purge(self, *, events_before: timedelta, dead_letters_before: timedelta, limit: int) -> int:
        """Remove old events, Idempotency-Keys, deleted videos and dead letters: at most `limit` rows of each kind.

        An event is old if its age is more than `events_before`. An Idempotency-Key is old when it has expired.
        A deleted video is old when its grace period is over and all its objects are deleted.
        Until the rows of a deleted video are removed, a message about the video does not become a dead letter.

        A dead letter is old if it was resolved more than `dead_letters_before` ago.
        An open dead letter of this age is kept, but its body is cut to `SHORT_BODY` characters.

        Also merges rows of the table that `Uploads.check_limits` reads. The returned number leaves them out.
        """
        ...
