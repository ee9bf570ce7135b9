"""Find lost messages. A message is lost if its job still waits, although all jobs ahead of it must have ended.

The search uses only rows of the database, because the queue's own counts are not reliable.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

ATTEMPT_LIMIT = timedelta(hours=1)
"""The maximum duration of one attempt. The longest possible wait of a message is computed from this maximum."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that waits for a worker to receive its message."""

    job_id: str
    since: datetime
    """Time at which the job began to wait."""
    sent: datetime
    """Time at which the job's message was last sent."""


def unexplained_after(ahead: int, workers: int, slack: timedelta) -> timedelta:
    """Return the longest time for which a message can wait if `ahead` other jobs come before its job.

    `workers` is the number of attempts that run at the same time. Each attempt may take ATTEMPT_LIMIT.
    `slack` is the longest time for which the queue can hide a message: while the message is new, and again after a
    worker received the message but did not delete it.
    """
    rounds = -(-ahead // max(workers, 1))
    return slack + rounds * ATTEMPT_LIMIT


def overdue(waiting: Sequence[Waiting], under_way: Sequence[datetime], now: datetime, slack: timedelta) -> list[str]:
    """Return the ids of the waiting jobs whose message has to be sent again.

    For each running attempt, `under_way` has the time at which the message of the attempt's job was sent.

    A job that has waited longer is ahead of a job that has waited less.
    A running job is ahead of a waiting job if the running job's message was sent before the waiting job began to wait.
    The more jobs are ahead of a job, the longer it may wait before its message is sent again.
    If the message of a job is sent again, the order of the jobs does not change.
    """
    found = []
    for place, job in enumerate(sorted(waiting, key=lambda each: (each.since, each.job_id))):
        ahead = place + sum(sent < job.since for sent in under_way)
        if now - job.sent > unexplained_after(ahead, len(under_way), slack):
            found.append(job.job_id)
    return found
