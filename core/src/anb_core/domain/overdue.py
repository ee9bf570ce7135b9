"""Which jobs have waited so long that their message must be lost: judged by the work ahead of each, not by a queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

ATTEMPT_LIMIT = timedelta(hours=1)
"""Without an end to every attempt there would be no time by which every job is done."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that only a message can wake: since when it has waited, and when its message was sent last."""

    job_id: str
    since: datetime
    sent: datetime


def unexplained_after(ahead: int, workers: int, slack: timedelta) -> timedelta:
    """How long a message may take with so many jobs before it: as if each attempt were as long as any may be.

    `slack` is for how long a message may be out of sight with nothing ahead of it, in the hands of a dead worker say.
    """
    turns = -(-ahead // max(workers, 1))
    return slack + turns * ATTEMPT_LIMIT


def overdue(waiting: Sequence[Waiting], under_way: Sequence[datetime], now: datetime, slack: timedelta) -> list[str]:
    """The ids of jobs to send again. `under_way` has, for each job that is worked on, when its message was sent.

    Ahead of a job is what has waited for longer and what is worked on and was sent before it began to wait. A job does
    not lose its place when it is sent again: while no worker runs at all, the more are waiting, the more rarely.
    """
    found = []
    for place, job in enumerate(sorted(waiting, key=lambda one: (one.since, one.job_id))):
        ahead = place + sum(sent < job.since for sent in under_way)
        if now - job.sent > unexplained_after(ahead, len(under_way), slack):
            found.append(job.job_id)
    return found
