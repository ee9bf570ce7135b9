"""The store's port for read access to videos."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from anb_core.domain.dead_letters import DeadLetter
from anb_core.domain.explanation import Surroundings
from anb_core.domain.model import Attempt, Record
from anb_core.domain.status import Status


@dataclass(frozen=True, slots=True)
class Page:
    """Position in a list of videos from new to old. A page begins after the video `video_id`."""

    created_at: datetime
    video_id: str


@dataclass(frozen=True, slots=True)
class History:
    """A video with all its attempts and its dead letter, read in one transaction."""

    record: Record | None = None
    """The video and its job. None if the video does not exist."""
    attempts: Sequence[Attempt] = ()
    """All attempts, from old to new."""
    dead_letter: DeadLetter | None = None
    """The dead letter that says why the job ended, with a shortened body. None if the job is not dead-lettered."""


@dataclass(frozen=True, slots=True)
class QueueJobs:
    """Numbers of unfinished jobs whose message was last sent to the same queue."""

    waiting: int
    """Number of jobs without a lease: they wait for a worker, or for the time of their next attempt."""
    running: int
    """Number of jobs with a lease."""
    oldest: timedelta | None
    """Time since the first of the messages was sent. None if no message was sent yet."""


class Reading(Protocol):
    """Read access to videos. Deleted videos are left out.

    If this version can't read a row, a method that returns one video raises `Unreadable`.
    A method that returns several videos writes a log line and skips the row.
    If a method returns fewer than `limit` videos, no more videos exist.
    """

    def get(self, video_id: str) -> Record | None: ...

    def listing(
        self, *, owner: str | None, statuses: Collection[Status] = (), after: Page | None = None, limit: int = 50
    ) -> Sequence[Record]:
        """Return videos from new to old. None for `owner` means all owners, and empty `statuses` mean all statuses."""
        ...

    def history(self, video_id: str) -> History: ...

    def histories(self, video_ids: Collection[str]) -> Mapping[str, History]:
        """Return the histories of videos, by the videos' ids, with few queries. Unreadable videos are left out."""
        ...

    def surroundings(self, video_id: str) -> Surroundings:
        """Return what the video's job waits for. If the video does not exist, `unsent` is None and `ahead` is 0."""
        ...

    def count_by_status(self) -> dict[Status, int]:
        """Return the number of jobs for each status, without deleted videos. Statuses without jobs are left out."""
        ...

    def longest_wait(self) -> timedelta:
        """Return the longest time for which a job has waited for a worker until now. Zero if no job waits.

        The wait begins when the job has no worker and is due. So the pause before the next attempt does not count.
        """
        ...

    def count_by_queue(self) -> Mapping[str | None, QueueJobs]:
        """Return the unfinished jobs by the queue to which their message was last sent.

        Queues without unfinished jobs are left out. The key None has the jobs whose message was not sent yet.
        Uploads that are not complete have no message, and are not counted.
        """
        ...
