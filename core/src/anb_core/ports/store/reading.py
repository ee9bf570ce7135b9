"""The store's port for read access by people."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from anb_core.domain.model import Attempt, Record
from anb_core.domain.status import Status


@dataclass(frozen=True, slots=True)
class Page:
    """Position of a page in a listing, which is ordered from new to old. The page begins after this video."""

    created_at: datetime
    video_id: str


History = tuple[Record | None, Sequence[Attempt]]
"""A video (None if it does not exist) and all its attempts, ordered from old to new."""


class Reading(Protocol):
    """Read access for people. Deleted videos are not visible.

    Methods that return several videos skip and log unreadable videos, which this version can't read.
    If such a method returns fewer than `limit` videos, no more videos exist.
    Methods that take one id raise `Unreadable` instead, like all other methods of the store.
    """

    def get(self, video_id: str) -> Record | None: ...

    def listing(
        self, *, owner: str | None, statuses: Collection[Status] = (), after: Page | None = None, limit: int = 50
    ) -> Sequence[Record]:
        """Return videos from new to old: of all owners if `owner` is None, in any status if `statuses` is empty."""
        ...

    def history(self, video_id: str) -> History: ...

    def histories(self, video_ids: Collection[str]) -> Mapping[str, History]:
        """Return the histories of several videos by id, with few queries. Unreadable videos are left out."""
        ...

    def count_by_status(self) -> dict[Status, int]:
        """Return the number of jobs for each status, without deleted videos. Statuses without jobs are left out."""
        ...
