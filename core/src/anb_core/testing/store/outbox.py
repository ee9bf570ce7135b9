"""Messages that committed transactions promised to send."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from anb_core.ports.store import (
    OutboxEntry,
)
from anb_core.testing.store.tables import OutboxRow, Tables


class InMemoryOutbox(Tables):
    """Implements `anb_core.ports.store.Outbox`."""

    def hold_outbox(self, *, limit: int, hold: timedelta) -> Sequence[OutboxEntry]:
        with self.transaction() as now:
            due = sorted(
                (owed.send_after, owed.id, video_id) for video_id, owed in self.outbox.items() if owed.send_after <= now
            )
            token = self.new_id()
            held = []
            for _, _, video_id in due[:limit]:
                row, owed = self.rows[video_id], self.outbox[video_id]
                owed.token, owed.send_after = token, now + hold
                held.append(
                    OutboxEntry(
                        id=owed.id,
                        token=token,
                        video_id=video_id,
                        task_id=row.job.id,
                        owner=row.record.video.owner,
                        generation=row.job.generation,
                        key=row.record.video.source_key,
                        created_at=owed.created_at,
                        tries=owed.tries,
                    )
                )
            return held

    def mark_sent(self, entry: OutboxEntry, *, broker: str) -> None:
        with self.transaction() as now:
            row = self.rows.get(entry.video_id)
            if row:
                row.record = replace(row.record, job=replace(row.job, enqueued_at=now, enqueued_to=broker))
            if self._still_held(entry):
                del self.outbox[entry.video_id]

    def mark_unsent(self, entry: OutboxEntry, *, delay: timedelta) -> None:
        with self.transaction() as now:
            if owed := self._still_held(entry):
                owed.send_after, owed.token, owed.tries = now + delay, None, owed.tries + 1

    def _still_held(self, entry: OutboxEntry) -> OutboxRow | None:
        owed = self.outbox.get(entry.video_id)
        return owed if owed and (owed.id, owed.token) == (entry.id, entry.token) else None
