"""The store: all records of the system. Every method is one transaction. Every change of a job is a compare-and-set.

Stored times come only from the database's clock. Callers pass durations, and the database computes the times.
All methods raise `Unavailable("database", ...)` when the database does not answer in time.
After this error, the transaction may still have been committed: perhaps only the database's answer was lost.
The caller must read the row again to find out whether the transaction was committed.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from anb_core.domain.claim import Reason
from anb_core.domain.edit import EditSpec
from anb_core.domain.model import (
    Attempt,
    DeadLetterCause,
    Deletion,
    Idempotency,
    JobEvent,
    Lease,
    NewVideo,
    Receipts,
    Record,
    Result,
    Source,
    Token,
)
from anb_core.domain.retry import RetryPolicy, Settlement
from anb_core.domain.status import Status

MAX_DEAD_LETTER_BODY = 4096
"""Maximum number of characters that are stored of a dead letter's message body."""


@dataclass(frozen=True, slots=True)
class Replay:
    """The result of beginning an upload if the owner already has an upload with the same Idempotency-Key."""

    record: Record
    """The earlier upload."""
    fingerprint: str | None
    """Fingerprint of the earlier upload. None while the earlier upload is in progress."""
    held: timedelta | None = None
    """Time until the earlier upload loses the key unless it is renewed. None if it keeps the key until its end."""


class Uploads(Protocol):
    """Uploads and submissions of videos, up to the status `uploaded`."""

    def begin_upload(
        self, new: NewVideo, *, lifetime: timedelta, idempotency: Idempotency | None = None
    ) -> Record | Replay:
        """Create a video and its job with the status `uploading`.

        The sweep abandons an upload that is not renewed within `lifetime`.
        The Idempotency-Key becomes free when it expires, its upload is abandoned or cancelled, or its video is deleted.
        If an upload with the same key was not renewed for `idempotency.silence`, this method abandons that upload.

        Raises:
            Conflict: `video_exists`; `source_taken` while the object of an earlier upload with this id exists.
        """
        ...

    def renew_upload(self, video_id: str, *, lifetime: timedelta) -> bool:
        """Extend the lifetime of an upload in progress. False if the upload was cancelled or abandoned meanwhile."""
        ...

    def complete_upload(
        self,
        video_id: str,
        source: Source,
        *,
        title: str | None = None,
        edit: EditSpec | None = None,
        fingerprint: str | None = None,
    ) -> Record:
        """Set the status `uploaded`, with event and outbox entry. A second call with the same source changes nothing.

        If `title` or `edit` is not None, it replaces the value that the upload began with.
        In a form, the fields `title` and `edit` may come after the file.

        Raises:
            NotFound: `video_not_found` if the upload was abandoned or deleted meanwhile.
            Conflict: `wrong_status` if the upload was cancelled meanwhile.
        """
        ...

    def abandon_upload(self, video_id: str) -> None:
        """Remove the rows of an unfinished upload. A video with any other status is not changed.

        The upload's object is deleted at once, and again 24 h later because another process may still write the object.
        """
        ...

    def submit_existing(self, new: NewVideo, source: Source) -> tuple[Record, bool]:
        """Create a video with the status `uploaded` for an object that is already in the bucket.

        If a video with this id exists, the video is returned unchanged, even if it has another owner.
        The second returned value is True if the video is new.

        Raises:
            NotFound: `video_not_found` if a video with this id was deleted.
            Conflict: `source_taken` if the object is or was the upload of another video.
        """
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """Position of a page in a listing, which is ordered from new to old. The page begins after this video."""

    created_at: datetime
    video_id: str


History = tuple[Record | None, Sequence[Attempt]]
"""A video (None if it does not exist) and all its attempts, ordered from old to new."""


class Reading(Protocol):
    """Read access for people. Deleted videos are not visible.

    Methods that return several videos skip and log unreadable videos, which this version can't read.
    If such a method returns fewer than `limit` videos, no more videos exist.
    Methods that take one id raise `Unreadable` instead, like all other methods of the store.
    """

    def get(self, video_id: str) -> Record | None: ...

    def listing(
        self, *, owner: str | None, statuses: Collection[Status] = (), after: Page | None = None, limit: int = 50
    ) -> Sequence[Record]:
        """Return videos from new to old: of all owners if `owner` is None, in any status if `statuses` is empty."""
        ...

    def history(self, video_id: str) -> History: ...

    def histories(self, video_ids: Collection[str]) -> Mapping[str, History]:
        """Return the histories of several videos by id, with few queries. Unreadable videos are left out."""
        ...

    def count_by_status(self) -> dict[Status, int]:
        """Return the number of jobs for each status, without deleted videos. Statuses without jobs are left out."""
        ...


class Commands(Protocol):
    """The commands that a person may give for a video.

    `receipts` are stored with the job. Each receipt replaces the earlier receipt of the same issuer.

    Raises:
        NotFound: `video_not_found` if the video does not exist or was deleted.
        Conflict: `wrong_status`.
    """

    def cancel(self, video_id: str, *, receipts: Receipts | None = None) -> Record:
        """Cancel a job that is not terminal. A running attempt loses its lease and ends as superseded."""
        ...

    def retry(self, video_id: str, *, receipts: Receipts | None = None) -> Record:
        """Begin a new generation with counters at 0 and one outbox entry.

        Raises:
            Conflict: `wrong_status`; `source_missing` if the job was cancelled before its upload was complete.
        """
        ...

    def delete(self, video_id: str, *, grace: timedelta) -> None:
        """Cancel the job and hide the video. The objects are deleted after `grace`, and then the rows are deleted."""
        ...


@dataclass(frozen=True, slots=True)
class Claimed:
    """The answer to a claim: the attempt may begin."""

    lease: Lease
    record: Record


@dataclass(frozen=True, slots=True)
class Dropped:
    """The answer to a claim: no attempt may begin now, and the message may be deleted."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Unknown:
    """The answer to a claim: the video does not exist."""


class Leases(Protocol):
    """The write operations of a worker. If one returns False, the lease is lost, and the attempt must stop."""

    def claim(
        self,
        video_id: str,
        *,
        generation: int | None,
        attempt_id: str,
        worker: str,
        lease: timedelta,
        policy: RetryPolicy,
    ) -> Claimed | Dropped | Unknown:
        """Decide with `judge_claim` whether an attempt begins, and apply the decision.

        A new attempt increases the fence by 1. Every attempt has a new `attempt_id`.
        If the previous attempt's lease has expired, that attempt is first settled as lost.
        A caller that got no answer may repeat the call: a second call with the same `attempt_id` changes nothing.
        A job that is not due yet gets an outbox entry for its due time, because this may be the job's last message.
        """
        ...

    def renew(self, lease: Lease, *, duration: timedelta) -> bool:
        """Extend the lease to `duration` from now. An expired lease is valid again if no other worker took the job."""
        ...

    def report_progress(self, lease: Lease, progress: float) -> bool:
        """Store progress from 0 to 1, which never falls within an attempt. Each whole percent has at most one event."""
        ...

    def publish(self, lease: Lease, result: Result) -> bool:
        """Make this result the current result. The attempt ends, and the status becomes `processed`.

        A repeated call with a result that was published before returns True.
        The objects of the job's other attempts are deleted now, and again 24 h later.
        """
        ...

    def settle(self, lease: Lease, settlement: Settlement) -> bool:
        """End the attempt without a result and apply the settlement.

        The job's lease is cleared. A repeated call with the same settlement returns True.
        If another attempt follows, `not_before` and an outbox entry are set.
        If the job has used up its failures or losses, a dead letter is recorded.
        The attempt's object is deleted now, and again 24 h later.
        """
        ...


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A message that has to be sent. Only one relay at a time holds the entry."""

    id: int
    token: str
    """This value changes each time a relay takes the entry, and each time the job needs a newer message."""
    video_id: str
    task_id: str
    owner: str
    generation: int
    key: str
    created_at: datetime
    tries: int
    """Number of failed tries to send the message."""


class Outbox(Protocol):
    """Messages that have to be sent because a committed transaction added them. Each job has at most one."""

    def hold_outbox(self, *, limit: int, hold: timedelta) -> Sequence[OutboxEntry]:
        """Take entries that are due, oldest first. No other relay can take them for the time `hold`."""
        ...

    def mark_sent(self, entry: OutboxEntry, *, broker: str) -> None:
        """Remove the entry of a sent message, unless the entry was replaced. Store time and queue with the job."""
        ...

    def mark_unsent(self, entry: OutboxEntry, *, delay: timedelta) -> None:
        """Make an entry due again after `delay`, because the queue refused its message. Count the failed try."""
        ...


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


class Feed(Protocol):
    """The append-only feed of changes. Ids grow in the order of commits, so a reader that follows them misses no event.

    Events that this version can't read are skipped. If fewer than `limit` events are returned, no more events exist.
    """

    def events_after(self, event_id: int, *, video_id: str | None = None, limit: int = 500) -> Sequence[JobEvent]: ...

    def last_event_id(self) -> int:
        """Return the id of the newest event, or 0 for an empty feed."""
        ...

    def cursor(self, name: str) -> int | None:
        """Return the id of the last event that a named reader has handled. None for a new reader."""
        ...

    def move_cursor(self, name: str, event_id: int) -> None: ...


class DeadLetters(Protocol):
    """Messages that people have to examine."""

    def record_dead_letter(self, *, cause: DeadLetterCause, message_id: str, body: str, detail: str) -> bool:
        """Record a message that belongs to no job, with a shortened body. False if the message was recorded before."""
        ...


class Tokens(Protocol):
    """API tokens, found by the hash of their secret."""

    def add_token(self, token: Token) -> bool:
        """Store a token. False if a token with the same hash exists."""
        ...

    def find_token(self, token_hash: str) -> Token | None:
        """Return the token with this hash. None if the token does not exist, was revoked or has expired."""
        ...

    def list_tokens(self) -> Sequence[Token]: ...

    def revoke_token(self, token_id: str) -> bool:
        """Revoke a token. False if the token does not exist or was revoked before."""
        ...


class Clock(Protocol):
    """The clock that gives all stored times."""

    def now(self) -> datetime:
        """Return the current time by the database's clock."""
        ...


class Store(Uploads, Reading, Commands, Leases, Outbox, Housekeeping, Feed, DeadLetters, Tokens, Clock, Protocol):
    """A store with all protocols, for adapters and the in-memory fake. A use case takes only the protocols it needs."""

    def ping(self) -> None:
        """Check that the database answers.

        Raises:
            Unavailable: the database does not answer, or does not have the schema that this program needs.
        """
        ...

    def close(self) -> None: ...
