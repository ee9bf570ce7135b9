"""Compute the effects of each change of a job. These functions are pure. A store writes the effects to its rows."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from anb_core.domain.dead_letters import Resolution
from anb_core.domain.edit import EditSpec
from anb_core.domain.effect import Effect, Ended, ScheduledDeletion
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
"""Time between the first and the second deletion of an object.
A worker that lost its lease may still write the object after the first deletion, but not after the second one.
"""


def new_record(new: NewVideo, now: datetime, source: Source | None = None) -> Record:
    """Return a new video and its job. The status is `uploaded` if `source` is given, otherwise `uploading`."""
    process_after = _if_later(new.process_after, now)
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
        process_after=process_after,
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
        not_before=process_after,
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
    """Return the error for a new video whose object belongs or belonged to another video."""
    return Conflict(
        "source_taken", f"The object {video.source_key} belongs to another video, or to one that was deleted."
    )


def holds(job: Job, lease: Lease) -> bool:
    """Return whether the lease is still valid.

    A new claim, a cancel and the attempt's end make it invalid: they change the job's status, fence or lease owner.
    """
    return job.status is Status.PROCESSING and job.fence == lease.fence and job.lease_owner == lease.attempt_id


def complete(
    record: Record,
    source: Source,
    now: datetime,
    *,
    title: str | None = None,
    edit: EditSpec | None = None,
    process_after: datetime | None = None,
) -> Effect | None:
    """Finish an upload whose object is complete. Returns None if an earlier call finished it with the same source.

    If `title`, `edit` or `process_after` is given, it replaces the value that was given when the upload began.

    Raises:
        Conflict: `wrong_status` if the job's status is not `uploading`.
    """
    video = record.video
    if video.source == source:
        return None
    due = _if_later(process_after or video.process_after, now)
    job = replace(record.job, status=next_status(record.job.status, Change.RECEIVE), not_before=due)
    uploaded = replace(
        video,
        source=source,
        title=title if title is not None else video.title,
        edit=edit or video.edit,
        process_after=due,
    )
    return _effect(Record(uploaded, job), now, EventKind.STATUS, send_after=due or now)


def abandoned(video: Video, now: datetime) -> tuple[ScheduledDeletion, ...]:
    """Return two deletions of an unfinished upload's object: a process may write it after the first deletion."""
    return _twice(video.source_key, DeletionReason.ABANDONED_UPLOAD, now) if video.owned else ()


def next_attempt(job: Job, now: datetime, *, attempt_id: str, worker: str, version: str | None = None) -> Attempt:
    """Return the attempt that a worker is about to begin."""
    fence = job.fence + 1
    return Attempt(
        id=attempt_id,
        job_id=job.id,
        generation=job.generation,
        fence=fence,
        worker=worker,
        result_key=result_key(job.video_id, fence, attempt_id),
        started_at=now,
        version=version,
    )


def claim(record: Record, now: datetime, *, attempt: Attempt, lease: timedelta, loss: Settlement | None) -> Effect:
    """Begin an attempt. `loss` is the settlement of the previous attempt if its lease has expired, otherwise None."""
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
    """Return the lease of an attempt."""
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
    """Make a result the job's current result, and schedule the deletion of all other results.

    `attempt_keys` are the keys of the result objects of all attempts.
    """
    job = record.job
    after = replace(
        _released(job),
        status=next_status(job.status, Change.PUBLISH),
        progress=1.0,
        result=result,
    )
    return _effect(
        Record(record.video, after),
        now,
        EventKind.STATUS,
        ended=_end(job, Ending.PROCESSED),
        deletions=losing([key for key in attempt_keys if key != result.key], now),
    )


def published_before(job: Job, result: Result) -> bool:
    """Return whether an earlier call, whose response was lost, has already published this result."""
    return job.status is Status.PROCESSED and job.result == result


def settled_before(attempt: Attempt, lease: Lease, settlement: Settlement) -> bool:
    """Return whether an earlier call, whose response was lost, has already made this settlement."""
    return (attempt.id, attempt.ending, attempt.error) == (lease.attempt_id, settlement.ending, settlement.error)


def settle(record: Record, settlement: Settlement, now: datetime) -> Effect:
    """Apply a settlement to a job.

    An attempt ended without a result, or SQS moved the job's message to the dead-letter queue while no attempt ran.
    """
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
    """Cancel the job at the request of a person.

    Raises:
        Conflict: `wrong_status` if the status is terminal.
    """
    job = record.job
    after = replace(
        _released(job),
        status=next_status(job.status, Change.CANCEL),
        fence=job.fence + 1,
        receipts={**job.receipts, **(receipts or {})},
    )
    # The object of an unfinished upload is deleted now, because no retry can use the object.
    unfinished = job.status is Status.UPLOADING
    return _effect(
        Record(record.video, after),
        now,
        EventKind.STATUS,
        ended=_end(job, Ending.SUPERSEDED),
        deletions=abandoned(record.video, now) if unfinished else _attempt(job, now),
        release_key=unfinished,
    )


def retry(
    record: Record, now: datetime, *, by: str, receipts: Receipts | None = None, delay: timedelta = timedelta(0)
) -> Effect:
    """Begin a new generation of the job at the request of a person. The job's message is sent after `delay`.

    Raises:
        Conflict: `wrong_status` if the status allows no retry, or `source_missing` if the upload was never finished.
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
    effect = _effect(Record(record.video, after), now, EventKind.STATUS, send_after=now + delay)
    return replace(effect, resolution=Resolution.REDRIVEN, by=by)


def delete(record: Record, now: datetime, *, by: str, grace: timedelta, attempt_keys: Collection[str]) -> Effect:
    """Delete the video at the request of a person. The job is cancelled unless its status is terminal.

    People no longer see the video. Its objects are deleted after `grace`.
    """
    due = now + grace
    keys = dict.fromkeys(attempt_keys)
    if record.video.owned:
        keys[record.video.source_key] = None
    if record.job.result:
        keys[record.job.result.key] = None
    tombstone = tuple(ScheduledDeletion(key, DeletionReason.TOMBSTONE, due) for key in keys)
    terminal = record.job.status.terminal
    effect = _effect(record, now, EventKind.DELETED) if terminal else cancel(record, now)
    return replace(
        effect,
        event=EventKind.DELETED,
        deletions=effect.deletions + tombstone,
        resolution=Resolution.DELETED,
        by=by,
        release_key=True,
        purge_after=due,
    )


def losing(keys: Iterable[str], now: datetime) -> tuple[ScheduledDeletion, ...]:
    """Return two deletions of each of the given result objects, which are not the current result of their job."""
    return tuple(one for key in keys for one in _twice(key, DeletionReason.LOSING_ATTEMPT, now))


def progressed(job: Job, progress: float, now: datetime) -> tuple[Job, bool] | None:
    """Return the job with its new progress, and whether the feed gets an event for it.

    The feed gets one event for each whole percent. Returns None if the progress did not grow.
    """
    reached = min(progress, 1.0)
    # If the progress is NaN, every comparison is false. So `not >` rejects NaN, but `<=` would not.
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


def _if_later(time: datetime | None, now: datetime) -> datetime | None:
    return time if time is not None and time > now else None


def _released(job: Job) -> Job:
    return replace(job, lease_owner=None, lease_expires_at=None, worker=None, not_before=None)


def _end(job: Job, ending: Ending, error: Problem | None = None) -> Ended | None:
    return Ended(job.lease_owner, ending, error) if job.lease_owner else None


def _attempt(job: Job, now: datetime) -> tuple[ScheduledDeletion, ...]:
    """Return two deletions of the running attempt's result object, or an empty tuple if no attempt runs.

    The object is deleted twice, because the attempt may still write the object after the first deletion.
    """
    if job.lease_owner is None:
        return ()
    return _twice(result_key(job.video_id, job.fence, job.lease_owner), DeletionReason.LOSING_ATTEMPT, now)


def _twice(key: str, reason: DeletionReason, now: datetime) -> tuple[ScheduledDeletion, ScheduledDeletion]:
    return ScheduledDeletion(key, reason, now), ScheduledDeletion(key, reason, now + DELETE_AGAIN_AFTER)
