"""Pure functions that make a VideoJob's status and its Events from the video's row and the previous status."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from anb_core.domain import dead_letters, model
from anb_core.domain.explanation import ENDINGS, given_up, summary
from anb_core.domain.model import Attempt, Ending, Job, Record
from anb_core.domain.status import Status as Phase
from anb_operator.videojob import Condition, DeadLetter, Problem, Status, VideoJob

EVENTS_KEPT = timedelta(hours=1)
"""Kubernetes deletes Events after an hour, so changes that are older than an hour get no Event."""

SHOWN_OF_BODY = 1000
"""Maximum number of characters of a message's body in a status."""

ENDING_REASONS = {Ending.FAILED: "AttemptFailed", Ending.INTERRUPTED: "Interrupted", Ending.LOST: "WorkerLost"}
"""The reason of the Event about an ended attempt, for each ending after which another attempt may follow."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """A Kubernetes Event to post about a VideoJob, or about the operator's Deployment."""

    key: str
    """Identifies the Event among the Events of one object. A second Event with the same key is not posted."""
    reason: str
    """The Event's reason in CamelCase."""
    message: str
    """The Event's message, one or two sentences."""
    warning: bool = False
    """True if the Event's type is Warning, False if it is Normal."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The fields of a VideoJob's spec that the operator has acted on."""

    generation: int
    """The last `metadata.generation` that the operator acted on, or 0."""
    retry: str | None
    """The value of `spec.retry` that the operator acted on last, or None."""
    cancel: bool | None
    """The value of `spec.cancel` that the operator acted on last, or None."""


def observed_of(videojob: VideoJob, job: Job) -> Observed:
    """Return the fields of the spec that the operator has acted on. The status or the job's receipt contains them.

    If the status and the receipt differ, the one with the higher `metadata.generation` counts.
    The status of a VideoJob that never had a video counts for nothing.
    """
    status, receipt = videojob.status, job.receipts.get(videojob.metadata.uid)
    shown = Observed(0, None, None)
    if status.had_video:
        shown = Observed(status.observed_generation or 0, status.retry, status.cancel)
    # If Kubernetes was restored from a backup, a receipt may be newer than the VideoJob. Ignore such a receipt.
    if receipt and shown.generation < receipt["generation"] <= videojob.metadata.generation:
        return replace(shown, retry=receipt["retry"], cancel=receipt["cancel"])
    return shown


def camel_case(code: str) -> str:
    """Convert an error code to a reason: `not_a_video` becomes `NotAVideo`."""
    return "".join(part.capitalize() for part in code.split("_"))


def status_of(
    record: Record, attempts: Sequence[Attempt], letter: dead_letters.DeadLetter | None, videojob: VideoJob
) -> Status:
    """Return the status of a VideoJob whose video exists. `attempts` are all attempts of the job, oldest first.

    `letter` is the dead letter that ended the job, or None.
    """
    job = record.job
    over = job.status.terminal
    at = _seconds(_changed_at(job, letter))
    began = job.status not in {Phase.UPLOADING, Phase.UPLOADED}
    return Status(
        observed_generation=videojob.metadata.generation,
        phase=job.status,
        video_id=job.video_id,
        progress=f"{int(job.progress * 100)}%" if began else None,
        attempts=job.attempts,
        worker=job.worker,
        result_key=job.result.key if job.result else None,
        retry=videojob.spec.retry,
        cancel=videojob.spec.cancel,
        error=_error(job, attempts),
        dead_letter=_dead_letter(job, letter) if letter else None,
        created_at=_seconds(record.video.created_at),
        started_at=_seconds(attempts[-1].started_at) if attempts else None,
        finished_at=at if over else None,
        conditions=_conditions(_states(record, attempts, letter, videojob), videojob, at),
    )


def refused_status(problem: model.Problem, videojob: VideoJob, at: datetime) -> Status:
    """Return the status of a VideoJob without a video: the submission was refused, or the video was deleted."""
    states = {
        "Accepted": (False, camel_case(problem.code), problem.message),
        "Progressing": (False, "NotAccepted", "There is nothing to work on."),
    }
    before = videojob.status
    return Status(
        observed_generation=videojob.metadata.generation,
        video_id=before.video_id,
        retry=before.retry,
        error=Problem(code=problem.code, message=problem.message),
        created_at=before.created_at,
        conditions=_conditions(states, videojob, at),
    )


def announcements(
    before: Status,
    record: Record,
    attempts: Sequence[Attempt],
    letter: dead_letters.DeadLetter | None,
    now: datetime,
) -> list[Announcement]:
    """Return the Events for changes since the status `before` was written. Changes older than an hour get no Event."""
    found = [*_of_attempts(before, attempts), *_of_job(before, record.job, letter), *_of_discard(before, letter)]
    return [announcement for at, announcement in found if now - at < EVENTS_KEPT]


def _of_attempts(before: Status, attempts: Sequence[Attempt]) -> Iterator[tuple[datetime, Announcement]]:
    shown = before.attempts or 0
    for number, attempt in enumerate(attempts, start=1):
        if number > shown:
            message = f"Attempt {number} began on worker {attempt.worker}."
            yield attempt.started_at, Announcement(f"{attempt.id}/started", "Started", message)
        # Include the last attempt that `before` shows, because it may have ended after `before` was written.
        if number >= shown and attempt.ended_at and attempt.ending in ENDING_REASONS:
            reason, ended = ENDING_REASONS[attempt.ending], ENDINGS[attempt.ending]
            because = f": {attempt.error.message}" if attempt.error and attempt.ending is Ending.FAILED else "."
            message = f"Attempt {number} on worker {attempt.worker} {ended}{because}"
            yield (
                attempt.ended_at,
                Announcement(f"{attempt.id}/ended", reason, message, warning=attempt.ending is not Ending.INTERRUPTED),
            )


def _of_job(
    before: Status, job: Job, letter: dead_letters.DeadLetter | None
) -> Iterator[tuple[datetime, Announcement]]:
    if before.phase is job.status and before.attempts == job.attempts:
        return
    if before.phase and before.phase.terminal:
        yield job.updated_at, _again(before, job)
    if announcement := _end(job, letter):
        yield _changed_at(job, letter), announcement


def _again(before: Status, job: Job) -> Announcement:
    key, letter = f"{job.generation}/retried", before.dead_letter
    if letter and letter.id and letter.resolution is None:
        return Announcement(key, "Redriven", f"Dead letter {letter.id} was redriven, so the job begins again.")
    return Announcement(key, "Retried", f"The job was {before.phase} and is retried.")


def _end(job: Job, letter: dead_letters.DeadLetter | None) -> Announcement | None:
    key = f"{job.generation}/{job.status}"
    match job.status:
        case Phase.PROCESSED if job.result:
            return Announcement(key, "Processed", f"The finished video is {job.result.key}.")
        case Phase.FAILED:
            return Announcement(key, "Failed", job.error.message if job.error else "", warning=True)
        case Phase.DEAD_LETTERED:
            return Announcement(key, "DeadLettered", given_up(job, letter), warning=True)
        case Phase.CANCELLED:
            return Announcement(key, "Cancelled", "The work was cancelled.")
    return None


def _of_discard(before: Status, letter: dead_letters.DeadLetter | None) -> Iterator[tuple[datetime, Announcement]]:
    if letter is None or letter.resolved_at is None:
        return
    shown = before.dead_letter
    if shown is None or (shown.id, shown.resolution) != (letter.id, letter.resolution):
        message = f"Dead letter {letter.id} was discarded by {letter.resolved_by}. The reason: {letter.reason}"
        yield letter.resolved_at, Announcement(f"{letter.generation}/discarded", "Discarded", message)


def _error(job: Job, attempts: Sequence[Attempt]) -> Problem | None:
    problem = job.error
    if problem is None and job.status is Phase.PROCESSING and job.lease_owner is None and attempts:
        problem = attempts[-1].error
    return Problem(code=problem.code, message=problem.message) if problem else None


def _changed_at(job: Job, letter: dead_letters.DeadLetter | None) -> datetime:
    """Return the time of the job's last change. The discard of a dead letter does not count as a change of the job."""
    return letter.created_at if letter else job.updated_at


def _dead_letter(job: Job, letter: dead_letters.DeadLetter) -> DeadLetter:
    # Dead letters of older programs have no counters. So take the job's counters, which only a retry resets.
    return DeadLetter(
        id=letter.id,
        at=_seconds(letter.created_at),
        cause=letter.cause,
        failures=job.counters.failures,
        lost=job.counters.lost,
        worker=letter.worker,
        version=letter.version,
        body=letter.body and letter.body[:SHOWN_OF_BODY],
        resolution=letter.resolution,
        resolved_at=letter.resolved_at and _seconds(letter.resolved_at),
        resolved_by=letter.resolved_by,
        reason=letter.reason,
    )


_States = dict[str, tuple[bool, str, str]]
"""For each condition type: whether the condition is true, its reason and its message."""


def _states(
    record: Record, attempts: Sequence[Attempt], letter: dead_letters.DeadLetter | None, videojob: VideoJob
) -> _States:
    job = record.job
    if videojob.spec.source:
        accepted = (True, "Submitted", f"The object was submitted as video {job.video_id}.")
    else:
        accepted = (True, "Mirrored", f"This VideoJob follows video {job.video_id}.")
    under_way = not job.status.terminal
    reason, message = _reason(job, attempts), summary(job, attempts, letter)
    problem = job.error.message if job.error else "The reason is no longer known."
    code = camel_case(job.error.code) if job.error else reason
    failed = job.status is Phase.FAILED
    dead = job.status is Phase.DEAD_LETTERED
    return {
        "Accepted": accepted,
        "Progressing": (under_way, reason, message),
        "Complete": (job.status is Phase.PROCESSED, reason, message),
        "Failed": (failed, code if failed else reason, problem if failed else message),
        "DeadLettered": (dead, code if dead else reason, message),
    }


def _reason(job: Job, attempts: Sequence[Attempt]) -> str:
    if job.status is Phase.UPLOADED and job.not_before:
        return "Scheduled"
    if job.status is not Phase.PROCESSING or job.lease_owner:
        return camel_case(job.status)
    last = attempts[-1].ending if attempts else None
    return ENDING_REASONS.get(last, "Waiting") if last else "Waiting"


def _conditions(states: _States, videojob: VideoJob, at: datetime) -> tuple[Condition, ...]:
    conditions = []
    for kind, (holds, reason, message) in states.items():
        status = "True" if holds else "False"
        before = videojob.status.condition(kind)
        # The job's last change may be older than the VideoJob. A condition must not be older than its VideoJob.
        began = max(at, videojob.metadata.creation_timestamp)
        since = before.last_transition_time if before and before.status == status else began
        conditions.append(
            Condition.model_validate(
                {
                    "type": kind,
                    "status": status,
                    "reason": reason,
                    "message": message,
                    "observedGeneration": videojob.metadata.generation,
                    "lastTransitionTime": since,
                }
            )
        )
    return tuple(conditions)


def _seconds(time: datetime) -> datetime:
    """Return the time in UTC without fractions of a second, as Kubernetes stores times."""
    return time.astimezone(UTC).replace(microsecond=0)
