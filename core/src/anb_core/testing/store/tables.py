"""The tables of the in-memory store, and the operations that several ports need."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count

from anb_core.adapters.system import new_id
from anb_core.domain import dead_letters, lifecycle
from anb_core.domain.dead_letters import DeadLetter
from anb_core.domain.effect import Effect, ScheduledDeletion
from anb_core.domain.errors import NotFound, Unreadable
from anb_core.domain.model import (
    Attempt,
    EventKind,
    Job,
    JobEvent,
    Problem,
    Record,
    Token,
)
from anb_core.domain.status import Status


@dataclass(slots=True)
class Row:
    """A video, its job and its attempts."""

    record: Record
    upload_expires_at: datetime | None = None
    deleted_at: datetime | None = None
    purge_after: datetime | None = None
    announced_bytes: int = 0
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def job(self) -> Job:
        return self.record.job


@dataclass(slots=True)
class OutboxRow:
    """An outbox entry: a message that a relay has to send."""

    id: int
    send_after: datetime
    created_at: datetime
    token: str | None = None
    tries: int = 0


@dataclass(slots=True)
class KeyRow:
    """An Idempotency-Key that is in use."""

    video_id: str
    expires_at: datetime
    fingerprint: str | None = None


@dataclass(slots=True)
class DeletionRow:
    """An object that is scheduled for deletion."""

    id: int
    video_id: str
    scheduled: ScheduledDeletion
    held_until: datetime | None = None

    @property
    def due(self) -> datetime:
        """Time at which the sweep may take the deletion."""
        return self.held_until or self.scheduled.due


def utc_now() -> datetime:
    """Return the current time of the machine's clock, in UTC."""
    return datetime.now(UTC)


class Tables:
    """The tables of the in-memory store. All classes that implement a port of the store inherit from this class.

    If `fault` is set to an error, every method of the store raises the error, as if the database were unavailable.
    `unreadable` has the ids of videos that can't be read, as if a newer program had written them.
    """

    def __init__(self, clock: Callable[[], datetime] = utc_now, new_id: Callable[[], str] = new_id) -> None:
        self.clock = clock
        self.new_id = new_id
        self.fault: Exception | None = None
        self.unreadable: set[str] = set()
        self.rows: dict[str, Row] = {}
        self.outbox: dict[str, OutboxRow] = {}
        self.keys: dict[tuple[str, str], KeyRow] = {}
        self.events: list[JobEvent] = []
        self.cursors: dict[str, int] = {}
        self.letters: list[DeadLetter] = []
        self.announced: dict[int, datetime] = {}
        self.deletions: list[DeletionRow] = []
        self.tokens: dict[str, Token] = {}
        self.locks: dict[str, tuple[str, datetime]] = {}
        self.row_ids = count(1)
        self.event_ids = count(1)
        self.letter_ids = count(1)
        self.lock = threading.RLock()

    @contextmanager
    def transaction(self) -> Iterator[datetime]:
        """Lock the store. Yields the current time, rounded down to milliseconds as in the databases."""
        with self.lock:
            if self.fault is not None:
                raise self.fault
            now = self.clock()
            yield now.replace(microsecond=now.microsecond // 1000 * 1000)

    def find(self, video_id: str) -> Row | None:
        """Return the video's row, or None if the video does not exist.

        Raises:
            Unreadable: `video_unreadable` if the id is in `unreadable`.
        """
        if video_id in self.unreadable:
            raise Unreadable("video_unreadable", f"This version can't read video {video_id}.")
        return self.rows.get(video_id)

    def readable(self) -> list[Row]:
        """Return the rows of all videos that are not in `unreadable`."""
        return [row for video_id, row in self.rows.items() if video_id not in self.unreadable]

    def visible(self, video_id: str) -> Row:
        """Return the row of a video. The video must exist, and must not be deleted.

        Raises:
            NotFound: `video_not_found` if the video does not exist or was deleted.
        """
        row = self.find(video_id)
        if row is None or row.deleted_at:
            raise NotFound("video_not_found", f"There is no video {video_id}.")
        return row

    def add(self, row: Row) -> None:
        """Add the row of a new video.

        Raises:
            Conflict: `source_taken` if another video owns the source object, or if the object will be deleted.
        """
        video = row.record.video
        others = (other.record.video for other in self.rows.values())
        if any(kept.scheduled.key == video.source_key for kept in self.deletions) or any(
            other.owned and other.source_key == video.source_key for other in others
        ):
            raise lifecycle.source_taken(video)
        self.rows[video.id] = row

    def apply(self, row: Row, effect: Effect, now: datetime) -> Record:
        """Write all effects of one change, and return the new record."""
        job = effect.record.job
        row.record = effect.record
        if job.status is not Status.UPLOADING:
            row.upload_expires_at = None
        if effect.purge_after:
            row.deleted_at, row.purge_after = now, effect.purge_after
        if effect.ended:
            row.attempts = [
                replace(attempt, ended_at=now, ending=effect.ended.ending, error=effect.ended.error)
                if attempt.id == effect.ended.attempt_id
                else attempt
                for attempt in row.attempts
            ]
        if effect.started:
            row.attempts.append(effect.started)
        self.outbox.pop(job.video_id, None)
        if effect.send_after:
            self.put_in_outbox(job, effect.send_after, now)
        self.schedule_deletions(job.video_id, effect.deletions)
        if effect.dead_letter:
            attempt = self.last_attempt(row)
            self.add_letter(
                dead_letters.of_job(effect.record, effect.dead_letter, effect.error, attempt=attempt, now=now)
            )
        if effect.resolution:
            self.letters = [
                replace(letter, resolution=effect.resolution, resolved_at=now, resolved_by=effect.by)
                if letter.open and letter.video_id == job.video_id
                else letter
                for letter in self.letters
            ]
        if effect.release_key:
            self.keys = {key: kept for key, kept in self.keys.items() if kept.video_id != job.video_id}
        self.append_event(effect.record, effect.event, now, effect.error)
        return effect.record

    def abandon(self, row: Row | None, now: datetime) -> None:
        """Delete the row of an unfinished upload. Does nothing if the upload is complete or `row` is None."""
        if row is None or row.job.status is not Status.UPLOADING:
            return
        record = row.record
        del self.rows[record.video.id]
        self.keys = {key: kept for key, kept in self.keys.items() if kept.video_id != record.video.id}
        self.schedule_deletions(record.video.id, lifecycle.abandoned(record.video, now))
        self.append_event(
            replace(record, job=replace(record.job, version=record.job.version + 1)), EventKind.DELETED, now
        )

    def last_attempt(self, row: Row) -> Attempt | None:
        """Return the last attempt of the job in its current generation. None if no attempt was made."""
        made = [attempt for attempt in row.attempts if attempt.generation == row.job.generation]
        return made[-1] if made else None

    def add_letter(self, letter: DeadLetter) -> DeadLetter | None:
        """Add a dead letter and return it with its id. None if a dead letter with the same message exists."""
        if letter.message_id and any(kept.message_id == letter.message_id for kept in self.letters):
            return None
        self.letters.append(replace(letter, id=next(self.letter_ids)))
        return self.letters[-1]

    def put_in_outbox(self, job: Job, send_after: datetime, now: datetime) -> None:
        """Add an outbox entry for a job. The new entry replaces the job's older entry, if any."""
        self.outbox[job.video_id] = OutboxRow(next(self.row_ids), send_after, now)

    def in_flight(self, now: datetime) -> list[Row]:
        """Return the rows of all jobs that run, or whose message was sent or is being sent."""
        found = []
        for video_id, row in self.rows.items():
            entry = self.outbox.get(video_id)
            waits = row.job.status in {Status.UPLOADED, Status.PROCESSING} and row.job.enqueued_at
            if (waits and not entry) or row.job.lease_owner or (entry and entry.token and entry.send_after > now):
                found.append(row)
        return found

    def schedule_deletions(self, video_id: str, deletions: Iterable[ScheduledDeletion]) -> None:
        """Schedule objects for deletion by the sweep."""
        self.deletions += (DeletionRow(next(self.row_ids), video_id, one) for one in deletions)

    def append_event(self, record: Record, kind: EventKind, now: datetime, error: Problem | None = None) -> None:
        """Append an event to the feed."""
        job = record.job
        self.events.append(
            JobEvent(
                id=next(self.event_ids),
                kind=kind,
                video_id=record.video.id,
                job_id=job.id,
                owner=record.video.owner,
                version=job.version,
                status=job.status,
                progress=job.progress,
                at=now,
                error=error,
            )
        )
