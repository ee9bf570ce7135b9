"""Find lost messages. A message is certainly lost if its job has waited longer than all jobs ahead of it can take.

Lost messages are found by the rows of the database, not by the counts that the queue reports.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

ATTEMPT_LIMIT = timedelta(hours=1)
"""The maximum duration of one attempt. Without a maximum, no waiting time could prove that a message is lost."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that waits for a worker to receive its message."""

    job_id: str
    since: datetime
    """Time at which the job began to wait."""
    sent: datetime
    """Time at which the job's message was last sent."""


def unexplained_after(ahead: int, workers: int, slack: timedelta) -> timedelta:
    """Return the longest time that a message can wait behind `ahead` other jobs while `workers` attempts run.

    Every attempt is assumed to take ATTEMPT_LIMIT.
    `slack` is the maximum time for which the queue can hide a message that a worker received but did not delete.
    """
    rounds = -(-ahead // max(workers, 1))
    return slack + rounds * ATTEMPT_LIMIT


def overdue(waiting: Sequence[Waiting], under_way: Sequence[datetime], now: datetime, slack: timedelta) -> list[str]:
    """Return the ids of the waiting jobs whose message has to be sent again.

    `under_way` has, for each running attempt, the time at which the message of its job was sent.

    A job that has waited longer is ahead of a job that has waited less.
    A running job is also ahead of a waiting job if its message was sent before the waiting job began to wait.
    A job keeps its place in the queue when its message is sent again.
    A job with more jobs ahead of it may wait longer before its message is sent again.
    """
    found = []
    for place, job in enumerate(sorted(waiting, key=lambda each: (each.since, each.job_id))):
        ahead = place + sum(sent < job.since for sent in under_way)
        if now - job.sent > unexplained_after(ahead, len(under_way), slack):
            found.append(job.job_id)
    return found
