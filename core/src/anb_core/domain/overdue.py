"""Find the jobs whose message is certainly lost: they have waited longer than all jobs ahead of them can take.

The decision uses only the rows of the database, not the counts that the queue reports.
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

    The calculation assumes that every attempt takes ATTEMPT_LIMIT.
    `slack` is the maximum time for which a message can be invisible although no other job is ahead of it.
    For example, a message is invisible for a while if a worker received it and crashed.
    """
    rounds = -(-ahead // max(workers, 1))
    return slack + rounds * ATTEMPT_LIMIT


def overdue(waiting: Sequence[Waiting], under_way: Sequence[datetime], now: datetime, slack: timedelta) -> list[str]:
    """Return the ids of the waiting jobs whose message has to be sent again.

    `under_way` has one time for each running attempt: the time at which the message of its job was sent.

    Jobs that have waited longer than a job are ahead of this job in the queue.
    Running jobs are also ahead of a job if their message was sent before the job began to wait.
    A job keeps its place when its message is sent again.
    Because a job with more jobs ahead may wait longer, messages at the back of the queue are sent again less often.
    """
    found = []
    for place, job in enumerate(sorted(waiting, key=lambda each: (each.since, each.job_id))):
        ahead = place + sum(sent < job.since for sent in under_way)
        if now - job.sent > unexplained_after(ahead, len(under_way), slack):
            found.append(job.job_id)
    return found
