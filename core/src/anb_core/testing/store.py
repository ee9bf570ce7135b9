"""The store in memory, for tests of everything that needs one. The contract suite holds it to what the databases do."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import uuid4

from anb_core.domain import lifecycle
from anb_core.domain.claim import Drop, Reason, RecordLoss, Take, judge_claim
from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Conflict, NotFound, Unreadable
from anb_core.domain.lifecycle import Doomed, Effect
from anb_core.domain.model import (
    Attempt,
    DeadLetterCause,
    Deletion,
    EventKind,
    Idempotency,
    Job,
    JobEvent,
    Lease,
    NewVideo,
    Problem,
    Receipts,
    Record,
    Result,
    Source,
    Token,
)
from anb_core.domain.overdue import Waiting, overdue
from anb_core.domain.retry import RetryPolicy, Settlement, plan_loss
from anb_core.domain.status import Status
from anb_core.ports.store import (
    MAX_DEAD_LETTER_BODY,
    Claimed,
    Dropped,
    History,
    OutboxEntry,
    Page,
    Replay,
    Unknown,
)


@dataclass(slots=True)
class _Row:
    record: Record
    upload_expires_at: datetime | None = None
    deleted_at: datetime | None = None
    purge_after: datetime | None = None
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def job(self) -> Job:
        return self.record.job


@dataclass(slots=True)
class _Owed:
    id: int
    send_after: datetime
    created_at: datetime
    token: str | None = None
    tries: int = 0


@dataclass(slots=True)
class _Key:
    video_id: str
    expires_at: datetime
    fingerprint: str | None = None


@dataclass(slots=True)
class KeptDeletion:
    """A row of object_deletions, for assertions."""

    id: int
    video_id: str
    doomed: Doomed
    held_until: datetime | None = None

    @property
    def due(self) -> datetime:
        """When it is handed out next."""
        return self.held_until or self.doomed.due


@dataclass(frozen=True, slots=True)
class KeptDeadLetter:
    """A row of dead_letters, for assertions."""

    cause: DeadLetterCause
    detail: str
    video_id: str | None = None
    generation: int | None = None
    message_id: str | None = None
    body: str | None = None


def utc_now() -> datetime:
    """The machine's clock."""
    return datetime.now(UTC)


class InMemoryStore:
    """A `Store` with a clock of its own.

    Set `fault` to an error and every method raises it, as a database that is away does. Videos in `unreadable` are as
    if a newer program had written them. `dead_letters` and `deletions` are what its tables of these names hold.
    """

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self.fault: Exception | None = None
        self.unreadable: set[str] = set()
        self.dead_letters: list[KeptDeadLetter] = []
        self.deletions: list[KeptDeletion] = []
        self._clock = clock
        self._lock = threading.RLock()
        self._rows: dict[str, _Row] = {}
        self._outbox: dict[str, _Owed] = {}
        self._keys: dict[tuple[str, str], _Key] = {}
        self._events: list[JobEvent] = []
        self._cursors: dict[str, int] = {}
        self._tokens: dict[str, Token] = {}
        self._locks: dict[str, tuple[str, datetime]] = {}
        self._ids = count(1)
        self._event_ids = count(1)

    # -- uploads

    def begin_upload(
        self, new: NewVideo, *, lifetime: timedelta, idempotency: Idempotency | None = None
    ) -> Record | Replay:
        with self._transaction() as now:
            key = (new.owner, idempotency.key) if idempotency else None
            kept = self._keys.get(key) if key else None
            if kept and idempotency and kept.expires_at > now and kept.video_id != new.id:
                other = self._rows[kept.video_id]
                held = _held(other, now, lifetime, idempotency)
                if held is None or held > timedelta(0):
                    return Replay(other.record, kept.fingerprint, held)
                self._abandon(other, now)
                kept = None
            row = self._find(new.id)
            if row is None:
                row = _Row(lifecycle.new_record(new, now), upload_expires_at=now + lifetime)
                self._add(row)
                self._tell(row.record, EventKind.STATUS, now)
            # (Deleted ones are cancelled.)
            elif row.record.video.owner != new.owner or row.job.status is not Status.UPLOADING:
                raise Conflict("video_exists", f"There is a video {new.id} already; choose another id.")
            if key and idempotency and not (kept and kept.expires_at > now):
                self._keys[key] = _Key(new.id, now + idempotency.lifetime)
            return row.record

    def renew_upload(self, video_id: str, *, lifetime: timedelta) -> bool:
        with self._transaction() as now:
            row = self._rows.get(video_id)
            if row is None or row.job.status is not Status.UPLOADING:
                return False
            row.upload_expires_at = now + lifetime
            return True

    def complete_upload(
        self,
        video_id: str,
        source: Source,
        *,
        title: str | None = None,
        edit: EditSpec | None = None,
        fingerprint: str | None = None,
    ) -> Record:
        with self._transaction() as now:
            row = self._visible(video_id)
            effect = lifecycle.complete(row.record, source, now, title=title, edit=edit)
            if effect is None:
                return row.record
            for key in self._keys.values():
                if key.video_id == video_id:
                    key.fingerprint = fingerprint
            return self._apply(row, effect, now)

    def abandon_upload(self, video_id: str) -> None:
        with self._transaction() as now:
            self._abandon(self._find(video_id), now)

    def submit_existing(self, new: NewVideo, source: Source) -> tuple[Record, bool]:
        with self._transaction() as now:
            if new.id in self._rows:
                return self._visible(new.id).record, False
            row = _Row(lifecycle.new_record(new, now, source))
            self._add(row)
            self._owe(row.job, now, now)
            self._tell(row.record, EventKind.STATUS, now)
            return row.record, True

    # -- reading

    def get(self, video_id: str) -> Record | None:
        with self._transaction():
            row = self._find(video_id)
            return row.record if row and not row.deleted_at else None

    def listing(
        self, *, owner: str | None, statuses: Collection[Status] = (), after: Page | None = None, limit: int = 50
    ) -> Sequence[Record]:
        with self._transaction():
            found = [
                row.record
                for row in self._readable()
                if not row.deleted_at
                and (owner is None or row.record.video.owner == owner)
                and (not statuses or row.job.status in statuses)
                and (after is None or _place(row.record) < (after.created_at, after.video_id))
            ]
            return sorted(found, key=_place, reverse=True)[:limit]

    def history(self, video_id: str) -> History:
        with self._transaction():
            self._find(video_id)
            return self.histories([video_id])[video_id]

    def histories(self, video_ids: Collection[str]) -> Mapping[str, History]:
        with self._transaction():
            return {
                video_id: (row.record, list(row.attempts))
                if (row := self._rows.get(video_id)) and not row.deleted_at
                else (None, [])
                for video_id in video_ids
                if video_id not in self.unreadable
            }

    def count_by_status(self) -> dict[Status, int]:
        with self._transaction():
            counts: dict[Status, int] = {}
            for row in self._rows.values():
                if not row.deleted_at:
                    counts[row.job.status] = counts.get(row.job.status, 0) + 1
            return counts

    # -- commands

    def cancel(self, video_id: str, *, receipts: Receipts | None = None) -> Record:
        with self._transaction() as now:
            row = self._visible(video_id)
            return self._apply(row, lifecycle.cancel(row.record, now, receipts), now)

    def retry(self, video_id: str, *, receipts: Receipts | None = None) -> Record:
        with self._transaction() as now:
            row = self._visible(video_id)
            return self._apply(row, lifecycle.retry(row.record, now, receipts), now)

    def delete(self, video_id: str, *, grace: timedelta) -> None:
        with self._transaction() as now:
            row = self._visible(video_id)
            keys = [attempt.result_key for attempt in row.attempts]
            self._apply(row, lifecycle.delete(row.record, now, grace=grace, attempt_keys=keys), now)

    # -- leases

    def claim(
        self, video_id: str, *, generation: int | None, worker: str, lease: timedelta, policy: RetryPolicy
    ) -> Claimed | Dropped | Unknown:
        with self._transaction() as now:
            row = self._find(video_id)
            if row is None:
                return Unknown()
            if row.deleted_at:
                return Dropped(Reason.DELETED)
            match judge_claim(row.job, generation, now, policy):
                case Drop(reason, send_after):
                    if send_after:
                        self._owe(row.job, send_after, now)
                    return Dropped(reason)
                case RecordLoss(loss):
                    self._apply(row, lifecycle.settle(row.record, loss, now), now)
                    return Dropped(Reason.LOST)
                case Take(loss):
                    effect = lifecycle.claim(
                        row.record, now, attempt_id=str(uuid4()), worker=worker, lease=lease, loss=loss
                    )
                    self._apply(row, effect, now)
                    return Claimed(lifecycle.lease_of(row.record, row.attempts[-1]), row.record)

    def renew(self, lease: Lease, *, duration: timedelta) -> bool:
        with self._transaction() as now:
            row = self._held(lease)
            if row is None:
                return False
            row.record = replace(row.record, job=replace(row.job, lease_expires_at=now + duration))
            return True

    def report_progress(self, lease: Lease, progress: float) -> bool:
        with self._transaction() as now:
            self._find(lease.video_id)
            row = self._held(lease)
            if row is None:
                return False
            step = lifecycle.progressed(row.job, progress, now)
            if step is not None:
                job, told = step
                row.record = replace(row.record, job=job)
                if told:
                    self._tell(row.record, EventKind.PROGRESS, now)
            return True

    def publish(self, lease: Lease, result: Result) -> bool:
        with self._transaction() as now:
            row = self._find(lease.video_id)
            if row is None:
                return False
            if not lifecycle.holds(row.job, lease):
                return lifecycle.published_before(row.job, result)
            keys = [attempt.result_key for attempt in row.attempts]
            self._apply(row, lifecycle.publish(row.record, result, now, attempt_keys=keys), now)
            return True

    def settle(self, lease: Lease, settlement: Settlement) -> bool:
        with self._transaction() as now:
            row = self._find(lease.video_id)
            if row is None:
                return False
            if not lifecycle.holds(row.job, lease):
                return any(lifecycle.settled_before(attempt, lease, settlement) for attempt in row.attempts)
            self._apply(row, lifecycle.settle(row.record, settlement, now), now)
            return True

    def _held(self, lease: Lease) -> _Row | None:
        row = self._rows.get(lease.video_id)
        return row if row and lifecycle.holds(row.job, lease) else None

    # -- outbox

    def hold_outbox(self, *, limit: int, hold: timedelta) -> Sequence[OutboxEntry]:
        with self._transaction() as now:
            due = sorted(
                (owed.send_after, owed.id, video_id)
                for video_id, owed in self._outbox.items()
                if owed.send_after <= now
            )
            token = str(uuid4())
            held = []
            for _, _, video_id in due[:limit]:
                row, owed = self._rows[video_id], self._outbox[video_id]
                owed.token, owed.send_after = token, now + hold
                held.append(
                    OutboxEntry(
                        id=owed.id,
                        token=token,
                        video_id=video_id,
                        task_id=row.job.id,
                        owner=row.record.video.owner,
                        generation=row.job.generation,
                        key=row.record.video.source_key,
                        created_at=owed.created_at,
                        tries=owed.tries,
                    )
                )
            return held

    def mark_sent(self, entry: OutboxEntry, *, broker: str) -> None:
        with self._transaction() as now:
            row = self._rows.get(entry.video_id)
            if row:
                row.record = replace(row.record, job=replace(row.job, enqueued_at=now, enqueued_to=broker))
            if self._still_held(entry):
                del self._outbox[entry.video_id]

    def mark_unsent(self, entry: OutboxEntry, *, delay: timedelta) -> None:
        with self._transaction() as now:
            if owed := self._still_held(entry):
                owed.send_after, owed.token, owed.tries = now + delay, None, owed.tries + 1

    def _still_held(self, entry: OutboxEntry) -> _Owed | None:
        owed = self._outbox.get(entry.video_id)
        return owed if owed and (owed.id, owed.token) == (entry.id, entry.token) else None

    # -- housekeeping

    @contextmanager
    def exclusively(self, name: str, *, lifetime: timedelta) -> Iterator[bool]:
        holder = str(uuid4())
        with self._transaction() as now:
            taken = self._locks.get(name)
            ours = taken is None or taken[1] <= now
            if ours:
                self._locks[name] = (holder, now + lifetime)
        try:
            yield ours
        finally:
            with self._lock:
                if self._locks.get(name, ("", None))[0] == holder:
                    del self._locks[name]

    def end_expired_leases(self, *, limit: int, policy: RetryPolicy) -> int:
        with self._transaction() as now:
            expired = [row for row in self._readable() if row.job.lease_expires_at and row.job.lease_expires_at <= now]
            for row in expired[:limit]:
                self._apply(row, lifecycle.settle(row.record, plan_loss(row.job.counters, policy), now), now)
            return len(expired[:limit])

    def end_expired_uploads(self, *, limit: int) -> int:
        with self._transaction() as now:
            expired = [row for row in self._readable() if row.upload_expires_at and row.upload_expires_at <= now]
            for row in expired[:limit]:
                self._abandon(row, now)
            return len(expired[:limit])

    def requeue_unclaimed(
        self, *, enqueued_before: timedelta | None = None, not_on: str | None = None, limit: int
    ) -> int:
        if enqueued_before is None and not_on is None:
            raise ValueError("requeue_unclaimed needs enqueued_before or not_on")
        with self._transaction() as now:
            forgotten = [
                row.job
                for row in self._rows.values()
                if _waits(row.job, now)
                and row.job.video_id not in self._outbox
                and _sent_in_vain(row.job, now, enqueued_before, not_on)
            ]
            for job in forgotten[:limit]:
                self._owe(job, now, now)
            return len(forgotten[:limit])

    def requeue_overdue(self, *, slack: timedelta, limit: int) -> int:
        with self._transaction() as now:
            jobs = sorted(
                (row.job for row in self._rows.values() if _waits(row.job, now)),
                key=lambda job: (job.updated_at, job.id),
            )
            found = [
                Waiting(job.id, since=max(job.updated_at, job.not_before or job.updated_at), sent=job.enqueued_at)
                for job in jobs
                if job.enqueued_at
            ]
            leased = [row.job.enqueued_at for row in self._rows.values() if row.job.lease_owner and row.job.enqueued_at]
            late = set(overdue(found[:limit], leased, now, slack))
            again = [job for job in jobs if job.id in late and job.video_id not in self._outbox]
            for job in again:
                self._owe(job, now, now)
            return len(again)

    def hold_deletions(self, *, limit: int, hold: timedelta) -> Sequence[Deletion]:
        with self._transaction() as now:
            due = sorted((kept for kept in self.deletions if kept.due <= now), key=lambda kept: (kept.due, kept.id))
            for kept in due[:limit]:
                kept.held_until = now + hold
            return [Deletion(kept.id, kept.doomed.key, kept.doomed.reason) for kept in due[:limit]]

    def deletion_done(self, deletions: Collection[Deletion]) -> None:
        with self._transaction():
            done = {deletion.id for deletion in deletions}
            self.deletions[:] = [kept for kept in self.deletions if kept.id not in done]

    def purge(self, *, events_before: timedelta, limit: int) -> int:
        with self._transaction() as now:
            old = [event.id for event in self._events if event.at < now - events_before][:limit]
            self._events[:] = [event for event in self._events if event.id not in old]
            stale = [key for key, kept in self._keys.items() if kept.expires_at <= now][:limit]
            for key in stale:
                del self._keys[key]
            waiting = {kept.video_id for kept in self.deletions}
            gone = [
                video_id
                for video_id, row in self._rows.items()
                if row.purge_after and row.purge_after <= now and video_id not in waiting
            ][:limit]
            for video_id in gone:
                del self._rows[video_id]
            return len(old) + len(stale) + len(gone)

    # -- feed

    def events_after(self, event_id: int, *, video_id: str | None = None, limit: int = 500) -> Sequence[JobEvent]:
        with self._transaction():
            return [
                event
                for event in self._events
                if event.id > event_id and (video_id is None or event.video_id == video_id)
            ][:limit]

    def last_event_id(self) -> int:
        with self._transaction():
            return self._events[-1].id if self._events else 0

    def cursor(self, name: str) -> int | None:
        with self._transaction():
            return self._cursors.get(name)

    def move_cursor(self, name: str, event_id: int) -> None:
        with self._transaction():
            self._cursors[name] = event_id

    # -- dead letters and tokens

    def record_dead_letter(self, *, cause: DeadLetterCause, message_id: str, body: str, detail: str) -> bool:
        with self._transaction():
            if any(kept.message_id == message_id for kept in self.dead_letters):
                return False
            self.dead_letters.append(
                KeptDeadLetter(cause, detail, message_id=message_id, body=body[:MAX_DEAD_LETTER_BODY])
            )
            return True

    def add_token(self, token: Token) -> bool:
        with self._transaction():
            if any(kept.hash == token.hash for kept in self._tokens.values()):
                return False
            self._tokens[token.id] = token
            return True

    def find_token(self, token_hash: str) -> Token | None:
        with self._transaction() as now:
            for token in self._tokens.values():
                if (
                    token.hash == token_hash
                    and not token.revoked_at
                    and (not token.expires_at or token.expires_at > now)
                ):
                    return token
            return None

    def list_tokens(self) -> Sequence[Token]:
        with self._transaction():
            return sorted(self._tokens.values(), key=lambda token: (token.created_at, token.id))

    def revoke_token(self, token_id: str) -> bool:
        with self._transaction() as now:
            token = self._tokens.get(token_id)
            if token is None or token.revoked_at:
                return False
            self._tokens[token_id] = replace(token, revoked_at=now)
            return True

    # -- the database itself

    def ping(self) -> None:
        with self._transaction():
            pass

    def now(self) -> datetime:
        with self._transaction() as now:
            return now

    def close(self) -> None:
        """Nothing to give back."""

    @contextmanager
    def _transaction(self) -> Iterator[datetime]:
        """The clock's time, in whole milliseconds as the databases keep it."""
        with self._lock:
            if self.fault is not None:
                raise self.fault
            now = self._clock()
            yield now.replace(microsecond=now.microsecond // 1000 * 1000)

    def _find(self, video_id: str) -> _Row | None:
        if video_id in self.unreadable:
            raise Unreadable("video_unreadable", f"This version can't read video {video_id}.")
        return self._rows.get(video_id)

    def _readable(self) -> list[_Row]:
        return [row for video_id, row in self._rows.items() if video_id not in self.unreadable]

    def _visible(self, video_id: str) -> _Row:
        row = self._find(video_id)
        if row is None or row.deleted_at:
            raise NotFound("video_not_found", f"There is no video {video_id}.")
        return row

    def _add(self, row: _Row) -> None:
        video = row.record.video
        others = (other.record.video for other in self._rows.values())
        if any(kept.doomed.key == video.source_key for kept in self.deletions) or any(
            other.owned and other.source_key == video.source_key for other in others
        ):
            raise lifecycle.source_taken(video)
        self._rows[video.id] = row

    def _apply(self, row: _Row, effect: Effect, now: datetime) -> Record:
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
        self._outbox.pop(job.video_id, None)
        if effect.send_after:
            self._owe(job, effect.send_after, now)
        self._doom(job.video_id, effect.doomed)
        if effect.dead_letter:
            detail = job.error.message if job.error else ""
            self.dead_letters.append(KeptDeadLetter(effect.dead_letter, detail, job.video_id, job.generation))
        if effect.release_key:
            self._keys = {key: kept for key, kept in self._keys.items() if kept.video_id != job.video_id}
        self._tell(effect.record, effect.event, now, effect.error)
        return effect.record

    def _abandon(self, row: _Row | None, now: datetime) -> None:
        if row is None or row.job.status is not Status.UPLOADING:
            return
        record = row.record
        del self._rows[record.video.id]
        self._keys = {key: kept for key, kept in self._keys.items() if kept.video_id != record.video.id}
        self._doom(record.video.id, lifecycle.abandoned(record.video, now))
        self._tell(replace(record, job=replace(record.job, version=record.job.version + 1)), EventKind.DELETED, now)

    def _owe(self, job: Job, send_after: datetime, now: datetime) -> None:
        self._outbox[job.video_id] = _Owed(next(self._ids), send_after, now)

    def _doom(self, video_id: str, doomed: Iterable[Doomed]) -> None:
        self.deletions += (KeptDeletion(next(self._ids), video_id, one) for one in doomed)

    def _tell(self, record: Record, kind: EventKind, now: datetime, error: Problem | None = None) -> None:
        job = record.job
        self._events.append(
            JobEvent(
                id=next(self._event_ids),
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


def _place(record: Record) -> tuple[datetime, str]:
    return record.video.created_at, record.video.id


def _held(row: _Row, now: datetime, lifetime: timedelta, idempotency: Idempotency) -> timedelta | None:
    """For how long an upload keeps its key, if it is not renewed any more."""
    if idempotency.silence is None or row.upload_expires_at is None:
        return None
    return row.upload_expires_at - lifetime + idempotency.silence - now


def _waits(job: Job, now: datetime) -> bool:
    return (
        job.status in {Status.UPLOADED, Status.PROCESSING}
        and job.lease_owner is None
        and (job.not_before is None or job.not_before <= now)
    )


def _sent_in_vain(job: Job, now: datetime, enqueued_before: timedelta | None, not_on: str | None) -> bool:
    # A job that was never noted as sent, without an entry, counts as sent long ago: better a message too many.
    late = enqueued_before is not None and (job.enqueued_at is None or job.enqueued_at < now - enqueued_before)
    return late or (not_on is not None and job.enqueued_to != not_on)
