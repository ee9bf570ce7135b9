"""The commands that a person gives for a video: cancel, retry, delete."""

from datetime import timedelta

from anb_core.domain import lifecycle
from anb_core.domain.model import (
    Receipts,
    Record,
)
from anb_core.testing.store.tables import Tables


class InMemoryCommands(Tables):
    """Implements `anb_core.ports.store.Commands`."""

    def cancel(self, video_id: str, *, receipts: Receipts | None = None) -> Record:
        with self.transaction() as now:
            row = self.visible(video_id)
            return self.apply(row, lifecycle.cancel(row.record, now, receipts), now)

    def retry(self, video_id: str, *, by: str, receipts: Receipts | None = None) -> Record:
        with self.transaction() as now:
            row = self.visible(video_id)
            return self.apply(row, lifecycle.retry(row.record, now, by=by, receipts=receipts), now)

    def delete(self, video_id: str, *, by: str, grace: timedelta) -> None:
        with self.transaction() as now:
            row = self.visible(video_id)
            keys = [attempt.result_key for attempt in row.attempts]
            self.apply(row, lifecycle.delete(row.record, now, by=by, grace=grace, attempt_keys=keys), now)
