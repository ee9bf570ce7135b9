"""What a VideoJob says of its video, and what is announced of it: functions of the row and of what was said before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from anb_core.domain import model
from anb_core.domain.model import Attempt, DeadLetterCause, Ending, Job, Record
from anb_core.domain.status import Status as Phase
from anb_operator.videojob import Condition, DeadLetter, Problem, Status, VideoJob

EVENTS_KEPT = timedelta(hours=1)
"""Kubernetes forgets Events after so long, so what is older is not announced any more."""

ENDED = {
    Ending.FAILED: ("AttemptFailed", "failed"),
    Ending.INTERRUPTED: ("Interrupted", "was interrupted, because its worker goes away; another one takes over"),
    Ending.LOST: ("WorkerLost", "ended without a word from its worker"),
}
"""How attempts end that don't end the job: reason and what is said."""


STANDING = {
    Phase.UPLOADING: "The upload is under way.",
    Phase.UPLOADED: "It waits for a worker.",
    Phase.PROCESSED: "The finished video is in the bucket.",
    Phase.FAILED: "The uploaded video can't be processed.",
    Phase.DEAD_LETTERED: "Its attempts are used up, and somebody has to look.",
    Phase.CANCELLED: "The work was cancelled.",
}


@dataclass(frozen=True, slots=True)
class Announcement:
    """A Kubernetes Event. Two with the same `key` for one object are one."""

    key: str
    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """What of an object's spec has been answered: its generation, its last retry token, and its cancel."""

    generation: int
    retry: str | None
    cancel: bool | None


def observed_of(videojob: VideoJob, job: Job) -> Observed:
    """What the status answers (nothing while it had no video), and of a later generation what was done since then."""
    status, done = videojob.status, job.receipts.get(videojob.metadata.uid)
    shown = Observed(0, None, None)
    if status.had_video:
        shown = Observed(status.observed_generation or 0, status.retry, status.cancel)
    # A generation that is still to come was answered before Kubernetes was put back.
    if done and shown.generation < done["generation"] <= videojob.metadata.generation:
        return replace(shown, retry=done["retry"], cancel=done["cancel"])
    return shown


def word(code: str) -> str:
    """A code as a reason: `not_a_video` becomes `NotAVideo`."""
    return "".join(part.capitalize() for part in code.split("_"))


def status_of(record: Record, attempts: Sequence[Attempt], videojob: VideoJob) -> Status:
    """The whole status of a VideoJob whose video is there; `attempts` are all ever made, oldest first."""
    job = record.job
    over = job.status.terminal
    at = _seconds(job.updated_at)
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
        dead_letter=_dead_letter(job, attempts, at),
        created_at=_seconds(record.video.created_at),
        started_at=_seconds(attempts[-1].started_at) if attempts else None,
        finished_at=at if over else None,
        conditions=_conditions(_truths(record, attempts, videojob), videojob, at),
    )


def refused_status(problem: model.Problem, videojob: VideoJob, at: datetime) -> Status:
    """The status of a VideoJob that has no video, because it was refused or is gone."""
    truths = {
        "Accepted": (False, word(problem.code), problem.message),
        "Progressing": (False, "NotAccepted", "There is nothing to work on."),
    }
    before = videojob.status
    return Status(
        observed_generation=videojob.metadata.generation,
        video_id=before.video_id,
        retry=before.retry,
        error=Problem(code=problem.code, message=problem.message),
        created_at=before.created_at,
        conditions=_conditions(truths, videojob, at),
    )


def announcements(before: Status, record: Record, attempts: Sequence[Attempt], now: datetime) -> list[Announcement]:
    """What happened since `before` was written, as far as it is news."""
    found = [
        *_of_attempts(before, attempts),
        *((record.job.updated_at, announcement) for announcement in _of_job(before, record)),
    ]
    return [announcement for at, announcement in found if now - at < EVENTS_KEPT]


def _of_attempts(before: Status, attempts: Sequence[Attempt]) -> Iterator[tuple[datetime, Announcement]]:
    known = before.attempts or 0
    for number, attempt in enumerate(attempts, start=1):
        if number > known:
            message = f"Attempt {number} began on worker {attempt.worker}."
            yield attempt.started_at, Announcement(f"{attempt.id}/started", "Started", message)
        # The last one that was known may have been under way then.
        if number >= known and attempt.ended_at and attempt.ending in ENDED:
            reason, what = ENDED[attempt.ending]
            because = f": {attempt.error.message}" if attempt.error and attempt.ending is Ending.FAILED else "."
            message = f"Attempt {number} on worker {attempt.worker} {what}{because}"
            yield (
                attempt.ended_at,
                Announcement(f"{attempt.id}/ended", reason, message, warning=attempt.ending is not Ending.INTERRUPTED),
            )


def _of_job(before: Status, record: Record) -> Iterator[Announcement]:
    job = record.job
    if before.phase and before.phase.terminal and (job.status, job.attempts) != (before.phase, before.attempts):
        yield Announcement(f"{job.generation}/retried", "Retried", f"It was {before.phase}, and is tried again.")
    if before.phase is job.status and before.attempts == job.attempts:
        return
    key, message = f"{job.generation}/{job.status}", job.error.message if job.error else ""
    match job.status:
        case Phase.PROCESSED if job.result:
            yield Announcement(key, "Processed", f"The finished video is {job.result.key}.")
        case Phase.FAILED:
            yield Announcement(key, "Failed", message, warning=True)
        case Phase.DEAD_LETTERED:
            yield Announcement(key, "DeadLettered", message, warning=True)
        case Phase.CANCELLED:
            yield Announcement(key, "Cancelled", "The work was cancelled.")


def _error(job: Job, attempts: Sequence[Attempt]) -> Problem | None:
    problem = job.error
    if problem is None and job.status is Phase.PROCESSING and job.lease_owner is None and attempts:
        problem = attempts[-1].error
    return Problem(code=problem.code, message=problem.message) if problem else None


def _dead_letter(job: Job, attempts: Sequence[Attempt], at: datetime) -> DeadLetter | None:
    if job.status is not Phase.DEAD_LETTERED:
        return None
    lost = bool(attempts) and attempts[-1].ending is Ending.LOST
    return DeadLetter(
        at=at,
        cause=DeadLetterCause.WORKER_LOST if lost else DeadLetterCause.FAILURES,
        failures=job.counters.failures,
        lost=job.counters.lost,
    )


_Truths = dict[str, tuple[bool, str, str]]
"""By type of condition: whether it holds, the reason and a sentence."""


def _truths(record: Record, attempts: Sequence[Attempt], videojob: VideoJob) -> _Truths:
    job = record.job
    if videojob.spec.source:
        accepted = (True, "Submitted", f"The object was submitted as video {job.video_id}.")
    else:
        accepted = (True, "Mirrored", f"This follows video {job.video_id}.")
    under_way = not job.status.terminal
    reason, message = _reason(job, attempts)
    problem = job.error.message if job.error else "The reason is not known any more."
    failed = job.status is Phase.FAILED
    dead = job.status is Phase.DEAD_LETTERED
    return {
        "Accepted": accepted,
        "Progressing": (under_way, reason, message),
        "Complete": (job.status is Phase.PROCESSED, reason, message),
        "Failed": (failed, word(job.error.code) if failed and job.error else reason, problem if failed else message),
        "DeadLettered": (dead, word(job.error.code) if dead and job.error else reason, problem if dead else message),
    }


def _reason(job: Job, attempts: Sequence[Attempt]) -> tuple[str, str]:
    if job.status is not Phase.PROCESSING:
        return word(job.status), STANDING[job.status]
    if job.lease_owner:
        return "Processing", f"Attempt {job.attempts} runs on worker {job.worker}."
    return _waiting(job, attempts)


def _waiting(job: Job, attempts: Sequence[Attempt]) -> tuple[str, str]:
    last = attempts[-1] if attempts else None
    reason, what = ENDED.get(last.ending, ("Waiting", "is over")) if last and last.ending else ("Waiting", "is over")
    due = f" The next one begins after {_seconds(job.not_before):%H:%M:%S} UTC." if job.not_before else ""
    return reason, f"Attempt {job.attempts} {what}.{due}"


def _conditions(truths: _Truths, videojob: VideoJob, at: datetime) -> tuple[Condition, ...]:
    conditions = []
    for kind, (holds, reason, message) in truths.items():
        status = "True" if holds else "False"
        before = videojob.status.condition(kind)
        # A row may be older than the VideoJob, whose conditions began with it.
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
    """As Kubernetes keeps times."""
    return time.astimezone(UTC).replace(microsecond=0)
