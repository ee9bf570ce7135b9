"""What each change does to a job and all that hangs on it, as values: a store only writes down what is decided here."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Conflict
from anb_core.domain.keys import result_key
from anb_core.domain.model import (
    Attempt,
    Counters,
    DeadLetterCause,
    DeletionReason,
    Ending,
    EventKind,
    Job,
    Lease,
    NewVideo,
    Problem,
    Receipts,
    Record,
    Result,
    Source,
    Video,
)
from anb_core.domain.retry import Settlement
from anb_core.domain.status import Change, Status, next_status

DELETE_AGAIN_AFTER = timedelta(hours=24)
"""A process that lost its job may finish writing its object after the first deletion; none lives longer than this."""


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt is over."""

    attempt_id: str
    ending: Ending
    error: Problem | None = None


@dataclass(frozen=True, slots=True)
class ScheduledDeletion:
    """An object that is to be deleted once `due`."""

    key: str
    reason: DeletionReason
    due: datetime


@dataclass(frozen=True, slots=True)
class Effect:
    """Everything one change comes to; written in one transaction, or not at all.

    `record` is the row afterwards, its job's version one higher. `send_after` replaces the job's outbox entry; None
    removes it, because there is no message to send. `release_key` frees the upload's Idempotency-Key. `purge_after` is
    set when the video is deleted.
    """

    record: Record
    event: EventKind
    send_after: datetime | None = None
    started: Attempt | None = None
    ended: Ended | None = None
    deletions: tuple[ScheduledDeletion, ...] = ()
    dead_letter: DeadLetterCause | None = None
    release_key: bool = False
    purge_after: datetime | None = None

    @property
    def error(self) -> Problem | None:
        """What the event tells: why the attempt ended, else what is wrong with the job."""
        return (self.ended and self.ended.error) or self.record.job.error


def new_record(new: NewVideo, now: datetime, source: Source | None = None) -> Record:
    """The first state: `uploading`, or `uploaded` when the object is known to be there."""
    video = Video(
        id=new.id,
        owner=new.owner,
        title=new.title,
        edit=new.edit,
        source_key=new.source_key,
        owned=new.owned,
        file_name=new.file_name,
        created_at=now,
        source=source,
    )
    job = Job(
        id=new.task_id,
        video_id=new.id,
        status=Status.UPLOADED if source else Status.UPLOADING,
        generation=1,
        fence=0,
        version=1,
        counters=Counters(),
        progress=0.0,
        attempts=0,
        lease_owner=None,
        lease_expires_at=None,
        worker=None,
        not_before=None,
        enqueued_at=None,
        enqueued_to=None,
        error=None,
        result=None,
        receipts=new.receipts,
        created_at=now,
        updated_at=now,
    )
    return Record(video, job)


def source_taken(video: Video) -> Conflict:
    """Why an object can't be another video's source: it is deleted with the one it belongs to, or is about to be."""
    return Conflict(
        "source_taken", f"The object {video.source_key} belongs to another video, or did until it was deleted."
    )


def holds(job: Job, lease: Lease) -> bool:
    """Whether this lease is still the job's: whoever took over, cancelled or ended it changed one of the three."""
    return job.status is Status.PROCESSING and job.fence == lease.fence and job.lease_owner == lease.attempt_id


def complete(
    record: Record, source: Source, now: datetime, *, title: str | None = None, edit: EditSpec | None = None
) -> Effect | None:
    """The object is whole; `title` and `edit`, where given, replace the first ones. None: this was known before.

    Raises:
        Conflict: `wrong_status`.
    """
    video = record.video
    if video.source == source:
        return None
    job = replace(record.job, status=next_status(record.job.status, Change.RECEIVE))
    whole = replace(video, source=source, title=title if title is not None else video.title, edit=edit or video.edit)
    return _effect(Record(whole, job), now, EventKind.STATUS, send_after=now)


def abandoned(video: Video, now: datetime) -> tuple[ScheduledDeletion, ...]:
    """What goes with an unfinished upload: its object, and once more in case its writer still lives."""
    return _twice(video.source_key, DeletionReason.ABANDONED_UPLOAD, now) if video.owned else ()


def next_attempt(job: Job, now: datetime, *, attempt_id: str, worker: str) -> Attempt:
    """The attempt that a worker is about to begin."""
    fence = job.fence + 1
    return Attempt(
        id=attempt_id,
        job_id=job.id,
        generation=job.generation,
        fence=fence,
        worker=worker,
        result_key=result_key(job.video_id, fence, attempt_id),
        started_at=now,
    )


def claim(record: Record, now: datetime, *, attempt: Attempt, lease: timedelta, loss: Settlement | None) -> Effect:
    """A worker begins an attempt; `loss` is the end of the expired one before it."""
    job = record.job
    ended = Ended(job.lease_owner, loss.ending, loss.error) if loss and job.lease_owner else None
    status = next_status(job.status, Change.CLAIM)
    after = replace(
        job,
        status=status,
        fence=attempt.fence,
        counters=loss.counters if loss else job.counters,
        progress=0.0,
        attempts=job.attempts + 1,
        lease_owner=attempt.id,
        lease_expires_at=now + lease,
        worker=attempt.worker,
        not_before=None,
    )
    event = EventKind.ATTEMPT if status is job.status else EventKind.STATUS
    return _effect(Record(record.video, after), now, event, started=attempt, ended=ended, deletions=_attempt(job, now))


def lease_of(record: Record, attempt: Attempt) -> Lease:
    """What the worker of an attempt holds."""
    return Lease(
        video_id=record.video.id,
        job_id=attempt.job_id,
        attempt_id=attempt.id,
        generation=attempt.generation,
        fence=attempt.fence,
        worker=attempt.worker,
        result_key=attempt.result_key,
        counters=record.job.counters,
    )


def publish(record: Record, result: Result, now: datetime, *, attempt_keys: Collection[str]) -> Effect:
    """The result becomes current; what the job's other attempts wrote, or still write, is deleted."""
    job = record.job
    after = replace(
        _released(job),
        status=next_status(job.status, Change.PUBLISH),
        progress=1.0,
        result=result,
    )
    losing = [key for key in attempt_keys if key != result.key]
    return _effect(
        Record(record.video, after),
        now,
        EventKind.STATUS,
        ended=_end(job, Ending.PROCESSED),
        deletions=tuple(one for key in losing for one in _twice(key, DeletionReason.LOSING_ATTEMPT, now)),
    )


def published_before(job: Job, result: Result) -> bool:
    """Whether this very result became current earlier, as a writer sees who asks again after a lost answer."""
    return job.status is Status.PROCESSED and job.result == result


def settled_before(attempt: Attempt, lease: Lease, settlement: Settlement) -> bool:
    """Whether this very attempt was settled so earlier, as a writer sees who asks again after a lost answer."""
    return (attempt.id, attempt.ending, attempt.error) == (lease.attempt_id, settlement.ending, settlement.error)


def settle(record: Record, settlement: Settlement, now: datetime) -> Effect:
    """An attempt ends without a result."""
    job = record.job
    status = next_status(job.status, settlement.change) if settlement.change else job.status
    due = None if settlement.delay is None else now + settlement.delay
    after = replace(
        _released(job),
        status=status,
        counters=settlement.counters,
        progress=0.0 if due else job.progress,
        not_before=due,
        error=settlement.error if settlement.change else None,
    )
    return _effect(
        Record(record.video, after),
        now,
        EventKind.STATUS if settlement.change else EventKind.ATTEMPT,
        send_after=due,
        ended=_end(job, settlement.ending, settlement.error),
        deletions=_attempt(job, now),
        dead_letter=settlement.dead_letter,
    )


def cancel(record: Record, now: datetime, receipts: Receipts | None = None) -> Effect:
    """A person ends the job.

    Raises:
        Conflict: `wrong_status`.
    """
    job = record.job
    after = replace(
        _released(job),
        status=next_status(job.status, Change.CANCEL),
        fence=job.fence + 1,
        receipts={**job.receipts, **(receipts or {})},
    )
    # Without its source the job can never be retried, so an unfinished upload's object goes at once.
    unfinished = job.status is Status.UPLOADING
    return _effect(
        Record(record.video, after),
        now,
        EventKind.STATUS,
        ended=_end(job, Ending.SUPERSEDED),
        deletions=abandoned(record.video, now) if unfinished else _attempt(job, now),
        release_key=unfinished,
    )


def retry(record: Record, now: datetime, receipts: Receipts | None = None) -> Effect:
    """A person begins a new generation.

    Raises:
        Conflict: `wrong_status`; `source_missing` when the upload was never finished.
    """
    job = record.job
    status = next_status(job.status, Change.RETRY)
    if record.video.source is None:
        raise Conflict("source_missing", f"The upload of video {record.video.id} was never finished; upload it again.")
    after = replace(
        job,
        status=status,
        generation=job.generation + 1,
        counters=Counters(),
        progress=0.0,
        not_before=None,
        error=None,
        receipts={**job.receipts, **(receipts or {})},
    )
    return _effect(Record(record.video, after), now, EventKind.STATUS, send_after=now)


def delete(record: Record, now: datetime, *, grace: timedelta, attempt_keys: Collection[str]) -> Effect:
    """A person deletes the video: cancelled if it was not over, hidden now, its objects due after `grace`."""
    due = now + grace
    keys = dict.fromkeys(attempt_keys)
    if record.video.owned:
        keys[record.video.source_key] = None
    if record.job.result:
        keys[record.job.result.key] = None
    tombstone = tuple(ScheduledDeletion(key, DeletionReason.TOMBSTONE, due) for key in keys)
    over = record.job.status.terminal
    ending = _effect(record, now, EventKind.DELETED) if over else cancel(record, now)
    return replace(
        ending, event=EventKind.DELETED, deletions=ending.deletions + tombstone, release_key=True, purge_after=due
    )


def progressed(job: Job, progress: float, now: datetime) -> tuple[Job, bool] | None:
    """The job with its progress, and whether the feed should hear of it (a whole percent more); None if no further."""
    reached = min(progress, 1.0)
    # Written so that NaN is no progress either.
    if not reached > job.progress:
        return None
    new_percent = int(reached * 100) > int(job.progress * 100)
    return replace(job, progress=reached, version=job.version + 1, updated_at=now), new_percent


def _effect(
    record: Record,
    now: datetime,
    event: EventKind,
    *,
    send_after: datetime | None = None,
    started: Attempt | None = None,
    ended: Ended | None = None,
    deletions: tuple[ScheduledDeletion, ...] = (),
    dead_letter: DeadLetterCause | None = None,
    release_key: bool = False,
) -> Effect:
    job = replace(record.job, version=record.job.version + 1, updated_at=now)
    return Effect(
        Record(record.video, job), event, send_after, started, ended, deletions, dead_letter, release_key=release_key
    )


def _released(job: Job) -> Job:
    return replace(job, lease_owner=None, lease_expires_at=None, worker=None, not_before=None)


def _end(job: Job, ending: Ending, error: Problem | None = None) -> Ended | None:
    return Ended(job.lease_owner, ending, error) if job.lease_owner else None


def _attempt(job: Job, now: datetime) -> tuple[ScheduledDeletion, ...]:
    """The object that the job's present attempt, if any, has written or will."""
    if job.lease_owner is None:
        return ()
    return _twice(result_key(job.video_id, job.fence, job.lease_owner), DeletionReason.LOSING_ATTEMPT, now)


def _twice(key: str, reason: DeletionReason, now: datetime) -> tuple[ScheduledDeletion, ScheduledDeletion]:
    return ScheduledDeletion(key, reason, now), ScheduledDeletion(key, reason, now + DELETE_AGAIN_AFTER)
