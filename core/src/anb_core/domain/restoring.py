"""Compute the effects of the corrections of a job whose rows are older than its objects. These functions are pure."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from anb_core.domain import lifecycle
from anb_core.domain.dead_letters import Resolution
from anb_core.domain.effect import Effect, Ended
from anb_core.domain.errors import Conflict
from anb_core.domain.keys import parse_result_key
from anb_core.domain.model import Attempt, Counters, Ending, Problem, Record, Result
from anb_core.domain.status import Change, Status, next_status


def restore_result(
    record: Record, result: Result, now: datetime, *, worker: str, by: str, attempt_keys: Collection[str]
) -> Effect:
    """Make a result current that the bucket has, although the rows do not say that its attempt published it.

    If the job has ended in the rows, a person must have retried it later. So a new generation begins, and the open
    dead letters of the video are resolved.

    Raises:
        Conflict: `wrong_status` if the job is processed or uploading, an attempt runs, or a later attempt was made.
    """
    job, made = record.job, parse_result_key(result.key)
    status = next_status(job.status, Change.RESTORE)
    running = job.lease_expires_at is not None and job.lease_expires_at > now
    known = made is not None and made.attempt_id == job.lease_owner
    if made is None or running or not (known or made.fence > job.fence):
        raise Conflict("wrong_status", f"The result {result.key} can't become that of job {job.id}, which went on.")
    retried = job.status.terminal
    publishing = replace(
        job,
        status=Status.PROCESSING,
        generation=job.generation + 1 if retried else job.generation,
        fence=made.fence,
        counters=Counters() if retried else job.counters,
        attempts=job.attempts if known else job.attempts + 1,
        lease_owner=made.attempt_id,
        error=None,
    )
    effect = lifecycle.publish(Record(record.video, publishing), result, now, attempt_keys=attempt_keys)
    assert effect.record.job.status is status  # noqa: S101 - the table says so
    if retried:
        effect = replace(effect, resolution=Resolution.REDRIVEN, by=by)
    if known:
        return effect
    attempt = Attempt(
        id=made.attempt_id,
        job_id=job.id,
        generation=publishing.generation,
        fence=made.fence,
        worker=worker,
        result_key=result.key,
        started_at=now,
        ended_at=now,
        ending=Ending.PROCESSED,
    )
    ended = Ended(job.lease_owner, Ending.SUPERSEDED) if job.lease_owner else None
    return replace(effect, started=attempt, ended=ended)


def repeat(record: Record, now: datetime) -> Effect:
    """Begin a new generation of a processed job, because its result is gone from the bucket.

    Raises:
        Conflict: `wrong_status` if the job is not processed.
    """
    job = record.job
    next_status(job.status, Change.REPEAT)
    without_result = replace(job, status=Status.CANCELLED, result=None)
    effect = lifecycle.retry(Record(record.video, without_result), now, by="")
    made = parse_result_key(job.result.key) if job.result else None
    gone = Problem("object_missing", "Its result is gone from the bucket.")
    ended = Ended(made.attempt_id, Ending.SUPERSEDED, gone) if made else None
    return replace(effect, ended=ended, resolution=None, by=None)
