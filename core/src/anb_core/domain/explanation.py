"""Sentences that tell people where a video is, and what it waits for."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from anb_core.domain.dead_letters import DeadLetter
from anb_core.domain.model import Attempt, DeadLetterCause, Ending, Job, Record
from anb_core.domain.status import Status

PATIENCE = timedelta(minutes=1)
"""If no worker is busy and a message waits for longer than this, the sentences ask to check whether workers run."""

ENDINGS: Mapping[Ending, str] = {
    Ending.FAILED: "failed",
    Ending.INTERRUPTED: "was interrupted, and another attempt follows",
    Ending.LOST: "was lost, because its lease expired",
}
"""How a sentence that begins with "Attempt 1" goes on, for each ending after which another attempt may follow."""

_STATUSES: Mapping[Status, str] = {
    Status.UPLOADING: "The upload is under way.",
    Status.UPLOADED: "It waits for a worker.",
    Status.PROCESSED: "The finished video is in the bucket.",
    Status.FAILED: "The uploaded video can't be processed.",
    Status.CANCELLED: "The work was cancelled.",
}


@dataclass(frozen=True, slots=True)
class Unsent:
    """A job's message that is still in the outbox."""

    since: datetime
    """Time at which the message was put into the outbox."""
    due: datetime
    """Time before which the message must not be sent."""
    refusals: int
    """How often the queue has refused the message."""
    ahead: int
    """About how many other messages in the outbox are sent earlier. 0 if the message is not due yet."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a job waits for, as far as its own row does not say so. Read in one transaction."""

    now: datetime
    """Time of the database's clock."""
    unsent: Unsent | None
    """The job's message in the outbox. None if the message was sent."""
    ahead: int
    """Number of waiting jobs whose messages were sent earlier. 0 if the job's own message was not sent."""
    busy: int
    """Number of attempts that run now, in all workers together."""
    last_claim: datetime | None
    """Time at which any worker last began an attempt. None if there was no attempt yet."""


def summary(job: Job, attempts: Sequence[Attempt], dead_letter: DeadLetter | None) -> str:
    """Say where a video is. The text depends only on rows, and not on the present time.

    `attempts` are all attempts of the job, from old to new.
    `dead_letter` is the dead letter that says why the job ended, or None.
    """
    if job.status is Status.DEAD_LETTERED:
        return _what_is_left(dead_letter, given_up(job, dead_letter))
    if job.status is Status.UPLOADED and job.not_before:
        return f"It is scheduled for {_time(job.not_before)}."
    if job.status is not Status.PROCESSING:
        return _STATUSES[job.status]
    if job.lease_owner:
        return f"Attempt {job.attempts} runs on worker {job.worker}."
    last = attempts[-1].ending if attempts else None
    ended = ENDINGS.get(last, "is over") if last else "is over"
    due = f" The next one begins after {job.not_before.astimezone(UTC):%H:%M:%S} UTC." if job.not_before else ""
    return f"Attempt {job.attempts} {ended}.{due}"


def given_up(job: Job, dead_letter: DeadLetter | None) -> str:
    """Say why a job became a dead letter, with the job's last error."""
    last_error = job.error.message if job.error else "The error is no longer known."
    if dead_letter is None:
        return last_error
    if dead_letter.cause is DeadLetterCause.WORKER_LOST:
        # Do not say "attempts": a message that SQS moved before an attempt began also counts as a loss.
        return f"Workers lost the job {_many(job.counters.lost, 'time')}. The last error: {last_error}"
    return f"{_many(job.counters.failures, 'attempt')} failed. The last error: {last_error}"


def explain(
    record: Record, attempts: Sequence[Attempt], *, dead_letter: DeadLetter | None, surroundings: Surroundings
) -> Sequence[str]:
    """Return sentences that say where a video is, what it waits for, and what a person can do.

    The first string is the `summary`, which may have several sentences.
    """
    return [summary(record.job, attempts, dead_letter), *_details(record, attempts, dead_letter, surroundings)]


def _details(
    record: Record, attempts: Sequence[Attempt], dead_letter: DeadLetter | None, surroundings: Surroundings
) -> Iterator[str]:
    job = record.job
    match job.status:
        case Status.UPLOADING:
            yield f"It began at {_time(job.created_at)}. Only a complete upload is processed."
        case Status.UPLOADED:
            yield from _waiting(job, surroundings)
        case Status.PROCESSING if job.lease_expires_at:
            yield from _working(job, attempts, job.lease_expires_at, surroundings.now)
        case Status.PROCESSING:
            if attempts and attempts[-1].error:
                yield f"The last error: {attempts[-1].error.message}"
            yield from _counts(job)
            yield from _waiting(job, surroundings)
        case Status.PROCESSED:
            yield f"It was finished at {_time(job.updated_at)}, in attempt {job.attempts}."
        case Status.FAILED:
            yield f"The error: {job.error.message}" if job.error else "The error is no longer known."
            yield "Another attempt would fail, too. Upload a better file as a new video."
        case Status.DEAD_LETTERED:
            yield from _dead(record, dead_letter)
        case Status.CANCELLED:
            yield f"It was cancelled at {_time(job.updated_at)}."
            again = f"A retry begins it again: anb retry {record.video.id}"
            yield again if record.video.source else "Its upload was not complete: upload it again."


def _working(job: Job, attempts: Sequence[Attempt], expires: datetime, now: datetime) -> Iterator[str]:
    if attempts:
        yield f"It began at {_time(attempts[-1].started_at)}, and {int(job.progress * 100)}% is done."
    if expires > now:
        yield f"Its lease lasts until {_time(expires)}. The worker extends it until the attempt ends."
    else:
        yield f"Its lease expired at {_time(expires)}, so the worker has stopped responding. Another attempt follows."
    yield from _counts(job)


def _waiting(job: Job, surroundings: Surroundings) -> Iterator[str]:
    now = surroundings.now
    if job.not_before and job.not_before > now:
        scheduled = job.status is Status.UPLOADED
        pause = f"The pause before the next attempt lasts until {_time(job.not_before)}."
        yield "Its message is sent to the queue at that time." if scheduled else pause
        return
    if unsent := surroundings.unsent:
        yield _in_outbox(unsent, now)
        if not unsent.refusals and unsent.due <= now:
            yield from _workers(unsent.due, surroundings)
        return
    if job.enqueued_at is None:
        yield "Its message was not sent yet. The sweep sends it soon."
        return
    # The name of the queue may contain a host and an account, which the owner of a video must not see.
    queue = re.split("[/#]", job.enqueued_to or "")[-1]
    yield f"Its message was sent to the queue {queue} at {_time(job.enqueued_at)}."
    if surroundings.ahead:
        yield f"{_many(surroundings.ahead, 'job')} with an earlier message {_be(surroundings.ahead)} waiting, too."
    else:
        yield "No job with an earlier message is waiting."
    yield from _workers(job.enqueued_at, surroundings)


def _workers(waits_since: datetime, surroundings: Surroundings) -> Iterator[str]:
    if surroundings.busy:
        yield f"{_many(surroundings.busy, 'other job')} {_be(surroundings.busy)} being processed now."
    elif surroundings.now - waits_since < PATIENCE:
        yield "No worker is busy, so one should take it soon."
    else:
        last = surroundings.last_claim
        since = f"none has taken a job since {_time(last)}" if last else "none has ever taken a job"
        yield f"No worker is busy, and {since}: check whether workers run."


def _in_outbox(unsent: Unsent, now: datetime) -> str:
    since = f"Its message has been in the outbox since {_time(unsent.since)}"
    if unsent.refusals:
        return (
            f"{since}. The queue has refused it {_many(unsent.refusals, 'time')}; it is sent again after "
            f"{_time(unsent.due)}. Check whether the queue answers."
        )
    if unsent.due > now:
        return f"{since}, and is sent to the queue after {_time(unsent.due)}."
    if unsent.ahead:
        others = f"{_many(unsent.ahead, 'other message')} {_be(unsent.ahead)} sent"
        return f"{since}. About {others} to the queue first, so that the owners of videos take turns."
    return f"{since}, and is the next to be sent to the queue."


def _counts(job: Job) -> Iterator[str]:
    counters = job.counters
    counts = [
        f"{number} {ending}"
        for number, ending in (
            (counters.failures, "failed"),
            (counters.lost, "lost"),
            (counters.interruptions, "interrupted"),
        )
        if number
    ]
    if counts:
        yield f"Attempts until now: {', '.join(counts)}."


def _dead(record: Record, dead_letter: DeadLetter | None) -> Iterator[str]:
    if dead_letter and dead_letter.worker:
        version = f", which ran version {dead_letter.version}" if dead_letter.version else ""
        yield f"The last attempt was on worker {dead_letter.worker}{version}."
    if dead_letter and dead_letter.open:
        yield f"When the cause is gone, an operator can redrive it: anb dlq redrive {dead_letter.id}"
    else:
        yield f"A retry begins it again: anb retry {record.video.id}"


def _what_is_left(dead_letter: DeadLetter | None, why: str) -> str:
    if dead_letter is None:
        return why
    if dead_letter.resolved_at:
        at = _time(dead_letter.resolved_at)
        return f"{why} {dead_letter.resolved_by} discarded it at {at}. The reason: {dead_letter.reason}"
    return f"{why} A person has to redrive or discard it."


def _many(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _be(number: int) -> str:
    return "is" if number == 1 else "are"


def _time(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
