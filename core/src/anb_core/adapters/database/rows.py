"""Conversion between rows and domain objects, and the statements that lock a record and write a change."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, fields
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    LABEL_STYLE_TABLENAME_PLUS_COL,
    Connection,
    Delete,
    Insert,
    Row,
    Select,
    Update,
    bindparam,
    case,
    delete,
    exists,
    or_,
    select,
    update,
)
from sqlalchemy import insert as plain_insert

from anb_core.adapters.database import feed
from anb_core.adapters.database.dead_letter_rows import add_dead_letter, resolve_open
from anb_core.adapters.database.engine import decoding, insert, is_postgresql, now_plus
from anb_core.adapters.database.statements import Change, bound, named
from anb_core.adapters.database.tables import (
    attempts,
    idempotency_keys,
    jobs,
    object_deletions,
    outbox,
    videos,
)
from anb_core.domain import dead_letters, lifecycle
from anb_core.domain.codes import Code
from anb_core.domain.edit import EditSpec
from anb_core.domain.effect import Effect, ScheduledDeletion
from anb_core.domain.errors import NotFound, Unavailable
from anb_core.domain.model import Attempt, Counters, Ending, Job, Problem, Record, Result, Source, Video
from anb_core.domain.status import Status

RECORDS: Select[Any] = (
    select(videos, jobs)
    .join_from(videos, jobs, jobs.c.video_id == videos.c.id)
    .set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
)
"""Query for videos with their jobs. `record_of` converts a row of the result into a record."""


# The query locks both the video and the job. After a wait for a lock, PostgreSQL reads only locked rows again.
# Only the outer query reads the clock. So the time is read after the wait for the locks.
def _lock(*, skip_locked: bool) -> Select[Any]:
    found = RECORDS.where(videos.c.id == bindparam("video_id"))
    return select(found.with_for_update(skip_locked=skip_locked).subquery("locked"), now_plus().label("now"))


_LOCK, _LOCK_AT_ONCE = _lock(skip_locked=False), _lock(skip_locked=True)


_RESULT = [field.name for field in fields(Result)]


class Locked(NamedTuple):
    """A record that is locked until the transaction ends. `now` is the database's time after the lock was taken."""

    record: Record
    deleted: bool
    upload_expires_at: datetime | None
    now: datetime


def lock(connection: Connection, video_id: str, *, wait: bool = True) -> Locked | None:
    """Lock a video and its job. Then read both, and the clock. Returns None if the video does not exist.

    With `wait` = False, also returns None if another transaction has locked the video or the job.
    On SQLite no row is locked, because SQLite has one writer at a time.
    """
    row = connection.execute(_LOCK if wait else _LOCK_AT_ONCE, {"video_id": video_id}).one_or_none()
    if row is None:
        return None
    return Locked(record_of(row), row.videos_deleted_at is not None, row.jobs_upload_expires_at, row.now)


def lock_visible(connection: Connection, video_id: str) -> Locked:
    """Lock a video like `lock`, but raise an error if the video does not exist or was deleted.

    Raises:
        NotFound: `video_not_found` if the video does not exist or was deleted.
    """
    locked = lock(connection, video_id)
    if locked is None or locked.deleted:
        raise NotFound("video_not_found", f"There is no video {video_id}.")
    return locked


def record_of(row: Row[Any]) -> Record:
    """Convert a row of the query `RECORDS` into a record.

    Raises:
        Unreadable: `video_unreadable` if this version of the program can't read a value.
    """
    found = row._mapping  # noqa: SLF001 - public API of SQLAlchemy; the underscore avoids clashes with column names
    with decoding_video(found["videos_id"]):
        return Record(_video(found), _job(found))


def decoding_video(video_id: str) -> AbstractContextManager[None]:
    """Return a context manager that raises `Unreadable` if the block can't convert a value of the video."""
    return decoding("video_unreadable", f"video {video_id}")


def _video(fields: Mapping[Any, Any]) -> Video:
    size = fields["videos_source_size"]
    return Video(
        id=fields["videos_id"],
        owner=fields["videos_owner"],
        title=fields["videos_title"],
        # Ignore unknown edit options. A newer program may have written them during a rollout.
        edit=EditSpec.model_validate(fields["videos_edit"], extra="ignore"),
        source_key=fields["videos_source_key"],
        owned=fields["videos_owned"],
        file_name=fields["videos_file_name"],
        created_at=fields["videos_created_at"],
        source=None if size is None else Source(size, fields["videos_source_sha256"]),
        process_after=fields["videos_process_after"],
    )


def _job(fields: Mapping[Any, Any]) -> Job:
    result = fields["jobs_result"]
    return Job(
        id=fields["jobs_id"],
        video_id=fields["jobs_video_id"],
        status=Status(fields["jobs_status"]),
        generation=fields["jobs_generation"],
        fence=fields["jobs_fence"],
        version=fields["jobs_version"],
        counters=Counters(fields["jobs_failures"], fields["jobs_lost"], fields["jobs_interruptions"]),
        progress=fields["jobs_progress"],
        attempts=fields["jobs_attempts"],
        lease_owner=fields["jobs_lease_owner"],
        lease_expires_at=fields["jobs_lease_expires_at"],
        worker=fields["jobs_worker"],
        not_before=fields["jobs_not_before"],
        enqueued_at=fields["jobs_enqueued_at"],
        enqueued_to=fields["jobs_enqueued_to"],
        error=problem_of(fields["jobs_error_code"], fields["jobs_error_message"]),
        # Ignore unknown fields. A newer program may have written them.
        result=None if result is None else Result(**{name: result[name] for name in _RESULT}),
        # Read `answered` and not `receipts`, because programs from before migration 0004 write only `answered`.
        receipts=dict(fields["jobs_answered"] or {}),
        created_at=fields["jobs_created_at"],
        updated_at=fields["jobs_updated_at"],
    )


def attempt_of(row: Row[Any]) -> Attempt:
    """Convert a row of the table `attempts`.

    Raises:
        Unreadable: `attempt_unreadable` if this version of the program can't read a value.
    """
    with decoding("attempt_unreadable", f"attempt {row.id}"):
        return Attempt(
            id=row.id,
            job_id=row.job_id,
            generation=row.generation,
            fence=row.fence,
            worker=row.worker,
            result_key=row.result_key,
            started_at=row.started_at,
            ended_at=row.ended_at,
            ending=row.ending and Ending(row.ending),
            error=problem_of(row.error_code, row.error_message, row.error_detail),
            version=row.version,
        )


def problem_of(code: Code | None, message: str | None, detail: str | None = None) -> Problem | None:
    """Convert the columns of an error into a problem. None if `code` is None. Only an attempt has a `detail`."""
    return None if code is None else Problem(code, message or "", detail)


def columns_of(problem: Problem | None) -> dict[str, str | None]:
    """Return the values of the columns `error_code` and `error_message` for a problem."""
    if problem is None:
        return {"error_code": None, "error_message": None}
    return {"error_code": problem.code, "error_message": problem.message}


def add_record(connection: Connection, record: Record, upload_expires_at: datetime | None = None) -> bool:
    """Insert a new video and its job. Returns False if a video with this id exists already.

    Raises:
        Conflict: `source_taken` if another video owns the source object, or if the object will be deleted.
    """
    added = connection.scalar(
        insert(connection, videos)
        .values(_video_columns(record.video))
        .on_conflict_do_nothing(index_elements=[videos.c.id])
        .returning(videos.c.id)
    )
    if added is None:
        return False
    # When an upload is abandoned, its key moves from the table `videos` to the table `object_deletions`.
    # One statement must check both tables in one snapshot. Two statements could miss the key.
    taken = connection.scalar(
        select(
            or_(
                exists().where(object_deletions.c.key == record.video.source_key),
                exists().where(
                    videos.c.source_key == record.video.source_key, videos.c.owned, videos.c.id != record.video.id
                ),
            )
        )
    )
    if taken:
        raise lifecycle.source_taken(record.video)
    connection.execute(plain_insert(jobs).values(_job_columns(record.job) | {"upload_expires_at": upload_expires_at}))
    return True


def _video_columns(video: Video) -> dict[str, Any]:
    return {
        "id": video.id,
        "owner": video.owner,
        "title": video.title,
        "edit": video.edit.model_dump(mode="json"),
        "source_key": video.source_key,
        "owned": video.owned,
        "file_name": video.file_name,
        "source_size": video.source and video.source.size,
        "source_sha256": video.source and video.source.sha256,
        "process_after": video.process_after,
        "created_at": video.created_at,
    }


def _job_columns(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "video_id": job.video_id,
        "status": job.status,
        "generation": job.generation,
        "fence": job.fence,
        "version": job.version,
        **asdict(job.counters),
        "progress": job.progress,
        "attempts": job.attempts,
        "lease_owner": job.lease_owner,
        "lease_expires_at": job.lease_expires_at,
        "worker": job.worker,
        "not_before": job.not_before,
        "enqueued_at": job.enqueued_at,
        "enqueued_to": job.enqueued_to,
        **columns_of(job.error),
        "result": job.result and asdict(job.result),
        "answered": job.receipts or None,
        "receipts": job.receipts or None,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
    }


# These statements are built only once, because they run for every change of a job.
_new = bound("set", jobs, *(column.name for column in jobs.c if column.name != "upload_expires_at"))
_WRITE_JOB = (
    update(jobs)
    .where(
        jobs.c.id == bindparam("old_id"),
        jobs.c.fence == bindparam("old_fence"),
        jobs.c.version == bindparam("old_version"),
    )
    .values(_new | {"upload_expires_at": case((_new["status"] == Status.UPLOADING, jobs.c.upload_expires_at))})
)
_END_ATTEMPT = (
    update(attempts)
    .where(attempts.c.id == bindparam("end_id"))
    .values(bound("end", attempts, "ended_at", "ending", "error_code", "error_message", "error_detail"))
)
_BEGUN = (
    *("id", "job_id", "generation", "fence", "worker", "result_key"),
    *("started_at", "version", "ended_at", "ending"),
)
_BEGIN_ATTEMPT = plain_insert(attempts).values(bound("begin", attempts, *_BEGUN))
_CLEAR_OUTBOX = delete(outbox).where(outbox.c.job_id == bindparam("of_job"))
_RESULT_KEYS = select(attempts.c.result_key).where(attempts.c.job_id == bindparam("of_job"))


def write_job(connection: Connection, before: Job, after: Job, *others: Change) -> None:
    """Update the row of a locked job, and make the changes `others`.

    `before` is the job as it was read, and `after` has the new values. The row must still have the fence and the
    version that the job had when it was read. PostgreSQL makes all changes in one statement, to save round trips.

    Raises:
        Unavailable: another transaction changed the job in spite of the lock.
    """
    unchanged = {"old_id": before.id, "old_fence": before.fence, "old_version": before.version}
    values = named("set", _job_columns(after)) | unchanged
    if is_postgresql(connection):
        for other in others:
            values |= other.values
        written = connection.execute(_in_one(*(other.statement for other in others)), values)
    else:
        written = connection.execute(_WRITE_JOB, values)
        for other in others:
            connection.execute(other.statement, other.values)
    if written.rowcount != 1:
        raise Unavailable("database", f"job {before.id} changed while it was locked")


@cache
def _in_one(*others: Insert | Update | Delete) -> Update:
    """Return `_WRITE_JOB` with other statements, all in one."""
    # PostgreSQL executes the first of them last, so that it takes the lock of the feed as late as possible.
    return _WRITE_JOB.add_cte(*(other.cte(f"change_{number}") for number, other in enumerate(reversed(others))))


def apply(connection: Connection, locked: Locked, effect: Effect) -> Record:
    """Write all effects of one change, and return the new record.

    The last statement appends the event to the feed. The transaction must not write after `apply`.
    """
    record, job = effect.record, effect.record.job
    if record.video != locked.record.video:
        connection.execute(update(videos).where(videos.c.id == record.video.id).values(_video_columns(record.video)))
    if effect.purge_after:
        connection.execute(
            update(videos)
            .where(videos.c.id == record.video.id)
            .values(deleted_at=locked.now, purge_after=effect.purge_after)
        )
    if effect.send_after:
        put_in_outbox(connection, record, effect.send_after, locked.now)
    schedule_deletions(connection, record.video.id, effect.deletions)
    if effect.dead_letter:
        attempt = last_attempt(connection, job)
        letter = dead_letters.of_job(record, effect.dead_letter, effect.error, attempt=attempt, now=locked.now)
        add_dead_letter(connection, letter)
    if effect.resolution:
        resolve_open(connection, record.video.id, effect.resolution, by=effect.by, now=locked.now)
    if effect.release_key:
        connection.execute(delete(idempotency_keys).where(idempotency_keys.c.video_id == record.video.id))
    event = feed.appending(connection, record, effect.event, effect.error)
    write_job(connection, locked.record.job, job, *_job_changes(effect, locked.now), event)
    return record


def _job_changes(effect: Effect, now: datetime) -> Iterator[Change]:
    """Yield the changes of the job's attempts, and the removal of its outbox entry if the job gets no new one."""
    if effect.ended:
        error = effect.ended.error
        ended = {"id": effect.ended.attempt_id, "ended_at": now, "ending": effect.ended.ending, **columns_of(error)}
        yield Change(_END_ATTEMPT, named("end", ended | {"error_detail": error and error.detail}))
    if effect.started:
        begun = {name: getattr(effect.started, name) for name in _BEGUN}
        yield Change(_BEGIN_ATTEMPT, named("begin", begun))
    if not effect.send_after:
        yield Change(_CLEAR_OUTBOX, {"of_job": effect.record.job.id})


def put_in_outbox(connection: Connection, record: Record, send_after: datetime, now: datetime) -> None:
    """Add an outbox entry for a locked job. The new entry replaces the job's older entry, if any.

    The new entry gets a new id, because a FIFO queue drops a message whose id it has seen before.
    """
    connection.execute(_CLEAR_OUTBOX, {"of_job": record.job.id})
    connection.execute(
        plain_insert(outbox).values(
            job_id=record.job.id, owner=record.video.owner, send_after=send_after, tries=0, created_at=now
        )
    )


def schedule_deletions(connection: Connection, video_id: str, deletions: Iterable[ScheduledDeletion]) -> None:
    """Schedule objects for deletion by the sweep."""
    rows = [{"video_id": video_id, "key": one.key, "reason": one.reason, "delete_after": one.due} for one in deletions]
    if rows:
        connection.execute(plain_insert(object_deletions), rows)


def last_attempt(connection: Connection, job: Job) -> Attempt | None:
    """Return the last attempt of a job in its current generation. None if no attempt was made."""
    made = select(attempts).where(attempts.c.job_id == job.id, attempts.c.generation == job.generation)
    row = connection.execute(made.order_by(attempts.c.fence.desc()).limit(1)).one_or_none()
    return None if row is None else attempt_of(row)


def result_keys(connection: Connection, job_id: str) -> list[str]:
    """Return the keys of the result objects of all attempts of a job."""
    return list(connection.scalars(_RESULT_KEYS, {"of_job": job_id}))
