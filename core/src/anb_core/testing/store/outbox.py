"""The outbox: messages that relays have to send."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from anb_core.domain.fairness import Due, in_fair_order
from anb_core.ports.store import (
    OutboxEntry,
    QueueLimit,
)
from anb_core.testing.store.tables import OutboxRow, Row, Tables


class InMemoryOutbox(Tables):
    """Implements `anb_core.ports.store.Outbox`."""

    def hold_outbox(
        self, *, limit: int, hold: timedelta, queue_limit: QueueLimit | None = None
    ) -> Sequence[OutboxEntry]:
        with self.transaction() as now:
            flying = Counter[str]()
            if queue_limit:
                rows = self.in_flight(now)
                flying.update(row.record.video.owner for row in rows)
                limit = min(limit, queue_limit.messages - sum(self._waits(row, queue_limit.queue) for row in rows))
            due = {
                Due(self.rows[video_id].record.video.owner, entry_row.send_after, entry_row.id): video_id
                for video_id, entry_row in self.outbox.items()
                if entry_row.send_after <= now
            }
            token = self.new_id()
            held = []
            for one in in_fair_order(due, flying)[: max(0, limit)]:
                video_id = due[one]
                row, entry_row = self.rows[video_id], self.outbox[video_id]
                entry_row.token, entry_row.send_after = token, now + hold
                held.append(
                    OutboxEntry(
                        id=entry_row.id,
                        token=token,
                        video_id=video_id,
                        task_id=row.job.id,
                        owner=row.record.video.owner,
                        generation=row.job.generation,
                        key=row.record.video.source_key,
                        created_at=entry_row.created_at,
                        tries=entry_row.tries,
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
            if entry_row := self._still_held(entry):
                entry_row.send_after, entry_row.token, entry_row.tries = now + delay, None, entry_row.tries + 1

    def _waits(self, row: Row, queue: str) -> bool:
        """Whether the job's message waits in the queue, or is being sent to it."""
        return not row.job.lease_owner and (row.job.video_id in self.outbox or row.job.enqueued_to == queue)

    def _still_held(self, entry: OutboxEntry) -> OutboxRow | None:
        entry_row = self.outbox.get(entry.video_id)
        return entry_row if entry_row and (entry_row.id, entry_row.token) == (entry.id, entry.token) else None
