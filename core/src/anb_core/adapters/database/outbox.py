"""The outbox: messages that relays have to send."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import uuid4

from sqlalchemy import ColumnElement, and_, delete, select, update

from anb_core.adapters.database.engine import Repository, now_plus, passed
from anb_core.adapters.database.tables import jobs, outbox, videos
from anb_core.ports.store import OutboxEntry


class OutboxRepository(Repository):
    """Implements `anb_core.ports.store.Outbox`."""

    def hold_outbox(self, *, limit: int, hold: timedelta) -> Sequence[OutboxEntry]:
        due = (
            select(
                outbox.c.id,
                outbox.c.created_at,
                outbox.c.tries,
                outbox.c.job_id,
                jobs.c.generation,
                jobs.c.video_id,
                videos.c.owner,
                videos.c.source_key,
            )
            .join(jobs, jobs.c.id == outbox.c.job_id)
            .join(videos, videos.c.id == jobs.c.video_id)
            .where(passed(outbox.c.send_after))
            .order_by(outbox.c.send_after, outbox.c.id)
            .limit(limit)
            .with_for_update(of=outbox, skip_locked=True)
        )
        token = str(uuid4())
        with self.database.transaction() as connection:
            entries = [
                OutboxEntry(
                    id=row.id,
                    token=token,
                    video_id=row.video_id,
                    task_id=row.job_id,
                    owner=row.owner,
                    generation=row.generation,
                    key=row.source_key,
                    created_at=row.created_at,
                    tries=row.tries,
                )
                for row in connection.execute(due)
            ]
            if entries:
                connection.execute(
                    update(outbox)
                    .where(outbox.c.id.in_([entry.id for entry in entries]))
                    .values(token=token, send_after=now_plus(hold))
                )
        return entries

    def mark_sent(self, entry: OutboxEntry, *, broker: str) -> None:
        with self.database.transaction() as connection:
            # Lock the job before its outbox entry, as all other transactions do. This order prevents deadlocks.
            connection.execute(
                update(jobs).where(jobs.c.id == entry.task_id).values(enqueued_at=now_plus(), enqueued_to=broker)
            )
            connection.execute(delete(outbox).where(_still_held(entry)))

    def mark_unsent(self, entry: OutboxEntry, *, delay: timedelta) -> None:
        with self.database.transaction() as connection:
            connection.execute(
                update(outbox)
                .where(_still_held(entry))
                .values(send_after=now_plus(delay), token=None, tries=outbox.c.tries + 1)
            )


def _still_held(entry: OutboxEntry) -> ColumnElement[bool]:
    return and_(outbox.c.id == entry.id, outbox.c.token == entry.token)
