"""The store's port for read access by people."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from anb_core.domain.dead_letters import DeadLetter
from anb_core.domain.model import Attempt, Record
from anb_core.domain.status import Status


@dataclass(frozen=True, slots=True)
class Page:
    """Position in a list of videos from new to old. A page begins after the video `video_id`."""

    created_at: datetime
    video_id: str


@dataclass(frozen=True, slots=True)
class History:
    """A video, all its attempts, and why its job ended, read in one transaction."""

    record: Record | None = None
    """The video and its job. None if the video does not exist."""
    attempts: Sequence[Attempt] = ()
    """All attempts, from old to new."""
    dead_letter: DeadLetter | None = None
    """The dead letter that ended the job. None unless the job is dead-lettered. Its body is shortened."""


class Reading(Protocol):
    """Read access to videos for people. Deleted videos are left out.

    Methods that return several videos log and skip the videos that this version can't read.
    If a method returns fewer than `limit` videos, no more videos exist.
    Methods that take one id raise `Unreadable` if this version can't read the video.
    """

    def get(self, video_id: str) -> Record | None: ...

    def listing(
        self, *, owner: str | None, statuses: Collection[Status] = (), after: Page | None = None, limit: int = 50
    ) -> Sequence[Record]:
        """Return videos from new to old, of all owners if `owner` is None, in all statuses if `statuses` is empty."""
        ...

    def history(self, video_id: str) -> History: ...

    def histories(self, video_ids: Collection[str]) -> Mapping[str, History]:
        """Map the ids of videos to their histories, with few queries. Unreadable videos are left out."""
        ...

    def count_by_status(self) -> dict[Status, int]:
        """Return the number of jobs for each status, without deleted videos. Statuses without jobs are left out."""
        ...
