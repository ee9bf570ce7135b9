"""Dead letters: what people see of them, and the decision about a message that SQS moved to the dead-letter queue."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal

from anb_core.domain.claim import Drop, Reason, judge_claim
from anb_core.domain.errors import Conflict, NotFound
from anb_core.domain.message import MAX_BODY_BYTES
from anb_core.domain.model import Attempt, DeadLetterCause, Job, Problem, Record
from anb_core.domain.retry import RetryPolicy, Settlement, plan_loss

SHORT_BODY = 4096
"""Maximum number of characters of a body in a list, and in an open dead letter that has become old."""


class Resolution(StrEnum):
    """How a dead letter was resolved, so that nobody has to handle it any more."""

    REDRIVEN = "redriven"
    """A person retried the job, in whatever way."""
    DISCARDED = "discarded"
    """A person discarded the dead letter, with a reason."""
    DELETED = "deleted"
    """The video was deleted."""
    STALE = "stale"
    """A message that SQS moved needed no action: its job was over, deleted, leased, waiting or not yet uploaded."""
    REQUEUED = "requeued"
    """A message that SQS moved counted as a loss of its job, and the job gets a new message."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that has used up its attempts, or a message that SQS moved, that nobody can read or that has no job.

    Each value is None if it does not apply, and also if a program from before migration 0005 wrote the row.
    """

    id: int
    cause: DeadLetterCause
    detail: str
    """One or two sentences: the job's last error, or what is wrong with the message."""
    created_at: datetime
    code: str | None = None
    """Code of the job's last error."""
    error_detail: str | None = None
    """Error text of other programs, such as ffmpeg's last lines. For operators only."""
    video_id: str | None = None
    generation: int | None = None
    """The generation of the job that ended, or of the job's message."""
    owner: str | None = None
    """Owner of the video."""
    worker: str | None = None
    """Name of the worker of the last attempt."""
    version: str | None = None
    """Version of the program that made the last attempt."""
    failures: int | None = None
    """The job's failures, in this generation."""
    lost: int | None = None
    """The job's losses, in this generation."""
    message_id: str | None = None
    """Id of the SQS message. None if the job ended without one."""
    body: str | None = None
    """Body of the SQS message. Lists show only its first `SHORT_BODY` characters."""
    resolution: Resolution | None = None
    """How the dead letter was resolved. None while it is open, which means that a person has to handle it."""
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    """The person or program that resolved it. None if our consumer did so on arrival."""
    reason: str | None = None
    """Why a person discarded it."""

    @property
    def open(self) -> bool:
        """Whether a person has to handle this dead letter."""
        return self.resolution is None

    @property
    def about_the_job(self) -> bool:
        """Whether this dead letter says why its job ended. A message that needed no action does not."""
        return self.resolution not in {Resolution.STALE, Resolution.REQUEUED}


State = Literal["open", "resolved", "all"]


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Selects dead letters. All conditions must hold. An empty collection or None is no condition."""

    causes: Collection[DeadLetterCause] = ()
    owner: str | None = None
    codes: Collection[str] = ()
    worker: str | None = None
    version: str | None = None
    since: datetime | None = None
    """Only dead letters from this time on."""
    until: datetime | None = None
    """Only dead letters from before this time."""
    state: State = "open"


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """Position of a page in a list, which is ordered from new to old. The page begins after this dead letter."""

    created_at: datetime
    id: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to a message that SQS moved to the dead-letter queue, and to its job."""

    detail: str
    """Why, in a sentence."""
    resolution: Resolution | None
    """`stale`, `requeued`, or None if the job becomes a dead letter, which a person has to handle."""
    settlement: Settlement | None = None
    """The consequence for the job. None if the job stays as it is."""
    send_after: datetime | None = None
    """Time from which the job needs a new message although it stays as it is. None if it needs none."""


_STALE = {
    Reason.TERMINAL: "The job is over.",
    Reason.UPLOADING: "The upload is not finished.",
    Reason.OLDER_GENERATION: "A person has retried the job since the message was sent.",
    Reason.LEASED: "A worker is working on the job.",
    Reason.NOT_DUE: "The job waits for its next attempt.",
    Reason.DELETED: "The video was deleted.",
}
_IN_OUTBOX = "A newer message of the job waits in the outbox."
_REQUEUED = "Workers received the message too often without an answer. This counts as a loss; the job is tried again."


def judge_arrival(
    job: Job, *, deleted: bool, generation: int | None, waiting_in_outbox: bool, now: datetime, policy: RetryPolicy
) -> Verdict:
    """Decide about a message that SQS moved to the dead-letter queue. The arrival alone is no verdict on the job.

    `generation` is the message's generation, or None for messages of older producers.
    `waiting_in_outbox` says whether the job has an outbox entry. `now` is the database's clock.
    """
    if deleted:
        return Verdict(_STALE[Reason.DELETED], Resolution.STALE)
    claim = judge_claim(job, generation, now, policy)
    if isinstance(claim, Drop):
        return Verdict(
            _STALE[claim.reason],
            Resolution.STALE,
            # The same as in a claim: the clock was set back, and this may be the job's last message.
            send_after=None if waiting_in_outbox else claim.send_after,
        )
    if waiting_in_outbox:
        return Verdict(_IN_OUTBOX, Resolution.STALE)
    # If an attempt has let its lease expire, that is the same loss: the settlement ends the attempt, too.
    loss = plan_loss(job.counters, policy)
    if loss.error:
        return Verdict(loss.error.message, None, loss)
    return Verdict(_REQUEUED, Resolution.REQUEUED, loss)


def of_job(
    record: Record, cause: DeadLetterCause, problem: Problem | None, *, attempt: Attempt | None, now: datetime
) -> DeadLetter:
    """Return a new dead letter of a job, without an id. `attempt` is the last attempt of the job's generation, if any.

    `record` is the job after the change that made it a dead letter. `problem` is the error of that change.
    """
    job = record.job
    return DeadLetter(
        id=0,
        cause=cause,
        detail=problem.message if problem else "",
        created_at=now,
        code=problem.code if problem else None,
        error_detail=problem.detail if problem else None,
        video_id=record.video.id,
        generation=job.generation,
        owner=record.video.owner,
        worker=attempt.worker if attempt else None,
        version=attempt.version if attempt else None,
        failures=job.counters.failures,
        lost=job.counters.lost,
    )


def of_arrival(
    record: Record, verdict: Verdict, *, message_id: str, body: str, attempt: Attempt | None, now: datetime
) -> DeadLetter:
    """Return a new dead letter, without an id, for a message that SQS moved. `record` is the job after the verdict."""
    problem = verdict.settlement.error if verdict.settlement else None
    return replace(
        of_job(record, DeadLetterCause.WORKER_LOST, problem, attempt=attempt, now=now),
        detail=verdict.detail,
        message_id=message_id,
        body=stored_body(body),
        resolution=verdict.resolution,
        resolved_at=now if verdict.resolution else None,
    )


def after_discard(record: Record, now: datetime) -> Record:
    """Return a video's record after the discard of its dead letter, which only the job's version shows."""
    return replace(record, job=replace(record.job, version=record.job.version + 1, updated_at=now))


def stored_body(body: str) -> str:
    """Return the part of a body that is stored: whole characters, at most `MAX_BODY_BYTES` bytes of UTF-8."""
    return body.encode(errors="replace")[:MAX_BODY_BYTES].decode(errors="ignore")


def not_found(dead_letter_id: int) -> NotFound:
    """Return the error for an id that no dead letter has."""
    return NotFound("dead_letter_not_found", f"There is no dead letter {dead_letter_id}.")


def without_video(dead_letter: DeadLetter) -> Conflict:
    """Return the error for a redrive of a dead letter that has no video, or whose video was deleted."""
    video = f"The video {dead_letter.video_id} was deleted" if dead_letter.video_id else "It belongs to no video"
    return Conflict(
        "dead_letter_without_video", f"Dead letter {dead_letter.id} can't be redriven. {video}. Discard it instead."
    )


def check_open(dead_letter: DeadLetter) -> None:
    """Check that nobody has resolved the dead letter yet.

    Raises:
        Conflict: `dead_letter_resolved`; the message says how, by whom and when.
    """
    if dead_letter.open:
        return
    by = f" by {dead_letter.resolved_by}" if dead_letter.resolved_by else ""
    at = f" at {dead_letter.resolved_at:%Y-%m-%d %H:%M:%S} UTC" if dead_letter.resolved_at else ""
    raise Conflict("dead_letter_resolved", f"Dead letter {dead_letter.id} was {dead_letter.resolution}{by}{at}.")
