"""The commands that a person gives for a video: cancel, retry, delete."""

from datetime import timedelta

from anb_core.adapters.database.engine import Repository
from anb_core.adapters.database.rows import apply, lock_visible, result_keys
from anb_core.domain import lifecycle
from anb_core.domain.model import Receipts, Record


class CommandsRepository(Repository):
    """Implements `anb_core.ports.store.Commands`."""

    def cancel(self, video_id: str, *, receipts: Receipts | None = None) -> Record:
        with self.database.transaction() as connection:
            locked = lock_visible(connection, video_id)
            return apply(connection, locked, lifecycle.cancel(locked.record, locked.now, receipts))

    def retry(self, video_id: str, *, by: str, receipts: Receipts | None = None) -> Record:
        with self.database.transaction() as connection:
            locked = lock_visible(connection, video_id)
            return apply(connection, locked, lifecycle.retry(locked.record, locked.now, by=by, receipts=receipts))

    def delete(self, video_id: str, *, by: str, grace: timedelta) -> None:
        with self.database.transaction() as connection:
            locked = lock_visible(connection, video_id)
            keys = result_keys(connection, locked.record.job.id)
            effect = lifecycle.delete(locked.record, locked.now, by=by, grace=grace, attempt_keys=keys)
            apply(connection, locked, effect)
