"""The store of record. Every method is one transaction, and every change of a job is a compare-and-set.

The database's clock is the only one: lifetimes and delays are given as durations, and it turns them into times itself.
All methods raise `Unavailable("database", ...)` when it does not answer in time; then nothing may be concluded, for the
answer to a commit may be what was lost: read the row again.
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
"""Characters kept of a message's body: enough to see whose it was."""


@dataclass(frozen=True, slots=True)
class Replay:
    """An upload of this owner with this Idempotency-Key exists. `fingerprint` is None while it is in progress.

    `held` tells then in how long it gives the key up, if it is not renewed any more; None: not before it ends.
    """

    record: Record
    fingerprint: str | None
    held: timedelta | None = None


class Uploads(Protocol):
    """The first part of a video's life: from the first byte to `uploaded`."""

    def begin_upload(
        self, new: NewVideo, *, lifetime: timedelta, idempotency: Idempotency | None = None
    ) -> Record | Replay:
        """Write video and job (`uploading`). The sweep abandons it when it is not renewed within `lifetime`.

        The key is free again once it expires, its upload is abandoned or cancelled, or its video is deleted. An
        upload in progress that was silent for too long is abandoned here, in favour of this one.

        Raises:
            Conflict: `video_exists`; `source_taken` while the object of an earlier upload with this id remains.
        """
        ...

    def renew_upload(self, video_id: str, *, lifetime: timedelta) -> bool:
        """Bytes still arrive. False when the upload was cancelled or abandoned meanwhile."""
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
        """`uploading -> uploaded`, with event and outbox entry. Doing it again with the same source changes nothing.

        `title` and `edit` replace those the upload began with; None leaves them. (A form may name them after its file.)

        Raises:
            NotFound: `video_not_found`, abandoned or deleted meanwhile.
            Conflict: `wrong_status`, cancelled meanwhile.
        """
        ...

    def abandon_upload(self, video_id: str) -> None:
        """Remove an unfinished upload's rows; any other status is left alone.

        Its object is due for deletion at once, and again 24 h later because its writer may still live.
        """
        ...

    def submit_existing(self, new: NewVideo, source: Source) -> tuple[Record, bool]:
        """Record an object that is already there as `uploaded`, once by id.

        The second value tells whether it is new; if not, the record is the one that was there, whoever owns it.

        Raises:
            NotFound: `video_not_found`, a video with this id was deleted.
            Conflict: `source_taken`, the object is or was an upload of another video.
        """
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """Where a listing goes on: after this video, newest first."""

    created_at: datetime
    video_id: str


History = tuple[Record | None, Sequence[Attempt]]
"""A video, None where there is none, and all attempts ever made, oldest first."""


class Reading(Protocol):
    """What is shown to people. A deleted video is nowhere to be found.

    What this version can't read is skipped where several are asked for, and reported; fewer than `limit` still means
    that there are no more. Asked for by its id, it raises `Unreadable`, here as everywhere in the store.
    """

    def get(self, video_id: str) -> Record | None: ...

    def listing(
        self, *, owner: str | None, statuses: Collection[Status] = (), after: Page | None = None, limit: int = 50
    ) -> Sequence[Record]:
        """Newest first; `owner` None lists everybody's, empty `statuses` all of them."""
        ...

    def history(self, video_id: str) -> History: ...

    def histories(self, video_ids: Collection[str]) -> Mapping[str, History]:
        """Those of several videos by id, for little more than one of them costs; unreadable ones are left out."""
        ...

    def count_by_status(self) -> dict[Status, int]:
        """Jobs that are not deleted, by status; statuses without a job are absent."""
        ...


class Commands(Protocol):
    """What a person may do to a video; `receipts` are added to those of the job, or replace those of the same issuer.

    Raises:
        NotFound: `video_not_found`, unknown or deleted.
        Conflict: `wrong_status`.
    """

    def cancel(self, video_id: str, *, receipts: Receipts | None = None) -> Record:
        """End a job that is not terminal; its attempt, if any, is superseded and loses its lease at its next write."""
        ...

    def retry(self, video_id: str, *, receipts: Receipts | None = None) -> Record:
        """Begin a new generation with counters at 0 and one outbox entry.

        Raises:
            Conflict: `wrong_status`; `source_missing` when it was cancelled before its upload was whole.
        """
        ...

    def delete(self, video_id: str, *, grace: timedelta) -> None:
        """Cancel and hide the video; its objects are due for deletion after `grace`, its rows after them."""
        ...


@dataclass(frozen=True, slots=True)
class Claimed:
    """The attempt may begin."""

    lease: Lease
    record: Record


@dataclass(frozen=True, slots=True)
class Dropped:
    """Committed state says that this message has nothing to wake: it may be deleted."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Unknown:
    """There is no such video."""


class Leases(Protocol):
    """What a worker does to a job. A false answer means that the lease is lost: write nothing more, stop the work."""

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
        """Apply `judge_claim`: fence + 1 and a new attempt, an expired attempt settled as lost before it.

        `attempt_id` is new with every attempt. Claiming again with the id that holds the job changes nothing, and the
        lease still counts from the first time: who got no answer may ask again.

        A job that is not due yet gets a new outbox entry for when it is: what woke the caller may be its last message.
        """
        ...

    def renew(self, lease: Lease, *, duration: timedelta) -> bool:
        """The lease expires `duration` from now by the database's clock. An expired one that nobody took revives."""
        ...

    def report_progress(self, lease: Lease, progress: float) -> bool:
        """Progress from 0 to 1, never falling within an attempt; an event at most once a whole percent."""
        ...

    def publish(self, lease: Lease, result: Result) -> bool:
        """Make this result the current one: status `processed`, attempt ended. True again for one published before.

        The objects of the job's other attempts are due for deletion now, and again 24 h later.
        """
        ...

    def settle(self, lease: Lease, settlement: Settlement) -> bool:
        """End the attempt without a result and apply what follows. True again for an attempt settled so before.

        The lease is cleared. If work remains, `not_before` and an outbox entry are set; else a dead letter, if used up.
        The attempt's object is due for deletion now, and again 24 h later.
        """
        ...


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A message to send, held by one relay. `token` changes with every hold and with every newer obligation."""

    id: int
    token: str
    video_id: str
    task_id: str
    owner: str
    generation: int
    key: str
    created_at: datetime
    tries: int


class Outbox(Protocol):
    """Messages that committed transactions promised to send; at most one a job."""

    def hold_outbox(self, *, limit: int, hold: timedelta) -> Sequence[OutboxEntry]:
        """Entries that are due, longest due first, held against other relays for `hold`."""
        ...

    def mark_sent(self, entry: OutboxEntry, *, broker: str) -> None:
        """The queue has it: drop the entry, note when and where. A newer obligation of the same job stays."""
        ...

    def mark_unsent(self, entry: OutboxEntry, *, delay: timedelta) -> None:
        """It was refused: due again after `delay`, with one more try counted."""
        ...


class Housekeeping(Protocol):
    """What the sweep does; each call is capped by `limit` and tells how much it did.

    What can't be read, or is locked by somebody, is left for later and keeps nothing else waiting.
    """

    def exclusively(self, name: str, *, lifetime: timedelta) -> AbstractContextManager[bool]:
        """True for one process at a time; `lifetime` bounds how long a dead one is in the way."""
        ...

    def end_expired_leases(self, *, limit: int, policy: RetryPolicy) -> int:
        """Settle attempts whose lease has expired as lost, each in a transaction of its own."""
        ...

    def end_expired_uploads(self, *, limit: int) -> int:
        """Abandon uploads that were not renewed, each in a transaction of its own."""
        ...

    def requeue_unclaimed(
        self, *, enqueued_before: timedelta | None = None, not_on: str | None = None, limit: int
    ) -> int:
        """New outbox entries for jobs that wait, are due, have none, and whose message may be gone.

        It may be when it was sent longer ago than `enqueued_before` or (when `not_on` is given) to a broker of another
        name; at least one of the two is given.
        """
        ...

    def requeue_overdue(self, *, slack: timedelta, limit: int) -> int:
        """New outbox entries for jobs that have waited longer than the work ahead of them explains.

        `anb_core.domain.overdue` decides it, for the first `limit` of those that wait.
        """
        ...

    def hold_deletions(self, *, limit: int, hold: timedelta) -> Sequence[Deletion]:
        """Objects due for deletion, held against others for `hold`."""
        ...

    def deletion_done(self, deletions: Collection[Deletion]) -> None:
        """The objects are gone, and so are these rows."""
        ...

    def purge(self, *, events_before: timedelta, limit: int) -> int:
        """Remove feed entries older than that, expired Idempotency-Keys, and what is left of deleted videos.

        These go once their grace is over and none of their objects remains; until then their messages are recognised.
        The limit holds for each of the three.
        """
        ...


class Feed(Protocol):
    """The append-only feed of changes. Ids grow in the order of commits, so a reader by id skips nothing.

    But for events that this version can't read; fewer than `limit` still means that there are no more.
    """

    def events_after(self, event_id: int, *, video_id: str | None = None, limit: int = 500) -> Sequence[JobEvent]: ...

    def last_event_id(self) -> int:
        """0 for an empty feed."""
        ...

    def cursor(self, name: str) -> int | None:
        """How far a named reader has come; None for a new one."""
        ...

    def move_cursor(self, name: str, event_id: int) -> None: ...


class DeadLetters(Protocol):
    """What people have to look at."""

    def record_dead_letter(self, *, cause: DeadLetterCause, message_id: str, body: str, detail: str) -> bool:
        """Record a message that belongs to no job, once by its id (False: it was there); long bodies are cut."""
        ...


class Tokens(Protocol):
    """API tokens, found by the hash of their secret."""

    def add_token(self, token: Token) -> bool:
        """False when one with this hash exists already."""
        ...

    def find_token(self, token_hash: str) -> Token | None:
        """A token that is neither revoked nor expired by the database's clock."""
        ...

    def list_tokens(self) -> Sequence[Token]: ...

    def revoke_token(self, token_id: str) -> bool:
        """False when there is none with this id that is not revoked."""
        ...


class Clock(Protocol):
    """The only clock that what is stored is judged by."""

    def now(self) -> datetime:
        """The database's clock."""
        ...


class Store(Uploads, Reading, Commands, Leases, Outbox, Housekeeping, Feed, DeadLetters, Tokens, Clock, Protocol):
    """All of it, as the adapters and the fake implement it. Use cases ask for the parts that they use."""

    def ping(self) -> None:
        """Return when the database answers.

        Raises:
            Unavailable: it does not, or its schema is not the one this program needs.
        """
        ...

    def close(self) -> None: ...
