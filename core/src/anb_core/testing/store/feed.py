"""The feed: every change of a job, in commit order. A reader of the feed can store a cursor."""

from collections.abc import Sequence

from anb_core.domain.model import (
    JobEvent,
)
from anb_core.testing.store.tables import Tables


class InMemoryFeed(Tables):
    """Implements `anb_core.ports.store.Feed`."""

    def events_after(self, event_id: int, *, video_id: str | None = None, limit: int = 500) -> Sequence[JobEvent]:
        with self.transaction():
            return [
                event
                for event in self.events
                if event.id > event_id and (video_id is None or event.video_id == video_id)
            ][:limit]

    def last_event_id(self) -> int:
        with self.transaction():
            return self.events[-1].id if self.events else 0

    def cursor(self, name: str) -> int | None:
        with self.transaction():
            return self.cursors.get(name)

    def move_cursor(self, name: str, event_id: int) -> None:
        with self.transaction():
            self.cursors[name] = event_id
