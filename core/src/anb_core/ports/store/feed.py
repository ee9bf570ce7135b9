"""The store's port for the feed of changes."""

from collections.abc import Sequence
from typing import Protocol

from anb_core.domain.model import JobEvent


class Feed(Protocol):
    """The append-only feed of changes. Events get their ids in the order of the commits.

    A reader misses no event if it stores the id of the last event that it read, and continues after this id.
    Events that this version can't read are skipped. If fewer than `limit` events are returned, no more events exist.
    """

    def events_after(self, event_id: int, *, video_id: str | None = None, limit: int = 500) -> Sequence[JobEvent]: ...

    def last_event_id(self) -> int:
        """Return the id of the newest event, or 0 for an empty feed."""
        ...

    def cursor(self, name: str) -> int | None:
        """Return the id of the last event that a named reader has handled. None for a new reader."""
        ...

    def move_cursor(self, name: str, event_id: int) -> None: ...
