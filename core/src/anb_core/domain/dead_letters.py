"""Dead letters, and the decision about a message that SQS moved to the dead-letter queue.

"A message that SQS moved" means a message that SQS moved from the queue to the dead-letter queue.
"""

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
"""Maximum length of a body in lists, in characters. The sweep also cuts the bodies of old open dead letters to it."""


class Resolution(StrEnum):
    """How a dead letter was resolved. Nobody has to handle a resolved dead letter."""

    REDRIVEN = "redriven"
    """A person retried the job: by a redrive of the dead letter, or by a retry of the video."""
    DISCARDED = "discarded"
    """A person discarded the dead letter, with a reason."""
    DELETED = "deleted"
    """The video was deleted."""
    STALE = "stale"
    """A message that SQS moved needed no action, because no attempt could begin. `Verdict.detail` says why."""
    REQUEUED = "requeued"
    """A message that SQS moved was counted as a loss of its job. The job gets a new message."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The record of a job that reached its limit of failures or losses, or of a message that could not be handled.

    A message could not be handled if it is unreadable, if it belongs to no job, or if SQS moved it.
    A field is None if it does not apply, or if a program from before migration 0005 wrote the row.
    """

    id: int
    cause: DeadLetterCause
    detail: str
    """One or two sentences: the job's last error, or what is wrong with the message."""
    created_at: datetime
    code: str | None = None
    """Code of the job's last error."""
    error_detail: str | None = None
    """Error text of other programs, such as ffmpeg's last lines. Only the operator of the deployment may read it."""
    video_id: str | None = None
    generation: int | None = None
    """Generation of the job when the dead letter was recorded."""
    owner: str | None = None
    """Owner of the video."""
    worker: str | None = None
    """Name of the worker that made the last attempt."""
    version: str | None = None
    """Version of the worker that made the last attempt."""
    failures: int | None = None
    """Number of the job's failures in this generation."""
    lost: int | None = None
    """Number of the job's losses in this generation."""
    message_id: str | None = None
    """Id of the SQS message that could not be handled. None for a job that reached its limit during an attempt."""
    body: str | None = None
    """Body of the SQS message that could not be handled. Lists contain only its first `SHORT_BODY` characters."""
    resolution: Resolution | None = None
    """How the dead letter was resolved. None while the dead letter is open."""
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    """The person or program that resolved the dead letter. None if it is open, or was already resolved on arrival."""
    reason: str | None = None
    """The reason that a person gave for a discard."""

    @property
    def open(self) -> bool:
        """Whether the dead letter is open: a person still has to handle it."""
        return self.resolution is None

    @property
    def about_the_job(self) -> bool:
        """Whether this dead letter says why its job ended. A `stale` or `requeued` dead letter did not end the job."""
        return self.resolution not in {Resolution.STALE, Resolution.REQUEUED}


State = Literal["open", "resolved", "all"]


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Selects the dead letters that meet all conditions. An empty collection or None is no condition."""

    causes: Collection[DeadLetterCause] = ()
    owner: str | None = None
    codes: Collection[str] = ()
    worker: str | None = None
    version: str | None = None
    since: datetime | None = None
    """Only dead letters that were recorded at this time or later."""
    until: datetime | None = None
    """Only dead letters that were recorded before this time."""
    state: State = "open"


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """Position of a page in a list of dead letters from new to old. The page begins after this dead letter."""

    created_at: datetime
    id: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about a message that SQS moved to the dead-letter queue, and about its job."""

    detail: str
    """The reason for the decision, in a sentence."""
    resolution: Resolution | None
    """How the new dead letter is resolved: as `stale` or `requeued`. None if the job ends: then it stays open."""
    settlement: Settlement | None = None
    """The settlement of the job's loss. None if no loss is counted."""
    send_after: datetime | None = None
    """Time at which a new message has to be sent, although the job does not change. None if none is needed."""


_STALE = {
    Reason.TERMINAL: "The job is over.",
    Reason.UPLOADING: "The upload is not finished.",
    Reason.OLDER_GENERATION: "A person has retried the job since the message was sent.",
    Reason.LEASED: "A worker is working on the job.",
    Reason.NOT_DUE: "The job waits for its next attempt.",
    Reason.DELETED: "The video was deleted.",
}
_IN_OUTBOX = "A newer message of the job waits in the outbox."
_BEING_SENT = "A relay is sending a message of the job. Perhaps it is this one, so another one is sent."
_REQUEUED = "Workers received the message too often without an answer. This counts as a loss; the job is tried again."


def judge_arrival(
    job: Job,
    *,
    deleted: bool,
    generation: int | None,
    waiting_in_outbox: bool,
    being_sent: bool,
    now: datetime,
    policy: RetryPolicy,
) -> Verdict:
    """Decide about a message that SQS moved to the dead-letter queue. A loss is counted only if an attempt could begin.

    `generation` is the message's generation. None for a message of an older producer.
    `waiting_in_outbox` says whether the job has an outbox entry that no relay holds.
    `being_sent` says whether the job has an entry that a relay holds. Perhaps the relay has sent this very message, and
    is about to remove the entry.
    `now` is the time of the database's clock.
    """
    if deleted:
        return Verdict(_STALE[Reason.DELETED], Resolution.STALE)
    claim = judge_claim(job, generation, now, policy)
    if isinstance(claim, Drop):
        return Verdict(
            _STALE[claim.reason],
            Resolution.STALE,
            # `claim.send_after` is set only if the job is not due yet. A message in the outbox is enough.
            send_after=None if waiting_in_outbox else claim.send_after,
        )
    if waiting_in_outbox:
        return Verdict(_IN_OUTBOX, Resolution.STALE)
    if being_sent:
        return Verdict(_BEING_SENT, Resolution.STALE, send_after=now)
    # Count one loss, even if an attempt's lease has also expired. The settlement of the loss ends this attempt, too.
    loss = plan_loss(job.counters, policy)
    if loss.error:
        return Verdict(loss.error.message, None, loss)
    return Verdict(_REQUEUED, Resolution.REQUEUED, loss)


def of_job(
    record: Record, cause: DeadLetterCause, problem: Problem | None, *, attempt: Attempt | None, now: datetime
) -> DeadLetter:
    """Return a new dead letter for a job. It has no id yet.

    `record` has the job as it is after the change that made it a dead letter. `problem` is the reason for this change.
    `attempt` is the last attempt of the job's generation, or None.
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
    """Return a new dead letter for a message that SQS moved. It has no id yet.

    If `verdict` has a settlement, `record` must contain the job as the settlement left it.
    """
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
    """Return the record of a video after one of its dead letters was discarded. Only the job's version has changed."""
    return replace(record, job=replace(record.job, version=record.job.version + 1, updated_at=now))


def stored_body(body: str) -> str:
    """Return the part of a body that is stored: its beginning, at most `MAX_BODY_BYTES` bytes of UTF-8."""
    return body.encode(errors="replace")[:MAX_BODY_BYTES].decode(errors="ignore")


def not_found(dead_letter_id: int) -> NotFound:
    """Return the error for the id of a dead letter that does not exist."""
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
        Conflict: `dead_letter_resolved`. The error message says how it was resolved, by whom and when.
    """
    if dead_letter.resolution is None:
        return
    by = f" by {dead_letter.resolved_by}" if dead_letter.resolved_by else ""
    at = f" at {dead_letter.resolved_at:%Y-%m-%d %H:%M:%S} UTC" if dead_letter.resolved_at else ""
    name = f"dead letter {dead_letter.id}"
    subject = {Resolution.DELETED: f"The video of {name}", Resolution.STALE: f"The message of {name}"}
    what = subject.get(dead_letter.resolution, name.capitalize())
    raise Conflict("dead_letter_resolved", f"{what} was {dead_letter.resolution}{by}{at}.")
